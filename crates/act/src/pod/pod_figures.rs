//! The metrics of one pod worker: the pod's state, its start, the ends of its containers.
//!
//! In:    turns of the worker: its begin, its life, the statuses it shows, what its plans brought
//! Out:   figures in `WorkerMetrics`
//! Calls: pod_worker
//! Holds: a pod is counted in one state only, and in none once its worker is gone; a start is measured once, and only if the pod
//!        began in this process; nothing reads a metric back
//! Upstream: pkg/kubelet/{pod_workers.go,kubelet.go}, pkg/kubelet/util/pod_startup_latency_tracker.go, status/status_manager.go
//!           (checkAndRecordTerminations); differences: a static pod's start counts from its first sight, since it was never created

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_decide::pod::restart::is_ephemeral;
use kubelet_decide::shapes::life::{Lifecycle, TerminationCause};
use kubelet_decide::shapes::outcome::{Effect, Outcome, Subject};
use kubelet_decide::shapes::plan::{Action, PodPlan};
use kubelet_decide::shapes::view::Desire;
use kubelet_decide::shapes::work::Leaving;
use kubelet_model::pod::{CONFIG_SEEN_ANNOTATION, Pod};
use kubelet_model::reason::Reason;

use crate::pod::worker_metrics::WorkerMetrics;

/// Figures of one worker.
#[derive(Debug)]
pub(crate) struct PodFigures {
    metrics: WorkerMetrics,
    counted: Option<Counted>,
    /// The start is still to be measured.
    is_starting: bool,
    init_runs: BTreeMap<String, Timestamp>,
    init_time: Duration,
    /// The pod of the last plan that was carried out, to tell it from others; its object is not held for that.
    acted_for: Option<Weak<Pod>>,
    cleaning_failed: bool,
}

/// Where a pod is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    life: &'static str,
    config: &'static str,
    is_static: &'static str,
    /// Desired, but nothing of it will run again.
    has_ended: bool,
}

/// A plan that is being carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acting {
    began: tokio::time::Instant,
    /// Which of its steps makes the sandbox.
    sandbox_step: Option<usize>,
}

impl PodFigures {
    pub(crate) fn new(metrics: WorkerMetrics) -> Self {
        Self {
            metrics,
            counted: None,
            is_starting: false,
            init_runs: BTreeMap::new(),
            init_time: Duration::ZERO,
            acted_for: None,
            cleaning_failed: false,
        }
    }

    /// The worker takes its pod up; a pod that an earlier process started has its start behind it.
    pub(crate) fn begins(&mut self, pod: &Pod, desire: &Desire, is_new: bool, now: Timestamp) {
        if matches!(desire, Desire::Stop { .. }) {
            return;
        }
        self.is_starting = is_new;
        if let Some(seen) = first_seen(pod) {
            self.metrics.worker_start.observe(seconds(seen, now));
        }
        #[expect(clippy::cast_precision_loss, reason = "a pod has few containers")]
        self.metrics
            .containers_per_pod
            .observe(pod.containers().len() as f64);
    }

    /// How the pod stands after a thought.
    pub(crate) fn stands(&mut self, pod: &Pod, desire: &Desire, life: &Lifecycle) {
        let counted = Counted::of(pod, desire, life);
        if self.counted != Some(counted) {
            self.leave();
            self.count(counted, 1);
            self.counted = Some(counted);
        }
    }

    /// A status is about to be shown in place of another. `pulling` says how long images were pulled for the pod.
    pub(crate) fn shows(
        &mut self,
        pod: &Pod,
        before: Option<&v1::PodStatus>,
        after: &v1::PodStatus,
        now: Timestamp,
        pulling: impl FnOnce() -> Duration,
    ) {
        self.count_terminations(before, after);
        let seen = first_seen(pod);
        let did_not_run = before.is_none_or(|status| status.phase.as_deref() == Some("Pending"));
        let runs = after.phase.as_deref() == Some("Running");
        if let Some(seen) = seen.filter(|_| did_not_run && runs) {
            self.metrics.start.observe(seconds(seen, now));
        }
        self.add_init_runs(after);
        let created = pod.object.metadata.creation_timestamp.as_ref();
        if self.is_starting
            && all_started(after)
            && let Some(from) = created.map(|time| time.0).or(seen)
        {
            self.is_starting = false;
            self.measure_start(pod, seconds(from, now), pulling());
        }
    }

