//! Hooks of containers, and their ends in the order of the plan.
//!
//! In:    a step's containers, hooks, grace
//! Out:   outcomes; whose preStop hook has ended
//! Calls: execute
//! Holds: a container is asked to end after its hook and those it waits for, or when its grace is used up; a hook that takes longer than
//!        that goes on until its container is killed
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go (killContainer, executePreStopHook), kuberuntime_termination_order.go

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use kubelet_cri::{CriError, Happened};
use kubelet_decide::pod::hooks::hook_failure;
use kubelet_decide::pod::stops::{MINIMUM_GRACE_SECONDS, leaves_less_grace};
use kubelet_decide::report::events::{self, Kill};
use kubelet_decide::shapes::hook::{Hook, HookKind};
use kubelet_decide::shapes::outcome::{Effect, Failure, Outcome, Subject};
use kubelet_decide::shapes::plan::StopContainer;
use kubelet_decide::shapes::view::Order;
use kubelet_model::ids::ContainerId;
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{DoneHooks, Executor, Until, see, unless_stopped};
use crate::frame::clock::sleep_or_forever;
use crate::frame::faults::Planted;
use crate::observe::pleg::Scope;

/// The runtime refuses so soon what it has not begun: an error that comes later may follow upon a request to end.
const REFUSED_AT_ONCE: Duration = Duration::from_secs(1);

/// How a hook ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HookEnd {
    /// Well or not.
    Seen,
    /// Nobody knows: the runtime went away.
    Unknown,
}

impl Executor {
    /// Runs the postStart hook of a container that was started; an order to stop ends it.
    pub(super) async fn post_start(
        &self,
        pod: &Pod,
        (id, name): (ContainerId, String),
        hook: Hook,
        look: &mut Option<Scope>,
        orders: &watch::Receiver<Order>,
    ) -> Outcome {
        let ended = unless_stopped(orders, self.hooks.run(pod, &id, &hook)).await;
        see(look, Scope::container(id));
        match ended {
            None => Outcome::GivenUp,
            Some(Ok(())) => Outcome::Done(Effect::PostStarted(name)),
            // It is due as long as nobody has seen its end.
            Some(Err(failure)) if failure.is_lost => Outcome::Unknown(Failure::new(
                Subject::Pod,
                Reason::PostStartHookError,
                failure.error,
            )),
            Some(Err(failure)) => {
                self.record(pod, events::hook_failed(pod, &name, HookKind::PostStart));
                let at = (pod, name.as_str());
                let message = hook_failure(&hook, at, &failure.error, &failure.printed);
                let of = Subject::Container(name);
                Outcome::Failed(Failure::new(of, Reason::PostStartHookError, message))
            }
        }
    }

    /// One container's end: its hook, then its turn, then what is left of its grace. A hook that is not done by then goes on beside the
    /// stop, until its container is killed.
    async fn stop_one(
        &self,
        pod: &Pod,
        stop: &StopContainer,
        ends: &BTreeMap<ContainerId, CancellationToken>,
        done_hooks: &DoneHooks,
    ) -> Result<(), StopFailure> {
        let grace = Duration::from_secs(u64::try_from(stop.grace_seconds).unwrap_or(0));
        let began = Instant::now();
        let ends_at = began + grace;
        let mut hook = Box::pin(self.pre_stop(pod, stop));
        let mut goes_on = false;
        if stop.hook.is_some() {
            let ended = tokio::time::timeout_at(ends_at, &mut hook).await;
            goes_on = ended.is_err();
            if goes_on {
                tracing::info!(
                    container = stop.name,
                    grace = stop.grace_seconds,
                    "PreStop hook did not end within the grace"
                );
            }
            // One that was cut off by the runtime is run again, should the stop be tried again.
            if !matches!(ended, Ok(HookEnd::Unknown)) {
                // When nobody listens the process is stopping.
                let _sent = done_hooks.send(stop.id.clone());
            }
        }
        let waits = self.faults.planted() != Planted::SidecarsFirst;
        let turn = stop
            .after
            .iter()
            .filter_map(|id| ends.get(id))
            .filter(|_| waits);
        for end in turn {
            if tokio::time::timeout_at(ends_at, end.cancelled())
                .await
                .is_err()
            {
                break;
            }
        }
        // A second that has begun is not used up, as upstream counts.
        let used = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
        let left = stop.grace_seconds.saturating_sub(used);
        let left = left.max(MINIMUM_GRACE_SECONDS);
        let called = Instant::now();
        let mut call = Box::pin(self.cri.stop_container(stop.id.as_str(), left));
        let stopped = loop {
            tokio::select! {
                // The answer first: it is what is waited for.
                biased;
                stopped = &mut call => break stopped,
                _ = &mut hook, if goes_on => goes_on = false,
            }
        };
        if stopped.is_ok()
            && let Some(end) = ends.get(&stop.id)
        {
            end.cancel();
        }
        stopped.map_err(|error| StopFailure {
            is_untold: is_untold(&error, called.elapsed()),
            error,
        })
    }

