//! Tests of the sources on real directories with real inotify, and against an HTTP server on loopback.
//!
//! Each waits for sets on the channel, never for time.
//!
//! Upstream: pkg/kubelet/config/file_linux_test.go, http_test.go

mod directory;
mod faults;
mod https;
mod url;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kubelet_host::journal::{Journal, JournalLimits};

use super::*;

const LONG: Duration = Duration::from_secs(3600);

fn bench() -> Taker {
    Taker {
        node_name: "bench".to_owned(),
        gates: PodGates::default(),
    }
}

/// A machine's root in a directory, with a journal.
struct Machine {
    dir: PathBuf,
    roots: SystemRoots,
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// A kubelet's sources on it; dropped as a crash would end them.
struct Running {
    snapshots: mpsc::Receiver<SourceSnapshot>,
    handle: SourcesHandle,
    supervisor: Supervisor,
    registry: Registry,
    records: Records,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.supervisor.abort_all();
    }
}

impl Machine {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hyperkube-sources-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(dir.join("etc/kubernetes/manifests")).unwrap();
        Self {
            dir,
            roots: SystemRoots::default(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join("etc/kubernetes/manifests").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.at(name), content).unwrap();
    }

    /// Starts the source of the manifest directory.
    fn start(&self) -> Running {
        self.start_at("/etc/kubernetes/manifests", LONG)
    }

    fn start_at(&self, path: &str, check_every: Duration) -> Running {
        self.start_with(SourcesConfig {
            taker: bench(),
            file: Some(FileSourceConfig {
                path: path.to_owned(),
                check_every,
            }),
            url: None,
        })
    }

    fn start_with(&self, config: SourcesConfig) -> Running {
        let journal = self.dir.join("journal");
        let (journal, _) = Journal::open(&journal, JournalLimits::default()).unwrap();
        let records = Records::new(journal);
        let clock = Clock::system();
        let (sender, snapshots) = mpsc::channel(50);
        let supervisor = Supervisor::new(clock);
        let registry = Registry::new();
        let parts = SourcesParts {
            records: records.clone(),
            clock,
            root: HostRoot::at(&self.dir),
            blocking: Blocking::threads(2),
            roots: self.roots.clone(),
            sender,
        };
        let handle = start(config, parts, &registry, &supervisor).unwrap();
        Running {
            snapshots,
            handle,
            supervisor,
            registry,
            records,
        }
    }
}

impl Running {
    /// Ends it as a crash would, and waits until the journal is free.
    async fn crash(self) {
        drop(self);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    /// The next set.
    async fn next(&mut self) -> Vec<Arc<Pod>> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.snapshots.recv());
        next.await
            .expect("a set comes")
            .expect("a source runs")
            .pods
    }

    async fn next_names(&mut self) -> Vec<String> {
        names(&self.next().await)
    }

    /// Reads sets until one has these pods.
    async fn until(&mut self, wanted: &[&str]) -> Vec<Arc<Pod>> {
        loop {
            let pods = self.next().await;
            if names(&pods) == wanted {
                return pods;
            }
        }
    }

    async fn until_images(&mut self, wanted: &[&str]) -> Vec<Arc<Pod>> {
        loop {
            let pods = self.next().await;
            if images(&pods) == wanted {
                return pods;
            }
        }
    }

    /// Waits until the one source's report fits.
    async fn report(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        let report = &mut self.handle.reports[0];
        let wait = report.wait_for(|report| fits(&report.to_json()));
        let report = tokio::time::timeout(Duration::from_secs(20), wait).await;
        report.expect("the report comes").unwrap().to_json()
    }

    async fn problem(&mut self) -> Value {
        let has_one = |report: &Value| !report["problems"].as_array().unwrap().is_empty();
        let report = self.report(has_one).await;
        report["problems"][0].clone()
    }

    async fn no_problem(&mut self) {
        self.report(|report| report["problems"].as_array().unwrap().is_empty())
            .await;
    }

    fn gauge(&self) -> String {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather());
        let text = text.unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("hyperkube_source"));
        line.unwrap_or_default().to_owned()
    }

    /// Has nothing more to say.
    fn is_quiet(&mut self) -> bool {
        self.snapshots.try_recv().is_err()
    }
}

fn names(pods: &[Arc<Pod>]) -> Vec<String> {
    pods.iter()
        .map(|pod| pod.full_name.name.to_string())
        .collect()
}

fn images(pods: &[Arc<Pod>]) -> Vec<String> {
    let image = |pod: &Arc<Pod>| pod.containers()[0].image.clone().unwrap();
    pods.iter().map(image).collect()
}

fn seen(pod: &Pod) -> Timestamp {
    let seen = pod.annotation("kubernetes.io/config.seen").unwrap();
    seen.parse().unwrap()
}

fn manifest(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - name: main\n    image: {image}\n"
    )
}

fn is_at(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
