//! Pods with hooks, sidecars and policies of single containers, and what must hold of them.
//!
//! In:    a pod's UID, from which alone it follows that it is one of them; the story of every instance
//! Out:   additions to its spec; how hooks go; the first thing that does not hold
//! Calls: pods, invariants
//! Holds: nothing here asks the kubelet what it thinks. A hook that was done is run again only where the process may have ended before
//!        it was kept, or where the runtime's answer got lost
//! Upstream: none

use k8s_openapi::api::core::v1;
use kubelet_model::pod::{Pod, RestartPolicy};
use testkit::cri::trace::{DoneExec, Instance, StopCall};

use crate::invariants::{Truth, instance_text};

const SECOND: i64 = 1_000_000_000;
/// A hook whose answer got lost is run again, and may fail then.
const DOUBT: i64 = 10 * SECOND;
/// Records that were lost so long before an instance was made may have been of it.
const KEPT_WITHIN: i64 = 30 * SECOND;
/// Between the end of a command and that the kubelet has kept it.
const ANSWERED_WITHIN: i64 = 2 * SECOND;

fn number(uid: &str) -> Option<usize> {
    uid.trim_start_matches("uid").parse().ok()
}

fn command(words: &str) -> Option<Vec<String>> {
    Some(words.split(' ').map(str::to_owned).collect())
}

fn runs(words: &str) -> Option<v1::LifecycleHandler> {
    let exec = v1::ExecAction {
        command: command(words),
    };
    Some(v1::LifecycleHandler {
        exec: Some(exec),
        ..v1::LifecycleHandler::default()
    })
}

/// One pod in four has hooks and sidecars, another one in four policies of its containers.
pub fn add(uid: &str, spec: &mut v1::PodSpec) {
    let Some(number) = number(uid) else { return };
    match number % 4 {
        1 => add_hooks_and_sidecars(number / 4, spec),
        2 => add_policies(number / 4, spec),
        _ => {}
    }
}

/// Whether the pod of this UID has hooks: that one was done is known to the record alone.
pub fn has_hooks(uid: &str) -> bool {
    number(uid).is_some_and(|number| number % 4 == 1)
}

fn add_hooks_and_sidecars(number: usize, spec: &mut v1::PodSpec) {
    let Some(like) = spec.containers.first().cloned() else {
        return;
    };
    let always = spec.restart_policy.as_deref() == Some("Always");
    for (place, container) in spec.containers.iter_mut().enumerate() {
        let pre_stop = match (number + place) % 4 {
            0 | 1 => runs("hook pre"),
            2 => runs("hook stuck"),
            _ => Some(v1::LifecycleHandler {
                sleep: Some(v1::SleepAction { seconds: 4 }),
                ..v1::LifecycleHandler::default()
            }),
        };
        let post_start = match (number + place) % 3 {
            0 => runs("hook post"),
            // One that is not to be started again would end by it.
            1 if always => runs("hook fails-at-first"),
            _ => None,
        };
        container.lifecycle = Some(v1::Lifecycle {
            post_start,
            pre_stop,
            ..v1::Lifecycle::default()
        });
    }
    let sidecar = |place: usize, words: &str| v1::Container {
        name: format!("side{place}"),
        image: Some(crate::pods::PRESENT[0].to_owned()),
        command: command(words),
        restart_policy: Some("Always".to_owned()),
        lifecycle: None,
        ..like.clone()
    };
    let init = spec.init_containers.get_or_insert_default();
    init.insert(0, sidecar(0, "serve"));
    init.push(sidecar(1, "serve slowly-ending"));
}

fn add_policies(number: usize, spec: &mut v1::PodSpec) {
    for (place, container) in spec.containers.iter_mut().enumerate() {
        let policy = match (number + place) % 4 {
            0 => continue,
            1 => "Always",
            2 => "OnFailure",
            _ => "Never",
        };
        container.restart_policy = Some(policy.to_owned());
        let codes = v1::ContainerRestartRuleOnExitCodes {
            operator: "In".to_owned(),
            values: Some(vec![3]),
        };
        container.restart_policy_rules = (number % 2 == 1).then(|| {
            vec![v1::ContainerRestartRule {
                action: "Restart".to_owned(),
                exit_codes: Some(codes),
            }]
        });
    }
}

/// Whether a regular container is started again after this exit code.
pub fn restarts(pod: &Pod, spec: &v1::Container, code: i32) -> bool {
    let is_ruled = code == 3 && spec.restart_policy_rules.is_some();
    let policy = match spec.restart_policy.as_deref() {
        Some("Always") => RestartPolicy::Always,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some(_) => RestartPolicy::Never,
        None => pod.restart_policy(),
    };
    is_ruled
        || match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => code != 0,
            RestartPolicy::Never => false,
        }
}

/// How long a hook's command takes, and its code; `None` for any other command.
pub fn hook(words: &[String], attempt: u32) -> Option<(u64, i32)> {
    let (first, second) = (words.first()?.as_str(), words.get(1)?.as_str());
    match (first, second) {
        ("hook", "pre") => Some((1_000, 0)),
        ("hook", "post") => Some((500, 0)),
        ("hook", "fails-at-first") => Some((300, i32::from(attempt == 0))),
        ("hook", _) => Some((300_000, 0)),
        _ => None,
    }
}

