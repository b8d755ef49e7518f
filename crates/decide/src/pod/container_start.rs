//! The next step towards one container start: wait, look at the image, start a created container, or create one.
//!
//! In:    view, sandbox, container spec
//! Out:   `Readiness`: the step to take now, or why and until when not
//! Calls: pod_plan
//! Holds: restart counts never decrease; a start after a failure waits for its back-off; the image is looked at before every
//!        start
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go (doBackOff), kuberuntime_container.go (startContainer),
//!        pkg/kubelet/images/image_manager.go

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1;
use kubelet_api::runtime::v1 as cri;
use kubelet_model::observed::{ContainerState, ObservedContainer, ObservedSandbox};
use kubelet_model::reason::Reason;

use crate::container::config_problem::ConfigProblem;
use crate::container::container_config::{
    ContainerSpecView, RecursiveReadOnly, ResolvedMounts, container_config, mount_sub_path,
};
use crate::container::env::{Env, EnvView, container_env};
use crate::container::env_file::env_file_reads;
use crate::container::hosts_file::{
    NODE_HOSTS_HEADER, hosts_file_content, mounts_hosts_file, node_hosts_extra, pod_hostname,
};
use crate::container::sandbox_config::sandbox_config;
use crate::container::security::ImageUser;
use crate::images::pull_credentials::{pull_secrets, waits_for_pull_secrets};
use crate::pod::phase::Standing;
use crate::pod::phase::standing;
use crate::pod::restart::{back_off_key, gap_text};
use crate::pod::restart_all::asks_restart_all;
use crate::pod::runtime_class::{asks_recursive_read_only, recursive_read_only};
use crate::resources::SwapController;
use crate::shapes::outcome::ResolvedImage;
use crate::shapes::paths::{hosts_path, log_dir, pod_dir, volume_paths};
use crate::shapes::plan::{Action, ImageWanted, PullPolicy, StartContainer};
use crate::shapes::record::{ImageBackOff, RecordedExit, ReplacedFor};
use crate::shapes::view::PodView;
use crate::shapes::waiting::Waiting;
use crate::shapes::work::{HostWork, LogLink};
use crate::volumes::{log_link_stem, sub_path_target};

/// While a pull is held back, presence of the image is looked at again this often.
const HELD_IMAGE_RECHECK: SignedDuration = SignedDuration::from_secs(10);

/// How long after its start a pod may wait for its pull secrets.
const PULL_SECRETS_PATIENCE: SignedDuration = SignedDuration::from_secs(2);

/// The runtime says what its handlers can do within a moment of the kubelet's start.
const HANDLERS_RECHECK: SignedDuration = SignedDuration::from_secs(1);

/// What a start needs now.
#[derive(Debug)]
pub enum Readiness {
    /// This step, for this reason.
    Now(Box<Action>, String),
    /// Not before this time.
    Later(Timestamp, Waiting),
    /// Not as the spec is.
    Never(Waiting),
}

