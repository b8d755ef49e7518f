//! The runtime asked over CRI, whatever the kubelet says of it.
//!
//! In:    containerd's endpoint
//! Out:   sandboxes and containers with the words of their labels
//! Calls: invariants, target (clean-up)
//! Holds: a call is tried again while containerd comes back, for at most a minute
//! Upstream: none

use std::collections::BTreeMap;
use std::time::Duration;

use kubelet_api::runtime::v1 as cri;
use kubelet_cri::{Client, CriError, Metrics, Timeouts};
use rig::clock;

/// A client that blocks.
#[derive(Debug)]
pub(crate) struct Runtime {
    executor: tokio::runtime::Runtime,
    client: Client,
}

/// A container, as the runtime has it.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) id: String,
    /// The pod's UID.
    pub(crate) uid: String,
    pub(crate) pod: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) running: bool,
    pub(crate) exited: bool,
}

fn label(labels: &BTreeMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

impl Runtime {
    pub(crate) fn connect(endpoint: &str) -> anyhow::Result<Self> {
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let timeouts = Timeouts {
            request: Duration::from_secs(60),
        };
        let metrics = Metrics::new(&prometheus::Registry::new())?;
        let client = {
            let _entered = executor.enter();
            Client::connect(endpoint, None, timeouts, metrics)?
        };
        Ok(Self { executor, client })
    }

    /// Asks until there is an answer: containerd may be on its way back.
    fn ask<T, F>(&self, what: &str, call: impl Fn(Client) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, CriError>>,
    {
        let mut refusal = None;
        clock::poll(what, 100, 60.0, || {
            let answer = self.executor.block_on(call(self.client.clone()));
            Ok(answer.map_err(|error| refusal = Some(error)).ok())
        })
        .map_err(|late| match refusal {
            Some(refusal) => late.context(refusal),
            None => late,
        })
    }

    /// UIDs of the pods of all sandboxes; whether each is ready.
    pub(crate) fn sandboxes(&self) -> anyhow::Result<Vec<(String, String, bool)>> {
        let all = self.ask("list sandboxes", |client| async move {
            client.list_pod_sandboxes(None).await
        })?;
        let one = |sandbox: cri::PodSandbox| {
            let ready = sandbox.state() == cri::PodSandboxState::SandboxReady;
            let uid = sandbox.metadata.map(|m| m.uid).unwrap_or_default();
            (sandbox.id, uid, ready)
        };
        Ok(all.into_iter().map(one).collect())
    }

    /// All containers.
    pub(crate) fn containers(&self) -> anyhow::Result<Vec<Held>> {
        let all = self.ask("list containers", |client| async move {
            client.list_containers(None).await
        })?;
        let one = |container: cri::Container| Held {
            uid: label(&container.labels, "io.kubernetes.pod.uid"),
            pod: label(&container.labels, "io.kubernetes.pod.name"),
            name: label(&container.labels, "io.kubernetes.container.name"),
            attempt: container.metadata.as_ref().map_or(0, |m| m.attempt),
            running: container.state() == cri::ContainerState::ContainerRunning,
            exited: container.state() == cri::ContainerState::ContainerExited,
            id: container.id,
        };
        Ok(all.into_iter().map(one).collect())
    }

    /// How a container ended; nothing when it is gone meanwhile.
    pub(crate) fn exit_code(&self, id: &str) -> Option<i32> {
        let asked = self.client.container_status_alone(id);
        let answer = self.executor.block_on(asked).ok()?;
        answer.status.map(|status| status.exit_code)
    }

    /// Whether containerd refuses to remove a sandbox because it takes one of its containers for ended and its task for running.
    pub(crate) fn refuses_to_remove(&self, sandbox: &str) -> bool {
        let asked = self.client.remove_pod_sandbox(sandbox);
        let answer = self.executor.block_on(asked);
        answer.is_err_and(|error| error.to_string().contains("cannot delete running task"))
    }

    /// Ends and removes the sandboxes of a pod.
    ///
    /// A refusal is asked again: the kubelet that was killed a moment ago may have left a stop under way,
    /// and containerd refuses a second one whose shim ends meanwhile ("ttrpc: closed").
    pub(crate) fn remove_pod(&self, uid: &str) -> anyhow::Result<()> {
        for (id, of, _) in self.sandboxes()? {
            if of == uid {
                let id = id.as_str();
                self.ask(&format!("remove sandbox {id}"), |client| async move {
                    client.stop_pod_sandbox(id).await?;
                    client.remove_pod_sandbox(id).await
                })?;
            }
        }
        Ok(())
    }

    /// Ends and removes every sandbox.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        // Two rounds: a call of a kubelet that was just killed may still be under way in the runtime.
        for _ in 0..2 {
            for (id, ..) in self.sandboxes()? {
                self.executor.block_on(async {
                    // What does not go is found by whoever looks for leftovers.
                    let _stopped = self.client.stop_pod_sandbox(&id).await;
                    let _removed = self.client.remove_pod_sandbox(&id).await;
                });
            }
        }
        Ok(())
    }
}
