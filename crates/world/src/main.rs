//! `world --seeds N [--from N] [--plant NAME|all] [--trace SEED]`: many worlds, and what was found in them.
//!
//! In:    the command line
//! Out:   failing seeds with the tails of their traces, counts of faults, speed; exit code 1 when anything was found
//! Calls: `make world`, `make test`
//!        with `--trace`, the whole trace on stdout and the kubelet's own log on stderr
//! Holds: a seed that fails here fails in every run; with a planted bug, not finding it is the failure
//! Upstream: none

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use world::plant::{self, Plant};
use world::run::{Options, Verdict, run_seed};

const TRACE_TAIL: usize = 60;
/// More failing seeds than these say no more.
const MOST_FAILURES: usize = 10;

struct Wish {
    from: u64,
    seeds: u64,
    plants: Vec<Plant>,
    trace: Option<u64>,
}

fn wish() -> anyhow::Result<Wish> {
    let mut wish = Wish {
        from: 0,
        seeds: 1_000,
        plants: vec![plant::NONE],
        trace: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words
            .next()
            .with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--seeds" => wish.seeds = value.parse().context("--seeds")?,
            "--from" => wish.from = value.parse().context("--from")?,
            "--trace" => wish.trace = Some(value.parse().context("--trace")?),
            "--plant" if value == "all" => wish.plants = plant::ALL.to_vec(),
            "--plant" => match plant::ALL.into_iter().find(|p| p.name == value) {
                Some(plant) => wish.plants = vec![plant],
                None => bail!(
                    "--plant {value}: one of all, {}",
                    plant::ALL.map(|p| p.name).join(", ")
                ),
            },
            other => {
                bail!("unknown {other}; known: --seeds N --from N --plant NAME|all --trace SEED")
            }
        }
    }
    Ok(wish)
}

/// Directory in memory where there is one: a world makes some thousand files.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    parent.join(format!("hyperkube-world-{}", std::process::id()))
}

fn say(text: &str) {
    // Nobody reads any more: the exit code still tells.
    drop(writeln!(std::io::stdout(), "{text}"));
}

fn main() -> anyhow::Result<ExitCode> {
    let wish = wish()?;
    let scratch = scratch();
    std::fs::create_dir_all(&scratch)?;
    let result = run(&wish, &scratch);
    drop(std::fs::remove_dir_all(&scratch));
    result
}

fn run(wish: &Wish, scratch: &Path) -> anyhow::Result<ExitCode> {
    let mut is_good = true;
    for plant in &wish.plants {
        let options = |keeps_trace| Options {
            plant: *plant,
            keeps_trace,
            scratch,
        };
        if let Some(seed) = wish.trace {
            // The kubelet's own log beside the trace, without the real time, which means nothing here.
            let log = tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .with_max_level(tracing::Level::INFO)
                .without_time();
            log.init();
            let verdict = run_seed(seed, &options(true))?;
            say(&verdict.trace);
            say(verdict.problem.as_deref().unwrap_or("all held"));
            is_good &= verdict.problem.is_none();
            continue;
        }
        is_good &= if *plant == plant::NONE {
            all_hold(wish, &options)?
        } else {
            is_found(wish, plant, &options(false))?
        };
    }
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn all_hold<'a>(wish: &Wish, options: &impl Fn(bool) -> Options<'a>) -> anyhow::Result<bool> {
    let begin = Instant::now();
    let mut faults: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut worlds, mut steps) = (0_u64, 0);
    let failed = many(
        wish.from,
        wish.seeds,
        &options(false),
        MOST_FAILURES,
        |verdict| {
            worlds += 1;
            steps += verdict.steps;
            if let Some(problem) = &verdict.problem {
                say(&format!("failing seed {}: {problem}", verdict.seed));
            }
            for (kind, count) in &verdict.faults {
                *faults.entry(kind).or_default() += count;
            }
        },
    )?;
    for verdict in &failed {
        // The same seed once more, with its trace.
        let again = run_seed(verdict.seed, &options(true))?;
        let lines: Vec<&str> = again.trace.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TRACE_TAIL)..];
        let problem = again
            .problem
            .as_deref()
            .unwrap_or("held when it was repeated");
        say(&format!(
            "{}\nseed {}: {problem}\n",
            tail.join("\n"),
            again.seed
        ));
    }
    let kinds: Vec<String> = faults
        .iter()
        .map(|(kind, n)| format!("{kind} {n}"))
        .collect();
    say(&format!("faults: {}", kinds.join(", ")));
    let seconds = begin.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let speed = worlds as f64 / seconds;
    say(&format!(
        "{worlds} seeds from {}, {steps} steps, {} failed, {seconds:.1} s, {speed:.1} seeds/s",
        wish.from,
        failed.len()
    ));
    Ok(failed.is_empty())
}

fn is_found(wish: &Wish, plant: &Plant, options: &Options<'_>) -> anyhow::Result<bool> {
    let failed = many(wish.from, plant::FOUND_WITHIN, options, 1, |_| ())?;
    match failed.iter().min_by_key(|verdict| verdict.seed) {
        Some(verdict) => {
            let problem = verdict.problem.as_deref().unwrap_or_default();
            let seed = verdict.seed;
            // It must be this bug that was found.
            let options = Options {
                plant: plant::NONE,
                ..*options
            };
            if let Some(own) = run_seed(seed, &options)?.problem {
                say(&format!(
                    "{}: seed {seed} fails without it, too: {own}",
                    plant.name
                ));
                return Ok(false);
            }
            say(&format!("{}: found at seed {seed}: {problem}", plant.name));
            Ok(true)
        }
        None => {
            let within = plant::FOUND_WITHIN;
            say(&format!("{}: NOT found within {within} seeds", plant.name));
            Ok(false)
        }
    }
}

/// Lives through many worlds on all processors; ends early at so many failures, which it returns in order.
fn many(
    from: u64,
    seeds: u64,
    options: &Options<'_>,
    most_failures: usize,
    mut each: impl FnMut(&Verdict),
) -> anyhow::Result<Vec<Verdict>> {
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failed = Vec::new();
    std::thread::scope(|scope| {
        let (verdicts_in, verdicts) = mpsc::channel();
        for _ in 0..threads {
            let (verdicts_in, next, enough) = (verdicts_in.clone(), &next, &enough);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds
                        || verdicts_in.send(run_seed(from + number, options)).is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(verdicts_in);
        for verdict in verdicts {
            let verdict = verdict.inspect_err(|_| enough.store(true, Ordering::Relaxed))?;
            each(&verdict);
            if verdict.problem.is_some() {
                failed.push(verdict);
                if failed.len() >= most_failures {
                    enough.store(true, Ordering::Relaxed);
                }
            }
        }
        anyhow::Ok(())
    })?;
    // Seeds are handed out in order, and every one that was handed out is lived through: these are the first that fail, whatever
    // the threads did.
    failed.sort_by_key(|verdict| verdict.seed);
    failed.truncate(most_failures);
    Ok(failed)
}
