//! kill -9 of the node, of containerd, and of both, under churn.
//!
//! In:    a node with three pods that nobody touches, and churn beside them
//! Out:   rows: kills survived; 0 lost, 0 stuck, 0 false statuses, 0 left over
//! Calls: main
//! Holds: only the processes of this run are killed; a node that ends because it finds no runtime is started again, as a supervisor does; the seed of each scenario is fixed, so that a finding can be looked for again
//! Upstream: test/e2e_node/{restart_test,unknown_pods_test}.go (1.36)

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use rig::clock;
use rig::http::{Credential, Secure};
use serde_json::{Value, json};

use crate::churn::{Chance, Churn, Entry, Ledger, Write, counter};
use crate::invariants::{Findings, excuse_refused, look, statuses};
use crate::machine::Machine;
use crate::report::Report;
use crate::target::{ADMIN, LASTING, PODS, Target, asked, is_ready, items, pod, text};

/// How long everything may take to come to rest, s. A pod's cgroup that the runtime makes for a call whose kubelet is dead is removed at
/// the cgroup reconciler's second look that finds it empty, each a minute after the one before.
const SETTLES_S: f64 = 180.0;
/// How long a node may take to answer after its start, s.
const STARTS_S: f64 = 60.0;
const STEADY: [&str; 3] = ["steady-0", "steady-1", "steady-2"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Node,
    Runtime,
    Both,
}

pub(crate) fn node(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    run(machine, Victim::Node, machine.plan.kills, report)
}

pub(crate) fn runtime(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    run(machine, Victim::Runtime, share(machine, 30), report)
}

pub(crate) fn both(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    run(machine, Victim::Both, share(machine, 20), report)
}

fn share(machine: &Machine, percent: usize) -> usize {
    (machine.plan.kills * percent / 100).max(2)
}

/// What is known of a pod that nobody touches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Steady {
    container: String,
    restarts: i64,
    ready_since: String,
    ready: bool,
}

fn steady(pod: &Value) -> Steady {
    let status = statuses(pod).next().cloned().unwrap_or_default();
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|one| one["type"] == "Ready");
    Steady {
        container: text(&status, "/containerID").to_owned(),
        restarts: status["restartCount"].as_i64().unwrap_or(-1),
        ready_since: ready
            .map_or("", |one| text(one, "/lastTransitionTime"))
            .to_owned(),
        ready: is_ready(pod),
    }
}

fn all_steady(target: &Target<'_>) -> anyhow::Result<BTreeMap<String, Steady>> {
    let pods = items(&mut target.api(), PODS)?;
    let ours = pods
        .iter()
        .filter(|pod| STEADY.contains(&text(pod, "/metadata/name")));
    Ok(ours
        .map(|pod| (text(pod, "/metadata/name").to_owned(), steady(pod)))
        .collect())
}

/// Pods that nobody touches, Ready.
fn begin(target: &Target<'_>) -> anyhow::Result<(Ledger, BTreeMap<String, Steady>)> {
    let mut ledger = Ledger::default();
    let mut api = target.api();
    counter(&mut api)?;
    for name in STEADY {
        let made = pod(&target.machine.image, name, "Always", LASTING);
        let made = asked(&mut api, "POST", PODS, Some(&made))?;
        let entry = Entry {
            uid: text(&made, "/metadata/uid").to_owned(),
            made: Write::Acknowledged,
            deleted: Write::Never,
            touched: false,
            code: None,
            label: 0,
            tried: 0,
        };
        ledger.pods.insert(name.to_owned(), entry);
    }
    let first = clock::poll("the steady pods are Ready", 50, 60.0, || {
        let now = all_steady(target)?;
        let ready = now.values().filter(|one| one.ready).count();
        Ok((ready == STEADY.len()).then_some(now))
    })?;
    Ok((ledger, first))
}

/// What changed of the pods that nobody touches.
fn changes(
    before: &BTreeMap<String, Steady>,
    now: &BTreeMap<String, Steady>,
    found: &mut Vec<String>,
) {
    for (name, was) in before {
        match now.get(name) {
            Some(is) if is == was => {}
            is => {
                let finding = format!("{name} was {was:?}, is {is:?}");
                if !found.contains(&finding) {
                    found.push(finding);
                }
            }
        }
    }
}

