//! Labels and annotations of sandboxes and containers: all that a restarted kubelet knows of them.
//!
//! In:    a desired pod and container; later, what the runtime lists
//! Out:   label and annotation maps; back from them, typed
//! Calls: sandbox_config.rs, container_config.rs; whoever reads the runtime's lists
//! Holds: keys and values equal upstream's byte for byte, so that either kubelet understands the other's containers
//! Upstream: pkg/kubelet/kuberuntime/labels.go, staging/src/k8s.io/kubelet/pkg/types/labels.go

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubelet_model::ids::{ContainerName, PodFullName, PodUid};
use kubelet_model::pod::Pod;
use serde::Serialize;

#[cfg(test)]
mod tests;

/// Label: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: the container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
const HASH: &str = "io.kubernetes.container.hash";
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";

/// Labels or annotations.
pub type Map = BTreeMap<String, String>;

/// Whose sandbox it is, from its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxLabels {
    /// The pod.
    pub uid: PodUid,
    /// Its namespace and name.
    pub full_name: PodFullName,
    /// The pod's own labels.
    pub pod_labels: Map,
}

/// Whose container it is, from its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerLabels {
    /// The pod.
    pub uid: PodUid,
    /// Its namespace and name.
    pub full_name: PodFullName,
    /// The container.
    pub name: ContainerName,
}

/// What a container's annotations tell. What is missing or does not parse reads as nothing, never as an error: containers
/// of older kubelets lack some.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerAnnotations {
    /// Hash of the container's spec when it was made; 0 when unknown.
    pub hash: u64,
    /// How often the container had been started before.
    pub restart_count: u32,
    /// Seconds of grace of the deletion it was made under.
    pub deletion_grace_seconds: Option<i64>,
    /// Seconds of grace of its pod.
    pub termination_grace_seconds: Option<i64>,
    /// Where it leaves its last words, inside the container.
    pub termination_message_path: String,
    /// `File` or `FallbackToLogsOnError`.
    pub termination_message_policy: String,
    /// What to do before it is stopped.
    pub pre_stop: Option<v1::LifecycleHandler>,
    /// Its declared ports.
    pub ports: Vec<v1::ContainerPort>,
}

fn identity_labels(pod: &Pod) -> Map {
    BTreeMap::from([
        (POD_NAME.to_owned(), pod.full_name.name.to_string()),
        (
            POD_NAMESPACE.to_owned(),
            pod.full_name.namespace.to_string(),
        ),
        (POD_UID.to_owned(), pod.uid.to_string()),
    ])
}

/// Labels of a pod's sandbox: the pod's own and its identity.
pub fn sandbox_labels(pod: &Pod) -> Map {
    let mut labels = pod.object.metadata.labels.clone().unwrap_or_default();
    labels.extend(identity_labels(pod));
    labels
}

/// Annotations of a pod's sandbox: the pod's own.
pub fn sandbox_annotations(pod: &Pod) -> Map {
    pod.object.metadata.annotations.clone().unwrap_or_default()
}

