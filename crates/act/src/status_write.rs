//! Step 10 in a cluster: brings what workers report to the API, and takes the object away when its pod has gone.
//!
//! In:    reported pods; the sets that the API server holds for this node
//! Out:   status patches and deletions, each with the UID it means
//! Calls: one core task, in a cluster only
//! Holds: one call in flight per pod, the latest status wins; nothing is sent that the API has; a failure waits and is tried again;
//!        nothing waits for an answer but the next call about the same pod
//! Upstream: pkg/kubelet/status/status_manager.go (syncBatch, syncPod, 1.36)

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1;
use kubelet_cluster::pods::{PodAddress, PodSet};
use kubelet_cluster::{Client, ClusterError};
use kubelet_decide::status_write::{StatusWrite, StatusWriteView, status_write};
use kubelet_model::ids::PodUid;
use kubelet_model::pod::CONFIG_MIRROR_ANNOTATION;
use kubelet_model::reported::{ReportedPod, ReportedPods};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::status::Progress;

/// Calls in flight, over all pods.
const WIDTH: usize = 16;
/// After the first failure of a pod's call; doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// What is on its way when the process stops has this long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the writer listens to.
#[derive(Debug)]
pub struct StatusInputs {
    /// What workers report.
    pub reported: watch::Receiver<ReportedPods>,
    /// What the API holds.
    pub held: watch::Receiver<Option<Arc<PodSet>>>,
}

/// The writer.
pub struct StatusWriter {
    client: Client,
    inputs: StatusInputs,
    slots: BTreeMap<PodUid, Slot>,
}

impl std::fmt::Debug for StatusWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusWriter")
            .field("pods", &self.slots.len())
            .finish_non_exhaustive()
    }
}

/// What is known of the calls about one pod.
#[derive(Debug, Default)]
struct Slot {
    is_busy: bool,
    /// The object as the last call answered, until the watch shows one that is as new.
    answered: Option<Arc<v1::Pod>>,
    /// Decided on these two: nothing to do until one of them changes.
    settled: Option<(Arc<v1::Pod>, Arc<v1::PodStatus>, Progress)>,
    failures: u32,
    retry_at: Option<Instant>,
}

/// A call that came back.
struct Landed {
    uid: PodUid,
    /// The object's version before it.
    before: Option<u64>,
    result: Result<Option<v1::Pod>, ClusterError>,
}

type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

impl StatusWriter {
    /// A writer that has written nothing yet.
    pub fn new(client: Client, inputs: StatusInputs) -> Self {
        Self {
            client,
            inputs,
            slots: BTreeMap::new(),
        }
    }

    /// Runs until the stop, and a little longer for what is not written yet.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut flights: FuturesUnordered<Flight> = FuturesUnordered::new();
        loop {
            let retry_at = self.start_calls(&flights);
            tokio::select! {
                // Answers make room for calls, so they go first; every other arm only says "look again" and loses nothing.
                biased;
                () = stop.cancelled() => break,
                Some(landed) = flights.next() => self.land(landed),
                Ok(()) = self.inputs.reported.changed() => {}
                Ok(()) = self.inputs.held.changed() => {}
                () = tokio::time::sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {}
                else => break,
            }
        }
        let last_words = async {
            loop {
                self.start_calls(&flights);
                match flights.next().await {
                    Some(landed) => self.land(landed),
                    None => return,
                }
            }
        };
        if tokio::time::timeout(LAST_WORDS, last_words).await.is_err() {
            tracing::warn!("Not every pod status could be written before the stop");
        }
    }

    /// Begins what is to be done, as far as there is room; when to look again for what failed.
    fn start_calls(&mut self, flights: &FuturesUnordered<Flight>) -> Option<Instant> {
        let reported = self.inputs.reported.borrow_and_update().clone();
        let held = self.inputs.held.borrow_and_update().clone()?;
        self.slots
            .retain(|uid, slot| slot.is_busy || reported.contains_key(uid));
        let objects = Objects::of(&held);
        let now = Instant::now();
        let mut retry_at: Option<Instant> = None;
        for (uid, pod) in &reported {
            let slot = self.slots.entry(uid.clone()).or_default();
            if slot.is_busy {
                continue;
            }
            if let Some(at) = slot.retry_at.filter(|at| *at > now) {
                retry_at = Some(retry_at.map_or(at, |other| other.min(at)));
                continue;
            }
            let Some(object) = objects.for_pod(uid, pod) else {
                continue;
            };
            let object = slot.newest(object);
            if slot.is_settled(&object, pod) {
                continue;
            }
            let view = StatusWriteView {
                held: &object,
                reported: &pod.status,
                progress: pod.progress,
            };
            match status_write(&view) {
                StatusWrite::Nothing => {
                    slot.settled = Some((object, Arc::clone(&pod.status), pod.progress));
                }
                _ if flights.len() >= WIDTH => break,
                write => {
                    slot.is_busy = true;
                    flights.push(call(self.client.clone(), uid.clone(), object, write));
                }
            }
        }
        retry_at
    }

    fn land(&mut self, landed: Landed) {
        let Some(slot) = self.slots.get_mut(&landed.uid) else {
            return;
        };
        slot.is_busy = false;
        match landed.result {
            Ok(object) => {
                // A write that changed nothing would be decided again and again: somebody else has a hand in it.
                let is_futile = object.is_some() && version(object.as_ref()) == landed.before;
                if is_futile {
                    tracing::warn!(uid = %landed.uid, "A status was written and the object is as it was before");
                }
                slot.retry_at = is_futile.then(|| Instant::now() + LONGEST_RETRY);
                slot.answered = object.map(Arc::new);
                slot.failures = 0;
            }
            Err(error) => {
                // Gone, or another of the name by now: the watch will tell.
                let is_other = error.is_not_found() || error.is_conflict();
                if !is_other {
                    tracing::warn!(uid = %landed.uid, error = %error, "Status could not be written; tried again");
                }
                let pause = FIRST_RETRY * 2_u32.pow(slot.failures.min(4));
                let pause = error.retry_after().unwrap_or(pause).min(LONGEST_RETRY);
                slot.failures = slot.failures.saturating_add(1);
                slot.retry_at = Some(Instant::now() + pause);
            }
        }
    }
}

