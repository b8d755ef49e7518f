//! Who sends a request: by its connection, its certificate or its token.
//!
//! In:    the connection's peer, the `Authorization` header
//! Out:   the user, and until when the credential counts
//! Calls: `serve/http`, `verbs/reviews`
//! Holds: nobody is somebody without a credential; a bad credential is 401, never anonymous
//! Upstream: staging/src/k8s.io/apiserver/pkg/authentication, pkg/serviceaccount (1.36); differences: none known

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::base::failure::Failure;
use crate::base::object::{self, list, number, text};
use crate::base::user::User;
use crate::store::Object;
use crate::verbs::state::Inner;

/// Who issues service account tokens, and for whom they are by default.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Tokens outlive the end of what they are bound to by this at the most.
const AFTER_DELETION: Duration = Duration::from_secs(60);

/// Who a connection is, before its requests are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Known because it is this process.
    Known(User),
    /// Known by its certificate, which is asked at each request whether it still holds.
    Certified {
        user: User,
        /// Its last second, since 1970.
        until: i64,
    },
    /// Sent a certificate that counts for nothing here.
    BadCertificate,
    /// To be found out by its tokens.
    Unknown,
}

impl Inner {
    /// The user of a request, and the last second at which the credential counts, since 1970, if it ends.
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
            // As upstream's union: a certificate that does not count leaves the token to be asked.
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
        // A token does not count in the second that it names.
        Ok(Some((user, end.map(|end| end.saturating_sub(1)))))
    }

    /// The user of a token, and for which of the audiences it is good.
    ///
    /// Errors say why, for a review; a refused request is not told.
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

    /// The service account of claims, if everything that the token is bound to is still there.
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
        // Of a pod's token, where the pod was when it was made; a pod never moves.
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

    /// What a token is bound to, if it is still the same and not on its way out for long.
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

    /// An object that a token is bound to; it is not read, however large it is: this is asked before anything is bounded.
    fn kept(&self, storage: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = format!("{storage}/{namespace}/{name}");
        self.registry.store.get(&key)
    }

    /// Whether the time of an object's deletion is over, and the leeway too.
    fn was_deleted(&self, object: &Object) -> bool {
        let marked = object::parse_time(&object.deletion);
        let end = marked.and_then(|at| at.checked_add(AFTER_DELETION).ok());
        end.is_some_and(|end| end < self.registry.now())
    }
}
