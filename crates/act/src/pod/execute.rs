//! Carries out one plan, step by step.
//!
//! In:    `PodPlan`, in the order of its steps
//! Out:   what became of each step; what must be looked at before the next plan
//! Calls: pod_worker
//! Holds: no decision about pods; a failed step ends the plan unless the step says otherwise; an unknown outcome always ends it;
//!        starts on one node share a limited number of slots, so that the runtime is never flooded; disk work is done before a
//!        slot is taken; removals of pods that leave have few slots of their own, so that they slow no start down. A newer order
//!        that stops the pod ends a pull or disk work at once, and a call that starts something after [`CUT_AFTER`]; one that
//!        leaves less grace ends a stop
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go (SyncPod)

mod ends;

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_api::runtime::v1 as cri;
use kubelet_cri::{Client, CriError, Happened};
use kubelet_decide::report::events::{self, ImageMoment, Kill, PodEvent};
use kubelet_decide::shapes::env_files::EnvFileRead;
use kubelet_decide::shapes::outcome::{Effect, Failure, ImageFailure, Outcome, Subject};
use kubelet_decide::shapes::plan::{Action, ImageWanted, OnFailure, PodPlan, StartContainer, Step};
use kubelet_decide::shapes::view::{Desire, Now, Order};
use kubelet_decide::shapes::work::{HostWork, VolumeWork};
use kubelet_host::blocking::Lane;
use kubelet_model::ids::{ContainerId, SandboxId};
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;
use tokio::sync::{mpsc, watch};

use crate::frame::clock::{Clock, sleep_or_forever};
use crate::frame::faults::{FaultPoint, Faults, Planted};
use crate::frame::slot::Slot;
use crate::images::Images;
use crate::observe::pleg::Scope;
use crate::pod::hooks::Hooks;
use crate::pod::host_work::{Host, HostWorkError};
use crate::pod::start_width::StartWidth;
use crate::pod::timeline::{Stage, Timeline};
use crate::report::events::Events;

/// How long a call that starts something may still take once its pod is to stop. One that is cut off is work thrown away, and the
/// runtime undoes it; most end by themselves before.
const CUT_AFTER: Duration = Duration::from_secs(1);

/// What a plan is carried out with.
#[derive(Clone, Debug)]
pub struct Executor {
    /// The runtime.
    pub cri: Client,
    /// The node.
    pub host: Host,
    /// Images.
    pub images: Images,
    /// The clock.
    pub clock: Clock,
    /// Marks of stages.
    pub timeline: Timeline,
    /// Sandboxes and containers that are made at once on this node.
    pub width: StartWidth,
    /// Where people are told.
    pub events: Events,
    /// Runs lifecycle hooks.
    pub hooks: Hooks,
    /// Points at which tests end the process.
    pub faults: Faults,
}

/// Whose preStop hook has ended, told while a stop goes on.
pub type DoneHooks = mpsc::UnboundedSender<ContainerId>;

/// A plan's end.
#[derive(Debug)]
pub struct Executed {
    /// Outcomes of the steps that were taken, in order.
    pub outcomes: Vec<Outcome>,
    /// What must be looked at; `None` when no step touched the runtime.
    pub look: Option<Scope>,
}

/// What ends a wait that has no deadline of its own.
struct Until<'a> {
    /// A newer order.
    orders: &'a mut watch::Receiver<Order>,
    /// Where the end of hooks is told.
    done_hooks: &'a DoneHooks,
    /// A moment of steady time.
    give_up_at: Option<Timestamp>,
}

impl Executor {
    /// Steady time: what waits is measured by it.
    pub(crate) fn now(&self) -> Timestamp {
        match self.faults.planted() {
            Planted::WallClock => self.clock.now(),
            _ => self.clock.steady(),
        }
    }

    /// This moment by both clocks.
    pub(crate) fn both_clocks(&self) -> Now {
        Now {
            steady: self.now(),
            wall: self.clock.now(),
        }
    }

