//! What must be true when the dust has settled.
//!
//! In:    the ledger of what was acknowledged; the API server's view, the kubelet's, the runtime's, the disk's and the kernel's
//! Out:   what was lost, what is stuck, which statuses are false, what is left over
//! Calls: kills, disk
//! Holds: each kind of finding names the object; nothing is counted that is still on its way (the caller asks again)
//! Upstream: none

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rig::http::Http;
use serde_json::Value;

use crate::churn::{COUNTER, Entry, Ledger, Write};
use crate::runtime::Held;
use crate::target::{PODS, Target, asked, items, text};

/// Findings by kind.
#[derive(Debug, Default, Clone)]
pub(crate) struct Findings {
    /// Acknowledged writes, containers that ended without cause, exit codes.
    pub(crate) lost: Vec<String>,
    /// Deletions that do not end, pods that do not reach their end.
    pub(crate) stuck: Vec<String>,
    /// The API server, the kubelet and the runtime do not say the same.
    pub(crate) untrue: Vec<String>,
    /// Starts that the runtime gave up because its caller died: what it says of them is told as it is, as upstream tells it.
    pub(crate) cut: Vec<String>,
    /// Sandboxes, directories, mounts, cgroups, links of pods that are no more; containers twice.
    pub(crate) left: Vec<String>,
    /// Stopped sandboxes that containerd itself refuses to remove before its own restart: see [`excuse_refused`].
    pub(crate) refused: Vec<String>,
}

impl Findings {
    pub(crate) fn is_empty(&self) -> bool {
        self.lost.is_empty()
            && self.stuck.is_empty()
            && self.untrue.is_empty()
            && self.left.is_empty()
    }
}

fn uid(pod: &Value) -> &str {
    text(pod, "/metadata/uid")
}

fn name(pod: &Value) -> &str {
    text(pod, "/metadata/name")
}

pub(crate) fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    let list = pod
        .pointer("/status/containerStatuses")
        .and_then(Value::as_array);
    list.into_iter().flatten()
}

/// One look at everything.
pub(crate) fn look(target: &Target<'_>, ledger: &Ledger) -> anyhow::Result<Findings> {
    let mut found = Findings::default();
    let api = items(&mut target.api(), PODS)?;
    let shown = items(&mut Http::new(target.ports.read_only), "/pods")?;
    let runtime = target.machine.runtime()?;
    let (sandboxes, containers) = (runtime.sandboxes()?, runtime.containers()?);
    let by_name: BTreeMap<&str, &Value> = api.iter().map(|pod| (name(pod), pod)).collect();

    for (name, entry) in &ledger.pods {
        ledger_entry(name, entry, by_name.get(name.as_str()).copied(), &mut found);
    }
    let counter = asked(&mut target.api(), "GET", COUNTER, None)?;
    let count: u64 = text(&counter, "/data/count").parse().unwrap_or(0);
    if count < ledger.counter || count > ledger.counter_tried {
        found.lost.push(format!(
            "the counter is {count}, acknowledged was {}, tried {}",
            ledger.counter, ledger.counter_tried
        ));
    }
    for pod in api
        .iter()
        .filter(|pod| !text(pod, "/metadata/deletionTimestamp").is_empty())
    {
        found.stuck.push(format!("{} is Terminating", name(pod)));
    }
    let held: BTreeMap<String, &Held> =
        containers.iter().map(|one| (one.id.clone(), one)).collect();
    for pod in &api {
        for status in statuses(pod) {
            if let Some(why) = untrue(status, &held, |id| runtime.exit_code(id)) {
                found.untrue.push(format!("API {}: {why}", name(pod)));
            }
        }
    }
    views(&api, &shown, &mut found);
    at_the_runtime(&api, &sandboxes, &containers, &mut found);
    let known: BTreeSet<&str> = api.iter().map(uid).collect();
    left_over(target, &known, &mut found);
    Ok(found)
}

/// Takes out of what is left what no caller can remove: a start whose caller died can leave containerd 1.6 with a container that it
/// takes for ended and whose task it takes for running. It says so when it is asked once more, and only then is it excused.
pub(crate) fn excuse_refused(target: &Target<'_>, found: &mut Findings) -> anyhow::Result<()> {
    let runtime = target.machine.runtime()?;
    let containers = runtime.containers()?;
    for (id, uid, is_ready) in runtime.sandboxes()? {
        let left = format!("sandbox {id} of {uid}");
        if is_ready || !found.left.contains(&left) || !runtime.refuses_to_remove(&id) {
            continue;
        }
        let of_pod = containers
            .iter()
            .filter(|one| one.uid == uid && !one.running);
        let held: BTreeSet<String> = of_pod.map(held_text).chain([left.clone()]).collect();
        found.left.retain(|finding| !held.contains(finding));
        found.refused.push(left);
    }
    Ok(())
}

