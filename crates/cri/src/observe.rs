//! Converts CRI status messages into observed sandboxes and containers.
//!
//! In:    `PodSandboxStatus`, `ContainerStatus` with its verbose information
//! Out:   `ObservedSandbox`, `ObservedContainer`
//! Calls: act/observe/pleg.rs
//! Holds: nothing is guessed: a field that the runtime does not report is absent
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_sandbox.go, kuberuntime_container.go (toKubeContainerStatus)

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubelet_api::runtime::v1 as cri;
use kubelet_model::ids::{ContainerId, SandboxId};
use kubelet_model::observed::{
    ContainerState, Exit, ObservedContainer, ObservedSandbox, SandboxState, pre_stop_of,
};
use serde::Deserialize;

/// A container's status with data that is not part of the observed container.
#[derive(Clone, Debug)]
pub struct ContainerDetail {
    /// The container.
    pub container: ObservedContainer,
    /// Whether the termination message falls back to the log (`FallbackToLogsOnError`).
    pub message_from_logs: bool,
}

/// An inspected sandbox.
pub fn sandbox_of_status(status: &cri::PodSandboxStatus) -> ObservedSandbox {
    let network = status
        .linux
        .as_ref()
        .and_then(|l| l.namespaces.as_ref())
        .and_then(|n| n.options.as_ref());
    let host_network = network.is_some_and(|o| o.network == cri::NamespaceMode::Node as i32);
    let mut ips = Vec::new();
    if let Some(network) = &status.network {
        let extra = network.additional_ips.iter().map(|ip| ip.ip.as_str());
        ips.extend(
            std::iter::once(network.ip.as_str())
                .chain(extra)
                .filter(|ip| !ip.is_empty())
                .map(str::to_owned),
        );
    }
    ObservedSandbox {
        id: SandboxId::from(status.id.as_str()),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        state: if status.state == cri::PodSandboxState::SandboxReady as i32 {
            SandboxState::Ready
        } else {
            SandboxState::NotReady
        },
        created_at: nanos(status.created_at),
        ips: Some(ips),
        host_network,
    }
}

/// An inspected container. `sandbox` comes from the verbose information, or from the argument if it is missing there.
pub fn container_of_status(
    status: &cri::ContainerStatus,
    info: &BTreeMap<String, String>,
    sandbox: Option<&SandboxId>,
) -> ContainerDetail {
    let verbose = info
        .get("info")
        .and_then(|text| serde_json::from_str::<VerboseInfo>(text).ok())
        .unwrap_or_default();
    let annotation = |key: &str| status.annotations.get(key).map(String::as_str);
    let metadata = status.metadata.clone().unwrap_or_default();
    let sandbox = verbose
        .sandbox_id
        .as_deref()
        .map(SandboxId::from)
        .or_else(|| sandbox.cloned());
    let message_path =
        annotation("io.kubernetes.container.terminationMessagePath").filter(|p| !p.is_empty());
    let message_host_path = message_path
        .and_then(|path| status.mounts.iter().find(|m| m.container_path == path))
        .map(|mount| mount.host_path.clone());
    let image = status.image.as_ref();
    let named = image.map(|i| {
        if i.user_specified_image.is_empty() {
            &i.image
        } else {
            &i.user_specified_image
        }
    });
    let state = container_state(status);
    let runs = matches!(state, ContainerState::Running { .. });
    let user = status.user.as_ref().and_then(|u| u.linux.as_ref());
    ContainerDetail {
        message_from_logs: annotation("io.kubernetes.container.terminationMessagePolicy")
            == Some("FallbackToLogsOnError"),
        container: ObservedContainer {
            id: ContainerId::from(status.id.as_str()),
            sandbox: sandbox.unwrap_or_else(|| SandboxId::from("")),
            restart_count: annotation("io.kubernetes.container.restartCount")
                .and_then(|text| text.parse().ok())
                .unwrap_or(metadata.attempt),
            name: metadata.name,
            attempt: metadata.attempt,
            state,
            created_at: nanos(status.created_at),
            image: named.cloned().unwrap_or_default(),
            image_ref: if status.image_ref.is_empty() {
                status.image_id.clone()
            } else {
                status.image_ref.clone()
            },
            hash: annotation("io.kubernetes.container.hash")
                .unwrap_or_default()
                .to_owned(),
            grace_seconds: annotation("io.kubernetes.pod.terminationGracePeriod")
                .and_then(|text| text.parse().ok()),
            log_path: status.log_path.clone(),
            termination_message_host_path: message_host_path,
            pre_stop: annotation("io.kubernetes.container.preStopHandler").and_then(|json| {
                let ports = annotation("io.kubernetes.container.ports").unwrap_or_default();
                pre_stop_of(json, ports)
            }),
            pid: verbose.pid.filter(|pid| runs && *pid > 0),
            stop_signal: stop_signal_of(status),
            user: user.map(|u| (u.uid, u.gid, u.supplemental_groups.clone())),
        },
    }
}

/// What a runtime that knows of no stop signals leaves out is not told.
fn stop_signal_of(status: &cri::ContainerStatus) -> Option<&'static str> {
    match status.stop_signal() {
        cri::Signal::RuntimeDefault => None,
        signal => Some(signal.as_str_name()),
    }
}

fn container_state(status: &cri::ContainerStatus) -> ContainerState {
    match cri::ContainerState::try_from(status.state) {
        Ok(cri::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(cri::ContainerState::ContainerRunning) => ContainerState::Running {
            started_at: nanos(status.started_at),
        },
        Ok(cri::ContainerState::ContainerExited) => ContainerState::Exited(Exit {
            started_at: nanos(status.started_at),
            finished_at: nanos(status.finished_at),
            code: status.exit_code,
            reason: status.reason.clone(),
            message: status.message.clone(),
        }),
        Ok(cri::ContainerState::ContainerUnknown) | Err(_) => ContainerState::Unknown,
    }
}

/// Nanoseconds since the epoch; an invalid value becomes the epoch.
fn nanos(since_epoch: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(since_epoch)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The two fields that are read from containerd's verbose information.
#[derive(Debug, Default, Deserialize)]
struct VerboseInfo {
    #[serde(rename = "sandboxID")]
    sandbox_id: Option<String>,
    pid: Option<u32>,
}
