//! What people read.
//!
//! Upstream: kubectl get, kubectl describe

use expect_test::{Expect, expect};
use kubelet_model::story::{Failure, Next, Story, WaitOf};
use serde_json::{Value, json};

use super::*;
use crate::describe::describe;
use crate::paint::Paint;
use crate::table::{Columns, cells, head, table};
use crate::timeline;
use crate::why::{all, why};

const PLAIN: Paint = Paint { is_on: false };

fn reasons(told: &Told, expected: &Expect) {
    expected.assert_eq(&why(told).text(at(NOW), PLAIN));
}

fn list(columns: Columns, paint: Paint) -> String {
    let pods = [ready_pod(), unready_pod(), crashing_pod()];
    let rows = pods.iter().map(|told| cells(told, columns, at(NOW)));
    let rows: Vec<_> = [head(columns)].into_iter().chain(rows).collect();
    table(&rows, paint)
}

#[test]
fn lists_look_as_kubectls() {
    let namespace = true;
    expect![[r#"
        NAMESPACE   NAME        READY   STATUS             RESTARTS      AGE
        default     good-n1     1/1     Running            0             2m10s
        default     broken-n1   0/1     Running            0             2m10s
        default     crash-n1    0/1     CrashLoopBackOff   3 (12s ago)   2m10s
    "#]]
    .assert_eq(&list(
        Columns {
            namespace,
            wide: false,
        },
        PLAIN,
    ));
    expect![[r#"
        NAME        READY   STATUS             RESTARTS      AGE     IP         NODE   SOURCE   PROBES
        good-n1     1/1     Running            0             2m10s   10.0.0.7   n1     file     2 ok
        broken-n1   0/1     Running            0             2m10s   10.0.0.7   n1     file     2 ok, 1 failing
        crash-n1    0/1     CrashLoopBackOff   3 (12s ago)   2m10s   10.0.0.7   n1     file     <none>
    "#]].assert_eq(&list(Columns { namespace: false, wide: true }, PLAIN));
    let painted = list(
        Columns {
            namespace,
            wide: false,
        },
        Paint { is_on: true },
    );
    assert!(painted.contains("\u{1b}[32mRunning\u{1b}[0m"), "{painted}");
    let plain = painted.replace("\u{1b}[32m", "").replace("\u{1b}[33m", "");
    let plain = plain.replace("\u{1b}[31m", "").replace("\u{1b}[0m", "");
    assert_eq!(
        plain,
        list(
            Columns {
                namespace,
                wide: false
            },
            PLAIN
        ),
        "colours move no column"
    );
}

#[test]
fn a_failing_readiness_probe_is_the_reason() {
    reasons(
        &unready_pod(),
        &expect![[r#"
            Pod default/broken-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - Container web runs and is not ready, since 2m8s
                - Readiness probe GET http://:http/ready (every 10s, timeout 1s) has failed 13 times in a row
                  last error (4s ago): Get "http://10.0.0.7:8080/ready": dial tcp 10.0.0.7:8080: connect: connection refused
                  tried again in 6s
        "#]],
    );
}

#[test]
fn a_ready_pod_is_said_to_be_ready() {
    reasons(
        &ready_pod(),
        &expect![[r#"
        Pod default/good-n1 is Ready since 2026-11-30T12:00:05Z (2m5s ago).
    "#]],
    );
    let mut fails = ready_pod();
    fails.story.probes.push(failing("Liveness", 2));
    reasons(
        &fails,
        &expect![[r#"
            Pod default/good-n1 is Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Container web: Liveness probe exec [cat /alive] (every 10s, timeout 1s) has failed 2 times in a row; the container is restarted at 3
              last error (4s ago): Get "http://10.0.0.7:8080/ready": dial tcp 10.0.0.7:8080: connect: connection refused
              tried again in 6s
        "#]],
    );
}

#[test]
fn a_crash_loop_says_how_it_ended_and_when_it_starts() {
    reasons(
        &crashing_pod(),
        &expect![[r#"
            Pod default/crash-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - Container web keeps ending; its next start is held back (CrashLoopBackOff)
                because: back-off 40s restarting failed container=web pod=crash_default(uid-crash)
                tried again in 28s
                - It was restarted 3 times. Container web ended with exit code 1 (Error) after 8s, 12s ago
                  it said: no database
        "#]],
    );
}

#[test]
fn without_a_name_only_what_is_not_well_is_told() {
    let pods = [ready_pod(), crashing_pod(), ready_pod()];
    let pods: Vec<&Told> = pods.iter().collect();
    expect![[r#"
        Pod default/crash-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
        - Condition Ready is False: containers with unready status: [web]
          - Container web keeps ending; its next start is held back (CrashLoopBackOff)
            because: back-off 40s restarting failed container=web pod=crash_default(uid-crash)
            tried again in 28s
            - It was restarted 3 times. Container web ended with exit code 1 (Error) after 8s, 12s ago
              it said: no database

        2 other pods are Ready or have succeeded.
    "#]].assert_eq(&all(&pods, at(NOW), PLAIN));
    expect![[r#"
        The only pod is Ready or has succeeded.
    "#]]
    .assert_eq(&all(&pods[..1], at(NOW), PLAIN));
    expect![[r#"
        All 2 pods are Ready or have succeeded.
    "#]]
    .assert_eq(&all(&[pods[0], pods[2]], at(NOW), PLAIN));
}

/// A pod with one container in a state.
fn in_state(container: Value, story: Story) -> Told {
    told(pod("web", container, &unready()), story)
}

#[test]
fn what_a_container_waits_for() {
    let creating = json!({"state": {"waiting": {"reason": "ContainerCreating"}}});
    let doing = Story {
        doing: vec!["pulling, if it is absent, image \"i\" for container web".to_owned()],
        ..Story::default()
    };
    reasons(
        &in_state(creating.clone(), doing),
        &expect![[r#"
            Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - Under way: pulling, if it is absent, image "i" for container web
              - Container web was not started yet (ContainerCreating)
        "#]],
    );
    let mount = wait(
        WaitOf::Volume("v".to_owned()),
        "FailedMount",
        "configmap \"settings\" not found",
        Some(NOW + 2),
    );
    let waits = Story {
        waits: vec![mount],
        ..Story::default()
    };
    reasons(
        &in_state(creating, waits),
        &expect![[r#"
            Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - Volume v cannot be set up (FailedMount)
                because: configmap "settings" not found
                tried again in 2s
              - Container web was not started yet (ContainerCreating)
        "#]],
    );
    let pull = json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"i\": ErrImagePull: not found"}}});
    let waits = Story {
        waits: vec![wait(
            WaitOf::Container("web".to_owned()),
            "ImagePullBackOff",
            "",
            Some(NOW + 75),
        )],
        ..Story::default()
    };
    reasons(
        &in_state(pull, waits),
        &expect![[r#"
            Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - Container web has no image: the pull failed and the next one is held back (ImagePullBackOff)
                because: Back-off pulling image "i": ErrImagePull: not found
                tried again in 75s
        "#]],
    );
}

#[test]
fn a_startup_probe_comes_first() {
    let runs = json!({"state": running()});
    let mut startup = probe("Startup");
    startup.failure = Some(Failure {
        at: at(NOW - 1),
        text: "dial tcp 10.0.0.7:8080: connect: connection refused".to_owned(),
    });
    let mut readiness = probe("Readiness");
    readiness.next = Next::AfterStartup;
    let story = Story {
        probes: vec![startup, readiness],
        ..Story::default()
    };
    reasons(
        &in_state(runs.clone(), story),
        &expect![[r#"
            Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - Container web runs and is not ready, since 2m8s
                - Startup probe TCP :8080 (every 1s, timeout 1s) has not succeeded yet
                  last error (1s ago): dial tcp 10.0.0.7:8080: connect: connection refused
                  tried again in 6s
        "#]],
    );
    let story = Story {
        probes: vec![failing("Startup", 7)],
        ..Story::default()
    };
    reasons(
        &in_state(runs.clone(), story),
        &expect![[r#"
            Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - Container web runs and is not ready, since 2m8s
                - Startup probe TCP :8080 (every 1s, timeout 1s) has failed 7 times in a row; the container is restarted at 30
                  last error (4s ago): Get "http://10.0.0.7:8080/ready": dial tcp 10.0.0.7:8080: connect: connection refused
                  tried again in 6s
        "#]],
    );
    // Of an older kubelet, or before the prober has looked.
    reasons(
        &in_state(runs, Story::default()),
        &expect![[r#"
        Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
        - Condition Ready is False: containers with unready status: [web]
          - Container web runs and is not ready, since 2m8s
            - Its startup probe has not succeeded
    "#]],
    );
}

#[test]
fn init_containers_sidecars_and_gates() {
    let waiting = json!({"state": {"waiting": {"reason": "PodInitializing"}}});
    let mut init = pod(
        "web",
        waiting,
        &ready("False", Some("containers with unready status: [web]")),
    );
    init["spec"]["initContainers"] = json!([
        {"name": "first", "image": "i"}, {"name": "proxy", "image": "i", "restartPolicy": "Always"}, {"name": "last", "image": "i"},
    ]);
    init["status"]["phase"] = json!("Pending");
    let status = |name: &str, state: Value, ready: bool, started: bool| json!({"name": name, "image": "i", "imageID": "", "restartCount": 0, "ready": ready, "started": started, "state": state});
    let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let not_begun = json!({"waiting": {"reason": "PodInitializing"}});
    init["status"]["initContainerStatuses"] = json!([
        status("first", done.clone(), true, false),
        status("proxy", running(), false, true),
        status("last", running(), false, true),
    ]);
    reasons(
        &told(init.clone(), Story::default()),
        &expect![[r#"
            Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - Sidecar proxy runs and is not ready, since 2m8s
              - Init container last runs and has not ended, since 2m8s
        "#]],
    );
    init["status"]["initContainerStatuses"] = json!([
        status(
            "first",
            json!({"terminated": {"exitCode": 3, "reason": "Error", "message": "no"}}),
            false,
            false
        ),
        status("proxy", not_begun.clone(), false, false),
        status("last", not_begun, false, false),
    ]);
    init["spec"]["restartPolicy"] = json!("Never");
    reasons(
        &told(init, Story::default()),
        &expect![[r#"
            Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - Container first ended with exit code 3 (Error); it is not started again
                because: no
        "#]],
    );
    let container = json!({"state": running(), "started": true, "ready": true});
    let mut gated = pod(
        "web",
        container,
        &ready(
            "False",
            Some("corresponding condition of pod readiness gate \"a/b\" does not exist."),
        ),
    );
    gated["spec"]["readinessGates"] = json!([{"conditionType": "a/b"}]);
    reasons(
        &told(gated, Story::default()),
        &expect![[r#"
        Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
        - Condition Ready is False: corresponding condition of pod readiness gate "a/b" does not exist.
          - Readiness gate a/b: its condition is missing; it is for another program to set
    "#]],
    );
}

#[test]
fn ends_and_pods_that_were_not_let_in() {
    let ended = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": "2026-11-30T12:00:02Z", "finishedAt": "2026-11-30T12:01:00Z"}}});
    let mut done = pod("web", ended, &unready());
    done["status"]["phase"] = json!("Succeeded");
    reasons(
        &told(done.clone(), Story::default()),
        &expect![[r#"
            Pod default/web-n1 has succeeded at 2026-11-30T12:01:00Z (70s ago).
            - Container web ended with exit code 0 (Completed) after 58s, 70s ago
        "#]],
    );
    done["status"] = json!({"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"});
    reasons(
        &told(done, Story::default()),
        &expect![[r#"
            Pod default/web-n1 has failed.
            - Reason OutOfcpu
              because: Node didn't have enough resource: cpu
        "#]],
    );
    let mut leaving = pod(
        "web",
        json!({"state": running(), "ready": true}),
        &ready("True", None),
    );
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-30T12:02:30Z");
    leaving["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    let story = Story {
        doing: vec!["stopping web (within 30 s)".to_owned()],
        ..Story::default()
    };
    reasons(
        &told(leaving, story),
        &expect![[r#"
        Pod default/web-n1 is being deleted since 2026-11-30T12:02:00Z (10s ago).
        - Under way: stopping web (within 30 s)
        - Container web still runs
    "#]],
    );
    let mut held = pod(
        "web",
        json!({"state": {"waiting": {"reason": "ContainerCreating"}}}),
        &unready(),
    );
    held["status"]["phase"] = json!("Pending");
    let message = "pod is held: spec.hostUsers is not supported by this kubelet";
    (held["status"]["reason"], held["status"]["message"]) =
        (json!("UnsupportedField"), json!(message));
    let story = Story {
        waits: vec![wait(WaitOf::Pod, "UnsupportedField", message, None)],
        ..Story::default()
    };
    reasons(
        &told(held, story),
        &expect![[r#"
            Pod default/web-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
            - Condition Ready is False: containers with unready status: [web]
              - The pod uses a field that this kubelet does not support (UnsupportedField)
                because: pod is held: spec.hostUsers is not supported by this kubelet
              - Container web was not started yet (ContainerCreating)
        "#]],
    );
}

#[test]
fn an_answer_for_programs_has_times_and_no_ages() {
    let value = serde_json::to_value(why(&unready_pod())).unwrap();
    expect![[r#"
        {
          "chain": [
            {
              "depth": 0,
              "text": "Condition Ready is False: containers with unready status: [web]"
            },
            {
              "depth": 1,
              "since": "2026-11-30T12:00:02Z",
              "text": "Container web runs and is not ready"
            },
            {
              "depth": 2,
              "lastError": "Get \"http://10.0.0.7:8080/ready\": dial tcp 10.0.0.7:8080: connect: connection refused",
              "lastErrorAt": "2026-11-30T12:02:06Z",
              "nextTry": "2026-11-30T12:02:16Z",
              "text": "Readiness probe GET http://:http/ready (every 10s, timeout 1s) has failed 13 times in a row"
            }
          ],
          "name": "broken-n1",
          "namespace": "default",
          "since": "2026-11-30T12:00:05Z",
          "state": "NotReady",
          "uid": "uid-broken"
        }"#]].assert_eq(&serde_json::to_string_pretty(&value).unwrap());
}

#[test]
fn a_start_stage_by_stage_with_probes() {
    expect![[r#"
        Pod default/good-n1 was Ready 5.000s after it was seen.
        STAGE                    AT             TOOK
        queued                   12:00:00.000   0ms
        admitted                 12:00:00.004   4ms
        sandbox                  12:00:00.310   306ms    #
        pull                     12:00:00.320   10ms
        start                    12:00:02.000   1.680s   ########
        startup probe of web     12:00:03.000   1.000s   ####
        readiness probe of web   12:00:04.900   1.900s   #########
        ready                    12:00:05.000   100ms
    "#]]
    .assert_eq(&timeline::text(&ready_pod(), at(NOW), PLAIN));
    expect![[r#"
        Pod default/broken-n1 is not Ready: it reached "startup probe of web" 2m7s ago.
        STAGE                  AT             TOOK
        queued                 12:00:00.000   0ms
        admitted               12:00:00.004   4ms
        sandbox                12:00:00.310   306ms    ##
        pull                   12:00:00.320   10ms
        start                  12:00:02.000   1.680s   #############
        startup probe of web   12:00:03.000   1.000s   ########
    "#]]
    .assert_eq(&timeline::text(&unready_pod(), at(NOW), PLAIN));
    let mut initialized = ready_pod();
    initialized
        .pod
        .status
        .as_mut()
        .unwrap()
        .init_container_statuses = Some(vec![
        serde_json::from_value(
            json!({"name": "setup", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "finishedAt": "2026-11-30T12:00:01Z"}}}),
        )
        .unwrap(),
    ]);
    expect![[r#"
        Pod default/good-n1 was Ready 5.000s after it was seen.
        STAGE                    AT             TOOK
        queued                   12:00:00.000   0ms
        admitted                 12:00:00.004   4ms
        sandbox                  12:00:00.310   306ms    #
        pull                     12:00:00.320   10ms
        init container setup     12:00:01.000   680ms    ###
        start                    12:00:02.000   1.000s   ####
        startup probe of web     12:00:03.000   1.000s   ####
        readiness probe of web   12:00:04.900   1.900s   #########
        ready                    12:00:05.000   100ms
    "#]]
    .assert_eq(&timeline::text(&initialized, at(NOW), PLAIN));
    let mut later = ready_pod();
    later.story.stages = stages(&[("queued", 60_000), ("ready", 60_100)]);
    expect![[r#"
        Pod default/good-n1 was Ready 100ms after it was seen.
        It began at 2026-11-30T12:00:00Z; this kubelet took it up later and knows only what came then.
        STAGE    AT             TOOK
        queued   12:01:00.000   0ms
        ready    12:01:00.100   100ms   ########################
    "#]].assert_eq(&timeline::text(&later, at(NOW), PLAIN));
    let none = told(pod("web", json!({}), &unready()), Story::default());
    expect![[r#"
        Pod default/web-n1: nothing is known of its start.
    "#]]
    .assert_eq(&timeline::text(&none, at(NOW), PLAIN));
    let all = [ready_pod(), unready_pod(), none];
    let all: Vec<&Told> = all.iter().collect();
    expect![[r#"
        NAMESPACE   NAME        SEEN                   READY AFTER   SLOWEST STAGE
        default     good-n1     2026-11-30T12:00:00Z   5.000s        readiness probe of web (1.900s)
        default     broken-n1   2026-11-30T12:00:00Z   <none>        start (1.680s)
        default     web-n1      <none>                 <none>        <none>
    "#]]
    .assert_eq(&table(&timeline::rows(&all), PLAIN));
}

#[test]
fn a_description_has_everything() {
    expect![[r#"
        Name:                broken-n1
        Namespace:           default
        UID:                 uid-broken
        Source:              file
        Node:                n1
        Start Time:          2026-11-30T12:00:00Z (2m10s ago)
        Annotations:         kubernetes.io/config.source=file
        Status:              Running
        Ready:               0/1
        Restarts:            0
        IPs:                 10.0.0.7
        QoS Class:           BestEffort
        Containers:
          web:
            Image:           i
            Image ID:        sha256:1
            State:           Running since 2026-11-30T12:00:02Z (2m8s ago)
            Ready:           false
            Restart Count:   0
            Startup:         TCP :8080 (every 1s, timeout 1s)
              Result:        success
              Last Try:      succeeded 1s ago, 12 in a row
              Next Try:      never for this instance
            Readiness:       GET http://:http/ready (every 10s, timeout 1s)
              Result:        failure
              Last Try:      failed 4s ago, 13 in a row
              Last Failure:  4s ago: Get "http://10.0.0.7:8080/ready": dial tcp 10.0.0.7:8080: connect: connection refused
              Next Try:      in 6s
            Liveness:        exec [cat /alive] (every 10s, timeout 1s)
              Result:        success
              Last Try:      succeeded 1s ago, 12 in a row
              Next Try:      in 6s
            Mount:           /v from v (ro)
        Conditions:
          Ready:             False  containers with unready status: [web]  2026-11-30T12:00:05Z (2m5s ago)
        Volumes:
          v:                 configMap {"name":"settings"}
        Start:
          Pod default/broken-n1 is not Ready: it reached "startup probe of web" 2m7s ago.
          STAGE                  AT             TOOK
          queued                 12:00:00.000   0ms
          admitted               12:00:00.004   4ms
          sandbox                12:00:00.310   306ms    ##
          pull                   12:00:00.320   10ms
          start                  12:00:02.000   1.680s   #############
          startup probe of web   12:00:03.000   1.000s   ########
        Why:
          Pod default/broken-n1 is not Ready since 2026-11-30T12:00:05Z (2m5s ago).
          - Condition Ready is False: containers with unready status: [web]
            - Container web runs and is not ready, since 2m8s
              - Readiness probe GET http://:http/ready (every 10s, timeout 1s) has failed 13 times in a row
                last error (4s ago): Get "http://10.0.0.7:8080/ready": dial tcp 10.0.0.7:8080: connect: connection refused
                tried again in 6s
    "#]].assert_eq(&describe(&unready_pod(), at(NOW), PLAIN));
}

#[test]
fn a_description_has_containers_that_were_added_and_no_control_characters() {
    let mut debugged = ready_pod();
    let debugger = json!({"name": "debugger", "image": "tools", "imageID": "", "ready": false, "restartCount": 0, "state": running()});
    let status = debugged.pod.status.as_mut().unwrap();
    status.ephemeral_container_statuses = Some(vec![serde_json::from_value(debugger).unwrap()]);
    let text = describe(&debugged, at(NOW), PLAIN);
    let lines = "Ephemeral Containers:\n  debugger:\n    Image:           tools\n    State:           Running since ";
    assert!(text.contains(lines), "{text}");
    let mut hostile = crashing_pod();
    let annotations = hostile.pod.metadata.annotations.as_mut().unwrap();
    annotations.insert("a".to_owned(), "\u{1b}[2Jgone\r\n".to_owned());
    let status = hostile
        .pod
        .status
        .as_mut()
        .unwrap()
        .container_statuses
        .as_mut()
        .unwrap();
    let last = status[0]
        .last_state
        .as_mut()
        .unwrap()
        .terminated
        .as_mut()
        .unwrap();
    last.message = Some("\u{1b}]0;title\u{7}first\nsecond\r".to_owned());
    let text = describe(&hostile, at(NOW), PLAIN);
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    assert!(
        text.contains("first\n") && text.contains("second\n"),
        "{text:?}"
    );
}
