//! What must hold after every step, whatever happened, and what must hold once all is quiet.
//!
//! In:    the story of every instance the stand-in runtime ever made, the ledger, the disk, the statuses
//! Out:   the first thing that does not hold, in words; the letters are those of the project's list of invariants
//! Calls: run
//! Holds: nothing here asks the kubelet what it thinks. Where records of the journal were lost, two things are not asked that only
//!        a record proves, and only of instances that the runtime holds no more: that an attempt is not used twice, and that
//!        a container that is done does not run again. All else holds all the same
//! Upstream: none

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kubelet_act::report::status::ReportedPods;
use kubelet_decide::sources::identity::container_hash_hex;
use kubelet_host::HostRoot;
use kubelet_model::pod::{Pod, RestartPolicy, is_sidecar};
use testkit::cri::trace::{EndedBy, Instance, overlapping};

use crate::kubelet::{POD_LOGS_DIR, ROOT_DIR};
use crate::ledger::{Ledger, Life};
use crate::lifecycles::{self, restarts};
use crate::pods::{Fate, fate, is_ill};
use crate::watch::{containers, is_ready, state_word};

/// Between a pod's deadline and its end: its grace, and a process that the kernel does not let go.
const LONGEST_STOP_SECONDS: i64 = 200;

/// A file that must stay: of nobody, or of a pod while that is wanted.
#[derive(Clone, Debug)]
pub struct Canary {
    /// Path on the simulated node.
    pub path: String,
    /// The pod whose volume it lies in, and since when.
    pub owner: Option<(String, i64)>,
}

/// Hashes of the definitions that containers were made from: (UID, container, time of creation) → hash of name and image.
pub type MadeFrom = BTreeMap<(String, String, i64), String>;

/// What the checks read.
#[derive(Debug)]
pub struct Truth<'a> {
    /// Every instance ever made.
    pub instances: &'a [Instance],
    /// What was asked.
    pub ledger: &'a Ledger,
    /// What containers were made from.
    pub made_from: &'a MadeFrom,
    /// The node's disk.
    pub root: &'a HostRoot,
    /// Files that must stay.
    pub canaries: &'a [Canary],
    /// When records of the journal were lost.
    pub losses: &'a [i64],
    /// Now, nanoseconds since 1970.
    pub now: i64,
}

impl<'a> Truth<'a> {
    /// The life that an instance belongs to: the one in which it was asked for; or an earlier one that was still being gone through
    /// to its end then, which shows in what was left of it.
    pub(crate) fn life_of(&self, i: &Instance) -> Option<(usize, &'a Life)> {
        let (mut number, mut life) = self.ledger.life_at(&i.pod_uid, i.asked)?;
        while number > 0
            && self.instances.iter().any(|other| {
                other.pod_uid == i.pod_uid
                    && other.asked < life.since
                    && other.removed.is_none_or(|removed| removed > i.asked)
            })
        {
            number -= 1;
            life = self.ledger.life(&i.pod_uid, number)?;
        }
        Some((number, life))
    }

    /// Whether the pod of this life had been active for as long as it may. Where records were lost, an older one may have come back,
    /// of an earlier life; then that one's begin counts.
    fn is_past_deadline(&self, life: &Life, uid: &str, at: i64) -> bool {
        let first = self
            .ledger
            .life(uid, 0)
            .map_or(life.since, |life| life.since);
        let since = if self.losses.is_empty() {
            self.ledger.active_since(uid, life)
        } else {
            first
        };
        let allowed = life
            .pod()
            .and_then(|pod| pod.spec().active_deadline_seconds);
        allowed.is_some_and(|seconds| at - since >= seconds * 1_000_000_000)
    }

