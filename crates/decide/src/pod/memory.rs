//! How a pod worker's memory changes: by an order, an inspection, an entry into a state of life, and the outcomes of a plan.
//!
//! In:    the record of an earlier process; observations, entries, outcomes; the moment of each
//! Out:   `PodMemory`, which every decision about the pod reads
//! Calls: act/pod/pod_worker, at each point of a turn; it writes `record` to the disk where it changed
//! Holds: reads no clock; exits and counts never decrease; a failure of one container delays that container alone; a record of
//!        an earlier life is not used, except while the pod is being removed: then its record keeps the exits until the API has
//!        them
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go (SyncPod), images/image_manager.go (back-off), pod_workers.go
//!        (podSyncStatus), 1.36

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kubelet_model::doubling::Doubling;
use kubelet_model::ids::{ContainerId, SandboxId};
use kubelet_model::node::NodeView;
use kubelet_model::observed::{ContainerState, ObservedPod};
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;

use crate::pod::adopt::record_of_status;
use crate::pod::cut_off::starts_of;
use crate::pod::deadline::end_of;
use crate::pod::lifecycle::step;
use crate::pod::restart::{Gaps, back_off_key, lengthen};
use crate::pod::stops::end_ranks;
use crate::shapes::exits::{exit_of, exit_of_lost};
use crate::shapes::life::{Lifecycle, Terminating, TerminationCause};
use crate::shapes::memory::FirstLook;
use crate::shapes::memory::NextLook;
use crate::shapes::memory::PodMemory;
use crate::shapes::memory::Prepared;
use crate::shapes::memory::Retry;
use crate::shapes::memory::VolumeMemory;
use crate::shapes::outcome::ResolvedImage;
use crate::shapes::outcome::{Effect, Failure, ImageFailure, Outcome, Subject};
use crate::shapes::plan::{PodPlan, Restarts, StopWhy};
use crate::shapes::probe::PodProbes;
use crate::shapes::record::RecordedExit;
use crate::shapes::record::{Anchor, BackOff};
use crate::shapes::record::{
    BootMoment, Ended, ImageBackOff, PodRecord, PostStartRecord, Replaced, ReplacedFor,
    TerminatingRecord,
};
use crate::shapes::rejection::Rejection;
use crate::shapes::view::{Desire, Now, Order, PodView};
use crate::shapes::waiting::Waiting;
use crate::shapes::work::Leaving;

mod begun;

pub use begun::Begun;

/// Before something that failed is tried again.
const RETRY: Doubling = Doubling::new(Duration::from_secs(1), Duration::from_secs(10));

/// Failures are counted up to here.
const MOST_FAILURES: u32 = 16;

/// Before the runtime is asked again to remove what it could not remove, and nobody waits for.
const GARBAGE_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// A state of life that a pod goes over to, with what is decided at that moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The state.
    pub next: Lifecycle,
    /// How the pod has ended, where that is settled now.
    pub ended: Option<Ended>,
    /// Why it was not let in, where that ends it.
    pub rejected: Option<Rejection>,
}

/// The state that the pod goes over to now; `None` where it stays in the one it is in.
pub fn entry(view: &PodView<'_>) -> Option<Entry> {
    let next = step(view);
    if next == view.memory.life {
        return None;
    }
    let ends = match &next {
        Lifecycle::Terminating(terminating) if view.memory.record.ended.is_none() => {
            Some(terminating.cause)
        }
        Lifecycle::Terminating(_)
        | Lifecycle::Syncing
        | Lifecycle::Terminated { .. }
        | Lifecycle::Finished { .. } => None,
    };
    let failed = |why| {
        Some(Ended {
            succeeded: false,
            why,
        })
    };
    let (ended, rejected) = match (view.desire, ends) {
        (_, None) => (None, None),
        (Desire::Reject(rejection), Some(_)) => (failed(None), Some(rejection.clone())),
        (Desire::End(why), Some(_)) => (failed(Some(why.clone())), None),
        (_, Some(TerminationCause::Ended)) => (Some(end_of(view)), None),
        (_, Some(TerminationCause::Removed | TerminationCause::Orphaned)) => (None, None),
    };
    Some(Entry {
        next,
        ended,
        rejected,
    })
}

