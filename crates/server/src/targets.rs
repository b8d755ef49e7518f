//! Resolves the pod and container names of a request, among the reported pods and in the runtime.
//!
//! In:    the reported pods, names from a path
//! Out:   the pod, the container's spec, the ID of the container whose log is requested, the ID of the running container
//! Calls: `container_logs`, `streaming`
//! Holds: of two pods with one name, the running one is used; texts are upstream's
//! Upstream: pkg/kubelet/kubelet_pods.go (validateContainerLogStatus, findContainer) (1.36); differences: running containers
//!           are looked up by the pod's UID, not by its name, so a former pod of that name is never entered

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kubelet_api::runtime::v1 as cri;
use kubelet_cri::{Client, CriError};
use kubelet_model::reported::{ReportedPod, ReportedPods};

const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// The pod that the path names, and its container if the path has one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PodPath<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) uid: Option<&'a str>,
    pub(crate) container: &'a str,
}

/// The pod with this name.
pub(crate) fn find_pod(pods: &ReportedPods, namespace: &str, name: &str) -> Option<ReportedPod> {
    let named = |pod: &&ReportedPod| {
        let metadata = &pod.object.metadata;
        metadata.name.as_deref() == Some(name)
            && metadata.namespace.as_deref().unwrap_or_default() == namespace
    };
    let rank = |pod: &&ReportedPod| {
        let runs = statuses(&pod.status).any(is_running);
        (runs, pod.status.start_time.as_ref().map(|time| time.0))
    };
    pods.values().filter(named).max_by_key(rank).cloned()
}

/// Whether a container's spec has a terminal. `None` if the pod has no container of that name.
pub(crate) fn find_container(pod: &Pod, name: &str) -> Option<bool> {
    let spec = pod.spec.as_ref()?;
    let plain = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let plain = plain.map(|c| (&c.name, c.tty));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    plain
        .chain(ephemeral.map(|c| (&c.name, c.tty)))
        .find(|(found, _)| *found == name)
        .map(|(_, tty)| tty.unwrap_or(false))
}

/// `name_namespace`, as upstream's texts do.
pub(crate) fn full_name(pod: &Pod) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!(
        "{}_{}",
        part(&pod.metadata.name),
        part(&pod.metadata.namespace)
    )
}

/// All container statuses.
fn statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists.into_iter().flatten().flatten()
}

fn is_running(status: &ContainerStatus) -> bool {
    status
        .state
        .as_ref()
        .is_some_and(|state| state.running.is_some())
}

/// Whether a reported pod shows this container as running.
pub(crate) fn is_shown_running(pods: &ReportedPods, container: &str) -> bool {
    pods.values().any(|pod| {
        statuses(&pod.status).any(|status| {
            is_running(status) && status.container_id.as_deref().map(bare_id) == Some(container)
        })
    })
}

/// The part of `containerd://abc` after the scheme.
pub(crate) fn bare_id(id: &str) -> &str {
    id.split_once("://").map_or("", |(_, id)| id)
}

/// The ID, with its scheme, of the container whose log is requested.
///
/// # Errors
/// Upstream's text, which the client gets with status 400.
pub(crate) fn log_container(
    pod: &str,
    status: &PodStatus,
    name: &str,
    previous: bool,
) -> Result<String, String> {
    let quoted = format!("container {name:?} in pod {pod:?}");
    let Some(found) = statuses(status).find(|status| status.name == name) else {
        return Err(format!("{quoted} is not available"));
    };
    let id = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
    let last = found
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.as_ref());
    let last_id = last.and_then(|last| id(&last.container_id));
    if previous {
        return last_id.ok_or_else(|| format!("previous terminated {quoted} not found"));
    }
    let state = found.state.clone().unwrap_or_default();
    if state.running.is_some() {
        return Ok(found.container_id.clone().unwrap_or_default());
    }
    let terminated = || format!("{quoted} is terminated");
    if let Some(end) = &state.terminated {
        return id(&end.container_id).or(last_id).ok_or_else(terminated);
    }
    if last.is_some() {
        return last_id.ok_or_else(terminated);
    }
    let Some(waiting) = &state.waiting else {
        return Err(format!("{quoted} is waiting to start - no logs yet"));
    };
    let why = match waiting.reason.as_deref().unwrap_or_default() {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        other => other,
    };
    Err(format!("{quoted} is waiting to start: {why}"))
}

