//! What the kernel says about a process: memory, processor time, wake-ups.
//!
//! In:    a pid
//! Out:   figures of /proc
//! Calls: bench (idle, scale, api_load, api_memory), attack
//! Holds: wake-ups are voluntary context switches of the threads that lived over the whole span; processor time is the scheduler's
//!        (nanoseconds) for the same threads, or the process's ticks when those say more (threads that ended)
//! Upstream: none

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;

use crate::clock;

/// Megabytes (10⁶) in memory.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All of it.
    pub resident: f64,
    /// What no file stands behind.
    pub anonymous: f64,
}

impl Memory {
    /// For people.
    pub fn text(self) -> String {
        format!(
            "{:.1} MB resident, {:.1} MB anonymous",
            self.resident, self.anonymous
        )
    }
}

/// Use of the processor over a span.
#[derive(Debug, Clone, Copy)]
pub struct Activity {
    /// Percent of one core.
    pub cpu_percent: f64,
    /// Voluntary context switches per second.
    pub wakeups: f64,
}

fn field(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Reads `/proc/<pid>/status`.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name| {
        field(&text, name)
            .map(|kib| kib * 1024.0 / 1e6)
            .with_context(|| format!("{name} of process {pid}"))
    };
    Ok(Memory {
        resident: kib("VmRSS")?,
        anonymous: kib("RssAnon")?,
    })
}

/// Nanoseconds on a processor and voluntary switches, by thread.
fn threads(pid: u32) -> anyhow::Result<BTreeMap<String, (f64, f64)>> {
    let mut found = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = thread?.path();
        // A thread that ends meanwhile is left out.
        let Ok(status) = fs::read_to_string(path.join("status")) else {
            continue;
        };
        let schedstat = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        let ran = schedstat
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok())
            .unwrap_or(0.0);
        let switches = field(&status, "voluntary_ctxt_switches").unwrap_or(0.0);
        found.insert(path.display().to_string(), (ran, switches));
    }
    Ok(found)
}

/// Seconds in user and kernel mode, in ticks of 10 ms, ended threads included.
///
/// # Errors
/// There is no such process.
pub fn ticks(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = text.rsplit_once(") ").context("stat of a process")?.1;
    let words: Vec<f64> = after_name
        .split(' ')
        .map(|word| word.parse().unwrap_or(0.0))
        .collect();
    Ok((words.get(11).unwrap_or(&0.0) + words.get(12).unwrap_or(&0.0)) / 100.0)
}

/// Watches a process for some seconds.
///
/// # Errors
/// There is no such process.
pub fn activity(pid: u32, seconds: u64) -> anyhow::Result<Activity> {
    let (begin, first, first_ticks) = (clock::now(), threads(pid)?, ticks(pid)?);
    clock::pause_ms(seconds * 1000);
    let (last, last_ticks, took) = (threads(pid)?, ticks(pid)?, clock::now() - begin);
    let (mut ran, mut switches) = (0.0, 0.0);
    for (thread, (ran_then, switches_then)) in &last {
        let (ran_before, switches_before) = first.get(thread).copied().unwrap_or_default();
        ran += (ran_then - ran_before) / 1e9;
        switches += switches_then - switches_before;
    }
    // One tick of rounding is not evidence of an ended thread.
    let by_ticks = last_ticks - first_ticks - 0.01;
    Ok(Activity {
        cpu_percent: ran.max(by_ticks) / took * 100.0,
        wakeups: switches / took,
    })
}

/// The machine's load averages, as the kernel prints them.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
