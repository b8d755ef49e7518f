//! The API server: its parts, and who may be whom.
//!
//! In:    [`Parts`]
//! Out:   [`ApiServer`]; services for callers whose identity is known or is to be found out
//! Calls: wiring, tests
//! Holds: nobody is somebody without a credential; a bad credential is 401, never anonymous
//! Upstream: pkg/controlplane, staging/src/k8s.io/apiserver/pkg/authentication (1.36); differences: one process, one node

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kubelet_ports::Uploads;
use serde_json::{Value, json};

use crate::authority::{Authority, Pair};
use crate::clock::{Chance, Now};
use crate::failure::{Cause, Failure};
use crate::form::bytes;
use crate::http::Service;
use crate::inflight::{InFlight, Limits};
use crate::object::{self, list, number, text};
use crate::proxy::{Proxy, Streams};
use crate::registry::Registry;
use crate::store::Store;
use crate::tokens::TokenKey;
use crate::user::User;
use crate::verbs::{Call, Reply};

/// Who issues service account tokens, and for whom they are by default.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// After a pod is marked, its tokens live this long at the most.
const AFTER_DELETION: Duration = Duration::from_secs(60);
/// Bytes of requests' bodies at a time.
const UPLOADS: usize = 32 << 20;

/// What a server is made of.
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The clock.
    pub now: Now,
    /// Chance.
    pub chance: Chance,
    /// Certificates and keys.
    pub identity: crate::identity::Identity,
    /// Bearer tokens that are what they are.
    pub static_tokens: BTreeMap<String, User>,
    /// Where pods reach the server, for the endpoints of the `kubernetes` service.
    pub advertised: Option<(std::net::IpAddr, u16)>,
    /// The node whose kubelet is a part of the same program, and where it listens; the others are where their Node says.
    pub own_kubelet: Option<(String, std::net::SocketAddr)>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// The server; clones are the same one.
#[derive(Clone)]
pub struct ApiServer(pub(crate) Arc<Inner>);

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("registry", &self.0.registry)
            .finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    pub(crate) registry: Registry,
    pub(crate) authority: Authority,
    token_key: TokenKey,
    static_tokens: BTreeMap<String, User>,
    pub(crate) advertised: Option<(std::net::IpAddr, u16)>,
    pub(crate) own_kubelet: Option<(String, std::net::SocketAddr)>,
    pub(crate) kubelets: Proxy,
    /// True once what every cluster has was there.
    pub(crate) begun: AtomicBool,
    pub(crate) limits: Limits,
    pub(crate) in_flight: InFlight,
    pub(crate) uploads: Uploads,
    /// Taken by whoever runs them.
    pub(crate) streams: tokio::sync::Mutex<Streams>,
}

/// Who a connection is, before its requests are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Known: by its certificate, or because it is this process.
    Known(User),
    /// Sent a certificate that counts for nothing here.
    BadCertificate,
    /// To be found out by its tokens.
    Unknown,
}

impl ApiServer {
    /// A server over these parts. It answers at once; what runs beside it is [`Self::run`].
    ///
    /// # Errors
    /// What is wrong with the certificate for the kubelet.
    pub fn new(parts: Parts) -> Result<Self, String> {
        Self::limited(parts, Limits::default())
    }

    /// As [`Self::new`], with other limits than upstream's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn limited(parts: Parts, limits: Limits) -> Result<Self, String> {
        let (kubelets, streams) = Proxy::new(&parts.identity.kubelet_client)?;
        let registry = Registry {
            store: parts.store,
            now: parts.now,
            chance: parts.chance,
        };
        Ok(Self(Arc::new(Inner {
            registry,
            authority: parts.identity.authority,
            token_key: parts.identity.token_key,
            static_tokens: parts.static_tokens,
            advertised: parts.advertised,
            own_kubelet: parts.own_kubelet,
            kubelets,
            begun: AtomicBool::new(false),
            limits,
            in_flight: InFlight::new(limits),
            uploads: Uploads::new(UPLOADS),
            streams: tokio::sync::Mutex::new(streams),
        })))
    }

    /// A service whose caller is this user.
    pub fn service_as(&self, user: User) -> Service {
        Service::new(self.clone(), Peer::Known(user))
    }

    /// A service whose callers show tokens.
    pub fn service(&self) -> Service {
        Service::new(self.clone(), Peer::Unknown)
    }

    /// Shows kubelets another certificate from now on.
    ///
    /// # Errors
    /// What is wrong with it; then all is as before.
    pub fn show_kubelets(&self, pair: &Pair) -> Result<(), String> {
        self.0.kubelets.show(pair)
    }

    /// Why the server is not ready; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        self.0.not_ready()
    }
}