    /// By how many seconds the pod is active longer than it may, and than a stop can take; time counts anew after its record was lost.
    fn late(&self, pod: &Pod) -> Option<i64> {
        let (_, life) = self.ledger.life_at(pod.uid.as_str(), self.now)?;
        let lost = self.losses.iter().copied().max().unwrap_or(life.since);
        let allowed = pod.spec().active_deadline_seconds?;
        let active = (self.now - life.since.max(lost)) / 1_000_000_000;
        Some(active - allowed).filter(|late| *late > LONGEST_STOP_SECONDS)
    }

    /// Whether nothing but a record that was lost could tell of this instance when the other was made.
    fn was_forgotten(&self, before: &Instance, next: &Instance) -> bool {
        before
            .removed
            .is_some_and(|removed| removed <= next.created)
            && self
                .losses
                .iter()
                .any(|lost| (before.created..=next.created).contains(lost))
    }
}

/// An instance in a few words.
pub(crate) fn instance_text(i: &Instance) -> String {
    let name = if i.name.is_empty() {
        "sandbox"
    } else {
        &i.name
    };
    format!("{} {}[{}] {:.8}", i.pod_uid, name, i.attempt, i.id)
}

/// Checks what must hold at every moment.
///
/// # Errors
/// The first thing that does not.
pub fn after_step(truth: &Truth<'_>) -> Result<(), String> {
    no_stop_without_a_cause(truth)?;
    no_doubles(truth)?;
    no_start_after_the_end(truth)?;
    running_has_its_directories(truth)?;
    lifecycles::after_step(truth)?;
    canaries_live(truth)
}

/// (a)
fn no_stop_without_a_cause(truth: &Truth<'_>) -> Result<(), String> {
    for i in truth.instances {
        let (Some(ended), Some(by)) = (i.ended, i.ended_by) else {
            continue;
        };
        match by {
            EndedBy::Itself | EndedBy::Outside | EndedBy::NodeCrash => continue,
            EndedBy::Remove => {
                return Err(format!("(a) removed while it ran: {}", instance_text(i)));
            }
            EndedBy::StopContainer | EndedBy::StopPodSandbox => {}
        }
        if !stop_has_a_cause(truth, i, i.stop_asked.unwrap_or(ended)) {
            return Err(format!(
                "(a) stopped by {by:?} without a cause: {}",
                instance_text(i)
            ));
        }
    }
    Ok(())
}

fn stop_has_a_cause(truth: &Truth<'_>, i: &Instance, ended: i64) -> bool {
    let Some((_, life)) = truth.life_of(i) else {
        return true;
    };
    if life.until.is_some_and(|until| until <= ended)
        || truth.is_past_deadline(life, &i.pod_uid, ended)
    {
        return true;
    }
    if i.name.is_empty() {
        return sandbox_was_done(truth, i, ended, life.pod());
    }
    let sandbox = truth
        .instances
        .iter()
        .find(|s| s.name.is_empty() && s.id == i.sandbox_id);
    let sandbox_lost = sandbox.is_some_and(|s| {
        matches!(s.ended_by, Some(EndedBy::Outside | EndedBy::NodeCrash))
            && s.ended.is_some_and(|at| at <= ended)
    });
    sandbox_lost
        || definition_changed(truth, i, life, ended)
        || failed_liveness(i, life, ended)
        || lifecycles::failed_hook(truth, i, spec_of(i, life), ended)
        || lifecycles::served_its_time(truth, i, ended)
}

fn spec_of<'a>(i: &Instance, life: &'a Life) -> Option<&'a k8s_openapi::api::core::v1::Container> {
    let mut specs = life.pod()?.containers().iter();
    specs.find(|spec| spec.name == i.name)
}

/// Whether this instance was ill, and ran for at least as long as its liveness probe takes to say so.
fn failed_liveness(i: &Instance, life: &Life, ended: i64) -> bool {
    const LEAST: i64 = 5_000_000_000;
    let ran = i.started.is_some_and(|started| ended - started >= LEAST);
    let mut versions = life.versions_between(i.created, ended);
    ran && versions.any(|pod| {
        let mut specs = pod.containers().iter();
        specs.any(|spec| spec.name == i.name && is_ill(spec, i.attempt))
    })
}

