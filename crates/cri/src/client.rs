//! One method per runtime call.
//!
//! In:    a channel over a unix socket (or an in-memory pipe), messages
//! Out:   answers or `CriError`
//! Calls: everything in act that talks to the runtime
//! Holds: each call has its deadline; answers up to 16 MiB; the channel reconnects by itself
//! Upstream: staging/src/k8s.io/cri-client/pkg/remote_runtime.go, remote_image.go (deadlines, operation names)

use std::future::Future;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kubelet_api::runtime::v1 as cri;
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status, Streaming};

use crate::error::CriError;
use crate::metrics::Metrics;
use crate::stubs::image_service_client::ImageServiceClient;
use crate::stubs::runtime_service_client::RuntimeServiceClient;

/// Answers may be this big, as upstream allows.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// `runtimeRequestTimeout`: all calls but those below.
    pub request: Duration,
}

impl Timeouts {
    /// Sandboxes get twice the time: the network is set up in it.
    fn sandbox(self) -> Duration {
        self.request * 2
    }

    /// A stop gets its grace on top.
    fn stop(self, grace_seconds: i64) -> Duration {
        self.request + Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(0))
    }
}

/// An endpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not a unix socket.
    #[error(
        "container runtime endpoint {0:?}: only unix sockets are supported, such as unix:///run/containerd/containerd.sock"
    )]
    NotUnix(String),
    /// Not a path.
    #[error("container runtime endpoint {0:?}: {1}")]
    Invalid(String, String),
}

/// The runtime. Clones are cheap and share one connection.
#[derive(Clone, Debug)]
pub struct Client {
    runtime: RuntimeServiceClient<Channel>,
    image: ImageServiceClient<Channel>,
    timeouts: Timeouts,
    metrics: Metrics,
}

impl Client {
    /// A client of `unix:///path`, connecting at the first call and again whenever the connection is lost.
    ///
    /// # Errors
    /// When the endpoint is not a unix socket's.
    pub fn connect(
        runtime: &str,
        image: Option<&str>,
        timeouts: Timeouts,
        metrics: Metrics,
    ) -> Result<Self, ConnectError> {
        let runtime_channel = channel(runtime)?;
        let image_channel = match image.filter(|image| !image.is_empty() && *image != runtime) {
            Some(image) => channel(image)?,
            None => runtime_channel.clone(),
        };
        Ok(Self::from_channels(
            runtime_channel,
            image_channel,
            timeouts,
            metrics,
        ))
    }

    /// A client over ready channels.
    pub fn from_channels(
        runtime: Channel,
        image: Channel,
        timeouts: Timeouts,
        metrics: Metrics,
    ) -> Self {
        Self {
            runtime: RuntimeServiceClient::new(runtime)
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            image: ImageServiceClient::new(image).max_decoding_message_size(MAX_MESSAGE_BYTES),
            timeouts,
            metrics,
        }
    }