/// The step for one container that should start.
pub fn container_start(
    view: &PodView<'_>,
    sandbox: &ObservedSandbox,
    container: &v1::Container,
) -> Readiness {
    let newest = view.observed.instances(&container.name).next();
    if let Some((until, waiting)) = view.memory.held(&container.name, view.now) {
        return Readiness::Later(until, waiting.clone());
    }
    let failed_at = failed_at(view, container, newest);
    let is_replaced = standing(view, &container.name) == Standing::Replaced;
    let replaced = view.memory.record.replaced.get(&container.name);
    let (holds, after_failure) = match replaced.filter(|_| is_replaced).map(|old| old.cause) {
        // It was taken down with all containers of its pod, and did not ask for that.
        _ if was_taken_down(view, container) => (None, None),
        None | Some(ReplacedFor::ProbeInBackOff) => (failed_at, failed_at),
        // What was stopped to make room for another definition has not failed: nothing of it is waited for.
        Some(ReplacedFor::Definition) => (None, None),
        Some(ReplacedFor::Probe(ended_before)) => (None, ended_before),
    };
    if let Some(held) = held_back(view, container, holds) {
        return held;
    }
    if let Some(created) = newest.filter(|c| startable(view, sandbox, c)) {
        let action = Action::StartCreated {
            id: created.id.clone(),
            name: created.name.clone(),
            attempt: created.attempt,
        };
        return Readiness::Now(Box::new(action), "created and never started".to_owned());
    }
    let resolved = view.memory.image(&container.name);
    // The spec may have changed since it was asked for.
    let Some(image) = resolved.filter(|r| r.wanted == image_of(container)) else {
        return image_step(view, sandbox, container);
    };
    if asks_recursive_read_only(container) && recursive_read_only(view).is_none() {
        let waiting = Waiting {
            reason: Reason::ContainerCreating,
            message: String::new(),
        };
        let again = view.now.steady.saturating_add(HANDLERS_RECHECK);
        return Readiness::Later(again.unwrap_or(view.now.steady), waiting);
    }
    if image.env_files.is_none()
        && let Some(step) = env_file_step(view, container)
    {
        return step;
    }
    match start_step(view, sandbox, container, image) {
        Ok(mut start) => {
            start.after_failure = after_failure;
            let why = if after_failure.is_some() {
                "it ended"
            } else {
                "not started yet"
            };
            Readiness::Now(
                Box::new(Action::StartContainer(Box::new(start))),
                why.to_owned(),
            )
        }
        Err(waiting) => Readiness::Never(waiting),
    }
}

fn was_taken_down(view: &PodView<'_>, container: &v1::Container) -> bool {
    let exit = view.memory.record.exits.get(&container.name);
    exit.is_some_and(|exit| exit.is_reset && !asks_restart_all(view.pod, container, exit.code))
}

/// Files are read right before a start: what runs before the container may write them until then.
fn env_file_step(view: &PodView<'_>, container: &v1::Container) -> Option<Readiness> {
    match env_file_reads(view.pod, view.node, container) {
        Ok(reads) if reads.is_empty() => None,
        Ok(reads) => {
            let action = Action::ReadEnvFiles {
                container: container.name.clone(),
                reads,
            };
            let why = "its variables come from files".to_owned();
            Some(Readiness::Now(Box::new(action), why))
        }
        Err(problem) => Some(Readiness::Never(Waiting {
            reason: problem.reason,
            message: problem.message,
        })),
    }
}

/// A created container of this sandbox that no earlier start failed on.
fn startable(view: &PodView<'_>, sandbox: &ObservedSandbox, container: &ObservedContainer) -> bool {
    container.state == ContainerState::Created
        && container.sandbox == sandbox.id
        && !view.memory.is_refused(&container.name, container.attempt)
}

/// When the newest run ended, by steady time, if there was one in any sandbox.
fn failed_at(
    view: &PodView<'_>,
    container: &v1::Container,
    newest: Option<&ObservedContainer>,
) -> Option<Timestamp> {
    let recorded = view.memory.record.exits.get(&container.name);
    let observed = newest.and_then(|c| {
        let exit = c.state.exit()?;
        let same = recorded.filter(|r| r.id == c.id.as_str());
        Some(same.map_or(exit.finished_at, RecordedExit::back_off_from))
    });
    observed
        .or_else(|| recorded.map(RecordedExit::back_off_from))
        .map(|at| at.min(view.now.steady))
}

fn held_back(
    view: &PodView<'_>,
    container: &v1::Container,
    failed_at: Option<Timestamp>,
) -> Option<Readiness> {
    let failed_at = failed_at?;
    let back_off = view.memory.record.restart_back_off.get(&container.name)?;
    let until = back_off.until(
        &back_off_key(container),
        failed_at,
        view.now.steady,
        view.node.max_backoff_seconds,
    )?;
    let message = format!(
        "back-off {} restarting failed container={} pod={}_{}({})",
        gap_text(back_off.seconds),
        container.name,
        view.pod.full_name.name,
        view.pod.full_name.namespace,
        view.pod.uid
    );
    Some(Readiness::Later(
        until,
        Waiting {
            reason: Reason::CrashLoopBackOff,
            message,
        },
    ))
}

