//! Keeps the images of static pods at the API: one per static pod, none beyond.
//!
//! In:    reported pods (the static ones among them), the mirrors that the API holds, the node's identity, whether all sources spoke
//! Out:   creations and deletions at the API
//! Calls: one reconciler task, in a cluster only
//! Holds: `decide/mirror` decides; a step that fails is decided anew after a pause
//! Upstream: pkg/kubelet/pod/mirror_client.go, pkg/kubelet/kubelet.go (tryReconcileMirrorPods)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kubelet_cluster::pods::{PodAddress, PodSet};
use kubelet_cluster::{Client, ClusterError};
use kubelet_decide::mirror::{MirrorStep, MirrorView, NodeIdentity, mirror_steps};
use kubelet_model::ids::PodUid;
use kubelet_model::pod::{CONFIG_SOURCE_ANNOTATION, SourceKind};
use kubelet_model::reported::ReportedPods;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// After a step that failed.
const PAUSE: Duration = Duration::from_secs(2);

/// What the keeper listens to.
#[derive(Debug)]
pub struct MirrorInputs {
    /// What workers report.
    pub reported: watch::Receiver<ReportedPods>,
    /// What the API holds.
    pub held: watch::Receiver<Option<Arc<PodSet>>>,
    /// Name and UID of the node, once it is registered.
    pub node: watch::Receiver<Option<(String, String)>>,
    /// True once every source was seen.
    pub all_seen: watch::Receiver<bool>,
}

/// Static pods that have a worker, without their statuses: they change less often.
type Statics = BTreeMap<PodUid, Arc<v1::Pod>>;

/// Keeps them until the stop.
pub async fn keep(client: Client, mut inputs: MirrorInputs, stop: CancellationToken) {
    loop {
        let failed = {
            let steps = steps(&mut inputs);
            let mut failed = false;
            for step in steps {
                if let Err(error) = take(&client, step).await {
                    tracing::warn!(error = %error, "Mirror pod could not be brought in line; tried again");
                    failed = true;
                }
            }
            failed
        };
        let statics = statics(&inputs.reported.borrow());
        tokio::select! {
            // Every arm only says "look again".
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE), if failed => {}
            Ok(()) = inputs.held.changed() => {}
            Ok(()) = inputs.node.changed() => {}
            Ok(()) = inputs.all_seen.changed() => {}
            () = other_statics(&mut inputs.reported, &statics) => {}
            else => return,
        }
    }
}

/// Resolves when other static pods have workers. Cancel: it looks at the present, so it loses nothing.
async fn other_statics(reported: &mut watch::Receiver<ReportedPods>, known: &Statics) {
    let is_other = |now: &ReportedPods| {
        let now = statics(now);
        now.len() != known.len()
            || now
                .iter()
                .any(|(uid, pod)| known.get(uid).is_none_or(|old| !Arc::ptr_eq(old, pod)))
    };
    if reported.wait_for(is_other).await.is_err() {
        // Nobody reports any more: the process is stopping.
        std::future::pending::<()>().await;
    }
}

fn statics(reported: &ReportedPods) -> Statics {
    let is_static = |pod: &v1::Pod| {
        let annotations = pod.metadata.annotations.as_ref();
        let source = annotations.and_then(|all| all.get(CONFIG_SOURCE_ANNOTATION));
        source.is_some_and(|source| source != SourceKind::Api.as_str())
    };
    reported
        .iter()
        .filter(|(_, pod)| is_static(&pod.object))
        .map(|(uid, pod)| (uid.clone(), Arc::clone(&pod.object)))
        .collect()
}

fn steps(inputs: &mut MirrorInputs) -> Vec<MirrorStep> {
    let Some(held) = inputs.held.borrow_and_update().clone() else {
        return Vec::new();
    };
    let statics: Vec<Arc<v1::Pod>> = statics(&inputs.reported.borrow()).into_values().collect();
    let node = inputs.node.borrow_and_update().clone();
    mirror_steps(&MirrorView {
        statics: &statics,
        mirrors: &held.mirrors,
        node: node.as_ref().map(|(name, uid)| NodeIdentity { name, uid }),
        all_seen: *inputs.all_seen.borrow_and_update(),
    })
}

async fn take(client: &Client, step: MirrorStep) -> Result<(), ClusterError> {
    match step {
        MirrorStep::Delete {
            namespace,
            name,
            uid,
            why,
        } => {
            tracing::info!(namespace, name, uid, why, "Mirror pod is deleted");
            let address = PodAddress {
                namespace: &namespace,
                name: &name,
                uid: &uid,
            };
            client.delete_pod(address).await
        }
        MirrorStep::Create(pod) => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            tracing::info!(name, "Mirror pod is created");
            client.create_mirror(&pod).await.map(drop)
        }
    }
}
