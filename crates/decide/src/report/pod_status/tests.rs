//! Readiness gates by upstream's table, and what others wrote into the status.

mod tables;

use std::sync::Arc;

use kubelet_model::node::RuntimeHandlers;
use kubelet_model::objects::{ApiAccess, ObjectState, PodObjects};

use super::*;
use crate::pod::runtime_class::recursive_read_only_to_remember;
use crate::shapes::exits::exit_of;
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
        .see(|view| pod_status(view, &ShownWaits::default()).status);
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
    let status = Seen::new(pod, PodObjects::default())
        .see(|view| pod_status(view, &ShownWaits::default()).status);
    let conditions = status.conditions.unwrap_or_default();
    let ready = conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
}

#[test]
fn mounts_show_whether_all_below_them_is_read_only() {
    let pod = pod(
        "{spec: {volumes: [{name: v, emptyDir: {}}], containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /w},
          {name: v, mountPath: /r, readOnly: true}, {name: v, mountPath: /i, readOnly: true, recursiveReadOnly: IfPossible},
          {name: v, mountPath: /e, readOnly: true, recursiveReadOnly: Enabled}]}]}}",
    );
    let mut seen = Seen::new(pod, PodObjects::default()).running();
    let shown = |seen: &Seen| {
        let status = seen.see(|view| pod_status(view, &ShownWaits::default()).status);
        let mounts = status.container_statuses.unwrap().remove(0).volume_mounts;
        let modes = mounts.into_iter().flatten().map(|m| m.recursive_read_only);
        modes
            .map(|mode| mode.unwrap_or_default())
            .collect::<Vec<_>>()
    };
    let remembered = |seen: &Seen| seen.see(recursive_read_only_to_remember);
    let none = ["", "Disabled", "Disabled", "Disabled"];
    let all = ["", "Disabled", "Enabled", "Enabled"];
    assert_eq!(
        (shown(&seen), remembered(&seen)),
        (none.map(str::to_owned).to_vec(), None)
    );
    seen.inputs.handlers = Some(Arc::new(RuntimeHandlers {
        recursive_read_only: ["runc".to_owned()].into(),
        ..RuntimeHandlers::default()
    }));
    assert_eq!(
        (shown(&seen), remembered(&seen)),
        (none.map(str::to_owned).to_vec(), Some(false))
    );
    seen.inputs.handlers = Some(Arc::new(RuntimeHandlers {
        recursive_read_only: [String::new()].into(),
        ..RuntimeHandlers::default()
    }));
    assert_eq!(
        (shown(&seen), remembered(&seen)),
        (all.map(str::to_owned).to_vec(), Some(true))
    );
    seen.inputs.handlers = None;
    seen.memory.record.recursive_read_only = Some(true);
    assert_eq!(shown(&seen), all, "as before a restart");
}

#[test]
fn a_wait_for_an_answer_is_shown_once_there_is_one() {
    let why = "failed to sync configmap cache: timed out waiting for the condition".to_owned();
    let states = [
        (ObjectState::Asked { why: why.clone() }, false),
        (ObjectState::Unknown { why }, true),
    ];
    for (state, is_shown) in states {
        let pod = pod(
            "{spec: {containers: [{name: c, image: i}], volumes: [{name: v, configMap: {name: m}}]}}",
        );
        let objects = PodObjects {
            access: ApiAccess::Cluster,
            config_maps: [("m".to_owned(), state)].into(),
            ..PodObjects::default()
        };
        let (planned, shown) = Seen::new(pod, objects).see(|view| {
            let plan = crate::pod::pod_plan::pod_plan(view);
            let shown = shown_waits(view, &plan).pod;
            (plan.volumes_waiting, shown)
        });
        let [(volume, planned)] = <[_; 1]>::try_from(planned).expect("it waits in either case");
        assert_eq!(
            (volume.as_str(), planned.reason),
            ("v", Reason::FailedMount)
        );
        assert_eq!(shown, is_shown.then_some(planned));
    }
}

