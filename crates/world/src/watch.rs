//! Reads what the kubelet shows, as it is shown, across its lives.
//!
//! In:    the statuses of all pods at every change
//! Out:   problems: what went backwards, what is not true, what changed without a cause
//! Calls: run
//! Holds: a status is compared with the truth of the stand-in runtime, never with the kubelet's own view
//! Upstream: none

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;
use kubelet_act::report::status::ReportedPods;
use testkit::cri::trace::Instance;

use crate::ledger::{Ledger, Now};

/// What was shown last of one pod.
#[derive(Clone, Debug)]
struct Shown {
    life: usize,
    start_time: Option<String>,
    /// When this was shown, the truth.
    at: i64,
    phase: String,
    /// The phase is final, and not because the pod was removed (which can be taken back while the kubelet is down).
    ended_by_itself: bool,
    is_ready: bool,
    /// Ids of containers that were shown running when the pod was last shown ready.
    ready_with: Vec<String>,
    containers: BTreeMap<String, ShownContainer>,
}

#[derive(Clone, Debug, Default)]
struct ShownContainer {
    restarts: i32,
    /// The newest instance of which an exit was shown, by the order in which instances were made: clocks may lie.
    last_exit: Option<usize>,
}

/// The reader.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    shown: BTreeMap<String, Shown>,
    in_this_life: BTreeSet<String>,
    /// When records of the journal were lost. What was shown before and had its only proof in a record may be gone then: restart
    /// start times, and restart counts, exits and final phases of what the runtime holds no more. Readiness has its proof in the runtime and stays.
    losses: Vec<i64>,
    clock_was_set: bool,
    /// What is wrong.
    pub problems: Vec<String>,
    /// One line per change of a pod.
    pub lines: Vec<String>,
}

/// The id without `containerd://`.
fn plain_id(id: &str) -> &str {
    id.strip_prefix("containerd://").unwrap_or(id)
}

/// Whether condition Ready is True.
pub fn is_ready(status: &v1::PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Statuses of all containers, init first.
pub fn containers(status: &v1::PodStatus) -> impl Iterator<Item = &v1::ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
}

/// A state in one word.
pub fn state_word(status: &v1::ContainerStatus) -> String {
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() {
        "running".to_owned()
    } else if let Some(ended) = state.terminated {
        format!("ended({})", ended.exit_code)
    } else {
        let waiting = state.waiting.unwrap_or_default();
        format!(
            "{}{}",
            waiting.reason.unwrap_or_default(),
            waiting
                .message
                .map(|m| format!(": {m}"))
                .unwrap_or_default()
        )
    }
}

fn is_final(phase: &str) -> bool {
    phase == "Succeeded" || phase == "Failed"
}

fn line(status: &v1::PodStatus) -> String {
    let phase = status.phase.as_deref().unwrap_or("-");
    let ready = if is_ready(status) { "ready" } else { "unready" };
    let containers: Vec<String> = containers(status)
        .map(|c| format!("{}[{}]:{}", c.name, c.restart_count, state_word(c)))
        .collect();
    format!("{phase} {ready} {}", containers.join(" "))
}

impl Watch {
    /// A new life of the kubelet: it has shown nothing yet.
    pub fn kubelet_starts(&mut self) {
        self.in_this_life.clear();
    }

    /// Records were lost at this time.
    pub fn journal_lost(&mut self, at: i64) {
        self.losses.push(at);
    }

    /// From now on start times are no order of lives.
    pub fn clock_set(&mut self) {
        self.clock_was_set = true;
    }