/// Whether a definition was in force, while this instance was there and until then, that it was not made from.
fn definition_changed(truth: &Truth<'_>, i: &Instance, life: &Life, until: i64) -> bool {
    let key = (i.pod_uid.clone(), i.name.clone(), i.created);
    let hash = truth.made_from.get(&key);
    life.versions_between(i.created, until).any(|pod| {
        pod.all_containers()
            .find(|c| c.name == i.name)
            .is_none_or(|c| {
                hash != Some(&container_hash_hex(
                    &c.name,
                    c.image.as_deref().unwrap_or_default(),
                ))
            })
    })
}

/// A sandbox is stopped when all of a pod that does not go on has ended.
fn sandbox_was_done(
    truth: &Truth<'_>,
    sandbox: &Instance,
    at: i64,
    pod: Option<&Arc<Pod>>,
) -> bool {
    let ran_then = |i: &&Instance| {
        i.started.is_some_and(|started| started < at) && i.ended.is_none_or(|ended| ended > at)
    };
    let of_pod = || {
        let all = truth.instances.iter();
        all.filter(|i| i.pod_uid == sandbox.pod_uid && !i.name.is_empty())
    };
    // Some policy lets it end.
    let may_end = |pod: &Arc<Pod>| {
        let mut specs = pod.containers().iter();
        // An init container that fails for good ends it whatever the policies of the others.
        pod.restart_policy() != RestartPolicy::Always
            || specs.all(|spec| !restarts(pod, spec, 0) || !restarts(pod, spec, 1))
    };
    pod.is_some_and(may_end) && !of_pod().any(|i| ran_then(&i))
}

/// (g)
fn no_doubles(truth: &Truth<'_>) -> Result<(), String> {
    let all = truth.instances;
    if let Some((first, second)) = overlapping(all).first() {
        return Err(format!(
            "(g) two at once: {} and {}",
            instance_text(&all[*first]),
            instance_text(&all[*second])
        ));
    }
    let mut seen: BTreeMap<(&str, usize, &str, u32), &Instance> = BTreeMap::new();
    for i in all.iter().filter(|i| i.started.is_some()) {
        let life = truth.life_of(i).map_or(0, |(number, _)| number);
        let before = seen.insert((&i.pod_uid, life, &i.name, i.attempt), i);
        if before.is_some_and(|before| !truth.was_forgotten(before, i)) {
            return Err(format!("(g) one attempt twice: {}", instance_text(i)));
        }
    }
    let mut by_name: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for i in all
        .iter()
        .filter(|i| !i.name.is_empty() && i.started.is_some())
    {
        by_name.entry(&i.pod).or_default().push(i);
    }
    by_name
        .values()
        .try_for_each(|of_name| one_at_a_time(of_name))
}

/// (g) Of all pods that ever had a name.
fn one_at_a_time(of_name: &[&Instance]) -> Result<(), String> {
    if of_name
        .windows(2)
        .all(|two| two[0].pod_uid == two[1].pod_uid)
    {
        return Ok(());
    }
    for (place, a) in of_name.iter().enumerate() {
        for b in of_name.iter().skip(place + 1) {
            let together = a.started < Some(b.ended.unwrap_or(i64::MAX))
                && b.started < Some(a.ended.unwrap_or(i64::MAX));
            if a.pod_uid != b.pod_uid && together {
                return Err(format!(
                    "(g) two pods of one name at once: {} and {}",
                    instance_text(a),
                    instance_text(b)
                ));
            }
        }
    }
    Ok(())
}

