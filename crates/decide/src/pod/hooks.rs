//! Lifecycle hooks: which are due, what they do, and what is told where they fail.
//!
//! In:    `PodView`: specs, and what the record knows of hooks that were begun
//! Out:   the postStart hook that a running instance waits for; the preStop hook of one that is to be stopped; texts
//! Calls: pod_plan; act/pod/hooks
//! Holds: a hook that has ended is not run again for that instance; one that the end of the kubelet cut short is
//! Upstream: pkg/kubelet/lifecycle/handlers.go, kuberuntime/kuberuntime_container.go (startContainer, killContainer), 1.36; differences:
//!        there a restart of the kubelet forgets a postStart hook, and runs a preStop hook again that was done

use std::time::Duration;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubelet_model::observed::{ContainerState, ObservedContainer};
use kubelet_model::pod::Pod;

use crate::container::config_problem::pod_text;
use crate::probes::ask::port_of;
use crate::probes::readiness::{PostStart, post_start_of};
use crate::shapes::hook::{Hook, HttpHook};
use crate::shapes::record::Stopping;
use crate::shapes::view::PodView;

/// The postStart hook that this running instance waits for.
pub fn due_post_start(
    view: &PodView<'_>,
    spec: &v1::Container,
    container: &ObservedContainer,
) -> Option<Hook> {
    let is_running = matches!(container.state, ContainerState::Running { .. });
    if !is_running || post_start_of(view, container) != PostStart::Due {
        return None;
    }
    let handler = spec.lifecycle.as_ref()?.post_start.as_ref()?;
    Some(hook(view, handler, spec, Duration::ZERO))
}

/// The preStop hook of an instance that is to be stopped, unless it was run: the spec's, else what the instance was made with.
pub fn pre_stop(view: &PodView<'_>, container: &ObservedContainer) -> Option<Hook> {
    let stopping = view.memory.record.stopping.get(container.id.as_str());
    if stopping.is_some_and(|stopping| stopping.hook_done) {
        return None;
    }
    let spec = view.pod.container(&container.name);
    let handler = match spec {
        Some(spec) => spec.lifecycle.as_ref()?.pre_stop.as_ref()?,
        None => container.pre_stop.as_deref()?,
    };
    let nameless = v1::Container::default();
    let run = stopping.and_then(|stopping| ran_for(stopping, view));
    let run = run.unwrap_or_default();
    Some(hook(view, handler, spec.unwrap_or(&nameless), run))
}

/// How long its hook has run already.
fn ran_for(stopping: &Stopping, view: &PodView<'_>) -> Option<Duration> {
    let since = stopping.hook_since?;
    Duration::try_from(view.now.steady.duration_since(since)).ok()
}

fn hook(
    view: &PodView<'_>,
    handler: &v1::LifecycleHandler,
    container: &v1::Container,
    ran_for: Duration,
) -> Hook {
    if let Some(exec) = &handler.exec {
        return Hook::Exec(exec.command.clone().unwrap_or_default());
    }
    if let Some(get) = &handler.http_get {
        return request(view, get, container).unwrap_or_else(|why| {
            let path = get.path.as_deref().unwrap_or_default();
            Hook::Impossible(http_failure(path, (view.pod, &container.name), &why))
        });
    }
    if let Some(sleep) = &handler.sleep {
        let all = Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0));
        return Hook::Sleep {
            seconds: sleep.seconds,
            left: all.saturating_sub(ran_for),
        };
    }
    Hook::Impossible(format!(
        "Cannot run handler: invalid handler: {}",
        go_text(handler)
    ))
}

fn request(
    view: &PodView<'_>,
    get: &v1::HTTPGetAction,
    container: &v1::Container,
) -> Result<Hook, String> {
    let host = get.host.clone().filter(|host| !host.is_empty());
    let host = host.or_else(|| address(view));
    let host = host.ok_or_else(|| "failed to find networking container".to_owned())?;
    let headers = get.http_headers.iter().flatten();
    Ok(Hook::Http(HttpHook {
        is_tls: get.scheme.as_deref() == Some("HTTPS"),
        host,
        port: port_of(&get.port, container)?,
        path: get.path.clone().unwrap_or_default(),
        headers: headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    }))
}

/// The pod's first address.
fn address(view: &PodView<'_>) -> Option<String> {
    if view.pod.is_host_network() {
        return view.node.ips.first().cloned();
    }
    let mut sandboxes = view.observed.sandboxes.iter();
    let of_sandbox = sandboxes.find_map(|sandbox| sandbox.ips.as_ref()?.first());
    of_sandbox.or(view.memory.record.ips.first()).cloned()
}

/// As Go prints what it does not know how to run.
fn go_text(handler: &v1::LifecycleHandler) -> String {
    let socket = handler.tcp_socket.as_ref().map_or_else(
        || "nil".to_owned(),
        |socket| {
            let port = match &socket.port {
                IntOrString::Int(number) => format!("{{0 {number} }}"),
                IntOrString::String(name) => format!("{{1 0 {name}}}"),
            };
            let host = socket.host.as_deref().unwrap_or_default();
            format!("&TCPSocketAction{{Port:{port},Host:{host},}}")
        },
    );
    format!("&LifecycleHandler{{Exec:nil,HTTPGet:nil,TCPSocket:{socket},Sleep:nil,}}")
}

fn http_failure(path: &str, (pod, container): (&Pod, &str), error: &str) -> String {
    format!(
        "HTTP lifecycle hook ({path}) for Container \"{container}\" in Pod \"{}\" failed - error: {error}",
        pod_text(pod)
    )
}

/// What status shows of a postStart hook that failed; `printed` is the output of a command.
pub fn hook_failure(hook: &Hook, at: (&Pod, &str), error: &str, printed: &str) -> String {
    let (pod, container) = at;
    match hook {
        Hook::Exec(command) => format!(
            "Exec lifecycle hook ([{}]) for Container \"{container}\" in Pod \"{}\" failed - error: {error}, message: {}",
            command.join(" "),
            pod_text(pod),
            crate::container::downward::quoted(printed)
        ),
        Hook::Http(http) => http_failure(&http.path, at, error),
        Hook::Sleep { seconds, .. } => format!(
            "Sleep lifecycle hook ({seconds}) for Container \"{container}\" in Pod \"{}\" failed - error: {error}",
            pod_text(pod)
        ),
        Hook::Impossible(why) => why.clone(),
    }
}

#[cfg(test)]
mod tests;
