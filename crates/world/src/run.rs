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
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::faults::{FaultPoint, Faults};
use kubelet_act::frame::records::POD_PREFIX;
use kubelet_act::report::events::Events;
use kubelet_act::report::status::ReportedPods;
use kubelet_act::sources::SourceSnapshot;
use kubelet_decide::shapes::view::NetworkState;
use kubelet_host::HostRoot;
use kubelet_model::pod::SourceKind;
use testkit::cri::trace::Instance;
use testkit::cri::{CrashScope, StandInConfig, StandInRuntime};
use testkit::faults::FaultPlan;
use testkit::prng::Prng;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::disk::{Disk, Loss};
use crate::ends;
use crate::hints::Hints;
use crate::invariants::{Canary, MadeFrom, Truth, after_step, at_rest};
use crate::kubelet::{JOURNAL, Outside, POD_LOGS_DIR, ROOT_DIR, SimKubelet, lay_out_node};
use crate::ledger::{Ledger, Now};
use crate::manifests::Manifests;
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
    let tokio = virtual_time()?;
    let verdict = tokio.block_on(async {
        let mut world = World::new(seed, options, dir.clone())?;
        let problem = world.live().await?;
        anyhow::Ok(world.verdict(problem))
    });
    drop(tokio);
    // A world of its own, of one pod of the API.
    let ends = virtual_time()?.block_on(ends::live(seed, options.plant.planted, &dir.join("ends")));
    std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    let (mut verdict, ends) = (verdict?, ends?);
    verdict.problem = verdict.problem.or(ends);
    Ok(verdict)
}

fn virtual_time() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_time().start_paused(true).build()?)
}

/// Where the kubelet dies, or one of its workers panics; shared with its points.
#[derive(Debug, Default)]
struct Deadfall {
    armed: Option<(FaultPoint, u32)>,
    is_dead: bool,
    panic: Option<(FaultPoint, u32)>,
    panics: u64,
}

impl Deadfall {
    /// Whether this pass of the point is the one that was asked for.
    fn is_it(armed: &mut Option<(FaultPoint, u32)>, point: FaultPoint) -> bool {
        match armed {
            Some((at, 0)) if *at == point => {
                *armed = None;
                true
            }
            Some((at, left)) if *at == point => {
                *left -= 1;
                false
            }
            _ => false,
        }
    }
}

/// Which domains of faults this world has.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a world has any of them")]
struct Domains {
    has_url: bool,
    clock_is_set: bool,
    disk_is_bad: bool,
    has_panics: bool,
}