/// (g) A container of a pod that says Never runs once; one that ended well under OnFailure does not run again. Exception: one whose
/// definition was changed while it ran.
fn no_start_after_the_end(truth: &Truth<'_>) -> Result<(), String> {
    let mut ran: BTreeMap<(&str, usize, &str), &Instance> = BTreeMap::new();
    let started = truth
        .instances
        .iter()
        .filter(|i| !i.name.is_empty() && i.started.is_some());
    for i in started {
        let Some((number, life)) = truth.life_of(i) else {
            continue;
        };
        let Some(pod) = life.pod() else { continue };
        let Some(spec) = pod.containers().iter().find(|c| c.name == i.name) else {
            continue;
        };
        let Some(before) = ran.insert((&i.pod_uid, number, &i.name), i) else {
            continue;
        };
        let was_done = match before.exit_code {
            Some(code) => !restarts(pod, spec, code),
            None => pod.restart_policy() == RestartPolicy::Never,
        };
        // It may have run on into a later life, whose definition is another.
        let asked_in = truth.ledger.life_at(&i.pod_uid, i.asked);
        let last = asked_in.map_or(number, |(last, _)| last);
        let until = before.ended.unwrap_or(i64::MAX);
        let was_replaced = (number..=last)
            .filter_map(|number| truth.ledger.life(&i.pod_uid, number))
            .any(|life| definition_changed(truth, before, life, until));
        if was_done && !was_replaced && !truth.was_forgotten(before, i) {
            return Err(format!(
                "(g) started again after its end: {} after {}",
                instance_text(i),
                instance_text(before)
            ));
        }
    }
    Ok(())
}

/// (d), (e): what is needed by something that runs is not taken down.
fn running_has_its_directories(truth: &Truth<'_>) -> Result<(), String> {
    let running = truth
        .instances
        .iter()
        .filter(|i| !i.name.is_empty() && i.started.is_some() && i.ended.is_none());
    for i in running {
        let uid = &i.pod_uid;
        for path in [
            format!("{ROOT_DIR}/pods/{uid}"),
            format!("/sys/fs/cgroup/kubepods/besteffort/pod{uid}"),
        ] {
            if !truth.root.join(&path).is_dir() {
                return Err(format!(
                    "(e) {path} is gone while {} runs",
                    instance_text(i)
                ));
            }
        }
    }
    Ok(())
}

/// (e)
fn canaries_live(truth: &Truth<'_>) -> Result<(), String> {
    for canary in truth.canaries {
        let must_live = canary
            .owner
            .as_ref()
            .is_none_or(|(uid, since)| truth.ledger.wanted_throughout(uid, *since, truth.now));
        if must_live && !truth.root.join(&canary.path).exists() {
            return Err(format!("(e) {} was removed", canary.path));
        }
    }
    Ok(())
}

/// Checks what must hold once nothing goes wrong any more. An error may be over a little later.
///
/// # Errors
/// The first thing that is not as it should be at rest.
pub fn at_rest(
    truth: &Truth<'_>,
    manifests: &BTreeMap<String, Arc<Pod>>,
    shown: &ReportedPods,
    records: &[String],
) -> Result<(), String> {
    let wanted: BTreeMap<&str, &Arc<Pod>> = manifests
        .values()
        .map(|pod| (pod.uid.as_str(), pod))
        .collect();
    for i in truth.instances.iter().filter(|i| i.removed.is_none()) {
        if !wanted.contains_key(i.pod_uid.as_str()) {
            return Err(format!("(c) left in the runtime: {}", instance_text(i)));
        }
    }
    if let Some(uid) = shown.keys().find(|uid| !wanted.contains_key(uid.as_str())) {
        return Err(format!("(c) still shown: {uid}"));
    }
    disk_is_as_wanted(truth, &wanted, records)?;
    let mut by_name: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for pod in wanted.values() {
        let uid = pod.uid.as_str();
        let Some(reported) = shown.get(&pod.uid) else {
            return Err(format!("not shown: {uid}"));
        };
        let place = place_of(truth, pod, &reported.status)
            .map_err(|why| format!("{uid} is not as wanted: {why}"))?;
        let name = pod.full_name.to_string();
        by_name.entry(name).or_default().push(place);
    }
    for (name, places) in by_name {
        let count = |place| places.iter().filter(|p| **p == place).count();
        if count(Place::Has) > 1 || (count(Place::Waits) > 0 && count(Place::Has) != 1) {
            return Err(format!("(g) turns of {name} are not right: {places:?}"));
        }
    }
    Ok(())
}