/// The image as the spec names it.
pub(crate) fn image_of(container: &v1::Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

/// What is told of a pull that is held back.
fn held_as(image: &str, back_off: &ImageBackOff) -> Waiting {
    Waiting {
        reason: Reason::ImagePullBackOff,
        message: format!(
            "Back-off pulling image \"{image}\": ErrImagePull: {}",
            back_off.message
        ),
    }
}

/// What is told of a container whose image failed, though for another container of the pod, while that one is asked for again.
pub(crate) fn waits_for_image(view: &PodView<'_>, container: &v1::Container) -> Option<Waiting> {
    let image = image_of(container);
    let back_off = view.memory.record.image_back_off.get(image)?;
    Some(held_as(image, back_off))
}

fn image_step(
    view: &PodView<'_>,
    sandbox: &ObservedSandbox,
    container: &v1::Container,
) -> Readiness {
    let image = container.image.clone().unwrap_or_default();
    let back_off = view.memory.record.image_back_off.get(&image);
    let held_until = back_off.and_then(|b| b.back_off.pull_until(view.now.steady));
    if let (Some(back_off), Some(until)) = (back_off, held_until) {
        // Held as a pull; all the same its presence is looked at every now and then: somebody may have loaded it.
        let recheck = back_off
            .looked_at
            .saturating_add(HELD_IMAGE_RECHECK)
            .unwrap_or(until);
        if recheck > view.now.steady {
            return Readiness::Later(until.min(recheck), held_as(&image, back_off));
        }
    }
    if let Some(until) = pull_secrets_wait(view) {
        let waiting = Waiting {
            reason: Reason::ContainerCreating,
            message: String::new(),
        };
        return Readiness::Later(until, waiting);
    }
    match sandbox_config(view.pod, view.node, sandbox.attempt) {
        Ok(config) => {
            let pull_secrets = pull_secrets(view, &image);
            let wanted = ImageWanted {
                container: container.name.clone(),
                image,
                policy: pull_policy(container),
                pull_held_until: held_until,
                pull_secrets,
                sandbox_config: Box::new(config),
            };
            Readiness::Now(
                Box::new(Action::ResolveImage(wanted)),
                "its image comes first".to_owned(),
            )
        }
        Err(problem) => Readiness::Never(Waiting {
            reason: problem.reason,
            message: problem.message,
        }),
    }
}

/// Until when a new pod waits for the first word on its pull secrets: not for long, for it may do without them.
fn pull_secrets_wait(view: &PodView<'_>) -> Option<Timestamp> {
    let start = view.memory.record.start_time?;
    let until = start.saturating_add(PULL_SECRETS_PATIENCE).ok()?;
    // What is shown is wall time: should somebody set the clock meanwhile, nothing is waited for.
    let is_new = start <= view.now.wall && view.now.wall < until;
    let again = view
        .now
        .steady
        .saturating_add(until.duration_since(view.now.wall));
    (is_new && waits_for_pull_secrets(view)).then(|| again.unwrap_or(view.now.steady))
}

fn pull_policy(container: &v1::Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    }
}

