//! Assembles the API server from its parts.
//!
//! In:    [`ServerParts`]
//! Out:   [`ApiServer`]; services for callers with a known identity and for callers that authenticate
//! Calls: wiring, tests
//! Holds: requests are answered at once; background work is [`ApiServer::run`]
//! Upstream: pkg/controlplane (1.36); differences: one process, one node

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kubelet_ports::Uploads;
use tokio_util::sync::CancellationToken;

use crate::base::clock::{Chance, Now};
use crate::base::user::User;
use crate::controllers;
use crate::identity::authority::Pair;
use crate::registry::Registry;
use crate::registry::event_room::EventRoom;
use crate::serve::http::Service;
use crate::store::Store;
use crate::verbs::authentication::Peer;
use crate::verbs::figures::Figures;
use crate::verbs::inflight::{InFlight, Limits};
use crate::verbs::kubelets::Proxy;
use crate::verbs::state::{Inner, OwnNames};
use crate::verbs::turns::Turns;

/// Bytes of request bodies in memory at a time.
const UPLOADS: usize = 32 << 20;

/// The parts of a server.
pub struct ServerParts {
    /// The store.
    pub store: Store,
    /// The clock.
    pub now: Now,
    /// The source of randomness.
    pub chance: Chance,
    /// Certificates and keys.
    pub identity: crate::identity::Identity,
    /// Static bearer tokens.
    pub static_tokens: BTreeMap<String, User>,
    /// The address at which pods reach the server, for the endpoints of the `kubernetes` service.
    pub advertised: Option<(std::net::IpAddr, u16)>,
    /// The node whose kubelet is part of this program, and its address. Other kubelets are reached at the addresses of their
    /// Nodes.
    pub own_kubelet: Option<(String, std::net::SocketAddr)>,
}

impl std::fmt::Debug for ServerParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerParts")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// The server; clones share it.
#[derive(Clone)]
pub struct ApiServer(pub(crate) Arc<Inner>);

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("registry", &self.0.registry)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// A server with these parts. It answers at once; background work is [`Self::run`].
    ///
    /// # Errors
    /// What is wrong with the client certificate for kubelets.
    pub fn new(parts: ServerParts) -> Result<Self, String> {
        Self::limited(parts, Limits::default())
    }

    /// As [`Self::new`], with limits other than upstream's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn limited(parts: ServerParts, limits: Limits) -> Result<Self, String> {
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
            turns: Turns::default(),
            pace: Arc::default(),
            event_room: EventRoom::default(),
            limits,
            in_flight: InFlight::new(limits),
            figures: Figures::default(),
            uploads: Uploads::new(UPLOADS),
            streams: tokio::sync::Mutex::new(streams),
        })))
    }

    /// A service that treats every caller as this user.
    pub fn service_as(&self, user: User) -> Service {
        Service::new(Arc::clone(&self.0), Peer::Known(user))
    }

    /// A service whose callers authenticate by tokens.
    pub fn service(&self) -> Service {
        Service::new(Arc::clone(&self.0), Peer::Unknown)
    }

    /// Shows kubelets another client certificate from now on.
    ///
    /// # Errors
    /// What is wrong with it; the old one then stays.
    pub fn show_kubelets(&self, pair: &Pair) -> Result<(), String> {
        self.0.kubelets.show(pair)
    }

    /// Creates the objects that every cluster has, then runs the controllers until the stop.
    pub async fn run(&self, stop: CancellationToken) {
        let work = async {
            let mut streams = self.0.streams.lock().await;
            tokio::join!(controllers::run(&self.0), streams.run(), self.0.pace.run());
        };
        tokio::select! {
            // The stop first. An interrupted pass is repeated after the next start.
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Why the server is not ready; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        self.0.not_ready()
    }
}
