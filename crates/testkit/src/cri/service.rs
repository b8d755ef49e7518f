//! The RPCs: trace, fault, latency, effect, in that order, the same for all; then the two services, a few lines per method.
//!
//! In:    gRPC requests
//! Out:   gRPC answers
//! Calls: the connections of `cri`
//! Holds: an effect happens at one instant under the lock; whoever waits (stops, pulls, execs) can be dropped at any await;
//!        a call never outlives the runtime's life in which it came
//! Upstream: none (facts: containerd 1.6 pkg/cri/server)

use std::future::{Future, ready};
use std::time::Duration;

use futures_util::stream;
use kubelet_api::runtime::v1 as wire;
use tokio::sync::mpsc;
use tonic::codegen::BoxStream;
use tonic::{Code, Request, Response, Status, async_trait};

use super::StandInRuntime;
use super::images::on_wire;
use super::state::{CrashScope, State};
use super::trace::{EndedBy, StopCall, TraceStep};
use crate::faults::{Fault, Scope};
use crate::stubs::image_service_server::ImageService;
use crate::stubs::runtime_service_server::RuntimeService;

type Answer<T> = Result<Response<T>, Status>;

/// Callers give up long before; this only keeps a test without deadlines from waiting forever.
const LONGEST_HANG: Duration = Duration::from_secs(900);

/// Writes the end of a call, also when its caller went away and its future is dropped.
struct OpenCall<'a> {
    runtime: &'a StandInRuntime,
    call: u64,
    method: &'static str,
    ended: bool,
}

impl OpenCall<'_> {
    fn end(&mut self, text: impl FnOnce() -> String) {
        self.ended = true;
        let mut state = self.runtime.lock();
        if state.config.trace {
            state.note(self.call, TraceStep::End, self.method, text());
        }
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(|| "cancelled".to_owned());
        }
    }
}

/// A start that has not come to its end yet.
struct OpenStart<'a> {
    runtime: &'a StandInRuntime,
    id: &'a str,
    is_over: bool,
}

impl Drop for OpenStart<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.runtime.lock().cut_off_start(self.id);
        }
    }
}

fn failed(code: Code) -> Status {
    Status::new(
        code,
        match code {
            Code::Unavailable => "connection error: desc = \"transport: error while dialing\"",
            Code::DeadlineExceeded => "context deadline exceeded",
            _ => "injected fault",
        },
    )
}

/// A duration of whole seconds as Go prints it.
pub(super) fn go_duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// What a call is, for trace and faults.
struct Call {
    method: &'static str,
    key: String,
    scope: Scope,
}

fn narrow(method: &'static str, key: &str) -> Call {
    Call {
        method,
        key: key.to_owned(),
        scope: Scope::Narrow,
    }
}

impl StandInRuntime {
    /// One RPC whose effect is at one instant.
    async fn instant<T>(
        &self,
        call: Call,
        mut effect: impl FnMut(&mut State) -> Result<T, Status>,
    ) -> Answer<T> {
        self.rpc(call, || ready(effect(&mut self.lock()))).await
    }

