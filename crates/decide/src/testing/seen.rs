//! A pod as its worker sees it, for tests: with nothing yet, or with a sandbox in which every container runs.
//!
//! In:    a pod, what is known of its objects
//! Out:   `PodView`s
//! Calls: tests of what decides on views
//! Upstream: none

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_model::disk::{FileId, PodDirs};
use kubelet_model::ids::SandboxId;
use kubelet_model::objects::PodObjects;
use kubelet_model::observed::{
    ContainerState, Moment, ObservedContainer, ObservedPod, ObservedSandbox, SandboxState,
};
use kubelet_model::pod::Pod;

use crate::pod::container_start::image_of;
use crate::shapes::memory::PodMemory;
use crate::shapes::memory::Prepared;
use crate::shapes::outcome::ResolvedImage;
use crate::shapes::paths::volumes;
use crate::shapes::view::{Desire, NetworkState, Now, Order, PodInputs, PodView};
use crate::shapes::work::SetUp;
use crate::testing::node;

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

/// A pod with a sandbox whose containers run, or with nothing yet; both clocks show zero.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) pod: Pod,
    pub(crate) desire: Desire,
    pub(crate) observed: ObservedPod,
    pub(crate) memory: PodMemory,
    pub(crate) inputs: PodInputs,
    pub(crate) now: Now,
}

impl Seen {
    pub(crate) fn new(pod: Pod, objects: PodObjects) -> Self {
        let now = Now {
            steady: Timestamp::UNIX_EPOCH,
            wall: Timestamp::UNIX_EPOCH,
        };
        let order = Order {
            pod: Arc::new(pod.clone()),
            desire: Desire::Run,
        };
        let mut memory = PodMemory::taken_over(&order, None, now, |_| None);
        memory.dirs = Some(DIRS);
        Self {
            observed: ObservedPod::absent(pod.uid.clone(), Moment::default()),
            pod,
            desire: Desire::Run,
            memory,
            inputs: PodInputs {
                objects,
                handlers: None,
                network: NetworkState::Ready,
                probes: Arc::default(),
            },
            now,
        }
    }

    /// Its host side stands, and its images were made sure of.
    pub(crate) fn prepared(mut self) -> Self {
        self.memory.prepared = Prepared::Yes;
        for volume in volumes(&self.pod) {
            let stands = self.memory.volumes.entry(volume.name.clone()).or_default();
            stands.set_up = Some(SetUp::Directory);
        }
        for spec in self.pod.all_containers() {
            let attempt = self.memory.attempts.entry(spec.name.clone()).or_default();
            attempt.image = Some(image(spec));
        }
        self
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
                hash: format!(
                    "{:x}",
                    crate::sources::identity::container_hash(&spec.name, image)
                ),
                grace_seconds: None,
                log_path: String::new(),
                termination_message_host_path: None,
                pre_stop: None,
                pid: None,
                user: None,
                stop_signal: None,
            });
        }
        self
    }

    pub(crate) fn see<T>(&self, of: impl FnOnce(&PodView<'_>) -> T) -> T {
        of(&PodView {
            pod: &self.pod,
            desire: &self.desire,
            observed: &self.observed,
            memory: &self.memory,
            inputs: &self.inputs,
            node: &node(),
            now: self.now,
        })
    }
}

/// The image that a container names, as it was made sure of.
fn image(spec: &v1::Container) -> ResolvedImage {
    ResolvedImage {
        wanted: image_of(spec).to_owned(),
        id: "sha256:1".to_owned(),
        uid: None,
        username: String::new(),
        env_files: None,
    }
}