enum Event {
    Died,
    Shown,
    Speech,
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
    domains: Domains,
    sources: BTreeSet<SourceKind>,
    /// Sources that have not spoken in this life of the kubelet, and when they will.
    silent: BTreeMap<SourceKind, Option<Instant>>,
    manifests: Manifests,
    ledger: Ledger,
    made_from: Arc<Mutex<MadeFrom>>,
    watch: Watch,
    canaries: Vec<Canary>,
    in_volumes: BTreeSet<(String, i64)>,
    deadfall: Arc<Mutex<Deadfall>>,
    died: Arc<Notify>,
    hints: Arc<Mutex<Hints>>,
    disk: Arc<Mutex<Disk>>,
    losses: Vec<i64>,
    set_by: &'static AtomicI64,
    network: watch::Sender<NetworkState>,
    made: BTreeMap<&'static str, u64>,
    steps: u64,
    log: Vec<(Duration, String)>,
    lines_read: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    #[expect(clippy::too_many_lines, reason = "a node, part by part")]
    fn new(seed: u64, options: &Options<'_>, dir: PathBuf) -> anyhow::Result<Self> {
        let root = HostRoot::at(dir);
        lay_out_node(&root)?;
        let mut faults = Prng::stream(seed, "faults");
        let exit_lag = [0, 1, 5, 40, 300][pods::at(&mut faults, 5)];
        let mut draw = Prng::stream(seed, "domains");
        let has_events = draw.chance(5_000);
        let domains = Domains {
            has_url: draw.chance(4_500),
            clock_is_set: draw.chance(3_500),
            disk_is_bad: draw.chance(3_000),
            has_panics: draw.chance(3_000),
        };
        let config = StandInConfig {
            seed,
            // Also read by a check.
            trace: true,
            exit_lag: Duration::from_millis(exit_lag),
            latency: Duration::from_millis(faults.below(30)),
            events: has_events,
            images: pods::PRESENT.map(str::to_owned).to_vec(),
            ..StandInConfig::default()
        };
        let epoch = config.epoch_ns;
        let began = Instant::now();
        // Eight bytes per world stay: the clock is copied to wherever the product takes the time.
        let set_by: &'static AtomicI64 = Box::leak(Box::default());
        let from = jiff::Timestamp::from_nanosecond(i128::from(epoch))?;
        let clock = Clock::simulated_and_set(from, set_by);
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
            scripts.exec = Arc::new(pods::exec);
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
            domains,
            sources: [SourceKind::File]
                .into_iter()
                .chain(domains.has_url.then_some(SourceKind::Url))
                .collect(),
            silent: BTreeMap::new(),
            manifests: Manifests::new(domains.has_url),
            ledger: Ledger::default(),
            made_from,
            watch: Watch::default(),
            canaries: Vec::new(),
            in_volumes: BTreeSet::new(),
            deadfall: Arc::default(),
            died: Arc::default(),
            hints: Arc::new(Mutex::new(Hints::new(seed, hint_rate))),
            disk: Arc::new(Mutex::new(Disk::new(seed, domains.disk_is_bad))),
            losses: Vec::new(),
            set_by,
            network: watch::Sender::new(NetworkState::Ready),
            made: BTreeMap::new(),
            steps: 0,
            log: Vec::new(),
            lines_read: 0,
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
        for pod in self.manifests.all() {
            let uid = pod.uid.to_string();
            let Some((_, life)) = self.ledger.wanted(&uid) else {
                continue;
            };
            // What is there may still be the volume of its life before, which goes.
            let is_left =
                |i: &Instance| i.pod_uid == uid && i.asked < life.since && i.removed.is_none();
            // Only a container can have written something that must not be lost.
            let has_run = |i: &Instance| {
                i.pod_uid == uid
                    && !i.name.is_empty()
                    && i.asked >= life.since
                    && i.started.is_some()
            };
            let (is_left, has_run) = self
                .runtime
                .instances(|all| (all.iter().any(is_left), all.iter().any(has_run)));
            if is_left || !has_run {
                continue;
            }
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
            self.manifests.change(&Action::Add, &mut self.random);
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
            self.send_all()?;
            return Ok(self.come_to_rest().await?.err());
        }
        Ok(None)
    }

