//! A desired pod: a typed view of one API object, shared as one `Arc` from source to status.
//!
//! In:    a defaulted and validated `v1.Pod` with UID, name and namespace
//! Out:   its identity, its containers by kind, its QoS class
//! Holds: immutable; a changed spec is a new `Pod`; each of its names that becomes part of a path is one plain component
//! Upstream: pkg/apis/core/v1/helper/qos, pkg/kubelet/types/pod_update.go

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1;

use crate::gates::{Gates, name};
use crate::ids::{PodFullName, PodUid};
use crate::names::{BadName, check_part};

/// The source of a desired pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SourceKind {
    /// A manifest in a directory or file.
    File,
    /// A manifest from a URL.
    Url,
    /// The API server.
    Api,
}

impl SourceKind {
    /// The value of annotation `kubernetes.io/config.source`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Url => "http",
            Self::Api => "api",
        }
    }

    /// The source for a value of the annotation.
    pub fn from_annotation(word: &str) -> Option<Self> {
        match word {
            "file" => Some(Self::File),
            "http" => Some(Self::Url),
            "api" => Some(Self::Api),
            _ => None,
        }
    }
}

/// Compares two complete sets with the same pods in the same order: returns the pods of `now` that changed. `None` for any
/// other sets.
pub fn changed_alone(before: &[Arc<Pod>], now: &[Arc<Pod>]) -> Option<Vec<Arc<Pod>>> {
    if before.len() != now.len() {
        return None;
    }
    let mut changed = Vec::new();
    for (old, new) in before.iter().zip(now) {
        if Arc::ptr_eq(old, new) {
            continue;
        }
        if old.uid != new.uid || old.full_name != new.full_name {
            return None;
        }
        changed.push(Arc::clone(new));
    }
    Some(changed)
}

/// The annotation with a static pod's hash.
pub const CONFIG_HASH_ANNOTATION: &str = "kubernetes.io/config.hash";
/// The annotation of a mirror pod with its static pod's hash.
pub const CONFIG_MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// The annotation with the source.
pub const CONFIG_SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
/// The annotation with the time when the pod was first seen.
pub const CONFIG_SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";

/// Quality of service class of a pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum QosClass {
    /// Every container has limits equal to requests, for CPU and memory.
    Guaranteed,
    /// At least one request or limit.
    Burstable,
    /// No requests or limits.
    BestEffort,
}

impl QosClass {
    /// The value of `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// When a container is restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestartPolicy {
    /// After every exit.
    Always,
    /// After an exit with a code other than 0.
    OnFailure,
    /// Never.
    Never,
}

/// Which fields of a pod act on this node; what is switched off is read as if it were not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a gate of its own")]
pub struct PodGates {
    /// `restartPolicy` and `restartPolicyRules` of containers that are no sidecars.
    pub restart_rules: bool,
    /// Action `RestartAllContainers` of a rule.
    pub restart_all: bool,
    /// `lifecycle.stopSignal`.
    pub stop_signals: bool,
}

impl PodGates {
    /// What these gates switch.
    pub fn of(gates: &Gates) -> Self {
        Self {
            restart_rules: gates.is_enabled(name::CONTAINER_RESTART_RULES),
            restart_all: gates.is_enabled(name::RESTART_ALL_CONTAINERS),
            stop_signals: gates.is_enabled(name::CONTAINER_STOP_SIGNALS),
        }
    }
}

impl Default for PodGates {
    fn default() -> Self {
        Self::of(&Gates::default())
    }
}

/// Why an object cannot become a pod on this node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct BadPod {
    /// The name that is invalid.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: BadName,
}

fn bad(what: &'static str) -> impl Fn(BadName) -> BadPod {
    move |why| BadPod { what, why }
}

/// One desired pod.
#[derive(Clone)]
#[non_exhaustive]
pub struct Pod {
    /// Its UID.
    pub uid: PodUid,
    /// Its namespace and name.
    pub full_name: PodFullName,
    /// Where it came from.
    pub source: SourceKind,
    /// The object itself.
    pub object: Arc<v1::Pod>,
    /// Fields in use that this kubelet does not implement; if there are any, the pod is held.
    pub unbuilt: Arc<[String]>,
    /// Which of its fields act.
    pub gates: PodGates,
    /// Its ephemeral containers, in the form of the others.
    ephemeral: Arc<[v1::Container]>,
}