    /// Takes the steps.
    pub async fn execute(
        &self,
        pod: &Pod,
        plan: PodPlan,
        orders: &mut watch::Receiver<Order>,
        done_hooks: &DoneHooks,
    ) -> Executed {
        let mut executed = Executed {
            outcomes: Vec::new(),
            look: None,
        };
        let give_up_at = plan.give_up_at;
        let mut only_volumes = false;
        for step in plan.steps {
            if only_volumes && step.on_failure != OnFailure::EndAfterVolumes {
                break;
            }
            self.faults.reach(FaultPoint::BeforeStep).await;
            let on_failure = step.on_failure;
            let until = Until {
                orders: &mut *orders,
                done_hooks,
                give_up_at,
            };
            let mut outcome = self.step(pod, step, &mut executed.look, until).await;
            if let Outcome::Failed(failure) = &mut outcome {
                failure.is_garbage = on_failure == OnFailure::Later;
            }
            self.faults.reach(FaultPoint::AfterStep).await;
            let end = match &outcome {
                Outcome::Done(_) => false,
                Outcome::Failed(_) => match on_failure {
                    OnFailure::EndPlan => true,
                    OnFailure::EndAfterVolumes => {
                        only_volumes = true;
                        false
                    }
                    OnFailure::Continue | OnFailure::Later => false,
                },
                Outcome::Unknown(_) | Outcome::GivenUp => true,
            };
            executed.outcomes.push(outcome);
            if end {
                break;
            }
        }
        executed
    }

    async fn step(
        &self,
        pod: &Pod,
        step: Step,
        look: &mut Option<Scope>,
        until: Until<'_>,
    ) -> Outcome {
        let mark = |stage| {
            self.timeline
                .mark(&pod.uid, &pod.full_name, stage, self.clock.now())
        };
        let on_failure = step.on_failure;
        match step.action {
            Action::Prepare(work) => {
                let effect = Effect::Prepared;
                self.host_step(pod, work, Subject::Pod, effect, &until)
                    .await
            }
            Action::SetUpVolume(set_up) => self.set_up(pod, set_up, &until).await,
            Action::Release { work, leaving, .. } => {
                let done = self.host.work(pod, Lane::Removals, work).await;
                of_host(done, Subject::Pod, Effect::Released(leaving))
            }
            Action::RunSandbox(request) => {
                let outcome = self.run_sandbox(pod, *request, look, until.orders).await;
                mark(Stage::Sandbox);
                outcome
            }
            Action::ResolveImage(wanted) => {
                let outcome = self.image(pod, wanted, until).await;
                mark(Stage::Pull);
                outcome
            }
            Action::ReadEnvFiles { container, reads } => {
                self.read_env_files(pod, container, reads, until.orders)
                    .await
            }
            Action::StartContainer(start) => self.start(pod, *start, look, until.orders).await,
            Action::StartCreated { id, name, .. } => {
                self.start_created(pod, id, name, look, until.orders).await
            }
            Action::PostStart { id, name, hook } => {
                self.post_start(pod, (id, name), hook, look, until.orders)
                    .await
            }
            Action::StopContainers(stops) => {
                let (outcome, failed) = self.stop(pod, stops, look, until).await;
                of_stops(outcome, failed, on_failure)
            }
            Action::StopSandbox(id) => self.stop_sandbox(pod, id, look).await,
            Action::RemoveContainer { id, logs, .. } => {
                let mut slot = self.removal_slot(on_failure).await;
                let removed = slot.during(self.cri.remove_container(id.as_str())).await;
                drop(slot);
                see(look, Scope::container(id.clone()));
                // Only now: one that the runtime still starts, and does not remove, goes on writing them.
                if let (Ok(()), Some(logs)) = (&removed, logs)
                    && self
                        .remove_logs(pod, &id, logs, until.orders)
                        .await
                        .is_err()
                {
                    return Outcome::GivenUp;
                }
                of_call(
                    removed.map(|()| Effect::Nothing),
                    Subject::Pod,
                    Reason::Error,
                    |e| format!("remove container {id}: {}", e.message()),
                )
            }
            Action::RemoveSandbox { id, .. } => {
                let mut slot = self.removal_slot(on_failure).await;
                let removed = slot.during(self.cri.remove_pod_sandbox(id.as_str())).await;
                drop(slot);
                see(look, Scope::Whole);
                of_call(
                    removed.map(|()| Effect::Nothing),
                    Subject::Pod,
                    Reason::Error,
                    |e| format!("remove sandbox {id}: {}", e.message()),
                )
            }
        }
    }

    async fn stop_sandbox(&self, pod: &Pod, id: SandboxId, look: &mut Option<Scope>) -> Outcome {
        let stopped = self.cri.stop_pod_sandbox(id.as_str()).await;
        see(look, Scope::Whole);
        let why = stopped.as_ref().err().map(CriError::message);
        let what = Kill::Sandbox(pod.uid.as_str());
        let unkilled = why.iter().map(|why| events::kill_failure(what, why));
        let unkilled = unkilled.collect();
        let text = format!("stop sandbox {id}");
        let outcome = of_call(
            stopped.map(|()| Effect::Stopped(id)),
            Subject::Pod,
            Reason::Error,
            |e| format!("{text}: {}", e.message()),
        );
        with_unkilled(outcome, unkilled)
    }

