//! The pod lists of `/pods` and `/runningpods/`: a `v1.PodList` in the form of Go's encoder.
//!
//! In:    the snapshot of the pods, or the running pods from the runtime
//! Out:   JSON bytes
//! Calls: `answer`, per request; without requests nothing is rendered
//! Holds: each rendering has one pod's JSON tree in memory at a time; only the list has kind and apiVersion; managed fields are
//!        never shown
//! Upstream: pkg/kubelet/server/server.go encodePods (1.36); differences: keys inside a pod are sorted

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};
use futures_util::stream::{self, Stream};
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kubelet_model::reported::ReportedPods;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::renderings::{Failed, Turns};

/// A running pod, as the runtime reports it.
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

/// The size of a part of a list; a pod is never split.
const PART: usize = 64 << 10;

/// The pods at one time. Concurrent requests share the list and its rendered parts.
#[derive(Debug)]
pub(crate) struct List {
    pods: Vec<(Arc<Pod>, Arc<PodStatus>)>,
    /// By the index of the first pod.
    parts: Mutex<BTreeMap<usize, Known>>,
}

/// A part that a request holds or waits for.
#[derive(Debug, Default)]
struct Known {
    part: Weak<Part>,
    coming: Option<WeakShared<BoxFuture<'static, Rendered>>>,
}

/// A rendered range of pods.
#[derive(Debug)]
pub(crate) struct Part {
    bytes: Vec<u8>,
    /// The index of the first pod after it.
    next: usize,
}

type Rendered = Result<Arc<Part>, Failed>;

/// The bytes of a part, which keep the part alive.
struct Shown(Arc<Part>);

impl AsRef<[u8]> for Shown {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Part {
    pub(crate) fn bytes(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Shown(Arc::clone(self)))
    }
}

impl List {
    fn new(pods: Vec<(Arc<Pod>, Arc<PodStatus>)>) -> Self {
        let parts = Mutex::default();
        Self { pods, parts }
    }

    /// Whether a part is the list's last.
    pub(crate) fn ends_with(&self, part: &Part) -> bool {
        part.next >= self.pods.len()
    }

    /// The part that starts at a pod. It is rendered when its turn comes, unless another request holds it or waits for it.
    pub(crate) async fn part(self: &Arc<Self>, from: usize, turns: &Turns) -> Rendered {
        let coming = {
            let mut parts = self.lock();
            let known = parts.entry(from).or_default();
            if let Some(part) = known.part.upgrade() {
                return Ok(part);
            }
            let same = known.coming.as_ref().and_then(WeakShared::upgrade);
            same.unwrap_or_else(|| {
                let list = Arc::clone(self);
                let coming = list.rendered(from, turns.clone()).boxed().shared();
                known.coming = coming.downgrade();
                coming
            })
        };
        coming.await
    }

    async fn rendered(self: Arc<Self>, from: usize, turns: Turns) -> Rendered {
        let turn = turns.take().await?;
        let list = Arc::clone(&self);
        let part = Turns::render(turn, move || {
            list.render(from).map(Arc::new).map_err(Failed::internal)
        });
        let part = part.await?;
        self.lock().entry(from).or_default().part = Arc::downgrade(&part);
        Ok(part)
    }

    /// The parts after the first one; each is rendered when the client reads it.
    pub(crate) fn rest(
        self: Arc<Self>,
        first: Arc<Part>,
        turns: Turns,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        let state = (self, turns, 0, Some(first));
        stream::try_unfold(state, async |(list, turns, from, first)| {
            let part = match first {
                Some(first) => first,
                None if from >= list.pods.len() => return Ok(None),
                None => {
                    let part = list.part(from, &turns).await;
                    part.map_err(|failed| std::io::Error::other(&*failed.text))?
                }
            };
            Ok(Some((part.bytes(), (list, turns, part.next, None))))
        })
    }

    fn render(&self, from: usize) -> Result<Part, serde_json::Error> {
        let mut bytes = if from == 0 { HEAD.to_vec() } else { Vec::new() };
        let mut next = from;
        for (pod, status) in self.pods.iter().skip(from) {
            render_pod(&mut bytes, next, parts_of(pod, status)?)?;
            next += 1;
            if bytes.len() >= PART {
                break;
            }
        }
        if self.pods.is_empty() {
            bytes.extend_from_slice(EMPTY);
        } else if next == self.pods.len() {
            bytes.extend_from_slice(b"]}\n");
        }
        Ok(Part { bytes, next })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Known>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The current list. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lists(Arc<Mutex<Latest>>);

#[derive(Debug)]
struct Latest {
    pods: watch::Receiver<ReportedPods>,
    /// Dropped with its last reader.
    list: Weak<List>,
}

impl Lists {
    pub(crate) fn new(pods: watch::Receiver<ReportedPods>) -> Self {
        let list = Weak::new();
        Self(Arc::new(Mutex::new(Latest { pods, list })))
    }

    pub(crate) fn latest(&self) -> Arc<List> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = latest.pods.has_changed().is_ok_and(|changed| !changed);
        if let Some(list) = latest.list.upgrade().filter(|_| is_same) {
            return list;
        }
        let list = {
            let pods = latest.pods.borrow_and_update();
            let pods = pods.values();
            let pods = pods.map(|pod| (Arc::clone(&pod.object), Arc::clone(&pod.status)));
            Arc::new(List::new(pods.collect()))
        };
        latest.list = Arc::downgrade(&list);
        list
    }
}

fn parts_of(pod: &Pod, status: &PodStatus) -> PodJson {
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

/// The list of running pods.
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

type PodJson = Result<(Value, Value, Value), serde_json::Error>;

const HEAD: &[u8] = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":"#;
/// Go encodes a nil list as null.
const EMPTY: &[u8] = b"null}\n";

fn render(pods: impl Iterator<Item = PodJson>) -> Result<Vec<u8>, serde_json::Error> {
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

/// Go encodes structs that are not pointers even when they are empty.
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
        let list = List::new(pods.collect());
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let part = list.render(from).unwrap();
            from = part.next;
            all.extend_from_slice(&part.bytes);
            if list.ends_with(&part) {
                return all;
            }
        }
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
