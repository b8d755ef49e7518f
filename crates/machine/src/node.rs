//! The private node: what `scripts/machine_env.sh` made, containerd's death and return, and the kernel's view of what is left.
//!
//! In:    `HK_…` variables
//! Out:   places, cgroup files, mounts; the time that tests wait by
//! Calls: kubelet, tests
//! Holds: only the private containerd is ever ended, by the pid in its file
//! Upstream: none

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// The environment.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) data: PathBuf,
    pub(crate) endpoint: String,
    pub(crate) cgroup_root: String,
    pub(crate) cgroup_v2: bool,
    pub(crate) pod_logs: PathBuf,
    pub(crate) web: String,
}

impl Node {
    pub(crate) fn here() -> Self {
        Self {
            data: variable("HK_DATA").into(),
            endpoint: variable("HK_ENDPOINT"),
            cgroup_root: variable("HK_CGROUP_ROOT"),
            cgroup_v2: variable("HK_CGROUP_VERSION") == "2",
            pod_logs: variable("HK_POD_LOGS").into(),
            web: variable("HK_WEB_IMAGE"),
        }
    }

    fn containerd_pid(&self) -> i32 {
        let pid = fs::read_to_string(self.data.join("containerd.pid")).unwrap();
        pid.trim().parse().unwrap()
    }

    pub(crate) fn containerd_runs(&self) -> bool {
        Path::new(&format!("/proc/{}", self.containerd_pid())).exists()
    }

    /// Ends containerd as a crash would; its pods go on.
    pub(crate) fn kill_containerd(&self) {
        let pid = self.containerd_pid();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let gone = format!("/proc/{pid}");
        until("containerd's end", Duration::from_secs(5), || {
            let stat = fs::read_to_string(format!("{gone}/stat")).unwrap_or_default();
            (!Path::new(&gone).exists() || stat.contains(") Z ")).then_some(())
        });
    }

    /// Starts containerd again, and waits for it.
    pub(crate) fn start_containerd(&self) {
        self.script("containerd.sh", "start");
    }

    /// Starts the process of a container that was only made, without its CRI part.
    pub(crate) fn start_task(&self, id: &str) {
        let started = Command::new("ctr")
            .args(["--address", self.endpoint.trim_start_matches("unix://")])
            .args(["-n", "k8s.io", "tasks", "start", "-d", "--null-io", id])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.success(), "ctr tasks start: {said}");
    }

    fn script(&self, script: &str, word: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../scripts")
            .join(script);
        let ended = Command::new(path)
            .arg(word)
            .arg(&self.data)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{script} {word}: {said}");
    }

    /// The directory of a cgroup (path below the node's root, `kubepods/…`) in one hierarchy of v1, or in v2's only one.
    pub(crate) fn cgroup(&self, controller: &str, path: &str) -> PathBuf {
        let mount = if self.cgroup_v2 {
            "/sys/fs/cgroup".to_owned()
        } else {
            format!("/sys/fs/cgroup/{controller}")
        };
        PathBuf::from(format!("{mount}{}/{path}", self.cgroup_root))
    }

    /// All cgroups of pods, in all hierarchies.
    pub(crate) fn pod_cgroups(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut found = Vec::new();
        for line in mounts.lines() {
            let mut words = line.split(' ').skip(1);
            let (mount, kind) = (words.next().unwrap(), words.next().unwrap());
            if kind.starts_with("cgroup") {
                let top = PathBuf::from(format!("{mount}{}/kubepods", self.cgroup_root));
                walk(&top, &mut found);
            }
        }
        found.retain(|path| path.to_string_lossy().contains("/pod"));
        found.retain(|path| !path.ends_with("kubepods") && !path.ends_with("besteffort"));
        found.retain(|path| !path.ends_with("burstable"));
        found
    }

    /// Mount points below a directory, newest first.
    pub(crate) fn mounts_below(directory: &Path) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = |line: &str| line.split(' ').nth(4).map(str::to_owned);
        let prefix = format!("{}/", directory.display());
        let mut found: Vec<String> = mounts.lines().filter_map(below).collect();
        found.retain(|point| point.starts_with(&prefix));
        found.reverse();
        found
    }

    /// Links in `/var/log/containers` that point below a directory: name → target.
    pub(crate) fn log_links(below: &Path) -> Vec<(String, PathBuf)> {
        let Ok(entries) = fs::read_dir("/var/log/containers") else {
            return Vec::new();
        };
        let mut links: Vec<(String, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let target = fs::read_link(entry.path()).ok()?;
                let name = entry.file_name().to_string_lossy().into_owned();
                target.starts_with(below).then_some((name, target))
            })
            .collect();
        links.sort();
        links
    }
}

/// Directories below `top`, deepest last.
fn walk(top: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(top) else {
        return;
    };
    found.push(top.to_owned());
    for entry in entries.flatten().filter(|e| e.path().is_dir()) {
        walk(&entry.path(), found);
    }
}

pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/test.sh machine"))
}

/// A limit, stretched on a machine that is known to be slow (an emulated one): `HYPERKUBE_PATIENCE` says how many times.
pub(crate) fn patient(limit: Duration) -> Duration {
    let times = std::env::var("HYPERKUBE_PATIENCE").map_or(1, |times| times.parse().unwrap());
    limit * times
}

/// Looks again and again until there is an answer; a test fails that waits longer than `limit`.
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = patient(limit);
    let began = Instant::now();
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} for {what}");
        pause(LOOK);
    }
}

/// Looks again and again until nothing is left to wait for; a test fails that waits longer than `limit`, naming what is.
pub(crate) fn settles(what: &str, limit: Duration, mut left: impl FnMut() -> Vec<String>) {
    let limit = patient(limit);
    let began = Instant::now();
    loop {
        let left = left();
        if left.is_empty() {
            return;
        }
        assert!(
            began.elapsed() < limit,
            "waited {limit:?} for {what}; left: {left:#?}"
        );
        pause(LOOK);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a real node is watched from outside: bounded looks, a little apart"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
