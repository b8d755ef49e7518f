//! The HTTPS listener: accepts connections within limits, identifies client certificates, drains at the end.
//!
//! In:    an address, the serving certificate, the CA of client certificates
//! Out:   one call of the service per request
//! Calls: wiring
//! Holds: connections are tasks of this future, so its end ends them; `ports` limits what a connection may use and when it
//!        ends; TLS 1.2 and 1.3 by ring
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/secure_serving.go (1.36); differences: a limit on connections

use std::net::SocketAddr;
use std::sync::Arc;

use kubelet_ports::{Bounds, Connection, Door, Protocol};
use kubelet_tls::{Certificate, MinTls, client_authorities, is_good, provider, server_config};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use crate::base::user::User;
use crate::identity::authority::Pair;
use crate::serve::http::Service;
use crate::serve::server::ApiServer;
use crate::verbs::authentication::Peer;

/// The limit of connections.
const CONNECTIONS: usize = 1024;

/// Why the listener could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address could not be bound.
    #[error("listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The certificate or key cannot be used.
    #[error("the serving certificate cannot be used: {0}")]
    Certificate(String),
}

/// A bound listener.
pub struct Listener {
    socket: TcpListener,
    serving: Serving,
    server: ApiServer,
}

/// The serving certificate; clones share it.
#[derive(Clone)]
pub struct Serving {
    tls: watch::Sender<Arc<ServerConfig>>,
    authorities: Arc<dyn ClientCertVerifier>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

impl Serving {
    /// Serves another certificate from now on. Open connections are kept.
    ///
    /// # Errors
    /// [`ListenError::Certificate`]; the old certificate then stays.
    pub fn show(&self, pair: &Pair) -> Result<(), ListenError> {
        let tls = tls(pair, &self.authorities).map_err(ListenError::Certificate)?;
        self.tls.send_replace(Arc::new(tls));
        Ok(())
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds the address; serves nothing yet.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn bind(
        address: SocketAddr,
        pair: &Pair,
        server: ApiServer,
    ) -> Result<Self, ListenError> {
        let authority = server.0.authority.certificate().as_bytes();
        let authorities = client_authorities(authority).map_err(ListenError::Certificate)?;
        let tls = tls(pair, &authorities).map_err(ListenError::Certificate)?;
        let bound = TcpListener::bind(address).await;
        let socket = bound.map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self {
            socket,
            serving: Serving {
                tls: watch::Sender::new(Arc::new(tls)),
                authorities,
            },
            server,
        })
    }

    /// The handle that changes the certificate.
    pub fn serving(&self) -> Serving {
        self.serving.clone()
    }

    /// The bound address.
    ///
    /// # Errors
    /// The system's error.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until the stop, then gives running requests 2 s to finish. Cancel: closes everything.
    pub async fn serve(self, stop: CancellationToken) {
        let bounds = Bounds {
            streams: self.server.0.limits.streams,
            ..Bounds::new(CONNECTIONS)
        };
        let door = Door::new(bounds);
        let port = Arc::new(self);
        let talk = |stream, connection| {
            Box::pin(talk(stream, connection, (Arc::clone(&port), stop.clone())))
        };
        let left = door.serve(&port.socket, &stop, talk).await;
        if left > 0 {
            tracing::info!(left, "connections dropped at shutdown");
        }
    }