fn start_step(
    view: &PodView<'_>,
    sandbox: &ObservedSandbox,
    container: &v1::Container,
    image: &ResolvedImage,
) -> Result<StartContainer, Waiting> {
    let waiting = |problem: ConfigProblem| Waiting {
        reason: problem.reason,
        message: problem.message,
    };
    let restart_count = next_restart_count(view, &container.name);
    let attempt = next_attempt(view, &container.name);
    let hash = format!(
        "{:x}",
        crate::sources::identity::container_hash(&container.name, image_of(container))
    );
    let message_path = termination_message_path(view, container, attempt);
    // The runtime knows no address of a sandbox on the node's network.
    let pod_ips = if view.pod.is_host_network() {
        view.node.ips.clone()
    } else {
        sandbox.ips.clone().unwrap_or_default()
    };
    let env = container_env(&EnvView {
        pod: view.pod,
        container,
        node: view.node,
        pod_ips: &pod_ips,
        objects: &view.inputs.objects,
        env_files: image.env_files.as_ref(),
    })
    .map_err(waiting)?;
    let sub_paths = sub_paths(view, container, &env);
    let mounts = ResolvedMounts {
        volumes: volume_paths(view.pod, view.node),
        sub_paths: sub_paths.iter().filter_map(sub_path_place).collect(),
        hosts_path: mounts_hosts_file(view.pod, container, &pod_ips)
            .then(|| hosts_path(view.pod, view.node)),
        termination_message_path: message_path.clone(),
    };
    let mut config = container_config(&ContainerSpecView {
        pod: view.pod,
        container,
        node: view.node,
        restart_count,
        attempt,
        hash: &hash,
        image_id: &image.id,
        image_user: ImageUser::of_image(image.uid, &image.username),
        pod_ips: &pod_ips,
        objects: &view.inputs.objects,
        env_files: image.env_files.as_ref(),
        // A container that asks for it is not started before it is known.
        recursive_read_only: recursive_read_only(view).unwrap_or(RecursiveReadOnly::Unsupported),
        mounts: &mounts,
        swap: if view.node.cgroups.has_swap {
            SwapController::Available
        } else {
            SwapController::Missing
        },
    })
    .map_err(waiting)?;
    aim_at_target(view, container, &mut config)?;
    let sandbox_config = sandbox_config(view.pod, view.node, sandbox.attempt).map_err(waiting)?;
    let log_dir = log_dir(view.pod, view.node);
    let log_link = LogLink {
        stem: log_link_stem(view.pod, &container.name),
        target: format!("{log_dir}/{}", config.log_path),
    };
    let mut before = files_before(view, container, message_path, &pod_ips).map_err(waiting)?;
    before.extend(sub_paths.into_iter().map(|(_, work)| work));
    Ok(StartContainer {
        name: container.name.clone(),
        restart_count,
        attempt,
        before,
        request: cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.as_str().to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        },
        log_link: Some(log_link),
        after_failure: None,
    })
}

/// An ephemeral container that names another sees that one's processes, where it would see its own alone.
fn aim_at_target(
    view: &PodView<'_>,
    container: &v1::Container,
    config: &mut cri::ContainerConfig,
) -> Result<(), Waiting> {
    let ephemeral = view.pod.spec().ephemeral_containers.iter().flatten();
    let own = ephemeral.into_iter().find(|one| one.name == container.name);
    let target = own.and_then(|one| one.target_container_name.as_deref());
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        return Ok(());
    };
    let Some(instance) = view.observed.instances(target).next() else {
        return Err(Waiting {
            reason: Reason::CreateContainerConfigError,
            message: format!("unable to find target container {target}"),
        });
    };
    let linux = config.linux.as_mut();
    let security = linux.and_then(|linux| linux.security_context.as_mut());
    let options = security.and_then(|security| security.namespace_options.as_mut());
    if let Some(options) = options
        && options.pid == i32::from(cri::NamespaceMode::Container)
    {
        options.pid = cri::NamespaceMode::Target.into();
        options.target_id = instance.id.as_str().to_owned();
    }
    Ok(())
}

