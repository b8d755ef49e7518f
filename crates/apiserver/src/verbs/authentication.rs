//! Authenticates a request: by its connection, its certificate or its token.
//!
//! In:    the connection's peer, the `Authorization` header
//! Out:   the user, and until when the credential is valid
//! Calls: `serve/http`, `verbs/reviews`
//! Holds: no user without a credential; an invalid credential is 401, never anonymous
//! Upstream: staging/src/k8s.io/apiserver/pkg/authentication, pkg/serviceaccount (1.36); differences: none known

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::failure::Failure;
use crate::base::object::{self, list, number, text};
use crate::base::user::User;
use crate::store::Object;
use crate::verbs::state::Inner;

/// The issuer of service account tokens, and their default audience.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// The longest time that a token stays valid after the object that it is bound to was deleted.
const AFTER_DELETION: Duration = Duration::from_secs(60);

/// The identity of a connection, before its requests are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Known, because it is this process.
    Known(User),
    /// Known by its certificate, whose validity is checked again at each request.
    Certified {
        user: User,
        /// The last second of its validity, since 1970.
        until: i64,
    },
    /// It sent a certificate that does not verify.
    BadCertificate,
    /// To be authenticated by a token.
    Unknown,
}

impl Inner {
    /// The user of a request, and the last second at which the credential is valid, since 1970, if it expires.
    pub(crate) fn authenticate(
        &self,
        peer: &Peer,
        authorization: Option<&str>,
    ) -> Result<Option<(User, Option<i64>)>, Failure> {
        match peer {
            Peer::Known(user) => return Ok(Some((user.clone(), None))),
            Peer::Certified { user, until } if self.registry.now().as_second() <= *until => {
                return Ok(Some((user.clone(), Some(*until))));
            }
            // As upstream's union authenticator: after an invalid certificate the token is tried.
            Peer::Certified { .. } | Peer::BadCertificate if authorization.is_none() => {
                return Err(Failure::unauthorized());
            }
            Peer::Certified { .. } | Peer::BadCertificate | Peer::Unknown => {}
        }
        let Some(header) = authorization else {
            return Ok(None);
        };
        let token = header
            .trim()
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = token
            .map(|(_, token)| token.trim())
            .filter(|token| !token.is_empty());
        let Some(token) = token else {
            return Err(Failure::unauthorized());
        };
        let found = self.authenticate_token(token, &[]);
        let (user, _) = found.map_err(|_| Failure::unauthorized())?;
        let claims = self.token_key.verify(token);
        let end = claims.and_then(|claims| number(&claims, "/exp"));
        // A token is no longer valid in the second of its expiry.
        Ok(Some((user, end.map(|end| end.saturating_sub(1)))))
    }

    /// The user of a token, and the requested audiences that it is valid for.
    ///
    /// Errors say why, for a token review; a refused request does not reveal the reason.
    pub(crate) fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(User, Vec<String>), String> {
        let own = [ISSUER.to_owned()];
        let audiences = if audiences.is_empty() {
            &own
        } else {
            audiences
        };
        if let Some(user) = self.static_tokens.get(token) {
            return Ok((user.clone(), audiences.to_vec()));
        }
        let claims = self.token_key.verify(token).ok_or("invalid bearer token")?;
        if text(&claims, "/iss") != ISSUER {
            return Err("invalid bearer token".to_owned());
        }
        let now = self.registry.now().as_second();
        if number(&claims, "/exp").is_none_or(|end| end <= now) {
            return Err("service account token has expired".to_owned());
        }
        if number(&claims, "/nbf").is_some_and(|begin| begin > now) {
            return Err("service account token is not valid yet".to_owned());
        }
        let for_whom = list(&claims, "/aud");
        let good = audiences
            .iter()
            .filter(|one| for_whom.iter().any(|aud| aud == one.as_str()));
        let good: Vec<String> = good.cloned().collect();
        if good.is_empty() {
            return Err("token audiences are not the wanted ones".to_owned());
        }
        Ok((self.account_of(&claims)?, good))
    }

    /// The service account of the claims, if all objects that the token is bound to still exist.
    fn account_of(&self, claims: &Value) -> Result<User, String> {
        let private = &claims["kubernetes.io"];
        let namespace = text(private, "/namespace");
        let account = self.bound_account(private, namespace)?;
        let mut user = User::service_account(namespace, account.place().1);
        user.uid.clone_from(&account.uid);
        let mut extra = |key: &str, value: &str| {
            let key = format!("authentication.kubernetes.io/{key}");
            user.extra.insert(key, vec![value.to_owned()]);
        };
        if private.get("secret").is_some() {
            self.bound(private, ("secret", "Secret", "secrets"), namespace)?;
        }
        if private.get("pod").is_some() {
            let pod = self.bound(private, ("pod", "Pod", "pods"), namespace)?;
            extra("pod-name", pod.place().1);
            extra("pod-uid", &pod.uid);
        } else if private.get("node").is_some() {
            self.bound(private, ("node", "Node", "nodes"), "")?;
        }
        // For a pod's token, the pod's node when the token was made; a pod never moves.
        let node = text(private, "/node/name");
        if !node.is_empty() {
            extra("node-name", node);
            let uid = text(private, "/node/uid");
            if !uid.is_empty() {
                extra("node-uid", uid);
            }
        }
        if !text(claims, "/jti").is_empty() {
            extra("credential-id", &format!("JTI={}", text(claims, "/jti")));
        }
        Ok(user)
    }

    fn bound_account(&self, private: &Value, namespace: &str) -> Result<Arc<Object>, String> {
        let (name, uid) = (
            text(private, "/serviceaccount/name"),
            text(private, "/serviceaccount/uid"),
        );
        let account = self.kept("serviceaccounts", namespace, name);
        let account = account.ok_or_else(|| format!("serviceaccounts {name:?} not found"))?;
        let found = &*account.uid;
        if found != uid {
            return Err(format!(
                "service account UID ({found}) does not match claim ({uid})"
            ));
        }
        if self.was_deleted(&account) {
            return Err(format!(
                "service account {namespace}/{name} has been deleted"
            ));
        }
        Ok(account)
    }

    /// The object that a token is bound to, if it is the same and was not deleted long ago.
    fn bound(
        &self,
        private: &Value,
        (field, kind, storage): (&str, &str, &str),
        namespace: &str,
    ) -> Result<Arc<Object>, String> {
        let gone = || "service account token has been invalidated".to_owned();
        let name = text(private, &format!("/{field}/name"));
        let uid = text(private, &format!("/{field}/uid"));
        let object = self.kept(storage, namespace, name);
        let object = object.ok_or_else(gone)?;
        let found = &*object.uid;
        if found != uid {
            let kind = if kind == "Pod" { "pod" } else { kind };
            return Err(format!(
                "{kind} UID ({found}) does not match service account {field} ref claim ({uid})"
            ));
        }
        if self.was_deleted(&object) {
            return Err(gone());
        }
        Ok(object)
    }

    /// An object that a token is bound to. Its content is not parsed, since this runs before any limit applies.
    fn kept(&self, storage: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = format!("{storage}/{namespace}/{name}");
        self.registry.store.get(&key)
    }

    /// Whether the object's deletion timestamp and the leeway have passed.
    fn was_deleted(&self, object: &Object) -> bool {
        let marked = object::parse_time(&object.deletion);
        let end = marked.and_then(|at| at.checked_add(AFTER_DELETION).ok());
        end.is_some_and(|end| end < self.registry.now())
    }
}