impl Slot {
    /// Of the object that the watch shows and the one that the last call answered, the newer.
    fn newest(&mut self, shown: &Arc<v1::Pod>) -> Arc<v1::Pod> {
        match &self.answered {
            Some(answered) if version(Some(answered)) > version(Some(shown)) => {
                Arc::clone(answered)
            }
            Some(_) | None => {
                self.answered = None;
                Arc::clone(shown)
            }
        }
    }

    fn is_settled(&self, object: &Arc<v1::Pod>, pod: &ReportedPod) -> bool {
        self.settled
            .as_ref()
            .is_some_and(|(held, status, progress)| {
                Arc::ptr_eq(held, object)
                    && Arc::ptr_eq(status, &pod.status)
                    && *progress == pod.progress
            })
    }
}

/// An object's version, where it is a number, as those of every known server are.
fn version(pod: Option<&v1::Pod>) -> Option<u64> {
    pod?.metadata.resource_version.as_deref()?.parse().ok()
}

/// What the API holds, by what it stands for.
struct Objects<'a> {
    pods: BTreeMap<&'a str, &'a Arc<v1::Pod>>,
    /// By the hash of the static pod, which is its UID here.
    mirrors: BTreeMap<&'a str, &'a Arc<v1::Pod>>,
}

impl<'a> Objects<'a> {
    fn of(held: &'a PodSet) -> Self {
        let mirror = |pod: &'a Arc<v1::Pod>| {
            let annotations = pod.metadata.annotations.as_ref()?;
            Some((annotations.get(CONFIG_MIRROR_ANNOTATION)?.as_str(), pod))
        };
        Self {
            pods: held
                .pods
                .iter()
                .map(|pod| (pod.uid.as_str(), &pod.object))
                .collect(),
            mirrors: held.mirrors.iter().filter_map(mirror).collect(),
        }
    }

    /// The object whose status a pod's is: its own, or its mirror's, of the same name and namespace.
    fn for_pod(&self, uid: &PodUid, pod: &ReportedPod) -> Option<&'a Arc<v1::Pod>> {
        let own = self.pods.get(uid.as_str()).copied();
        own.or_else(|| {
            let mirror = *self.mirrors.get(uid.as_str())?;
            let is_named = mirror.metadata.name == pod.object.metadata.name
                && mirror.metadata.namespace == pod.object.metadata.namespace;
            is_named.then_some(mirror)
        })
    }
}

fn call(client: Client, uid: PodUid, object: Arc<v1::Pod>, write: StatusWrite) -> Flight {
    Box::pin(async move {
        let metadata = &object.metadata;
        let address = PodAddress {
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
            uid: metadata.uid.as_deref().unwrap_or_default(),
        };
        let result = match write {
            StatusWrite::Nothing => Ok(None),
            StatusWrite::Patch(status) => {
                tracing::debug!(pod = address.name, namespace = address.namespace, uid = %uid, status = %status, "Status is written");
                client.write_pod_status(address, &status).await.map(Some)
            }
            StatusWrite::Delete => {
                tracing::info!(pod = address.name, namespace = address.namespace, uid = %uid, "Pod is gone from this node; its object is deleted");
                client.delete_pod(address).await.map(|()| None)
            }
        };
        Landed {
            uid,
            before: version(Some(&object)),
            result,
        }
    })
}
