//! Serves both services on a unix socket.
//!
//! In:    a bound socket, the source of pods
//! Out:   answers until the stop
//! Calls: hyperkube/wiring/story, as a task for each socket
//! Holds: connections are tasks of this future, so its end ends them; on our own socket only the kubelet's user and root are answered; at
//!        the limit of connections the oldest makes room
//! Upstream: pkg/kubelet/server/server.go (ListenAndServePodsServer)

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::limiter::Limiter;
use crate::pods_api::PodsApi;
use crate::source::Source;
use crate::story_api::StoryApi;
use crate::stubs::pods::pods_server::PodsServer;
use crate::stubs::story::stories_server::StoriesServer;

/// Connections at a time.
const CONNECTIONS: usize = 64;
/// Requests at a time of one connection.
const STREAMS: u32 = 32;
/// Requests carry no more than a UID.
const REQUEST_BYTES: usize = 64 << 10;
const HEAD_BYTES: u32 = 16 << 10;
/// Bytes of answers that wait for the reader of one stream.
const SEND_BUFFER: usize = 256 << 10;
/// A peer that does not answer for the sum of both is cut off.
const PING: Duration = Duration::from_secs(30);
const PING_ANSWER: Duration = Duration::from_secs(20);
/// The pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// What a socket serves, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Both services, to root and the kubelet's own user.
    Own,
    /// Kubernetes' local pods API alone, to whom the socket's mode lets in.
    PodsApi,
}

/// Accepts until `stop`.
///
/// # Errors
/// The socket is not tokio's to take.
pub async fn serve(
    listener: std::os::unix::net::UnixListener,
    door: Door,
    source: Source,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let routes = routes(door, source);
    let mut open = JoinSet::new();
    let mut ages: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            // The stop first, then ended connections, then new ones; dropping a branch loses nothing.
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(ended) = open.join_next(), if !open.is_empty() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    tracing::error!("a connection's task panicked");
                }
                ages.retain(|connection| !connection.is_finished());
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if is_welcome(door, &stream) => {
                    if ages.len() >= CONNECTIONS && let Some(oldest) = ages.pop_front() {
                        oldest.abort();
                    }
                    ages.push_back(open.spawn(talk(stream, routes.clone())));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "accept on a unix socket failed");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

fn routes(door: Door, source: Source) -> Routes {
    let limiter = (door == Door::PodsApi).then(|| Arc::new(Limiter::new()));
    let pods = PodsApi {
        source: source.clone(),
        limiter,
    };
    let pods = PodsServer::new(pods).max_decoding_message_size(REQUEST_BYTES);
    let routes = Routes::new(pods);
    let routes = match door {
        Door::PodsApi => routes,
        Door::Own => {
            let stories = StoriesServer::new(StoryApi { source });
            routes.add_service(stories.max_decoding_message_size(REQUEST_BYTES))
        }
    };
    routes.prepare()
}

fn is_welcome(door: Door, stream: &UnixStream) -> bool {
    if door == Door::PodsApi {
        return true;
    }
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred().map(|peer| peer.uid());
    let is_welcome = peer.as_ref().is_ok_and(|uid| *uid == 0 || *uid == own);
    if !is_welcome {
        tracing::warn!(uid = ?peer.ok(), "A user other than root asked for pods; refused");
    }
    is_welcome
}

async fn talk(stream: UnixStream, routes: Routes) {
    // The executor runs only streams, which end with their connection.
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING_ANSWER);
    let service = TowerToHyperService::new(routes);
    let talk = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = talk.await {
        tracing::debug!(%error, "connection on a unix socket ended");
    }
}