/// The ID of the running container with this name; the newest if there are several.
///
/// # Errors
/// The runtime's.
pub(crate) async fn running_container(
    runtime: &Client,
    pod: &Pod,
    name: &str,
) -> Result<Option<String>, CriError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let containers = runtime.list_containers(Some((POD_UID, uid))).await?;
    let running = containers.into_iter().filter(|container| {
        container.state() == cri::ContainerState::ContainerRunning
            && container.labels.get(CONTAINER_NAME).map(String::as_str) == Some(name)
    });
    Ok(running
        .max_by_key(|container| container.created_at)
        .map(|container| container.id))
}

/// The id of the pod's ready sandbox.
///
/// # Errors
/// The runtime's.
pub(crate) async fn ready_sandbox(runtime: &Client, pod: &Pod) -> Result<Option<String>, CriError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let sandboxes = runtime.list_pod_sandboxes(Some((POD_UID, uid))).await?;
    let ready = sandboxes
        .into_iter()
        .filter(|sandbox| sandbox.state() == cri::PodSandboxState::SandboxReady);
    Ok(ready
        .max_by_key(|sandbox| sandbox.created_at)
        .map(|sandbox| sandbox.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(value: serde_json::Value) -> PodStatus {
        serde_json::from_value(json!({"containerStatuses": [value]})).unwrap()
    }

    fn container(state: serde_json::Value, last: serde_json::Value) -> PodStatus {
        status(json!({
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "containerID": "containerd://now", "state": state, "lastState": last,
        }))
    }

    #[test]
    fn the_log_that_is_meant_follows_from_the_states() {
        let ended = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": id}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let running = json!({"running": {}});
        let none = json!({});
        let text = |what: &str| Err(what.replace("CP", "container \"c\" in pod \"p\""));
        let id = |id: &str| Ok(id.to_owned());
        for (state, last, previous, expected) in [
            (running.clone(), none.clone(), false, id("containerd://now")),
            (running.clone(), ended("old"), false, id("containerd://now")),
            (running.clone(), ended("old"), true, id("old")),
            (
                running.clone(),
                ended(""),
                true,
                text("previous terminated CP not found"),
            ),
            (
                running,
                none.clone(),
                true,
                text("previous terminated CP not found"),
            ),
            (ended("now"), ended("old"), false, id("now")),
            (ended(""), ended("old"), false, id("old")),
            (ended(""), none.clone(), false, text("CP is terminated")),
            (waiting("CrashLoopBackOff"), ended("old"), false, id("old")),
            (
                waiting("CrashLoopBackOff"),
                ended(""),
                false,
                text("CP is terminated"),
            ),
            (
                waiting("ErrImagePull"),
                none.clone(),
                false,
                text("CP is waiting to start: image can't be pulled"),
            ),
            (
                waiting("ImagePullBackOff"),
                none.clone(),
                false,
                text("CP is waiting to start: trying and failing to pull image"),
            ),
            (
                waiting("ContainerCreating"),
                none.clone(),
                false,
                text("CP is waiting to start: ContainerCreating"),
            ),
            (
                none.clone(),
                none,
                false,
                text("CP is waiting to start - no logs yet"),
            ),
        ] {
            let found = log_container("p", &container(state.clone(), last.clone()), "c", previous);
            assert_eq!(found, expected, "{state} {last} {previous}");
        }
        assert_eq!(
            log_container("p", &PodStatus::default(), "c", false),
            text("CP is not available")
        );
    }

    #[test]
    fn of_two_pods_with_one_name_the_running_one_is_meant() {
        let pod = |uid: &str, status: PodStatus| {
            let object = json!({"metadata": {"name": "p", "namespace": "n", "uid": uid}, "spec": {
                "containers": [{"name": "c", "tty": true}], "initContainers": [{"name": "i"}], "ephemeralContainers": [{"name": "e"}]}});
            let object: Pod = serde_json::from_value(object).unwrap();
            (
                kubelet_model::ids::PodUid::parse(uid).unwrap(),
                ReportedPod {
                    object: object.into(),
                    status: status.into(),
                    progress: kubelet_model::reported::Progress::Working,
                },
            )
        };
        let runs = container(json!({"running": {}}), json!({}));
        let pods: ReportedPods = [pod("a", runs), pod("b", PodStatus::default())].into();
        let found = find_pod(&pods, "n", "p").unwrap();
        assert_eq!(
            (
                found.object.metadata.uid.as_deref(),
                full_name(&found.object)
            ),
            (Some("a"), "p_n".to_owned())
        );
        assert!(find_pod(&pods, "n", "q").is_none() && find_pod(&pods, "m", "p").is_none());
        assert_eq!(
            ["c", "i", "e", "x"].map(|name| find_container(&found.object, name)),
            [Some(true), Some(false), Some(false), None]
        );
        assert!(
            is_shown_running(&pods, "now")
                && !is_shown_running(&pods, "old")
                && !is_shown_running(&pods, "")
        );
    }
}