/// What the API remembers of a pod that another kubelet may have run: what it shows does not go back.
fn shown_record(pod: &Pod) -> Option<PodRecord> {
    let status = pod.object.status.as_ref();
    status
        .filter(|_| !pod.is_static())
        .and_then(record_of_status)
}

impl PodMemory {
    /// The memory to begin with. `steady_of` gives the steady time of a moment of this boot, and nothing for one of another boot.
    pub fn taken_over(
        order: &Order,
        record: Option<PodRecord>,
        now: Now,
        steady_of: impl Fn(&BootMoment) -> Option<Timestamp>,
    ) -> Self {
        // The node may have room for a static pod by now; one of the API has failed for good.
        let is_static = order.pod.is_static();
        let record = record.filter(|record| record.rejected.is_none() || !is_static);
        let record = record.or_else(|| shown_record(&order.pod));
        let active_since = record
            .as_ref()
            .and_then(|record| active_since(record, now, &steady_of));
        let mut record = record.unwrap_or_default();
        let anchor = record.anchor.take();
        let ahead = anchor.and_then(|anchor| {
            let here = steady_of(&anchor.boot)?;
            Some(anchor.steady.duration_since(here))
        });
        let record = record.taken_over(now.steady, ahead.unwrap_or_default());
        let left = record.terminating.as_ref().filter(|t| t.leaving);
        // An earlier process was removing it: that goes on, and only then may it live again.
        let life = left.map_or(Lifecycle::Syncing, |terminating| {
            Lifecycle::Terminating(Terminating {
                cause: match order.desire {
                    Desire::Stop { cause, .. } => cause,
                    Desire::Run | Desire::Wait(_) | Desire::Reject(_) | Desire::End(_) => {
                        TerminationCause::Removed
                    }
                },
                since: terminating.since,
                grace_seconds: terminating.grace_seconds,
            })
        });
        Self {
            life,
            record,
            first_look: FirstLook::Due {
                had_directory: false,
            },
            active_since,
            attempts: BTreeMap::new(),
            retry: Retry::default(),
            stops: BTreeMap::new(),
            garbage_at: None,
            prepared: Prepared::No,
            stopped: BTreeSet::new(),
            dirs: None,
            volumes: BTreeMap::new(),
        }
    }

    /// From here on the times of its record are of this process's clock.
    pub fn anchor(&mut self, now: Now, boot: Option<BootMoment>) {
        let steady = now.steady;
        self.record.anchor = boot.map(|boot| Anchor { boot, steady });
    }

    /// From here on the pod is active.
    pub fn mark_started(&mut self, now: Now, boot: Option<BootMoment>) {
        self.record.start_time = Some(now.wall);
        self.record.active_since = boot;
        self.active_since = Some(now.steady);
    }

    /// The first look: the record may be of a life that has ended since. Then the pod begins anew, and the answer is true.
    pub fn validate_record(
        &mut self,
        order: &Order,
        observed: &ObservedPod,
        now: Now,
        boot: Option<BootMoment>,
    ) -> bool {
        let FirstLook::Due { had_directory } =
            std::mem::replace(&mut self.first_look, FirstLook::Done)
        else {
            return false;
        };
        // A pod that is to go does not live again, and what is known of its end is of this life.
        let is_being_removed = matches!(order.desire, Desire::Stop { .. });
        // It tells of sandboxes, and neither the runtime nor the disk has anything of the pod: it was removed, and what was written
        // of that got lost. A UID of the API is given once: what is gone there comes again as another run of the same life.
        let had_sandboxes = self
            .record
            .sandboxes
            .as_ref()
            .is_some_and(|s| !s.is_empty());
        let is_of_nothing =
            order.pod.is_static() && had_sandboxes && observed.is_absent() && !had_directory;
        if is_being_removed || !is_of_nothing && !self.record.is_outlived(observed) {
            return false;
        }
        let anchor = self.record.anchor.take();
        self.record = shown_record(&order.pod).unwrap_or_default();
        self.record.anchor = anchor;
        self.mark_started(now, boot);
        self.life = Lifecycle::Syncing;
        true
    }

