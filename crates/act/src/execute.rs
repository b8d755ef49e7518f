//! Carries out one plan, step by step.
//!
//! In:    `PodPlan`, in the order of its steps
//! Out:   what became of each step; what must be looked at before the next plan
//! Calls: pod_worker
//! Holds: no decision about pods; a step's failure ends the plan unless the step says otherwise; an unknown outcome always does;
//!        starts on one node share a bounded width, so that the runtime is never flooded
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go (SyncPod)

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use kubelet_cri::{Client, CriError, Happened};
use kubelet_decide::plan::{Action, OnFailure, PodPlan, StartContainer, Step, StopContainer};
use kubelet_decide::view::ResolvedImage;
use kubelet_decide::volumes::{Leaving, Mark};
use kubelet_model::ids::{ContainerId, SandboxId};
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::faults::{FaultPoint, Faults};
use crate::host_work::Host;
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
    /// A container was started.
    Started {
        /// Its name.
        name: String,
        /// When the run before it ended, if this is a restart.
        after_failure: Option<jiff::Timestamp>,
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

impl Executor {
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
        for step in plan.steps {
            self.faults.reach(FaultPoint::BeforeStep).await;
            let on_failure = step.on_failure;
            let outcome = self.step(pod, step, &mut executed.look, orders).await;
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
        orders: &mut watch::Receiver<Order>,
    ) -> Outcome {
        let mark = |stage| {
            self.timeline
                .mark(&pod.uid, &pod.full_name, stage, self.clock.now())
        };
        match step.action {
            Action::Prepare(volumes) => {
                let done = self.host.work(volumes.work).await;
                mark(Stage::Volumes);
                of_host(done, Effect::Prepared(volumes.written))
            }
            Action::WritePayloads(volumes) => {
                let done = self.host.work(volumes.work).await;
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
                let resolved = tokio::select! {
                    // Cancel: a new order may not want this image any more; the next plan asks again if it does.
                    biased;
                    resolved = self.images.resolve(&wanted) => resolved,
                    _ = orders.changed() => return Outcome::Done(Effect::Nothing),
                };
                mark(Stage::Pull);
                match resolved {
                    Ok(image) => Outcome::Done(Effect::Image(wanted.container, image)),
                    Err(error) => Outcome::Failed(Failure {
                        container: Some(wanted.container),
                        reason: error.reason,
                        message: error.message,
                        image: Some(ImageFailure {
                            image: wanted.image,
                            pull_failed: error.pull_failed,
                        }),
                    }),
                }
            }
            Action::StartContainer(start) => self.start(pod, *start, look).await,
            Action::StartCreated { id, name } => {
                self.start_created(pod, id, name, None, look).await
            }
            Action::StopContainers(stops) => self.stop(stops, look).await,
            Action::StopSandbox(id) => {
                let stopped = self.cri.stop_pod_sandbox(id.as_str()).await;
                see(look, Scope::Whole);
                of_call(
                    stopped.map(|()| Effect::Nothing),
                    None,
                    Reason::Error,
                    |e| format!("stop sandbox {id}: {}", e.message()),
                )
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

    async fn start(&self, pod: &Pod, start: StartContainer, look: &mut Option<Scope>) -> Outcome {
        let _slot = self.width.for_container().await;
        if let Err(error) = self.host.work(start.before).await {
            return Outcome::Failed(Failure {
                container: Some(start.name),
                reason: Reason::CreateContainerConfigError,
                message: error.message,
                image: None,
            });
        }
        let created = self.cri.create_container(start.request).await;
        self.timeline
            .mark(&pod.uid, &pod.full_name, Stage::Create, self.clock.now());
        let id = match created {
            Ok(id) => ContainerId::from(id),
            Err(error) => {
                see(look, Scope::Whole);
                return of_call(
                    Err(error),
                    Some(start.name),
                    Reason::CreateContainerError,
                    CriError::description,
                );
            }
        };
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
        after_failure: Option<jiff::Timestamp>,
        look: &mut Option<Scope>,
    ) -> Outcome {
        let started = self.cri.start_container(id.as_str()).await;
        self.timeline
            .mark(&pod.uid, &pod.full_name, Stage::Start, self.clock.now());
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

    /// All at once; the first failure is what is told.
    async fn stop(&self, stops: Vec<StopContainer>, look: &mut Option<Scope>) -> Outcome {
        let containers: BTreeSet<ContainerId> = stops.iter().map(|s| s.id.clone()).collect();
        see(
            look,
            Scope::Parts {
                sandboxes: BTreeSet::new(),
                containers,
            },
        );
        let calls = stops.iter().map(|stop| {
            self.cri
                .stop_container(stop.id.as_str(), stop.grace_seconds)
        });
        let results = join_all(calls).await;
        for (stop, result) in stops.into_iter().zip(results) {
            if let Err(error) = result {
                let text = format!("stop container {}: {}", stop.name, error.message());
                return of_call(Err(error), None, Reason::Error, |_| text);
            }
        }
        Outcome::Done(Effect::Nothing)
    }
}

fn see(look: &mut Option<Scope>, scope: Scope) {
    look.get_or_insert_with(Scope::nothing).join(scope);
}

fn of_host(done: Result<(), crate::host_work::HostWorkError>, effect: Effect) -> Outcome {
    match done {
        Ok(()) => Outcome::Done(effect),
        Err(error) => Outcome::Failed(Failure {
            container: None,
            reason: error.reason,
            message: error.message,
            image: None,
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
            };
            match error.happened() {
                Happened::No => Outcome::Failed(failure),
                Happened::Maybe => Outcome::Unknown(failure),
            }
        }
    }
}