/// Parts of volumes that the container mounts, by index in `volumeMounts`. One that cannot be had is left to the message's own
/// builder, which says why.
fn sub_paths(view: &PodView<'_>, container: &v1::Container, env: &Env) -> Vec<(usize, HostWork)> {
    let paths = volume_paths(view.pod, view.node);
    let declared = container.volume_mounts.iter().flatten().enumerate();
    declared
        .filter_map(|(index, mount)| {
            let part = mount_sub_path(mount, env).ok().flatten()?;
            let volume_path = paths.get(&mount.name)?.clone();
            let (pod, node) = (view.pod, view.node);
            let work = HostWork::SubPath {
                volume: mount.name.clone(),
                container: container.name.clone(),
                volume_path,
                part,
                target: sub_path_target(pod, node, &container.name, index, &mount.name),
            };
            Some((index, work))
        })
        .collect()
}

fn sub_path_place((index, work): &(usize, HostWork)) -> Option<(usize, String)> {
    let HostWork::SubPath { target, .. } = work else {
        return None;
    };
    Some((*index, target.clone()))
}

/// One more than any instance that ran ever had; 0 when there was none. A start that was cut off is no run.
fn next_restart_count(view: &PodView<'_>, name: &str) -> u32 {
    let observed = view.observed.instances(name).map(|c| c.restart_count).max();
    let recorded = view.memory.record.restart_counts.get(name).copied();
    let highest = observed.max(recorded);
    highest.map_or(0, |highest| highest.saturating_add(1))
}

/// A number that no instance bears: the runtime may hold one whose start was cut off, and of two exits the higher attempt is newer.
fn next_attempt(view: &PodView<'_>, name: &str) -> u32 {
    let record = &view.memory.record;
    let held = view.observed.all_instances().filter(|c| c.name == name);
    let known = [
        held.map(|c| c.attempt).max(),
        record.exits.get(name).map(|exit| exit.attempt),
        record.running.get(name).map(|run| run.attempt),
    ];
    let highest = known.into_iter().flatten().max();
    let after = highest.map_or(0, |highest| highest.saturating_add(1));
    after.max(next_restart_count(view, name))
}

/// A file name of its own for every start, as upstream's eight hex digits.
fn termination_message_path(
    view: &PodView<'_>,
    container: &v1::Container,
    attempt: u32,
) -> Option<String> {
    container
        .termination_message_path
        .as_deref()
        .filter(|path| !path.is_empty())?;
    let seed = format!(
        "{}/{}/{attempt}/{}",
        view.pod.uid, container.name, view.now.steady
    );
    let digits = seed.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    Some(format!(
        "{}/containers/{}/{digits:08x}",
        pod_dir(view.pod, view.node),
        container.name
    ))
}

fn files_before(
    view: &PodView<'_>,
    container: &v1::Container,
    message_path: Option<String>,
    pod_ips: &[String],
) -> Result<Vec<HostWork>, ConfigProblem> {
    let dir = pod_dir(view.pod, view.node);
    let mut work = vec![
        HostWork::MakeDir {
            path: format!("{}/{}", log_dir(view.pod, view.node), container.name),
            mode: 0o755,
        },
        HostWork::MakeDir {
            path: format!("{dir}/containers/{}", container.name),
            mode: 0o750,
        },
    ];
    if let Some(path) = message_path {
        work.push(HostWork::WriteFile {
            path,
            mode: 0o666,
            content: String::new(),
        });
    }
    if mounts_hosts_file(view.pod, container, pod_ips) {
        work.push(hosts_file(view, pod_ips)?);
    }
    Ok(work)
}

fn hosts_file(view: &PodView<'_>, pod_ips: &[String]) -> Result<HostWork, ConfigProblem> {
    let path = hosts_path(view.pod, view.node);
    if view.pod.is_host_network() {
        let head = NODE_HOSTS_HEADER.to_owned();
        return Ok(HostWork::WriteHostsFromNode {
            path,
            head,
            tail: node_hosts_extra(view.pod),
        });
    }
    let name = pod_hostname(view.pod, &view.node.dns.cluster_domain)?;
    let content = hosts_file_content(view.pod, pod_ips, &name);
    Ok(HostWork::WriteFile {
        path,
        mode: 0o644,
        content,
    })
}

#[cfg(test)]
mod tests;
