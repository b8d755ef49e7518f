//! A thousand pods on the stand-in runtime: what the kubelet itself costs when pods cost nothing.
//!
//! In:    the program `stand-in-runtime` of testkit
//! Out:   rows on start, memory, processor time
//! Calls: main, last of all phases
//! Holds: a root directory of its own; the pods' directories and cgroups are real, their processes are not
//! Upstream: none

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use crate::Plan;
use crate::clock;
use crate::figures::Table;
use crate::kubelet::Kubelet;
use crate::node::{KubeletPlaces, Node};
use crate::pods::{burst, clear};
use crate::process;

/// The stand-in runtime; ends with its owner.
#[derive(Debug)]
pub(crate) struct StandIn(Child);

impl Drop for StandIn {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

pub(crate) fn stand_in(node: &Node) -> anyhow::Result<(StandIn, String)> {
    let socket = node.path("HK_DATA").join("run/stand-in.sock");
    let program: PathBuf = std::env::current_exe()?.with_file_name("stand-in-runtime");
    let child = Command::new(&program)
        .arg(&socket)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let child = StandIn(child);
    clock::poll("the stand-in runtime listens", 5, 5.0, || {
        Ok(socket.exists().then_some(()))
    })?;
    Ok((child, format!("unix://{}", socket.display())))
}

/// Starts them, rests, ends them.
pub(crate) fn run(node: &Node, plan: &Plan, table: &mut Table) -> anyhow::Result<()> {
    let (_stand_in, endpoint) = stand_in(node)?;
    let places = KubeletPlaces {
        endpoint,
        folder: node.path("HK_DATA").join("scale"),
        max_pods: u32::try_from(plan.scale)? + 10,
    };
    let mut kubelet = Kubelet::start(node, &places)?;
    clock::pause_ms(1000);
    let (seconds, names) = burst(&mut kubelet, node.value("HK_BUSYBOX_IMAGE"), plan.scale)?;
    clock::pause_ms(8000);
    let memory = process::memory(kubelet.program.pid())?;
    let activity = process::activity(kubelet.program.pid(), plan.quiet_s / 2)?;
    let title = format!("{} pods on the stand-in runtime", plan.scale);
    table.note(
        &format!("{title}: manifests to all Ready"),
        format!("{seconds:.2} s"),
        "",
    );
    table.note(&format!("{title}: memory"), memory.text(), "");
    let value = format!(
        "{:.2} % of a core, {:.1} wake-ups/s",
        activity.cpu_percent, activity.wakeups
    );
    let quiet = format!("{title}: quiet, listed each second (no processes)");
    table.note(&quiet, value, "");
    let seconds = clear(&mut kubelet, &names)?;
    table.note(
        &format!("{title}: removed to gone from /pods"),
        format!("{seconds:.2} s"),
        "",
    );
    kubelet.program.stop()
}