    /// One RPC: the effect is asked for no, one or two futures, as the faults want it.
    async fn rpc<T, F>(&self, call: Call, mut effect: impl FnMut() -> F) -> Answer<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let Call { method, key, scope } = call;
        let (number, decision, latency, life, asked) = {
            let mut state = self.lock();
            let Some(life) = state.life.clone() else {
                return Err(failed(Code::Unavailable));
            };
            state.calls += 1;
            let number = state.calls;
            let decision = state.faults.decide(method, scope);
            let fault = decision
                .fault
                .as_ref()
                .map(|fault| format!(" !{fault:?}"))
                .unwrap_or_default();
            let text = format!("{key}{fault}");
            state.note(number, TraceStep::Begin, method, text);
            (number, decision, state.config.latency, life, state.now())
        };
        let mut open = OpenCall {
            runtime: self,
            call: number,
            method,
            ended: false,
        };
        let work = async {
            let wait = latency + decision.delay;
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            self.before(decision.fault.as_ref()).await?;
            {
                let mut state = self.lock();
                state.asked = asked;
                state.loses_answer = decision.fault.as_ref().is_some_and(|fault| {
                    // The answer of the first of two is given to nobody.
                    fault.loses_answer() || *fault == Fault::Twice
                });
            }
            let mut answer = effect().await;
            if decision.fault == Some(Fault::Twice) {
                {
                    let mut state = self.lock();
                    state.asked = asked;
                    state.loses_answer = false;
                }
                answer = effect().await;
            }
            self.after(decision.fault.as_ref()).await?;
            answer
        };
        let answer = tokio::select! {
            biased;
            // Cancel: the runtime is gone, and with it what it was doing for this call.
            () = life.cancelled() => Err(failed(Code::Unavailable)),
            answer = work => answer,
        };
        open.end(|| match &answer {
            Ok(_) => "ok".to_owned(),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        });
        answer.map(Response::new)
    }

    async fn before(&self, fault: Option<&Fault>) -> Result<(), Status> {
        match fault {
            Some(Fault::FailBefore(code)) => Err(failed(*code)),
            Some(Fault::Hang) => hang().await,
            Some(Fault::Cut) => self.gone(State::cut),
            Some(Fault::Crash(down_for)) => {
                self.gone(|state| state.crash(*down_for, CrashScope::Runtime))
            }
            _ => Ok(()),
        }
    }

    async fn after(&self, fault: Option<&Fault>) -> Result<(), Status> {
        match fault {
            Some(Fault::LoseAnswer(code)) => Err(failed(*code)),
            Some(Fault::HangAfter) => hang().await,
            Some(Fault::CutAfter) => self.gone(State::cut),
            Some(Fault::CrashAfter(down_for)) => {
                self.gone(|state| state.crash(*down_for, CrashScope::Runtime))
            }
            _ => Ok(()),
        }
    }

    fn gone(&self, how: impl FnOnce(&mut State)) -> Result<(), Status> {
        how(&mut self.lock());
        Err(failed(Code::Unavailable))
    }

    /// Stops one container: SIGTERM, grace, SIGKILL, and waits until the runtime has noted the exit.
    async fn stop(&self, id: &str, grace: Duration, by: EndedBy) -> Result<(), Status> {
        let Some(exit_seen) = self.lock().running(id) else {
            return Ok(());
        };
        if by == EndedBy::StopContainer {
            let mut state = self.lock();
            let at = state.now();
            let seconds = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
            if let Some(story) = state.story(id) {
                story.stops.push(StopCall { at, seconds });
            }
        }
        if !grace.is_zero() {
            self.lock().terminate(id, by);
            if tokio::time::timeout(grace, exit_seen.cancelled())
                .await
                .is_ok()
            {
                return Ok(());
            }
        }
        self.lock().kill(id, by);
        exit_seen.cancelled().await;
        Ok(())
    }

    async fn stop_sandbox(&self, id: &str, by: EndedBy) -> Result<(), Status> {
        let Some(containers) = self.lock().containers_of(id) else {
            return Ok(());
        };
        for container in containers {
            self.stop(&container, Duration::ZERO, by).await?;
        }
        self.lock().end_sandbox(id, by);
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), Status> {
        self.stop(id, Duration::ZERO, EndedBy::Remove).await?;
        self.lock().forget_container(id);
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        self.stop_sandbox(id, EndedBy::Remove).await?;
        let containers = self.lock().containers_of(id).unwrap_or_default();
        for container in containers {
            self.remove(&container).await?;
        }
        self.lock().forget_sandbox(id);
        Ok(())
    }

    async fn pull(
        &self,
        name: &str,
        auth: &wire::AuthConfig,
    ) -> Result<wire::PullImageResponse, Status> {
        let outcome = {
            let mut state = self.lock();
            let nth = state.images.count_pull(name);
            if !(state.scripts.registry)(name, &auth.username, &auth.password) {
                let user = &auth.username;
                let text = format!("pull access denied for {name} as \"{user}\"");
                return Err(Status::new(Code::Unknown, text));
            }
            (state.scripts.pull)(name, nth)
        };
        if !outcome.latency.is_zero() {
            tokio::time::sleep(outcome.latency).await;
        }
        if let Some((code, text)) = outcome.failure {
            return Err(Status::new(code, text));
        }
        let mut state = self.lock();
        let image_ref = state.images.add(name, outcome.size);
        state.effect("image", || format!("{name} {image_ref}"));
        Ok(wire::PullImageResponse { image_ref })
    }
}

async fn hang() -> Result<(), Status> {
    tokio::time::sleep(LONGEST_HANG).await;
    Err(failed(Code::DeadlineExceeded))
}

