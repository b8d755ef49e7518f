//! The stand-in runtime's state: sandboxes, containers, processes, timers, images, trace. No tokio task, no await; times come in through tokio's clock.
//!
//! In:    calls of `service` under the lock; due timers
//! Out:   state changes, trace lines, instance histories, events
//! Calls: service.rs, images.rs, pods.rs, the timer task in `cri`
//! Holds: a process ends first (`gone`), the runtime notes it later (`exit_seen`), as with a shim and containerd;
//!        nothing is noted while the runtime is down
//! Upstream: none (semantics: containerd 1.6)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kubelet_api::runtime::v1 as wire;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::StandInConfig;
use super::behaviour::{Behaviour, Scripts};
use super::images::Images;
use super::trace::{EndedBy, Instance, TraceLine, TraceStep};
use crate::faults::{EventFault, FaultPlan};
use crate::prng::mix;

/// A sandbox that the runtime knows.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) id: String,
    /// The reserved name, `name_namespace_uid_attempt`.
    pub(super) name: String,
    pub(super) config: Arc<wire::PodSandboxConfig>,
    pub(super) runtime_handler: String,
    pub(super) created: i64,
    pub(super) ready: bool,
    pub(super) pid: u32,
    pub(super) ip: String,
    pub(super) containers: BTreeSet<String>,
    pub(super) instance: usize,
}

/// A container that the runtime knows.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) sandbox_id: String,
    /// The reserved name, `container_pod_namespace_uid_attempt`.
    pub(super) name: String,
    pub(super) config: wire::ContainerConfig,
    pub(super) image_id: String,
    pub(super) log_path: String,
    pub(super) state: wire::ContainerState,
    pub(super) created: i64,
    pub(super) started: i64,
    pub(super) finished: i64,
    pub(super) exit_code: i32,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) behaviour: Behaviour,
    pub(super) process: Option<Process>,
    pub(super) term_sent: bool,
    /// Cancelled when the runtime has noted the exit.
    pub(super) exit_seen: CancellationToken,
    pub(super) instance: usize,
}

/// The first process of a container, from its start until the runtime has noted its end.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    timers: Vec<TimerKey>,
    ended: Option<Ended>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// By the node's wall clock, as the runtime tells it.
    at: i64,
    code: i32,
    oom: bool,
    by: EndedBy,
}

type TimerKey = (Instant, u64);

/// What happens at a moment of virtual time.
#[derive(Debug)]
enum Timer {
    Exit {
        id: String,
        code: i32,
        oom: bool,
        by: EndedBy,
    },
    Noted {
        id: String,
    },
    Event(Box<wire::ContainerEventResponse>),
    ComeBack,
}

/// How much goes down in a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashScope {
    /// The runtime only: shims keep the containers running.
    Runtime,
    /// The machine: every process ends.
    Node,
}

/// Receivers' ends of GetContainerEvents.
pub(super) type EventSender = mpsc::UnboundedSender<Result<wire::ContainerEventResponse, Status>>;

/// Everything under the one lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) config: StandInConfig,
    pub(super) scripts: Scripts,
    pub(super) faults: FaultPlan,
    pub(super) images: Images,
    pub(super) sandboxes: BTreeMap<String, Sandbox>,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) names: BTreeMap<String, String>,
    pub(super) instances: Vec<Instance>,
    pub(super) trace: Vec<TraceLine>,
    pub(super) calls: u64,
    /// When the call came in whose effect is made now.
    pub(super) asked: i64,
    /// Nobody will hear of the effect that is made now.
    pub(super) loses_answer: bool,
    pub(super) pod_cidr: String,
    pub(super) watchers: Vec<EventSender>,
    /// Cancelled at a crash; `None` while down.
    pub(super) life: Option<CancellationToken>,
    /// Ends of living processes, by pid.
    gone: BTreeMap<u32, CancellationToken>,
    timers: BTreeMap<TimerKey, Timer>,
    timers_changed: Arc<Notify>,
    held_event: Option<wire::ContainerEventResponse>,
    base: Instant,
    /// How far the node's wall clock was set on or back, nanoseconds.
    wall_set_by: i64,
    counter: u64,
    next_pid: u32,
    next_ip: u32,
}