impl Inner {
    /// Why the server is not ready, as `/readyz` shows it.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if let Some(why) = self.registry.store.failed() {
            return Some(format!("[-]store failed: {why}"));
        }
        let begun = self.begun.load(Ordering::Relaxed);
        (!begun).then(|| {
            "[-]poststarthook/start-system-namespaces-controller failed: not finished".to_owned()
        })
    }

    /// The user of a request.
    pub(crate) fn authenticate(
        &self,
        peer: &Peer,
        authorization: Option<&str>,
    ) -> Result<Option<User>, Failure> {
        match peer {
            Peer::Known(user) => return Ok(Some(user.clone())),
            Peer::BadCertificate => return Err(Failure::unauthorized()),
            Peer::Unknown => {}
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
        found
            .map(|(user, _)| Some(user))
            .map_err(|_| Failure::unauthorized())
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
            return Err("token has expired".to_owned());
        }
        if number(&claims, "/nbf").is_some_and(|begin| begin > now) {
            return Err("token is not valid yet".to_owned());
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
        let bound = |kind: &str, storage: &str, namespace: &str| {
            let (name, uid) = (
                text(private, &format!("/{kind}/name")),
                text(private, &format!("/{kind}/uid")),
            );
            let found = self.registry.value(storage, namespace, name);
            let found = found.filter(|found| object::uid(found) == uid);
            found.ok_or_else(|| format!("{kind} {namespace}/{name} is gone"))
        };
        let account = bound("serviceaccount", "serviceaccounts", namespace)?;
        let name = object::name(&account);
        let mut user = User::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &[
                "system:serviceaccounts",
                &format!("system:serviceaccounts:{namespace}"),
            ],
        );
        user.uid = object::uid(&account).to_owned();
        let mut extra = |key: &str, value: &str| {
            let key = format!("authentication.kubernetes.io/{key}");
            user.extra.insert(key, vec![value.to_owned()]);
        };
        if private.get("pod").is_some() {
            let pod = bound("pod", "pods", namespace)?;
            let marked = object::parse_time(text(&pod, "/metadata/deletionTimestamp"));
            let end = marked.and_then(|at| at.checked_add(AFTER_DELETION).ok());
            if end.is_some_and(|end| end < self.registry.now()) {
                return Err("the pod of the token is being deleted".to_owned());
            }
            extra("pod-name", object::name(&pod));
            extra("pod-uid", object::uid(&pod));
            extra("node-name", text(&pod, "/spec/nodeName"));
        }
        if private.get("secret").is_some() {
            bound("secret", "secrets", namespace)?;
        }
        if !text(claims, "/jti").is_empty() {
            extra("credential-id", &format!("JTI={}", text(claims, "/jti")));
        }
        Ok(user)
    }

    /// `serviceaccounts/token`.
    pub(crate) fn token_request(&self, call: &Call<'_>) -> Result<Reply, Failure> {
        let mut request = call.object()?;
        let (namespace, name) = (&*call.target.namespace, &*call.target.name);
        let account = self.registry.get(call.place())?.value();
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
            let mut failure = Failure::invalid(call.target.resource, name, &causes);
            failure.message = failure
                .message
                .replace("ServiceAccount", "TokenRequest.authentication.k8s.io");
            return Err(failure);
        }
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

    /// Writes into the claims what the token is bound to.
    fn bind_token(
        &self,
        call: &Call<'_>,
        request: &Value,
        private: &mut Value,
    ) -> Result<(), Failure> {
        let (kind, bound) = (
            text(request, "/spec/boundObjectRef/kind"),
            text(request, "/spec/boundObjectRef/name"),
        );
        let (field, storage, namespace) = match kind {
            "" if call.user.node_name().is_some() => {
                return Err(Failure::forbidden(
                    call.target.resource,
                    &call.target.name,
                    "node requested token not bound to a pod",
                ));
            }
            "" => return Ok(()),
            "Pod" => ("pod", "pods", &*call.target.namespace),
            "Secret" => ("secret", "secrets", &*call.target.namespace),
            "Node" => ("node", "nodes", ""),
            other => {
                return Err(Failure::bad_request(format!(
                    "cannot bind token for serviceaccount to object of kind {other:?}"
                )));
            }
        };
        let found = self.registry.value(storage, namespace, bound);
        let row = crate::resources::by_storage(storage).unwrap_or(call.target.resource);
        let found = found.ok_or_else(|| Failure::not_found(row, bound))?;
        let wanted = text(request, "/spec/boundObjectRef/uid");
        if !wanted.is_empty() && wanted != object::uid(&found) {
            let why = format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Failure::conflict(row, bound, &why));
        }
        if kind == "Pod" {
            let account = text(&found, "/spec/serviceAccountName");
            if account != call.target.name {
                return Err(Failure::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    call.target.name
                )));
            }
            let node = text(&found, "/spec/nodeName");
            if let Some(asking) = call.user.node_name()
                && asking != node
            {
                return Err(Failure::forbidden(
                    row,
                    bound,
                    "node requested token bound to a pod scheduled on a different node",
                ));
            }
            if let Some(node) = self.registry.value("nodes", "", node) {
                private["node"] = json!({"name": object::name(&node), "uid": object::uid(&node)});
            }
        }
        private[field] = json!({"name": bound, "uid": object::uid(&found)});
        Ok(())
    }
}
