//! Impersonation: requests that are done as another user.
//!
//! In:    the `Impersonate-*` headers of a request, the user who sent it
//! Out:   the user as whom the request is done, or 400 or 403
//! Calls: `http`, between authentication and authorization
//! Holds: each part of the impersonated user needs a permission of its own; a user without the permission gets an error, the
//!        headers are never ignored; impersonating `system:anonymous` does not make a request authenticated
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/impersonation (1.36); differences: no constrained
//!           impersonation, which needs RBAC objects

use std::collections::BTreeMap;

use hyper::header::{HeaderMap, HeaderValue};
use serde_json::json;

use crate::access::authz::{Asked, Decision};
use crate::base::failure::Failure;
use crate::base::user::User;
use crate::kinds::resources::NameRule;
use crate::request::path::decode_segment;

const PREFIX: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";

/// The user that the headers name.
#[derive(Debug, Default)]
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// The user as whom a request is done. `may` is the authorizer's decision about the user who sent the request.
pub(crate) fn user(
    headers: &HeaderMap,
    sender: User,
    may: impl Fn(&User, &Asked) -> Decision,
) -> Result<User, Failure> {
    let Some(wanted) = Wanted::read(headers)? else {
        return Ok(sender);
    };
    for asked in wanted.questions() {
        if let Decision::Refused(why) = may(&sender, &asked) {
            let mut details = json!({"kind": asked.resource, "name": asked.name});
            if !asked.group.is_empty() {
                details["group"] = asked.group.clone().into();
            }
            return Err(Failure::denied(details, asked.refusal(&sender, &why)));
        }
    }
    Ok(wanted.become_user())
}

fn word(value: &HeaderValue) -> Result<String, Failure> {
    let text = std::str::from_utf8(value.as_bytes());
    text.map(str::to_owned)
        .map_err(|_| Failure::bad_request("an impersonation header is not valid text"))
}

impl Wanted {
    /// `None` if the request has no such header.
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let first = |name: &str| headers.get(name).map(word).transpose();
        let mut wanted = Self {
            name: first("impersonate-user")?.unwrap_or_default(),
            uid: first("impersonate-uid")?.unwrap_or_default(),
            ..Self::default()
        };
        for group in headers.get_all("impersonate-group") {
            wanted.groups.push(word(group)?);
        }
        let mut asks = !wanted.uid.is_empty() || !wanted.groups.is_empty();
        for name in headers.keys() {
            let name = name.as_str();
            if let Some(key) = name.strip_prefix(EXTRA) {
                asks = true;
                let values = headers.get_all(name).iter().map(word);
                let values = values.collect::<Result<Vec<_>, _>>()?;
                let key = decode_segment(key).unwrap_or_else(|| key.to_owned());
                wanted.extra.entry(key).or_default().extend(values);
            } else if name.starts_with(PREFIX) {
                let known = ["impersonate-user", "impersonate-uid", "impersonate-group"];
                asks |= !known.contains(&name);
            }
        }
        if !wanted.name.is_empty() {
            return Ok(Some(wanted));
        }
        if asks {
            return Err(Failure::bad_request(
                "requested impersonation without impersonating a user",
            ));
        }
        Ok(None)
    }

    /// Namespace and name, if the headers name a service account.
    fn service_account(&self) -> Option<(&str, &str)> {
        let rest = self.name.strip_prefix("system:serviceaccount:")?;
        let (namespace, name) = rest.split_once(':')?;
        let right = NameRule::Label.check(namespace).is_empty()
            && NameRule::Subdomain.check(name).is_empty();
        right.then_some((namespace, name))
    }

    /// The permissions that the sender needs, all of them.
    fn questions(&self) -> Vec<Asked> {
        let ask = |resource: &str, name: &str| Asked {
            verb: "impersonate".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            ..Asked::default()
        };
        let in_authentication = |asked: Asked| Asked {
            group: "authentication.k8s.io".to_owned(),
            ..asked
        };
        let mut questions = vec![match self.service_account() {
            Some((namespace, name)) => Asked {
                namespace: namespace.to_owned(),
                ..ask("serviceaccounts", name)
            },
            None => ask("users", &self.name),
        }];
        questions.extend(self.groups.iter().map(|group| ask("groups", group)));
        for (key, values) in &self.extra {
            questions.extend(values.iter().map(|value| Asked {
                subresource: key.clone(),
                ..in_authentication(ask("userextras", value))
            }));
        }
        if !self.uid.is_empty() {
            questions.push(in_authentication(ask("uids", &self.uid)));
        }
        questions
    }

    fn become_user(self) -> User {
        let mut groups = match self.service_account() {
            Some((namespace, _)) if self.groups.is_empty() => vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
            ],
            _ => self.groups.clone(),
        };
        let has = |group: &str| groups.iter().any(|one| one == group);
        let added = if self.name == ANONYMOUS {
            (!has(UNAUTHENTICATED)).then_some(UNAUTHENTICATED)
        } else {
            (!has(AUTHENTICATED) && !has(UNAUTHENTICATED)).then_some(AUTHENTICATED)
        };
        groups.extend(added.map(str::to_owned));
        User {
            name: self.name,
            uid: self.uid,
            groups,
            extra: self.extra,
        }
    }
}
