//! One inspection of one pod: only the parts that were requested, and one call for each thing there is.
//!
//! In:    scope, the observation before
//! Out:   the pod as it is now
//! Calls: pleg
//! Holds: what the runtime reports as not found is left out; after a partial inspection the other parts stay as they were seen
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go (GetPodStatus)

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use kubelet_api::runtime::v1::PodSandboxMetadata;
use kubelet_cri::{Client, CriError, container_of_status, sandbox_of_status};
use kubelet_decide::observe::pleg::POD_UID_LABEL;
use kubelet_model::ids::{ContainerId, PodUid, SandboxId};
use kubelet_model::observed::{ContainerState, ObservedContainer, ObservedPod, ObservedSandbox};

use crate::frame::clock::Clock;
use crate::observe::termination_message::{MessagePlaces, MessageReader};

/// How much of a pod to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// List what there is of it, inspect all.
    Whole,
    /// Inspect these.
    Parts {
        /// Sandboxes.
        sandboxes: BTreeSet<SandboxId>,
        /// Containers.
        containers: BTreeSet<ContainerId>,
    },
}

impl Scope {
    /// The empty look.
    pub fn nothing() -> Self {
        Self::Parts {
            sandboxes: BTreeSet::new(),
            containers: BTreeSet::new(),
        }
    }

    /// One container.
    pub fn container(id: ContainerId) -> Self {
        Self::Parts {
            sandboxes: BTreeSet::new(),
            containers: [id].into(),
        }
    }

    /// One sandbox.
    pub fn sandbox(id: SandboxId) -> Self {
        Self::Parts {
            sandboxes: [id].into(),
            containers: BTreeSet::new(),
        }
    }

    /// Makes this look see what the other sees, too.
    pub fn join(&mut self, other: Self) {
        match (self, other) {
            (Self::Whole, _) => {}
            (this @ Self::Parts { .. }, Self::Whole) => *this = Self::Whole,
            (
                Self::Parts {
                    sandboxes,
                    containers,
                },
                Self::Parts {
                    sandboxes: more,
                    containers: others,
                },
            ) => {
                sandboxes.extend(more);
                containers.extend(others);
            }
        }
    }
}

/// A finished look.
#[derive(Debug)]
pub struct Looked {
    /// The pod as seen.
    pub pod: ObservedPod,
}

/// Looks at a pod.
pub async fn look(
    cri: &Client,
    clock: Clock,
    messages: &MessageReader,
    uid: &PodUid,
    scope: Scope,
    before: Option<Arc<ObservedPod>>,
) -> Result<Looked, CriError> {
    let observed_at = clock.moment();
    let mut pod = before.map_or_else(
        || ObservedPod::absent(uid.clone(), observed_at),
        |p| (*p).clone(),
    );
    pod.observed_at = observed_at;
    let (sandboxes, containers) = match scope {
        Scope::Parts {
            sandboxes,
            containers,
        } => (sandboxes, containers),
        Scope::Whole => list(cri, uid, &mut pod).await?,
    };
    let inspected: Result<Vec<_>, _> =
        join_all(sandboxes.into_iter().map(|id| inspect_sandbox(cri, id)))
            .await
            .into_iter()
            .collect();
    for (id, seen) in inspected? {
        pod.sandboxes.retain(|s| s.id != id);
        let Some((sandbox, names)) = seen else {
            continue;
        };
        pod.sandboxes.push(sandbox);
        // A pod that was never listed has its name from here.
        if let Some(metadata) = names {
            (pod.namespace, pod.name) = (metadata.namespace, metadata.name);
        }
    }
    let inspections = containers.into_iter().map(|id| {
        let before = pod.containers.iter().find(|c| c.id == id).cloned();
        let sandbox = pod.sandboxes.first().map(|s| s.id.clone());
        inspect_container(cri, messages, uid, id, (before, sandbox))
    });
    let inspected: Result<Vec<_>, _> = join_all(inspections).await.into_iter().collect();
    for (id, seen) in inspected? {
        pod.containers.retain(|c| c.id != id);
        pod.containers.extend(seen);
    }
    pod.sort();
    // They are kept for as long as the pod is there.
    pod.sandboxes.shrink_to_fit();
    pod.containers.shrink_to_fit();
    Ok(Looked { pod })
}

