//! Reads the runtime's status every five seconds, and its cgroup driver once at start.
//!
//! In:    CRI `Status`, `RuntimeConfig`
//! Out:   `RuntimeState` (conditions, handlers, when it last answered), `NetworkState` and `RuntimeHandlers` for pod workers, the cgroup
//!        driver
//! Calls: wiring; readers of node readiness
//! Holds: a runtime that does not answer changes only the age of the last answer; only changes are logged
//! Upstream: pkg/kubelet/kubelet.go (updateRuntimeUp), pkg/kubelet/runtime.go, cmd/kubelet/app/server.go (getCgroupDriverFromCRI)

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_api::runtime::v1 as wire;
use kubelet_cri::{Client, CriError};
use kubelet_decide::shapes::view::NetworkState;
use kubelet_model::config::CgroupDriver;
use kubelet_model::node::RuntimeHandlers;
use prometheus::{IntGaugeVec, Registry};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::frame::metrics::opts;
use crate::frame::reconciler::{Pace, Reconciler, RoundError, WakeReason};

/// Between two questions, answered or not.
const PERIOD: Duration = Duration::from_secs(5);
/// A runtime that has not answered for this long is down.
const DOWN_AFTER: Duration = Duration::from_secs(30);
const DRIVER_TRIES: u32 = 3;
const DRIVER_WAIT: Duration = Duration::from_secs(2);

/// The runtime cannot be asked how it makes cgroups.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeUpError {
    /// It does not answer, or refuses.
    #[error("container runtime {endpoint}: cannot ask for its cgroup driver")]
    Driver {
        /// The socket.
        endpoint: String,
        /// The last try.
        #[source]
        source: CriError,
    },
    /// It answered with a number that means nothing.
    #[error("runtime returned an unknown cgroup driver {0}")]
    UnknownDriver(i32),
}

/// What the runtime last said of itself. Errors are in upstream's words.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeState {
    /// When it last answered that it is ready.
    pub last_ready: Option<Instant>,
    /// Why it is not ready; `None` also before the first answer.
    pub runtime_error: Option<String>,
    /// Why the pod network is not.
    pub network_error: Option<String>,
    /// Names of its handlers, sorted.
    pub handlers: Vec<wire::RuntimeHandler>,
    /// Features it tells of.
    pub features: Option<wire::RuntimeFeatures>,
}

impl Default for RuntimeState {
    fn default() -> Self {
        Self {
            last_ready: None,
            runtime_error: None,
            network_error: Some("network state unknown".to_owned()),
            handlers: Vec::new(),
            features: None,
        }
    }
}

impl RuntimeState {
    /// What keeps the node from being ready, runtime first; empty when nothing does.
    pub fn errors(&self, now: Instant) -> Vec<String> {
        let age = match self.last_ready {
            None => Some("container runtime status check may not have completed yet"),
            Some(last) if now.duration_since(last) >= DOWN_AFTER => {
                Some("container runtime is down")
            }
            Some(_) => None,
        };
        let errors = age.map(str::to_owned).into_iter();
        let errors = errors.chain(self.runtime_error.clone());
        errors.chain(self.network_error.clone()).collect()
    }

    /// What pods on the pod network wait for.
    pub fn network(&self) -> NetworkState {
        match &self.network_error {
            None => NetworkState::Ready,
            Some(why) => NetworkState::NotReady(why.clone()),
        }
    }

    /// After an answer at `now`.
    fn after(&self, answer: wire::StatusResponse, now: Instant) -> Self {
        let conditions = answer
            .status
            .map(|status| status.conditions)
            .unwrap_or_default();
        let problem = |kind: &str, what: &str| {
            let found = conditions.iter().find(|condition| condition.r#type == kind);
            match found {
                Some(condition) if condition.status => None,
                Some(c) => Some(format!(
                    "{what}: {}={} reason:{} message:{}",
                    c.r#type, c.status, c.reason, c.message
                )),
                None => Some(format!("{what}: <nil>")),
            }
        };
        let network_error = problem("NetworkReady", "container runtime network not ready");
        let Some(runtime_error) = problem("RuntimeReady", "container runtime not ready") else {
            let mut handlers = answer.runtime_handlers;
            handlers.sort_by(|a, b| a.name.cmp(&b.name));
            return Self {
                last_ready: Some(now),
                runtime_error: None,
                network_error,
                handlers,
                features: answer.features,
            };
        };
        Self {
            runtime_error: Some(runtime_error),
            network_error,
            ..self.clone()
        }
    }
}

/// The check. Readers subscribe before it is spawned.
#[derive(Clone, Debug)]
pub struct RuntimeUp {
    cri: Client,
    endpoint: String,
    state: watch::Sender<RuntimeState>,
    network: watch::Sender<NetworkState>,
    handlers: watch::Sender<Option<Arc<RuntimeHandlers>>>,
}

/// What one answer changes.
#[derive(Debug)]
pub struct RuntimeChange {
    next: RuntimeState,
    words: Vec<String>,
}

impl fmt::Display for RuntimeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join("; "))
    }
}

impl RuntimeUp {
    /// A check of the runtime behind a client; `endpoint` is for messages.
    pub fn new(cri: Client, endpoint: impl Into<String>) -> Self {
        let state = RuntimeState::default();
        Self {
            cri,
            endpoint: endpoint.into(),
            network: watch::Sender::new(state.network()),
            handlers: watch::Sender::new(None),
            state: watch::Sender::new(state),
        }
    }

