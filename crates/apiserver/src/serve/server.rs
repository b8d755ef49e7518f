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

use k8s_openapi::api::authentication::v1::TokenRequest;
use kubelet_ports::Uploads;
use serde_json::{Value, json};

use crate::base::clock::{Chance, Now};
use crate::base::failure::{Cause, Failure};
use crate::base::object::{self, list, number, text};
use crate::base::user::User;
use crate::identity::authority::{Authority, LEAF_SECONDS, Pair};
use crate::identity::tokens::TokenKey;
use crate::registry::Registry;
use crate::request::form::bytes;
use crate::serve::http::Service;
use crate::store::{Object, Store};
use crate::verbs::figures::Figures;
use crate::verbs::health::Check;
use crate::verbs::inflight::{InFlight, Limits};
use crate::verbs::proxy::{Proxy, Streams};
use crate::verbs::{Call, Reply};

/// Who issues service account tokens, and for whom they are by default.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Tokens outlive the end of what they are bound to by this at the most.
const AFTER_DELETION: Duration = Duration::from_secs(60);
/// No token lives longer: as long as a certificate.
const LONGEST_TOKEN: i64 = LEAF_SECONDS;
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

/// By which clients reach the server.
pub(crate) struct OwnNames {
    /// Names and addresses.
    pub(crate) names: Vec<String>,
    /// The node of the server's machine, which has some of them too.
    pub(crate) node: String,
}

pub(crate) struct Inner {
    pub(crate) registry: Registry,
    pub(crate) authority: Authority,
    /// By which the server is reached, and the node that may have the same.
    pub(crate) own_names: OwnNames,
    token_key: TokenKey,
    static_tokens: BTreeMap<String, User>,
    pub(crate) advertised: Option<(std::net::IpAddr, u16)>,
    pub(crate) own_kubelet: Option<(String, std::net::SocketAddr)>,
    pub(crate) kubelets: Proxy,
    /// True once what every cluster has was there.
    pub(crate) begun: AtomicBool,
    /// Of requests that take long.
    pub(crate) turns: crate::verbs::heavy::Turns,
    /// Of answers that are long.
    pub(crate) pace: Arc<crate::base::pace::Pace>,
    /// How much room events have left.
    pub(crate) event_room: crate::controllers::EventRoom,
    pub(crate) limits: Limits,
    pub(crate) in_flight: InFlight,
    pub(crate) figures: Figures,
    pub(crate) uploads: Uploads,
    /// Taken by whoever runs them.
    pub(crate) streams: tokio::sync::Mutex<Streams>,
}

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
        let (kubelets, streams) = Proxy::new(&parts.identity.kubelet_client, limits.proxied)?;
        let registry = Registry {
            store: parts.store,
            now: parts.now,
            chance: parts.chance,
        };
        Ok(Self(Arc::new(Inner {
            registry,
            authority: parts.identity.authority,
            own_names: OwnNames {
                names: parts.identity.server_names,
                node: parts.identity.node,
            },
            token_key: parts.identity.token_key,
            static_tokens: parts.static_tokens,
            advertised: parts.advertised,
            own_kubelet: parts.own_kubelet,
            kubelets,
            begun: AtomicBool::new(false),
            turns: crate::verbs::heavy::Turns::default(),
            pace: Arc::default(),
            event_room: crate::controllers::EventRoom::default(),
            limits,
            in_flight: InFlight::new(limits),
            figures: Figures::default(),
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
    /// What is looked at for `/healthz`, `/livez` and `/readyz`.
    pub(crate) fn checks(&self, of: &str) -> Vec<Check> {
        let check = |name, wrong| Check { name, wrong };
        let mut checks = vec![check("ping", None)];
        // Alive means that a restart would not help: the store opens its file again by itself.
        if of != "livez" {
            let failed = self.registry.store.failed();
            checks.push(check("store", failed.map(|why| why.to_string())));
        }
        if of == "readyz" {
            let begun = self.begun.load(Ordering::Relaxed);
            let wrong = (!begun).then(|| "not finished".to_owned());
            let hook = "poststarthook/start-system-namespaces-controller";
            checks.push(check(hook, wrong));
        }
        checks
    }

    /// Why the server is not ready, as `/readyz` shows it.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let checks = self.checks("readyz");
        let wrong = checks
            .iter()
            .find_map(|check| Some((check.name, check.wrong.as_ref()?)));
        wrong.map(|(name, why)| format!("[-]{name} failed: {why}"))
    }

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
        // As with upstream's --service-account-max-token-expiration: shortened, and the answer says so.
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

    /// Writes into the claims what the token is bound to; whether a kubelet may bind it so, admission has said.
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

/// A token request is one by its types.
fn check_token_request(request: &Value) -> Result<(), Failure> {
    use serde::Deserialize as _;
    TokenRequest::deserialize(request).map(drop).map_err(|why| {
        Failure::bad_request(format!(
            "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: {why}"
        ))
    })
}

/// Name, namespace and UID in a token request are the service account's, or absent.
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