impl State {
    pub(super) fn new(config: StandInConfig, timers_changed: Arc<Notify>) -> Self {
        let mut images = Images::default();
        for name in &config.images {
            images.add(name, 5_000_000);
        }
        Self {
            images,
            config,
            scripts: Scripts::default(),
            faults: FaultPlan::default(),
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            names: BTreeMap::new(),
            instances: Vec::new(),
            trace: Vec::new(),
            calls: 0,
            asked: 0,
            loses_answer: false,
            pod_cidr: String::new(),
            watchers: Vec::new(),
            life: Some(CancellationToken::new()),
            gone: BTreeMap::new(),
            timers: BTreeMap::new(),
            timers_changed,
            held_event: None,
            base: Instant::now(),
            wall_set_by: 0,
            counter: 0,
            next_pid: 1000,
            next_ip: 0x0a58_0002,
        }
    }

    /// Nanoseconds since 1970 by tokio's clock: the truth, which nobody sets.
    pub(super) fn now(&self) -> i64 {
        let passed = i64::try_from(self.base.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.config.epoch_ns.saturating_add(passed)
    }

    /// Nanoseconds since 1970 by the node's wall clock: what is told over the wire.
    pub(super) fn wall(&self) -> i64 {
        self.now().saturating_add(self.wall_set_by)
    }

    /// Sets the node's wall clock that far from the truth.
    pub(super) fn set_wall(&mut self, set_by: i64) {
        self.wall_set_by = set_by;
        self.effect("wall clock", || format!("{set_by} ns off"));
    }

    /// A new id: 64 hexadecimal digits that depend on the seed and the number of ids before.
    pub(super) fn new_id(&mut self) -> String {
        self.counter += 1;
        let base = mix(self.config.seed).wrapping_add(self.counter << 2);
        (0..4)
            .map(|part| format!("{:016x}", mix(base.wrapping_add(part))))
            .collect()
    }

    /// A new process id and the token of its end; 0 and nobody to wait for where pids are not told.
    pub(super) fn new_process(&mut self) -> u32 {
        if !self.config.pids {
            return 0;
        }
        self.next_pid += 1;
        self.gone.insert(self.next_pid, CancellationToken::new());
        self.next_pid
    }

    /// An address that no sandbox had before.
    pub(super) fn new_ip(&mut self) -> String {
        let [a, b, c, d] = self.next_ip.to_be_bytes();
        self.next_ip += 1;
        format!("{a}.{b}.{c}.{d}")
    }

    /// The token of a living process' end.
    pub(super) fn gone(&self, pid: u32) -> Option<CancellationToken> {
        self.gone.get(&pid).cloned()
    }

    /// Reports the end of a process to whoever waits for it.
    pub(super) fn end_pid(&mut self, pid: u32) {
        if let Some(token) = self.gone.remove(&pid) {
            token.cancel();
        }
    }

    /// Adds a trace line.
    pub(super) fn note(&mut self, call: u64, step: TraceStep, method: &'static str, text: String) {
        if self.config.trace {
            self.trace.push(TraceLine {
                at: self.base.elapsed(),
                call,
                step,
                method,
                text,
            });
        }
    }

    /// Adds a trace line of an effect; the text is only made when somebody keeps it.
    pub(super) fn effect(&mut self, noun: &'static str, text: impl FnOnce() -> String) {
        if self.config.trace {
            self.note(0, TraceStep::Effect, noun, text());
        }
    }

    fn set_timer(&mut self, after: Duration, timer: Timer) -> TimerKey {
        self.counter += 1;
        let key = (Instant::now() + after, self.counter);
        self.timers.insert(key, timer);
        self.timers_changed.notify_one();
        key
    }

    /// Does everything that is due and returns when the next thing is.
    pub(super) fn fire_due(&mut self) -> Option<Instant> {
        loop {
            let key = *self.timers.keys().next()?;
            if key.0 > Instant::now() {
                return Some(key.0);
            }
            match self.timers.remove(&key)? {
                Timer::Exit { id, code, oom, by } => self.end_process(&id, code, oom, by),
                Timer::Noted { id } => self.note_exit(&id),
                Timer::Event(event) => self.send_event(*event),
                Timer::ComeBack => self.come_back(),
            }
        }
    }

    /// The container's process begins to run, and its behaviour with it.
    pub(super) fn start_process(&mut self, id: &str, pid: u32) {
        let Some(container) = self.containers.get(id) else {
            return;
        };
        let (after, oom) = (container.behaviour.exits_after, container.behaviour.oom);
        let code = if oom {
            137
        } else {
            container.behaviour.exit_code
        };
        let exit = Timer::Exit {
            id: id.to_owned(),
            code,
            oom,
            by: EndedBy::Itself,
        };
        let timers = after
            .map(|after| self.set_timer(after, exit))
            .into_iter()
            .collect();
        if let Some(container) = self.containers.get_mut(id) {
            container.process = Some(Process {
                pid,
                timers,
                ended: None,
            });
        }
    }

    /// SIGTERM, once in a container's life.
    pub(super) fn terminate(&mut self, id: &str, by: EndedBy) {
        self.asked_to_stop(id, by);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        if std::mem::replace(&mut container.term_sent, true) || container.behaviour.ignores_term {
            return;
        }
        let (delay, code) = (
            container.behaviour.term_delay,
            container.behaviour.term_exit_code,
        );
        self.end_after(id, delay, code, by);
    }

    fn asked_to_stop(&mut self, id: &str, by: EndedBy) {
        let now = self.now();
        if matches!(by, EndedBy::Itself | EndedBy::Outside | EndedBy::NodeCrash) {
            return;
        }
        let instance = self.containers.get(id).map(|container| container.instance);
        if let Some(instance) = instance.and_then(|index| self.instances.get_mut(index)) {
            instance.stop_asked.get_or_insert(now);
        }
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self, id: &str, by: EndedBy) {
        self.asked_to_stop(id, by);
        let Some(container) = self.containers.get(id) else {
            return;
        };
        self.end_after(id, container.behaviour.kill_delay, 137, by);
    }

    fn end_after(&mut self, id: &str, delay: Duration, code: i32, by: EndedBy) {
        if delay.is_zero() {
            return self.end_process(id, code, false, by);
        }
        let key = self.set_timer(
            delay,
            Timer::Exit {
                id: id.to_owned(),
                code,
                oom: false,
                by,
            },
        );
        if let Some(process) = self
            .containers
            .get_mut(id)
            .and_then(|container| container.process.as_mut())
        {
            process.timers.push(key);
        }
    }

    /// The process ends now; the runtime notes it after the configured lag, or when it is back.
    pub(super) fn end_process(&mut self, id: &str, code: i32, oom: bool, by: EndedBy) {
        let (at, wall) = (self.now(), self.wall());
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let instance = container.instance;
        let Some(process) = container
            .process
            .as_mut()
            .filter(|process| process.ended.is_none())
        else {
            return;
        };
        process.ended = Some(Ended {
            at: wall,
            code,
            oom,
            by,
        });
        let pid = process.pid;
        for key in std::mem::take(&mut process.timers) {
            self.timers.remove(&key);
        }
        if let Some(instance) = self.instances.get_mut(instance) {
            instance.ended = Some(at);
            instance.exit_code = Some(code);
            instance.ended_by = Some(by);
        }
        self.effect("exit", || format!("{id} pid {pid} code {code} by {by:?}"));
        self.end_pid(pid);
        if self.config.exit_lag.is_zero() {
            self.note_exit(id);
        } else {
            self.set_timer(self.config.exit_lag, Timer::Noted { id: id.to_owned() });
        }
    }

    /// The runtime learns of a process' end. Does nothing while the runtime is down: `come_back` catches up.
    fn note_exit(&mut self, id: &str) {
        if self.life.is_none() {
            return;
        }
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let Some(ended) = container.process.as_ref().and_then(|process| process.ended) else {
            return;
        };
        container.process = None;
        container.state = wire::ContainerState::ContainerExited;
        container.finished = ended.at;
        container.exit_code = ended.code;
        if ended.by == EndedBy::NodeCrash {
            "Unknown".clone_into(&mut container.reason);
        } else if ended.oom {
            "OOMKilled".clone_into(&mut container.reason);
        }
        container.exit_seen.cancel();
        let sandbox = container.sandbox_id.clone();
        self.effect("noted", || format!("{id} code {}", ended.code));
        self.emit(
            id,
            &sandbox,
            wire::ContainerEventType::ContainerStoppedEvent,
        );
    }

    /// The sandbox' own process ends, by whatever cause.
    pub(super) fn end_sandbox(&mut self, id: &str, by: EndedBy) {
        let at = self.now();
        let Some(sandbox) = self.sandboxes.get_mut(id).filter(|sandbox| sandbox.ready) else {
            return;
        };
        sandbox.ready = false;
        let (pid, instance) = (std::mem::take(&mut sandbox.pid), sandbox.instance);
        if let Some(instance) = self.instances.get_mut(instance) {
            instance.ended = Some(at);
            instance.ended_by = Some(by);
            instance.stop_asked.get_or_insert(at);
        }
        self.end_pid(pid);
        self.effect("sandbox stopped", || format!("{id} by {by:?}"));
        self.emit(id, id, wire::ContainerEventType::ContainerStoppedEvent);
    }

    /// Ends the container or sandbox whose process this is; false if there is none.
    pub(super) fn kill_pid(&mut self, pid: u32, code: i32) -> bool {
        let has_pid = |process: &Process| process.pid == pid && process.ended.is_none();
        let container = self
            .containers
            .values()
            .find(|container| container.process.as_ref().is_some_and(has_pid));
        if let Some(id) = container.map(|container| container.id.clone()) {
            self.end_process(&id, code, false, EndedBy::Outside);
            return true;
        }
        let sandbox = self
            .sandboxes
            .values()
            .find(|sandbox| sandbox.ready && sandbox.pid == pid);
        let Some(id) = sandbox.map(|sandbox| sandbox.id.clone()) else {
            return false;
        };
        self.end_sandbox(&id, EndedBy::Outside);
        true
    }

    /// Everything that speaks to us is cut off; the runtime stays up for whoever connects anew.
    pub(super) fn cut(&mut self) {
        if let Some(life) = self.life.replace(CancellationToken::new()) {
            self.effect("cut", String::new);
            self.lose_answers();
            life.cancel();
        }
        self.watchers.clear();
    }

    /// Commands that ended in this instant are not answered any more.
    fn lose_answers(&mut self) {
        let now = self.now();
        let execs = self.instances.iter_mut().flat_map(|i| &mut i.execs);
        for exec in execs.filter(|exec| exec.ended == now) {
            exec.answer_lost = true;
        }
    }

    /// The runtime goes down and comes back after `down_for`; without effect while it is down already.
    pub(super) fn crash(&mut self, down_for: Duration, scope: CrashScope) {
        let Some(life) = self.life.take() else { return };
        self.effect("crash", || format!("{scope:?} for {down_for:?}"));
        self.lose_answers();
        self.watchers.clear();
        self.held_event = None;
        if scope == CrashScope::Node {
            let running = self
                .containers
                .values()
                .filter(|container| container.process.is_some());
            let running: Vec<String> = running.map(|container| container.id.clone()).collect();
            for id in running {
                self.end_process(&id, 255, false, EndedBy::NodeCrash);
            }
            let sandboxes: Vec<String> = self.sandboxes.keys().cloned().collect();
            for id in sandboxes {
                self.end_sandbox(&id, EndedBy::NodeCrash);
            }
        }
        self.set_timer(down_for, Timer::ComeBack);
        life.cancel();
    }

    fn come_back(&mut self) {
        self.life = Some(CancellationToken::new());
        self.effect("back", String::new);
        let ended = self.containers.values().filter(|container| {
            container
                .process
                .as_ref()
                .is_some_and(|process| process.ended.is_some())
        });
        let ended: Vec<String> = ended.map(|container| container.id.clone()).collect();
        for id in ended {
            self.note_exit(&id);
        }
    }

    /// Makes an event for everybody who listens, subject to faults.
    pub(super) fn emit(&mut self, id: &str, sandbox_id: &str, kind: wire::ContainerEventType) {
        if self.watchers.is_empty() || !self.config.events {
            return;
        }
        let sandbox = self.sandboxes.get(sandbox_id);
        let containers = sandbox.iter().flat_map(|sandbox| &sandbox.containers);
        let event = wire::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: self.wall(),
            pod_sandbox_status: sandbox.map(|sandbox| self.sandbox_status(sandbox)),
            containers_statuses: containers
                .filter_map(|id| self.containers.get(id))
                .map(|container| self.container_status(container))
                .collect(),
        };
        match self.faults.decide_event() {
            None => self.send_event(event),
            Some(EventFault::Drop) => {}
            Some(EventFault::Twice) => {
                self.send_event(event.clone());
                self.send_event(event);
            }
            Some(EventFault::Swap) => {
                // One place to hold: an event that was held before goes out now.
                if let Some(earlier) = self.held_event.replace(event) {
                    self.deliver(&earlier);
                }
            }
            Some(EventFault::Delay(delay)) => {
                self.set_timer(delay, Timer::Event(Box::new(event)));
            }
        }
    }

    fn send_event(&mut self, event: wire::ContainerEventResponse) {
        self.deliver(&event);
        if let Some(held) = self.held_event.take() {
            self.deliver(&held);
        }
    }

    fn deliver(&mut self, event: &wire::ContainerEventResponse) {
        self.watchers
            .retain(|watcher| watcher.send(Ok(event.clone())).is_ok());
    }
}
