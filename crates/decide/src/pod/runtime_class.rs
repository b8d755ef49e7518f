//! The runtime handler of a pod's sandbox, and what that handler supports.
//!
//! In:    the view: `spec.runtimeClassName`, the cluster's RuntimeClasses, what the runtime says of its handlers
//! Out:   the handler, empty for the runtime's own choice, or why there is none yet; whether its mounts can be read-only with all below
//! Calls: pod_plan, for each new sandbox; container_start; pod_status; act/pod/pod_worker, which remembers the latter
//! Holds: a pod that names a RuntimeClass never runs without it; a RuntimeClass that changes or is deleted changes nothing that
//!        runs; the last known features of a handler are shown until newer ones are known
//! Upstream: pkg/kubelet/runtimeclass/runtimeclass_manager.go (LookupRuntimeHandler), kuberuntime_sandbox.go, kubelet_pods.go
//!           (runtimeHandlerSupportsRecursiveReadOnlyMounts); 1.36; differences: without an API server such a pod waits, there it runs on
//!           the default handler; what is not said yet is waited for, there it counts as not supported

use k8s_openapi::api::core::v1;
use kubelet_model::objects::RuntimeClasses;
use kubelet_model::reason::Reason;

use crate::container::container_config::RecursiveReadOnly;
use crate::shapes::view::PodView;
use crate::shapes::waiting::Waiting;

/// The handler of the pod's class.
pub(crate) fn runtime_handler(view: &PodView<'_>) -> Result<String, Waiting> {
    let name = view.pod.spec().runtime_class_name.as_deref();
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(String::new());
    };
    let why = match &view.inputs.objects.runtime_classes {
        RuntimeClasses::Known(classes) => match classes.get(name) {
            Some(handler) => return Ok(handler.clone()),
            None => format!("runtimeclass.node.k8s.io \"{name}\" not found"),
        },
        RuntimeClasses::NotSynced => {
            format!("failed to lookup RuntimeClass {name}: not listed yet")
        }
        RuntimeClasses::NotListed => {
            format!("failed to lookup RuntimeClass {name}: there is no API server")
        }
    };
    let pod = view.pod;
    let (full, uid) = (&pod.full_name, &pod.uid);
    Err(Waiting {
        reason: Reason::CreatePodSandboxError,
        message: format!(
            "Failed to create sandbox for pod \"{}_{}({uid})\": {why}",
            full.name, full.namespace
        ),
    })
}

/// Whether some mount of the container is to be read-only with all below it, if only where that can be.
pub(crate) fn asks_recursive_read_only(container: &v1::Container) -> bool {
    let mounts = container.volume_mounts.iter().flatten();
    let mut modes = mounts.filter_map(|mount| mount.recursive_read_only.as_deref());
    modes.any(|mode| mode != "Disabled")
}

/// Whether the pod's handler can make mounts read-only with all below them; `None` while nobody said so.
pub(crate) fn recursive_read_only(view: &PodView<'_>) -> Option<RecursiveReadOnly> {
    let remembered = view.memory.record.recursive_read_only;
    let is_supported = said_of_handler(view).or(remembered)?;
    Some(if is_supported {
        RecursiveReadOnly::Supported
    } else {
        RecursiveReadOnly::Unsupported
    })
}

fn said_of_handler(view: &PodView<'_>) -> Option<bool> {
    let handlers = view.inputs.handlers.as_deref()?;
    let handler = runtime_handler(view).ok()?;
    Some(handlers.recursive_read_only.contains(&handler))
}