fn held_text(one: &Held) -> String {
    format!("container {} of {}", one.id, one.pod)
}

/// A pod of the ledger against what the API server has.
fn ledger_entry(name: &str, entry: &Entry, pod: Option<&Value>, found: &mut Findings) {
    let Some(pod) = pod else {
        if entry.made == Write::Acknowledged && entry.deleted == Write::Never {
            found
                .lost
                .push(format!("pod {name} was acknowledged and is not there"));
        }
        return;
    };
    if entry.made == Write::Acknowledged && uid(pod) != entry.uid {
        found.lost.push(format!("pod {name} has another UID"));
    }
    let marked = !text(pod, "/metadata/deletionTimestamp").is_empty();
    if entry.deleted == Write::Acknowledged {
        if !marked {
            found.lost.push(format!(
                "the deletion of {name} was acknowledged and is forgotten"
            ));
        }
        return;
    }
    if marked && entry.deleted == Write::Never {
        found
            .lost
            .push(format!("{name} is being deleted though nobody asked"));
    }
    let label: u64 = text(pod, "/metadata/labels/churn").parse().unwrap_or(0);
    if label < entry.label || label > entry.tried {
        found.lost.push(format!(
            "the label of {name} is {label}, acknowledged was {}",
            entry.label
        ));
    }
    if !marked {
        life(name, entry, pod, found);
    }
}

/// Whether the runtime gave up this start because whoever asked for it died, or it did itself.
fn is_cut(end: Option<&Value>) -> bool {
    let end = end.unwrap_or(&Value::Null);
    let message = text(end, "/message");
    let code = end.pointer("/exitCode").and_then(Value::as_i64);
    let is_refused = text(end, "/reason") == "StartError"
        && (message.contains("context canceled") || message.contains("signal: killed"));
    // The runtime itself died: it lost the task, or ended it before it had told of its start.
    let is_lost = text(end, "/reason") == "Unknown" && code == Some(255);
    let never_told = text(end, "/startedAt").starts_with("1970-");
    is_refused || is_lost || never_told
}

/// Whether its container did what it was to do.
fn life(name: &str, entry: &Entry, pod: &Value, found: &mut Findings) {
    let phase = text(pod, "/status/phase");
    let status = statuses(pod).next();
    let part = |pointer: &str| status.and_then(|status| status.pointer(pointer));
    let ended = ["Succeeded", "Failed"].contains(&phase);
    let (what, right) = match entry.code {
        None if phase != "Running" => {
            found
                .stuck
                .push(format!("{name} is {phase}, {}", shown_state(pod, status)));
            return;
        }
        None => (
            "was restarted".to_owned(),
            part("/restartCount").and_then(Value::as_i64) == Some(0),
        ),
        Some(_) if !ended => {
            found
                .stuck
                .push(format!("{name} is {phase}, {}", shown_state(pod, status)));
            return;
        }
        Some(code) => {
            let wanted = if code == 0 { "Succeeded" } else { "Failed" };
            let got = part("/state/terminated/exitCode").and_then(Value::as_i64);
            let right = phase == wanted && got == Some(code);
            (format!("was to end with {code}, is {phase}"), right)
        }
    };
    if right {
        return;
    }
    let finding = format!("{name} {what}: {}", shown_state(pod, status));
    if is_cut(part("/state/terminated")) || is_cut(part("/lastState/terminated")) {
        found.cut.push(finding);
    } else {
        found.lost.push(finding);
    }
}

fn shown_state(pod: &Value, status: Option<&Value>) -> String {
    status.map_or_else(
        || {
            let part = |pointer| text(pod, pointer);
            let (reason, message) = (part("/status/reason"), part("/status/message"));
            format!("no container status, {reason} {message:?}")
        },
        |status| {
            format!(
                "{} restarts, state {}, last {}",
                status["restartCount"], status["state"], status["lastState"]
            )
        },
    )
}

/// A container status against the runtime.
fn untrue(
    status: &Value,
    held: &BTreeMap<String, &Held>,
    exit_code: impl Fn(&str) -> Option<i32>,
) -> Option<String> {
    let full = text(status, "/containerID");
    let id = full.rsplit_once("//").map_or(full, |(_, id)| id);
    let one = held.get(id);
    if status.pointer("/state/running").is_some() && !one.is_some_and(|one| one.running) {
        return Some(format!("running, but the runtime has {one:?}"));
    }
    let code = status
        .pointer("/state/terminated/exitCode")
        .and_then(Value::as_i64)?;
    let one = one?;
    if one.running {
        return Some(format!("terminated, but the runtime has {one:?}"));
    }
    let true_code = one.exited.then(|| exit_code(id)).flatten()?;
    (i64::from(true_code) != code)
        .then(|| format!("exit code {code}, the runtime says {true_code}"))
}