/// Labels of a container.
pub fn container_labels(pod: &Pod, container: &v1::Container) -> Map {
    let mut labels = identity_labels(pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

/// Annotations of a container; `hash` is the hex text of its spec's hash.
pub fn container_annotations(
    pod: &Pod,
    container: &v1::Container,
    restart_count: u32,
    hash: &str,
) -> Map {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut annotations = BTreeMap::from([
        (HASH.to_owned(), hash.to_owned()),
        (RESTART_COUNT.to_owned(), restart_count.to_string()),
        (
            MESSAGE_PATH.to_owned(),
            text(&container.termination_message_path),
        ),
        (
            MESSAGE_POLICY.to_owned(),
            text(&container.termination_message_policy),
        ),
    ]);
    if let Some(seconds) = pod.object.metadata.deletion_grace_period_seconds {
        annotations.insert(DELETION_GRACE.to_owned(), seconds.to_string());
    }
    if let Some(seconds) = pod.spec().termination_grace_period_seconds {
        annotations.insert(TERMINATION_GRACE.to_owned(), seconds.to_string());
    }
    if let Some(handler) = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref())
    {
        annotations.insert(PRE_STOP.to_owned(), go_json(&GoHandler::from(handler)));
    }
    if let Some(ports) = container.ports.as_deref().filter(|ports| !ports.is_empty()) {
        annotations.insert(
            PORTS.to_owned(),
            go_json(&ports.iter().map(GoPort::from).collect::<Vec<_>>()),
        );
    }
    annotations
}

/// Reads a sandbox's labels; `None` when it is not a pod's (no UID, name or namespace that one can have).
pub fn parse_sandbox_labels(labels: &Map) -> Option<SandboxLabels> {
    let (uid, full_name) = parse_identity(labels)?;
    let mut pod_labels = labels.clone();
    pod_labels.retain(|key, _| !matches!(key.as_str(), POD_NAME | POD_NAMESPACE | POD_UID));
    Some(SandboxLabels {
        uid,
        full_name,
        pod_labels,
    })
}

/// Reads a container's labels; `None` when it is not a pod's container.
pub fn parse_container_labels(labels: &Map) -> Option<ContainerLabels> {
    let (uid, full_name) = parse_identity(labels)?;
    let name = ContainerName::parse(labels.get(CONTAINER_NAME)?).ok()?;
    Some(ContainerLabels {
        uid,
        full_name,
        name,
    })
}

fn parse_identity(labels: &Map) -> Option<(PodUid, PodFullName)> {
    let text = |key: &str| labels.get(key).map(String::as_str);
    let full_name = PodFullName::parse(text(POD_NAMESPACE)?, text(POD_NAME)?).ok()?;
    Some((PodUid::parse(text(POD_UID)?).ok()?, full_name))
}

/// Reads a container's annotations.
pub fn parse_container_annotations(annotations: &Map) -> ContainerAnnotations {
    let text = |key: &str| annotations.get(key).map(String::as_str);
    let owned = |key: &str| text(key).unwrap_or_default().to_owned();
    ContainerAnnotations {
        hash: text(HASH)
            .and_then(|hash| u64::from_str_radix(hash, 16).ok())
            .unwrap_or(0),
        restart_count: text(RESTART_COUNT)
            .and_then(|count| count.parse().ok())
            .unwrap_or(0),
        deletion_grace_seconds: text(DELETION_GRACE).and_then(|seconds| seconds.parse().ok()),
        termination_grace_seconds: text(TERMINATION_GRACE).and_then(|seconds| seconds.parse().ok()),
        termination_message_path: owned(MESSAGE_PATH),
        termination_message_policy: owned(MESSAGE_POLICY),
        pre_stop: text(PRE_STOP).and_then(|json| serde_json::from_str(json).ok()),
        ports: text(PORTS)
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default(),
    }
}

/// JSON as Go's encoder writes it: `<`, `>`, `&` and two line separators are escaped, wherever they stand (only in strings).
fn go_json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value)
        .expect("maps with text keys and plain values always serialize");
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)))
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

fn none_or_empty(text: &Option<&str>) -> bool {
    text.is_none_or(str::is_empty)
}

/// A port with upstream's order of fields (the annotation's bytes depend on it).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GoPort<'a> {
    #[serde(skip_serializing_if = "none_or_empty")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_port: Option<i32>,
    container_port: i32,
    #[serde(skip_serializing_if = "none_or_empty")]
    protocol: Option<&'a str>,
    #[serde(rename = "hostIP", skip_serializing_if = "none_or_empty")]
    host_ip: Option<&'a str>,
}

impl<'a> From<&'a v1::ContainerPort> for GoPort<'a> {
    fn from(port: &'a v1::ContainerPort) -> Self {
        Self {
            name: port.name.as_deref(),
            host_port: port.host_port.filter(|number| *number != 0),
            container_port: port.container_port,
            protocol: port.protocol.as_deref(),
            host_ip: port.host_ip.as_deref(),
        }
    }
}

/// A lifecycle handler with upstream's order of fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GoHandler<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exec: Option<GoExec<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_get: Option<GoHttpGet<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_socket: Option<GoTcpSocket<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sleep: Option<GoSleep>,
}

#[derive(Serialize)]
struct GoExec<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    command: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GoHttpGet<'a> {
    #[serde(skip_serializing_if = "none_or_empty")]
    path: Option<&'a str>,
    port: &'a IntOrString,
    #[serde(skip_serializing_if = "none_or_empty")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "none_or_empty")]
    scheme: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    http_headers: Vec<GoHeader<'a>>,
}

#[derive(Serialize)]
struct GoHeader<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct GoTcpSocket<'a> {
    port: &'a IntOrString,
    #[serde(skip_serializing_if = "none_or_empty")]
    host: Option<&'a str>,
}

#[derive(Serialize)]
struct GoSleep {
    seconds: i64,
}

impl<'a> From<&'a v1::LifecycleHandler> for GoHandler<'a> {
    fn from(handler: &'a v1::LifecycleHandler) -> Self {
        let header = |header: &'a v1::HTTPHeader| GoHeader {
            name: &header.name,
            value: &header.value,
        };
        Self {
            exec: handler.exec.as_ref().map(|exec| GoExec {
                command: exec.command.as_deref().unwrap_or_default(),
            }),
            http_get: handler.http_get.as_ref().map(|get| GoHttpGet {
                path: get.path.as_deref(),
                port: &get.port,
                host: get.host.as_deref(),
                scheme: get.scheme.as_deref(),
                http_headers: get.http_headers.iter().flatten().map(header).collect(),
            }),
            tcp_socket: handler.tcp_socket.as_ref().map(|socket| GoTcpSocket {
                port: &socket.port,
                host: socket.host.as_deref(),
            }),
            sleep: handler.sleep.as_ref().map(|sleep| GoSleep {
                seconds: sleep.seconds,
            }),
        }
    }
}
