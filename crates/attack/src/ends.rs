//! Deletions that must complete, whatever happened to the pod meanwhile.
//!
//! In:    a node; a crash right after the order, and a pod whose traces somebody removed before the next start
//! Out:   rows: deletions that do not complete
//! Calls: main
//! Holds: only sandboxes, directories and mounts of the pods that were made here are removed
//! Upstream: test/e2e_node/unknown_pods_test.go, k/k#116925, k/k#118472

use std::fs;
use std::process::Command;

use rig::clock;
use rig::node::NODE_NAME;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::report::Report;
use crate::target::{LASTING, PODS, Target, asked, is_ready, pod, text};

/// How long an end may take, s.
const END_S: f64 = 30.0;

fn make(target: &Target<'_>, pod: &Value) -> anyhow::Result<String> {
    let path = format!("{PODS}/{}", text(pod, "/metadata/name"));
    asked(&mut target.api(), "POST", PODS, Some(pod))?;
    clock::poll(&format!("{path} is Ready"), 50, END_S, || {
        let shown = asked(&mut target.api(), "GET", &path, None)?;
        Ok(is_ready(&shown).then(|| text(&shown, "/metadata/uid").to_owned()))
    })
}

fn delete(target: &Target<'_>, name: &str, grace: u64) -> anyhow::Result<()> {
    let body = json!({"gracePeriodSeconds": grace});
    asked(
        &mut target.api(),
        "DELETE",
        &format!("{PODS}/{name}"),
        Some(&body),
    )
    .map(drop)
}

/// What is wrong when it does not go.
fn gone(target: &Target<'_>, name: &str, limit: f64) -> Option<String> {
    let path = format!("{PODS}/{name}");
    let begin = clock::now();
    let ended = clock::poll("its end", 50, limit, || {
        let answer = target.api().ask("GET", &path, None);
        Ok(answer.ok().filter(|(status, _)| *status == 404).map(drop))
    });
    ended.err().map(|_| {
        let shown = asked(&mut target.api(), "GET", &path, None).unwrap_or_default();
        format!(
            "{name} is there after {:.0} s, phase {}, containers {}",
            clock::now() - begin,
            text(&shown, "/status/phase"),
            shown["status"]["containerStatuses"]
        )
    })
}

/// Removes what the runtime and the disk have of a pod, as an administrator by hand would.
fn remove_traces(target: &Target<'_>, uid: &str) -> anyhow::Result<()> {
    target.machine.runtime()?.remove_pod(uid)?;
    let folder = target.places.root().join("pods").join(uid);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    for point in points.filter(|point| point.starts_with(&folder.display().to_string())) {
        let _gone = Command::new("umount").args(["-l", point]).status();
    }
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A crash between the order and its end, and then nothing is left of the pod.
fn after_crash(target: &mut Target<'_>, times: u64) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for number in 0..times {
        let name = format!("crash-{number}");
        let lasting = pod(&target.machine.image, &name, "Always", LASTING);
        let uid = make(target, &lasting)?;
        delete(target, &name, 5)?;
        // From before the first step to after the last one.
        clock::pause_ms(number * 80);
        target.kill()?;
        remove_traces(target, &uid)?;
        target.start()?;
        target.supervised(60.0)?;
        found.extend(gone(target, &name, END_S));
    }
    Ok(found)
}

pub(crate) fn run(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    let mut target = Target::running(machine, "ends")?;
    let times = if machine.plan.quick { 3 } else { 12 };
    let found = after_crash(&mut target, times)?;
    report.none("deletions that do not complete after a crash", &found);

    let mut bare = pod(&machine.image, "bare", "Always", LASTING);
    bare["metadata"]["labels"] = json!({});
    bare["spec"]["nodeName"] = json!(NODE_NAME);
    let found = match make(&target, &bare) {
        Ok(_) => {
            delete(&target, "bare", 1)?;
            gone(&target, "bare", END_S)
        }
        Err(error) => {
            delete(&target, "bare", 0)?;
            Some(format!("{error:#}"))
        }
    };
    report.none(
        "a pod with empty labels and a node's name",
        &Vec::from_iter(found),
    );

    let deaf = "trap \"\" TERM; while true; do sleep 1; done";
    let mut deaf = pod(&machine.image, "deaf", "Always", deaf);
    deaf["spec"]["terminationGracePeriodSeconds"] = json!(90);
    make(&target, &deaf)?;
    delete(&target, "deaf", 90)?;
    clock::pause_ms(1500);
    delete(&target, "deaf", 2)?;
    let found = gone(&target, "deaf", 15.0);
    report.none(
        "a grace of 90 s that 2 s take the place of",
        &Vec::from_iter(found),
    );
    Ok(())
}
