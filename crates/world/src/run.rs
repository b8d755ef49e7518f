//! One world: made from its seed, lived through its script, brought to rest, judged.
//!
//! In:    seed, planted bug, a directory in memory
//! Out:   [`Verdict`]: faults made, the first problem with its step, the trace
//! Calls: the binary and the tests, one thread per world
//! Holds: everything random comes from the seed; time is virtual; a world leaves nothing behind
//! Upstream: none

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use kubelet_act::clock::Clock;
use kubelet_act::exits::ExitSource;
use kubelet_act::faults::{FaultPoint, Faults};
use kubelet_act::records::POD_PREFIX;
use kubelet_act::status::ReportedPods;
use kubelet_act::sync_loop::SourceSnapshot;
use kubelet_decide::view::NetworkState;
use kubelet_host::HostRoot;
use kubelet_model::pod::{Pod, SourceKind};
use testkit::cri::{CrashScope, StandInConfig, StandInRuntime};
use testkit::faults::FaultPlan;
use testkit::prng::Prng;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::invariants::{Canary, MadeFrom, Truth, after_step, at_rest};
use crate::kubelet::{Outside, POD_LOGS_DIR, ROOT_DIR, SimKubelet, lay_out_node};
use crate::ledger::Ledger;
use crate::plant::Plant;
use crate::pods;
use crate::script::{self, Action};
use crate::watch::Watch;

/// Longest that a quiet world may take to come to rest: a pull that hangs does so for 15 minutes, then back-offs of 5.
const LONGEST_UNREST: Duration = Duration::from_secs(40 * 60);
/// At rest is at rest: looked at again after the slow relist.
const SECOND_LOOK: Duration = Duration::from_secs(70);

/// What became of a world.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its seed.
    pub seed: u64,
    /// Steps taken.
    pub steps: u64,
    /// Faults made, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// The first thing that did not hold, with its step.
    pub problem: Option<String>,
    /// Everything that happened, when it was kept.
    pub trace: String,
}

/// What is done with a world.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The bug in it.
    pub plant: Plant,
    /// Whether its trace is kept.
    pub keeps_trace: bool,
    /// A directory in memory, for the simulated disk.
    pub scratch: &'a Path,
}

/// Lives through one seed.
///
/// # Errors
/// The simulation itself could not be set up; a problem of the product is in the verdict.
pub fn run_seed(seed: u64, options: &Options<'_>) -> anyhow::Result<Verdict> {
    let dir = options.scratch.join(seed.to_string());
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let verdict = tokio.block_on(async {
        let mut world = World::new(seed, options, dir.clone())?;
        let problem = world.live().await?;
        anyhow::Ok(world.verdict(problem))
    });
    drop(tokio);
    std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    verdict
}

/// Where the kubelet dies, shared with its points.
#[derive(Debug, Default)]
struct Deadfall {
    armed: Option<(FaultPoint, u32)>,
    is_dead: bool,
}

/// What goes wrong with exit hints, shared with the kubelet's waits.
#[derive(Debug)]
struct Hints {
    random: Prng,
    rate: u16,
    made: BTreeMap<&'static str, u64>,
}

enum Hint {
    Good,
    Lost,
    Late(Duration),
    Early(Duration),
}

impl Hints {
    fn draw(&mut self) -> Hint {
        if !self.random.chance(self.rate) {
            return Hint::Good;
        }
        let pause = self.random.duration(Duration::from_secs(20));
        let (kind, hint) = match self.random.below(3) {
            0 => ("hint lost", Hint::Lost),
            1 => ("hint late", Hint::Late(pause)),
            _ => ("hint for nothing", Hint::Early(pause)),
        };
        *self.made.entry(kind).or_default() += 1;
        hint
    }
}

enum Event {
    Died,
    Shown,
    Time,
}

