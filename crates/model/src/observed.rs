//! What the runtime holds for one pod, as observed: every sandbox and every container *instance*, never just the first.
//!
//! In:    answers of the runtime, read by the relister
//! Out:   immutable snapshots with their time of observation
//! Holds: lists are newest first; nothing is dropped because a newer one exists; "absent" and "not inspected" are different
//! Upstream: pkg/kubelet/container/runtime.go (PodStatus, Status), differences: lists instead of first match (k/k#139703)

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerPort, LifecycleHandler};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::ids::{ContainerId, PodUid, SandboxId};

/// A time on the process's monotonic clock. It orders observations and actions; it has no meaning after a restart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Moment(pub Duration);

/// Everything that the runtime holds for one pod UID.
#[derive(Clone, PartialEq, Debug)]
pub struct ObservedPod {
    /// The pod.
    pub uid: PodUid,
    /// Namespace from the sandbox's or container's labels.
    pub namespace: String,
    /// Name from the labels.
    pub name: String,
    /// Every sandbox, newest first.
    pub sandboxes: Vec<ObservedSandbox>,
    /// Every container of every sandbox, newest first.
    pub containers: Vec<ObservedContainer>,
    /// Instances that the pod worker has set apart: their start was cut off and they never ran. They do not count as runs of
    /// their container, and are removed.
    pub cut_off: Vec<ObservedContainer>,
    /// When the oldest part of this observation was made.
    pub observed_at: Moment,
}

impl ObservedPod {
    /// The observation of a pod for which the runtime holds nothing.
    pub fn absent(uid: PodUid, observed_at: Moment) -> Self {
        Self {
            uid,
            namespace: String::new(),
            name: String::new(),
            sandboxes: Vec::new(),
            containers: Vec::new(),
            cut_off: Vec::new(),
            observed_at,
        }
    }

    /// Whether the runtime holds nothing for this pod.
    pub fn is_absent(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty() && self.cut_off.is_empty()
    }

    /// Every instance of every container, including those whose start was cut off.
    pub fn all_instances(&self) -> impl Iterator<Item = &ObservedContainer> {
        self.containers.iter().chain(&self.cut_off)
    }

    /// Every instance of the named container, newest first.
    pub fn instances<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ObservedContainer> {
        self.containers.iter().filter(move |c| c.name == name)
    }

    /// Every container that may be running: in state running or unknown.
    pub fn live_containers(&self) -> impl Iterator<Item = &ObservedContainer> {
        self.containers.iter().filter(|c| c.state.may_run())
    }

    /// Every sandbox that is ready, newest first.
    pub fn ready_sandboxes(&self) -> impl Iterator<Item = &ObservedSandbox> {
        self.sandboxes
            .iter()
            .filter(|s| s.state == SandboxState::Ready)
    }

    /// Whether any sandbox is ready or any container may be running.
    pub fn is_running(&self) -> bool {
        self.ready_sandboxes().next().is_some() || self.live_containers().next().is_some()
    }

    /// Sorts both lists newest first: by attempt, which increases with every instance, then by creation time, then by ID, so
    /// that the order is stable. Creation times alone would be wrong after the node's clock was set back.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by(|a, b| {
            (b.attempt, b.created_at, &b.id).cmp(&(a.attempt, a.created_at, &a.id))
        });
        self.containers.sort_by(|a, b| {
            (b.attempt, b.created_at, &b.id).cmp(&(a.attempt, a.created_at, &a.id))
        });
    }
}

/// The state of a sandbox, as the runtime reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SandboxState {
    /// Its namespaces exist.
    Ready,
    /// Stopped or broken.
    NotReady,
}

/// One pod sandbox.
#[derive(Clone, PartialEq, Debug)]
pub struct ObservedSandbox {
    /// The runtime's ID.
    pub id: SandboxId,
    /// The attempt from its metadata; a replacement sandbox has one more.
    pub attempt: u32,
    /// Ready or not.
    pub state: SandboxState,
    /// Creation time, as the runtime reports it.
    pub created_at: Timestamp,
    /// Addresses of the pod, primary first; empty on the host network. `None`: listed but not inspected yet.
    pub ips: Option<Vec<String>>,
    /// Whether it uses the node's network namespace.
    pub host_network: bool,
}

/// The state of a container, as the runtime reports it.
#[derive(Clone, PartialEq, Debug)]
pub enum ContainerState {
    /// Created, never started.
    Created,
    /// Its first process runs.
    Running {
        /// When it was started.
        started_at: Timestamp,
    },
    /// Its first process has ended.
    Exited(Exit),
    /// Unknown to the runtime.
    Unknown,
}