/// What to remember of the pod's handler, so that a restart of the kubelet shows what was shown before it; `None` for a pod that does not
/// ask, and while it is not known.
pub fn recursive_read_only_to_remember(view: &PodView<'_>) -> Option<bool> {
    let mut containers = view.pod.all_containers();
    let asks = containers.any(asks_recursive_read_only);
    asks.then(|| said_of_handler(view)).flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubelet_model::node::RuntimeHandlers;
    use kubelet_model::objects::PodObjects;

    use super::*;
    use crate::pod::pod_plan::pod_plan;
    use crate::shapes::plan::Action;
    use crate::testing::pod_of;
    use crate::testing::seen::Seen;

    /// The handler of the sandbox that is made, or what the pod waits for.
    fn planned(spec: &str, runtime_classes: RuntimeClasses) -> Result<String, String> {
        let objects = PodObjects {
            runtime_classes,
            ..PodObjects::default()
        };
        let plan = Seen::new(pod_of(spec), objects).see(pod_plan);
        if let Some(waiting) = plan.pod_waiting {
            return Err(format!("{} {}", waiting.reason, waiting.message));
        }
        let made = plan.steps.into_iter().find_map(|step| match step.action {
            Action::RunSandbox(request) => Some(request.runtime_handler),
            _ => None,
        });
        Ok(made.expect("a sandbox is made"))
    }

    #[test]
    fn the_handler_is_that_of_the_class_and_a_missing_class_keeps_the_pod_waiting() {
        let known = || {
            RuntimeClasses::Known(Arc::new(
                [("kata".to_owned(), "kata-qemu".to_owned())].into(),
            ))
        };
        let of = |name: &str| {
            format!("{{runtimeClassName: '{name}', containers: [{{name: c, image: i}}]}}")
        };
        let waits = |why: &str| {
            Err(format!(
                "CreatePodSandboxError Failed to create sandbox for pod \"web_default(u1)\": {why}"
            ))
        };
        let rows = [
            (of("kata"), known(), Ok("kata-qemu".to_owned())),
            (of(""), known(), Ok(String::new())),
            (
                of("gone"),
                known(),
                waits("runtimeclass.node.k8s.io \"gone\" not found"),
            ),
            (
                of("kata"),
                RuntimeClasses::NotSynced,
                waits("failed to lookup RuntimeClass kata: not listed yet"),
            ),
            (
                of("kata"),
                RuntimeClasses::NotListed,
                waits("failed to lookup RuntimeClass kata: there is no API server"),
            ),
        ];
        for (spec, classes, expected) in rows {
            assert_eq!(planned(&spec, classes), expected, "{spec}");
        }
    }

    #[test]
    fn a_mount_with_all_below_it_waits_until_the_handler_is_known() {
        let spec = |mode: &str| {
            format!(
                "{{volumes: [{{name: v, emptyDir: {{}}}}], containers: [{{name: c, image: i, volumeMounts: [
                  {{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: {mode}}}]}}]}}"
            )
        };
        let started = |mode: &str, handlers: Option<&[&str]>| {
            let seen = Seen::new(pod_of(&spec(mode)), PodObjects::default());
            let mut seen = seen.running().prepared();
            seen.observed.containers.clear();
            seen.inputs.handlers = handlers.map(|names| {
                Arc::new(RuntimeHandlers {
                    recursive_read_only: names.iter().map(ToString::to_string).collect(),
                    ..RuntimeHandlers::default()
                })
            });
            let plan = seen.see(pod_plan);
            let made = plan.steps.into_iter().find_map(|step| match step.action {
                Action::StartContainer(start) => start.request.config,
                _ => None,
            });
            let mounts = made.map(|config| config.mounts[0].recursive_read_only);
            let waits = plan.waiting.into_iter().next();
            mounts.ok_or(
                waits
                    .map(|(_, waiting)| waiting.message)
                    .unwrap_or_default(),
            )
        };
        assert_eq!(started("Disabled", None), Ok(false));
        for mode in ["IfPossible", "Enabled"] {
            assert_eq!(started(mode, None), Err(String::new()));
            assert_eq!(started(mode, Some(&[""])), Ok(true));
        }
        assert_eq!(started("IfPossible", Some(&["other"])), Ok(false));
        let why = "failed to resolve recursive read-only mode: volume \"v\" requested recursive read-only mode, but it is not supported by \
                   the runtime";
        assert_eq!(started("Enabled", Some(&[])), Err(why.to_owned()));
    }
}