    /// What is removed of a pod that goes on waits for nobody: its worker has to hear of exits and orders.
    async fn removal_slot(&self, on_failure: OnFailure) -> Slot {
        match on_failure {
            OnFailure::Later => Slot::free(),
            OnFailure::EndPlan | OnFailure::Continue | OnFailure::EndAfterVolumes => {
                self.width.for_removal().await
            }
        }
    }

    /// The logs of a container that is removed; an error when the pod is to stop meanwhile.
    async fn remove_logs(
        &self,
        pod: &Pod,
        id: &ContainerId,
        logs: HostWork,
        orders: &watch::Receiver<Order>,
    ) -> Result<(), ()> {
        let work = self.host.work(pod, Lane::Pods, vec![logs]);
        let done = if is_to_stop(&orders.borrow()) {
            // It is being taken down, and this is part of it.
            work.await
        } else {
            let done = unless_ended(work, stop_is_ordered(orders)).await;
            done.ok_or(())?
        };
        if let Err(error) = done {
            tracing::warn!(container = %id, why = %error, "Logs of a removed container could not be removed");
        }
        Ok(())
    }

    async fn run_sandbox(
        &self,
        pod: &Pod,
        request: cri::RunPodSandboxRequest,
        look: &mut Option<Scope>,
        orders: &watch::Receiver<Order>,
    ) -> Outcome {
        let Some(mut slot) = unless_stopped(orders, self.width.for_sandbox()).await else {
            return Outcome::GivenUp;
        };
        let call = Box::pin(slot.during(self.cri.run_pod_sandbox(request)));
        let Some(made) = cut_off_by_stop(orders, call).await else {
            see(look, Scope::Whole);
            return Outcome::GivenUp;
        };
        see(
            look,
            made.as_ref().map_or(Scope::Whole, |id| {
                Scope::sandbox(SandboxId::from(id.as_str()))
            }),
        );
        if let Err(error) = &made {
            self.events
                .pod(pod, events::sandbox_failed(&error.message()));
        }
        of_call(
            made.map(|_| Effect::Nothing),
            Subject::Pod,
            Reason::CreatePodSandboxError,
            |error| {
                format!(
                    "Failed to create sandbox for pod \"{}_{}({})\": {}",
                    pod.full_name.name,
                    pod.full_name.namespace,
                    pod.uid,
                    error.message()
                )
            },
        )
    }

    fn record(&self, pod: &Pod, event: Option<PodEvent>) {
        if let Some(event) = event {
            self.events.pod(pod, event);
        }
    }

    async fn set_up(&self, pod: &Pod, set_up: VolumeWork, until: &Until<'_>) -> Outcome {
        let effect = Effect::VolumeSetUp(set_up.volume.clone(), set_up.makes);
        let of = Subject::Volume(set_up.volume);
        self.host_step(pod, set_up.work, of, effect, until).await
    }

    /// Work on the disk before anything starts; a pod that is to stop does not wait for it.
    async fn host_step(
        &self,
        pod: &Pod,
        work: Vec<HostWork>,
        of: Subject,
        effect: Effect,
        until: &Until<'_>,
    ) -> Outcome {
        let work = self.host.work(pod, Lane::Pods, work);
        let pause = self.left_until(until.give_up_at);
        let end = async {
            tokio::select! {
                () = stop_is_ordered(until.orders) => {}
                () = sleep_or_forever(pause) => {}
            }
        };
        // What is under way goes on in its thread, and keeps all else from the pod's directory until it is done.
        let Some(done) = unless_ended(work, end).await else {
            return Outcome::GivenUp;
        };
        self.record_host_failure(pod, &done);
        if done.is_ok() {
            let now = self.clock.now();
            self.timeline
                .mark(&pod.uid, &pod.full_name, Stage::Volumes, now);
        }
        of_host(done, of, effect)
    }

    fn record_host_failure(&self, pod: &Pod, done: &Result<(), HostWorkError>) {
        if let Err(error) = done {
            self.events
                .pod(pod, events::host_failed(error.reason, &error.message));
        }
    }