fn condition(kind: &str) -> wire::RuntimeCondition {
    wire::RuntimeCondition {
        r#type: kind.to_owned(),
        status: true,
        ..Default::default()
    }
}

fn image_name(image: Option<wire::ImageSpec>) -> String {
    image.unwrap_or_default().image
}

#[async_trait]
impl RuntimeService for StandInRuntime {
    async fn version(
        &self,
        request: Request<wire::VersionRequest>,
    ) -> Answer<wire::VersionResponse> {
        self.instant(narrow("Version", &request.into_inner().version), |state| {
            Ok(wire::VersionResponse {
                version: "0.1.0".to_owned(),
                runtime_name: "containerd".to_owned(),
                runtime_version: state.config.runtime_version.clone(),
                runtime_api_version: "v1".to_owned(),
            })
        })
        .await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<wire::RunPodSandboxRequest>,
    ) -> Answer<wire::RunPodSandboxResponse> {
        let request = request.into_inner();
        let metadata = request
            .config
            .as_ref()
            .and_then(|config| config.metadata.as_ref());
        let key =
            metadata.map(|it| format!("{}/{} {} {}", it.namespace, it.name, it.uid, it.attempt));
        self.instant(narrow("RunPodSandbox", &key.unwrap_or_default()), |state| {
            state
                .run_sandbox(&request)
                .map(|pod_sandbox_id| wire::RunPodSandboxResponse { pod_sandbox_id })
        })
        .await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<wire::StopPodSandboxRequest>,
    ) -> Answer<wire::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let id = id.as_str();
        self.rpc(narrow("StopPodSandbox", id), || async move {
            self.stop_sandbox(id, EndedBy::StopPodSandbox).await?;
            Ok(wire::StopPodSandboxResponse {})
        })
        .await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<wire::RemovePodSandboxRequest>,
    ) -> Answer<wire::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let id = id.as_str();
        self.rpc(narrow("RemovePodSandbox", id), || async move {
            self.remove_sandbox(id).await?;
            Ok(wire::RemovePodSandboxResponse {})
        })
        .await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<wire::PodSandboxStatusRequest>,
    ) -> Answer<wire::PodSandboxStatusResponse> {
        let request = request.into_inner();
        self.instant(
            narrow("PodSandboxStatus", &request.pod_sandbox_id),
            |state| state.show_sandbox(&request),
        )
        .await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<wire::ListPodSandboxRequest>,
    ) -> Answer<wire::ListPodSandboxResponse> {
        let filter = request.into_inner().filter;
        let id = filter.as_ref().map_or("", |filter| filter.id.as_str());
        let scope = if id.is_empty() {
            Scope::Node
        } else {
            Scope::Narrow
        };
        let call = Call {
            method: "ListPodSandbox",
            key: id.to_owned(),
            scope,
        };
        self.instant(call, |state| {
            Ok(wire::ListPodSandboxResponse {
                items: state.list_sandboxes(filter.as_ref()),
            })
        })
        .await
    }

    async fn create_container(
        &self,
        request: Request<wire::CreateContainerRequest>,
    ) -> Answer<wire::CreateContainerResponse> {
        let request = request.into_inner();
        let metadata = request
            .config
            .as_ref()
            .and_then(|config| config.metadata.as_ref());
        let name = metadata
            .map(|it| format!("{} {}", it.name, it.attempt))
            .unwrap_or_default();
        let key = format!("{} {name}", request.pod_sandbox_id);
        self.instant(narrow("CreateContainer", &key), |state| {
            state
                .create_container(&request)
                .map(|container_id| wire::CreateContainerResponse { container_id })
        })
        .await
    }

    async fn start_container(
        &self,
        request: Request<wire::StartContainerRequest>,
    ) -> Answer<wire::StartContainerResponse> {
        let id = request.into_inner().container_id;
        let mut open = OpenStart {
            runtime: self,
            id: &id,
            is_over: false,
        };
        let life = self.lock().life.clone();
        let answer = self
            .instant(narrow("StartContainer", &id), |state| {
                state
                    .start_container(&id)
                    .map(|()| wire::StartContainerResponse {})
            })
            .await;
        // Whatever it is, the caller is told, unless the runtime went.
        open.is_over = life.is_none_or(|life| !life.is_cancelled());
        answer
    }

    async fn stop_container(
        &self,
        request: Request<wire::StopContainerRequest>,
    ) -> Answer<wire::StopContainerResponse> {
        let wire::StopContainerRequest {
            container_id,
            timeout,
        } = request.into_inner();
        let id = container_id.as_str();
        let grace = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
        self.rpc(
            narrow("StopContainer", &format!("{id} {timeout}s")),
            || async move {
                self.stop(id, grace, EndedBy::StopContainer).await?;
                Ok(wire::StopContainerResponse {})
            },
        )
        .await
    }

    async fn remove_container(
        &self,
        request: Request<wire::RemoveContainerRequest>,
    ) -> Answer<wire::RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        let id = id.as_str();
        self.rpc(narrow("RemoveContainer", id), || async move {
            self.remove(id).await?;
            Ok(wire::RemoveContainerResponse {})
        })
        .await
    }

    async fn list_containers(
        &self,
        request: Request<wire::ListContainersRequest>,
    ) -> Answer<wire::ListContainersResponse> {
        let filter = request.into_inner().filter;
        let narrowed = filter
            .as_ref()
            .map_or("", |filter| match filter.id.as_str() {
                "" => filter.pod_sandbox_id.as_str(),
                id => id,
            });
        let scope = if narrowed.is_empty() {
            Scope::Node
        } else {
            Scope::Narrow
        };
        let call = Call {
            method: "ListContainers",
            key: narrowed.to_owned(),
            scope,
        };
        self.instant(call, |state| {
            Ok(wire::ListContainersResponse {
                containers: state.list_containers(filter.as_ref()),
            })
        })
        .await
    }

    async fn container_status(
        &self,
        request: Request<wire::ContainerStatusRequest>,
    ) -> Answer<wire::ContainerStatusResponse> {
        let request = request.into_inner();
        self.instant(narrow("ContainerStatus", &request.container_id), |state| {
            state.show_container(&request)
        })
        .await
    }

    async fn update_container_resources(
        &self,
        request: Request<wire::UpdateContainerResourcesRequest>,
    ) -> Answer<wire::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        self.instant(
            narrow("UpdateContainerResources", &request.container_id),
            |state| {
                state
                    .update_resources(&request)
                    .map(|()| wire::UpdateContainerResourcesResponse {})
            },
        )
        .await
    }

    async fn reopen_container_log(
        &self,
        request: Request<wire::ReopenContainerLogRequest>,
    ) -> Answer<wire::ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        self.instant(narrow("ReopenContainerLog", &id), |state| {
            state
                .reopen_log(&id)
                .map(|()| wire::ReopenContainerLogResponse {})
        })
        .await
    }

    async fn exec_sync(
        &self,
        request: Request<wire::ExecSyncRequest>,
    ) -> Answer<wire::ExecSyncResponse> {
        let request = request.into_inner();
        let request = &request;
        let key = format!("{} {}", request.container_id, request.cmd.join(" "));
        self.rpc(narrow("ExecSync", &key), || self.exec(request))
            .await
    }

    async fn exec(&self, request: Request<wire::ExecRequest>) -> Answer<wire::ExecResponse> {
        let wire::ExecRequest {
            container_id,
            cmd,
            tty,
            stdin,
            stdout,
            stderr,
        } = request.into_inner();
        let asked = format!("{} {tty} {stdin} {stdout} {stderr}", cmd.join(" "));
        self.instant(narrow("Exec", &container_id), |state| {
            state.effect("exec", || format!("{container_id} {asked}"));
            let url = state.streaming_url("exec", &container_id)?;
            Ok(wire::ExecResponse { url })
        })
        .await
    }

    async fn attach(&self, request: Request<wire::AttachRequest>) -> Answer<wire::AttachResponse> {
        let wire::AttachRequest {
            container_id,
            stdin,
            tty,
            stdout,
            stderr,
        } = request.into_inner();
        self.instant(narrow("Attach", &container_id), |state| {
            state.effect("attach", || {
                format!("{container_id} {tty} {stdin} {stdout} {stderr}")
            });
            let url = state.streaming_url("attach", &container_id)?;
            Ok(wire::AttachResponse { url })
        })
        .await
    }

    async fn port_forward(
        &self,
        request: Request<wire::PortForwardRequest>,
    ) -> Answer<wire::PortForwardResponse> {
        let wire::PortForwardRequest {
            pod_sandbox_id,
            port,
        } = request.into_inner();
        self.instant(narrow("PortForward", &pod_sandbox_id), |state| {
            state.effect("port-forward", || format!("{pod_sandbox_id} {port:?}"));
            let url = state.streaming_url("portforward", &pod_sandbox_id)?;
            Ok(wire::PortForwardResponse { url })
        })
        .await
    }

    async fn update_runtime_config(
        &self,
        request: Request<wire::UpdateRuntimeConfigRequest>,
    ) -> Answer<wire::UpdateRuntimeConfigResponse> {
        let network = request
            .into_inner()
            .runtime_config
            .and_then(|config| config.network_config);
        let cidr = network.unwrap_or_default().pod_cidr;
        self.instant(narrow("UpdateRuntimeConfig", &cidr), |state| {
            state.pod_cidr.clone_from(&cidr);
            Ok(wire::UpdateRuntimeConfigResponse {})
        })
        .await
    }

    async fn status(&self, _request: Request<wire::StatusRequest>) -> Answer<wire::StatusResponse> {
        self.instant(narrow("Status", ""), |_| {
            let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
            let status = Some(wire::RuntimeStatus { conditions });
            Ok(wire::StatusResponse {
                status,
                ..Default::default()
            })
        })
        .await
    }

    async fn get_container_events(
        &self,
        _request: Request<wire::GetEventsRequest>,
    ) -> Answer<BoxStream<wire::ContainerEventResponse>> {
        let answer = self.instant(narrow("GetContainerEvents", ""), |state| {
            if !state.config.events {
                let text =
                    "unknown method GetContainerEvents for service runtime.v1.RuntimeService";
                return Err(Status::unimplemented(text));
            }
            let (sender, receiver) = mpsc::unbounded_channel();
            state.watchers.push(sender);
            Ok(receiver)
        });
        let receiver = answer.await?.into_inner();
        let events = stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|event| (event, receiver))
        });
        Ok(Response::new(Box::pin(events)))
    }
}