    fn measure_start(&self, pod: &Pod, total: f64, pulling: Duration) {
        self.metrics.start_total.observe(total);
        if is_stateful(pod.spec()) {
            return;
        }
        let own = total - pulling.as_secs_f64() - self.init_time.as_secs_f64();
        self.metrics.start_sli.observe(own);
        if !pod.is_host_network()
            && !self
                .metrics
                .first_network_seen
                .swap(true, Ordering::Relaxed)
        {
            self.metrics.first_network_start.set(own);
        }
    }

    /// A plan is about to be carried out.
    pub(crate) fn acts(plan: &PodPlan) -> Acting {
        let makes_sandbox = |action: &Action| matches!(action, Action::RunSandbox(_));
        Acting {
            began: tokio::time::Instant::now(),
            sandbox_step: plan.steps.iter().position(|s| makes_sandbox(&s.action)),
        }
    }

    /// It was, as far as it went.
    pub(crate) fn acted(
        &mut self,
        pod: &Arc<Pod>,
        life: &Lifecycle,
        acting: Acting,
        outcomes: &[Outcome],
    ) {
        let operation = match (life.rank(), &self.acted_for) {
            (0, None) => "create",
            (0, Some(before)) if before.as_ptr() != Arc::as_ptr(pod) => "update",
            (0, Some(_)) => "sync",
            (1, _) => "kill",
            _ => "terminated",
        };
        self.acted_for = Some(Arc::downgrade(pod));
        self.metrics
            .worker
            .with_label_values(&[operation])
            .observe(acting.began.elapsed().as_secs_f64());
        if let Some(outcome) = acting.sandbox_step.and_then(|step| outcomes.get(step)) {
            self.metrics.started_pods.inc();
            if !matches!(outcome, Outcome::Done(_)) {
                self.metrics.started_pods_errors.inc();
            }
        }
        let is_orphan = life.cause() == Some(TerminationCause::Orphaned);
        for outcome in outcomes {
            self.count_container(pod, outcome);
            match outcome {
                Outcome::Done(Effect::Released(Leaving::Yes)) => self.cleaning(false),
                Outcome::Failed(failure) | Outcome::Unknown(failure)
                    if is_orphan && life.rank() == 2 && failure.of == Subject::Pod =>
                {
                    self.cleaning(true);
                }
                Outcome::Done(_) | Outcome::Failed(_) | Outcome::Unknown(_) | Outcome::GivenUp => {}
            }
        }
    }

    /// Attempts to start a container: one that has no image was tried, too.
    fn count_container(&self, pod: &Pod, outcome: &Outcome) {
        let (name, code) = match outcome {
            Outcome::Done(Effect::Started(name)) => (name, None),
            Outcome::Failed(failure) | Outcome::Unknown(failure) => match &failure.of {
                Subject::Container(name) => (name, Some(failure.reason.as_str())),
                Subject::Pod | Subject::Volume(_) | Subject::Stops(_) => return,
            },
            Outcome::Done(_) | Outcome::GivenUp => return,
        };
        let kind = if pod.init_container(name).is_some() {
            "init_container"
        } else if is_ephemeral(pod, name) {
            "ephemeral_container"
        } else {
            "container"
        };
        let spec = pod.container(name);
        let on_host = spec.is_some_and(|spec| is_host_process(pod.spec(), spec));
        let metrics = &self.metrics;
        // Its start was counted when the runtime had started it.
        if code != Some(Reason::PostStartHookError.as_str()) {
            metrics.started_containers.with_label_values(&[kind]).inc();
        }
        if on_host {
            metrics
                .started_host_process
                .with_label_values(&[kind])
                .inc();
        }
        if let Some(code) = code {
            let labels = [kind, code];
            metrics
                .started_containers_errors
                .with_label_values(&labels)
                .inc();
            if on_host {
                metrics
                    .started_host_process_errors
                    .with_label_values(&labels)
                    .inc();
            }
        }
    }

    fn count_terminations(&self, before: Option<&v1::PodStatus>, after: &v1::PodStatus) {
        type Statuses = fn(&v1::PodStatus) -> &[v1::ContainerStatus];
        let kinds: [(&str, Statuses); 3] = [
            ("init_container", |status| {
                status
                    .init_container_statuses
                    .as_deref()
                    .unwrap_or_default()
            }),
            ("container", |status| {
                status.container_statuses.as_deref().unwrap_or_default()
            }),
            ("ephemeral_container", |status| {
                status
                    .ephemeral_container_statuses
                    .as_deref()
                    .unwrap_or_default()
            }),
        ];
        for (kind, statuses) in kinds {
            let old = before.map(statuses).unwrap_or_default();
            for status in statuses(after) {
                let Some(end) = terminated(status) else {
                    continue;
                };
                let was_over = old
                    .iter()
                    .any(|old| old.name == status.name && terminated(old).is_some());
                if !was_over {
                    let reason = end.reason.as_deref().unwrap_or_default();
                    self.metrics
                        .terminated_containers
                        .with_label_values(&[kind, &end.exit_code.to_string(), reason])
                        .inc();
                }
            }
        }
    }

