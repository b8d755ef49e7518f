//! Runs a target in children, and makes of what ends them the smallest input that does.
//!
//! In:    a target, how long, from which seed
//! Out:   findings: their seed, what happened, and the input in `target/fuzz`
//! Calls: `main`
//! Holds: a child that ends in whatever way ends only itself
//! Upstream: none

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::generate::Corpus;
use crate::run::{LARGE, LATE, PANICKED};
use crate::targets::Target;

/// Findings of one target after which it is left alone.
const ENOUGH: u32 = 5;
/// Runs that making a finding smaller may take.
const TRIES: u32 = 300;
/// A child is started anew after this, so that one that leaks is not blamed on its last input.
const LIFE: Duration = Duration::from_secs(20);

/// How to fuzz.
pub(crate) struct Wish {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) corpus: PathBuf,
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

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz")
}

/// Fuzzes one target; the number of findings.
pub(crate) fn fuzz(target: &'static Target, wish: &Wish) -> anyhow::Result<u32> {
    let place = place();
    std::fs::create_dir_all(&place).context("the place of findings")?;
    let corpus = Corpus::read(&wish.corpus, target.name)?;
    let progress = place.join(format!("{}.progress-{}", target.name, std::process::id()));
    let began = Instant::now();
    let (mut first, mut findings) = (0, 0);
    while began.elapsed() < wish.length && findings < ENOUGH {
        let length = wish.length.saturating_sub(began.elapsed()).min(LIFE);
        let status = Command::new(std::env::current_exe()?)
            .args([target.name, "--seed", &wish.seed.to_string()])
            .args(["--seconds", &length.as_secs().max(1).to_string()])
            .arg("--corpus")
            .arg(&wish.corpus)
            .args(["--child", &first.to_string()])
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
        match end(status) {
            End::Fine => {}
            End::Large => {
                // One of the last inputs.
                for number in number.saturating_sub(63)..=number {
                    let input = corpus.input(wish.seed, number, target.words);
                    if run_one(target, &input)? != End::Fine {
                        findings += tell(target, wish.seed, number, &input)?;
                        break;
                    }
                }
            }
            _ => {
                let input = corpus.input(wish.seed, number, target.words);
                findings += tell(target, wish.seed, number, &input)?;
            }
        }
        first = number + 1;
    }
    let _gone = std::fs::remove_file(&progress);
    let seconds = began.elapsed().as_secs();
    writeln!(
        std::io::stderr(),
        "{}: {first} inputs in {seconds} s, {findings} findings",
        target.name
    )?;
    Ok(findings)
}

fn run_one(target: &Target, input: &[u8]) -> anyhow::Result<End> {
    let file = place().join(format!("{}.try-{}", target.name, std::process::id()));
    std::fs::write(&file, input)?;
    let status = Command::new(std::env::current_exe()?)
        .args([target.name, "--one"])
        .arg(&file)
        .stderr(Stdio::null())
        .status()?;
    std::fs::remove_file(&file)?;
    Ok(end(status))
}

/// Makes a finding small, keeps it and tells of it. One that does not come again counts, too: it was seen.
fn tell(target: &Target, seed: u64, number: u64, input: &[u8]) -> anyhow::Result<u32> {
    let kind = run_one(target, input)?;
    let mut small = input.to_vec();
    let (mut part, mut tries) = (small.len().div_ceil(2), 0);
    while kind != End::Fine && part > 0 && tries < TRIES {
        let mut at = 0;
        while at < small.len() && tries < TRIES {
            let mut shorter = small.clone();
            shorter.drain(at..(at + part).min(small.len()));
            tries += 1;
            if run_one(target, &shorter)? == kind {
                small = shorter;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    let file = place().join(format!("{}-{seed}-{number}", target.name));
    std::fs::write(&file, &small).context("keep the finding")?;
    let begin: String = String::from_utf8_lossy(&small).chars().take(300).collect();
    writeln!(
        std::io::stderr(),
        "{}: {kind:?} at seed {seed}, input {number}; {} bytes in {}: {begin:?}",
        target.name,
        small.len(),
        file.display()
    )?;
    Ok(1)
}