#[async_trait]
impl ImageService for StandInRuntime {
    async fn list_images(
        &self,
        request: Request<wire::ListImagesRequest>,
    ) -> Answer<wire::ListImagesResponse> {
        let filter = request.into_inner().filter;
        let call = Call {
            method: "ListImages",
            key: String::new(),
            scope: Scope::Node,
        };
        self.instant(call, |state| {
            Ok(wire::ListImagesResponse {
                images: state.images.list(filter.as_ref()),
            })
        })
        .await
    }

    async fn image_status(
        &self,
        request: Request<wire::ImageStatusRequest>,
    ) -> Answer<wire::ImageStatusResponse> {
        let name = image_name(request.into_inner().image);
        self.instant(narrow("ImageStatus", &name), |state| {
            Ok(wire::ImageStatusResponse {
                image: state.images.find(&name).map(on_wire),
                ..Default::default()
            })
        })
        .await
    }

    async fn pull_image(
        &self,
        request: Request<wire::PullImageRequest>,
    ) -> Answer<wire::PullImageResponse> {
        let request = request.into_inner();
        let auth = request.auth.unwrap_or_default();
        let name = image_name(request.image);
        let name = name.as_str();
        self.rpc(narrow("PullImage", name), || self.pull(name, &auth))
            .await
    }

    async fn remove_image(
        &self,
        request: Request<wire::RemoveImageRequest>,
    ) -> Answer<wire::RemoveImageResponse> {
        let name = image_name(request.into_inner().image);
        self.instant(narrow("RemoveImage", &name), |state| {
            state.images.remove(&name);
            Ok(wire::RemoveImageResponse {})
        })
        .await
    }

    async fn image_fs_info(
        &self,
        _request: Request<wire::ImageFsInfoRequest>,
    ) -> Answer<wire::ImageFsInfoResponse> {
        self.instant(narrow("ImageFsInfo", ""), |state| {
            let usage = wire::FilesystemUsage {
                timestamp: state.wall(),
                fs_id: Some(wire::FilesystemIdentifier {
                    mountpoint: state.config.image_filesystem.clone(),
                }),
                used_bytes: Some(wire::UInt64Value {
                    value: state.images.bytes(),
                }),
                inodes_used: Some(wire::UInt64Value { value: 1000 }),
            };
            Ok(wire::ImageFsInfoResponse {
                image_filesystems: vec![usage],
                ..Default::default()
            })
        })
        .await
    }
}
