//! Runs one lifecycle hook, to its end.
//!
//! In:    `Hook`, the instance it is of
//! Out:   that it is done, or why not
//! Calls: execute, which bounds it: a preStop hook by the grace, a postStart hook by an order to stop
//! Holds: it has no deadline of its own, as upstream's; what a command prints is cut; nothing that a server said is told in an event
//! Upstream: pkg/kubelet/lifecycle/handlers.go (Run); differences: a runtime that goes away while a hook runs is no failure of the hook,
//!        which is run again; there the container is killed for it

use kubelet_cri::{Client, Happened};
use kubelet_decide::report::events::hook_fell_back;
use kubelet_decide::shapes::hook::{Hook, HttpHook};
use kubelet_model::ids::ContainerId;
use kubelet_model::pod::Pod;
use kubelet_probe::{HttpGet, RequestFailure, Scheme, join_host_port, request};
use prometheus::{IntCounter, Registry};
use std::time::Duration;

use crate::frame::metrics::Making;
use crate::report::events::Events;

/// Who asks, as containers see it.
const USER_AGENT: &str = "kube-lifecycle/1.36";
/// Of what a command prints.
const MOST_OUTPUT: usize = 10 << 10;

/// Figures of hooks.
#[derive(Clone, Debug)]
struct HookMetrics {
    fallbacks: IntCounter,
    cut_sleeps: IntCounter,
}

impl HookMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let made = Making(registry);
        Ok(Self {
            fallbacks: made.counter(
                "lifecycle_handler_http_fallbacks_total",
                "The number of times lifecycle handlers successfully fell back to http from https.",
            )?,
            cut_sleeps: made.counter(
                "sleep_action_terminated_early_total",
                "The number of times lifecycle sleep handler got terminated before it finishes",
            )?,
        })
    }
}

/// Why a hook failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookFailure {
    /// In upstream's words.
    pub error: String,
    /// What a command printed.
    pub printed: String,
    /// It may have run, or be running: no answer came, which says nothing of the container.
    pub is_lost: bool,
}

/// Runs hooks. Clones share the figures.
#[derive(Clone, Debug)]
pub struct Hooks {
    cri: Client,
    events: Events,
    metrics: HookMetrics,
}

/// Counts a sleep that was cut short.
struct Sleep<'a> {
    metrics: &'a HookMetrics,
    is_done: bool,
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.metrics.cut_sleeps.inc();
        }
    }
}

impl Hooks {
    /// Over this runtime; registers its figures.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(
        cri: &Client,
        events: &Events,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            cri: cri.clone(),
            events: events.clone(),
            metrics: HookMetrics::new(registry)?,
        })
    }

    /// Runs it. Cancel: a command is ended by the runtime, a request may have been received.
    ///
    /// # Errors
    /// It failed.
    pub async fn run(&self, pod: &Pod, id: &ContainerId, hook: &Hook) -> Result<(), HookFailure> {
        let failed = |error: String| HookFailure {
            error,
            printed: String::new(),
            is_lost: false,
        };
        match hook {
            Hook::Exec(command) => self.command(id, command).await,
            Hook::Http(http) => self.request(pod, http).await.map_err(failed),
            Hook::Sleep { left, .. } => {
                let mut sleep = Sleep {
                    metrics: &self.metrics,
                    is_done: false,
                };
                tokio::time::sleep(*left).await;
                sleep.is_done = true;
                Ok(())
            }
            Hook::Impossible(why) => Err(failed(why.clone())),
        }
    }

    async fn command(&self, id: &ContainerId, command: &[String]) -> Result<(), HookFailure> {
        let ended = self
            .cri
            .exec_sync(id.as_str(), command.to_vec(), Duration::ZERO)
            .await;
        let ended = ended.map_err(|error| HookFailure {
            error: error.message(),
            printed: String::new(),
            is_lost: error.happened() == Happened::Maybe,
        })?;
        if ended.exit_code == 0 {
            return Ok(());
        }
        let text = |bytes: &[u8]| {
            let begin = bytes.get(..MOST_OUTPUT.min(bytes.len()));
            String::from_utf8_lossy(begin.unwrap_or_default()).into_owned()
        };
        let stderr = text(&ended.stderr);
        let mut printed = ended.stdout;
        printed.extend_from_slice(&ended.stderr);
        Err(HookFailure {
            error: format!(
                "command '{}' exited with {}: {stderr}",
                command.join(" "),
                ended.exit_code
            ),
            printed: text(&printed),
            is_lost: false,
        })
    }

    async fn request(&self, pod: &Pod, http: &HttpHook) -> Result<(), String> {
        let mut get = HttpGet {
            scheme: if http.is_tls {
                Scheme::Https
            } else {
                Scheme::Http
            },
            host: http.host.clone(),
            port: http.port,
            path: http.path.clone(),
            headers: http.headers.clone(),
            user_agent: USER_AGENT.to_owned(),
        };
        let RequestFailure { message, is_plain } = match request(&get).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if !is_plain {
            return Err(message);
        }
        get.scheme = Scheme::Http;
        // Meant for somebody who proves who they are.
        get.headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        request(&get).await.map_err(|_| message)?;
        self.metrics.fallbacks.inc();
        let authority = join_host_port(&http.host, http.port);
        self.events.pod(pod, hook_fell_back(&authority));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