    fn left_until(&self, at: Option<Timestamp>) -> Option<Duration> {
        at.map(|at| {
            let left = at.duration_since(self.now());
            Duration::try_from(left).unwrap_or(Duration::ZERO)
        })
    }

    async fn image(
        &self,
        pod: &Pod,
        wanted: ImageWanted,
        Until {
            orders, give_up_at, ..
        }: Until<'_>,
    ) -> Outcome {
        let pause = self.left_until(give_up_at);
        let at = (pod, wanted.container.as_str());
        let tell = |moment: ImageMoment<'_>| {
            self.record(pod, events::image_event(at, &wanted.image, moment));
        };
        let resolved = tokio::select! {
            // Cancel: a new order may not want this image any more, or the pod's time is over; the next plan asks again if it does.
            biased;
            resolved = self.images.resolve(&wanted, &tell) => resolved,
            _ = orders.changed() => return Outcome::GivenUp,
            () = sleep_or_forever(pause) => return Outcome::GivenUp,
        };
        match resolved {
            Ok(image) => Outcome::Done(Effect::Image(wanted.container, image)),
            Err(error) => {
                let reason = error.reason.as_str();
                let event = events::start_failed(pod, &wanted.container, None, reason);
                self.record(pod, event);
                let of = Subject::Container(wanted.container);
                let mut failure = Failure::new(of, error.reason, error.message);
                failure.image = Some(ImageFailure {
                    image: wanted.image,
                    pull_failed: error.pull_failed,
                });
                Outcome::Failed(failure)
            }
        }
    }

    async fn read_env_files(
        &self,
        pod: &Pod,
        container: String,
        reads: Vec<EnvFileRead>,
        orders: &watch::Receiver<Order>,
    ) -> Outcome {
        let work = self.host.read_env_files(pod, reads);
        let Some(read) = unless_ended(work, stop_is_ordered(orders)).await else {
            return Outcome::GivenUp;
        };
        let problem = match read {
            Ok(values) => return Outcome::Done(Effect::EnvFiles(container, values)),
            Err(problem) => problem,
        };
        tracing::error!(
            container,
            why = problem.detail,
            "Variables could not be had from a file"
        );
        let event = events::start_failed(pod, &container, None, &problem.message);
        self.record(pod, event);
        Outcome::Failed(Failure::new(
            Subject::Container(container),
            Reason::CreateContainerConfigError,
            problem.message,
        ))
    }

    async fn start(
        &self,
        pod: &Pod,
        start: StartContainer,
        look: &mut Option<Scope>,
        orders: &watch::Receiver<Order>,
    ) -> Outcome {
        // Before a slot is taken: whatever hangs here holds up nobody else.
        let work = self.host.work(pod, Lane::Pods, start.before);
        let Some(ready) = unless_ended(work, stop_is_ordered(orders)).await else {
            return Outcome::GivenUp;
        };
        if let Err(error) = ready {
            let event = events::start_failed(pod, &start.name, None, &error.message);
            self.record(pod, event);
            return Outcome::Failed(Failure::new(
                Subject::Container(start.name),
                Reason::CreateContainerConfigError,
                error.message,
            ));
        }
        let Some(mut slot) = unless_stopped(orders, self.width.for_container()).await else {
            return Outcome::GivenUp;
        };
        let call = Box::pin(slot.during(self.cri.create_container(start.request)));
        let Some(created) = cut_off_by_stop(orders, call).await else {
            see(look, Scope::Whole);
            return Outcome::GivenUp;
        };
        self.timeline
            .mark(&pod.uid, &pod.full_name, Stage::Create, self.clock.now());
        let id = match created {
            Ok(id) => ContainerId::from(id),
            Err(error) => {
                see(look, Scope::Whole);
                let event = events::start_failed(pod, &start.name, None, &error.message());
                self.record(pod, event);
                return of_call(
                    Err(error),
                    Subject::Container(start.name),
                    Reason::CreateContainerError,
                    CriError::description,
                );
            }
        };
        self.record(pod, events::created(pod, &start.name));
        self.faults.reach(FaultPoint::BetweenCreateAndStart).await;
        let starting = Box::pin(self.start_created(pod, id.clone(), start.name, look, orders));
        let outcome = slot.during(starting).await;
        drop(slot);
        if !matches!(outcome, Outcome::GivenUp)
            && let Some(link) = start.log_link
            && let Err(error) = self.host.link_log(pod, &link, id.as_str()).await
        {
            tracing::warn!(container = %id, error = %error, "Link to the container's log could not be made");
        }
        outcome
    }

    async fn start_created(
        &self,
        pod: &Pod,
        id: ContainerId,
        name: String,
        look: &mut Option<Scope>,
        orders: &watch::Receiver<Order>,
    ) -> Outcome {
        if is_to_stop(&orders.borrow()) {
            see(look, Scope::container(id));
            return Outcome::GivenUp;
        }
        let call = Box::pin(self.cri.start_container(id.as_str()));
        let Some(started) = cut_off_by_stop(orders, call).await else {
            see(look, Scope::Whole);
            return Outcome::GivenUp;
        };
        self.timeline
            .mark(&pod.uid, &pod.full_name, Stage::Start, self.clock.now());
        let event = match &started {
            Ok(()) => events::started(pod, &name),
            Err(error) => events::start_failed(pod, &name, Some(id.as_str()), &error.message()),
        };
        self.record(pod, event);
        see(look, Scope::container(id));
        let effect = Effect::Started(name.clone());
        of_call(
            started.map(|()| effect),
            Subject::Container(name),
            Reason::RunContainerError,
            CriError::description,
        )
    }
}