    /// How often it asks.
    pub fn pace() -> Pace {
        Pace::every(PERIOD)
    }

    /// All it knows; changes with every answer.
    pub fn state(&self) -> watch::Receiver<RuntimeState> {
        self.state.subscribe()
    }

    /// What it and its handlers can do, for workers and admission; `None` until it was ready once.
    pub fn handlers(&self) -> watch::Receiver<Option<Arc<RuntimeHandlers>>> {
        self.handlers.subscribe()
    }

    /// The pod network, for workers; changes only when it does.
    pub fn network(&self) -> watch::Receiver<NetworkState> {
        self.network.subscribe()
    }
}

/// What workers and admission ask for.
fn handlers(state: &RuntimeState) -> RuntimeHandlers {
    let of = |handler: &wire::RuntimeHandler| {
        let features = handler.features.as_ref()?;
        let is_able = features.recursive_read_only_mounts;
        is_able.then(|| handler.name.clone())
    };
    RuntimeHandlers {
        recursive_read_only: state.handlers.iter().filter_map(of).collect(),
        strict_groups: state
            .features
            .as_ref()
            .is_some_and(|features| features.supplemental_groups_policy),
    }
}

impl Reconciler for RuntimeUp {
    const NAME: &'static str = "runtime_up";
    type Seen = (wire::StatusResponse, Instant);
    type Plan = RuntimeChange;

    async fn observe(&mut self, _why: WakeReason) -> Result<Self::Seen, RoundError> {
        let answer = self.cri.status().await.map_err(|error| {
            RoundError(format!(
                "container runtime {}: sanity check failed: {error}",
                self.endpoint
            ))
        })?;
        Ok((answer, Instant::now()))
    }

    fn decide(&self, (answer, at): Self::Seen, _now: Timestamp) -> RuntimeChange {
        let old = self.state.borrow();
        let next = old.after(answer, at);
        let mut words = Vec::new();
        if old.network_error != next.network_error {
            words.push(
                next.network_error
                    .clone()
                    .unwrap_or_else(|| "network ready".to_owned()),
            );
        }
        let was_ready = old.last_ready.is_some() && old.runtime_error.is_none();
        if was_ready != next.runtime_error.is_none() || old.runtime_error != next.runtime_error {
            words.push(
                next.runtime_error
                    .clone()
                    .unwrap_or_else(|| "runtime ready".to_owned()),
            );
        }
        RuntimeChange { next, words }
    }

    async fn act(&mut self, plan: RuntimeChange) -> Result<(), RoundError> {
        if !plan.words.is_empty() {
            tracing::info!(endpoint = self.endpoint, state = %plan, "Container runtime changed");
        }
        let network = plan.next.network();
        // Before the network, on which pods start.
        if plan.next.last_ready.is_some() {
            let said = Some(Arc::new(handlers(&plan.next)));
            self.handlers.send_if_modified(|shown| {
                let is_new = *shown != said;
                *shown = said;
                is_new
            });
        }
        self.state.send_replace(plan.next);
        self.network.send_if_modified(|shown| {
            let is_new = *shown != network;
            *shown = network;
            is_new
        });
        Ok(())
    }
}

/// Who makes cgroups: what the runtime says, or the configuration when it cannot say. Three tries.
///
/// # Errors
/// No answer, a refusal, or a number that means nothing.
pub async fn cgroup_driver(
    cri: &Client,
    endpoint: &str,
    configured: CgroupDriver,
    registry: &Registry,
) -> Result<CgroupDriver, RuntimeUpError> {
    let mut tries = 1;
    let answer = loop {
        match cri.runtime_config().await {
            Ok(answer) => break answer,
            Err(error) if error.is_unimplemented() => {
                note_old_runtime(registry);
                tracing::info!(
                    "CRI implementation should be updated to support RuntimeConfig. Falling back to using cgroupDriver from kubelet config."
                );
                return Ok(configured);
            }
            Err(source) if tries == DRIVER_TRIES => {
                let endpoint = endpoint.to_owned();
                return Err(RuntimeUpError::Driver { endpoint, source });
            }
            Err(error) => {
                tracing::warn!(endpoint, err = %error, "Container runtime does not tell its cgroup driver; it is asked again");
                tries += 1;
                tokio::time::sleep(DRIVER_WAIT).await;
            }
        }
    };
    let Some(linux) = answer.linux else {
        return Ok(configured);
    };
    match wire::CgroupDriver::try_from(linux.cgroup_driver) {
        Ok(wire::CgroupDriver::Systemd) => Ok(CgroupDriver::Systemd),
        Ok(wire::CgroupDriver::Cgroupfs) => Ok(CgroupDriver::Cgroupfs),
        Err(_) => Err(RuntimeUpError::UnknownDriver(linux.cgroup_driver)),
    }
}

/// The gauge exists only on nodes that it is about.
fn note_old_runtime(registry: &Registry) {
    let help = "the Kubernetes version that the currently running CRI implementation will lose support on if not upgraded.";
    let options = opts("cri_losing_support", help);
    if let Ok(gauge) = IntGaugeVec::new(options, &["version"])
        && registry.register(Box::new(gauge.clone())).is_ok()
    {
        gauge.with_label_values(&["1.37.0"]).set(1);
    }
}

#[cfg(test)]
mod tests;