struct World {
    seed: u64,
    plant: Plant,
    keeps_trace: bool,
    root: HostRoot,
    runtime: StandInRuntime,
    clock: Clock,
    began: Instant,
    random: Prng,
    kubelet: Option<SimKubelet>,
    shown: Option<watch::Receiver<ReportedPods>>,
    manifests: BTreeMap<usize, Arc<Pod>>,
    gone: BTreeMap<usize, Arc<Pod>>,
    next_uid: u32,
    ledger: Ledger,
    made_from: Arc<Mutex<MadeFrom>>,
    watch: Watch,
    canaries: Vec<Canary>,
    in_volumes: BTreeSet<(String, i64)>,
    deadfall: Arc<Mutex<Deadfall>>,
    died: Arc<Notify>,
    hints: Arc<Mutex<Hints>>,
    network: watch::Sender<NetworkState>,
    made: BTreeMap<&'static str, u64>,
    steps: u64,
    log: Vec<(Duration, String)>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn new(seed: u64, options: &Options<'_>, dir: PathBuf) -> anyhow::Result<Self> {
        let root = HostRoot::at(dir);
        lay_out_node(&root)?;
        let mut faults = Prng::stream(seed, "faults");
        let exit_lag = [0, 1, 5, 40, 300][pods::at(&mut faults, 5)];
        let config = StandInConfig {
            seed,
            trace: options.keeps_trace,
            exit_lag: Duration::from_millis(exit_lag),
            latency: Duration::from_millis(faults.below(30)),
            images: pods::PRESENT.map(str::to_owned).to_vec(),
            ..StandInConfig::default()
        };
        let epoch = config.epoch_ns;
        let began = Instant::now();
        let clock = Clock::simulated(jiff::Timestamp::from_nanosecond(i128::from(epoch))?);
        let runtime = StandInRuntime::new(config);
        let made_from: Arc<Mutex<MadeFrom>> = Arc::default();
        let noted = Arc::clone(&made_from);
        runtime.set_scripts(|scripts| {
            scripts.behaviour = Arc::new(move |call| {
                let uid = call.sandbox.metadata.as_ref().map(|m| m.uid.clone());
                let name = call.container.metadata.as_ref().map(|m| m.name.clone());
                let passed = i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX);
                let key = (
                    uid.unwrap_or_default(),
                    name.unwrap_or_default(),
                    epoch.saturating_add(passed),
                );
                // The request names the image's id; the spec's own name is in the annotation of the hash only.
                let hash = call
                    .container
                    .annotations
                    .get("io.kubernetes.container.hash");
                lock(&noted).insert(key, hash.cloned().unwrap_or_default());
                pods::behaviour(call)
            });
            scripts.pull = Arc::new(pods::pull);
        });
        runtime.set_faults(FaultPlan::new(seed, script::rates(&mut faults)));
        let hint_rate = [0, 0, 1_000, 4_000][pods::at(&mut faults, 4)];
        let mut world = Self {
            seed,
            plant: options.plant,
            keeps_trace: options.keeps_trace,
            root,
            runtime,
            clock,
            began,
            random: Prng::stream(seed, "script"),
            kubelet: None,
            shown: None,
            manifests: BTreeMap::new(),
            gone: BTreeMap::new(),
            next_uid: 0,
            ledger: Ledger::default(),
            made_from,
            watch: Watch::default(),
            canaries: Vec::new(),
            in_volumes: BTreeSet::new(),
            deadfall: Arc::default(),
            died: Arc::default(),
            hints: Arc::new(Mutex::new(Hints {
                random: Prng::stream(seed, "hints"),
                rate: hint_rate,
                made: BTreeMap::new(),
            })),
            network: watch::Sender::new(NetworkState::Ready),
            made: BTreeMap::new(),
            steps: 0,
            log: Vec::new(),
        };
        world.place_canaries()?;
        Ok(world)
    }

    fn place_canaries(&mut self) -> anyhow::Result<()> {
        let mut paths = vec![
            format!("{ROOT_DIR}/elsewhere/keep"),
            format!("{POD_LOGS_DIR}/canary/keep"),
            "/etc/hosts".to_owned(),
            "/data/keep".to_owned(),
        ];
        paths.extend((0..6).map(|number| format!("/data/{number}/keep")));
        for path in paths {
            let at = self.root.join(&path);
            if let Some(parent) = at.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(at, "keep")?;
            self.canaries.push(Canary { path, owner: None });
        }
        Ok(())
    }

    /// Puts a file, and a link that leads outside, into every volume that has none.
    fn fill_volumes(&mut self) -> anyhow::Result<()> {
        let now = self.runtime.now_ns();
        for pod in self.manifests.values() {
            let uid = pod.uid.to_string();
            let Some((_, life)) = self.ledger.wanted(&uid) else {
                continue;
            };
            let volume = format!("{ROOT_DIR}/pods/{uid}/volumes/kubernetes.io~empty-dir/scratch");
            let dir = self.root.join(&volume);
            if !dir.is_dir()
                || dir.join("keep").exists()
                || !self.in_volumes.insert((uid.clone(), life.since))
            {
                continue;
            }
            std::fs::write(dir.join("keep"), "keep")?;
            std::os::unix::fs::symlink(self.root.join("/data"), dir.join("link"))?;
            self.canaries.push(Canary {
                path: format!("{volume}/keep"),
                owner: Some((uid, now)),
            });
        }
        Ok(())
    }

    async fn live(&mut self) -> anyhow::Result<Option<String>> {
        for _ in 0..1 + self.random.below(3) {
            self.change(&Action::Add);
        }
        self.start_kubelet()?;
        let steps = 10 + self.random.below(31);
        for _ in 0..steps {
            self.steps += 1;
            let pause = script::pause(&mut self.random);
            if let Err(problem) = self.advance(pause).await? {
                return Ok(Some(problem));
            }
            let action = script::action(&mut self.random, self.kubelet.is_some());
            self.act(action).await?;
            if let Err(problem) = self.check()? {
                return Ok(Some(problem));
            }
        }
        self.note(|| "quiet".to_owned());
        self.make_quiet()?;
        if let Err(problem) = self.come_to_rest().await? {
            return Ok(Some(problem));
        }
        if self.random.chance(2_500) {
            self.note(|| "all manifests go".to_owned());
            self.manifests.clear();
            self.send()?;
            return Ok(self.come_to_rest().await?.err());
        }
        Ok(None)
    }

    fn make_quiet(&mut self) -> anyhow::Result<()> {
        self.runtime.faults(|plan| plan.set_quiet(true));
        lock(&self.hints).rate = 0;
        lock(&self.deadfall).armed = None;
        self.network.send_replace(NetworkState::Ready);
        if self.kubelet.is_none() {
            self.start_kubelet()?;
        }
        Ok(())
    }

    async fn come_to_rest(&mut self) -> anyhow::Result<Result<(), String>> {
        let began = Instant::now();
        let mut pause = Duration::from_secs(2);
        let mut was_right = false;
        loop {
            if let Err(problem) = self.advance(pause).await? {
                return Ok(Err(problem));
            }
            match (self.is_at_rest(), was_right) {
                (Ok(()), true) => return Ok(Ok(())),
                (Ok(()), false) => {
                    was_right = true;
                    pause = SECOND_LOOK;
                }
                (Err(why), _) if began.elapsed() > LONGEST_UNREST => {
                    return Ok(Err(format!("no rest: {why}")));
                }
                (Err(_), _) => {
                    was_right = false;
                    pause = (pause * 2).min(Duration::from_secs(37));
                }
            }
        }
    }

    /// Lets time pass, reading what is shown, until it is over or something is wrong.
    async fn advance(&mut self, pause: Duration) -> anyhow::Result<Result<(), String>> {
        let until = Instant::now() + pause;
        loop {
            let shown = self.shown.as_mut();
            let changed = async {
                let is_new = match shown {
                    Some(shown) => shown.changed().await.is_ok(),
                    None => false,
                };
                if !is_new {
                    std::future::pending::<()>().await;
                }
            };
            let event = tokio::select! {
                // Each arm only wakes the loop; what it means is read below.
                biased;
                () = self.died.notified() => Event::Died,
                () = changed => Event::Shown,
                () = tokio::time::sleep_until(until) => Event::Time,
            };
            match event {
                Event::Died => {
                    self.note(|| "kubelet dies at a point".to_owned());
                    self.crash_kubelet().await;
                }
                Event::Shown => {
                    self.read_shown();
                    if let Some(problem) = self.watch.problems.first() {
                        return Ok(Err(problem.clone()));
                    }
                }
                Event::Time => return self.check(),
            }
        }
    }

    fn read_shown(&mut self) {
        let Some(shown) = &mut self.shown else { return };
        let pods = shown.borrow_and_update().clone();
        let now = self.runtime.now_ns();
        let (watch, ledger) = (&mut self.watch, &self.ledger);
        self.runtime
            .instances(|instances| watch.read(now, &pods, ledger, instances));
        for line in std::mem::take(&mut self.watch.lines) {
            self.note(|| format!("shown {line}"));
        }
    }

    fn truth<T>(&self, look: impl FnOnce(&Truth<'_>) -> T) -> T {
        let made_from = lock(&self.made_from);
        let now = self.runtime.now_ns();
        self.runtime.instances(|instances| {
            look(&Truth {
                instances,
                ledger: &self.ledger,
                made_from: &made_from,
                root: &self.root,
                canaries: &self.canaries,
                now,
            })
        })
    }

    fn check(&mut self) -> anyhow::Result<Result<(), String>> {
        self.fill_volumes()?;
        if self.kubelet.as_ref().is_some_and(|k| k.panics() > 0) {
            return Ok(Err("a task panicked".to_owned()));
        }
        Ok(self.truth(after_step))
    }

    fn is_at_rest(&mut self) -> Result<(), String> {
        let Some(kubelet) = &self.kubelet else {
            return Err("the kubelet is down".to_owned());
        };
        let records = kubelet.records.keys(POD_PREFIX);
        let shown = kubelet.status.subscribe().borrow().clone();
        let manifests = self
            .manifests
            .values()
            .map(|pod| (pod.uid.to_string(), Arc::clone(pod)))
            .collect();
        self.truth(|truth| at_rest(truth, &manifests, &shown, &records))
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.keeps_trace {
            self.log.push((self.began.elapsed(), text()));
        }
    }

    fn count(&mut self, kind: &'static str) {
        *self.made.entry(kind).or_default() += 1;
    }

    async fn act(&mut self, action: Action) -> anyhow::Result<()> {
        self.note(|| format!("{action:?}"));
        if let Some(kind) = action.fault() {
            self.count(kind);
        }
        match &action {
            Action::Add
            | Action::Remove
            | Action::BringBack
            | Action::EditImage
            | Action::Replace => {
                self.change(&action);
                self.send()?;
            }
            Action::Resend => self.send()?,
            Action::CrashKubelet => self.crash_kubelet().await,
            Action::CrashAt(point, nth) => {
                lock(&self.deadfall).armed = Some((*point, *nth));
            }
            Action::StartKubelet => {
                if self.kubelet.is_none() {
                    self.start_kubelet()?;
                }
            }
            Action::CrashRuntime(down_for) => self.runtime.crash(*down_for, CrashScope::Runtime),
            Action::Cut => self.runtime.cut_connections(),
            Action::KillContainer => self.kill(|name| !name.is_empty()),
            Action::KillSandbox => self.kill(str::is_empty),
            Action::Reboot(down_for) => {
                self.crash_kubelet().await;
                self.runtime.crash(*down_for, CrashScope::Node);
            }
            Action::Network => {
                let is_ready = *self.network.borrow() == NetworkState::Ready;
                self.network.send_replace(if is_ready {
                    NetworkState::NotReady("cni plugin not initialized".to_owned())
                } else {
                    NetworkState::Ready
                });
            }
            Action::Wait => {}
        }
        Ok(())
    }

    fn kill(&mut self, is_wanted: impl Fn(&str) -> bool) {
        let running: Vec<u32> = self.runtime.instances(|all| {
            all.iter()
                .filter(|i| is_wanted(&i.name) && i.started.is_some() && i.ended.is_none())
                .map(|i| i.pid)
                .collect()
        });
        if !running.is_empty() {
            let pid = running[pods::at(&mut self.random, running.len())];
            self.runtime.kill(pid, 137);
        }
    }

    fn new_pod(&mut self, number: usize) -> Arc<Pod> {
        self.next_uid += 1;
        let uid = format!("uid{}", self.next_uid);
        pods::pod(number, &uid, &mut self.random)
    }

    fn change(&mut self, action: &Action) {
        let numbers: Vec<usize> = self.manifests.keys().copied().collect();
        let picked =
            (!numbers.is_empty()).then(|| numbers[pods::at(&mut self.random, numbers.len())]);
        match (action, picked) {
            (Action::Add, _) => {
                let free = (0..6).find(|number| !self.manifests.contains_key(number));
                if let Some(number) = free {
                    let pod = self.new_pod(number);
                    self.manifests.insert(number, pod);
                }
            }
            (Action::Remove, Some(number)) => {
                if let Some(pod) = self.manifests.remove(&number) {
                    self.gone.insert(number, pod);
                }
            }
            (Action::BringBack, _) => {
                let back = self
                    .gone
                    .keys()
                    .copied()
                    .find(|number| !self.manifests.contains_key(number));
                if let Some(pod) = back.and_then(|number| self.gone.remove(&number)) {
                    let number = back.unwrap_or(0);
                    self.manifests.insert(number, pod);
                }
            }
            (Action::EditImage, Some(number)) => {
                let image = pods::image(&mut self.random);
                if let Some(pod) = self.manifests.get_mut(&number) {
                    let which = pods::at(&mut self.random, pod.containers().len());
                    *pod = pods::with_image(pod, which, image);
                }
            }
            (Action::Replace, Some(number)) => {
                let pod = self.new_pod(number);
                self.manifests.insert(number, pod);
            }
            _ => {}
        }
    }

    /// Hands the manifests over, if there is somebody to take them.
    fn send(&mut self) -> anyhow::Result<()> {
        let Some(kubelet) = &self.kubelet else {
            return Ok(());
        };
        let pods: Vec<Arc<Pod>> = self.manifests.values().cloned().collect();
        self.ledger.sent(self.runtime.now_ns(), &pods);
        // A dead one takes nothing; it is buried at the next wait.
        if !lock(&self.deadfall).is_dead {
            kubelet.send(SourceSnapshot {
                source: SourceKind::File,
                pods,
            })?;
        }
        Ok(())
    }

    fn start_kubelet(&mut self) -> anyhow::Result<()> {
        self.note(|| "kubelet starts".to_owned());
        *lock(&self.deadfall) = Deadfall::default();
        let (deadfall, died) = (Arc::clone(&self.deadfall), Arc::clone(&self.died));
        let faults = Faults::at(move |point| {
            let mut deadfall = lock(&deadfall);
            if let Some((armed, left)) = &mut deadfall.armed
                && *armed == point
            {
                if *left == 0 {
                    deadfall.is_dead = true;
                    deadfall.armed = None;
                    died.notify_one();
                } else {
                    *left -= 1;
                }
            }
            deadfall.is_dead
        });
        let outside = Outside {
            root: self.root.clone(),
            clock: self.clock,
            exits: self.exits(),
            network: self.network.subscribe(),
            faults: faults.with_planted(self.plant.planted),
            loses_writes: self.plant.loses_writes,
        };
        let kubelet = SimKubelet::start(&self.runtime, outside)?;
        self.watch.kubelet_starts();
        self.shown = Some(kubelet.status.subscribe());
        self.kubelet = Some(kubelet);
        self.send()
    }

    fn exits(&self) -> ExitSource {
        let (runtime, hints) = (self.runtime.clone(), Arc::clone(&self.hints));
        ExitSource::Simulated(Arc::new(move |pid| {
            let (exit, hint) = (runtime.exit_of(pid), lock(&hints).draw());
            Box::pin(async move {
                match hint {
                    Hint::Good => exit.await,
                    Hint::Lost => std::future::pending().await,
                    Hint::Late(pause) => {
                        exit.await;
                        tokio::time::sleep(pause).await;
                    }
                    Hint::Early(pause) => {
                        // Cancel: a hint that says nothing is harmless, and so is the wait that is dropped.
                        tokio::select! {
                            biased;
                            () = exit => {}
                            () = tokio::time::sleep(pause) => {}
                        }
                    }
                }
            })
        }))
    }

    async fn crash_kubelet(&mut self) {
        if lock(&self.deadfall).is_dead {
            self.count("kubelet died at a point");
        }
        self.shown = None;
        if let Some(kubelet) = self.kubelet.take() {
            kubelet.crash().await;
        }
    }

    fn verdict(self, problem: Option<String>) -> Verdict {
        let mut faults = self.runtime.faults(|plan| plan.made().clone());
        for (kind, count) in self.made.iter().chain(&lock(&self.hints).made) {
            *faults.entry(kind).or_default() += count;
        }
        Verdict {
            seed: self.seed,
            steps: self.steps,
            faults,
            trace: self.trace(),
            problem: problem.map(|text| format!("step {}: {text}", self.steps)),
        }
    }

    /// The world's own lines among those of the runtime, by time.
    fn trace(&self) -> String {
        if !self.keeps_trace {
            return String::new();
        }
        let mut text = String::new();
        let mut own = self.log.iter().peekable();
        let mut write = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).expect("a String takes everything");
        };
        self.runtime.trace(|lines| {
            for line in lines {
                while let Some((at, own)) = own.next_if(|(at, _)| *at <= line.at) {
                    write(format_args!("{:>14.6} ------ {own}\n", at.as_secs_f64()));
                }
                write(format_args!("{line}\n"));
            }
        });
        for (at, own) in own {
            write(format_args!("{:>14.6} ------ {own}\n", at.as_secs_f64()));
        }
        text
    }
}
