//! Carries out one plan, step by step.
//!
//! In:    `PodPlan`, in the order of its steps
//! Out:   what became of each step; what must be looked at before the next plan
//! Calls: pod_worker
//! Holds: no decision about pods; a step's failure ends the plan unless the step says otherwise; an unknown outcome always does;
//!        starts on one node share a bounded width, so that the runtime is never flooded
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go (SyncPod)

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use kubelet_cri::{Client, CriError, Happened};
use kubelet_decide::env_file::{EnvFileRead, EnvFileValues};
use kubelet_decide::events::{self, ImageMoment, Kill, PodEvent};
use kubelet_decide::plan::{
    Action, ImageWanted, OnFailure, PodPlan, StartContainer, Step, StopContainer,
};
use kubelet_decide::view::ResolvedImage;
use kubelet_decide::volumes::{Leaving, Mark};
use kubelet_model::ids::{ContainerId, SandboxId};
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;
use tokio::sync::watch;

use crate::clock::{Clock, sleep_or_forever};
use crate::events::Events;
use crate::faults::{FaultPoint, Faults, Planted};
use crate::host_work::{Host, HostWorkError};
use crate::images::Images;
use crate::pleg::Scope;
use crate::pod_worker::Order;
use crate::start_width::StartWidth;
use crate::timeline::{Stage, Timeline};

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
    /// Points at which tests end the process.
    pub faults: Faults,
}

/// What became of one step.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done(Effect),
    /// It did not happen.
    Failed(Failure),
    /// It may have happened: no answer came.
    Unknown(Failure),
}

/// What a done step brought.
#[derive(Debug)]
pub enum Effect {
    /// Nothing to remember.
    Nothing,
    /// The host side stands; what the files of volumes are.
    Prepared(BTreeMap<String, Mark>),
    /// What the files of volumes are that were written.
    Written(BTreeMap<String, Mark>),
    /// The host side is down, all of it or what only a running pod needs.
    Released(Leaving),
    /// An image for the next start of a container.
    Image(String, ResolvedImage),
    /// Variables from files for the next start of a container.
    EnvFiles(String, EnvFileValues),
    /// A container was started.
    Started {
        /// Its name.
        name: String,
        /// When the run before it ended, if this is a restart.
        after_failure: Option<Timestamp>,
    },
}

/// Why a step is not done.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Container it is about; `None` is the pod.
    pub container: Option<String>,
    /// The reason that status shows.
    pub reason: Reason,
    /// The text that status shows.
    pub message: String,
    /// An image pull failed: its back-off applies, not the pod's.
    pub image: Option<ImageFailure>,
    /// What could not be stopped, as the event of a pod that is ending tells it.
    pub unkilled: Vec<String>,
    /// Nothing waits for it.
    pub is_garbage: bool,
}

/// A failed image.
#[derive(Clone, Debug)]
pub struct ImageFailure {
    /// Name as the spec has it.
    pub image: String,
    /// Whether a pull was tried.
    pub pull_failed: bool,
}

/// A plan's end.
#[derive(Debug)]
pub struct Executed {
    /// Outcomes of the steps that were taken, in order.
    pub outcomes: Vec<Outcome>,
    /// What must be looked at; `None` when no step touched the runtime.
    pub look: Option<Scope>,
    /// Looking may wait: nothing of the pod may have changed but by a step whose result is known to the caller.
    pub finished: bool,
}

/// What ends a wait that has no deadline of its own: a newer order, or a moment of steady time.
type Until<'a> = (&'a mut watch::Receiver<Order>, Option<Timestamp>);

impl Executor {
    /// Steady time: what waits is measured by it.
    pub(crate) fn now(&self) -> Timestamp {
        match self.faults.planted() {
            Planted::WallClock => self.clock.now(),
            _ => self.clock.steady(),
        }
    }

