//! `serviceaccounts/token`: requests for service account tokens.
//!
//! In:    a TokenRequest
//! Out:   the request with its token
//! Calls: `verbs/subresources`
//! Holds: a token is bound only to existing objects; admission has checked whether a kubelet may request it
//! Upstream: pkg/registry/core/serviceaccount/storage/token.go (1.36); differences: one audience, the own issuer

use k8s_openapi::api::authentication::v1::TokenRequest;
use serde_json::{Value, json};

use crate::base::failure::{Cause, Failure};
use crate::base::object::{self, list, number, text};
use crate::identity::authority::LEAF_SECONDS;
use crate::request::form::bytes;
use crate::verbs::authentication::ISSUER;
use crate::verbs::state::Inner;
use crate::verbs::{Call, Reply};

/// The longest lifetime of a token: that of a certificate.
const LONGEST_TOKEN: i64 = LEAF_SECONDS;

impl Inner {
    /// `serviceaccounts/token`.
    pub(crate) fn token_request(&self, call: &Call<'_>) -> Result<Reply, Failure> {
        let mut request = call.object()?;
        check_token_request(&request)?;
        let (namespace, name) = (&*call.target.namespace, &*call.target.name);
        let account = self.registry.get(call.place())?.value();
        check_named(&request, call, &account)?;
        let seconds = number(&request, "/spec/expirationSeconds").unwrap_or(3600);
        let too_short = (seconds < 600).then(|| {
            let detail = "may not specify a duration less than 10 minutes";
            Cause::invalid("spec.expirationSeconds", &seconds.into(), detail)
        });
        let too_long = (seconds > 1 << 32).then(|| {
            let detail = "may not specify a duration larger than 2^32 seconds";
            Cause::invalid("spec.expirationSeconds", &seconds.into(), detail)
        });
        let causes: Vec<Cause> = too_short.into_iter().chain(too_long).collect();
        if !causes.is_empty() {
            return Err(invalid_token_request(call, &causes));
        }
        // As with upstream's --service-account-max-token-expiration: the lifetime is shortened, and the response says so.
        let seconds = seconds.min(LONGEST_TOKEN);
        let audiences = match list(&request, "/spec/audiences") {
            [] => vec![Value::from(ISSUER)],
            asked => asked.to_vec(),
        };
        let mut private = json!({
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": object::uid(&account)},
        });
        self.bind_token(call, &request, &mut private)?;
        let issued = self.registry.now().as_second();
        let claims = json!({
            "aud": audiences, "exp": issued + seconds, "iat": issued, "nbf": issued, "iss": ISSUER,
            "jti": self.registry.chance.uid(), "kubernetes.io": private,
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
        });
        let token = self.token_key.sign(&claims).map_err(Failure::internal)?;
        let end = jiff::Timestamp::from_second(issued + seconds).map_err(Failure::internal)?;
        let metadata = object::metadata(&mut request);
        metadata.insert("name".to_owned(), name.into());
        metadata.insert("namespace".to_owned(), namespace.into());
        metadata.insert("uid".to_owned(), object::uid(&account).into());
        let map = object::as_map(&mut request);
        map.insert("kind".to_owned(), "TokenRequest".into());
        map.insert("apiVersion".to_owned(), "authentication.k8s.io/v1".into());
        map.insert(
            "status".to_owned(),
            json!({"token": token, "expirationTimestamp": object::time(end)}),
        );
        let spec = object::map_mut(&mut request, "spec");
        spec.insert("audiences".to_owned(), audiences.into());
        spec.insert("expirationSeconds".to_owned(), seconds.into());
        Ok(Reply::Json(201, bytes(&request)))
    }

    /// Adds the bound object to the claims. Admission has checked whether a kubelet may bind it.
    fn bind_token(
        &self,
        call: &Call<'_>,
        request: &Value,
        private: &mut Value,
    ) -> Result<(), Failure> {
        let reference = &request["spec"]["boundObjectRef"];
        if reference.is_null() {
            return Ok(());
        }
        let version = text(reference, "/apiVersion");
        let (kind, bound) = (text(reference, "/kind"), text(reference, "/name"));
        let (field, storage, namespace) = match kind {
            "Pod" if !version.contains('/') => ("pod", "pods", &*call.target.namespace),
            "Secret" if !version.contains('/') => ("secret", "secrets", &*call.target.namespace),
            "Node" if !version.contains('/') => ("node", "nodes", ""),
            _ => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                return Err(Failure::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        let found = self.registry.value(storage, namespace, bound);
        let row = crate::kinds::resources::by_storage(storage).unwrap_or(call.target.resource);
        let found = found.ok_or_else(|| Failure::not_found(row, bound))?;
        if kind == "Pod" {
            let account = text(&found, "/spec/serviceAccountName");
            if account != call.target.name {
                return Err(Failure::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.target.name
                )));
            }
            let node = text(&found, "/spec/nodeName");
            if !node.is_empty() {
                private["node"] = json!({"name": node});
            }
            if let Some(node) = self.registry.value("nodes", "", node) {
                private["node"]["uid"] = object::uid(&node).into();
            }
        }
        let wanted = text(reference, "/uid");
        if !wanted.is_empty() && wanted != object::uid(&found) {
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Failure::conflict(row, bound, &why));
        }
        private[field] = json!({"name": bound, "uid": object::uid(&found)});
        Ok(())
    }
}

/// Checks apiVersion and kind of a token request.
fn check_token_request(request: &Value) -> Result<(), Failure> {
    use serde::Deserialize as _;
    TokenRequest::deserialize(request).map(drop).map_err(|why| {
        Failure::bad_request(format!(
            "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: {why}"
        ))
    })
}

/// Name, namespace and UID in a token request must equal the service account's, or be absent.
fn check_named(request: &Value, call: &Call<'_>, account: &Value) -> Result<(), Failure> {
    let (name, namespace) = (&*call.target.name, &*call.target.namespace);
    for (given, right, field, of) in [
        (object::name(request), name, "metadata.name", "name"),
        (
            object::namespace(request),
            namespace,
            "metadata.namespace",
            "namespace",
        ),
    ] {
        if !given.is_empty() && given != right {
            let detail = format!("must match the service account {of} if specified");
            let cause = Cause::invalid(field, &given.into(), &detail);
            return Err(invalid_token_request(call, &[cause]));
        }
    }
    let (given, uid) = (object::uid(request), object::uid(account));
    if !given.is_empty() && given != uid {
        let why = format!(
            "the UID in the token request ({given}) does not match the UID of the service account ({uid})"
        );
        let mut failure = Failure::conflict(call.target.resource, name, &why);
        failure.message = format!(
            "Operation cannot be fulfilled on TokenRequest.authentication.k8s.io {name:?}: {why}"
        );
        return Err(failure);
    }
    Ok(())
}

fn invalid_token_request(call: &Call<'_>, causes: &[Cause]) -> Failure {
    let mut failure = Failure::invalid(call.target.resource, &call.target.name, causes);
    failure.message =
        failure
            .message
            .replacen("ServiceAccount", "TokenRequest.authentication.k8s.io", 1);
    failure
}
