//! Whether a status may follow another: a container that is never started again does not leave its end.
//!
//! In:    the pod, the status that is shown, the one to be shown next
//! Out:   what is impossible about it
//! Calls: act/pod/pod_worker, before a status is shown
//! Holds: a status that cannot be true is not shown; the one before it stays
//! Upstream: pkg/kubelet/status/status_manager.go (checkContainerStateTransition), 1.36

use k8s_openapi::api::core::v1;
use kubelet_model::pod::{Pod, is_sidecar};

use crate::pod::restart::restarts_after;
use crate::pod::restart_all::may_restart_all;

fn exit_code(status: &v1::ContainerStatus) -> Option<i32> {
    let state = status.state.as_ref()?;
    state.terminated.as_ref().map(|ended| ended.exit_code)
}

/// Why the second status cannot follow the first; `None` where it can. Another start of the pod is another life of it.
pub fn impossible_transition(
    pod: &Pod,
    shown: &v1::PodStatus,
    next: &v1::PodStatus,
) -> Option<String> {
    if shown.start_time != next.start_time || may_restart_all(pod) {
        return None;
    }
    let before = shown.container_statuses.iter().flatten();
    let before = before.chain(shown.init_container_statuses.iter().flatten());
    let after = || {
        let regular = next.container_statuses.iter().flatten();
        regular.chain(next.init_container_statuses.iter().flatten())
    };
    before
        .filter_map(|status| Some((status, exit_code(status)?)))
        .find_map(|(status, code)| {
            let name = &status.name;
            let spec = pod.declared_container(name)?;
            let is_init = pod.init_container(name).is_some();
            // An init container that the kernel killed for memory has failed, whatever its code.
            let of_init = is_init && (is_sidecar(spec) || restarts_after(pod, spec, code.max(1)));
            let may_leave = of_init || restarts_after(pod, spec, code);
            let now = after().find(|status| status.name == *name)?;
            (!may_leave && exit_code(now).is_none()).then(|| {
                format!("terminated container {name} attempted illegal transition to non-terminated state")
            })
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::pod_of;

    fn status(state: &serde_json::Value, start: &str) -> v1::PodStatus {
        let one = json!({"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        serde_json::from_value(json!({"startTime": start, "containerStatuses": [one]})).unwrap()
    }

    const START: &str = "2026-01-01T00:00:00Z";

    /// Rows of policy, exit code, whether the end may be left.
    #[test]
    fn an_end_is_left_only_where_the_policy_says_so() {
        let rows = [
            ("restartPolicy: Never", 0, false),
            ("restartPolicy: Never", 1, false),
            ("restartPolicy: OnFailure", 0, false),
            ("restartPolicy: OnFailure", 1, true),
            ("restartPolicy: Always", 0, true),
        ];
        for (policy, code, may_leave) in rows {
            let pod = pod_of(&format!("{{{policy}, containers: [{{name: a}}]}}"));
            let ended = status(&json!({"terminated": {"exitCode": code}}), START);
            let runs = status(&json!({"running": {}}), START);
            let says = impossible_transition(&pod, &ended, &runs);
            assert_eq!(says.is_none(), may_leave, "{policy} {code}");
            assert_eq!(impossible_transition(&pod, &ended, &ended), None);
            assert_eq!(impossible_transition(&pod, &runs, &ended), None);
            // Another life of the pod.
            let later = status(&json!({"running": {}}), "2026-01-01T00:00:01Z");
            assert_eq!(impossible_transition(&pod, &ended, &later), None);
        }
    }
}