fn is_to_stop(order: &Order) -> bool {
    matches!(order.desire, Desire::Stop { .. } | Desire::End(_))
}

/// Resolves when the pod is to stop. Cancel: safe.
async fn stop_is_ordered(orders: &watch::Receiver<Order>) {
    // Other orders count as seen by the copy alone: a later step of this plan still ends for them.
    if orders.clone().wait_for(is_to_stop).await.is_err() {
        // The sync loop is gone: the process is stopping.
        std::future::pending().await
    }
}

/// The value of a wait that has changed nothing yet; `None` as soon as the pod is to stop. Cancel: as the wait.
async fn unless_stopped<T>(
    orders: &watch::Receiver<Order>,
    wait: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        // The order first: what is not begun is not begun any more.
        biased;
        () = stop_is_ordered(orders) => None,
        value = wait => Some(value),
    }
}

/// The answer of a call that starts something (boxed by the caller: a call is large); `None` when it does not come within [`CUT_AFTER`] of an order to stop, and the call may
/// have happened. Cancel: the call may have happened.
async fn cut_off_by_stop<T>(
    orders: &watch::Receiver<Order>,
    call: impl Future<Output = T>,
) -> Option<T> {
    let cut = async {
        stop_is_ordered(orders).await;
        tokio::time::sleep(CUT_AFTER).await;
    };
    unless_ended(call, cut).await
}

/// The value of a wait; `None` when its end comes first. Cancel: as the wait.
async fn unless_ended<T>(
    wait: impl Future<Output = T>,
    end: impl Future<Output = ()>,
) -> Option<T> {
    tokio::select! {
        // The value first: it is what is waited for.
        biased;
        value = wait => Some(value),
        () = end => None,
    }
}

/// The same, with what its event tells.
fn with_unkilled(mut outcome: Outcome, texts: Vec<String>) -> Outcome {
    match &mut outcome {
        Outcome::Done(_) | Outcome::GivenUp => {}
        Outcome::Failed(failure) | Outcome::Unknown(failure) => {
            failure.unkilled = texts;
        }
    }
    outcome
}

/// Of a pod that goes on, a stop that failed holds back itself alone.
fn of_stops(mut outcome: Outcome, failed: Vec<ContainerId>, on_failure: OnFailure) -> Outcome {
    if let Outcome::Failed(failure) | Outcome::Unknown(failure) = &mut outcome
        && on_failure == OnFailure::Continue
    {
        failure.of = Subject::Stops(failed);
    }
    outcome
}

fn see(look: &mut Option<Scope>, scope: Scope) {
    look.get_or_insert_with(Scope::nothing).join(scope);
}

fn of_host(done: Result<(), HostWorkError>, of: Subject, effect: Effect) -> Outcome {
    match done {
        Ok(()) => Outcome::Done(effect),
        Err(error) => Outcome::Failed(Failure::new(of, error.reason, error.message)),
    }
}

fn of_call(
    result: Result<Effect, CriError>,
    of: Subject,
    reason: Reason,
    message: impl FnOnce(&CriError) -> String,
) -> Outcome {
    match result {
        Ok(effect) => Outcome::Done(effect),
        Err(error) => {
            let failure = Failure::new(of, reason, message(&error));
            match error.happened() {
                Happened::No => Outcome::Failed(failure),
                Happened::Maybe => Outcome::Unknown(failure),
            }
        }
    }
}

#[cfg(test)]
mod tests;