/// Whether this instance has a postStart hook that had not ended well by then: one that failed ends it.
pub fn failed_hook(truth: &Truth<'_>, i: &Instance, spec: Option<&v1::Container>, at: i64) -> bool {
    let lifecycle = spec.and_then(|spec| spec.lifecycle.as_ref());
    let has_hook = lifecycle.is_some_and(|hooks| hooks.post_start.is_some());
    let is_post = |command: &str| ["hook post", "hook fails-at-first"].contains(&command);
    let went_well =
        |exec: &&DoneExec| is_post(&exec.command) && exec.code == 0 && exec.ended <= at - DOUBT;
    let mut well = i.execs.iter().filter(went_well);
    // One that nobody knows of any more was run again, and that one may have failed.
    has_hook && !well.any(|exec| !may_be_forgotten(truth, i, exec, at))
}

/// Whether the kubelet may not know by then that a command of its went so: the answer got lost, or what was kept of it.
fn may_be_forgotten(truth: &Truth<'_>, i: &Instance, done: &DoneExec, by: i64) -> bool {
    let is_lost = |lost: &i64| *lost <= by && *lost + KEPT_WITHIN >= i.created;
    done.answer_lost
        || truth.losses.iter().any(is_lost)
        || truth
            .ledger
            .kubelet_ended_between(done.ended, done.ended + ANSWERED_WITHIN)
}

/// Whether this is a sidecar.
pub fn is_sidecar(i: &Instance) -> bool {
    i.name.starts_with("side")
}

/// A sidecar is stopped when all regular containers of its sandbox have ended.
pub fn served_its_time(truth: &Truth<'_>, i: &Instance, at: i64) -> bool {
    is_sidecar(i) && regular_of(truth, i).all(|r| r.ended.is_some_and(|ended| ended <= at))
}

fn regular_of<'a>(truth: &Truth<'a>, i: &'a Instance) -> impl Iterator<Item = &'a Instance> {
    let all = truth.instances.iter();
    all.filter(|r| r.sandbox_id == i.sandbox_id && r.name.starts_with('c') && r.started.is_some())
}

/// What must hold of hooks and of the order and time of ends.
///
/// # Errors
/// The first thing that does not.
pub fn after_step(truth: &Truth<'_>) -> Result<(), String> {
    for i in truth.instances.iter().filter(|i| i.started.is_some()) {
        no_hook_twice(truth, i)?;
        no_grace_twice(truth, i)?;
        no_sidecar_before_the_others(truth, i)?;
    }
    Ok(())
}

/// (h) A hook that was done is not run again in the same instance.
fn no_hook_twice(truth: &Truth<'_>, i: &Instance) -> Result<(), String> {
    for (place, done) in i.execs.iter().enumerate() {
        // Of postStart hooks none is looked at.
        if done.command != "hook pre" {
            continue;
        }
        let later = i.execs.get(place + 1..).unwrap_or_default().iter();
        let again = later
            .filter(|later| later.command == done.command)
            .find(|later| later.began > done.ended);
        let Some(again) = again else { continue };
        if !may_be_forgotten(truth, i, done, again.began) {
            return Err(format!(
                "(h) {} was run twice: {}",
                done.command,
                instance_text(i)
            ));
        }
    }
    Ok(())
}

/// (i) The time that an instance gets to end is given once: no later stop leaves it more than the first did.
fn no_grace_twice(truth: &Truth<'_>, i: &Instance) -> Result<(), String> {
    const SLACK: i64 = 4;
    let Some(first) = i.stops.first() else {
        return Ok(());
    };
    let end = |stop: &StopCall| stop.at + (stop.seconds + SLACK) * SECOND;
    let is_late =
        |stop: &&StopCall| stop.at + stop.seconds * SECOND > end(first) && stop.seconds > 2;
    let Some(late) = i.stops.iter().find(is_late) else {
        return Ok(());
    };
    // A stop is given up where the pod was wanted again meanwhile, or as it was before.
    let life_at = |at: i64| truth.ledger.life_at(&i.pod_uid, at);
    let is_same_wish = match (life_at(first.at), life_at(late.at)) {
        (Some((then, life)), Some((now, _))) => {
            then == now && life.versions_between(first.at, late.at).count() == 1
        }
        _ => true,
    };
    if !is_same_wish || truth.losses.iter().any(|lost| *lost <= late.at) {
        return Ok(());
    }
    Err(format!(
        "(i) {} s after a stop with {} s there is one with {} s: {}",
        (late.at - first.at) / SECOND,
        first.seconds,
        late.seconds,
        instance_text(i)
    ))
}

/// (j) A sidecar that is stopped before its grace is used up is stopped after the regular containers.
fn no_sidecar_before_the_others(truth: &Truth<'_>, i: &Instance) -> Result<(), String> {
    const LEAST: i64 = 2;
    let Some(stop) = i
        .stops
        .first()
        .filter(|stop| is_sidecar(i) && stop.seconds > LEAST)
    else {
        return Ok(());
    };
    let all = truth.instances.iter();
    let of_sandbox = all.filter(|r| r.sandbox_id == i.sandbox_id);
    let first = of_sandbox
        .filter_map(|r| r.stops.first().map(|stop| stop.at))
        .min();
    let runs_on = regular_of(truth, i)
        .find(|r| r.started < first && r.ended.is_none_or(|ended| ended > stop.at + SECOND / 2));
    let was_kept = !truth.losses.iter().any(|lost| *lost <= stop.at);
    match runs_on.filter(|_| was_kept) {
        Some(r) => Err(format!(
            "(j) {} is stopped while {} runs",
            instance_text(i),
            instance_text(r)
        )),
        None => Ok(()),
    }
}
