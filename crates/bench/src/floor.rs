//! The floor: the kubelet's own requests sent straight to the runtime, with nothing in between.
//!
//! In:    a [`Recording`], a width
//! Out:   seconds per start and per end, alone and for many at once
//! Calls: phase pods
//! Holds: only calls that change something are sent (no reads, no image check), so the floor flatters nobody but the floor; directories,
//!        files and cgroups are made before the clock starts and removed after it stopped
//! Upstream: none

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::try_join_all;
use kubelet_cri::{Client, Metrics, Timeouts};
use tokio::runtime::Runtime;

use crate::clock;
use crate::node::Node;
use crate::recording::{End, Recording, Replay};

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Floor {
    executor: Runtime,
    client: Client,
    /// The node's own cgroup in every hierarchy.
    cgroup_roots: Vec<PathBuf>,
    next: u32,
}

/// A pod that runs outside of any kubelet.
#[derive(Debug)]
struct Started {
    sandbox: String,
    containers: Vec<String>,
}

/// Seconds of a replayed start and end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start: f64,
    pub(crate) end: f64,
}

async fn start(client: &Client, replay: Replay) -> anyhow::Result<Started> {
    let sandbox = client.run_pod_sandbox(replay.sandbox).await?;
    let mut containers = Vec::new();
    for mut request in replay.containers {
        request.pod_sandbox_id.clone_from(&sandbox);
        let container = client.create_container(request).await?;
        client.start_container(&container).await?;
        containers.push(container);
    }
    Ok(Started {
        sandbox,
        containers,
    })
}

async fn end(client: &Client, pod: &Started, how: End) -> anyhow::Result<()> {
    let stops = pod.containers.iter();
    try_join_all(stops.map(|container| client.stop_container(container, how.grace))).await?;
    client.stop_pod_sandbox(&pod.sandbox).await?;
    if how.removes_containers {
        for container in &pod.containers {
            client.remove_container(container).await?;
        }
    }
    Ok(client.remove_pod_sandbox(&pod.sandbox).await?)
}

/// The mount points of all cgroup hierarchies with controllers.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let two = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let kind = if two { "cgroup2" } else { "cgroup" };
    let words = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    words
        .filter(|words| words.get(2) == Some(&kind))
        .filter_map(|words| words.get(1).map(PathBuf::from))
        .collect()
}

/// Makes a v1 cpuset usable: a new one is empty and takes no process.
fn inherit_cpuset(folder: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let above = folder.parent().map(|parent| parent.join(file));
        if let Some(Ok(value)) = above.map(fs::read_to_string) {
            // Not a cpuset hierarchy, or filled already: nothing to do.
            let _written = fs::write(folder.join(file), value.trim());
        }
    }
}

impl Floor {
    pub(crate) fn new(node: &Node) -> anyhow::Result<Self> {
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let timeouts = Timeouts {
            request: Duration::from_secs(120),
        };
        let metrics = Metrics::new(&prometheus::Registry::new())?;
        let client = {
            let _entered = executor.enter();
            Client::connect(node.value("HK_ENDPOINT"), None, timeouts, metrics)?
        };
        Ok(Self {
            executor,
            client,
            cgroup_roots: hierarchies(),
            next: 1,
        })
    }

    /// The runtime, for looks.
    pub(crate) fn ask<T, F: Future<Output = T>>(&self, call: impl FnOnce(Client) -> F) -> T {
        self.executor.block_on(call(self.client.clone()))
    }

    fn cgroups(&self, replay: &Replay) -> Vec<PathBuf> {
        let config = replay.sandbox.config.as_ref();
        let parent = config
            .and_then(|config| config.linux.as_ref())
            .map(|linux| linux.cgroup_parent.as_str());
        let parent = parent.unwrap_or_default().trim_start_matches('/');
        self.cgroup_roots
            .iter()
            .filter(|_| !parent.is_empty())
            .map(|root| root.join(parent))
            .collect()
    }

    fn prepare(&self, replay: &Replay) -> anyhow::Result<()> {
        for cgroup in self.cgroups(replay) {
            fs::create_dir_all(&cgroup)?;
            inherit_cpuset(&cgroup);
        }
        let config = replay.sandbox.config.as_ref();
        let logs = PathBuf::from(
            config
                .map(|config| config.log_directory.clone())
                .unwrap_or_default(),
        );
        for container in &replay.containers {
            let log = container.config.as_ref().map(|config| &config.log_path);
            let log = log.map_or_else(|| logs.clone(), |path| logs.join(path));
            fs::create_dir_all(log.parent().unwrap_or(&logs))?;
        }
        for (path, content) in &replay.mounts {
            match content {
                Some(bytes) => {
                    fs::create_dir_all(path.parent().unwrap_or(path))?;
                    fs::write(path, bytes)?;
                }
                None => fs::create_dir_all(path)?,
            }
        }
        Ok(())
    }

    /// Starts so many pods, `width` at a time, and ends them again; seconds for all.
    pub(crate) fn run(
        &mut self,
        recording: &Recording,
        count: u32,
        width: usize,
    ) -> anyhow::Result<Times> {
        self.run_looking(recording, count, width, || {})
    }

    /// The same, with a look between start and end that costs neither of them.
    pub(crate) fn run_looking(
        &mut self,
        recording: &Recording,
        count: u32,
        width: usize,
        look: impl FnOnce(),
    ) -> anyhow::Result<Times> {
        let mut replays = Vec::new();
        let mut traces = Vec::new();
        for number in self.next..self.next + count {
            let replay = recording.replay(number)?;
            self.prepare(&replay)?;
            let logs = replay
                .sandbox
                .config
                .as_ref()
                .map(|config| config.log_directory.clone());
            traces.push((
                self.cgroups(&replay),
                logs.unwrap_or_default(),
                replay.folder.clone(),
            ));
            replays.push(replay);
        }
        self.next += count;
        let client = &self.client;
        let begin = clock::now();
        let started = self
            .executor
            .block_on(shared(replays, width, |replay| start(client, replay)))?;
        let running = clock::now();
        look();
        let ending = clock::now();
        let ended = self
            .executor
            .block_on(shared(started, width, |pod| async move {
                end(client, &pod, recording.end).await
            }));
        let times = Times {
            start: running - begin,
            end: clock::now() - ending,
        };
        ended?;
        for (cgroups, logs, folder) in traces {
            for cgroup in cgroups {
                // The runtime may still hold it for a moment; the end of the run removes what is left.
                let _removed = fs::remove_dir(cgroup);
            }
            let _removed = fs::remove_dir_all(logs);
            if let Some(folder) = folder {
                let _removed = fs::remove_dir_all(folder);
            }
        }
        Ok(times)
    }
}

/// Works off a queue with so many workers.
async fn shared<I, O, F: Future<Output = anyhow::Result<O>>>(
    items: Vec<I>,
    width: usize,
    work: impl Fn(I) -> F,
) -> anyhow::Result<Vec<O>> {
    let queue = std::cell::RefCell::new(items.into_iter());
    let workers = (0..width).map(|_| async {
        let mut done = Vec::new();
        loop {
            let next = queue.borrow_mut().next();
            let Some(item) = next else {
                return anyhow::Ok(done);
            };
            done.push(work(item).await?);
        }
    });
    Ok(try_join_all(workers).await?.into_iter().flatten().collect())
}