    fn make_quiet(&mut self) -> anyhow::Result<()> {
        self.runtime.faults(|plan| plan.set_quiet(true));
        lock(&self.hints).rate = 0;
        lock(&self.disk).make_good();
        let mut deadfall = lock(&self.deadfall);
        (deadfall.armed, deadfall.panic) = (None, None);
        drop(deadfall);
        self.network.send_replace(NetworkState::Ready);
        if self.kubelet.is_none() {
            self.start_kubelet()?;
        }
        self.speak(true)
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
            let next_speech = self.silent.values().flatten().min().copied();
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
                () = tokio::time::sleep_until(next_speech.unwrap_or(until)), if next_speech.is_some() => Event::Speech,
                () = tokio::time::sleep_until(until) => Event::Time,
            };
            match event {
                Event::Speech => self.speak(false)?,
                Event::Died => {
                    self.note(|| "kubelet dies at a point".to_owned());
                    self.end_kubelet(false).await?;
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
        let now = self.now();
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
                losses: &self.losses,
                now,
            })
        })
    }

    fn check(&mut self) -> anyhow::Result<Result<(), String>> {
        self.fill_volumes()?;
        let panics = self.kubelet.as_ref().map_or(0, SimKubelet::panics);
        if panics > lock(&self.deadfall).panics {
            return Ok(Err("a task panicked".to_owned()));
        }
        Ok(self
            .asks_only_for_what_is_not_there()
            .and_then(|()| self.truth(after_step)))
    }

    /// (g) A name that is taken already is only asked for by a call that the stand-in itself repeats: whoever looks after
    /// each action, and after each lost answer, knows what there is.
    fn asks_only_for_what_is_not_there(&mut self) -> Result<(), String> {
        let from = self.lines_read;
        let (read, found) = self.runtime.trace(|lines| {
            let is_twice = |call: u64| {
                lines
                    .iter()
                    .any(|l| l.call == call && l.text.ends_with("!Twice"))
            };
            let found = lines[from..]
                .iter()
                .find(|l| l.text.contains("is reserved for") && !is_twice(l.call));
            (lines.len(), found.map(ToString::to_string))
        });
        self.lines_read = read;
        found.map_or(Ok(()), |line| {
            Err(format!("(g) asked again for what is there: {line}"))
        })
    }

    fn is_at_rest(&mut self) -> Result<(), String> {
        let Some(kubelet) = &self.kubelet else {
            return Err("the kubelet is down".to_owned());
        };
        let records = kubelet.records.keys(POD_PREFIX);
        let shown = kubelet.status.subscribe().borrow().clone();
        let mut manifests = BTreeMap::new();
        for pod in self.manifests.all() {
            let uid = pod.uid.to_string();
            // Of a UID that two sources name, the version that counts.
            let counts = self.ledger.wanted(&uid).and_then(|(_, life)| life.pod());
            let pod = Arc::clone(counts.unwrap_or(pod));
            manifests.insert(uid, pod);
        }
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
            | Action::Replace
            | Action::Share => {
                if let Some(source) = self.manifests.change(&action, &mut self.random) {
                    self.send(source)?;
                }
            }
            Action::Resend => self.send_all()?,
            Action::Speak => self.speak(true)?,
            Action::SetClock(seconds) => self.set_clock(*seconds),
            Action::DiskFull if self.domains.disk_is_bad => lock(&self.disk).flip_full(),
            Action::PanicAt(point, nth) if self.domains.has_panics => {
                lock(&self.deadfall).panic = Some((*point, *nth));
            }
            Action::DiskFull | Action::PanicAt(..) => {}
            Action::CrashKubelet => self.end_kubelet(false).await?,
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
                self.end_kubelet(true).await?;
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

    fn now(&self) -> Now {
        Now {
            truth: self.runtime.now_ns(),
            wall: self.runtime.wall_ns(),
        }
    }

    /// Never so far that a year before 1970 or the end of time comes near.
    fn set_clock(&mut self, seconds: i64) {
        const FARTHEST: i64 = 2 * 31_536_000;
        if !self.domains.clock_is_set {
            return;
        }
        let old = self.set_by.load(Ordering::Relaxed);
        let new = (old / 1_000_000_000 + seconds).clamp(-FARTHEST, FARTHEST) * 1_000_000_000;
        self.set_by.store(new, Ordering::Relaxed);
        self.runtime.set_wall_clock(new);
        self.watch.clock_set();
    }

    fn send_all(&mut self) -> anyhow::Result<()> {
        for source in self.sources.clone() {
            self.send(source)?;
        }
        Ok(())
    }

    /// Lets those sources speak whose silence is over, or all.
    fn speak(&mut self, all: bool) -> anyhow::Result<()> {
        let now = Instant::now();
        let is_due = |at: &Option<Instant>| all || at.is_some_and(|at| at <= now);
        let due: Vec<SourceKind> = self
            .silent
            .iter()
            .filter(|(_, at)| is_due(at))
            .map(|(source, _)| *source)
            .collect();
        for source in due {
            self.note(|| format!("{} speaks", source.as_str()));
            self.silent.remove(&source);
            self.send(source)?;
        }
        Ok(())
    }

    /// Hands a source's manifests over, if there is somebody to take them and the source says anything.
    fn send(&mut self, source: SourceKind) -> anyhow::Result<()> {
        let Some(kubelet) = &self.kubelet else {
            return Ok(());
        };
        if self.silent.contains_key(&source) {
            return Ok(());
        }
        let was_listed = kubelet.path.pleg.last_list().is_some();
        if was_listed && *kubelet.path.all_sources_seen.borrow() {
            self.ledger.kubelet_lets_go();
        }
        let pods = self.manifests.of(source);
        self.ledger.sent(self.now(), source, &pods, &self.sources);
        // A dead one takes nothing; it is buried at the next wait.
        if !lock(&self.deadfall).is_dead {
            kubelet.send(SourceSnapshot::new(source, pods))?;
        }
        Ok(())
    }

    /// Which sources are silent at the start, and how long; a single one mostly speaks at once.
    fn draw_silence(&mut self) {
        self.silent.clear();
        for source in self.sources.clone() {
            let is_calm = source == SourceKind::File && self.random.chance(8_000);
            let silence = script::silence(&mut self.random);
            if is_calm || silence == Some(Duration::ZERO) {
                continue;
            }
            self.count("source silent");
            let until = silence.map(|silence| Instant::now() + silence);
            self.silent.insert(source, until);
        }
    }

    fn start_kubelet(&mut self) -> anyhow::Result<()> {
        self.note(|| "kubelet starts".to_owned());
        *lock(&self.deadfall) = Deadfall::default();
        let (deadfall, died) = (Arc::clone(&self.deadfall), Arc::clone(&self.died));
        let faults = Faults::at(move |point| {
            let mut deadfall = lock(&deadfall);
            if Deadfall::is_it(&mut deadfall.armed, point) {
                deadfall.is_dead = true;
                died.notify_one();
            }
            if !deadfall.is_dead && Deadfall::is_it(&mut deadfall.panic, point) {
                deadfall.panics += 1;
                drop(deadfall);
                // As a panic, without its text on the terminal.
                std::panic::resume_unwind(Box::new("the simulation's own"));
            }
            deadfall.is_dead
        });
        let outside = Outside {
            root: self.root.clone(),
            clock: self.clock,
            exits: Hints::exits(&self.hints, &self.runtime),
            network: self.network.subscribe(),
            events: Events::logged("node"),
            faults: faults.with_planted(self.plant.planted),
            loses_writes: self.plant.loses_writes,
            disk: Disk::faults(&self.disk),
            sources: self.sources.clone(),
        };
        let kubelet = SimKubelet::start(&self.runtime, outside)?;
        self.watch.kubelet_starts();
        self.shown = Some(kubelet.status.subscribe());
        self.kubelet = Some(kubelet);
        self.ledger.kubelet_starts(self.now().truth);
        self.draw_silence();
        self.send_all()
    }

    /// The kubelet ends where it stands, and what is left of its journal is all that the next one has.
    async fn end_kubelet(&mut self, machine_ends: bool) -> anyhow::Result<()> {
        let deadfall = std::mem::take(&mut *lock(&self.deadfall));
        if deadfall.is_dead {
            self.count("kubelet died at a point");
        }
        (0..deadfall.panics).for_each(|_| self.count("worker panicked"));
        self.shown = None;
        let Some(kubelet) = self.kubelet.take() else {
            return Ok(());
        };
        if kubelet.records.unwritten() > 0 {
            self.count("records unwritten at the end");
            self.lose_records();
        }
        self.ledger.kubelet_ends(self.runtime.now_ns());
        kubelet.crash().await;
        let journal = self.root.join(JOURNAL);
        if lock(&self.disk).damage(&journal, machine_ends)? == Loss::Records {
            self.lose_records();
        }
        Ok(())
    }

    fn lose_records(&mut self) {
        let now = self.runtime.now_ns();
        self.note(|| "records of the journal are lost".to_owned());
        self.losses.push(now);
        self.watch.journal_lost(now);
    }

    fn verdict(self, problem: Option<String>) -> Verdict {
        let mut faults = self.runtime.faults(|plan| plan.made().clone());
        let (hints, disk) = (lock(&self.hints), lock(&self.disk));
        for (kind, count) in self.made.iter().chain(&hints.made).chain(disk.made()) {
            *faults.entry(kind).or_default() += count;
        }
        drop((hints, disk));
        let panics = lock(&self.deadfall).panics;
        if panics > 0 {
            *faults.entry("worker panicked").or_default() += panics;
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
