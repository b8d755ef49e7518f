//! One `hyperkube node`, a kubelet with an API server of its own, asked by kubectl and without it; or the API server alone.
//!
//! In:    a name; words for kubectl; method, path and body of a request
//! Out:   what kubectl prints, what the API server answers
//! Calls: tests
//! Holds: every call ends within a minute; a machine without kubectl says loudly what it skips
//! Upstream: none

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, binary, free_ports, is_ready};
use crate::node::until;
use crate::stream::Stream;

/// Whoever shows it is an administrator.
const TOKEN: &str = "machine-tests";

/// A node, running or not.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) kubelet: Kubelet,
    api_port: String,
}

impl Cluster {
    /// Both parts running, the node Ready.
    pub(crate) fn running(name: &str) -> Self {
        let mut kubelet = Kubelet::new(name);
        let api_port = free_ports()[0].to_string();
        let tokens = tokens_in(&kubelet.base);
        let words = ["node", "--data-dir"].map(str::to_owned).into_iter();
        kubelet.component = words.chain([kubelet.base.display().to_string()]).collect();
        kubelet.flags.extend([
            format!("--secure-port={api_port}"),
            format!("--token-auth-file={}", tokens.display()),
        ]);
        // As `make run` has it.
        kubelet.config["authentication"] =
            json!({"anonymous": {"enabled": false}, "webhook": {"enabled": true}});
        kubelet.config["authorization"] = json!({"mode": "Webhook"});
        kubelet.config["rotateCertificates"] = json!(true);
        kubelet.config["serverTLSBootstrap"] = json!(true);
        kubelet.config["seccompDefault"] = json!(true);
        kubelet.config["podPidsLimit"] = json!(4096);
        kubelet.start();
        let cluster = Self { kubelet, api_port };
        cluster.node_ready();
        cluster
    }

    /// Waits until the Node is Ready.
    pub(crate) fn node_ready(&self) {
        until("the node to be Ready", SOON, || {
            let (status, node) = self.ask("GET", "/api/v1/nodes/n1", None);
            (status == 200 && is_ready(&node)).then_some(())
        });
    }

    /// A request to the API server: status and body; 0 when it does not answer.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        ask(
            &self.api_port,
            &self.place("apiserver/pki"),
            method,
            path,
            body,
        )
    }

    /// A request that must succeed.
    pub(crate) fn asked(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!(matches!(status, 200 | 201), "{path}: {status} {answer}");
        answer
    }

    /// A request whose connection is kept.
    pub(crate) fn stream(&self, method: &str, path: &str, headers: &str) -> Stream {
        let headers = format!("Authorization: Bearer {TOKEN}\r\n{headers}");
        let ca = self.place("apiserver/pki/ca.crt");
        Stream::open_at(&self.api_port, &ca, &[method, path], &headers)
    }

    /// Waits until a pod of `default` is as wanted, as the API server shows it.
    pub(crate) fn wait(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        until(&format!("{name} to be {what}"), SOON, || {
            let (status, pod) = self.ask("GET", &path, None);
            (status == 200 && wanted(&pod)).then_some(pod)
        })
    }

    /// kubectl with these words, as an administrator.
    pub(crate) fn kubectl(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["60", "kubectl"])
            .args(words)
            .env("KUBECONFIG", self.place("apiserver/pki/admin.kubeconfig"))
            // Its cache of discovery lives here, not in anybody's home.
            .env("HOME", &self.kubelet.base)
            .stdin(Stdio::null());
        command
    }

    /// What it prints; it must succeed.
    pub(crate) fn says(&self, words: &[&str]) -> String {
        let output = self.kubectl(words).output().unwrap();
        succeeded(words, &output)
    }

    /// The same with this on its standard input.
    pub(crate) fn says_to(&self, words: &[&str], input: &str) -> String {
        let file = self.kubelet.base.join("stdin");
        fs::write(&file, input).unwrap();
        let input = fs::File::open(&file).unwrap();
        let output = self.kubectl(words).stdin(input).output().unwrap();
        succeeded(words, &output)
    }

    fn place(&self, part: &str) -> PathBuf {
        self.kubelet.base.join(part)
    }
}