/// How a pod stands among those of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is as it is wanted.
    Has,
    /// It has ended by itself and needs its name no more.
    Ended,
    /// It waits for another, says so, and nothing of it runs.
    Waits,
}

fn place_of(
    truth: &Truth<'_>,
    pod: &Pod,
    status: &k8s_openapi::api::core::v1::PodStatus,
) -> Result<Place, String> {
    let ended = ["Succeeded", "Failed"].contains(&status.phase.as_deref().unwrap_or_default());
    if status.reason.as_deref() != Some("WaitingForName") {
        pod_is_as_wanted(truth, pod, status)?;
        return Ok(if ended { Place::Ended } else { Place::Has });
    }
    let uid = pod.uid.as_str();
    let lives = |i: &&Instance| {
        i.pod_uid == uid && i.started.is_some() && i.ended.is_none() && i.removed.is_none()
    };
    match truth.instances.iter().find(lives) {
        Some(i) => Err(format!("it waits and runs: {}", instance_text(i))),
        None if status.message.as_deref().unwrap_or_default().is_empty() => {
            Err("it waits and does not say for whom".to_owned())
        }
        None => Ok(Place::Waits),
    }
}

fn names_in(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn disk_is_as_wanted(
    truth: &Truth<'_>,
    wanted: &BTreeMap<&str, &Arc<Pod>>,
    records: &[String],
) -> Result<(), String> {
    for name in names_in(&truth.root.join(format!("{ROOT_DIR}/pods"))) {
        if !wanted.contains_key(name.as_str()) {
            return Err(format!("(d) directory left of pod {name}"));
        }
    }
    for name in names_in(&truth.root.join(POD_LOGS_DIR)) {
        let uid = name.rsplit('_').next().unwrap_or_default();
        if !wanted.contains_key(uid) && name != "canary" {
            return Err(format!("(d) logs left of pod {name}"));
        }
    }
    for name in names_in(&truth.root.join("/var/log/containers")) {
        let link = truth.root.join(format!("/var/log/containers/{name}"));
        let target = std::fs::read_link(link).unwrap_or_default();
        if !wanted
            .keys()
            .any(|uid| target.to_string_lossy().contains(*uid))
        {
            return Err(format!("(d) link left: {name}"));
        }
    }
    for name in names_in(&truth.root.join("/sys/fs/cgroup/kubepods/besteffort")) {
        if let Some(uid) = name.strip_prefix("pod")
            && !wanted.contains_key(uid)
        {
            return Err(format!("(d) cgroup left of pod {uid}"));
        }
    }
    match records
        .iter()
        .find(|uid| !wanted.contains_key(uid.as_str()))
    {
        Some(uid) => Err(format!("(d) record left of pod {uid}")),
        None => Ok(()),
    }
}

fn pod_is_as_wanted(
    truth: &Truth<'_>,
    pod: &Pod,
    status: &k8s_openapi::api::core::v1::PodStatus,
) -> Result<(), String> {
    let uid = pod.uid.as_str();
    let here: Vec<&Instance> = truth
        .instances
        .iter()
        .filter(|i| i.pod_uid == uid && i.removed.is_none())
        .collect();
    let phase = status.phase.as_deref().unwrap_or_default();
    if !pod.unbuilt.is_empty() {
        return if here.is_empty() && phase == "Pending" {
            Ok(())
        } else {
            Err(format!(
                "a held pod is {phase} with {} instances",
                here.len()
            ))
        };
    }
    let sandboxes = here
        .iter()
        .filter(|i| i.name.is_empty() && i.ended.is_none())
        .count();
    let has_ended = phase == "Succeeded" || phase == "Failed";
    if sandboxes != usize::from(!has_ended) {
        return Err(format!("(d) {phase} with {sandboxes} sandboxes"));
    }
    let cgroup = format!("/sys/fs/cgroup/kubepods/besteffort/pod{uid}");
    if has_ended && truth.root.join(cgroup).exists() {
        return Err("(d) ended and its cgroup is there".to_owned());
    }
    for container in pod.all_containers() {
        let dead = here
            .iter()
            .filter(|i| i.name == container.name && i.ended.is_some())
            .count();
        if dead > 1 {
            return Err(format!("(d) {dead} dead instances of {}", container.name));
        }
    }
    statuses_are_true(truth, &here, pod, status)?;
    if has_ended {
        // What was removed from the runtime is remembered in the record.
        if status.reason.as_deref() == Some("DeadlineExceeded") {
            let life = truth.ledger.life_at(uid, truth.now);
            return match life {
                Some((_, life)) if truth.is_past_deadline(life, uid, truth.now) => Ok(()),
                _ => Err("ended before its deadline".to_owned()),
            };
        }
        let all = truth.instances.iter().filter(|i| i.pod_uid == uid);
        end_is_right(&all.collect::<Vec<_>>(), pod, phase)
    } else if let Some(late) = truth.late(pod) {
        Err(format!("{phase} {late} s after its deadline"))
    } else {
        containers_are_as_wanted(truth, &here, pod, status)
    }
}

fn newest<'a>(here: &[&'a Instance], name: &str) -> Option<&'a Instance> {
    here.iter()
        .filter(|i| i.name == name)
        .max_by_key(|i| (i.created, i.attempt))
        .copied()
}