/// Whether an init container is a sidecar: it is kept running beside what comes after it.
pub fn is_sidecar(init: &v1::Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

/// An ephemeral container as a container: it has the same fields, but for the one it aims at.
fn ephemeral_as_container(one: &v1::EphemeralContainer) -> v1::Container {
    let one = one.clone();
    v1::Container {
        name: one.name,
        args: one.args,
        command: one.command,
        env: one.env,
        env_from: one.env_from,
        image: one.image,
        image_pull_policy: one.image_pull_policy,
        lifecycle: one.lifecycle,
        liveness_probe: one.liveness_probe,
        ports: one.ports,
        readiness_probe: one.readiness_probe,
        resize_policy: one.resize_policy,
        resources: one.resources,
        restart_policy: one.restart_policy,
        restart_policy_rules: one.restart_policy_rules,
        security_context: one.security_context,
        startup_probe: one.startup_probe,
        stdin: one.stdin,
        stdin_once: one.stdin_once,
        termination_message_path: one.termination_message_path,
        termination_message_policy: one.termination_message_policy,
        tty: one.tty,
        volume_devices: one.volume_devices,
        volume_mounts: one.volume_mounts,
        working_dir: one.working_dir,
    }
}

static EMPTY_SPEC: std::sync::LazyLock<v1::PodSpec> =
    std::sync::LazyLock::new(v1::PodSpec::default);

impl Pod {
    /// Creates a desired pod from an object.
    ///
    /// # Errors
    /// It has no UID, name or namespace, or one of its names cannot be part of a path.
    pub fn new(
        object: Arc<v1::Pod>,
        source: SourceKind,
        unbuilt: Vec<String>,
    ) -> Result<Self, BadPod> {
        let meta = &object.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let uid = PodUid::parse(&text(&meta.uid)).map_err(bad("metadata.uid"))?;
        let full_name = PodFullName::parse(&text(&meta.namespace), &text(&meta.name))
            .map_err(bad("metadata"))?;
        let spec = object.spec.as_ref();
        let ephemeral = spec.and_then(|spec| spec.ephemeral_containers.as_deref());
        let ephemeral = ephemeral.unwrap_or_default().iter();
        let pod = Self {
            uid,
            full_name,
            source,
            ephemeral: ephemeral.map(ephemeral_as_container).collect(),
            object,
            unbuilt: unbuilt.into(),
            gates: PodGates::default(),
        };
        pod.check_names()?;
        Ok(pod)
    }

    /// The same pod where these fields act; without this, where upstream's gates are at their defaults.
    #[must_use]
    pub fn under(self, gates: PodGates) -> Self {
        Self { gates, ..self }
    }

    /// An orphan: a pod of which only its presence in the runtime or on disk is known.
    pub fn orphan(uid: PodUid, full_name: PodFullName) -> Self {
        let mut object = v1::Pod::default();
        object.metadata.uid = Some(uid.to_string());
        object.metadata.name = Some(full_name.name.to_string());
        object.metadata.namespace = Some(full_name.namespace.to_string());
        object.spec = Some(v1::PodSpec::default());
        Self {
            uid,
            full_name,
            source: SourceKind::File,
            object: Arc::new(object),
            unbuilt: Arc::from([]),
            gates: PodGates::default(),
            ephemeral: Arc::from([]),
        }
    }

    /// Names of containers and volumes become directory names.
    fn check_names(&self) -> Result<(), BadPod> {
        let spec = self.spec();
        for container in self.all_containers() {
            check_part(&container.name).map_err(bad("name of a container"))?;
        }
        for volume in spec.volumes.iter().flatten() {
            check_part(&volume.name).map_err(bad("name of a volume"))?;
        }
        Ok(())
    }

    /// The spec; empty if the object has none.
    pub fn spec(&self) -> &v1::PodSpec {
        self.object.spec.as_ref().unwrap_or(&EMPTY_SPEC)
    }

    /// Init containers in order.
    pub fn init_containers(&self) -> &[v1::Container] {
        self.spec().init_containers.as_deref().unwrap_or_default()
    }

    /// Regular containers in order.
    pub fn containers(&self) -> &[v1::Container] {
        &self.spec().containers
    }

    /// Ephemeral containers in order.
    pub fn ephemeral_containers(&self) -> &[v1::Container] {
        &self.ephemeral
    }

    /// Containers that are kept running: sidecars in order, then regular ones.
    pub fn kept_containers(&self) -> impl Iterator<Item = &v1::Container> {
        let sidecars = self.init_containers().iter().filter(|c| is_sidecar(c));
        sidecars.chain(self.containers())
    }

    /// The sidecar or regular container of this name.
    pub fn kept_container(&self, name: &str) -> Option<&v1::Container> {
        self.kept_containers().find(|c| c.name == name)
    }

    /// The init container of this name.
    pub fn init_container(&self, name: &str) -> Option<&v1::Container> {
        self.init_containers().iter().find(|c| c.name == name)
    }

    /// Init containers, then regular ones: those that the pod was made with.
    pub fn declared_containers(&self) -> impl Iterator<Item = &v1::Container> {
        self.init_containers().iter().chain(self.containers())
    }

    /// The container of this name that the pod was made with.
    pub fn declared_container(&self, name: &str) -> Option<&v1::Container> {
        self.declared_containers().find(|c| c.name == name)
    }

    /// Init containers, then regular ones, then ephemeral ones.
    pub fn all_containers(&self) -> impl Iterator<Item = &v1::Container> {
        self.declared_containers().chain(self.ephemeral.iter())
    }

    /// The container of this name, of whatever kind.
    pub fn container(&self, name: &str) -> Option<&v1::Container> {
        self.all_containers().find(|c| c.name == name)
    }

    /// The number of containers of all kinds; at least one.
    pub fn count_of_containers(&self) -> usize {
        self.all_containers().count().max(1)
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.object
            .metadata
            .annotations
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }

    /// Whether it came from a manifest, not from the API server.
    pub fn is_static(&self) -> bool {
        !matches!(self.source, SourceKind::Api)
    }

    /// Whether it uses the node's network namespace.
    pub fn is_host_network(&self) -> bool {
        self.spec().host_network.unwrap_or(false)
    }

    /// Its restart policy.
    pub fn restart_policy(&self) -> RestartPolicy {
        match self.spec().restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        }
    }

    /// The termination grace period in seconds; 30 by default.
    pub fn grace_seconds(&self) -> i64 {
        self.spec().termination_grace_period_seconds.unwrap_or(30)
    }

    /// Critical pods keep `oom_score_adj` -997 and are never evicted.
    pub fn is_node_critical(&self) -> bool {
        self.spec().priority_class_name.as_deref() == Some("system-node-critical")
    }
}

impl fmt::Debug for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Pod({} {} {})",
            self.full_name,
            self.uid,
            self.source.as_str()
        )
    }
}

impl PartialEq for Pod {
    /// Equal object content; equal pointers, the usual case, are compared first.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
            && (Arc::ptr_eq(&self.object, &other.object) || self.object == other.object)
    }
}
