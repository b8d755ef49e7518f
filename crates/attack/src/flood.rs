//! One flood: a fresh node, health and memory while it lasts, and whether the node does its work afterwards.
//!
//! In:    a flood of `floods`
//! Out:   rows: memory idle, peak and after; health at each port; the pod that was run afterwards
//! Calls: main
//! Holds: floods end by their own time and count; memory that passes a gigabyte ends the flood at once, so that the machine lives
//! Upstream: none

use std::sync::atomic::{AtomicBool, Ordering};

use rig::{clock, process};

use crate::machine::Machine;
use crate::probe::{Looks, Probe};
use crate::report::Report;
use crate::target::Target;

/// What a flood may add to the memory of the idle node, MB.
const MEMORY_MB: f64 = 64.0;
/// What 99 of 100 looks at health may take beyond what they take without a flood, s.
const HEALTH_S: f64 = 0.1;
/// Where a flood is cut off, MB.
const CUT_MB: f64 = 1000.0;
/// How long a pod may take afterwards, s.
const AFTERWARDS_S: f64 = 30.0;

/// A flood.
pub(crate) struct Flood {
    pub(crate) name: &'static str,
    /// Whether the short form has it.
    pub(crate) quick: bool,
    /// The shortest that shows anything, s.
    pub(crate) at_least: f64,
    /// Makes what it needs, before the memory of the idle node is taken.
    pub(crate) prepare: fn(&Target<'_>) -> anyhow::Result<()>,
    /// Floods until the clock or the cut says so; a word on what was done.
    pub(crate) run: fn(&Target<'_>, &Span) -> anyhow::Result<String>,
    /// What must be true afterwards besides a pod that runs: findings.
    pub(crate) after: fn(&mut Target<'_>) -> anyhow::Result<Vec<String>>,
}

/// How long a flood lasts.
#[derive(Debug)]
pub(crate) struct Span {
    until: f64,
    cut: AtomicBool,
}

impl Span {
    pub(crate) fn goes_on(&self) -> bool {
        clock::now() < self.until && !self.cut.load(Ordering::Relaxed)
    }

    /// Waits for its end.
    pub(crate) fn sit_out(&self) {
        while self.goes_on() {
            clock::pause_ms(20);
        }
    }

    /// Does something every so often until the end.
    pub(crate) fn every(&self, milliseconds: u64, mut work: impl FnMut()) {
        while self.goes_on() {
            work();
            clock::pause_ms(milliseconds);
        }
    }
}

/// Runs it.
pub(crate) fn run(machine: &Machine, flood: &Flood, report: &mut Report) -> anyhow::Result<()> {
    let mut target = Target::running(machine, flood.name)?;
    (flood.prepare)(&target)?;
    // Once each way, so that what the first time costs is no part of the flood.
    target.runs_a_pod("before", AFTERWARDS_S)?;
    clock::pause_ms(2000);
    let pid = target.pid()?;
    let idle = process::memory(pid)?.resident;
    // The same looks while nobody floods: what they cost on this machine, in its present state.
    let calm = Probe::begin(&target)?;
    clock::pause_ms(1500);
    let (calm, _) = calm.end()?;
    let span = Span {
        until: clock::now() + machine.plan.seconds.max(flood.at_least),
        cut: AtomicBool::new(false),
    };
    let probe = Probe::begin(&target)?;
    let outcome = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while span.goes_on() {
                if probe.peak() > idle + CUT_MB {
                    span.cut.store(true, Ordering::Relaxed);
                }
                clock::pause_ms(10);
            }
        });
        let flooding = scope.spawn(|| {
            // On Linux this thread's and its children's: what is looked at is the node, not who gets the processor.
            let _unchanged = rustix::process::nice(10);
            (flood.run)(&target, &span)
        });
        let outcome = match flooding.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow::Error::msg("the flood panicked")),
        };
        // An early end ends the watch, too.
        span.cut.store(true, Ordering::Relaxed);
        let _watched = watch.join();
        outcome
    });
    let peak = probe.peak();
    let (looks, machine_share) = probe.end()?;
    match outcome {
        Ok(done) => report.note("what was done", done),
        Err(error) => report.miss("what was done", format!("{error:#}"), "is answered"),
    }
    clock::pause_ms(1500);
    let after = process::memory(pid).map_or(0.0, |memory| memory.resident);
    report.judge(
        "memory",
        format!(
            "idle {idle:.0} MB, peak {peak:.0} MB ({:+.0}), after {after:.0} MB",
            peak - idle
        ),
        "peak <= idle + 64 MB",
        peak > 0.0 && peak <= idle + MEMORY_MB,
    );
    for (one, calm) in looks.iter().zip(&calm) {
        health(one, calm.p99().max(machine_share.p99()), report);
    }
    afterwards(&mut target, flood, report);
    Ok(())
}

/// `share`: what such a look takes on this machine without a flood.
fn health(looks: &Looks, share: f64, report: &mut Report) {
    let p99 = looks.p99();
    let milliseconds = |seconds: f64| seconds * 1000.0;
    report.judge(
        &format!("health at {}", looks.what),
        format!(
            "p99 {:.0} ms, worst {:.0} ms, {} of {} without a right answer; without a flood {:.0} ms",
            milliseconds(p99),
            milliseconds(looks.worst()),
            looks.failed,
            looks.seconds.len(),
            milliseconds(share)
        ),
        "p99 <= 100 ms above that without a flood",
        p99 <= HEALTH_S + share,
    );
}

fn afterwards(target: &mut Target<'_>, flood: &Flood, report: &mut Report) {
    if let Err(error) = target.check() {
        report.miss("the process", format!("{error:#}"), "lives");
        return;
    }
    let found = match (flood.after)(target) {
        Ok(found) => found,
        Err(error) => vec![format!("{error:#}")],
    };
    report.none("found wrong afterwards", &found);
    let bound = "Ready and gone, within 30 s each";
    match target.runs_a_pod("after", AFTERWARDS_S) {
        Ok((ready, gone)) => {
            let value = format!("Ready after {ready:.1} s, gone after {gone:.1} s");
            report.judge("a pod afterwards", value, bound, true);
        }
        Err(error) => report.miss("a pod afterwards", format!("{error:#}"), bound),
    }
}
