//! The machine under attack: a private containerd, killed and started as a crash and a supervisor would.
//!
//! In:    `scripts/machine_env.sh`, the plan
//! Out:   places, images, the runtime
//! Calls: all scenarios
//! Holds: only the containerd in this run's own directory is ended, by the pid in its file
//! Upstream: none

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use rig::clock;
use rig::node::Node;
use rustix::process::{Pid, Signal, kill_process};

use crate::Plan;
use crate::runtime::Runtime;

/// The private containerd, and what this run is to do.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) node: Node,
    pub(crate) plan: Plan,
    pub(crate) image: String,
}

impl Machine {
    pub(crate) fn up(repository: &Path, plan: Plan) -> anyhow::Result<Self> {
        let node = Node::up(repository)?;
        Ok(Self {
            image: node.value("HK_BUSYBOX_IMAGE").to_owned(),
            node,
            plan,
        })
    }

    pub(crate) fn runtime(&self) -> anyhow::Result<Runtime> {
        Runtime::connect(self.node.value("HK_ENDPOINT"))
    }

    /// Ends containerd as a crash would; its pods go on.
    pub(crate) fn kill_containerd(&self) -> anyhow::Result<()> {
        let file = self.node.path("HK_DATA").join("containerd.pid");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let number: i32 = text.trim().parse()?;
        let name = fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
        if name.trim() != "containerd" {
            bail!("process {number} is not containerd but {name:?}");
        }
        let pid = Pid::from_raw(number).context("containerd's pid")?;
        kill_process(pid, Signal::KILL)?;
        clock::poll("containerd ends", 5, 10.0, || {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            Ok((stat.is_empty() || stat.contains(") Z ")).then_some(()))
        })
    }

    /// Starts containerd again, and waits for it.
    pub(crate) fn start_containerd(&self) -> anyhow::Result<()> {
        let script = self.node.repository().join("scripts/containerd.sh");
        let data = self.node.value("HK_DATA");
        let ended = Command::new(script).args(["start", data]).output()?;
        if !ended.status.success() {
            bail!("{}", String::from_utf8_lossy(&ended.stderr));
        }
        Ok(())
    }
}
