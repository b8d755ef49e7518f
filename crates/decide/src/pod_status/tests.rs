//! Readiness gates by upstream's table, and what others wrote into the status.

use kubelet_model::objects::PodObjects;

use super::*;
use crate::testing::pod;
use crate::testing::seen::Seen;

/// `Ready` and `ContainersReady` of a running pod whose object carries these conditions, and all types shown.
fn shown(conditions: &str) -> (String, String, String) {
    let pod = pod(&format!(
        "{{spec: {{containers: [{{name: c, image: i}}], readinessGates: [{{conditionType: a/b}}, {{conditionType: c/d}}]}}, \
          status: {{conditions: [{conditions}]}}}}"
    ));
    let status = Seen::new(pod, PodObjects::default())
        .running()
        .see(|view| pod_status(view).status);
    let conditions = status.conditions.unwrap_or_default();
    let of = |type_: &str| {
        let c = conditions.iter().find(|c| c.type_ == type_).unwrap();
        let [reason, message] = [&c.reason, &c.message].map(|t| t.as_deref().unwrap_or_default());
        format!("{} {reason} {message}", c.status).trim().to_owned()
    };
    let types: Vec<_> = conditions.iter().map(|c| c.type_.as_str()).collect();
    (of("Ready"), of("ContainersReady"), types.join(" "))
}

#[test]
fn a_pod_is_ready_when_every_gate_was_opened_by_somebody() {
    let missing = |name: &str| {
        format!("corresponding condition of pod readiness gate \"{name}\" does not exist.")
    };
    let rows = [
        (
            "",
            format!("False ReadinessGatesNotReady {}, {}", missing("a/b"), missing("c/d")),
        ),
        (
            "{type: a/b, status: 'False'}, {type: c/d, status: 'True'}",
            "False ReadinessGatesNotReady the status of pod readiness gate \"a/b\" is not \"True\", but False".to_owned(),
        ),
        (
            "{type: a/b, status: 'True'}, {type: c/d, status: Unknown}",
            "False ReadinessGatesNotReady the status of pod readiness gate \"c/d\" is not \"True\", but Unknown".to_owned(),
        ),
        (
            "{type: c/d, status: 'True'}, {type: a/b, status: 'True'}",
            "True".to_owned(),
        ),
    ];
    for (conditions, ready) in rows {
        let (shown, containers, _) = shown(conditions);
        assert_eq!(
            (shown, containers.as_str()),
            (ready, "True"),
            "{conditions}"
        );
    }
}

#[test]
fn conditions_of_others_are_shown_as_they_are_and_ours_are_made_anew() {
    let held = "{type: Ready, status: 'False', reason: Old}, {type: x/y, status: 'True'}, \
                {type: DisruptionTarget, status: 'True'}";
    let (_, _, types) = shown(held);
    assert_eq!(
        types,
        "x/y DisruptionTarget PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled"
    );
}

#[test]
fn containers_that_are_not_ready_are_told_before_gates() {
    let pod =
        pod("{spec: {containers: [{name: c, image: i}], readinessGates: [{conditionType: a/b}]}}");
    let status = Seen::new(pod, PodObjects::default()).see(|view| pod_status(view).status);
    let conditions = status.conditions.unwrap_or_default();
    let ready = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
}