    fn add_init_runs(&mut self, after: &v1::PodStatus) {
        if !self.is_starting {
            return;
        }
        for status in after.init_container_statuses.iter().flatten() {
            let run = terminated(status)
                .and_then(|end| Some((end.started_at.as_ref()?.0, end.finished_at.as_ref()?.0)));
            let Some((started, finished)) = run else {
                continue;
            };
            if self.init_runs.get(&status.name) != Some(&finished) {
                self.init_runs.insert(status.name.clone(), finished);
                self.init_time +=
                    Duration::try_from(finished.duration_since(started)).unwrap_or_default();
            }
        }
    }

    fn cleaning(&mut self, failed: bool) {
        if self.cleaning_failed != failed {
            self.cleaning_failed = failed;
            self.metrics.orphan_errors.add(if failed { 1 } else { -1 });
        }
    }

    fn count(&self, counted: Counted, by: i64) {
        let labels = [counted.life, counted.config, counted.is_static];
        self.metrics.working.with_label_values(&labels).add(by);
        if counted.has_ended {
            self.metrics.count_ended(counted.is_static == "true", by);
        }
    }

    fn leave(&mut self) {
        if let Some(counted) = self.counted.take() {
            self.count(counted, -1);
        }
    }
}

impl Drop for PodFigures {
    fn drop(&mut self) {
        self.leave();
        self.cleaning(false);
    }
}

impl Counted {
    fn of(pod: &Pod, desire: &Desire, life: &Lifecycle) -> Self {
        let is_static = if pod.is_static() { "true" } else { "" };
        let (config, is_static) = match desire {
            Desire::Stop {
                cause: TerminationCause::Orphaned,
                ..
            } => ("runtime_only", "unknown"),
            // A pod that the API deletes is desired until it is gone from there, too.
            Desire::Stop { .. } if pod.object.metadata.deletion_timestamp.is_none() => {
                ("orphan", is_static)
            }
            Desire::Stop { .. }
            | Desire::Run
            | Desire::Wait(_)
            | Desire::Reject(_)
            | Desire::End(_) => ("desired", is_static),
        };
        let life_word = match life.rank() {
            0 => "sync",
            1 => "terminating",
            _ => "terminated",
        };
        let is_over = life.rank() >= 2 || life.cause() == Some(TerminationCause::Ended);
        Self {
            life: life_word,
            config,
            is_static,
            has_ended: config == "desired" && is_over,
        }
    }
}

/// When a source first saw the pod.
fn first_seen(pod: &Pod) -> Option<Timestamp> {
    pod.annotation(CONFIG_SEEN_ANNOTATION)?.parse().ok()
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

fn terminated(status: &v1::ContainerStatus) -> Option<&v1::ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

/// Every container runs, and there are some.
fn all_started(status: &v1::PodStatus) -> bool {
    let statuses = status.container_statuses.as_deref().unwrap_or_default();
    let runs = |status: &v1::ContainerStatus| {
        let running = status.state.as_ref().and_then(|s| s.running.as_ref());
        running.is_some_and(|running| running.started_at.is_some())
    };
    !statuses.is_empty() && statuses.iter().all(runs)
}

/// Whether a volume's content comes from elsewhere: such starts are not held against the promise of upstream's SLI.
fn is_stateful(spec: &v1::PodSpec) -> bool {
    spec.volumes.iter().flatten().any(|volume| {
        volume.secret.is_none()
            && volume.config_map.is_none()
            && volume.downward_api.is_none()
            && volume.empty_dir.is_none()
            && volume.projected.is_none()
    })
}

/// The container's own word, else its pod's.
fn is_host_process(pod: &v1::PodSpec, container: &v1::Container) -> bool {
    let of_pod = pod.security_context.as_ref();
    let of_pod = of_pod.and_then(|context| context.windows_options.as_ref());
    let own = container.security_context.as_ref();
    let own = own.and_then(|context| context.windows_options.as_ref());
    let said = |options: &v1::WindowsSecurityContextOptions| options.host_process;
    own.and_then(said)
        .or(of_pod.and_then(said))
        .unwrap_or(false)
}

#[cfg(test)]
mod tests;
