//! What all requests share: the registry, keys, limits and figures of one server.
//!
//! In:    made by `serve/server`
//! Out:   [`Inner`], and whether it is healthy
//! Calls: `verbs`, `controllers`, `serve`
//! Holds: nothing here changes after the start but what counts for itself
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/healthz

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kubelet_ports::Uploads;

use crate::base::pace::Pace;
use crate::base::user::User;
use crate::identity::authority::Authority;
use crate::identity::tokens::TokenKey;
use crate::registry::Registry;
use crate::registry::event_room::EventRoom;
use crate::verbs::figures::Figures;
use crate::verbs::health::Check;
use crate::verbs::inflight::{InFlight, Limits};
use crate::verbs::kubelets::{Proxy, Streams};
use crate::verbs::turns::Turns;

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
    pub(crate) token_key: TokenKey,
    pub(crate) static_tokens: BTreeMap<String, User>,
    pub(crate) advertised: Option<(std::net::IpAddr, u16)>,
    pub(crate) own_kubelet: Option<(String, std::net::SocketAddr)>,
    pub(crate) kubelets: Proxy,
    /// True once what every cluster has was there.
    pub(crate) begun: AtomicBool,
    /// Of requests that take long.
    pub(crate) turns: Turns,
    /// Of answers that are long.
    pub(crate) pace: Arc<Pace>,
    /// How much room events have left.
    pub(crate) event_room: EventRoom,
    pub(crate) limits: Limits,
    pub(crate) in_flight: InFlight,
    pub(crate) figures: Figures,
    pub(crate) uploads: Uploads,
    /// Taken by whoever runs them.
    pub(crate) streams: tokio::sync::Mutex<Streams>,
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
}