    /// The statuses as they are now.
    pub fn read(&mut self, now: Now, pods: &ReportedPods, ledger: &Ledger, instances: &[Instance]) {
        // What is shown no more and was asked for anew since has come to its end.
        self.shown.retain(|uid, shown| {
            pods.contains_key(uid.as_str())
                || !self.in_this_life.contains(uid)
                || ledger
                    .wanted(uid)
                    .is_none_or(|(life, _)| life == shown.life)
        });
        for (uid, pod) in pods {
            let uid = uid.as_str();
            self.in_this_life.insert(uid.to_owned());
            let Some((life, of)) = ledger.life_at(uid, now.truth) else {
                // A pod that no source ever named: an orphan of a run before, which this world does not have.
                continue;
            };
            let before = self.shown.get(uid).cloned();
            let start_time = pod.status.start_time.as_ref().map(|t| t.0.to_string());
            // Another start is another life, if it was asked for: the one before may still be shown meanwhile.
            // Start times are whole seconds: one in the second in which this life began may be of either.
            let started_before = pod
                .status
                .start_time
                .as_ref()
                .is_some_and(|t| t.0.as_second() < of.since_wall / 1_000_000_000);
            let is_same_life = |before: &Shown| {
                let is_same_start = before.start_time == start_time;
                if self.clock_was_set {
                    is_same_start
                } else {
                    before.life == life || (started_before && is_same_start)
                }
            };
            let before = before.filter(is_same_life);
            let first = before.as_ref().map_or(life, |before| before.life);
            let mut next = shown(
                (first, now.truth),
                start_time,
                &pod.status,
                before.as_ref(),
                instances,
            );
            let was_final = before.as_ref().is_some_and(|b| is_final(&b.phase));
            next.ended_by_itself = is_final(&next.phase)
                && if was_final {
                    before.as_ref().is_some_and(|b| b.ended_by_itself)
                } else {
                    first == life && of.until.is_none()
                };
            let text = format!("{uid} {}", line(&pod.status));
            if let Some(before) = &before {
                // Of a pod that was removed and brought back, the end of the life before may be shown late in this one.
                let is_wanted = of.until.is_none() && life == 0;
                self.compare(&text, uid, (before, &next), is_wanted, instances);
            }
            self.hold_against_truth(&text, uid, &pod.status, instances);
            self.hold_against_probes(&text, &pod.object, &pod.status, instances);
            if self.lines.last() != Some(&text) {
                self.lines.push(text);
            }
            self.shown.insert(uid.to_owned(), next);
        }
    }

    fn compare(
        &mut self,
        text: &str,
        uid: &str,
        (before, next): (&Shown, &Shown),
        is_wanted: bool,
        instances: &[Instance],
    ) {
        let is_lost = self.losses.iter().any(|lost| *lost >= before.at);
        if !is_lost {
            self.compare_history(text, before, next, is_wanted);
        }
        let is_of_record = crate::pods::is_probed(uid) || crate::lifecycles::has_hooks(uid);
        let is_excused = is_lost && is_of_record;
        if before.is_ready && !next.is_ready && !is_excused {
            let has_ended =
                |id: &String| instances.iter().any(|i| i.id == *id && i.ended.is_some());
            let sandbox_ended = instances.iter().any(|i| {
                i.pod_uid == uid && i.name.is_empty() && i.ended.is_some() && i.removed.is_none()
            });
            if !before.ready_with.iter().any(has_ended) && !sandbox_ended {
                self.problems.push(format!(
                    "(b) Ready turned false and nothing had ended: {text}"
                ));
            }
        }
    }

    fn compare_history(&mut self, text: &str, before: &Shown, next: &Shown, is_wanted: bool) {
        if before.ended_by_itself && before.phase != next.phase && is_wanted {
            let was = &before.phase;
            self.problems.push(format!("(f) phase left {was}: {text}"));
        }
        if is_wanted && before.start_time.is_some() && next.start_time != before.start_time {
            let (was, is) = (&before.start_time, &next.start_time);
            self.problems.push(format!(
                "(f) start time changed from {was:?} to {is:?}: {text}"
            ));
        }
        for (name, old) in &before.containers {
            let Some(new) = next.containers.get(name) else {
                continue;
            };
            if new.restarts < old.restarts {
                let was = old.restarts;
                self.problems.push(format!(
                    "(f) restart count of {name} fell from {was}: {text}"
                ));
            }
            if new.last_exit < old.last_exit {
                self.problems.push(format!(
                    "(f) last exit of {name} went back from instance {:?} to {:?}: {text}",
                    old.last_exit, new.last_exit
                ));
            }
        }
    }

