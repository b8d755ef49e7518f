//! A pod as its worker sees it, for tests: with nothing yet, or with a sandbox in which every container runs.
//!
//! In:    a pod, what is known of its objects
//! Out:   `PodView`s
//! Calls: tests of what decides on views
//! Upstream: none

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubelet_model::disk::{FileId, PodDirs};
use kubelet_model::ids::SandboxId;
use kubelet_model::node::RuntimeHandlers;
use kubelet_model::objects::PodObjects;
use kubelet_model::observed::{
    ContainerState, Moment, ObservedContainer, ObservedPod, ObservedSandbox, SandboxState,
};
use kubelet_model::pod::Pod;

use crate::lifecycle::Lifecycle;
use crate::testing::node;
use crate::view::{Desire, NetworkState, PodRecord, PodView, Prepared, ResolvedImage};
use crate::volumes::Mark;

/// Both directories of a pod are there.
pub(crate) const DIRS: PodDirs = PodDirs {
    pod: Some(FileId {
        device: 1,
        inode: 2,
    }),
    logs: Some(FileId {
        device: 1,
        inode: 3,
    }),
};

/// A pod with a sandbox whose containers run, or with nothing yet.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) pod: Pod,
    pub(crate) observed: ObservedPod,
    pub(crate) objects: PodObjects,
    pub(crate) prepared: Prepared,
    pub(crate) written: BTreeMap<String, Mark>,
    pub(crate) record: PodRecord,
    pub(crate) resolved: BTreeMap<String, ResolvedImage>,
    pub(crate) active_since: Option<Timestamp>,
    pub(crate) handlers: Option<RuntimeHandlers>,
    pub(crate) wall: Timestamp,
    pub(crate) life: Lifecycle,
}

impl Seen {
    pub(crate) fn new(pod: Pod, objects: PodObjects) -> Self {
        Self {
            observed: ObservedPod::absent(pod.uid.clone(), Moment::default()),
            pod,
            objects,
            prepared: Prepared::No,
            written: BTreeMap::new(),
            record: PodRecord::default(),
            resolved: BTreeMap::new(),
            active_since: None,
            handlers: None,
            wall: Timestamp::UNIX_EPOCH,
            life: Lifecycle::Syncing,
        }
    }

    pub(crate) fn running(mut self) -> Self {
        let created_at = Timestamp::UNIX_EPOCH;
        self.observed.sandboxes.push(ObservedSandbox {
            id: SandboxId::from("s"),
            attempt: 0,
            state: SandboxState::Ready,
            created_at,
            ips: Some(vec!["10.244.0.7".to_owned()]),
            host_network: false,
        });
        for spec in self.pod.containers() {
            let image = spec.image.as_deref().unwrap_or_default();
            self.observed.containers.push(ObservedContainer {
                id: spec.name.as_str().into(),
                sandbox: SandboxId::from("s"),
                name: spec.name.clone(),
                attempt: 0,
                restart_count: 0,
                state: ContainerState::Running {
                    started_at: created_at,
                },
                created_at,
                image: image.to_owned(),
                image_ref: String::new(),
                hash: format!("{:x}", crate::identity::container_hash(&spec.name, image)),
                grace_seconds: None,
                log_path: String::new(),
                termination_message_host_path: None,
                pid: None,
                user: None,
            });
        }
        self
    }

    pub(crate) fn see<T>(&self, of: impl FnOnce(&PodView<'_>) -> T) -> T {
        of(&PodView {
            pod: &self.pod,
            desire: &Desire::Run,
            lifecycle: &self.life,
            observed: &self.observed,
            dirs: Some(&DIRS),
            record: &self.record,
            resolved: &self.resolved,
            waiting: &BTreeMap::new(),
            held: &BTreeMap::new(),
            pod_waiting: None,
            prepared: self.prepared,
            written: &self.written,
            objects: &self.objects,
            retry_at: None,
            failures: 0,
            garbage_at: None,
            active_since: self.active_since,
            handlers: self.handlers.as_ref(),
            node: &node(),
            network: &NetworkState::Ready,
            now: Timestamp::UNIX_EPOCH,
            wall: self.wall,
        })
    }
}

/// An image named `i`, as it was made sure of.
pub(crate) fn image() -> ResolvedImage {
    ResolvedImage {
        wanted: "i".to_owned(),
        id: "sha256:1".to_owned(),
        uid: None,
        username: String::new(),
        env_files: None,
    }
}