/// What the kubelet shows against what the API server has.
fn views(api: &[Value], shown: &[Value], found: &mut Findings) {
    let shown: BTreeMap<&str, &Value> = shown.iter().map(|pod| (uid(pod), pod)).collect();
    for pod in api {
        let Some(other) = shown.get(uid(pod)) else {
            found.untrue.push(format!("{} is not in /pods", name(pod)));
            continue;
        };
        if text(pod, "/status/phase") != text(other, "/status/phase") {
            found.untrue.push(format!(
                "{} is {} at the API server, {} in /pods",
                name(pod),
                text(pod, "/status/phase"),
                text(other, "/status/phase")
            ));
        }
        let states = |pod: &Value| -> Vec<String> {
            let one = |status: &Value| {
                format!(
                    "{} {} {}",
                    status["containerID"], status["restartCount"], status["ready"]
                )
            };
            statuses(pod).map(one).collect()
        };
        if states(pod) != states(other) {
            found.untrue.push(format!(
                "{}: containers {:?} at the API server, {:?} in /pods",
                name(pod),
                states(pod),
                states(other)
            ));
        }
    }
    let known: BTreeSet<&str> = api.iter().map(uid).collect();
    let extra = shown.values().filter(|pod| !known.contains(uid(pod)));
    found
        .untrue
        .extend(extra.map(|pod| format!("{} is in /pods and not at the API server", name(pod))));
}

fn at_the_runtime(
    api: &[Value],
    sandboxes: &[(String, String, bool)],
    containers: &[Held],
    found: &mut Findings,
) {
    let by_uid: BTreeMap<&str, &Value> = api.iter().map(|pod| (uid(pod), pod)).collect();
    let mut ready: BTreeMap<&str, usize> = BTreeMap::new();
    for (id, uid, is_ready) in sandboxes {
        if !by_uid.contains_key(uid.as_str()) {
            found.left.push(format!("sandbox {id} of {uid}"));
        }
        *ready.entry(uid).or_default() += usize::from(*is_ready);
    }
    for (uid, pod) in &by_uid {
        let count = ready.get(uid).copied().unwrap_or(0);
        let wanted = usize::from(text(pod, "/status/phase") == "Running");
        if count != wanted {
            found.left.push(format!(
                "{} has {count} ready sandboxes, wanted {wanted}",
                name(pod)
            ));
        }
    }
    let mut attempts: BTreeSet<(&str, &str, u32)> = BTreeSet::new();
    let mut running: BTreeSet<(&str, &str)> = BTreeSet::new();
    for one in containers {
        if !attempts.insert((&one.uid, &one.name, one.attempt)) {
            found.left.push(format!(
                "two containers {}/{} of attempt {}",
                one.pod, one.name, one.attempt
            ));
        }
        if one.running && !running.insert((&one.uid, &one.name)) {
            found
                .left
                .push(format!("two running containers {}/{}", one.pod, one.name));
        }
        if !by_uid.contains_key(one.uid.as_str()) {
            found.left.push(held_text(one));
        }
    }
}