fn runs(i: &Instance) -> bool {
    i.started.is_some() && i.ended.is_none()
}

fn statuses_are_true(
    of: &Truth<'_>,
    here: &[&Instance],
    pod: &Pod,
    status: &k8s_openapi::api::core::v1::PodStatus,
) -> Result<(), String> {
    for shown in containers(status) {
        let truth = newest(here, &shown.name);
        let is_running = truth.is_some_and(runs);
        let word = state_word(shown);
        if is_running != (word == "running") {
            return Err(format!("{} shows {word}, runs: {is_running}", shown.name));
        }
        let attempt = truth.map_or(0, |i| i.attempt);
        // A start that was cut off takes a number, and is no restart.
        let uid = pod.uid.as_str();
        let of_name = of.instances.iter();
        let of_name = of_name.filter(|i| i.pod_uid == uid && i.name == shown.name);
        let never_ran = of_name.filter(|i| i.started.is_none()).count();
        let restarts = u32::try_from(shown.restart_count).unwrap_or(0);
        if restarts.saturating_add(u32::try_from(never_ran).unwrap_or(0)) < attempt {
            return Err(format!(
                "{} shows {restarts} restarts at attempt {attempt}, {never_ran} never ran",
                shown.name
            ));
        }
    }
    let mut kept = pod.kept_containers();
    let all_run = kept.all(|c| newest(here, &c.name).is_some_and(runs));
    if all_run != is_ready(status) {
        return Err(format!("all run: {all_run}, ready: {}", is_ready(status)));
    }
    Ok(())
}

fn exit_of(i: &Instance) -> Option<i32> {
    // What never started and stays has failed to start, which counts as 128.
    i.exit_code.or(i.started.is_none().then_some(128))
}