impl ContainerState {
    /// Running or unknown; an unknown container must be treated as running wherever harm is possible.
    pub fn may_run(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Unknown)
    }

    /// The exit, if it has exited.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Exited(exit) => Some(exit),
            Self::Created | Self::Running { .. } | Self::Unknown => None,
        }
    }

    /// The state in one word, for logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Exited(_) => "exited",
            Self::Unknown => "unknown",
        }
    }
}

/// How a container ended.
#[derive(Clone, PartialEq, Debug)]
pub struct Exit {
    /// Start time; the epoch if it never started.
    pub started_at: Timestamp,
    /// End time.
    pub finished_at: Timestamp,
    /// Exit code; 128 + signal for a signal.
    pub code: i32,
    /// The runtime's reason: `Completed`, `Error`, `OOMKilled`, `StartError` …
    pub reason: String,
    /// The runtime's message, or the termination message that was read instead.
    pub message: String,
}

/// One container instance.
#[derive(Clone, PartialEq, Debug)]
pub struct ObservedContainer {
    /// The runtime's ID.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// Name inside the pod.
    pub name: String,
    /// The attempt from its metadata.
    pub attempt: u32,
    /// The restart count from its annotation; the attempt if there is none.
    pub restart_count: u32,
    /// State.
    pub state: ContainerState,
    /// Creation time.
    pub created_at: Timestamp,
    /// The image as named in its spec.
    pub image: String,
    /// The resolved image reference, as in the status (`imageID`).
    pub image_ref: String,
    /// The hash of name and image, from its annotation, in hex.
    pub hash: String,
    /// The pod's grace period at its creation in seconds, from its annotation.
    pub grace_seconds: Option<i64>,
    /// Host path of its log.
    pub log_path: String,
    /// Host path of its termination message file, if it has one.
    pub termination_message_host_path: Option<String>,
    /// Host PID of its first process; only while it runs, and if the runtime reports it.
    pub pid: Option<u32>,
    /// Its preStop hook, from its annotation: all that is known of it once nobody names its pod any more.
    pub pre_stop: Option<Box<LifecycleHandler>>,
    /// User, group and supplemental groups of the first process, if the runtime reports them.
    pub user: Option<(i64, i64, Vec<i64>)>,
    /// The signal that asks it to end, as the runtime names it, if it does.
    pub stop_signal: Option<&'static str>,
}

/// A preStop hook from its annotation, with the number of a port that it names, which another annotation has.
pub fn pre_stop_of(json: &str, ports: &str) -> Option<Box<LifecycleHandler>> {
    let mut handler: Box<LifecycleHandler> = serde_json::from_str(json).ok()?;
    if let Some(get) = handler.http_get.as_mut()
        && let IntOrString::String(name) = &get.port
    {
        let ports: Vec<ContainerPort> = serde_json::from_str(ports).unwrap_or_default();
        let named = ports
            .iter()
            .find(|port| port.name.as_deref() == Some(name.as_str()));
        if let Some(port) = named {
            get.port = IntOrString::Int(port.container_port);
        }
    }
    Some(handler)
}

impl ObservedContainer {
    /// Its start time, if it ever started.
    pub fn started_at(&self) -> Option<Timestamp> {
        match &self.state {
            ContainerState::Running { started_at } => Some(*started_at),
            ContainerState::Exited(exit) if exit.started_at > Timestamp::UNIX_EPOCH => {
                Some(exit.started_at)
            }
            ContainerState::Exited(_) | ContainerState::Created | ContainerState::Unknown => None,
        }
    }
}

impl fmt::Display for ObservedPod {
    /// `s1:ready c[0]:running` — one line for logs and traces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for sandbox in &self.sandboxes {
            if !first {
                f.write_str(" ")?;
            }
            first = false;
            let state = match sandbox.state {
                SandboxState::Ready => "ready",
                SandboxState::NotReady => "notready",
            };
            write!(f, "sandbox[{}]:{state}", sandbox.attempt)?;
        }
        for container in &self.containers {
            if !first {
                f.write_str(" ")?;
            }
            first = false;
            write!(
                f,
                "{}[{}]:{}",
                container.name,
                container.attempt,
                container.state.word()
            )?;
            if let Some(exit) = container.state.exit() {
                write!(f, "({})", exit.code)?;
            }
        }
        for container in &self.cut_off {
            if !first {
                f.write_str(" ")?;
            }
            first = false;
            write!(f, "{}[{}]:cut-off", container.name, container.attempt)?;
        }
        if first {
            f.write_str("nothing")?;
        }
        Ok(())
    }
}