    /// Keeps what must not be forgotten of what was seen: exits, counts, addresses, what runs.
    pub fn absorb(&mut self, pod: &Pod, observed: &ObservedPod, now: Now) {
        let is_held = |id: &SandboxId| observed.sandboxes.iter().any(|sandbox| sandbox.id == *id);
        self.stopped.retain(is_held);
        let is_live = |id: &str| observed.live_containers().any(|c| c.id.as_str() == id);
        self.stops.retain(|id, _| is_live(id.as_str()));
        self.forget_ends_before_stops(observed, now);
        self.record.stopping.retain(|id, _| is_live(id));
        for spec in pod.all_containers() {
            self.absorb_container(&spec.name, observed, now);
        }
        self.record.settle_restart_of_all(pod, observed);
        let sandboxes = observed.sandboxes.iter().map(|s| s.id.to_string());
        self.record.sandboxes = Some(sandboxes.collect());
        let mut addresses = observed.sandboxes.iter().filter_map(|s| s.ips.as_ref());
        if let Some(ips) = addresses.find(|ips| !ips.is_empty()) {
            self.record.ips.clone_from(ips);
        }
    }

    /// An instance ended by itself, the clock was set back, and then its stop was decided: such an end is dated later than now, and later
    /// than the stop by more than the time that has passed since. It is no end of that stop.
    fn forget_ends_before_stops(&mut self, observed: &ObservedPod, now: Now) {
        let stopping = &self.record.stopping;
        let is_of_stop = |name: &str, old: &Replaced| {
            let ended = observed.instances(name).find(|c| c.id.as_str() == old.id);
            let ended = ended.and_then(|c| Some(c.state.exit()?.finished_at));
            let begun = stopping.get(&old.id).and_then(|stop| stop.since);
            let Some((ended, begun)) = ended.zip(begun) else {
                return true;
            };
            let passed = now.steady.duration_since(begun) + SignedDuration::from_secs(1);
            ended <= now.wall || ended.duration_since(old.since) <= passed
        };
        self.record
            .replaced
            .retain(|name, old| is_of_stop(name, old));
    }

    fn absorb_container(&mut self, name: &str, observed: &ObservedPod, now: Now) {
        let instances = || observed.instances(name);
        // Seen to run while its start was under way, and then the runtime took the start back: that was no run.
        let is_taken_back = |run: &RecordedExit| {
            let mut cut_off = observed.cut_off.iter();
            cut_off.any(|c| c.id.as_str() == run.id)
        };
        if self.record.running.get(name).is_some_and(is_taken_back) {
            self.record.running.remove(name);
        }
        let newest_exit = instances().find_map(|c| c.state.exit().map(|exit| exit_of(c, exit)));
        if let Some(mut exit) = newest_exit {
            let old = self.record.exits.get(name);
            if old.is_none_or(|old| {
                old.attempt <= exit.attempt && !(old.is_reset && old.id == exit.id)
            }) {
                let known = old.filter(|old| old.id == exit.id);
                // Its file goes with the pod's directory, before its last status may be written.
                if exit.message.is_empty()
                    && let Some(known) = known
                {
                    exit.message.clone_from(&known.message);
                }
                exit.counts_from = known
                    .and_then(|old| old.counts_from)
                    .or_else(|| Some(now.steady_of(exit.finished_at)));
                self.record.exits.insert(name.to_owned(), exit);
            }
        }
        // One that was only made has not run: should its start be cut off, the next one is no restart.
        let ran = instances().filter(|c| c.state != ContainerState::Created);
        if let Some(count) = ran.map(|c| c.restart_count).max() {
            let known = self.record.restart_counts.entry(name.to_owned());
            let known = known.or_default();
            *known = (*known).max(count);
        }
        // What of a container runs is kept until its exit is: should it vanish, that much is known.
        let newest = instances().next();
        // A newer instance was made, so that run is over, and nobody will see its end any more.
        let next_of = |run: &RecordedExit| instances().any(|c| c.attempt > run.attempt);
        if self.record.running.get(name).is_some_and(next_of) {
            self.record.give_up_lost_run(name, observed, now.steady);
        }
        let has_ended = newest.is_some_and(|container| container.state.exit().is_some());
        if let Some(run) = newest.and_then(exit_of_lost) {
            self.record.running.insert(name.to_owned(), run);
        } else if has_ended {
            self.record.running.remove(name);
        }
        let is_over = |old: &Replaced| {
            newest.is_some_and(|c| c.id.as_str() != old.id && c.state != ContainerState::Created)
        };
        if self.record.replaced.get(name).is_some_and(is_over) {
            self.record.replaced.remove(name);
        }
        if instances().any(|c| c.state.may_run()) {
            // Started, whatever its call said: the next start asks for its image anew.
            self.attempts.remove(name);
        } else if has_ended
            && let Some(attempt) = self.attempts.get_mut(name)
            && matches!(&attempt.waiting, Some(w) if w.reason == Reason::RunContainerError)
        {
            // A start that failed and left an instance that ended is a crash like any other: its back-off holds it, and nothing else.
            attempt.held_until = None;
        }
    }