    /// The identity that a client's certificate chain shows.
    fn who(&self, chain: &[CertificateDer<'_>]) -> Peer {
        let [leaf, rest @ ..] = chain else {
            return Peer::Unknown;
        };
        let now = self.server.0.registry.now().as_second();
        let authorities = &self.serving.authorities;
        if !is_good(authorities, (leaf, rest), now) {
            return Peer::BadCertificate;
        }
        match (subject(leaf), end_of(authorities, (leaf, rest), now)) {
            (Some(user), Some(until)) => Peer::Certified { user, until },
            _ => Peer::BadCertificate,
        }
    }
}

/// One connection, from its accept to its end, beside the timers of `ports`.
async fn talk(
    stream: TcpStream,
    connection: Arc<Connection>,
    (port, stop): (Arc<Listener>, CancellationToken),
) {
    let peer = connection.peer();
    let tls = Arc::clone(&port.serving.tls.borrow());
    let accepted = match kubelet_tls::accept(tls, stream).await {
        Ok(accepted) => accepted,
        Err(error) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
    };
    let protocol = Protocol::agreed(accepted.is_http2);
    let service = Service::new(Arc::clone(&port.server.0), port.who(&accepted.chain));
    let serve = move |request| {
        let mut service = service.clone();
        async move {
            let answered = service.call(request).await;
            answered.unwrap_or_else(|never| match never {})
        }
    };
    let stream = (accepted.stream, protocol);
    connection.converse(stream, &stop, serve).await;
}

/// User name and groups of a verified certificate.
fn subject(leaf: &CertificateDer<'_>) -> Option<User> {
    let subject = Certificate::from_der(leaf).ok()?.subject;
    let groups: Vec<&str> = subject.organizations().collect();
    let name = subject.common_name();
    (!name.is_empty()).then(|| User::new(name, &groups))
}

/// A client's certificate, and the intermediates that it sent.
type Chain<'a> = (&'a CertificateDer<'a>, &'a [CertificateDer<'a>]);

/// The time at which a valid chain stops being valid. The connection may outlive it, its rights do not. Certificates that were
/// sent but are not needed for the chain have no influence.
fn end_of(
    authorities: &Arc<dyn ClientCertVerifier>,
    (leaf, rest): Chain<'_>,
    now: i64,
) -> Option<i64> {
    let end = |certificate: &CertificateDer<'_>| {
        let read = Certificate::from_der(certificate).ok()?;
        Some(read.validity.not_after.as_second())
    };
    let own = end(leaf)?;
    let others = rest.iter().filter_map(end);
    let mut ends: Vec<i64> = others.filter(|end| (now..own).contains(end)).collect();
    ends.push(own);
    ends.sort_unstable();
    ends.dedup();
    let mut latest_first = ends.into_iter().rev();
    latest_first.find(|second| is_good(authorities, (leaf, rest), *second))
}

fn tls(pair: &Pair, authorities: &Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, String> {
    let versions = (provider(), MinTls::V12);
    server_config(versions, Some(authorities), Arc::new(pair.shown()?))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn parameters(name: &str, until: i32) -> CertificateParams {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
        parameters
    }

    fn authority(name: &str, until: i32) -> CertificateParams {
        let mut parameters = parameters(name, until);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
    }

    #[test]
    fn rights_end_with_what_was_verified_and_not_with_what_was_sent_beside_it() {
        let keys = [(); 4].map(|()| KeyPair::generate().unwrap());
        let [root_key, between_key, key, other_key] = &keys;
        let root = authority("root", 2100);
        let pem = root.self_signed(root_key).unwrap().pem();
        let root = Issuer::new(root, root_key);
        let between = |until| authority("between", until).signed_by(between_key, &root);
        let [soon, late, gone] = [2030, 2040, 2020].map(|until| between(until).unwrap());
        let issuer = Issuer::new(authority("between", 2040), between_key);
        let mut client = parameters("client", 2050);
        client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let direct = client.signed_by(key, &root).unwrap();
        let below = client.signed_by(key, &issuer).unwrap();
        let stranger = authority("stranger", 2026).self_signed(other_key).unwrap();
        let authorities = client_authorities(pem.as_bytes()).unwrap();
        let now = rcgen::date_time_ymd(2025, 6, 1).unix_timestamp();
        let end = |leaf: &rcgen::Certificate, rest: &[&rcgen::Certificate]| {
            let rest: Vec<_> = rest.iter().map(|one| one.der().clone()).collect();
            end_of(&authorities, (leaf.der(), &rest), now)
        };
        let year = |year| Some(rcgen::date_time_ymd(year, 1, 1).unix_timestamp());
        for (leaf, rest, until) in [
            (&direct, &[][..], 2050),
            (&direct, &[&stranger, &gone], 2050),
            (&below, &[&soon], 2030),
            (&below, &[&stranger, &soon, &gone, &late], 2040),
        ] {
            assert_eq!(end(leaf, rest), year(until), "{} others", rest.len());
        }
        assert_eq!(end(&below, &[&gone]), None);
        let junk = [CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])];
        assert_eq!(end_of(&authorities, (direct.der(), &junk), now), year(2050));
    }
}