    async fn pre_stop(&self, pod: &Pod, stop: &StopContainer) -> HookEnd {
        let Some(hook) = &stop.hook else {
            return HookEnd::Seen;
        };
        let name = &stop.name;
        let Err(failure) = self.hooks.run(pod, &stop.id, hook).await else {
            return HookEnd::Seen;
        };
        tracing::warn!(container = name, why = %failure.error, "PreStop hook failed");
        if failure.is_lost {
            return HookEnd::Unknown;
        }
        self.record(pod, events::hook_failed(pod, name, HookKind::PreStop));
        HookEnd::Seen
    }

    /// All at once, but for those that wait for others; the first failure is what status tells.
    pub(super) async fn stop(
        &self,
        pod: &Pod,
        stops: Vec<StopContainer>,
        look: &mut Option<Scope>,
        until: Until<'_>,
    ) -> (Outcome, Vec<ContainerId>) {
        let containers: BTreeSet<ContainerId> = stops.iter().map(|s| s.id.clone()).collect();
        see(
            look,
            Scope::Parts {
                sandboxes: BTreeSet::new(),
                containers,
            },
        );
        for stop in &stops {
            self.record(pod, events::killing(pod, stop));
        }
        let ends = stops
            .iter()
            .map(|stop| (stop.id.clone(), CancellationToken::new()));
        let ends: BTreeMap<_, _> = ends.collect();
        let calls = stops
            .iter()
            .map(|stop| self.stop_one(pod, stop, &ends, until.done_hooks));
        let calls = Box::pin(join_all(calls));
        let (orders, pause) = (until.orders, self.left_until(until.give_up_at));
        let grace = stops.iter().map(|stop| stop.grace_seconds).max();
        let results = tokio::select! {
            // Cancel: the containers were told to end, and the next plan stops them with the grace that is left them now.
            biased;
            results = calls => results,
            () = less_grace_is_ordered(orders, grace.unwrap_or_default()) => {
                return (Outcome::GivenUp, Vec::new());
            }
            () = sleep_or_forever(pause) => return (Outcome::GivenUp, Vec::new()),
        };
        of_all(stops, results)
    }
}

/// A stop that the runtime did not confirm.
struct StopFailure {
    error: CriError,
    /// The container was surely not told to end.
    is_untold: bool,
}

/// An error that comes later may follow upon a container that was told to end and did not.
pub(super) fn is_untold(error: &CriError, took: Duration) -> bool {
    error.happened() == Happened::No && took < REFUSED_AT_ONCE
}

/// The first failure is what status tells; what any of them leaves open is open.
fn of_all(
    stops: Vec<StopContainer>,
    results: Vec<Result<(), StopFailure>>,
) -> (Outcome, Vec<ContainerId>) {
    let mut failed = Vec::new();
    let (mut text, mut unkilled, mut untold) = (None, Vec::new(), Vec::new());
    let mut is_open = false;
    for (stop, result) in stops.into_iter().zip(results) {
        let Err(failure) = result else {
            continue;
        };
        let why = failure.error.message();
        unkilled.push(events::kill_failure(Kill::Container(&stop.name), &why));
        text.get_or_insert_with(|| format!("stop container {}: {why}", stop.name));
        is_open |= failure.error.happened() == Happened::Maybe;
        if failure.is_untold {
            untold.push(stop.id.clone());
        }
        failed.push(stop.id);
    }
    let Some(text) = text else {
        return (Outcome::Done(Effect::Nothing), failed);
    };
    let failure = Failure {
        unkilled,
        unstopped: untold,
        ..Failure::new(Subject::Pod, Reason::Error, text)
    };
    if is_open {
        (Outcome::Unknown(failure), failed)
    } else {
        (Outcome::Failed(failure), failed)
    }
}

/// Resolves when a stop that begins now with this grace is to be over earlier. Cancel: safe.
pub(super) async fn less_grace_is_ordered(orders: &watch::Receiver<Order>, grace_seconds: i64) {
    let began = Instant::now();
    let is_less = |order: &Order| {
        let used = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX);
        let left = grace_seconds.saturating_sub(used);
        leaves_less_grace(&order.desire, &order.pod, left)
    };
    // Other orders count as seen by the copy alone: a later step of this plan still ends for them.
    if orders.clone().wait_for(is_less).await.is_err() {
        // The sync loop is gone: the process is stopping.
        std::future::pending().await
    }
}