    /// What was seen to run and is nowhere any more, of a pod that ends, has ended.
    pub fn give_up_lost(&mut self, observed: &ObservedPod, now: Now) {
        if self.life.rank() > 0 {
            self.record.give_up_lost(observed, now.steady);
        }
    }

    /// Keeps the highest attempts that logs tell of, where nothing else is known.
    pub fn note_logged(&mut self, attempts: BTreeMap<String, u32>) {
        for (name, attempt) in attempts {
            self.record.restart_counts.entry(name).or_insert(attempt);
        }
    }

    /// The preStop hook of an instance has ended, well or not: it is not run again.
    pub fn note_hook_done(&mut self, id: &ContainerId) {
        let stopping = self.record.stopping.entry(id.to_string());
        stopping.or_default().hook_done = true;
    }

    /// Keeps the results of probes, for the process after this one.
    pub fn note_probes(&mut self, probes: &PodProbes) {
        if !probes.is_empty() && self.record.probes != *probes {
            self.record.probes.clone_from(probes);
        }
    }

    /// Keeps what was said of the pod's handler, for the status after a restart.
    pub fn note_handler(&mut self, recursive_read_only: Option<bool>) {
        if recursive_read_only.is_some() {
            self.record.recursive_read_only = recursive_read_only;
        }
    }

    /// Goes over to a state of life. It must not be of a lower rank.
    pub fn enter(&mut self, entry: Entry) {
        let Entry {
            next,
            ended,
            rejected,
        } = entry;
        if ended.is_some() {
            self.record.ended = ended;
            self.record.rejected = rejected;
        }
        if let Lifecycle::Terminating(terminating) = &next {
            self.record.terminating = Some(TerminatingRecord {
                since: terminating.since,
                grace_seconds: terminating.grace_seconds,
                leaving: next.is_leaving(),
            });
        }
        if let Some(record) = self
            .record
            .terminating
            .as_mut()
            .filter(|_| next.is_leaving())
        {
            record.leaving = true;
        }
        if next.rank() > self.life.rank() {
            self.retry = Retry::default();
        }
        self.life = next;
    }

    /// Before a plan is carried out: should nobody be here to be answered, it is known which starts came to nothing, and what fails
    /// waits no less than what ran and ended.
    pub fn begin(&mut self, pod: &Pod, plan: &PodPlan, node: &NodeView, now: Now) -> Begun {
        let starts = starts_of(plan);
        let before = self.before_starts(plan);
        let before_stops = self.before_stops(plan);
        self.record.begin_starts(&starts);
        self.record.restarting_all |= plan.restarts_all;
        if !starts.is_empty() {
            self.record.end_ranks = end_ranks(pod);
        }
        self.forget_given_up_stops(plan, now);
        let stops = plan.steps.iter().filter_map(|step| step.action.stops());
        for stop in stops.flatten() {
            self.record.begin_stop(stop, now.steady);
            let cause = match stop.why {
                StopWhy::DefinitionChanged => Some(ReplacedFor::Definition),
                StopWhy::ProbeFailed(_, Restarts::Yes) => {
                    Some(self.replaced_for_probe(pod, &stop.name, node, now))
                }
                StopWhy::ProbeFailed(_, Restarts::No)
                | StopWhy::PostStartFailed
                | StopWhy::RestartingAll
                | StopWhy::Unwanted
                | StopWhy::UnknownState => None,
            };
            if let Some(cause) = cause {
                let replaced = Replaced {
                    id: stop.id.to_string(),
                    since: now.wall,
                    cause,
                };
                self.record.replaced.insert(stop.name.clone(), replaced);
            }
        }
        for spec in pod
            .all_containers()
            .filter(|c| starts.contains_key(&c.name))
        {
            let resources = spec.resources.clone().unwrap_or_default();
            self.record.applied.insert(spec.name.clone(), resources);
            let lifecycle = spec.lifecycle.as_ref();
            let has_hook = lifecycle.is_some_and(|hooks| hooks.post_start.is_some());
            if let Some(attempt) = starts.get(&spec.name).copied().filter(|_| has_hook) {
                let failed = None;
                let due = PostStartRecord { attempt, failed };
                self.record.post_start.insert(spec.name.clone(), due);
            } else {
                self.record.post_start.remove(&spec.name);
            }
        }
        let (back_offs, gaps) = (&mut self.record.restart_back_off, Gaps::of_starts(node));
        lengthen(back_offs, pod, plan, now.steady, gaps);
        Begun {
            starts,
            before,
            stops: before_stops,
        }
    }

