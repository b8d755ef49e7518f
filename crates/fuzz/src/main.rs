//! `fuzz TARGET|all [--seconds N] [--seed N] [--corpus DIR] [--findings DIR]`: inputs that nobody sends, to everything that reads from outside.
//!
//! In:    the command line; saved inputs in `corpus/TARGET`
//! Out:   findings with their seed and smallest input, on stderr and in `target/fuzz-findings`; a table of figures on stdout; exit code 1 when
//!        there are findings
//! Calls: `make fuzz`; `make unit` runs each target shortly
//! Holds: an input follows from its seed, its number and the corpus, so a finding is found again; a panic, an end of the process, a
//!        stack that is too small, too much time and too much memory are findings
//! Upstream: none; the targets are those of cncf-fuzzing and more

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

mod files;
mod generate;
mod run;
mod supervise;
mod targets;

use supervise::{Figures, Wish};
use targets::{PLANTED, TARGETS, Target};

const USAGE: &str = "fuzz TARGET|all [--seconds N] [--seed N] [--corpus DIR] [--findings DIR]";

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// What the command line asks for.
enum Asked {
    Fuzz(Vec<&'static Target>, Wish),
    /// By a supervisor: a range of inputs.
    Child(&'static Target, run::Range),
    /// By a supervisor: one input.
    One(&'static Target, PathBuf),
}

fn target(name: &str) -> anyhow::Result<&'static Target> {
    let mut all = TARGETS.iter().chain(PLANTED);
    let names = || TARGETS.iter().map(|one| one.name).collect::<Vec<_>>();
    all.find(|one| one.name == name)
        .with_context(|| format!("{name}: one of all, {}", names().join(", ")))
}

fn asked() -> anyhow::Result<Asked> {
    let mut words = std::env::args().skip(1);
    let name = words.next().context(USAGE)?;
    let (mut seconds, mut seed, mut dir) = (60, 1, corpus());
    let mut findings = supervise::place();
    let (mut range, mut one) = (None, None);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word} needs a value"))?;
        match &*word {
            "--seconds" => seconds = value.parse().context("--seconds")?,
            "--seed" => seed = value.parse().context("--seed")?,
            "--corpus" => dir = value.into(),
            "--findings" => findings = value.into(),
            "--child" => {
                range = Some((
                    value.parse().context("--child")?,
                    words.next().context(USAGE)?,
                ))
            }
            "--one" => one = Some(PathBuf::from(value)),
            _ => bail!("unknown {word}; {USAGE}"),
        }
    }
    if let Some(file) = one {
        return Ok(Asked::One(target(&name)?, file));
    }
    let length = Duration::from_secs(seconds);
    if let Some((first, progress)) = range {
        let range = run::Range {
            seed,
            first,
            length,
            corpus: dir,
            progress: progress.into(),
        };
        return Ok(Asked::Child(target(&name)?, range));
    }
    let targets = match &*name {
        "all" => TARGETS.iter().collect(),
        name => vec![target(name)?],
    };
    let wish = Wish {
        seed,
        length,
        corpus: dir,
        findings,
    };
    Ok(Asked::Fuzz(targets, wish))
}

/// One line of the table.
fn line(name: &str, figures: &Figures) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown to people")]
    let rate = figures.runs as f64 / figures.seconds.max(0.001);
    let Figures {
        runs,
        seconds,
        corpus,
        findings,
    } = figures;
    format!(
        "| {name:<15} | {runs:>10} | {rate:>8.0} | {seconds:>7.0} | {corpus:>6} | {findings:>8} |"
    )
}

const HEAD: &str = "\
| target          |       runs |   runs/s | seconds | corpus | findings |
|-----------------|-----------:|---------:|--------:|-------:|---------:|";

/// Each target in turn; said when it is done, and all together at the end.
fn all(targets: &[&'static Target], wish: &Wish) -> anyhow::Result<u32> {
    let (mut lines, mut total) = (vec![HEAD.to_owned()], Figures::default());
    for target in targets {
        let figures = supervise::fuzz(target, wish)?;
        let Figures { runs, findings, .. } = figures;
        let name = target.name;
        writeln!(
            std::io::stderr(),
            "{name}: {runs} runs, {findings} findings"
        )?;
        lines.push(line(name, &figures));
        total.runs += runs;
        total.seconds += figures.seconds;
        total.corpus += figures.corpus;
        total.findings += findings;
    }
    lines.push(line("total", &total));
    writeln!(std::io::stdout(), "{}", lines.join("\n"))?;
    Ok(total.findings)
}

fn main() -> anyhow::Result<ExitCode> {
    match asked()? {
        Asked::Child(target, range) => Ok(run::child(target, &range)),
        Asked::One(target, file) => Ok(run::one(target, &std::fs::read(file)?)),
        Asked::Fuzz(targets, wish) => Ok(match all(&targets, &wish)? {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }),
    }
}

#[cfg(test)]
mod tests;
