//! One kubelet under test: its directories, its ports, its process, what it shows.
//!
//! In:    a name, changes to the configuration, flags, manifests
//! Out:   the process's life; `/pods` as JSON
//! Calls: tests
//! Holds: the process dies with the test's; Drop ends it, its pods and every trace, and fails the test for what would not go
//! Upstream: none

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::http::Http;
use crate::node::{Node, until, variable};
use crate::runtime::Runtime;

/// Long enough for anything that happens at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A kubelet, running or not.
#[derive(Debug)]
pub(crate) struct Kubelet {
    pub(crate) node: Node,
    pub(crate) runtime: Runtime,
    pub(crate) base: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) manifests: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) config: Value,
    /// The program's words before the flags: which component it is.
    pub(crate) component: Vec<String>,
    pub(crate) flags: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) read_only: Http,
    name: String,
    child: Option<Child>,
    began: Instant,
}

impl Kubelet {
    /// Directories and ports of its own; not started.
    pub(crate) fn new(name: &str) -> Self {
        let node = Node::here();
        let base = node.data.join("machine").join(name);
        let logs = node.pod_logs.join(name);
        let [healthz, read_only, main] = free_ports();
        let place = |part: &str| base.join(part);
        fs::create_dir_all(place("manifests")).unwrap();
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "staticPodPath": place("manifests"),
            "podLogsDir": logs,
            "containerRuntimeEndpoint": node.endpoint,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": node.cgroup_root,
            "volumePluginDir": place("volume-plugins"),
            "makeIPTablesUtilChains": false,
            "failSwapOn": false,
            "failCgroupV1": false,
            "address": "127.0.0.1",
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": healthz,
            "readOnlyPort": read_only,
            "port": main,
            "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
            "authorization": {"mode": "AlwaysAllow"},
        });
        Self {
            runtime: Runtime::connect(&node.endpoint),
            root: place("kubelet"),
            manifests: place("manifests"),
            log: place("kubelet.log"),
            read_only: Http::new(format!("127.0.0.1:{read_only}")),
            component: vec!["kubelet".to_owned()],
            flags: vec!["--hostname-override=n1".to_owned(), "--v=4".to_owned()],
            name: name.to_owned(),
            env: Vec::new(),
            child: None,
            began: Instant::now(),
            node,
            base,
            logs,
            config,
        }
    }

    /// As [`Self::new`], and started.
    pub(crate) fn running(name: &str) -> Self {
        let mut kubelet = Self::new(name);
        kubelet.start();
        kubelet
    }

    /// The command that starts it; the configuration is written.
    pub(crate) fn command(&self) -> Command {
        let file = self.base.join("kubelet.yaml");
        fs::write(&file, serde_json::to_vec_pretty(&self.config).unwrap()).unwrap();
        // Whatever ends the tests ends the kubelet.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(binary())
            .args(&self.component)
            .arg("--config")
            .arg(file)
            .arg("--root-dir")
            .arg(&self.root)
            .arg("--cert-dir")
            .arg(self.base.join("pki"))
            .args(&self.flags)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null());
        command
    }

    /// Starts it, without waiting.
    pub(crate) fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().append(true).create(true).open(&self.log);
        let log = log.unwrap();
        let child = self
            .command()
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.launch();
        self.answers();
    }

    /// Waits until the read-only port answers.
    fn answers(&mut self) {
        until("the kubelet to answer", SOON, || {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().unwrap()) {
                panic!("the kubelet ended: {status}");
            }
            self.read_only.get("/pods").ok()
        });
    }

    /// Starts it again and again until it stays, as the machine's supervisor does; how often it ended.
    pub(crate) fn supervise(&mut self) -> usize {
        let mut ends = 0;
        self.launch();
        until("the kubelet to stay", SOON, || {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().unwrap()) {
                assert_eq!(status.code(), Some(1));
                ends += 1;
                self.child = None;
                self.launch();
            }
            self.read_only.get("/pods").ok()
        });
        ends
    }

    /// Runs it to its end: for starts that must fail.
    pub(crate) fn output(&self) -> Output {
        let mut command = self.command();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let began = Instant::now();
        until("the kubelet's end", Duration::from_secs(60), || {
            if began.elapsed() > crate::node::patient(Duration::from_secs(45)) {
                let _sent = kill_process(pid, Signal::KILL);
            }
            child.try_wait().unwrap()
        });
        child.wait_with_output().unwrap()
    }

    /// Waits for its own end.
    pub(crate) fn ended(&mut self, limit: Duration) -> Option<ExitStatus> {
        let limit = crate::node::patient(limit);
        let child = self.child.as_mut().unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return Some(status);
            }
            if began.elapsed() > limit {
                return None;
            }
            crate::node::pause(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// As a crash would end it, without waiting for the end.
    pub(crate) fn strike(&self) {
        self.signal(Signal::KILL);
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.strike();
        self.ended(Duration::from_secs(5)).unwrap();
    }

    /// Asks it to end; how it ended and how long that took.
    pub(crate) fn terminate(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(Signal::TERM);
        let status = self.ended(Duration::from_secs(30));
        (status.expect("it ends on SIGTERM"), began.elapsed())
    }

    /// Writes a manifest as a user's editor would: in place.
    pub(crate) fn put(&self, file: &str, manifest: &Value) {
        self.put_text(file, &serde_json::to_string_pretty(manifest).unwrap());
    }

    pub(crate) fn put_text(&self, file: &str, text: &str) {
        fs::write(self.manifests.join(file), text).unwrap();
    }

    pub(crate) fn take(&self, file: &str) {
        fs::remove_file(self.manifests.join(file)).unwrap();
    }

    /// All pods as shown; none while it does not answer.
    pub(crate) fn pods(&mut self) -> Vec<Value> {
        let Ok(text) = self.read_only.text("/pods") else {
            return Vec::new();
        };
        let list: Value = serde_json::from_str(&text).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// One pod as shown, by its manifest's name.
    pub(crate) fn pod(&mut self, name: &str) -> Option<Value> {
        let full = format!("{name}-n1");
        self.pods()
            .into_iter()
            .find(|pod| pod["metadata"]["name"] == *full)
    }

    /// Waits until a pod is shown as wanted.
    pub(crate) fn wait(
        &mut self,
        name: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let limit = crate::node::patient(limit);
        let mut last = Value::Null;
        let began = Instant::now();
        loop {
            if let Some(pod) = self.pod(name) {
                if wanted(&pod) {
                    return pod;
                }
                last = pod["status"].clone();
            }
            assert!(
                began.elapsed() < limit,
                "waited {limit:?} for {name} to be {what}; its status: {last:#}"
            );
            crate::node::pause(crate::node::LOOK);
        }
    }

    pub(crate) fn wait_ready(&mut self, name: &str) -> Value {
        self.wait(name, "Ready", SOON, is_ready)
    }

    /// Waits until a pod is shown no more.
    pub(crate) fn wait_gone(&mut self, name: &str) {
        until(&format!("{name} to be gone"), SOON, || {
            let (status, _) = self.read_only.get("/pods").ok()?;
            (status == 200 && self.pod(name).is_none()).then_some(())
        });
    }

    fn of_process(&self, part: &str) -> PathBuf {
        let pid = self.child.as_ref().expect("it runs").id();
        PathBuf::from(format!("/proc/{pid}/{part}"))
    }

    /// How many files and connections it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(self.of_process("fd")).unwrap().count()
    }

    /// The most memory that it had, KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(self.of_process("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let words = line.unwrap().split_whitespace().next();
        words.unwrap().parse().unwrap()
    }

    /// What the main port answers: status and body.
    pub(crate) fn main_port(&self, path: &str, curl: &[&str]) -> (u16, String) {
        let url = format!("https://127.0.0.1:{}{path}", self.config["port"]);
        let answer = Command::new("curl")
            .args(["-sk", "-m", "10", "-w", "\n%{http_code}"])
            .args(curl)
            .arg(url)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// JSON of the main port.
    pub(crate) fn main_json(&self, path: &str) -> Value {
        let (status, body) = self.main_port(path, &[]);
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// What there is of a pod, or of all: sandboxes, containers, cgroups, directories, logs, links.
    pub(crate) fn traces(&self, uid: &str) -> Vec<String> {
        let mut traces = Vec::new();
        let sandboxes = self.runtime.sandboxes().into_iter();
        let ids: Vec<String> = sandboxes
            .filter(|sandbox| {
                sandbox
                    .metadata
                    .as_ref()
                    .is_some_and(|m| m.uid.contains(uid))
            })
            .map(|sandbox| sandbox.id)
            .collect();
        let containers = self.runtime.containers().into_values();
        traces.extend(
            containers
                .filter(|c| ids.contains(&c.sandbox))
                .map(|c| format!("container {}", c.id)),
        );
        traces.extend(ids.iter().map(|id| format!("sandbox {id}")));
        traces.extend(self.host_traces(uid));
        traces
    }

    /// What there is of a pod, or of all, on the host: nothing once the pod is gone. What the runtime holds is removed after that.
    pub(crate) fn host_traces(&self, uid: &str) -> Vec<String> {
        let mut paths = self.node.pod_cgroups();
        for directory in [self.root.join("pods"), self.logs.clone()] {
            paths.extend(
                fs::read_dir(directory)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .map(|entry| entry.path()),
            );
        }
        paths.extend(
            Node::log_links(&self.logs)
                .into_iter()
                .map(|(_, target)| target),
        );
        let paths = paths.into_iter().map(|path| path.display().to_string());
        paths.filter(|path| path.contains(uid)).collect()
    }

    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log holds a text.
    pub(crate) fn wait_log(&self, text: &str) {
        until(&format!("{text:?} in the log"), SOON, || {
            self.log_text().contains(text).then_some(())
        });
    }

    /// Ends everything; what would not go.
    fn clear(&mut self) -> Vec<String> {
        if let Some(mut child) = self.child.take() {
            let _sent = child.kill();
            let _ended = child.wait();
        }
        if !self.node.containerd_runs() {
            self.node.start_containerd();
        }
        self.runtime.clear();
        if !self.runtime.sandboxes().is_empty() {
            // Removed at its start only, when a start of a container was cut short.
            eprint!("[containerd is started anew, to let go of a sandbox] ");
            self.node.kill_containerd();
            self.node.start_containerd();
            self.runtime.clear();
        }
        for point in Node::mounts_below(&self.base) {
            let _ended = Command::new("umount").args(["-l", &point]).status();
        }
        let mut left = Vec::new();
        for _ in 0..50 {
            let cgroups = self.node.pod_cgroups();
            left = cgroups
                .iter()
                .map(|c| format!("cgroup {}", c.display()))
                .collect();
            if left.is_empty() {
                break;
            }
            for cgroup in cgroups.iter().rev() {
                let _busy = fs::remove_dir(cgroup);
            }
            crate::node::pause(crate::node::LOOK);
        }
        for (link, _) in Node::log_links(&self.logs) {
            let _gone = fs::remove_file(Path::new("/var/log/containers").join(link));
        }
        left.extend(
            self.runtime
                .sandboxes()
                .into_iter()
                .map(|s| format!("sandbox {}", s.id)),
        );
        left.extend(
            Node::mounts_below(&self.base)
                .into_iter()
                .map(|m| format!("mount {m}")),
        );
        let _gone = fs::remove_dir_all(&self.logs);
        if let Err(error) = fs::remove_dir_all(&self.base) {
            left.push(format!("{}: {error}", self.base.display()));
        }
        left
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        eprint!(
            "[{} {:.1} s] ",
            self.name,
            self.began.elapsed().as_secs_f64()
        );
        if std::thread::panicking() {
            let keep = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/machine");
            let _made = fs::create_dir_all(&keep);
            let to = keep.join(format!("{}.log", self.name));
            let _kept = fs::copy(&self.log, &to);
            eprintln!("\nthe kubelet's log: {}", to.display());
            let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.clear()));
            eprintln!("left over: {left:?}");
        } else {
            let left = self.clear();
            assert!(left.is_empty(), "left over: {left:#?}");
        }
    }
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    variable("HYPERKUBE_BIN").into()
}

/// Condition Ready is True.
pub(crate) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready") == "True"
}

/// The status of a condition, or nothing.
pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == kind)
        .and_then(|condition| condition["status"].as_str())
        .unwrap_or_default()
}

/// The status of one container of a pod.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ]
    .iter()
    .filter_map(|list| pod["status"][list].as_array())
    .flatten()
    .find(|status| status["name"] == name)
    .unwrap_or(&Value::Null)
}

/// A pod whose one container runs until it is asked to end.
pub(crate) fn idle(name: &str) -> Value {
    pod(
        name,
        &[json!({"name": "c", "image": variable("HK_PAUSE_IMAGE")})],
    )
}

/// A pod of these containers, that ends within a second.
pub(crate) fn pod(name: &str, containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": containers},
    })
}

/// A container that runs a line of shell.
pub(crate) fn shell(name: &str, line: &str) -> Value {
    json!({"name": name, "image": variable("HK_BUSYBOX_IMAGE"), "command": ["sh", "-c", line]})
}

pub(crate) fn free_ports() -> [u16; 3] {
    // Held together, so that they differ.
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}
