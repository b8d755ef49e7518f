//! The shared state of a server: the registry, keys, limits and counters.
//!
//! In:    created by `serve/server`
//! Out:   [`Inner`], and whether it is healthy
//! Calls: `verbs`, `controllers`, `serve`
//! Holds: after the start only counters and other parts with their own locks change
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

/// The names by which clients reach the server.
pub(crate) struct OwnNames {
    /// Names and addresses.
    pub(crate) names: Vec<String>,
    /// The node on the server's machine, which may have the same names.
    pub(crate) node: String,
}

pub(crate) struct Inner {
    pub(crate) registry: Registry,
    pub(crate) authority: Authority,
    /// The names by which clients reach the server, and the node that may have the same.
    pub(crate) own_names: OwnNames,
    pub(crate) token_key: TokenKey,
    pub(crate) static_tokens: BTreeMap<String, User>,
    pub(crate) advertised: Option<(std::net::IpAddr, u16)>,
    pub(crate) own_kubelet: Option<(String, std::net::SocketAddr)>,
    pub(crate) kubelets: Proxy,
    /// True once the objects that every cluster has exist.
    pub(crate) begun: AtomicBool,
    /// Turns of requests that compute for long.
    pub(crate) turns: Turns,
    /// Turns of long responses.
    pub(crate) pace: Arc<Pace>,
    /// The limit of all events together.
    pub(crate) event_room: EventRoom,
    pub(crate) limits: Limits,
    pub(crate) in_flight: InFlight,
    pub(crate) figures: Figures,
    pub(crate) uploads: Uploads,
    /// Taken by the task that runs them.
    pub(crate) streams: tokio::sync::Mutex<Streams>,
}

impl Inner {
    /// The checks of `/healthz`, `/livez` and `/readyz`.
    pub(crate) fn checks(&self, of: &str) -> Vec<Check> {
        let check = |name, wrong| Check { name, wrong };
        let mut checks = vec![check("ping", None)];
        // A failing store does not make the server dead, since a restart would not help: the store reopens its file by itself.
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

    /// Why the server is not ready, in the words of `/readyz`.
    pub(crate) fn not_ready(&self) -> Option<String> {
        let checks = self.checks("readyz");
        let wrong = checks
            .iter()
            .find_map(|check| Some((check.name, check.wrong.as_ref()?)));
        wrong.map(|(name, why)| format!("[-]{name} failed: {why}"))
    }
}