fn end_is_right(here: &[&Instance], pod: &Pod, phase: &str) -> Result<(), String> {
    for spec in pod.containers() {
        let code = newest(here, &spec.name).and_then(exit_of);
        if code.is_some_and(|code| restarts(pod, spec, code)) {
            return Err(format!("{phase} though {} is started again", spec.name));
        }
    }
    let code_of =
        |c: &k8s_openapi::api::core::v1::Container| newest(here, &c.name).and_then(exit_of);
    let plain = pod.init_containers().iter().filter(|c| !is_sidecar(c));
    let init: Vec<_> = plain.map(code_of).collect();
    let regular: Vec<_> = pod.containers().iter().map(code_of).collect();
    let failed = |code: &Option<i32>| code.is_some_and(|code| code != 0);
    let is_right = match phase {
        "Succeeded" => regular.iter().all(|code| *code == Some(0)),
        _ => {
            init.iter().any(failed) && pod.restart_policy() == RestartPolicy::Never
                || regular.iter().any(failed) && regular.iter().all(Option::is_some)
        }
    };
    if is_right {
        Ok(())
    } else {
        Err(format!(
            "{phase} with init {init:?} and regular {regular:?}"
        ))
    }
}

/// The longest back-off is five minutes; whatever comes on top of it (an image, a few failures) is not longer than this. What
/// has ended before that and is not started again is frozen.
const LONGEST_WAIT_NANOSECONDS: i64 = 420 * 1_000_000_000;

fn containers_are_as_wanted(
    truth: &Truth<'_>,
    here: &[&Instance],
    pod: &Pod,
    status: &k8s_openapi::api::core::v1::PodStatus,
) -> Result<(), String> {
    let any_regular = pod
        .containers()
        .iter()
        .any(|c| newest(here, &c.name).is_some_and(|i| i.started.is_some()));
    if !any_regular {
        for init in pod.init_containers() {
            let now = newest(here, &init.name);
            match now.and_then(exit_of) {
                None if is_sidecar(init) && now.is_some_and(runs) => {}
                Some(0) => {}
                // Whatever keeps it: the regular ones wait behind it.
                _ if fate(init) != Fate::Exits(0) => return Ok(()),
                Some(_) | None => return Err(format!("{} has not ended", init.name)),
            }
        }
    }
    for sidecar in pod.init_containers().iter().filter(|c| is_sidecar(c)) {
        let now = newest(here, &sidecar.name);
        if any_regular && !now.is_some_and(runs) {
            not_frozen(truth, now)?;
        }
    }
    for container in pod.containers() {
        let name = &container.name;
        let now = newest(here, name);
        if now.is_some_and(runs) {
            let has_image = fate(container) != Fate::Blocked;
            if !has_image {
                return Err(format!("{name} runs without its image"));
            }
            is_of_the_spec(truth, now, container)?;
            continue;
        }
        let word = containers(status)
            .find(|c| c.name == *name)
            .map(state_word)
            .unwrap_or_default();
        match (now.and_then(exit_of), fate(container)) {
            (_, Fate::Blocked) => {}
            (Some(code), _) if !restarts(pod, container, code) => {}
            (Some(_), Fate::Exits(_)) => not_frozen(truth, now)?,
            (code, of) => return Err(format!("{name} is {word}, exit {code:?}, fate {of:?}")),
        }
    }
    Ok(())
}

/// What runs at rest was made from the newest definition.
fn is_of_the_spec(
    truth: &Truth<'_>,
    now: Option<&Instance>,
    spec: &k8s_openapi::api::core::v1::Container,
) -> Result<(), String> {
    let Some(i) = now else { return Ok(()) };
    let key = (i.pod_uid.clone(), i.name.clone(), i.created);
    let wanted = container_hash_hex(&spec.name, spec.image.as_deref().unwrap_or_default());
    if truth.made_from.get(&key) == Some(&wanted) {
        Ok(())
    } else {
        Err(format!("an older definition runs: {}", instance_text(i)))
    }
}

fn not_frozen(truth: &Truth<'_>, newest: Option<&Instance>) -> Result<(), String> {
    match newest.and_then(|i| Some((i, i.ended?))) {
        Some((i, ended)) if truth.now - ended > LONGEST_WAIT_NANOSECONDS => Err(format!(
            "ended {} s ago and is not started again: {}",
            (truth.now - ended) / 1_000_000_000,
            instance_text(i)
        )),
        _ => Ok(()),
    }
}