    async fn call<T>(
        &self,
        operation: &'static str,
        deadline: Duration,
        answer: impl Future<Output = Result<Response<T>, Status>> + Send,
    ) -> Result<T, CriError> {
        let began = Instant::now();
        let result = match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(CriError::of_status(operation, &status)),
            Err(_) => Err(CriError::Deadline {
                operation,
                after: deadline,
            }),
        };
        self.metrics
            .ended(operation, began.elapsed(), result.is_err());
        result
    }

    /// Name and version of the runtime.
    ///
    /// # Errors
    /// As every call here: refused, lost, or late.
    pub async fn version(&self) -> Result<cri::VersionResponse, CriError> {
        let request = cri::VersionRequest {
            version: "0.1.0".to_owned(),
        };
        self.call(
            "version",
            self.timeouts.request,
            self.runtime.clone().version(request),
        )
        .await
    }

    /// Conditions of the runtime.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn status(&self) -> Result<cri::StatusResponse, CriError> {
        let request = cri::StatusRequest { verbose: false };
        self.call(
            "status",
            self.timeouts.request,
            self.runtime.clone().status(request),
        )
        .await
    }

    /// The runtime's own settings (cgroup driver); unimplemented by older ones.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn runtime_config(&self) -> Result<cri::RuntimeConfigResponse, CriError> {
        let request = cri::RuntimeConfigRequest::default();
        self.call(
            "runtime_config",
            self.timeouts.request,
            self.runtime.clone().runtime_config(request),
        )
        .await
    }

    /// Hands the pod CIDR to the runtime.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn update_runtime_config(&self, pod_cidr: &str) -> Result<(), CriError> {
        let network_config = Some(cri::NetworkConfig {
            pod_cidr: pod_cidr.to_owned(),
        });
        let request = cri::UpdateRuntimeConfigRequest {
            runtime_config: Some(cri::RuntimeConfig { network_config }),
        };
        let mut runtime = self.runtime.clone();
        self.call(
            "update_runtime_config",
            self.timeouts.request,
            runtime.update_runtime_config(request),
        )
        .await
        .map(|_| ())
    }

    /// Makes and starts a sandbox; its id.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn run_pod_sandbox(
        &self,
        request: cri::RunPodSandboxRequest,
    ) -> Result<String, CriError> {
        let mut runtime = self.runtime.clone();
        let (handler, began) = (request.runtime_handler.clone(), Instant::now());
        let call = self.call(
            "run_podsandbox",
            self.timeouts.sandbox(),
            runtime.run_pod_sandbox(request),
        );
        // Boxed: its message is the largest that a pod's worker would carry room for.
        let answer = Box::pin(call).await;
        self.metrics
            .ran_sandbox(&handler, began.elapsed(), answer.is_err());
        Ok(answer?.pod_sandbox_id)
    }

    /// Stops a sandbox and all in it; one that is gone is stopped.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = cri::StopPodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let mut runtime = self.runtime.clone();
        gone_is_done(
            self.call(
                "stop_podsandbox",
                self.timeouts.sandbox(),
                runtime.stop_pod_sandbox(request),
            )
            .await,
        )
    }

    /// Removes a sandbox and all in it; one that is gone is removed.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<(), CriError> {
        let request = cri::RemovePodSandboxRequest {
            pod_sandbox_id: id.to_owned(),
        };
        let mut runtime = self.runtime.clone();
        gone_is_done(
            self.call(
                "remove_podsandbox",
                self.timeouts.request,
                runtime.remove_pod_sandbox(request),
            )
            .await,
        )
    }

    /// Inspects a sandbox.
    ///
    /// # Errors
    /// Refused (not found included), lost, or late.
    pub async fn pod_sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus, CriError> {
        let request = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.to_owned(),
            verbose: false,
        };
        let mut runtime = self.runtime.clone();
        let answer = self
            .call(
                "podsandbox_status",
                self.timeouts.request,
                runtime.pod_sandbox_status(request),
            )
            .await?;
        answer.status.ok_or_else(|| empty("podsandbox_status"))
    }

    /// Lists sandboxes, all or those of one pod.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn list_pod_sandboxes(
        &self,
        label: Option<(&str, &str)>,
    ) -> Result<Vec<cri::PodSandbox>, CriError> {
        let filter = label.map(|(key, value)| cri::PodSandboxFilter {
            label_selector: [(key.to_owned(), value.to_owned())].into(),
            ..Default::default()
        });
        let request = cri::ListPodSandboxRequest { filter };
        let mut runtime = self.runtime.clone();
        Ok(self
            .call(
                "list_podsandbox",
                self.timeouts.request,
                runtime.list_pod_sandbox(request),
            )
            .await?
            .items)
    }

    /// Creates a container; its id.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn create_container(
        &self,
        request: cri::CreateContainerRequest,
    ) -> Result<String, CriError> {
        let mut runtime = self.runtime.clone();
        // Boxed: the request is the largest message, and every worker would carry room for it.
        let call = Box::pin(self.call(
            "create_container",
            self.timeouts.request,
            runtime.create_container(request),
        ));
        let answer = call.await?;
        Ok(answer.container_id)
    }

    /// Starts a created container.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let request = cri::StartContainerRequest {
            container_id: id.to_owned(),
        };
        let mut runtime = self.runtime.clone();
        self.call(
            "start_container",
            self.timeouts.request,
            runtime.start_container(request),
        )
        .await
        .map(|_| ())
    }

    /// Stops a container within its grace; one that is gone is stopped.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn stop_container(&self, id: &str, grace_seconds: i64) -> Result<(), CriError> {
        let request = cri::StopContainerRequest {
            container_id: id.to_owned(),
            timeout: grace_seconds,
        };
        let mut runtime = self.runtime.clone();
        let deadline = self.timeouts.stop(grace_seconds);
        gone_is_done(
            self.call("stop_container", deadline, runtime.stop_container(request))
                .await,
        )
    }

    /// Removes a container; one that is gone is removed.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let request = cri::RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        let mut runtime = self.runtime.clone();
        gone_is_done(
            self.call(
                "remove_container",
                self.timeouts.request,
                runtime.remove_container(request),
            )
            .await,
        )
    }

    /// Lists containers, all or those of one pod.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn list_containers(
        &self,
        label: Option<(&str, &str)>,
    ) -> Result<Vec<cri::Container>, CriError> {
        let filter = label.map(|(key, value)| cri::ContainerFilter {
            label_selector: [(key.to_owned(), value.to_owned())].into(),
            ..Default::default()
        });
        let request = cri::ListContainersRequest { filter };
        let mut runtime = self.runtime.clone();
        Ok(self
            .call(
                "list_containers",
                self.timeouts.request,
                runtime.list_containers(request),
            )
            .await?
            .containers)
    }

    /// Inspects a container, with the runtime's verbose information.
    ///
    /// # Errors
    /// Refused (not found included), lost, or late.
    pub async fn container_status(
        &self,
        id: &str,
    ) -> Result<cri::ContainerStatusResponse, CriError> {
        self.status_of_container(id, true).await
    }

    /// Inspects a container of which the verbose information is known: the runtime need not write it down again, which is most of
    /// what such a call costs it.
    ///
    /// # Errors
    /// Refused (not found included), lost, or late.
    pub async fn container_status_alone(
        &self,
        id: &str,
    ) -> Result<cri::ContainerStatusResponse, CriError> {
        self.status_of_container(id, false).await
    }

    async fn status_of_container(
        &self,
        id: &str,
        verbose: bool,
    ) -> Result<cri::ContainerStatusResponse, CriError> {
        let request = cri::ContainerStatusRequest {
            container_id: id.to_owned(),
            verbose,
        };
        let mut runtime = self.runtime.clone();
        self.call(
            "container_status",
            self.timeouts.request,
            runtime.container_status(request),
        )
        .await
    }

    /// Runs a command and waits for its end; `Duration::ZERO` waits as long as the command runs (the caller cancels by
    /// dropping the future).
    ///
    /// # Errors
    /// Refused, lost, or late. A command that fails is an answer with its exit code.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<cri::ExecSyncResponse, CriError> {
        let request = cri::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command,
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        };
        let deadline = if timeout.is_zero() {
            Duration::MAX
        } else {
            self.timeouts.request.saturating_add(timeout)
        };
        let mut runtime = self.runtime.clone();
        self.call("exec_sync", deadline, runtime.exec_sync(request))
            .await
    }

    /// Prepares a command with streams; the URL where they are served.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn exec(&self, request: cri::ExecRequest) -> Result<String, CriError> {
        let mut runtime = self.runtime.clone();
        let answer = self.call("exec", self.timeouts.request, runtime.exec(request));
        Ok(answer.await?.url)
    }

    /// Prepares streams of a running container; the URL where they are served.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn attach(&self, request: cri::AttachRequest) -> Result<String, CriError> {
        let mut runtime = self.runtime.clone();
        let answer = self.call("attach", self.timeouts.request, runtime.attach(request));
        Ok(answer.await?.url)
    }

    /// Prepares streams to ports of a sandbox; the URL where they are served.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn port_forward(&self, sandbox: &str, ports: Vec<i32>) -> Result<String, CriError> {
        let request = cri::PortForwardRequest {
            pod_sandbox_id: sandbox.to_owned(),
            port: ports,
        };
        let mut runtime = self.runtime.clone();
        let answer = self.call(
            "port_forward",
            self.timeouts.request,
            runtime.port_forward(request),
        );
        Ok(answer.await?.url)
    }

    /// Makes the runtime open a running container's log file anew, after the old one was renamed.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn reopen_container_log(&self, id: &str) -> Result<(), CriError> {
        let request = cri::ReopenContainerLogRequest {
            container_id: id.to_owned(),
        };
        let mut runtime = self.runtime.clone();
        self.call(
            "reopen_container_log",
            self.timeouts.request,
            runtime.reopen_container_log(request),
        )
        .await
        .map(|_| ())
    }

    /// Writes a container's checkpoint to `location`; `seconds` 0 is the time of any call.
    ///
    /// # Errors
    /// Refused (unimplemented by most), lost, or late.
    pub async fn checkpoint_container(
        &self,
        id: &str,
        location: &str,
        seconds: i64,
    ) -> Result<(), CriError> {
        let request = cri::CheckpointContainerRequest {
            container_id: id.to_owned(),
            location: location.to_owned(),
            timeout: seconds,
        };
        let deadline = match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => self.timeouts.request,
        };
        let mut runtime = self.runtime.clone();
        let call = runtime.checkpoint_container(request);
        self.call("checkpoint_container", deadline, call)
            .await
            .map(|_| ())
    }

    /// Opens the stream of container events; unimplemented by older runtimes.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn container_events(
        &self,
    ) -> Result<Streaming<cri::ContainerEventResponse>, CriError> {
        let request = cri::GetEventsRequest::default();
        let mut runtime = self.runtime.clone();
        self.call(
            "get_container_events",
            self.timeouts.request,
            runtime.get_container_events(request),
        )
        .await
    }

    /// Looks for an image; `None` when it is absent.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn image_status(&self, image: &str) -> Result<Option<cri::Image>, CriError> {
        let image = Some(cri::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        });
        let request = cri::ImageStatusRequest {
            image,
            verbose: false,
        };
        let mut images = self.image.clone();
        Ok(self
            .call(
                "image_status",
                self.timeouts.request,
                images.image_status(request),
            )
            .await?
            .image)
    }

    /// Pulls an image; its reference. Has no deadline: the caller cancels it by dropping the future.
    ///
    /// # Errors
    /// Refused or lost.
    pub async fn pull_image(
        &self,
        image: &str,
        auth: Option<cri::AuthConfig>,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String, CriError> {
        let image = Some(cri::ImageSpec {
            image: image.to_owned(),
            ..Default::default()
        });
        let request = cri::PullImageRequest {
            image,
            auth,
            sandbox_config: Some(sandbox_config),
        };
        let began = Instant::now();
        let result = self.image.clone().pull_image(request).await;
        self.metrics
            .ended("pull_image", began.elapsed(), result.is_err());
        match result {
            Ok(response) => Ok(response.into_inner().image_ref),
            Err(status) => Err(CriError::of_status("pull_image", &status)),
        }
    }

    /// Lists images.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn list_images(&self) -> Result<Vec<cri::Image>, CriError> {
        let mut images = self.image.clone();
        let request = cri::ListImagesRequest::default();
        Ok(self
            .call(
                "list_images",
                self.timeouts.request,
                images.list_images(request),
            )
            .await?
            .images)
    }

    /// Use of the file systems that hold images.
    ///
    /// # Errors
    /// Refused, lost, or late.
    pub async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse, CriError> {
        let mut images = self.image.clone();
        let request = cri::ImageFsInfoRequest::default();
        self.call(
            "image_fs_info",
            self.timeouts.request,
            images.image_fs_info(request),
        )
        .await
    }
}

/// What does not exist needs no stop and no removal.
fn gone_is_done<T>(result: Result<T, CriError>) -> Result<(), CriError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

fn empty(operation: &'static str) -> CriError {
    CriError::Refused {
        operation,
        code: tonic::Code::Internal,
        message: "the answer is empty".to_owned(),
    }
}

fn channel(endpoint: &str) -> Result<Channel, ConnectError> {
    let path = match endpoint.strip_prefix("unix://") {
        Some(path) => path.to_owned(),
        None if endpoint.starts_with('/') => endpoint.to_owned(),
        None => return Err(ConnectError::NotUnix(endpoint.to_owned())),
    };
    if !path.starts_with('/') {
        return Err(ConnectError::Invalid(
            endpoint.to_owned(),
            "the path must be absolute".to_owned(),
        ));
    }
    // The address is not used: the connector below dials the socket.
    let endpoint =
        Endpoint::from_static("http://runtime.invalid").connect_timeout(Duration::from_secs(3));
    Ok(
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        })),
    )
}

#[cfg(test)]
mod tests;