/// Kills, and starts again.
fn strike(target: &mut Target<'_>, victim: Victim, chance: &mut Chance) -> anyhow::Result<()> {
    let machine = target.machine;
    match victim {
        Victim::Node => target.kill()?,
        Victim::Runtime => machine.kill_containerd()?,
        Victim::Both => {
            if chance.below(2) == 0 {
                target.kill()?;
                clock::pause_ms(chance.below(100));
                machine.kill_containerd()?;
            } else {
                machine.kill_containerd()?;
                clock::pause_ms(chance.below(100));
                target.kill()?;
            }
        }
    }
    if victim == Victim::Both && chance.below(2) == 0 {
        // The node first: it finds no runtime.
        target.start()?;
        clock::pause_ms(chance.below(500));
        machine.start_containerd()?;
    } else {
        if victim != Victim::Node {
            machine.start_containerd()?;
        }
        if victim != Victim::Runtime {
            target.start()?;
        }
    }
    target.supervised(STARTS_S)
}

fn run(machine: &Machine, victim: Victim, kills: usize, report: &mut Report) -> anyhow::Result<()> {
    let name = format!("kills-{victim:?}").to_lowercase();
    let mut target = Target::running(machine, &name)?;
    let (ledger, before) = begin(&target)?;
    let churn = Churn::new(&machine.image, ledger);
    let admin = Secure::client(&Credential::Token(ADMIN.to_owned()), &[])?;
    let port = target.ports.api;
    let (mut survived, mut flips) = (0, Vec::new());
    let outcome = std::thread::scope(|scope| {
        let worker = scope.spawn(|| churn.run(port, &admin, 0x5eed));
        let mut chance = Chance::new(0x9111 + kills as u64);
        let mut killing = || -> anyhow::Result<()> {
            clock::pause_ms(1000);
            while survived < kills {
                strike(&mut target, victim, &mut chance)
                    .with_context(|| format!("after kill {}", survived + 1))?;
                survived += 1;
                // A look may come while the API server is busy; the next one comes.
                if let Ok(now) = all_steady(&target) {
                    changes(&before, &now, &mut flips);
                }
                clock::pause_ms(50 + chance.below(1200));
            }
            Ok(())
        };
        let outcome = killing();
        churn.stop();
        if worker.join().is_err() {
            bail!("the churn panicked");
        }
        outcome
    });
    report.judge(
        "kills survived",
        format!("{survived} of {kills}"),
        &kills.to_string(),
        survived == kills,
    );
    outcome?;
    let ledger = churn.ledger();
    report.note(
        "churn",
        format!(
            "{} pods, {} writes acknowledged, {} without an answer",
            ledger.pods.len(),
            ledger.acknowledged,
            ledger.unanswered
        ),
    );
    let mut found = settle(&target, &ledger)?;
    excuse_refused(&target, &mut found)?;
    changes(&before, &all_steady(&target)?, &mut flips);
    report.none("steady pods that changed", &flips);
    report.none("lost", &found.lost);
    report.note(
        "starts that the runtime gave up when the node died",
        format!("{}: {}", found.cut.len(), found.cut.join("; ")),
    );
    report.none("stuck", &found.stuck);
    report.none("false statuses", &found.untrue);
    report.none("left over", &found.left);
    let (left, refused) = emptied(&target)?;
    report.none("left over after all is deleted", &left);
    found.refused.extend(refused);
    found.refused.sort();
    found.refused.dedup();
    report.note(
        "sandboxes that containerd refuses to remove before its restart",
        format!("{}: {}", found.refused.len(), found.refused.join("; ")),
    );
    Ok(())
}

/// Looks until nothing is found, or the time is over.
pub(crate) fn settle(target: &Target<'_>, ledger: &Ledger) -> anyhow::Result<Findings> {
    let until = clock::now() + SETTLES_S;
    loop {
        let found = look(target, ledger)?;
        if found.is_empty() || clock::now() > until {
            return Ok(found);
        }
        clock::pause_ms(500);
    }
}

/// Deletes everything; what does not go, and what containerd does not let go.
fn emptied(target: &Target<'_>) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let mut api = target.api();
    let grace = json!({"gracePeriodSeconds": 1});
    for pod in items(&mut api, PODS)? {
        let path = format!("{PODS}/{}", text(&pod, "/metadata/name"));
        asked(&mut api, "DELETE", &path, Some(&grace))?;
    }
    let none = Ledger {
        counter_tried: u64::MAX,
        ..Ledger::default()
    };
    let mut found = settle(target, &none)?;
    excuse_refused(target, &mut found)?;
    let mut all = found.stuck;
    all.extend(found.untrue);
    all.extend(found.left);
    Ok((all, found.refused))
}
