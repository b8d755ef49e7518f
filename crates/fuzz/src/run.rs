//! Runs inputs in this process: on a small stack, watched for time and memory.
//!
//! In:    a target, a range of inputs or one
//! Out:   the exit code: what became of them; the number of the input that runs, in a file
//! Calls: `main` in a child, tests
//! Holds: whatever an input does, the supervisor can tell which one it was
//! Upstream: none

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::generate::Corpus;
use crate::targets::Target;

/// The stack of a reader: half of what the product's threads have, and without optimization all of it, since the frames of the YAML
/// library are large then.
pub(crate) const STACK: usize = if cfg!(debug_assertions) {
    2 << 20
} else {
    1 << 20
};
/// The longest that one input may take of the processor; by the clock ten times that, as the machine may be busy.
const LONGEST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });
/// The kernel's unit of a process' times.
const TICK: Duration = Duration::from_millis(10);
/// More memory than before is a finding.
const MEMORY: u64 = 256 << 20;
/// How the peak of memory is looked at: not after each input.
pub(crate) const LOOK: u64 = 64;

/// Exit codes of a child that found something.
pub(crate) const PANICKED: u8 = 101;
pub(crate) const LATE: u8 = 102;
pub(crate) const LARGE: u8 = 103;

/// Inputs to run.
pub(crate) struct Range {
    pub(crate) seed: u64,
    pub(crate) first: u64,
    pub(crate) length: Duration,
    pub(crate) corpus: PathBuf,
    /// Where the number of the input that runs is kept.
    pub(crate) progress: PathBuf,
}

/// What a run found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Panic,
    Memory,
}

impl Found {
    fn code(self) -> ExitCode {
        match self {
            Self::Nothing => ExitCode::SUCCESS,
            Self::Panic => ExitCode::from(PANICKED),
            Self::Memory => ExitCode::from(LARGE),
        }
    }
}

/// The most memory that this process ever had.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// What this process has taken of the processor.
fn spent() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name is in brackets and may hold blanks.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = after_name.split_whitespace().skip(11).take(2);
    let ticks: u32 = times.filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// Runs one input; false after a panic.
fn survives(target: &Target, input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok()
}

/// Runs inputs for a while; each number is told before its input runs.
pub(crate) fn inputs(
    target: &'static Target,
    corpus: &Corpus,
    (seed, first, length): (u64, u64, Duration),
    told: impl Fn(u64),
) -> Found {
    let (began, idle) = (Instant::now(), peak());
    for number in first.. {
        told(number);
        let input = corpus.input(seed, number, target.words);
        if !survives(target, &input) {
            return Found::Panic;
        }
        if number % LOOK == LOOK - 1 && peak() > idle + MEMORY {
            return Found::Memory;
        }
        if began.elapsed() > length {
            break;
        }
    }
    // Of slow ones there may be too few for a look.
    match peak() > idle + MEMORY {
        true => Found::Memory,
        false => Found::Nothing,
    }
}

/// Does the work on a thread with a small stack; ends the process when the number of the input stands still for too long.
fn watched(work: impl FnOnce(Arc<AtomicU64>) -> Found + Send + 'static) -> ExitCode {
    let number = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&number);
    let (say, said) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            // Nobody listens any more when the process ends.
            let _told = say.send(work(told));
        });
    if thread.is_err() {
        return ExitCode::FAILURE;
    }
    let mut seen = (number.load(Ordering::Relaxed), Instant::now(), spent());
    loop {
        match said.recv_timeout(Duration::from_millis(20)) {
            Ok(found) => return found.code(),
            Err(mpsc::RecvTimeoutError::Disconnected) => return ExitCode::from(PANICKED),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        let now = number.load(Ordering::Relaxed);
        if now != seen.0 {
            seen = (now, Instant::now(), spent());
        } else if seen.1.elapsed() > LONGEST
            && (spent() > seen.2 + LONGEST || seen.1.elapsed() > LONGEST * 10)
        {
            return ExitCode::from(LATE);
        }
    }
}

/// A child's whole life.
pub(crate) fn child(target: &'static Target, range: &Range) -> ExitCode {
    let corpus = Corpus::read(&range.corpus, target.name);
    let progress = std::fs::File::create(&range.progress);
    let (Ok(corpus), Ok(progress)) = (corpus, progress) else {
        return ExitCode::FAILURE;
    };
    let which = (range.seed, range.first, range.length);
    watched(move |number| {
        inputs(target, &corpus, which, |now| {
            number.store(now, Ordering::Relaxed);
            // Without it a finding cannot be told; the next write may work.
            let _written = progress.write_all_at(&now.to_le_bytes(), 0);
        })
    })
}

/// One input, as a finding is tried again.
pub(crate) fn one(target: &'static Target, input: &[u8]) -> ExitCode {
    let (input, idle) = (input.to_vec(), peak());
    let code = watched(move |_| {
        if !survives(target, &input) {
            return Found::Panic;
        }
        if peak() > idle + MEMORY {
            return Found::Memory;
        }
        Found::Nothing
    });
    let _flushed = std::io::stderr().flush();
    code
}
