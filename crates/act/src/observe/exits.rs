//! Exits of containers' main processes as events, independent of the runtime.
//!
//! In:    a container's pid as the runtime told it
//! Out:   resolves when that process has ended
//! Calls: pleg, one wait per running container
//! Holds: a pid that was given to another process meanwhile is never waited for: after the pidfd is open the runtime is asked
//!        again whether the container runs. It does so with one first process all its life, so the pid was that one's
//! Upstream: none (there the list is read each second)

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use kubelet_api::runtime::v1::{ContainerState as State, ContainerStatus};
use kubelet_cri::Client;
use kubelet_host::pidfd::ProcessExit;
use kubelet_model::ids::ContainerId;

/// In simulation: the stand-in runtime's own exits by pid.
pub type SimulatedExits =
    Arc<dyn Fn(u32) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Where exits come from.
#[derive(Clone)]
pub enum ExitSource {
    /// The kernel, by pidfd.
    Kernel,
    /// The stand-in runtime.
    Simulated(SimulatedExits),
    /// Nowhere: every container is left to the fast relist.
    None,
}

impl fmt::Debug for ExitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "Kernel",
            Self::Simulated(_) => "Simulated",
            Self::None => "None",
        })
    }
}

impl ExitSource {
    /// Waits for the end of a container's first process. `true`: look now. `false`: no hint can be had. While it waits it holds
    /// little more than the descriptor.
    pub fn of(&self, cri: Client, id: ContainerId, pid: u32) -> Wait {
        match self {
            Self::None => Box::pin(std::future::ready(false)),
            Self::Simulated(exits) => {
                let exit = exits(pid);
                Box::pin(async move {
                    exit.await;
                    true
                })
            }
            Self::Kernel => {
                // Boxed before it is captured, so that what the call took is given back when it is over.
                let opened = Box::pin(opened(cri, id, pid));
                Box::pin(async move {
                    match opened.await {
                        Opened::Waits(exit) => exit.wait().await.is_ok(),
                        Opened::Over => true,
                        Opened::NoHint => false,
                    }
                })
            }
        }
    }
}

/// A wait for one exit.
pub type Wait = Pin<Box<dyn Future<Output = bool> + Send>>;

/// What there is to wait for.
enum Opened {
    Waits(ProcessExit),
    /// Or nobody knows: look now.
    Over,
    NoHint,
}

async fn opened(cri: Client, id: ContainerId, pid: u32) -> Opened {
    let exit = match ProcessExit::open(pid) {
        Ok(exit) => exit,
        // Gone already: the look that follows sees it.
        Err(error) if kubelet_host::pidfd::is_gone(&error) => return Opened::Over,
        Err(error) => {
            tracing::warn!(container = %id, pid, error = %error, "Exit of the container's process cannot be watched");
            return Opened::NoHint;
        }
    };
    // Already over: no need to ask whose pid it was.
    if !exit.has_ended().unwrap_or(true) {
        let answer = cri.container_status_alone(id.as_str()).await;
        let status = answer.ok().and_then(|response| response.status);
        let runs = |status: &ContainerStatus| status.state() == State::ContainerRunning;
        // Unknown, too: the look that follows asks again, and watches again.
        if !status.as_ref().is_some_and(runs) {
            return Opened::Over;
        }
    }
    Opened::Waits(exit)
}