#[test]
fn while_an_answer_is_on_its_way_all_other_waits_are_shown() {
    let waiting = |reason| Waiting {
        reason,
        message: "why".to_owned(),
    };
    let asked = ObjectState::Asked {
        why: "waiting".to_owned(),
    };
    let objects = PodObjects {
        access: ApiAccess::Cluster,
        secrets: [("s".to_owned(), asked)].into(),
        ..PodObjects::default()
    };
    let plan = PodPlan {
        waiting: vec![
            ("a".to_owned(), waiting(Reason::CrashLoopBackOff)),
            ("b".to_owned(), waiting(Reason::CreateContainerConfigError)),
        ],
        pod_waiting: Some(waiting(Reason::NetworkNotReady)),
        ..PodPlan::default()
    };
    let pod = pod("{spec: {containers: [{name: a, image: i}, {name: b, image: i}]}}");
    let waits = Seen::new(pod, objects).see(|view| shown_waits(view, &plan));
    let names: Vec<_> = waits.containers.keys().map(String::as_str).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(waits.pod, plan.pod_waiting);
}

#[test]
fn of_a_status_only_the_words_of_others_are_read() {
    let state = |phase: &str, conditions: &str| {
        pod(&format!(
            "{{spec: {{containers: []}}, status: {{phase: {phase}, conditions: [{conditions}]}}}}"
        ))
    };
    let budget = |status: &str| format!("{{type: DisruptionTarget, status: '{status}'}}");
    let before = state("Pending", &budget("True"));
    let rows = [
        (
            "Running",
            format!("{{type: Ready, status: 'True'}}, {}", budget("True")),
            true,
        ),
        ("Pending", budget("False"), false),
        ("Pending", String::new(), false),
        ("Failed", budget("True"), false),
    ];
    for (phase, conditions, same) in rows {
        let after = state(phase, &conditions);
        assert_eq!(
            reads_same(&before.object, &after.object),
            same,
            "{phase} {conditions}"
        );
    }
}

/// A container of which the runtime still holds an earlier instance while the newest is removed already: nothing goes back.
#[test]
fn an_earlier_instance_that_outlives_a_later_one_is_only_the_last_state() {
    use kubelet_model::observed::Exit;
    let at = |second| Timestamp::from_second(second).unwrap();
    let exit = |code| Exit {
        started_at: at(5),
        finished_at: at(9),
        code,
        reason: "Error".to_owned(),
        message: String::new(),
    };
    let ended = Lifecycle::Terminated {
        cause: crate::shapes::life::TerminationCause::Removed,
    };
    let shown_of = |life: &Lifecycle, recorded_attempt: Option<u32>, observed: bool| {
        let pod = pod("{spec: {restartPolicy: Always, containers: [{name: a, image: i}]}}");
        let mut seen = Seen::new(pod, PodObjects::default()).running();
        let mut one = seen.observed.containers.remove(0);
        (one.attempt, one.restart_count) = (1, 1);
        one.state = ContainerState::Exited(exit(255));
        if let Some(attempt) = recorded_attempt {
            let mut later = exit_of(&one, &exit(137));
            if attempt != one.attempt {
                "later".clone_into(&mut later.id);
            }
            later.attempt = attempt;
            seen.memory.record.exits.insert("a".to_owned(), later);
        }
        if observed {
            seen.observed.containers = vec![one];
        }
        seen.memory.life = life.clone();
        let status = seen.see(|view| pod_status(view, &ShownWaits::default()).status);
        let of = |state: Option<&v1::ContainerState>| {
            state.and_then(|s| s.terminated.as_ref().map(|t| t.exit_code))
        };
        let main = &status.container_statuses.unwrap()[0];
        (of(main.state.as_ref()), of(main.last_state.as_ref()))
    };
    let shown = |attempt, observed| shown_of(&ended, attempt, observed);
    assert_eq!(shown(Some(2), true), (Some(137), Some(255)));
    let of_another_life = shown_of(&Lifecycle::Syncing, Some(2), true);
    assert_eq!(of_another_life.0, Some(255));
    assert_eq!(shown(Some(2), false), (Some(137), None));
    assert_eq!(shown(Some(1), true), (Some(255), None), "the same instance");
    assert_eq!(shown(Some(0), true), (Some(255), Some(137)));
    assert_eq!(shown(None, true), (Some(255), None));
}
