//! One pod on the bare runtime, on the node's network and on the same with the bridge plugin's own masquerading, by turns.
//!
//! In:    the floor with a recording, the network configuration of the private containerd
//! Out:   rows of the table: start and end, both networks
//! Calls: main
//! Holds: the two alternate; a sample counts only when the kernel's rules show that the pod had the network it is counted for; the
//!        node's own configuration is in place again at the end
//! Upstream: none

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::Plan;
use crate::clock;
use crate::figures::{Samples, Table};
use crate::floor::{Floor, Times};
use crate::node::Node;
use crate::recording::Recording;

const OURS: &str = "\"ipMasq\": false";
const PLUGINS: &str = "\"ipMasq\": true";
/// The runtime reads a changed configuration when the kernel tells it; so many pods may still get the old one.
const TRIES: u32 = 20;

/// Rules that the bridge plugin makes for single pods of this network.
fn rules_of_pods(comment: &str) -> anyhow::Result<usize> {
    let saved = Command::new("iptables-save")
        .args(["-t", "nat"])
        .output()
        .context("iptables-save")?;
    ensure!(saved.status.success(), "iptables-save: {}", saved.status);
    let text = String::from_utf8_lossy(&saved.stdout);
    // The port mapper's chains of a pod bear another name; those of masquerading are `CNI-` and a hash.
    let is_one = |line: &&str| line.contains(comment) && line.contains("-j CNI-");
    Ok(text.lines().filter(is_one).count())
}

/// The configuration, put back when this goes.
struct Network {
    file: PathBuf,
    own: String,
    comment: String,
}

impl Network {
    fn of(node: &Node) -> anyhow::Result<Self> {
        let file = node.path("HK_DATA").join("cni/net.d/10-hyperkube.conflist");
        let own = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        ensure!(own.contains(OURS), "{} lacks {OURS}", file.display());
        let name = node.value("HK_BRIDGE").trim_start_matches("hk-");
        let comment = format!("name: \\\"hyperkube-{name}\\\" id:");
        Ok(Self { file, own, comment })
    }

    /// Writes the other form, in one step.
    fn set(&self, masquerades: bool) -> anyhow::Result<()> {
        let text = if masquerades {
            self.own.replace(OURS, PLUGINS)
        } else {
            self.own.clone()
        };
        replace(&self.file, &text)
    }

    /// One pod that surely has the wished network.
    fn pod(
        &self,
        floor: &mut Floor,
        recording: &Recording,
        masquerades: bool,
    ) -> anyhow::Result<Times> {
        self.set(masquerades)?;
        for _ in 0..TRIES {
            let mut rules = Ok(0);
            let times = floor.run_looking(recording, 1, 1, || {
                rules = rules_of_pods(&self.comment);
            })?;
            if (rules? > 0) == masquerades {
                return Ok(times);
            }
        }
        bail!("the runtime does not take up {}", self.file.display())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = self.set(false) {
            crate::say(&format!("{}: {error}", self.file.display()));
        }
    }
}

fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    fs::write(&beside, text).with_context(|| beside.display().to_string())?;
    fs::rename(&beside, file).with_context(|| file.display().to_string())
}

/// Compares the two.
pub(crate) fn compare(
    node: &Node,
    floor: &mut Floor,
    recording: &Recording,
    plan: &Plan,
    table: &mut Table,
) -> anyhow::Result<()> {
    let network = Network::of(node)?;
    let mut starts = [Samples::default(), Samples::default()];
    let mut ends = [Samples::default(), Samples::default()];
    for _ in 0..plan.single_rounds {
        for (masquerades, (start, end)) in [false, true]
            .into_iter()
            .zip(starts.iter_mut().zip(&mut ends))
        {
            let times = network.pod(floor, recording, masquerades)?;
            start.push(times.start * 1000.0);
            end.push(times.end * 1000.0);
            clock::pause_ms(100);
        }
    }
    for (what, [ours, plugins]) in [("start", &starts), ("end", &ends)] {
        table.note(
            &format!("network: {what} of one pod on the bare runtime, one rule for all pods"),
            format!(
                "{}; {:+.1} ms",
                ours.spread("ms"),
                ours.median() - plugins.median()
            ),
            format!("{} with ipMasq", plugins.spread("ms")),
        );
    }
    Ok(())
}
