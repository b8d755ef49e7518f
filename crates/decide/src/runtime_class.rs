//! Which of the runtime's handlers a pod's sandbox is made with.
//!
//! In:    the view: `spec.runtimeClassName`, the cluster's RuntimeClasses
//! Out:   the handler, empty for the runtime's own choice; or why there is none yet
//! Calls: pod_plan, for each new sandbox
//! Holds: a pod that names a class never runs without it; a class that changes or goes changes nothing that runs
//! Upstream: pkg/kubelet/runtimeclass/runtimeclass_manager.go (LookupRuntimeHandler), kuberuntime_sandbox.go; 1.36; differences: without an
//!           API server such a pod waits, there it runs on the default handler

use kubelet_model::objects::RuntimeClasses;
use kubelet_model::reason::Reason;

use crate::view::{PodView, Waiting};

/// The handler of the pod's class.
pub(crate) fn runtime_handler(view: &PodView<'_>) -> Result<String, Waiting> {
    let name = view.pod.spec().runtime_class_name.as_deref();
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(String::new());
    };
    let why = match &view.objects.runtime_classes {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kubelet_model::objects::PodObjects;

    use super::*;
    use crate::plan::Action;
    use crate::pod_plan::pod_plan;
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
}