/// A request of the administrator to the API server at a port of this machine whose certificates are in `pki`.
fn ask(port: &str, pki: &Path, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let kind = match method {
        "PATCH" => "application/strategic-merge-patch+json",
        _ => "application/json",
    };
    let mut command = Command::new("curl");
    command
        .args(["-s", "-m", "60", "-w", "\n%{http_code}", "-X", method])
        .arg("--cacert")
        .arg(pki.join("ca.crt"))
        .args(["-H", &format!("Authorization: Bearer {TOKEN}")])
        .args(["-H", &format!("Content-Type: {kind}")]);
    // Through the standard input: a large object is no argument.
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        command.args(["--data-binary", "@-"]);
    }
    let url = format!("https://127.0.0.1:{port}{path}");
    let mut curl = command
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have its answer before it has taken all.
    let _broken = curl.stdin.take().unwrap().write_all(body.as_bytes());
    let answer = curl.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    let value = serde_json::from_str(body).unwrap_or_else(|_| json!(body));
    (status.parse().unwrap(), value)
}

fn tokens_in(dir: &Path) -> PathBuf {
    let tokens = dir.join("tokens.csv");
    fs::write(&tokens, format!("{TOKEN},tester,1,\"system:masters\"\n")).unwrap();
    tokens
}

/// `hyperkube apiserver` alone, for a kubelet that joins it by a kubeconfig.
#[derive(Debug)]
pub(crate) struct ApiServer {
    pub(crate) dir: PathBuf,
    pub(crate) port: String,
    child: Option<Child>,
}

impl ApiServer {
    /// In a directory of the kubelet's; not started.
    pub(crate) fn beside(kubelet: &Kubelet) -> Self {
        let dir = kubelet.base.join("api");
        fs::create_dir_all(&dir).unwrap();
        let port = free_ports()[0].to_string();
        Self {
            dir,
            port,
            child: None,
        }
    }

    /// The command that starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(binary())
            .args(["apiserver", "--node-name=n1", "--data-dir"])
            .arg(&self.dir)
            .arg(format!("--secure-port={}", self.port))
            .arg("--token-auth-file")
            .arg(tokens_in(&self.dir))
            .stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.dir.join("apiserver.log")).unwrap();
        let child = self.command().stderr(log).spawn().unwrap();
        self.child = Some(child);
        until("the API server", SOON, || {
            (self.ask("GET", "/readyz", None).0 == 200).then_some(())
        });
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _sent = child.kill();
            let _ended = child.wait();
        }
    }

    /// As [`Cluster::ask`].
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        ask(&self.port, &self.dir.join("pki"), method, path, body)
    }

    /// What it gave the kubelet to show.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("pki/kubelet.kubeconfig")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn succeeded(words: &[&str], output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "kubectl {words:?}: {}\n{out}{err}",
        output.status
    );
    out
}

/// Whether a kubectl of 1.32 or later is installed; says loudly when not.
pub(crate) fn has_kubectl(test: &str) -> bool {
    let asked = Command::new("kubectl")
        .args(["version", "--client", "-o", "json"])
        .output();
    let minor = asked.ok().and_then(|output| {
        let version: Value = serde_json::from_slice(&output.stdout).ok()?;
        let minor = version["clientVersion"]["minor"].as_str()?;
        minor.trim_end_matches('+').parse::<u32>().ok()
    });
    match minor {
        Some(minor) if minor >= 32 => true,
        found => {
            let found = found.map_or("none".to_owned(), |minor| format!("1.{minor}"));
            eprintln!(
                "\n*** SKIPPED {test}: it needs a kubectl of 1.32 or later; here: {found} ***"
            );
            false
        }
    }
}

/// A deadline for what a pod needs to end by itself.
pub(crate) const GONE: Duration = Duration::from_secs(15);