/// Names in a directory.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Directories, mounts, cgroups and links of pods that the API server does not know.
fn left_over(target: &Target<'_>, known: &BTreeSet<&str>, found: &mut Findings) {
    let pods = target.places.root().join("pods");
    for name in names_in(&pods) {
        if !known.contains(name.as_str()) {
            found.left.push(format!("directory pods/{name}"));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let prefix = format!("{}/", pods.display());
    for line in mounts.lines() {
        let point = line.split(' ').nth(4).unwrap_or_default();
        if let Some(rest) = point.strip_prefix(&prefix) {
            let owner = rest.split('/').next().unwrap_or_default();
            if !known.contains(owner) {
                found.left.push(format!("mount {point}"));
            }
        }
    }
    let is_known = |text: &str| known.iter().any(|uid| text.contains(uid));
    for name in names_in(&target.places.folder.join("logs")) {
        if !is_known(&name) {
            found.left.push(format!("log directory {name}"));
        }
    }
    let logs = target.places.folder.join("logs");
    for name in names_in(Path::new("/var/log/containers")) {
        let link = Path::new("/var/log/containers").join(&name);
        let points = fs::read_link(link).unwrap_or_default();
        if points.starts_with(&logs) && !is_known(&points.to_string_lossy()) {
            found.left.push(format!("link {name}"));
        }
    }
    for cgroup in cgroups(target.machine.node.value("HK_CGROUP_ROOT")) {
        let path = cgroup.display().to_string();
        if !is_known(&path) {
            found.left.push(format!("cgroup {path}"));
        }
    }
}

/// All cgroups of pods, in all hierarchies.
fn cgroups(root: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(mount), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        if kind.starts_with("cgroup") {
            let top = PathBuf::from(format!("{mount}{root}/kubepods"));
            let classes = [top.clone(), top.join("besteffort"), top.join("burstable")];
            for class in classes {
                let of_pods = names_in(&class)
                    .into_iter()
                    .filter(|name| name.strip_prefix("pod").is_some_and(|uid| uid.len() > 8));
                found.extend(of_pods.map(|name| class.join(name)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(code: Option<i64>) -> Entry {
        Entry {
            uid: "u".to_owned(),
            made: Write::Acknowledged,
            deleted: Write::Never,
            touched: true,
            code,
            label: 4,
            tried: 5,
        }
    }

    fn pod(phase: &str, label: &str, state: &Value, restarts: u64) -> Value {
        json!({
            "metadata": {"name": "p", "uid": "u", "labels": {"churn": label}},
            "status": {"phase": phase, "containerStatuses": [
                {"state": state, "restartCount": restarts, "containerID": "containerd://c"},
            ]},
        })
    }

    fn held(running: bool) -> Held {
        Held {
            id: "c".to_owned(),
            uid: "u".to_owned(),
            pod: "p".to_owned(),
            name: "main".to_owned(),
            attempt: 0,
            running,
            exited: !running,
        }
    }

    /// Lost, stuck and cut findings of one entry.
    fn found(entry: &Entry, pod: Option<&Value>) -> (usize, usize, usize) {
        let mut found = Findings::default();
        ledger_entry("p", entry, pod, &mut found);
        (found.lost.len(), found.stuck.len(), found.cut.len())
    }

    #[test]
    fn what_was_acknowledged_is_missed() {
        let runs = json!({"running": {}});
        let lasting = entry(None);
        assert_eq!(
            found(&lasting, Some(&pod("Running", "4", &runs, 0))),
            (0, 0, 0)
        );
        assert_eq!(
            found(&lasting, Some(&pod("Running", "5", &runs, 0))),
            (0, 0, 0)
        );
        assert_eq!(
            found(&lasting, Some(&pod("Running", "3", &runs, 0))),
            (1, 0, 0)
        );
        assert_eq!(
            found(&lasting, Some(&pod("Running", "4", &runs, 1))),
            (1, 0, 0)
        );
        assert_eq!(
            found(&lasting, Some(&pod("Pending", "4", &runs, 0))),
            (0, 1, 0)
        );
        assert_eq!(found(&lasting, None), (1, 0, 0));
        let mut marked = pod("Running", "4", &runs, 0);
        marked["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(found(&lasting, Some(&marked)), (1, 0, 0));
        let deleted = Entry {
            deleted: Write::Acknowledged,
            ..entry(None)
        };
        assert_eq!(found(&deleted, None), (0, 0, 0));
        assert_eq!(
            found(&deleted, Some(&pod("Running", "4", &runs, 0))),
            (1, 0, 0)
        );
    }

    #[test]
    fn an_exit_code_that_is_another_one_is_lost_unless_the_start_was_cut() {
        let ends = entry(Some(3));
        let ended = |code: i64| json!({"terminated": {"exitCode": code}});
        assert_eq!(
            found(&ends, Some(&pod("Failed", "4", &ended(3), 0))),
            (0, 0, 0)
        );
        assert_eq!(
            found(&ends, Some(&pod("Failed", "4", &ended(137), 0))),
            (1, 0, 0)
        );
        assert_eq!(
            found(&ends, Some(&pod("Succeeded", "4", &ended(0), 0))),
            (1, 0, 0)
        );
        assert_eq!(
            found(
                &ends,
                Some(&pod("Running", "4", &json!({"running": {}}), 0))
            ),
            (0, 1, 0)
        );
        let cut = json!({"terminated": {
            "exitCode": 128, "reason": "StartError", "message": "failed to create shim task: context canceled: unknown",
        }});
        assert_eq!(found(&ends, Some(&pod("Failed", "4", &cut, 0))), (0, 0, 1));
    }

    #[test]
    fn a_status_is_held_against_the_runtime() {
        let says = |state: Value, one: Option<Held>, code: i32| {
            let held: BTreeMap<String, &Held> =
                one.iter().map(|one| (one.id.clone(), one)).collect();
            let status = json!({"state": state, "containerID": "containerd://c"});
            untrue(&status, &held, |_| Some(code)).is_some()
        };
        let runs = || json!({"running": {}});
        let ended = || json!({"terminated": {"exitCode": 3}});
        assert!(!says(runs(), Some(held(true)), 0));
        assert!(says(runs(), Some(held(false)), 0));
        assert!(says(runs(), None, 0));
        assert!(!says(ended(), Some(held(false)), 3));
        assert!(says(ended(), Some(held(false)), 4));
        assert!(says(ended(), Some(held(true)), 3));
        assert!(!says(ended(), None, 3));
    }
}
