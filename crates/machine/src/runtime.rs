//! The runtime asked over CRI: what it holds, in its own words, whatever the kubelet says of it.
//!
//! In:    the endpoint of the node environment
//! Out:   sandboxes and containers; the configurations they were made from, as the runtime keeps them
//! Calls: tests; the clean-up of kubelet
//! Holds: a call is tried again once when the connection was lost, for containerd is killed in between
//! Upstream: none

use std::collections::BTreeMap;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kubelet_api::runtime::v1 as cri;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};

use stubs::runtime_service_client::RuntimeServiceClient;

mod stubs {
    #![expect(
        unreachable_pub,
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        reason = "generated from proto/cri.proto"
    )]
    tonic::include_proto!("runtime.v1");
}

const CALL: Duration = Duration::from_secs(60);

/// A container with the words of its labels and annotations that tests use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: String,
    pub(crate) sandbox: String,
    pub(crate) pod: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    pub(crate) running: bool,
    pub(crate) created: bool,
}

/// A client that blocks.
#[derive(Debug)]
pub(crate) struct Runtime {
    tokio: tokio::runtime::Runtime,
    client: RuntimeServiceClient<Channel>,
}

impl Runtime {
    /// A client of `unix:///path`.
    pub(crate) fn connect(endpoint: &str) -> Self {
        let path = endpoint.strip_prefix("unix://").unwrap().to_owned();
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let channel = tokio.block_on(async {
            Endpoint::from_static("http://runtime.invalid").connect_with_connector_lazy(
                tower::service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                }),
            )
        });
        Self {
            tokio,
            client: RuntimeServiceClient::new(channel).max_decoding_message_size(64 << 20),
        }
    }

    fn call<T, F>(&self, what: &str, mut call: impl FnMut(RuntimeServiceClient<Channel>) -> F) -> T
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.tokio.block_on(async {
            for last in [false, true] {
                match tokio::time::timeout(CALL, call(self.client.clone())).await {
                    Ok(Ok(answer)) => return answer.into_inner(),
                    Ok(Err(status)) if last || !is_lost(&status) => panic!("{what}: {status}"),
                    Ok(Err(_)) => {}
                    Err(_) => panic!("{what} took more than {CALL:?}"),
                }
            }
            unreachable!("the second try returned")
        })
    }

    /// All sandboxes.
    pub(crate) fn sandboxes(&self) -> Vec<cri::PodSandbox> {
        let request = cri::ListPodSandboxRequest::default;
        self.call("list sandboxes", |mut client| async move {
            client.list_pod_sandbox(request()).await
        })
        .items
    }

    /// All containers, by id.
    pub(crate) fn containers(&self) -> BTreeMap<String, Held> {
        let request = cri::ListContainersRequest::default;
        let answer = self.call("list containers", |mut client| async move {
            client.list_containers(request()).await
        });
        let held = |container: cri::Container| {
            let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
            let metadata = container.metadata.clone().unwrap_or_default();
            Held {
                sandbox: container.pod_sandbox_id.clone(),
                pod: label("io.kubernetes.pod.name"),
                name: label("io.kubernetes.container.name"),
                attempt: metadata.attempt,
                running: container.state() == cri::ContainerState::ContainerRunning,
                created: container.state() == cri::ContainerState::ContainerCreated,
                id: container.id,
            }
        };
        answer
            .containers
            .into_iter()
            .map(|container| (container.id.clone(), held(container)))
            .collect()
    }

    /// Running containers of all pods: pod and container name → ids.
    pub(crate) fn running(&self) -> BTreeMap<(String, String), Vec<String>> {
        let mut running: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for held in self.containers().into_values().filter(|held| held.running) {
            running
                .entry((held.pod, held.name))
                .or_default()
                .push(held.id);
        }
        running
    }

    /// A sandbox, and the configuration it was made from.
    pub(crate) fn sandbox(&self, id: &str) -> (cri::PodSandboxStatus, Value) {
        let answer = self.call("sandbox status", |mut client| {
            let request = cri::PodSandboxStatusRequest {
                pod_sandbox_id: id.to_owned(),
                verbose: true,
            };
            async move { client.pod_sandbox_status(request).await }
        });
        (answer.status.unwrap(), info(answer.info.get("info")))
    }

    /// A container, and what the runtime tells besides: the configuration it was made from under `config`, `pid`.
    pub(crate) fn container(&self, id: &str) -> (cri::ContainerStatus, Value) {
        let answer = self.call("container status", |mut client| {
            let request = cri::ContainerStatusRequest {
                container_id: id.to_owned(),
                verbose: true,
            };
            async move { client.container_status(request).await }
        });
        (answer.status.unwrap(), info(answer.info.get("info")))
    }

    /// Makes a sandbox as somebody else would.
    pub(crate) fn run_sandbox(&self, config: &cri::PodSandboxConfig) -> String {
        self.call("run sandbox", |mut client| {
            let request = cri::RunPodSandboxRequest {
                config: Some(config.clone()),
                runtime_handler: String::new(),
            };
            async move { client.run_pod_sandbox(request).await }
        })
        .pod_sandbox_id
    }

    /// Makes a container in a sandbox.
    pub(crate) fn create_container(
        &self,
        sandbox: &str,
        pod: &cri::PodSandboxConfig,
        config: &cri::ContainerConfig,
    ) -> String {
        self.call("create container", |mut client| {
            let request = cri::CreateContainerRequest {
                pod_sandbox_id: sandbox.to_owned(),
                config: Some(config.clone()),
                sandbox_config: Some(pod.clone()),
            };
            async move { client.create_container(request).await }
        })
        .container_id
    }

    /// Stops a sandbox and what is in it, at once.
    pub(crate) fn stop_sandbox(&self, id: &str) {
        self.call("stop sandbox", |mut client| {
            let request = cri::StopPodSandboxRequest {
                pod_sandbox_id: id.to_owned(),
            };
            async move { client.stop_pod_sandbox(request).await }
        });
    }

    /// Kills a container, at once.
    pub(crate) fn stop_container(&self, id: &str) {
        self.call("stop container", |mut client| {
            let request = cri::StopContainerRequest {
                container_id: id.to_owned(),
                timeout: 0,
            };
            async move { client.stop_container(request).await }
        });
    }

    /// Makes the runtime open a container's log anew, as the rotation does.
    pub(crate) fn reopen_log(&self, id: &str) {
        self.call("reopen log", |mut client| {
            let request = cri::ReopenContainerLogRequest {
                container_id: id.to_owned(),
            };
            async move { client.reopen_container_log(request).await }
        });
    }

    /// Whether containerd is in the contradiction of `what_the_runtime_refuses_to_remove_holds_nothing_up`: it takes a container for
    /// ended and cannot remove it because of its task.
    pub(crate) fn refuses_to_remove(&self, sandbox: &str) -> bool {
        let request = cri::RemovePodSandboxRequest {
            pod_sandbox_id: sandbox.to_owned(),
        };
        let mut client = self.client.clone();
        let removed = self
            .tokio
            .block_on(async move { client.remove_pod_sandbox(request).await });
        let refusal = |status: &Status| status.message().contains("cannot delete running task");
        removed.is_err_and(|status| refusal(&status))
    }

    /// Ends and removes every sandbox.
    pub(crate) fn clear(&self) {
        // Two rounds: a call of a kubelet that was just killed may still be under way in the runtime.
        for _ in 0..2 {
            let ids: Vec<String> = self.sandboxes().into_iter().map(|s| s.id).collect();
            self.tokio.block_on(async {
                let mut under_way = tokio::task::JoinSet::new();
                for id in ids {
                    let mut client = self.client.clone();
                    under_way.spawn(async move {
                        let pod_sandbox_id = id.clone();
                        let stop = cri::StopPodSandboxRequest { pod_sandbox_id };
                        let remove = cri::RemovePodSandboxRequest { pod_sandbox_id: id };
                        let stopped = client.stop_pod_sandbox(stop).await;
                        let removed = client.remove_pod_sandbox(remove).await;
                        stopped.is_ok() && removed.is_ok()
                    });
                }
                under_way.join_all().await
            });
        }
    }
}

/// The connection went, and with it the answer.
fn is_lost(status: &Status) -> bool {
    status.code() == tonic::Code::Unavailable || status.message().contains("transport error")
}

/// The runtime's own words: JSON under the key `info`.
fn info(text: Option<&String>) -> Value {
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}
