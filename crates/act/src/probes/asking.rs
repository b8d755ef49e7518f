//! One try of a probe, over the runtime or the network.
//!
//! In:    `Ask`, a timeout
//! Out:   the answer, after at most three tries where the probe itself did not work
//! Calls: prober
//! Holds: commands in containers that run at once are bounded, first come first served; each has its whole timeout, whatever it waited
//! Upstream: pkg/kubelet/prober/prober.go (runProbeWithRetries), pkg/probe/exec

use std::sync::Arc;
use std::time::Duration;

use kubelet_api::duration::GoDuration;
use kubelet_cri::Client;
use kubelet_decide::probes::ask::Ask;
use kubelet_model::ids::ContainerId;
use kubelet_probe::{Answer, HttpGet, Scheme, grpc, http, tcp};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::frame::slot::Slot;

/// Who asks, as containers see it.
const USER_AGENT: &str = "kube-probe/1.36";
/// Tries where the probe itself does not work.
const TRIES: u32 = 3;
/// Commands in containers at once.
const COMMANDS: usize = 64;
/// What a try may take beyond its timeout before its turn is given back; the call goes on.
const LATE: Duration = Duration::from_secs(1);
/// Probes over the network at once.
const CONNECTIONS: usize = 256;
/// Of what a command prints.
const MOST_OUTPUT: usize = 10 << 10;

/// Asks. Clones share the bounds.
#[derive(Clone, Debug)]
pub struct Asking {
    cri: Client,
    commands: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Asking {
    /// Over this runtime.
    pub fn new(cri: Client) -> Self {
        Self {
            cri,
            commands: Arc::new(Semaphore::new(COMMANDS)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }

    /// Waits for the turn of a try. It ends a second after the try's timeout. Cancel: safe.
    pub async fn turn(&self, ask: &Ask, timeout: Duration) -> Slot {
        let bound = match ask {
            Ask::Exec(_) => &self.commands,
            Ask::Http { .. } | Ask::Tcp { .. } | Ask::Grpc { .. } => &self.connections,
        };
        // Never closed.
        let permit = Arc::clone(bound).acquire_owned().await.ok();
        Slot::new(permit, timeout.saturating_add(LATE))
    }

    /// Asks until there is an answer. Cancel: safe.
    pub async fn ask(&self, id: &ContainerId, ask: &Ask, timeout: Duration) -> Answer {
        let mut answer = self.once(id, ask, timeout).await;
        for _ in 1..TRIES {
            if !matches!(answer, Answer::Error { .. }) {
                break;
            }
            answer = self.once(id, ask, timeout).await;
        }
        answer
    }

    async fn once(&self, id: &ContainerId, ask: &Ask, timeout: Duration) -> Answer {
        match ask {
            Ask::Exec(words) => self.command(id, words, timeout).await,
            Ask::Http {
                is_tls,
                host,
                port,
                path,
                headers,
            } => {
                let get = HttpGet {
                    scheme: if *is_tls { Scheme::Https } else { Scheme::Http },
                    host: host.clone(),
                    port: *port,
                    path: path.clone(),
                    headers: headers.clone(),
                    user_agent: USER_AGENT.to_owned(),
                };
                http(&get, timeout).await
            }
            Ask::Tcp { host, port } => tcp(host, *port, timeout).await,
            Ask::Grpc {
                host,
                port,
                service,
            } => grpc(host, *port, service, USER_AGENT, timeout).await,
        }
    }

    async fn command(&self, id: &ContainerId, words: &[String], timeout: Duration) -> Answer {
        let began = Instant::now();
        let ended = self
            .cri
            .exec_sync(id.as_str(), words.to_vec(), timeout)
            .await;
        let ended = match ended {
            Ok(ended) => ended,
            // Sooner than the command's time is over only a connection that broke says so; and a runtime that does not answer at all says
            // nothing of the container. Upstream counts both as failures.
            Err(error) if error.says_too_late() && began.elapsed() >= timeout => {
                let allowed = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
                return Answer::Failure(format!(
                    "command timed out: {:?} timed out after {}",
                    words.join(" "),
                    GoDuration::from_nanos(allowed)
                ));
            }
            Err(error) => {
                let (state, message) = ("unknown", error.message());
                return Answer::Error { state, message };
            }
        };
        let mut printed = ended.stdout;
        printed.extend_from_slice(&ended.stderr);
        printed.truncate(MOST_OUTPUT);
        let printed = String::from_utf8_lossy(&printed).into_owned();
        if ended.exit_code == 0 {
            Answer::Success(printed)
        } else {
            Answer::Failure(printed)
        }
    }
}
