//! No room under the API server's store, and room again.
//!
//! In:    a node whose API server lies on a small file system
//! Out:   rows: what was acknowledged is there, reads went on, the pod ran on, writes came back without a restart
//! Calls: main
//! Holds: the file system is a tmpfs of its own, unmounted at the end
//! Upstream: none

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;
use rig::clock;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::report::Report;
use crate::runtime::Held;
use crate::target::{LASTING, PODS, Target, asked, is_ready, json_body, pod, text};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long writes may take to come back, s.
const BACK_S: f64 = 60.0;

/// A mounted tmpfs.
#[derive(Debug)]
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(at)?;
        let options = ["-t", "tmpfs", "-o", "size=16m,mode=0700", "attack"];
        let ended = Command::new("mount").args(options).arg(at).status()?;
        if !ended.success() {
            bail!("no tmpfs at {}: {ended}", at.display());
        }
        Ok(Self(at.to_owned()))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Takes all the room that is left.
    fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())?;
        for size in [1 << 16, 1 << 12, 1] {
            let block = vec![b'x'; size];
            while file.write_all(&block).is_ok() {}
        }
        Ok(())
    }

    fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a node that hangs may still hold it.
        let _ended = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Makes config maps until one is refused, `at_most` of them; the names of the acknowledged ones, and the refusal.
fn write(target: &Target<'_>, from: usize, at_most: usize) -> (Vec<String>, Option<String>) {
    let mut made = Vec::new();
    for number in from..from + at_most {
        let name = format!("filler-{number}");
        let object = json!({"metadata": {"name": name}, "data": {"ballast": "b".repeat(20_000)}})
            .to_string();
        match target
            .api()
            .ask("POST", CONFIG_MAPS, Some(json_body(object.as_bytes())))
        {
            Ok((201, _)) => made.push(name),
            Ok((status, _)) => return (made, Some(status.to_string())),
            Err(error) => return (made, Some(format!("no answer: {error}"))),
        }
    }
    (made, None)
}

fn running(machine: &Machine) -> anyhow::Result<Vec<String>> {
    let containers = machine.runtime()?.containers()?;
    let of_user = |one: Held| (one.pod == "user" && one.running).then_some(one.id);
    Ok(containers.into_iter().filter_map(of_user).collect())
}

/// Those of these names that are not there.
fn missing(target: &Target<'_>, names: &[String]) -> anyhow::Result<Vec<String>> {
    let list = asked(&mut target.api(), "GET", CONFIG_MAPS, None)?;
    let items: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
    let there = |name: &&String| {
        items
            .iter()
            .any(|one| text(one, "/metadata/name") == **name)
    };
    Ok(names.iter().filter(|name| !there(name)).cloned().collect())
}

/// Writes that come back; how long that took.
fn back(target: &mut Target<'_>, number: usize, made: &mut Vec<String>) -> anyhow::Result<f64> {
    let begin = clock::now();
    clock::poll("writes come back", 200, BACK_S, || {
        target.check()?;
        let (new, _) = write(target, number, 1);
        made.extend(new.iter().cloned());
        Ok((!new.is_empty()).then_some(()))
    })?;
    Ok(clock::now() - begin)
}

#[expect(clippy::too_many_lines, reason = "one scene after the other")]
pub(crate) fn run(machine: &Machine, report: &mut Report) -> anyhow::Result<()> {
    let folder = machine.node.path("HK_DATA").join("disk-store");
    let small = Small::mount(&folder.join("apiserver"))?;
    // Ended before the file system goes: declared after it.
    let mut target = Target::running(machine, "disk-store")?;
    let user = pod(&machine.image, "user", "Always", LASTING);
    asked(&mut target.api(), "POST", PODS, Some(&user))?;
    clock::poll("the pod is Ready", 50, 30.0, || {
        let shown = asked(&mut target.api(), "GET", &format!("{PODS}/user"), None)?;
        Ok(is_ready(&shown).then_some(()))
    })?;
    let before = running(machine)?;

    small.fill()?;
    let (mut made, refused) = write(&target, 0, 1000);
    report.judge(
        "a write without room",
        format!(
            "{} acknowledged, then {}",
            made.len(),
            refused.clone().unwrap_or_default()
        ),
        "refused with 500 or 507",
        refused
            .as_ref()
            .is_some_and(|code| ["500", "503", "507"].contains(&code.as_str())),
    );
    // The kubelet's own writes (lease, status) fail meanwhile.
    clock::pause_ms(if machine.plan.quick { 3000 } else { 15_000 });
    let alive = target.check();
    report.judge(
        "the process without room",
        format!("{:?}", alive.as_ref().err()),
        "lives",
        alive.is_ok(),
    );
    let lost = missing(&target, &made);
    report.judge(
        "reads without room",
        format!("{lost:?}"),
        "go on, and have all that was acknowledged",
        lost.is_ok_and(|lost| lost.is_empty()),
    );
    small.free()?;
    match back(&mut target, 2000, &mut made) {
        Ok(seconds) => report.judge(
            "writes with room again",
            format!("after {seconds:.1} s"),
            "within 60 s, without a restart",
            true,
        ),
        Err(error) => {
            report.miss(
                "writes with room again",
                format!("{error:#}"),
                "within 60 s, without a restart",
            );
            target.kill()?;
            target.start()?;
            target.ready(60.0)?;
        }
    }

    // The same with a crash while there is no room.
    small.fill()?;
    let (more, _) = write(&target, 3000, 1000);
    made.extend(more);
    target.kill()?;
    target.start()?;
    clock::pause_ms(3000);
    let ended = target.check().is_err();
    report.note(
        "a start without room",
        if ended { "ends, and says so" } else { "stays" },
    );
    small.free()?;
    if ended {
        target.start()?;
    }
    let started = target
        .ready(60.0)
        .and_then(|()| back(&mut target, 5000, &mut made));
    match started {
        Ok(seconds) => report.judge(
            "after a crash without room",
            format!("writes after {seconds:.1} s"),
            "works with room again",
            true,
        ),
        Err(error) => report.miss(
            "after a crash without room",
            format!("{error:#}"),
            "works with room again",
        ),
    }
    report.none(
        "acknowledged objects that are lost",
        &missing(&target, &made)?,
    );
    let after = running(machine)?;
    report.judge(
        "the pod meanwhile",
        format!("{before:?}, then {after:?}"),
        "the same container runs",
        before == after && !after.is_empty(),
    );
    let bound = "Ready and gone, within 30 s each";
    match target.runs_a_pod("after", 30.0) {
        Ok((ready, gone)) => report.judge(
            "a pod afterwards",
            format!("Ready after {ready:.1} s, gone after {gone:.1} s"),
            bound,
            true,
        ),
        Err(error) => report.miss("a pod afterwards", format!("{error:#}"), bound),
    }
    Ok(())
}
