//! The state that all requests of one port share.
//!
//! In:    the configuration, the node's state, metrics
//! Out:   [`Shared`]; the user of a connection's certificate
//! Calls: `answer`, `health`, `listener`
//! Holds: a client certificate is checked again at each request
//! Upstream: pkg/kubelet/server/server.go

use kubelet_host::blocking::Blocking;

use crate::auth::{Auth, Certificate};
use crate::metrics::HttpMetrics;
use crate::pods::Lists;
use crate::renderings::Renderings;
use crate::tls::{Current, Tls, TlsFiles};
use crate::upgrade::Peer;
use crate::{MainConfig, Port, ServerState};

/// The state that all requests of one port share.
pub(crate) struct Shared {
    pub(crate) port: Port,
    /// Main port only.
    pub(crate) main: Option<Secured>,
    pub(crate) state: ServerState,
    pub(crate) metrics: HttpMetrics,
    /// Shared by all ports, like the next field.
    pub(crate) renderings: Renderings,
    pub(crate) pods: Lists,
}

/// The parts of the main port only.
pub(crate) struct Secured {
    pub(crate) config: MainConfig,
    pub(crate) auth: Auth,
    tls: Current,
    pub(crate) now: fn() -> jiff::Timestamp,
}

impl Secured {
    pub(crate) fn new(
        config: MainConfig,
        tls: TlsFiles,
        (node_name, now, blocking): (&str, fn() -> jiff::Timestamp, Blocking),
    ) -> Self {
        let (tokens, authorization) = (config.tokens.clone(), config.authorization.clone());
        Self {
            auth: Auth::new(node_name, config.anonymous, tokens, authorization),
            config,
            tls: Current::new(tls, blocking),
            now,
        }
    }

    /// The current TLS files.
    pub(crate) async fn tls(&self) -> Tls {
        self.tls.get().await
    }

    /// The user of a connection's certificate now: the certificate may expire and the CAs may change while the connection is
    /// open.
    pub(crate) async fn certificate(&self, peer: &Peer) -> Certificate {
        if peer.chain.is_empty() {
            return Certificate::Absent;
        }
        peer.certificate(self.tls().await.authorities.as_ref(), (self.now)())
    }
}
