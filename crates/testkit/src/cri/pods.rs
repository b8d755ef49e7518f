//! Transitions and answers of sandboxes and containers, with containerd's error texts and codes.
//!
//! In:    CRI requests
//! Out:   CRI answers, or the status that containerd 1.6 gives
//! Calls: service.rs under the lock
//! Holds: names are reserved until removal; a container starts only from Created; stops, removals and their repetition succeed
//! Upstream: none (facts: containerd 1.6 pkg/cri/server)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubelet_api::runtime::v1 as wire;
use tonic::Status;

use super::behaviour::ContainerCall;
use super::state::{Container, Sandbox, State};
use super::trace::Instance;

fn unknown_container(id: &str) -> Status {
    Status::not_found(format!(
        "an error occurred when try to find container {id:?}: not found"
    ))
}

fn unknown_sandbox(id: &str) -> Status {
    Status::not_found(format!(
        "an error occurred when try to find sandbox: {id:?}: not found"
    ))
}

fn labels_match(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn as_json(value: &serde_json::Value) -> BTreeMap<String, String> {
    BTreeMap::from([("info".to_owned(), value.to_string())])
}

/// Path of the log: the sandbox' directory and the container's file, empty unless both are said.
fn log_path(directory: &str, file: &str) -> String {
    if directory.is_empty() || file.is_empty() {
        return String::new();
    }
    format!("{}/{file}", directory.trim_end_matches('/'))
}

impl State {
    pub(super) fn run_sandbox(
        &mut self,
        request: &wire::RunPodSandboxRequest,
    ) -> Result<String, Status> {
        let config = request.config.clone().unwrap_or_default();
        let metadata = config.metadata.clone().unwrap_or_default();
        if metadata.name.is_empty() || metadata.uid.is_empty() {
            return Err(Status::unknown("sandbox config must include metadata"));
        }
        if !self
            .config
            .runtime_handlers
            .contains(&request.runtime_handler)
        {
            let handler = &request.runtime_handler;
            return Err(Status::unknown(format!(
                "failed to get sandbox runtime: no runtime for {handler:?} is configured"
            )));
        }
        let name = format!(
            "{}_{}_{}_{}",
            metadata.name, metadata.namespace, metadata.uid, metadata.attempt
        );
        if let Some(owner) = self.names.get(&name) {
            return Err(Status::unknown(format!(
                "failed to reserve sandbox name {name:?}: name {name:?} is reserved for {owner:?}"
            )));
        }
        let id = self.new_id();
        let on_node = network_of(&config) == wire::NamespaceMode::Node;
        let ip = if on_node {
            String::new()
        } else {
            self.new_ip()
        };
        let (pid, created, wall) = (self.new_process(), self.now(), self.wall());
        self.names.insert(name.clone(), id.clone());
        self.effect("sandbox", || format!("{id} {name} pid {pid} ip {ip:?}"));
        self.instances.push(Instance {
            pod: format!("{}/{}", metadata.namespace, metadata.name),
            pod_uid: metadata.uid,
            name: String::new(),
            attempt: metadata.attempt,
            id: id.clone(),
            sandbox_id: id.clone(),
            pid,
            asked: self.asked,
            created,
            started: Some(created),
            cut_off: false,
            ended: None,
            exit_code: None,
            ended_by: None,
            stop_asked: None,
            removed: None,
            stops: Vec::new(),
            execs: Vec::new(),
        });
        let sandbox = Sandbox {
            id: id.clone(),
            name,
            config: Arc::new(config),
            runtime_handler: request.runtime_handler.clone(),
            created: wall,
            ready: true,
            pid,
            ip,
            containers: BTreeSet::new(),
            instance: self.instances.len() - 1,
        };
        self.sandboxes.insert(id.clone(), sandbox);
        self.emit(&id, &id, wire::ContainerEventType::ContainerCreatedEvent);
        self.emit(&id, &id, wire::ContainerEventType::ContainerStartedEvent);
        Ok(id)
    }

    /// Containers of a sandbox in order of their ids; `None` if there is no such sandbox.
    pub(super) fn containers_of(&self, sandbox_id: &str) -> Option<Vec<String>> {
        self.sandboxes
            .get(sandbox_id)
            .map(|sandbox| sandbox.containers.iter().cloned().collect())
    }

    pub(super) fn forget_sandbox(&mut self, id: &str) {
        let Some(sandbox) = self.sandboxes.remove(id) else {
            return;
        };
        self.names.remove(&sandbox.name);
        let now = self.now();
        if let Some(instance) = self.instances.get_mut(sandbox.instance) {
            instance.removed = Some(now);
        }
        self.effect("sandbox removed", || id.to_owned());
        self.emit(id, id, wire::ContainerEventType::ContainerDeletedEvent);
    }

    #[expect(
        clippy::too_many_lines,
        reason = "the runtime's own checks, in its order"
    )]
    pub(super) fn create_container(
        &mut self,
        request: &wire::CreateContainerRequest,
    ) -> Result<String, Status> {
        let sandbox_id = &request.pod_sandbox_id;
        let sandbox = self.sandboxes.get(sandbox_id);
        let sandbox = sandbox.ok_or_else(|| {
            Status::not_found(format!(
                "failed to find sandbox id {sandbox_id:?}: not found"
            ))
        })?;
        if !sandbox.ready {
            return Err(Status::not_found(format!(
                "failed to get sandbox container task: no running task found: task {sandbox_id} not found: not found"
            )));
        }
        let pod = Arc::clone(&sandbox.config);
        let pod_metadata = pod.metadata.clone().unwrap_or_default();
        let config = request.config.clone().unwrap_or_default();
        let metadata = config.metadata.clone().unwrap_or_default();
        if metadata.name.is_empty() {
            return Err(Status::unknown("container config must include metadata"));
        }
        let wire::PodSandboxMetadata {
            name: pod_name,
            namespace,
            uid,
            ..
        } = &pod_metadata;
        let name = format!(
            "{}_{pod_name}_{namespace}_{uid}_{}",
            metadata.name, metadata.attempt
        );
        if let Some(owner) = self.names.get(&name) {
            return Err(Status::unknown(format!(
                "failed to reserve container name {name:?}: name {name:?} is reserved for {owner:?}"
            )));
        }
        let image = config
            .image
            .as_ref()
            .map_or("", |image| image.image.as_str());
        let image_id = self.images.find(image).map(|image| image.id.clone());
        let image_id = image_id.ok_or_else(|| {
            Status::not_found(format!("failed to resolve image {image:?}: not found"))
        })?;
        let behaviour = (self.scripts.behaviour)(ContainerCall {
            sandbox: &pod,
            container: &config,
        });
        if let Some(error) = &behaviour.create_error {
            return Err(Status::unknown(error.clone()));
        }
        let (id, created, wall) = (self.new_id(), self.now(), self.wall());
        self.effect("container", || format!("{id} {name} in {sandbox_id}"));
        self.names.insert(name.clone(), id.clone());
        self.instances.push(Instance {
            pod: format!("{namespace}/{pod_name}"),
            pod_uid: uid.clone(),
            name: metadata.name,
            attempt: metadata.attempt,
            id: id.clone(),
            sandbox_id: sandbox_id.clone(),
            pid: 0,
            asked: self.asked,
            created,
            started: None,
            cut_off: false,
            ended: None,
            exit_code: None,
            ended_by: None,
            stop_asked: None,
            removed: None,
            stops: Vec::new(),
            execs: Vec::new(),
        });
        let container = Container {
            id: id.clone(),
            sandbox_id: sandbox_id.clone(),
            name,
            log_path: log_path(&pod.log_directory, &config.log_path),
            config,
            image_id,
            state: wire::ContainerState::ContainerCreated,
            created: wall,
            started: 0,
            finished: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            behaviour,
            process: None,
            term_sent: false,
            exit_seen: tokio_util::sync::CancellationToken::new(),
            instance: self.instances.len() - 1,
        };
        self.add_container(container);
        Ok(id)
    }

    fn add_container(&mut self, container: Container) {
        let (id, sandbox_id) = (container.id.clone(), container.sandbox_id.clone());
        if let Some(sandbox) = self.sandboxes.get_mut(&sandbox_id) {
            sandbox.containers.insert(id.clone());
        }
        self.containers.insert(id.clone(), container);
        self.emit(
            &id,
            &sandbox_id,
            wire::ContainerEventType::ContainerCreatedEvent,
        );
    }

    pub(super) fn start_container(&mut self, id: &str) -> Result<(), Status> {
        let (now, wall) = (self.now(), self.wall());
        let container = self
            .containers
            .get_mut(id)
            .ok_or_else(|| unknown_container(id))?;
        if container.state != wire::ContainerState::ContainerCreated {
            let state = container.state.as_str_name();
            return Err(Status::unknown(format!(
                "failed to set starting state for container {id:?}: container is in {state} state"
            )));
        }
        let sandbox_id = container.sandbox_id.clone();
        let ready = self
            .sandboxes
            .get(&sandbox_id)
            .is_some_and(|sandbox| sandbox.ready);
        let failure = if ready {
            container
                .behaviour
                .start_error
                .as_ref()
                .map(|error| format!("failed to create containerd task: {error}"))
        } else {
            Some(format!("sandbox container {sandbox_id:?} is not running"))
        };
        if let Some(message) = failure {
            container.state = wire::ContainerState::ContainerExited;
            container.finished = wall;
            container.exit_code = 128;
            "StartError".clone_into(&mut container.reason);
            container.message.clone_from(&message);
            container.exit_seen.cancel();
            self.effect("start error", || id.to_owned());
            return Err(Status::unknown(message));
        }
        container.state = wire::ContainerState::ContainerRunning;
        container.started = wall;
        let instance = container.instance;
        let pid = self.new_process();
        if let Some(instance) = self.instances.get_mut(instance) {
            instance.pid = pid;
            instance.started = Some(now);
        }
        self.effect("start", || format!("{id} pid {pid}"));
        self.start_process(id, pid);
        self.emit(
            id,
            &sandbox_id,
            wire::ContainerEventType::ContainerStartedEvent,
        );
        Ok(())
    }

    /// The caller or the runtime went while a container was being started, as containerd has it: a caller's end is the start's, and of a
    /// runtime's the container knows nothing, but its next start finds what is left of this one.
    pub(super) fn cut_off_start(&mut self, id: &str) {
        let wall = self.wall();
        let is_up = self.life.is_some();
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if container.state != wire::ContainerState::ContainerCreated {
            return;
        }
        if let Some(instance) = self.instances.get_mut(container.instance) {
            instance.cut_off = true;
        }
        let left = "failed to create containerd task: task already exists";
        container.behaviour.start_error = Some(left.to_owned());
        if is_up {
            container.state = wire::ContainerState::ContainerExited;
            container.finished = wall;
            container.exit_code = 128;
            "StartError".clone_into(&mut container.reason);
            "context canceled".clone_into(&mut container.message);
            container.exit_seen.cancel();
        }
        self.effect("start cut off", || id.to_owned());
    }

    /// The story of a container.
    pub(super) fn story(&mut self, id: &str) -> Option<&mut Instance> {
        let instance = self.containers.get(id)?.instance;
        self.instances.get_mut(instance)
    }

    /// The token to wait for if the container runs, `None` if there is nothing to stop.
    pub(super) fn running(&self, id: &str) -> Option<tokio_util::sync::CancellationToken> {
        let container = self.containers.get(id)?;
        let running = container.state == wire::ContainerState::ContainerRunning;
        running.then(|| container.exit_seen.clone())
    }

    pub(super) fn forget_container(&mut self, id: &str) {
        let Some(container) = self.containers.remove(id) else {
            return;
        };
        self.names.remove(&container.name);
        if let Some(sandbox) = self.sandboxes.get_mut(&container.sandbox_id) {
            sandbox.containers.remove(id);
        }
        let now = self.now();
        if let Some(instance) = self.instances.get_mut(container.instance) {
            instance.removed = Some(now);
        }
        self.effect("removed", || id.to_owned());
        self.emit(
            id,
            &container.sandbox_id,
            wire::ContainerEventType::ContainerDeletedEvent,
        );
    }

    pub(super) fn update_resources(
        &mut self,
        request: &wire::UpdateContainerResourcesRequest,
    ) -> Result<(), Status> {
        let id = &request.container_id;
        let container = self.containers.get_mut(id);
        let container = container.ok_or_else(|| {
            Status::not_found(format!("failed to find container: {id:?}: not found"))
        })?;
        container
            .config
            .linux
            .get_or_insert_default()
            .resources
            .clone_from(&request.linux);
        self.effect("resources", || format!("{id} {:?}", request.linux));
        Ok(())
    }

    pub(super) fn reopen_log(&self, id: &str) -> Result<(), Status> {
        let container = self
            .containers
            .get(id)
            .ok_or_else(|| unknown_container(id))?;
        if container.state != wire::ContainerState::ContainerRunning {
            return Err(Status::unknown("container is not running"));
        }
        Ok(())
    }

    /// Where the streams of a container, or of a sandbox, are served.
    pub(super) fn streaming_url(&self, what: &str, id: &str) -> Result<String, Status> {
        let Some(base) = &self.config.streaming else {
            return Err(Status::unimplemented("no streaming server"));
        };
        let running = self.containers.get(id).map(|container| container.state);
        if self.sandboxes.contains_key(id)
            || running == Some(wire::ContainerState::ContainerRunning)
        {
            return Ok(format!("{base}/{what}/{id}"));
        }
        match running {
            Some(state) => Err(Status::unknown(format!(
                "container is in {} state",
                state.as_str_name()
            ))),
            None => Err(Status::not_found(format!(
                "failed to find container {id:?} in store: not found"
            ))),
        }
    }

    pub(super) fn sandbox_status(&self, sandbox: &Sandbox) -> wire::PodSandboxStatus {
        let security = sandbox
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref());
        let options = security.and_then(|security| security.namespace_options.clone());
        let ip = if sandbox.ready {
            sandbox.ip.clone()
        } else {
            String::new()
        };
        wire::PodSandboxStatus {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            state: sandbox_state(sandbox).into(),
            created_at: sandbox.created,
            network: Some(wire::PodSandboxNetworkStatus {
                ip,
                additional_ips: Vec::new(),
            }),
            linux: Some(wire::LinuxPodSandboxStatus {
                namespaces: Some(wire::Namespace { options }),
            }),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
            runtime_handler: sandbox.runtime_handler.clone(),
        }
    }

    pub(super) fn show_sandbox(
        &self,
        request: &wire::PodSandboxStatusRequest,
    ) -> Result<wire::PodSandboxStatusResponse, Status> {
        let id = &request.pod_sandbox_id;
        let sandbox = self.sandboxes.get(id).ok_or_else(|| unknown_sandbox(id))?;
        let info = serde_json::json!({
            "pid": sandbox.pid,
            "processStatus": if sandbox.ready { "running" } else { "deleted" },
            "netNamespaceClosed": !sandbox.ready,
            "runtimeHandler": sandbox.runtime_handler,
            "runtimeType": "io.containerd.runc.v2",
        });
        Ok(wire::PodSandboxStatusResponse {
            status: Some(self.sandbox_status(sandbox)),
            info: if request.verbose {
                as_json(&info)
            } else {
                BTreeMap::new()
            },
            ..Default::default()
        })
    }

    pub(super) fn container_status(&self, container: &Container) -> wire::ContainerStatus {
        let mut image = container.config.image.clone().unwrap_or_default();
        let mut image_ref = container.image_id.clone();
        if let Some(stored) = self.images.find(&container.image_id) {
            if let Some(tag) = stored.tags.first() {
                image = wire::ImageSpec {
                    image: tag.clone(),
                    ..Default::default()
                };
            }
            if let Some(digest) = stored.digests.first() {
                image_ref.clone_from(digest);
            }
        }
        let exited = container.state == wire::ContainerState::ContainerExited;
        let reason = match (exited, container.reason.as_str(), container.exit_code) {
            (true, "", 0) => "Completed",
            (true, "", _) => "Error",
            (_, reason, _) => reason,
        };
        let linux = container
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.resources.clone());
        let resources = linux.filter(|_| self.config.status_resources);
        wire::ContainerStatus {
            id: container.id.clone(),
            metadata: container.config.metadata.clone(),
            state: container.state.into(),
            created_at: container.created,
            started_at: container.started,
            finished_at: container.finished,
            exit_code: container.exit_code,
            image: Some(image),
            image_ref,
            reason: reason.to_owned(),
            message: container.message.clone(),
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
            mounts: container.config.mounts.clone(),
            log_path: container.log_path.clone(),
            resources: resources.map(|linux| wire::ContainerResources { linux: Some(linux) }),
            ..Default::default()
        }
    }

    pub(super) fn show_container(
        &self,
        request: &wire::ContainerStatusRequest,
    ) -> Result<wire::ContainerStatusResponse, Status> {
        let id = &request.container_id;
        let container = self
            .containers
            .get(id)
            .ok_or_else(|| unknown_container(id))?;
        let info = serde_json::json!({
            "sandboxID": container.sandbox_id,
            "pid": container.process.as_ref().map_or(0, |process| process.pid),
            "removing": false,
            "snapshotKey": container.id,
            "snapshotter": "overlayfs",
            "runtimeType": "io.containerd.runc.v2",
        });
        Ok(wire::ContainerStatusResponse {
            status: Some(self.container_status(container)),
            info: if request.verbose {
                as_json(&info)
            } else {
                BTreeMap::new()
            },
        })
    }

    pub(super) fn list_sandboxes(
        &self,
        filter: Option<&wire::PodSandboxFilter>,
    ) -> Vec<wire::PodSandbox> {
        let none = wire::PodSandboxFilter::default();
        let filter = filter.unwrap_or(&none);
        let wanted = |sandbox: &&Sandbox| {
            filter
                .state
                .as_ref()
                .is_none_or(|state| state.state == i32::from(sandbox_state(sandbox)))
                && labels_match(&filter.label_selector, &sandbox.config.labels)
        };
        if filter.id.is_empty() {
            self.sandboxes
                .values()
                .filter(wanted)
                .map(listed_sandbox)
                .collect()
        } else {
            self.sandboxes
                .get(&filter.id)
                .into_iter()
                .filter(wanted)
                .map(listed_sandbox)
                .collect()
        }
    }

    pub(super) fn list_containers(
        &self,
        filter: Option<&wire::ContainerFilter>,
    ) -> Vec<wire::Container> {
        let none = wire::ContainerFilter::default();
        let filter = filter.unwrap_or(&none);
        let wanted = |container: &&Container| {
            (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == container.sandbox_id)
                && filter
                    .state
                    .as_ref()
                    .is_none_or(|state| state.state == i32::from(container.state))
                && labels_match(&filter.label_selector, &container.config.labels)
        };
        if !filter.id.is_empty() {
            return self
                .containers
                .get(&filter.id)
                .into_iter()
                .filter(wanted)
                .map(listed_container)
                .collect();
        }
        if filter.pod_sandbox_id.is_empty() {
            return self
                .containers
                .values()
                .filter(wanted)
                .map(listed_container)
                .collect();
        }
        let ids = self
            .sandboxes
            .get(&filter.pod_sandbox_id)
            .into_iter()
            .flat_map(|sandbox| &sandbox.containers);
        ids.filter_map(|id| self.containers.get(id))
            .filter(wanted)
            .map(listed_container)
            .collect()
    }
}

fn network_of(config: &wire::PodSandboxConfig) -> wire::NamespaceMode {
    let security = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let options = security.and_then(|security| security.namespace_options.as_ref());
    options.map_or(wire::NamespaceMode::Pod, wire::NamespaceOption::network)
}

fn sandbox_state(sandbox: &Sandbox) -> wire::PodSandboxState {
    if sandbox.ready {
        wire::PodSandboxState::SandboxReady
    } else {
        wire::PodSandboxState::SandboxNotready
    }
}

fn listed_sandbox(sandbox: &Sandbox) -> wire::PodSandbox {
    wire::PodSandbox {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: sandbox_state(sandbox).into(),
        created_at: sandbox.created,
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

fn listed_container(container: &Container) -> wire::Container {
    wire::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.sandbox_id.clone(),
        metadata: container.config.metadata.clone(),
        image: container.config.image.clone(),
        image_ref: container.image_id.clone(),
        state: container.state.into(),
        created_at: container.created,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        ..Default::default()
    }
}
