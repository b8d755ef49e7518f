//! `make attack`: what somebody who means harm can do to a node, tried on the release binary, each with its bound.
//!
//! | module | part |
//! |---|---|
//! | report | the table: scenario, figure, bound, ok or miss |
//! | machine, target | the private containerd; one `hyperkube node` on it, killed and started at will |
//! | runtime | the runtime asked over CRI, beside the kubelet |
//! | identities | everybody who may come to a port, with a credential |
//! | matrix | identities × paths × verbs against the answers written down in `expected/` |
//! | escalation | what a node's credential must not get by detours |
//! | probe, flood, frames, floods | health and memory while somebody floods a port |
//! | churn, kills, invariants | kill -9 under churn, and what must be true afterwards |
//! | ends | deletions that must complete, whatever happened meanwhile |
//! | disk | no room under the API server's store |
//!
//! In:    the release binary (or `HYPERKUBE_BIN`), root, containerd
//! Out:   one table on stdout and in `target/attack.md`; exit 1 when a bound was missed
//! Calls: make attack; scripts/test.sh with `--quick`
//! Holds: only processes that were started here are hit, only on the loopback address; every scenario ends within minutes
//! Upstream: none

mod churn;
mod disk;
mod ends;
mod escalation;
mod flood;
mod floods;
mod frames;
mod identities;
mod invariants;
mod kills;
mod machine;
mod matrix;
mod probe;
mod report;
mod runtime;
mod target;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use rig::{clock, node, process, say};

use crate::machine::Machine;
use crate::report::Report;

const HELP: &str = "\
Usage: attack [flags]
Attacks target/release/hyperkube (or $HYPERKUBE_BIN) on a private containerd, as root. Takes about half an hour.
  --quick       short floods, few kills: minutes
  --only a,b    only the scenarios whose names begin so
  --list        their names
  --kills n     how often the node is killed (default 100; containerd 30 %, both 20 % of it)
  --seconds n   length of a flood (default 8)
  --help        this text
";

/// How much is done.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) kills: usize,
    pub(crate) seconds: f64,
    pub(crate) quick: bool,
    only: Vec<String>,
}

impl Plan {
    fn has(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| name.starts_with(wanted))
    }
}

type Run = fn(&Machine, &mut Report) -> anyhow::Result<()>;

/// A scenario: its name, what it is, and whether the short form has it.
struct Scenario {
    name: &'static str,
    run: Run,
    quick: bool,
}

const fn always(name: &'static str, run: Run) -> Scenario {
    Scenario {
        name,
        run,
        quick: true,
    }
}

/// Everything, in order; floods come from their own table.
const SCENARIOS: [Scenario; 9] = [
    always("auth-kubelet", matrix::kubelet),
    always("auth-apiserver", matrix::apiserver),
    always("auth-escalation", escalation::run),
    always("auth-expiry", escalation::expiry),
    always("disk-store", disk::run),
    always("ends", ends::run),
    always("kills-node", kills::node),
    always("kills-runtime", kills::runtime),
    always("kills-both", kills::both),
];

enum Wanted {
    Help,
    List,
    Run(Plan),
}

fn wanted(words: &[String]) -> anyhow::Result<Wanted> {
    let quick = words.iter().any(|word| word == "--quick");
    let mut plan = Plan {
        kills: if quick { 5 } else { 100 },
        seconds: if quick { 3.0 } else { 8.0 },
        quick,
        only: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value"))
        };
        match word.as_str() {
            "--quick" => {}
            "--help" | "-h" => return Ok(Wanted::Help),
            "--list" => return Ok(Wanted::List),
            "--kills" => plan.kills = value()?.parse::<usize>()?.clamp(1, 1000),
            "--seconds" => plan.seconds = value()?.parse::<f64>()?.clamp(1.0, 120.0),
            "--only" => plan.only = value()?.split(',').map(str::to_owned).collect(),
            unknown => bail!("unknown flag {unknown}\n{HELP}"),
        }
    }
    let names: Vec<&str> = names().collect();
    let known = |wanted: &String| names.iter().any(|name| name.starts_with(wanted.as_str()));
    if let Some(unknown) = plan.only.iter().find(|wanted| !known(wanted)) {
        bail!(
            "no scenario begins with {unknown:?}; there are: {}",
            names.join(", ")
        );
    }
    Ok(Wanted::Run(plan))
}

fn names() -> impl Iterator<Item = &'static str> {
    let floods = floods::ALL.iter().map(|flood| flood.name);
    SCENARIOS.iter().map(|one| one.name).chain(floods)
}

fn attack(machine: &Machine, report: &mut Report) {
    let plan = &machine.plan;
    let mut one = |name: &str, run: &mut dyn FnMut(&mut Report) -> anyhow::Result<()>| {
        say(&format!("== {name} (load {})", process::load()));
        report.begin(name);
        let began = clock::now();
        if let Err(error) = run(report) {
            report.miss(
                "the scenario itself",
                format!("{error:#}"),
                "runs to its end",
            );
        }
        say(&format!("   {:.0} s", clock::now() - began));
    };
    for scenario in SCENARIOS {
        if plan.has(scenario.name) && (scenario.quick || !plan.quick) {
            one(scenario.name, &mut |report| (scenario.run)(machine, report));
        }
    }
    for flood in floods::ALL {
        // The short form has one of each kind unless a name asks for more.
        if plan.has(flood.name) && (flood.quick || !plan.quick || !plan.only.is_empty()) {
            one(flood.name, &mut |report| {
                flood::run(machine, flood, report)?;
                // The short form runs beside other tests: what a neighbour caused is not there a second time.
                if plan.quick && report.missed() {
                    say("   once more");
                    report.again();
                    flood::run(machine, flood, report)?;
                }
                Ok(())
            });
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program for people")]
fn show(text: &str) {
    println!("{text}");
}

fn run() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let plan = match wanted(&words)? {
        Wanted::Help => {
            show(HELP);
            return Ok(ExitCode::SUCCESS);
        }
        Wanted::List => {
            show(&names().collect::<Vec<_>>().join("\n"));
            return Ok(ExitCode::SUCCESS);
        }
        Wanted::Run(plan) => plan,
    };
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let binary = node::binary(&repository);
    if !binary.exists() {
        bail!(
            "{} is missing: cargo build --release -p hyperkube",
            binary.display()
        );
    }
    target::more_descriptors()?;
    let (load, began) = (process::load(), clock::now());
    let mut report = Report::default();
    {
        let machine = Machine::up(&repository, plan)?;
        attack(&machine, &mut report);
    }
    let mut text = String::from("# Attack\n\n");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    // Writing to a String cannot fail.
    let _written = writeln!(
        text,
        "{}; {cpus} processors; load averages {load} before, {} after.\n\n{}\n{}{} misses of {} bounds in {:.0} s.",
        binary.display(),
        process::load(),
        report.markdown(),
        report.missed_list(),
        report.misses(),
        report.bounds(),
        clock::now() - began
    );
    show(&text);
    let folder = repository.join("target");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = folder.join("attack.md");
    fs::write(&file, &text).with_context(|| file.display().to_string())?;
    Ok(match report.misses() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn main() -> anyhow::Result<ExitCode> {
    run()
}
