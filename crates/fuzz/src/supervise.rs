//! Runs a target in children, and makes of what ends them the smallest input that does.
//!
//! In:    a target, how long, from which seed
//! Out:   findings: their seed, what happened, and the input in `target/fuzz-findings`; the figures of the target
//! Calls: `main`
//! Holds: a child that ends in whatever way ends only itself
//! Upstream: none

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::generate::Corpus;
use crate::run::{self, LARGE, LATE, PANICKED};
use crate::targets::Target;

/// Findings of one target after which it is left alone.
const ENOUGH: u32 = 5;
/// Runs, and time, that making a finding smaller may take: each try of a slow one is slow.
const TRIES: u32 = 300;
const SHORTENING: Duration = Duration::from_secs(60);
/// A child is started anew after this, so that one that leaks is not blamed on its last input.
const LIFE: Duration = Duration::from_secs(20);

/// How to fuzz.
pub(crate) struct Wish {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) corpus: PathBuf,
    /// Where findings are kept.
    pub(crate) findings: PathBuf,
}

/// What became of a target.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) runs: u64,
    pub(crate) seconds: f64,
    /// Saved inputs.
    pub(crate) corpus: usize,
    pub(crate) findings: u32,
}

/// What ended a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fine,
    Panic,
    Late,
    Large,
    /// A signal: a stack that was too small, an abort.
    Killed,
}

fn end(status: std::process::ExitStatus) -> End {
    match status.code().map(u8::try_from) {
        Some(Ok(0)) => End::Fine,
        Some(Ok(LATE)) => End::Late,
        Some(Ok(LARGE)) => End::Large,
        Some(Ok(PANICKED)) => End::Panic,
        _ => End::Killed,
    }
}

/// Where findings are kept unless the command line says otherwise.
pub(crate) fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz-findings")
}

/// Fuzzes one target.
pub(crate) fn fuzz(target: &'static Target, wish: &Wish) -> anyhow::Result<Figures> {
    let place = &wish.findings;
    std::fs::create_dir_all(place).context("the place of findings")?;
    let corpus = Corpus::read(&wish.corpus, target.name)?;
    let progress = place.join(format!("{}.progress-{}", target.name, std::process::id()));
    let began = Instant::now();
    let mut figures = Figures {
        corpus: corpus.len(),
        ..Figures::default()
    };
    while began.elapsed() < wish.length && figures.findings < ENOUGH {
        let length = wish.length.saturating_sub(began.elapsed()).min(LIFE);
        let status = Command::new(std::env::current_exe()?)
            .args([target.name, "--seed", &wish.seed.to_string()])
            .args(["--seconds", &length.as_secs().max(1).to_string()])
            .arg("--corpus")
            .arg(&wish.corpus)
            .args(["--child", &figures.runs.to_string()])
            .arg(&progress)
            .stderr(Stdio::null())
            .status()
            .context("start a child")?;
        let number = std::fs::read(&progress)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        let number = number
            .map(u64::from_le_bytes)
            .context("the child told of no input")?;
        let suspects = match end(status) {
            End::Fine => None,
            // One of the last inputs; the child looks no more often.
            End::Large => Some(number.saturating_sub(run::LOOK - 1)..=number),
            End::Panic | End::Late | End::Killed => Some(number..=number),
        };
        if let Some(suspects) = suspects {
            let input = |number: &u64| corpus.input(wish.seed, *number, target.words);
            let mut guilty = None;
            for number in suspects {
                if guilty.is_none() && run_one(target, &input(&number), place)? != End::Fine {
                    guilty = Some(number);
                }
            }
            // One that does not come again counts, too: it was seen.
            let guilty = guilty.unwrap_or(number);
            tell(target, (wish.seed, guilty), &input(&guilty), place)?;
            figures.findings += 1;
        }
        figures.runs = number + 1;
    }
    let _gone = std::fs::remove_file(&progress);
    figures.seconds = began.elapsed().as_secs_f64();
    Ok(figures)
}

fn run_one(target: &Target, input: &[u8], place: &Path) -> anyhow::Result<End> {
    let file = place.join(format!("{}.try-{}", target.name, std::process::id()));
    std::fs::write(&file, input)?;
    let status = Command::new(std::env::current_exe()?)
        .args([target.name, "--one"])
        .arg(&file)
        .stderr(Stdio::null())
        .status()?;
    std::fs::remove_file(&file)?;
    Ok(end(status))
}

/// The shortest input that was found to end in the same way.
fn shortest(
    target: &Target,
    kind: End,
    input: &[u8],
    mut ends: impl FnMut(&Target, &[u8]) -> anyhow::Result<End>,
) -> anyhow::Result<Vec<u8>> {
    let began = Instant::now();
    let mut small = input.to_vec();
    let (mut part, mut tries) = (small.len().div_ceil(2), 0);
    let mut goes_on = || {
        tries += 1;
        tries <= TRIES && began.elapsed() < SHORTENING
    };
    while part > 0 {
        let mut at = 0;
        while at < small.len() {
            if !goes_on() {
                return Ok(small);
            }
            let mut shorter = small.clone();
            shorter.drain(at..(at + part).min(small.len()));
            if ends(target, &shorter)? == kind {
                small = shorter;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    Ok(small)
}

/// Makes a finding small, keeps it and tells of it.
fn tell(
    target: &Target,
    (seed, number): (u64, u64),
    input: &[u8],
    place: &Path,
) -> anyhow::Result<()> {
    let kind = run_one(target, input, place)?;
    let small = match kind {
        End::Fine => input.to_vec(),
        _ => shortest(target, kind, input, |target, input| {
            run_one(target, input, place)
        })?,
    };
    let file = place.join(format!("{}-{seed}-{number}", target.name));
    std::fs::write(&file, &small).context("keep the finding")?;
    let begin: String = String::from_utf8_lossy(&small).chars().take(300).collect();
    writeln!(
        std::io::stderr(),
        "{}: {kind:?} at seed {seed}, input {number}; {} bytes in {}: {begin:?}",
        target.name,
        small.len(),
        file.display()
    )?;
    Ok(())
}
