//! What the runtime holds of a pod, from one line of text; and one turn of a worker on it, as one line.
//!
//! In:    the text that `ObservedPod` prints itself as, with marks of its own: `a[1]:exited(3)@0` ran in the sandbox of attempt 0 instead
//!        of the newest, `a[0]:running!` was made from another spec, `sandbox[0]:ready/no-ip` has no address
//! Out:   `Seen`s; `terminating: stop a/30s (…)`
//! Calls: tables of lifecycles, plans, statuses, memories
//! Holds: every container ran from second 10 to second 20, created in the order of attempts; now is second 100, by both clocks
//! Upstream: none

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_model::ids::SandboxId;
use kubelet_model::objects::PodObjects;
use kubelet_model::observed::{
    ContainerState, Exit, ObservedContainer, ObservedSandbox, SandboxState,
};

use crate::pod::memory::entry;
use crate::pod::pod_plan::pod_plan;
use crate::report::pod_status::{pod_status, shown_waits};
use crate::shapes::plan::PodPlan;
use crate::shapes::probe::{ContainerProbes, ProbeResult};
use crate::shapes::view::{Now, Order, PodView};
use crate::testing::pod_of;
use crate::testing::seen::Seen;

/// This many seconds of either clock.
pub(crate) fn second(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// The pod of a spec, its host side prepared, of which the runtime holds this.
pub(crate) fn seen(spec: &str, held: &str) -> Seen {
    let mut seen = Seen::new(pod_of(spec), PodObjects::default()).prepared();
    let now = Now {
        steady: second(100),
        wall: second(100),
    };
    seen.now = now;
    let order = seen.order();
    seen.memory.mark_started(now, None);
    assert!(
        !seen
            .memory
            .validate_record(&order, &seen.observed, now, None)
    );
    seen.hold(held);
    seen
}

/// The results of an instance's probes, startup and liveness.
pub(crate) fn probed(seen: &mut Seen, instance: &str, startup: Option<bool>, liveness: bool) {
    let result = |good: bool| {
        if good {
            ProbeResult::Success
        } else {
            ProbeResult::Failure
        }
    };
    let (name, _) = instance.rsplit_once('-').unwrap();
    let mut known = ContainerProbes::none(instance.into());
    known.startup = startup.map(result);
    known.liveness = Some(result(liveness));
    let mut probes = (*seen.inputs.probes).clone();
    probes.insert(name.to_owned(), known);
    seen.inputs.probes = Arc::new(probes);
}

/// `Running a=running ready, b=waiting CrashLoopBackOff`
pub(crate) fn shown(view: &PodView<'_>, plan: &PodPlan) -> String {
    let status = pod_status(view, &shown_waits(view, plan)).status;
    let init = status.init_container_statuses.iter().flatten();
    let regular = status.container_statuses.iter().flatten();
    let ephemeral = status.ephemeral_container_statuses.iter().flatten();
    let one = |c: &v1::ContainerStatus| {
        let state = c.state.clone().unwrap_or_default();
        let waits = state
            .waiting
            .map(|w| format!("waiting {}", w.reason.unwrap_or_default()));
        let ended = state
            .terminated
            .map(|t| format!("terminated {}", t.exit_code));
        let runs = state.running.map(|_| "running".to_owned());
        let state = waits.or(ended).or(runs).unwrap_or_default();
        let ready = if c.ready { " ready" } else { "" };
        format!("{}={state}{ready}", c.name)
    };
    let all: Vec<_> = init.chain(regular).chain(ephemeral).map(one).collect();
    format!("{} {}", status.phase.unwrap_or_default(), all.join(", "))
}

impl Seen {
    pub(crate) fn order(&self) -> Order {
        Order {
            pod: Arc::new(self.pod.clone()),
            desire: self.desire.clone(),
        }
    }

    /// From now on the runtime holds this.
    pub(crate) fn hold(&mut self, held: &str) {
        let observed = &mut self.observed;
        observed.sandboxes.clear();
        observed.containers.clear();
        observed.cut_off.clear();
        for word in held.split_whitespace().filter(|word| *word != "nothing") {
            let (what, state) = word.split_once(':').expect("NAME[ATTEMPT]:STATE");
            let (name, attempt) = what.strip_suffix(']').unwrap().split_once('[').unwrap();
            let attempt: u32 = attempt.parse().unwrap();
            if name == "sandbox" {
                observed.sandboxes.push(sandbox(attempt, state));
                continue;
            }
            let newest = observed.sandboxes.first().map_or(0, |s| s.attempt);
            let (state, of) = state.split_once('@').unwrap_or((state, ""));
            let of = of.parse().unwrap_or(newest);
            let image = self.pod.container(name);
            let image = image
                .and_then(|spec| spec.image.clone())
                .unwrap_or_default();
            let container = container((name, attempt), state, of, image);
            if state == "cut-off" {
                observed.cut_off.push(container);
            } else {
                observed.containers.push(container);
            }
        }
    }

    /// One turn of the pod's worker, but for what it does: look, go over to the next states of life, plan.
    pub(crate) fn turn(&mut self) -> String {
        self.memory.absorb(&self.pod, &self.observed, self.now);
        while let Some(entry) = self.see(entry) {
            self.memory.enter(entry);
            self.memory.give_up_lost(&self.observed, self.now);
        }
        let plan = self.see(pod_plan);
        format!("{}: {plan}", self.memory.life.word())
    }
}

fn sandbox(attempt: u32, state: &str) -> ObservedSandbox {
    let (state, address) = match state.split_once('/') {
        Some((state, "no-ip")) => (state, Vec::new()),
        Some((state, ip)) => (state, vec![ip.to_owned()]),
        None => (state, vec!["10.244.0.7".to_owned()]),
    };
    ObservedSandbox {
        id: SandboxId::from(format!("s{attempt}")),
        attempt,
        state: match state {
            "ready" => SandboxState::Ready,
            "notready" => SandboxState::NotReady,
            other => panic!("{other} is no state of a sandbox"),
        },
        created_at: second(i64::from(attempt)),
        ips: Some(address),
        host_network: false,
    }
}

fn container(
    (name, attempt): (&str, u32),
    state: &str,
    sandbox: u32,
    image: String,
) -> ObservedContainer {
    let (state, is_other) = match state.strip_suffix('!') {
        Some(state) => (state, true),
        None => (state, false),
    };
    let of_spec = format!(
        "{:x}",
        crate::sources::identity::container_hash(name, &image)
    );
    ObservedContainer {
        id: format!("{name}-{attempt}").into(),
        sandbox: SandboxId::from(format!("s{sandbox}")),
        name: name.to_owned(),
        attempt,
        restart_count: attempt,
        state: state_of(state),
        created_at: second(i64::from(attempt)),
        image,
        image_ref: String::new(),
        hash: if is_other { "0".to_owned() } else { of_spec },
        grace_seconds: None,
        log_path: String::new(),
        termination_message_host_path: None,
        pre_stop: None,
        pid: None,
        user: None,
        stop_signal: None,
    }
}

fn state_of(text: &str) -> ContainerState {
    let (word, exit) = text.split_once('(').unwrap_or((text, "0)"));
    let exit = exit.strip_suffix(')').unwrap();
    let (code, reason) = exit.split_once(',').unwrap_or((exit, ""));
    let code: i32 = code.parse().unwrap();
    let plain = if code == 0 { "Completed" } else { "Error" };
    match word {
        "created" | "cut-off" => ContainerState::Created,
        "unknown" => ContainerState::Unknown,
        "running" => ContainerState::Running {
            started_at: second(10),
        },
        "exited" => ContainerState::Exited(Exit {
            started_at: second(10),
            finished_at: second(20),
            code,
            reason: if reason.is_empty() { plain } else { reason }.to_owned(),
            message: String::new(),
        }),
        other => panic!("{other} is no state of a container"),
    }
}