    /// Takes the steps.
    pub async fn execute(
        &self,
        pod: &Pod,
        plan: PodPlan,
        orders: &mut watch::Receiver<Order>,
    ) -> Executed {
        let mut executed = Executed {
            outcomes: Vec::new(),
            look: None,
            finished: true,
        };
        let give_up_at = plan.give_up_at;
        for step in plan.steps {
            self.faults.reach(FaultPoint::BeforeStep).await;
            let on_failure = step.on_failure;
            let mut outcome = self
                .step(pod, step, &mut executed.look, (&mut *orders, give_up_at))
                .await;
            if let Outcome::Failed(failure) = &mut outcome {
                failure.is_garbage = on_failure == OnFailure::Later;
            }
            self.faults.reach(FaultPoint::AfterStep).await;
            let end = match &outcome {
                Outcome::Done(_) => false,
                Outcome::Failed(_) => on_failure == OnFailure::EndPlan,
                Outcome::Unknown(_) => true,
            };
            executed.outcomes.push(outcome);
            if end {
                executed.finished = false;
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
        match step.action {
            Action::Prepare(volumes) => {
                let done = self.host.work(volumes.work).await;
                mark(Stage::Volumes);
                self.tell_host(pod, &done);
                of_host(done, Effect::Prepared(volumes.written))
            }
            Action::WritePayloads(volumes) => {
                let done = self.host.work(volumes.work).await;
                self.tell_host(pod, &done);
                of_host(done, Effect::Written(volumes.written))
            }
            Action::Release { work, leaving, .. } => {
                of_host(self.host.work(work).await, Effect::Released(leaving))
            }
            Action::RunSandbox(request) => {
                let _slot = self.width.for_sandbox().await;
                let made = self.cri.run_pod_sandbox(*request).await;
                mark(Stage::Sandbox);
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
                    None,
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
            Action::ResolveImage(wanted) => {
                let outcome = self.image(pod, wanted, until).await;
                mark(Stage::Pull);
                outcome
            }
            Action::ReadEnvFiles { container, reads } => {
                self.read_env_files(pod, container, reads).await
            }
            Action::StartContainer(start) => self.start(pod, *start, look).await,
            Action::StartCreated { id, name } => {
                self.start_created(pod, id, name, None, look).await
            }
            Action::StopContainers(stops) => self.stop(pod, stops, look).await,
            Action::StopSandbox(id) => {
                let stopped = self.cri.stop_pod_sandbox(id.as_str()).await;
                see(look, Scope::Whole);
                let why = stopped.as_ref().err().map(CriError::message);
                let what = Kill::Sandbox(pod.uid.as_str());
                let unkilled = why.iter().map(|why| events::kill_failure(what, why));
                let unkilled = unkilled.collect();
                let outcome = of_call(
                    stopped.map(|()| Effect::Nothing),
                    None,
                    Reason::Error,
                    |e| format!("stop sandbox {id}: {}", e.message()),
                );
                with_unkilled(outcome, unkilled)
            }
            Action::RemoveContainer { id, .. } => {
                let removed = self.cri.remove_container(id.as_str()).await;
                see(look, Scope::container(id.clone()));
                of_call(
                    removed.map(|()| Effect::Nothing),
                    None,
                    Reason::Error,
                    |e| format!("remove container {id}: {}", e.message()),
                )
            }
            Action::RemoveSandbox { id, .. } => {
                let removed = self.cri.remove_pod_sandbox(id.as_str()).await;
                see(look, Scope::Whole);
                of_call(
                    removed.map(|()| Effect::Nothing),
                    None,
                    Reason::Error,
                    |e| format!("remove sandbox {id}: {}", e.message()),
                )
            }
        }
    }

    fn tell(&self, pod: &Pod, event: Option<PodEvent>) {
        if let Some(event) = event {
            self.events.pod(pod, event);
        }
    }

    fn tell_host(&self, pod: &Pod, done: &Result<(), HostWorkError>) {
        if let Err(error) = done {
            self.events
                .pod(pod, events::host_failed(error.reason, &error.message));
        }
    }

    async fn image(
        &self,
        pod: &Pod,
        wanted: ImageWanted,
        (orders, give_up_at): Until<'_>,
    ) -> Outcome {
        let pause = give_up_at.map(|at| {
            let left = at.duration_since(self.now());
            Duration::try_from(left).unwrap_or(Duration::ZERO)
        });
        let at = (pod, wanted.container.as_str());
        let tell = |moment: ImageMoment<'_>| {
            self.tell(pod, events::image_event(at, &wanted.image, moment));
        };
        let resolved = tokio::select! {
            // Cancel: a new order may not want this image any more, or the pod's time is over; the next plan asks again if it does.
            biased;
            resolved = self.images.resolve(&wanted, &tell) => resolved,
            _ = orders.changed() => return Outcome::Done(Effect::Nothing),
            () = sleep_or_forever(pause) => return Outcome::Done(Effect::Nothing),
        };
        match resolved {
            Ok(image) => Outcome::Done(Effect::Image(wanted.container, image)),
            Err(error) => {
                let reason = error.reason.as_str();
                let event = events::start_failed(pod, &wanted.container, None, reason);
                self.tell(pod, event);
                Outcome::Failed(Failure {
                    container: Some(wanted.container),
                    reason: error.reason,
                    message: error.message,
                    image: Some(ImageFailure {
                        image: wanted.image,
                        pull_failed: error.pull_failed,
                    }),
                    unkilled: Vec::new(),
                    is_garbage: false,
                })
            }
        }
    }

    async fn read_env_files(
        &self,
        pod: &Pod,
        container: String,
        reads: Vec<EnvFileRead>,
    ) -> Outcome {
        let problem = match self.host.read_env_files(reads).await {
            Ok(values) => return Outcome::Done(Effect::EnvFiles(container, values)),
            Err(problem) => problem,
        };
        tracing::error!(pod = %pod.full_name, uid = %pod.uid, container, why = problem.detail, "Variables could not be had from a file");
        let event = events::start_failed(pod, &container, None, &problem.message);
        self.tell(pod, event);
        Outcome::Failed(Failure {
            container: Some(container),
            reason: Reason::CreateContainerConfigError,
            message: problem.message,
            image: None,
            unkilled: Vec::new(),
            is_garbage: false,
        })
    }

    async fn start(&self, pod: &Pod, start: StartContainer, look: &mut Option<Scope>) -> Outcome {
        let _slot = self.width.for_container().await;
        if let Err(error) = self.host.work(start.before).await {
            let event = events::start_failed(pod, &start.name, None, &error.message);
            self.tell(pod, event);
            return Outcome::Failed(Failure {
                container: Some(start.name),
                reason: Reason::CreateContainerConfigError,
                message: error.message,
                image: None,
                unkilled: Vec::new(),
                is_garbage: false,
            });
        }
        let created = self.cri.create_container(start.request).await;
        self.timeline
            .mark(&pod.uid, &pod.full_name, Stage::Create, self.clock.now());
        let id = match created {
            Ok(id) => ContainerId::from(id),
            Err(error) => {
                see(look, Scope::Whole);
                let event = events::start_failed(pod, &start.name, None, &error.message());
                self.tell(pod, event);
                return of_call(
                    Err(error),
                    Some(start.name),
                    Reason::CreateContainerError,
                    CriError::description,
                );
            }
        };
        self.tell(pod, events::created(pod, &start.name));
        self.faults.reach(FaultPoint::BetweenCreateAndStart).await;
        let outcome = self
            .start_created(pod, id.clone(), start.name, start.after_failure, look)
            .await;
        if let Some(link) = start.log_link
            && let Err(error) = self.host.link_log(&link.stem, id.as_str(), &link.target)
        {
            tracing::warn!(pod = %pod.full_name, container = %id, error = %error, "Link to the container's log could not be made");
        }
        outcome
    }

    async fn start_created(
        &self,
        pod: &Pod,
        id: ContainerId,
        name: String,
        after_failure: Option<Timestamp>,
        look: &mut Option<Scope>,
    ) -> Outcome {
        let started = self.cri.start_container(id.as_str()).await;
        self.timeline
            .mark(&pod.uid, &pod.full_name, Stage::Start, self.clock.now());
        let event = match &started {
            Ok(()) => events::started(pod, &name),
            Err(error) => events::start_failed(pod, &name, Some(id.as_str()), &error.message()),
        };
        self.tell(pod, event);
        see(look, Scope::container(id));
        let effect = Effect::Started {
            name: name.clone(),
            after_failure,
        };
        of_call(
            started.map(|()| effect),
            Some(name),
            Reason::RunContainerError,
            CriError::description,
        )
    }

    /// All at once; the first failure is what status tells.
    async fn stop(
        &self,
        pod: &Pod,
        stops: Vec<StopContainer>,
        look: &mut Option<Scope>,
    ) -> Outcome {
        let containers: BTreeSet<ContainerId> = stops.iter().map(|s| s.id.clone()).collect();
        see(
            look,
            Scope::Parts {
                sandboxes: BTreeSet::new(),
                containers,
            },
        );
        for stop in &stops {
            self.tell(pod, events::killing(pod, stop));
        }
        let calls = stops.iter().map(|stop| {
            self.cri
                .stop_container(stop.id.as_str(), stop.grace_seconds)
        });
        let results = join_all(calls).await;
        let mut first = None;
        let mut unkilled = Vec::new();
        for (stop, result) in stops.into_iter().zip(results) {
            if let Err(error) = result {
                let why = error.message();
                unkilled.push(events::kill_failure(Kill::Container(&stop.name), &why));
                first.get_or_insert((error, format!("stop container {}: {why}", stop.name)));
            }
        }
        match first {
            None => Outcome::Done(Effect::Nothing),
            Some((error, text)) => {
                let outcome = of_call(Err(error), None, Reason::Error, |_| text);
                with_unkilled(outcome, unkilled)
            }
        }
    }
}

/// The same, with what its event tells.
fn with_unkilled(mut outcome: Outcome, texts: Vec<String>) -> Outcome {
    match &mut outcome {
        Outcome::Done(_) => {}
        Outcome::Failed(failure) | Outcome::Unknown(failure) => failure.unkilled = texts,
    }
    outcome
}

fn see(look: &mut Option<Scope>, scope: Scope) {
    look.get_or_insert_with(Scope::nothing).join(scope);
}

fn of_host(done: Result<(), HostWorkError>, effect: Effect) -> Outcome {
    match done {
        Ok(()) => Outcome::Done(effect),
        Err(error) => Outcome::Failed(Failure {
            container: None,
            reason: error.reason,
            message: error.message,
            image: None,
            unkilled: Vec::new(),
            is_garbage: false,
        }),
    }
}

fn of_call(
    result: Result<Effect, CriError>,
    container: Option<String>,
    reason: Reason,
    message: impl FnOnce(&CriError) -> String,
) -> Outcome {
    match result {
        Ok(effect) => Outcome::Done(effect),
        Err(error) => {
            let failure = Failure {
                container,
                reason,
                message: message(&error),
                image: None,
                unkilled: Vec::new(),
                is_garbage: false,
            };
            match error.happened() {
                Happened::No => Outcome::Failed(failure),
                Happened::Maybe => Outcome::Unknown(failure),
            }
        }
    }
}