    /// What runs on because it is wanted again after all has not been stopped: its end, whenever that comes, is one like any other.
    fn forget_given_up_stops(&mut self, plan: &PodPlan, now: Now) {
        let is_paused = self.retry_at(now).is_some() || plan.pod_waiting.is_some();
        if self.life != Lifecycle::Syncing || is_paused {
            return;
        }
        let stops = plan.steps.iter().filter_map(|step| step.action.stops());
        let stopped: BTreeSet<&str> = stops.flatten().map(|stop| stop.id.as_str()).collect();
        let held: BTreeSet<&str> = self.stops.keys().map(ContainerId::as_str).collect();
        // Only what is live has an entry.
        let goes_on = |id: &str| !stopped.contains(id) && !held.contains(id);
        let given_up: Vec<String> = self.record.stopping.keys().cloned().collect();
        for id in given_up.into_iter().filter(|id| goes_on(id)) {
            self.record.stopping.remove(&id);
            self.record.replaced.retain(|_, old| old.id != id);
        }
    }

    /// Upstream starts it in the sync that stops it, unless its back-off holds, counted from the end of the instance before.
    fn replaced_for_probe(&self, pod: &Pod, name: &str, node: &NodeView, now: Now) -> ReplacedFor {
        let exit = self.record.exits.get(name);
        let ended_before = exit.map(RecordedExit::back_off_from);
        let spec = pod.kept_container(name);
        let back_off = self.record.restart_back_off.get(name);
        let held = ended_before.zip(spec).zip(back_off);
        let held = held.and_then(|((ended, spec), back_off)| {
            let cap = node.max_backoff_seconds;
            back_off.until(&back_off_key(spec), ended, now.steady, cap)
        });
        match held {
            Some(_) => ReplacedFor::ProbeInBackOff,
            None => ReplacedFor::Probe(ended_before),
        }
    }

    /// What became of the steps of a plan that began so, as far as it came.
    pub fn remember(&mut self, outcomes: Vec<Outcome>, begun: &Begun, now: Now) -> NextLook {
        self.take_back(begun, outcomes.len());
        let starts = &begun.starts;
        let mut next_look = NextLook::AsTouched;
        let mut is_clean = true;
        for outcome in outcomes {
            for id in outcome.unstopped() {
                let before = begun.stops.iter().find(|before| before.id == *id);
                let before = before.and_then(|before| before.begun.as_ref());
                self.record.take_back_stop(id, before);
            }
            match outcome {
                Outcome::Done(effect) => self.remember_effect(effect),
                Outcome::Failed(failure) if failure.is_garbage => {
                    self.garbage_at = now.steady.checked_add(GARBAGE_PAUSE).ok();
                }
                // What status shows of it is in the record; it is no start that is tried again.
                Outcome::Failed(failure) if failure.reason == Reason::PostStartHookError => {
                    self.record.fail_post_start(&failure);
                }
                Outcome::Failed(failure) => {
                    is_clean = false;
                    if let Some(name) = failure.of.container() {
                        self.record.end_start(name, starts);
                        if failure.reason == Reason::RunContainerError {
                            let attempt = self.attempts.entry(name.to_owned()).or_default();
                            attempt.refused = starts.get(name).copied();
                        }
                    }
                    self.remember_failure(failure, now);
                }
                Outcome::GivenUp => next_look = NextLook::Whole,
                Outcome::Unknown(failure) => {
                    is_clean = false;
                    next_look = NextLook::Whole;
                    match failure.of {
                        // It may be there: what the look shows is the truth.
                        Subject::Pod => self.retry.later(now),
                        Subject::Container(_) | Subject::Volume(_) | Subject::Stops(_) => {
                            self.remember_failure(failure, now);
                        }
                    }
                }
            }
        }
        if is_clean {
            self.retry = Retry::default();
        }
        next_look
    }