/// Lists the pod's things, drops what is not listed, and says what must be inspected: not exits that were seen before.
async fn list(
    cri: &Client,
    uid: &PodUid,
    pod: &mut ObservedPod,
) -> Result<(BTreeSet<SandboxId>, BTreeSet<ContainerId>), CriError> {
    let label = Some((POD_UID_LABEL, uid.as_str()));
    let sandboxes = cri.list_pod_sandboxes(label).await?;
    let containers = cri.list_containers(label).await?;
    if let Some(metadata) = sandboxes.iter().find_map(|s| s.metadata.as_ref()) {
        pod.namespace.clone_from(&metadata.namespace);
        pod.name.clone_from(&metadata.name);
    } else if let Some(labels) = containers.first().map(|c| &c.labels) {
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        pod.namespace = label("io.kubernetes.pod.namespace");
        pod.name = label("io.kubernetes.pod.name");
    }
    pod.sandboxes
        .retain(|s| sandboxes.iter().any(|l| l.id == s.id.as_str()));
    pod.containers
        .retain(|c| containers.iter().any(|l| l.id == c.id.as_str()));
    let seen_ended = |id: &str| {
        pod.containers
            .iter()
            .any(|c| c.id.as_str() == id && c.state.exit().is_some())
    };
    let containers = containers
        .iter()
        .filter(|c| !seen_ended(&c.id))
        .map(|c| ContainerId::from(c.id.as_str()));
    Ok((
        sandboxes
            .iter()
            .map(|s| SandboxId::from(s.id.as_str()))
            .collect(),
        containers.collect(),
    ))
}

/// A sandbox, and the names of its pod.
type SeenSandbox = (ObservedSandbox, Option<PodSandboxMetadata>);

async fn inspect_sandbox(
    cri: &Client,
    id: SandboxId,
) -> Result<(SandboxId, Option<SeenSandbox>), CriError> {
    match cri.pod_sandbox_status(id.as_str()).await {
        Ok(status) => Ok((id, Some((sandbox_of_status(&status), status.metadata)))),
        Err(error) if error.is_not_found() => Ok((id, None)),
        Err(error) => Err(error),
    }
}

async fn inspect_container(
    cri: &Client,
    messages: &MessageReader,
    uid: &PodUid,
    id: ContainerId,
    (before, sandbox): (Option<ObservedContainer>, Option<SandboxId>),
) -> Result<(ContainerId, Option<ObservedContainer>), CriError> {
    // A container has one first process and one sandbox for all its life; what was told of them once stays true.
    let known_pid = before.as_ref().and_then(|b| b.pid);
    let is_known = known_pid.is_some()
        && before
            .as_ref()
            .is_some_and(|b| !b.sandbox.as_str().is_empty());
    let answer = if is_known {
        cri.container_status_alone(id.as_str()).await
    } else {
        cri.container_status(id.as_str()).await
    };
    let response = match answer {
        Ok(response) => response,
        Err(error) if error.is_not_found() => return Ok((id, None)),
        Err(error) => return Err(error),
    };
    let Some(status) = response.status else {
        return Ok((id, None));
    };
    let known_sandbox = before
        .map(|b| b.sandbox)
        .filter(|s| !s.as_str().is_empty())
        .or(sandbox);
    let detail = container_of_status(&status, &response.info, known_sandbox.as_ref());
    let mut container = detail.container;
    if matches!(container.state, ContainerState::Running { .. }) {
        container.pid = container.pid.or(known_pid);
    }
    if let ContainerState::Exited(exit) = &mut container.state {
        let may_be_log = detail.message_from_logs && exit.code != 0;
        let places = MessagePlaces {
            file: container.termination_message_host_path.as_deref(),
            log: may_be_log.then_some(container.log_path.as_str()),
        };
        let message = messages.read(uid, places);
        if let Some(message) = message.await {
            exit.message = message;
        }
    }
    Ok((id, Some(container)))
}
