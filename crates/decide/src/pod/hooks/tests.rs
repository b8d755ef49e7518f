//! When hooks are due, what they do, what is told of them.

use super::*;
use crate::pod::pod_plan::pod_plan;
use crate::shapes::outcome::{Effect, Failure, Outcome, Subject};
use crate::testing::held::seen;
use crate::testing::node;
use crate::testing::seen::Seen;

fn hook_of(handler: &str) -> Hook {
    let spec = format!(
        "{{containers: [{{name: a, image: i, ports: [{{name: web, containerPort: 8080}}], lifecycle: {{preStop: {handler}}}}}]}}"
    );
    let seen = seen(&spec, "sandbox[0]:ready a[0]:running");
    seen.see(|view| pre_stop(view, &view.observed.containers[0]).unwrap())
}

#[test]
fn each_handler_does_what_the_spec_says() {
    let exec = hook_of("{exec: {command: [sh, -c, 'echo $(A)']}}");
    assert_eq!(
        exec,
        Hook::Exec(vec!["sh".into(), "-c".into(), "echo $(A)".into()])
    );
    let http = |is_tls, host: &str, port, path: &str| {
        Hook::Http(HttpHook {
            is_tls,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            headers: Vec::new(),
        })
    };
    assert_eq!(
        hook_of("{httpGet: {port: web, path: /x}}"),
        http(false, "10.244.0.7", 8080, "/x")
    );
    assert_eq!(
        hook_of("{httpGet: {port: 1, host: h, scheme: HTTPS}}"),
        http(true, "h", 1, "")
    );
    let sleep = |seconds: i64| Hook::Sleep {
        seconds,
        left: Duration::from_secs(u64::try_from(seconds).unwrap()),
    };
    assert_eq!(hook_of("{sleep: {seconds: 0}}"), sleep(0));
    assert_eq!(hook_of("{sleep: {seconds: 9}}"), sleep(9));
}

#[test]
fn what_cannot_be_run_says_why_in_upstreams_words() {
    assert_eq!(
        hook_of("{tcpSocket: {port: 80}}"),
        Hook::Impossible(
            "Cannot run handler: invalid handler: &LifecycleHandler{Exec:nil,HTTPGet:nil,TCPSocket:&TCPSocketAction{Port:{0 80 },Host:,},Sleep:nil,}"
                .to_owned()
        )
    );
    assert_eq!(
        hook_of("{httpGet: {port: nope, path: /x}}"),
        Hook::Impossible(
            "HTTP lifecycle hook (/x) for Container \"a\" in Pod \"web_default(u1)\" failed - error: strconv.Atoi: parsing \"nope\": invalid syntax"
                .to_owned()
        )
    );
    let pod = crate::testing::pod_of("{containers: [{name: a}]}");
    let exec = Hook::Exec(vec!["sh".into(), "-c".into(), "exit 3".into()]);
    assert_eq!(
        hook_failure(
            &exec,
            (&pod, "a"),
            "command 'sh -c exit 3' exited with 3: ",
            "no\n"
        ),
        "Exec lifecycle hook ([sh -c exit 3]) for Container \"a\" in Pod \"web_default(u1)\" failed - error: command 'sh -c exit 3' exited with 3: , message: \"no\\n\""
    );
}

const STARTS: &str = "{containers: [{name: a, image: i, lifecycle: {postStart: {exec: {command: [x]}}}}, {name: b, image: i}]}";

/// One turn of the worker, with what it begins; the plan as text.
fn turn(seen: &mut Seen, held: &str) -> String {
    seen.hold(held);
    let text = seen.turn();
    let plan = seen.see(pod_plan);
    let (pod, now) = (seen.pod.clone(), seen.now);
    seen.memory.begin(&pod, &plan, &node(), now);
    text
}

fn status(seen: &Seen) -> String {
    let plan = seen.see(pod_plan);
    seen.see(|view| crate::testing::held::shown(view, &plan))
}

fn end(seen: &mut Seen, outcome: Outcome) {
    let begun = crate::pod::memory::Begun::default();
    let now = seen.now;
    seen.memory.remember(vec![outcome], &begun, now);
}

#[test]
fn what_comes_after_a_container_starts_after_its_hook() {
    let mut seen = seen(STARTS, "nothing");
    assert_eq!(
        turn(&mut seen, "sandbox[0]:ready"),
        "syncing: start a[0] (not started yet)"
    );
    // It is there, and does not run yet.
    assert_eq!(
        turn(&mut seen, "sandbox[0]:ready a[0]:created"),
        "syncing: start created a (created and never started)"
    );
    let held = "sandbox[0]:ready a[0]:running";
    let due = "syncing: postStart hook of a (started); start b[0] (not started yet)";
    assert_eq!(turn(&mut seen, held), due);
    // Until then it does not count as started, and the next process runs the hook that this one did not see to its end.
    assert_eq!(
        status(&seen),
        "Pending a=waiting ContainerCreating, b=waiting ContainerCreating"
    );
    assert_eq!(turn(&mut seen, held), due);
    end(
        &mut seen,
        Outcome::Done(Effect::PostStarted("a".to_owned())),
    );
    assert_eq!(
        turn(&mut seen, held),
        "syncing: start b[0] (not started yet)"
    );
    assert_eq!(
        status(&seen),
        "Pending a=running ready, b=waiting ContainerCreating"
    );
    // Of an instance that another kubelet started nothing is due.
    seen.memory.record.post_start.clear();
    let held = "sandbox[0]:ready a[0]:running b[0]:running";
    assert_eq!(turn(&mut seen, held), "syncing: nothing to do");
}

#[test]
fn a_container_whose_hook_failed_is_stopped_and_waits_with_upstreams_reason() {
    let mut seen = seen(STARTS, "nothing");
    turn(&mut seen, "sandbox[0]:ready");
    let held = "sandbox[0]:ready a[0]:running b[0]:running";
    turn(&mut seen, held);
    let of = Subject::Container("a".to_owned());
    let failure = Failure::new(
        of,
        kubelet_model::reason::Reason::PostStartHookError,
        "why".to_owned(),
    );
    end(&mut seen, Outcome::Failed(failure));
    assert_eq!(
        turn(&mut seen, held),
        "syncing: stop a/30s (its postStart hook failed)"
    );
    let held = "sandbox[0]:ready a[0]:exited(137) b[0]:running";
    seen.hold(held);
    assert_eq!(
        status(&seen),
        "Running a=waiting PostStartHookError, b=running ready"
    );
    assert_eq!(
        turn(&mut seen, held),
        "syncing: image a (its image comes first)"
    );
    seen = seen.prepared();
    assert_eq!(turn(&mut seen, held), "syncing: start a[1] (it ended)");
    // Its hook is due again.
    let held = "sandbox[0]:ready a[1]:running a[0]:exited(137) b[0]:running";
    assert_eq!(
        turn(&mut seen, held),
        "syncing: postStart hook of a (started)"
    );
    assert_eq!(
        status(&seen),
        "Running a=waiting ContainerCreating, b=running ready"
    );
}

#[test]
fn a_hook_of_a_pod_that_nobody_names_any_more_is_that_of_the_container() {
    let mut seen = seen("{containers: []}", "sandbox[0]:ready x[0]:running");
    seen.observed.containers[0].pre_stop =
        serde_json::from_str(r#"{"exec":{"command":["bye"]}}"#).unwrap();
    let stops = seen.see(|view| crate::pod::stops::stops_of_all(view, 1));
    assert_eq!(stops[0].hook, Some(Hook::Exec(vec!["bye".to_owned()])));
}