    fn remember_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Prepared => self.prepared = Prepared::Yes,
            Effect::VolumeSetUp(name, set_up) => {
                let set_up = VolumeMemory {
                    set_up: Some(set_up),
                    retry: Retry::default(),
                };
                self.volumes.insert(name, set_up);
            }
            Effect::Released(leaving) => {
                self.volumes.clear();
                self.dirs = None;
                self.prepared = match leaving {
                    Leaving::No => Prepared::Ended,
                    Leaving::Yes => Prepared::Released,
                };
            }
            Effect::Stopped(sandbox) => {
                self.stopped.insert(sandbox);
            }
            Effect::Image(name, image) => {
                self.record.image_back_off.remove(&image.wanted);
                let attempt = self.attempts.entry(name).or_default();
                attempt.waiting = None;
                attempt.image = Some(image);
            }
            Effect::EnvFiles(name, values) => {
                let attempt = self.attempts.get_mut(&name);
                if let Some(image) = attempt.and_then(|attempt| attempt.image.as_mut()) {
                    image.env_files = Some(values);
                }
            }
            Effect::Started(name) => {
                self.attempts.remove(&name);
            }
            Effect::PostStarted(name) => {
                self.record.post_start.remove(&name);
            }
        }
    }

    fn remember_failure(&mut self, failure: Failure, now: Now) {
        let waiting = Waiting {
            reason: failure.reason,
            message: failure.message,
        };
        let name = match failure.of {
            Subject::Pod => {
                self.retry.waiting = Some(waiting);
                self.retry.later(now);
                return;
            }
            Subject::Volume(name) => {
                let retry = &mut self.volumes.entry(name).or_default().retry;
                retry.waiting = Some(waiting);
                retry.later(now);
                return;
            }
            Subject::Stops(ids) => {
                for id in ids {
                    let retry = self.stops.entry(id).or_default();
                    retry.waiting = Some(waiting.clone());
                    retry.later(now);
                }
                return;
            }
            Subject::Container(name) => name,
        };
        match failure.image {
            Some(image) if image.pull_failed => {
                self.lengthen_image_back_off(image, &waiting.message, now);
            }
            // Only what is held back waits for its next look; any other failure is tried again by itself.
            Some(image) if waiting.reason == Reason::ImagePullBackOff => {
                if let Some(back_off) = self.record.image_back_off.get_mut(&image.image) {
                    back_off.looked_at = now.steady;
                }
            }
            Some(_) | None => self.hold(&name, now),
        }
        let attempt = self.attempts.entry(name).or_default();
        attempt.image = None;
        attempt.waiting = Some(waiting);
    }

    fn lengthen_image_back_off(&mut self, image: ImageFailure, message: &str, now: Now) {
        let image = image.image;
        let old = self.record.image_back_off.get(&image).map(|b| &b.back_off);
        let entry = ImageBackOff {
            back_off: BackOff::next(old, &image, now.steady, now.steady, Gaps::IMAGES),
            image: image.clone(),
            message: message.to_owned(),
            looked_at: now.steady,
        };
        self.record.image_back_off.insert(image, entry);
    }

    /// The container alone is tried again later.
    fn hold(&mut self, name: &str, now: Now) {
        let attempt = self.attempts.entry(name.to_owned()).or_default();
        attempt.held_until = Some(now.in_seconds(retry_seconds(attempt.tries)));
        attempt.tries = attempt.tries.saturating_add(1).min(MOST_FAILURES);
    }

    /// Whether the pod's directories are to be looked at: their removal is decided next, and it carries what was seen.
    pub fn wants_dirs(&self, now: Now) -> bool {
        let is_over = matches!(self.life, Lifecycle::Terminated { .. });
        let is_due = match self.prepared {
            Prepared::No | Prepared::Yes => is_over,
            Prepared::Ended => is_over && self.life.is_leaving(),
            Prepared::Released => false,
        };
        is_due && self.dirs.is_none() && self.retry.at.is_none_or(|at| at <= now.steady)
    }

    /// The directories could not be looked at: nothing of the pod is removed.
    pub fn could_not_see_dirs(&mut self, why: Waiting, now: Now) {
        self.retry.waiting = Some(why);
        self.retry.later(now);
    }

    /// The image made sure of for the next start of a container.
    pub fn image(&self, name: &str) -> Option<&ResolvedImage> {
        self.attempts.get(name)?.image.as_ref()
    }

    /// Whether the runtime refused to start this instance of a container.
    pub fn is_refused(&self, name: &str, attempt: u32) -> bool {
        let known = self.attempts.get(name);
        known.is_some_and(|known| known.refused == Some(attempt))
    }

    /// Whether the instance that ended then was stopped because its definition changed: another one takes its place, whatever the
    /// restart policy.
    pub fn is_replaced(&self, name: &str, id: &str, finished_at: Timestamp) -> bool {
        let replaced = self.record.replaced.get(name);
        replaced.is_some_and(|old| old.id == id && finished_at >= old.since)
    }

    /// Why the last try to start a container came to nothing.
    pub fn waiting(&self, name: &str) -> Option<&Waiting> {
        self.attempts.get(name)?.waiting.as_ref()
    }

    /// Containers whose last try came to nothing, and why.
    pub fn waits(&self) -> impl Iterator<Item = (&str, &Waiting)> {
        let waits = self.attempts.iter();
        waits.filter_map(|(name, attempt)| Some((name.as_str(), attempt.waiting.as_ref()?)))
    }

    /// Until when a container is not tried, and why, where that lies ahead.
    pub fn held(&self, name: &str, now: Now) -> Option<(Timestamp, &Waiting)> {
        let attempt = self.attempts.get(name)?;
        let until = attempt.held_until.filter(|until| *until > now.steady)?;
        Some((until, attempt.waiting.as_ref()?))
    }

    /// Until when the pod as a whole is not tried, where that lies ahead.
    pub fn retry_at(&self, now: Now) -> Option<Timestamp> {
        self.retry.held_until(now)
    }
}

