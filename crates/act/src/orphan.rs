//! A pod that only the runtime or the disk knows, as far as it can be known.
//!
//! In:    UID, names from labels
//! Out:   a `Pod` without containers, enough to stop it and clean up behind it
//! Calls: sync_loop
//! Upstream: pkg/kubelet/pod_workers.go (runtime-only pods)

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kubelet_model::ids::{PodFullName, PodUid};
use kubelet_model::pod::{Pod, SourceKind};

/// The pod of this UID; empty names get a name of their own, so that they never stand in another pod's way.
pub fn orphan_pod(uid: &PodUid, namespace: &str, name: &str) -> Pod {
    let name = if name.is_empty() {
        format!("orphan-{uid}")
    } else {
        name.to_owned()
    };
    let mut object = v1::Pod::default();
    object.metadata.uid = Some(uid.to_string());
    object.metadata.name = Some(name.clone());
    object.metadata.namespace = Some(namespace.to_owned());
    object.spec = Some(v1::PodSpec::default());
    Pod {
        uid: uid.clone(),
        full_name: PodFullName {
            namespace: Arc::from(namespace),
            name: Arc::from(name),
        },
        source: SourceKind::File,
        object: Arc::new(object),
        unbuilt: Arc::from([]),
    }
}