    /// Ready is what has said so itself: not an instance before it.
    fn hold_against_probes(
        &mut self,
        text: &str,
        pod: &v1::Pod,
        status: &v1::PodStatus,
        instances: &[Instance],
    ) {
        let specs = pod.spec.iter().flat_map(|spec| &spec.containers);
        for spec in specs.filter(|spec| spec.readiness_probe.is_some()) {
            let shown = containers(status).find(|c| c.name == spec.name && c.ready);
            let id = shown.and_then(|c| c.container_id.as_deref());
            let Some(id) = id.map(plain_id) else { continue };
            let truth = instances.iter().find(|i| i.id == id);
            let has_said = |i: &Instance| i.execs.iter().any(|exec| exec.code == 0);
            if truth.is_some_and(|i| !has_said(i)) {
                let name = &spec.name;
                self.problems
                    .push(format!("(k) {name} shows ready and never said so: {text}"));
            }
        }
    }

    fn hold_against_truth(
        &mut self,
        text: &str,
        uid: &str,
        status: &v1::PodStatus,
        instances: &[Instance],
    ) {
        for container in containers(status) {
            let shown = [container.state.as_ref(), container.last_state.as_ref()];
            let ends = shown
                .into_iter()
                .flatten()
                .filter_map(|s| s.terminated.as_ref());
            for ended in ends {
                let id = plain_id(ended.container_id.as_deref().unwrap_or_default());
                let Some(truth) = instances.iter().find(|i| i.id == id) else {
                    self.problems.push(format!(
                        "(f) {} of {uid} shows the exit of {id}, which never was: {text}",
                        container.name
                    ));
                    continue;
                };
                // What the lost records knew of an end is known no more, and the status says so.
                let is_unknown = ended.reason.as_deref() == Some("ContainerStatusUnknown");
                let was_lost = |end| self.losses.iter().any(|lost| *lost >= end);
                if is_unknown && truth.ended.is_some_and(was_lost) {
                    continue;
                }
                // A start that was cut off is no run, as long as it was not forgotten that it was under way.
                let is_failure = !truth.cut_off || was_lost(truth.created);
                let has_not_run = truth.started.is_none() && is_failure;
                let code = truth.exit_code.or(has_not_run.then_some(128));
                if code != Some(ended.exit_code) {
                    self.problems.push(format!(
                        "(f) {} of {uid} ended with {code:?} and shows {}: {text}",
                        container.name, ended.exit_code
                    ));
                }
            }
        }
    }
}

fn shown(
    (life, at): (usize, i64),
    start_time: Option<String>,
    status: &v1::PodStatus,
    before: Option<&Shown>,
    instances: &[Instance],
) -> Shown {
    let is_ready = is_ready(status);
    let running =
        containers(status).filter(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
    let running: Vec<String> = running
        .filter_map(|c| c.container_id.as_deref().map(|id| plain_id(id).to_owned()))
        .collect();
    let one = |c: &v1::ContainerStatus| {
        let states = [c.state.as_ref(), c.last_state.as_ref()];
        let place = |id: &str| instances.iter().position(|i| i.id == plain_id(id));
        let exit = states
            .into_iter()
            .flatten()
            .filter_map(|s| place(s.terminated.as_ref()?.container_id.as_deref()?))
            .max();
        let known = before.and_then(|b| b.containers.get(&c.name));
        let shown = ShownContainer {
            restarts: c.restart_count,
            // A running container may show no earlier exit; what was known stays the mark.
            last_exit: exit.or_else(|| known.and_then(|k| k.last_exit)),
        };
        (c.name.clone(), shown)
    };
    Shown {
        life,
        start_time,
        at,
        phase: status.phase.clone().unwrap_or_default(),
        ended_by_itself: false,
        is_ready,
        ready_with: if is_ready {
            running
        } else {
            before.map(|b| b.ready_with.clone()).unwrap_or_default()
        },
        containers: containers(status).map(one).collect(),
    }
}