impl Retry {
    /// It failed once more.
    pub fn later(&mut self, now: Now) {
        self.at = Some(now.in_seconds(retry_seconds(self.failures)));
        self.failures = self.failures.saturating_add(1).min(MOST_FAILURES);
    }

    /// Until when it is not tried, where that lies ahead.
    pub fn held_until(&self, now: Now) -> Option<Timestamp> {
        self.at.filter(|at| *at > now.steady)
    }
}

impl Now {
    /// The steady time of something that is dated by the wall clock, as far as it can be known: never later than now.
    pub fn steady_of(self, wall: Timestamp) -> Timestamp {
        let age = self.wall.duration_since(wall).max(SignedDuration::ZERO);
        self.steady.saturating_sub(age).unwrap_or(self.steady)
    }

    fn in_seconds(self, seconds: i64) -> Timestamp {
        let later = self
            .steady
            .saturating_add(SignedDuration::from_secs(seconds));
        later.unwrap_or(self.steady)
    }
}

/// 1, 2, 4, 8, 10, 10 … seconds.
fn retry_seconds(failures: u32) -> i64 {
    let wait = RETRY.after(failures.saturating_add(1));
    i64::try_from(wait.as_secs()).unwrap_or(i64::MAX)
}

/// Since when the pod of an earlier process's record is active, by steady time: by the machine's own count where that is of this boot,
/// else as the wall clock has it, never later than now.
fn active_since(
    record: &PodRecord,
    now: Now,
    steady_of: impl Fn(&BootMoment) -> Option<Timestamp>,
) -> Option<Timestamp> {
    let counted = record.active_since.as_ref();
    counted
        .and_then(steady_of)
        .or_else(|| Some(now.steady_of(record.start_time?)))
}

#[cfg(test)]
mod tests;
