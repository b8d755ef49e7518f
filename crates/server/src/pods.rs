//! Pods as `/pods` and `/runningpods/` show them: a `v1.PodList` in the shape that Go's encoder gives it.
//!
//! In:    the pods' snapshot, or what the runtime runs
//! Out:   JSON bytes
//! Calls: `lib`, per request; nothing is rendered when nobody asks
//! Holds: one pod's tree is in memory at a time; kind and apiVersion stand on the list only; managed fields are never shown
//! Upstream: pkg/kubelet/server/server.go encodePods (1.36); differences: keys inside a pod are sorted

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Map, Value, json};

/// A pod as the runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningPod {
    /// From the sandbox's labels.
    pub name: String,
    /// From the sandbox's labels.
    pub namespace: String,
    /// From the sandbox's labels.
    pub uid: String,
    /// Name and image of each running container.
    pub containers: Vec<(String, String)>,
}

/// The list of all known pods, in parts.
pub(crate) fn render_pods(
    pods: impl ExactSizeIterator<Item = (Arc<Pod>, Arc<PodStatus>)> + Send,
) -> impl Iterator<Item = serde_json::Result<Vec<u8>>> + Send {
    let count = pods.len();
    let pods = pods.enumerate().map(move |(index, (pod, status))| {
        let pod = parts_of(&pod, &status)?;
        let mut out = if index == 0 {
            HEAD.to_vec()
        } else {
            Vec::new()
        };
        render_pod(&mut out, index, pod)?;
        if index + 1 == count {
            out.extend_from_slice(b"]}\n");
        }
        Ok(out)
    });
    let none = (count == 0).then(|| Ok([HEAD, EMPTY].concat()));
    pods.chain(none)
}

fn parts_of(pod: &Pod, status: &PodStatus) -> Parts {
    let mut metadata = serde_json::to_value(&pod.metadata)?;
    let mut spec = serde_json::to_value(&pod.spec)?;
    let mut status = serde_json::to_value(status)?;
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("managedFields");
    }
    complete_spec(&mut spec);
    complete_status(&mut status);
    Ok((metadata, spec, status))
}

/// The list of what the runtime runs.
pub(crate) fn render_running_pods(pods: &[RunningPod]) -> Result<Vec<u8>, serde_json::Error> {
    render(pods.iter().map(|pod| {
        let metadata = json!({"name": pod.name, "namespace": pod.namespace, "uid": pod.uid});
        let containers = pod
            .containers
            .iter()
            .map(|(name, image)| json!({"name": name, "image": image}));
        let mut spec = json!({"containers": containers.collect::<Vec<_>>()});
        complete_spec(&mut spec);
        Ok((metadata, spec, json!({})))
    }))
}

type Parts = Result<(Value, Value, Value), serde_json::Error>;

const HEAD: &[u8] = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":"#;
/// A list that was never filled is null in Go.
const EMPTY: &[u8] = b"null}\n";

fn render(pods: impl Iterator<Item = Parts>) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = HEAD.to_vec();
    let mut count = 0_usize;
    for parts in pods {
        render_pod(&mut out, count, parts?)?;
        count += 1;
    }
    out.extend_from_slice(if count == 0 { EMPTY } else { b"]}\n" });
    Ok(out)
}

fn render_pod(
    out: &mut Vec<u8>,
    index: usize,
    (metadata, spec, status): (Value, Value, Value),
) -> Result<(), serde_json::Error> {
    out.extend_from_slice(if index == 0 { b"[" } else { b"," });
    for (key, part) in [
        ("{\"metadata\":", metadata),
        (",\"spec\":", spec),
        (",\"status\":", status),
    ] {
        out.extend_from_slice(key.as_bytes());
        serde_json::to_writer(&mut *out, &part)?;
    }
    out.push(b'}');
    Ok(())
}

/// Go prints structures that are not pointers even when they are empty.
fn complete_spec(spec: &mut Value) {
    if !spec.is_object() {
        *spec = json!({"containers": null});
    }
    if spec["containers"].as_array().is_some_and(Vec::is_empty) {
        spec["containers"] = Value::Null;
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in objects(spec, list) {
            container.entry("resources").or_insert_with(|| json!({}));
        }
    }
}

fn complete_status(status: &mut Value) {
    if !status.is_object() {
        *status = json!({});
    }
    for condition in objects(status, "conditions") {
        condition.entry("lastProbeTime").or_insert(Value::Null);
        condition.entry("lastTransitionTime").or_insert(Value::Null);
    }
    for list in [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ] {
        for container in objects(status, list) {
            for state in ["state", "lastState"] {
                let state = container.entry(state).or_insert_with(|| json!({}));
                for (kind, times) in [
                    ("running", &["startedAt"][..]),
                    ("terminated", &["startedAt", "finishedAt"]),
                ] {
                    let Some(kind) = state.get_mut(kind).and_then(Value::as_object_mut) else {
                        continue;
                    };
                    for time in times {
                        kind.entry(*time).or_insert(Value::Null);
                    }
                }
            }
        }
    }
}

fn objects<'a>(
    parent: &'a mut Value,
    list: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    parent
        .get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(pods: Vec<Pod>) -> Vec<u8> {
        let pods = pods.into_iter().map(|pod| {
            let status = Arc::new(pod.status.clone().unwrap_or_default());
            (Arc::new(pod), status)
        });
        let parts: Vec<Vec<u8>> = render_pods(pods).map(Result::unwrap).collect();
        parts.concat()
    }

    fn recorded(file: &str) -> Value {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../parity")
            .join(file);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn recorded_pods_come_out_as_they_went_in() {
        let list = recorded("pods.json");
        let items = list["items"].as_array().unwrap();
        let pods: Vec<Pod> = items
            .iter()
            .map(|pod| serde_json::from_value(pod.clone()).unwrap())
            .collect();
        let shown: Value = serde_json::from_slice(&rendered(pods)).unwrap();
        for (shown, recorded) in shown["items"].as_array().unwrap().iter().zip(items) {
            assert_eq!(shown, recorded);
        }
        assert_eq!(shown, list);
    }

    #[test]
    fn recorded_running_pods_come_out_as_they_went_in() {
        let list = recorded("runningpods.json");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let pods = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| RunningPod {
                name: text(&pod["metadata"]["name"]),
                namespace: text(&pod["metadata"]["namespace"]),
                uid: text(&pod["metadata"]["uid"]),
                containers: pod["spec"]["containers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|c| (text(&c["name"]), text(&c["image"])))
                    .collect(),
            });
        let shown = render_running_pods(&pods.collect::<Vec<_>>()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&shown).unwrap(), list);
    }

    #[test]
    fn no_pods_are_null_and_an_empty_pod_keeps_gos_empty_structures() {
        let start = r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":"#;
        assert_eq!(
            String::from_utf8(rendered(Vec::new())).unwrap(),
            format!("{start}null}}\n")
        );
        let mut pod = Pod::default();
        pod.metadata.managed_fields = Some(vec![
            k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry::default(),
        ]);
        let shown = String::from_utf8(rendered(vec![pod])).unwrap();
        assert_eq!(
            shown,
            format!(
                "{start}[{{\"metadata\":{{}},\"spec\":{{\"containers\":null}},\"status\":{{}}}}]}}\n"
            )
        );
    }
}
