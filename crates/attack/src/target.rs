//! One `hyperkube node` under attack: its ports, its process, its administrator's view.
//!
//! In:    the release binary, the node's configuration as `make run` has it
//! Out:   a process that can be killed and started; requests of an administrator; whether a pod can still be run
//! Calls: all scenarios
//! Holds: the process is ended at the end, with everything of it in the runtime
//! Upstream: none

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rig::clock;
use rig::http::{Body, Credential, Http, Secure};
use rig::node::{KubeletPlaces, NODE_NAME, configuration, free_ports};
use rig::program::Program;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::machine::Machine;

/// Whoever shows it is an administrator.
pub(crate) const ADMIN: &str = "attack-admin";
/// Whoever shows it may ask for a first certificate.
pub(crate) const BOOTSTRAP: &str = "attack-bootstrap";
/// Whoever shows it is known, and no more.
pub(crate) const VIEWER: &str = "attack-viewer";
/// The file of these tokens.
const TOKENS: &str = "tokens.csv";
/// Where pods are made.
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// Its ports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) main: u16,
    pub(crate) read_only: u16,
    pub(crate) health: u16,
    pub(crate) api: u16,
}

/// A node, running or not.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) places: KubeletPlaces,
    pub(crate) ports: Ports,
    program: Option<Program>,
    admin: Secure,
}

/// A raised limit for this process and what it starts: floods hold thousands of sockets.
pub(crate) fn more_descriptors() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(65_536).min(65_536);
    if limit.current.is_some_and(|now| now < wanted) {
        limit.current = Some(wanted);
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}

impl<'a> Target<'a> {
    /// A node in a directory of its own; not started.
    pub(crate) fn new(machine: &'a Machine, name: &str) -> anyhow::Result<Self> {
        let [main, read_only, health] = free_ports()?;
        let [api, ..] = free_ports()?;
        let mut folder = machine.node.path("HK_DATA").join(name);
        while folder.join(TOKENS).exists() {
            // Of an earlier run of the same scenario.
            folder.as_mut_os_string().push("-again");
        }
        let places = KubeletPlaces {
            endpoint: machine.node.value("HK_ENDPOINT").to_owned(),
            folder,
            max_pods: 110,
        };
        let file = machine.node.path("HK_CONFIG_SECURED");
        let text = configuration(&file, &places, [main, read_only, health])?;
        let logs = places.folder.join("logs");
        let own = |line: &&str| !line.starts_with("podLogsDir:");
        let lines: Vec<&str> = text.lines().filter(own).collect();
        places.make(&format!(
            "{}\npodLogsDir: {}\n",
            lines.join("\n"),
            logs.display()
        ))?;
        let tokens = format!(
            "{ADMIN},admin,1,\"system:masters\"\n{BOOTSTRAP},system:bootstrap:abcdef,2,\"system:bootstrappers\"\n{VIEWER},viewer,3,\"viewers\"\n"
        );
        fs::write(places.folder.join(TOKENS), tokens)?;
        Ok(Self {
            machine,
            places,
            ports: Ports {
                main,
                read_only,
                health,
                api,
            },
            program: None,
            admin: Secure::client(&Credential::Token(ADMIN.to_owned()), &[])?,
        })
    }

    /// The same, started, and Ready.
    pub(crate) fn running(machine: &'a Machine, name: &str) -> anyhow::Result<Self> {
        let mut target = Self::new(machine, name)?;
        target.start()?;
        target.ready(60.0)?;
        Ok(target)
    }

    /// Starts the process, without waiting.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let folder = &self.places.folder;
        let words = ["node".into(), "--data-dir".into(), folder.into()];
        let own = [
            format!("--secure-port={}", self.ports.api),
            format!("--token-auth-file={}", folder.join(TOKENS).display()),
            "--v=2".to_owned(),
        ];
        let words: Vec<OsString> = words
            .into_iter()
            .chain(self.places.words())
            .chain(own.map(OsString::from))
            .collect();
        self.program = Some(Program::start(
            &self.machine.node,
            words,
            &self.places.log(),
        )?);
        Ok(())
    }

    /// Ends the process as a crash would.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.program.take().map_or(Ok(()), Program::kill)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let program = self.program.as_ref().context("the node does not run")?;
        Ok(program.pid())
    }

    /// An error when the process has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let program = self.program.as_mut().context("the node does not run")?;
        program.check()
    }

    /// The API server asked by the administrator, on a connection that is kept.
    pub(crate) fn api(&self) -> Http {
        Http::secure(self.ports.api, self.admin.clone()).patient(Duration::from_secs(10))
    }

    /// A port over TLS, as somebody.
    pub(crate) fn as_somebody(port: u16, who: &Credential) -> anyhow::Result<Http> {
        let secure = Secure::client(who, &[])?;
        Ok(Http::secure(port, secure).patient(Duration::from_secs(5)))
    }

    /// A file of the API server's certificates and keys.
    pub(crate) fn pki(&self, name: &str) -> PathBuf {
        self.places.folder.join("apiserver/pki").join(name)
    }

    /// Waits until the Node is Ready and pods can be made.
    pub(crate) fn ready(&mut self, limit: f64) -> anyhow::Result<()> {
        let node = format!("/api/v1/nodes/{NODE_NAME}");
        let result = clock::poll("the node is Ready", 20, limit, || {
            self.check()?;
            let mut api = self.api().patient(Duration::from_secs(2));
            let account = asked(
                &mut api,
                "GET",
                "/api/v1/namespaces/default/serviceaccounts/default",
                None,
            );
            let node = asked(&mut api, "GET", &node, None);
            // Without a serving certificate the kubelet's port refuses the handshake.
            let admin = Credential::Token(ADMIN.to_owned());
            let main = Self::as_somebody(self.ports.main, &admin)?.ask("GET", "/healthz", None);
            let ready = account.is_ok()
                && node.is_ok_and(|node| is_ready(&node))
                && matches!(main, Ok((200, _)));
            Ok(ready.then_some(()))
        });
        result.with_context(|| self.log_tail())
    }

    /// As a supervisor has it: started again whenever it ended by itself, until it is Ready.
    pub(crate) fn supervised(&mut self, limit: f64) -> anyhow::Result<()> {
        let until = clock::now() + limit;
        loop {
            match self.ready((until - clock::now()).max(0.0)) {
                Ok(()) => return Ok(()),
                Err(error) if clock::now() > until => return Err(error),
                Err(_) => {}
            }
            if self.check().is_err() {
                clock::pause_ms(200);
                self.start()?;
            }
        }
    }

    pub(crate) fn log_tail(&self) -> String {
        let program = self.program.as_ref();
        program.map(Program::log_tail).unwrap_or_default()
    }

    /// Makes a pod, waits until it is Ready, deletes it, waits until it is gone; seconds of both.
    pub(crate) fn runs_a_pod(&self, name: &str, limit: f64) -> anyhow::Result<(f64, f64)> {
        let (begin, path) = (clock::now(), format!("{PODS}/{name}"));
        let pod = pod(&self.machine.image, name, "Always", LASTING);
        // After a flood the first request may still find the port shut; what counts is the whole time.
        clock::poll("a pod can be made", 100, limit, || {
            let made = self
                .api()
                .ask("POST", PODS, Some(json_body(pod.to_string().as_bytes())));
            Ok(made
                .ok()
                .filter(|(code, _)| [201, 409].contains(code))
                .map(drop))
        })?;
        clock::poll("the pod is Ready", 50, limit, || {
            let shown = asked(&mut self.api(), "GET", &path, None);
            Ok(shown.ok().filter(is_ready).map(drop))
        })?;
        let ready = clock::now();
        asked(&mut self.api(), "DELETE", &path, None)?;
        clock::poll("the pod is gone", 50, limit, || {
            let found = self.api().ask("GET", &path, None);
            Ok(found.ok().filter(|(code, _)| *code == 404).map(drop))
        })?;
        Ok((ready - begin, clock::now() - ready))
    }

    /// What a container of a pod could still do is over: everything of this node is removed from the runtime.
    fn clear(&mut self) -> anyhow::Result<()> {
        if self.check().is_ok() {
            // The node's own way first: it leaves nothing.
            let none = json!({"gracePeriodSeconds": 0});
            for pod in items(&mut self.api(), PODS)? {
                let name = text(&pod, "/metadata/name");
                let path = format!("{PODS}/{name}");
                asked(&mut self.api(), "DELETE", &path, Some(&none))?;
            }
            let runtime = self.machine.runtime()?;
            clock::poll("all sandboxes are gone", 100, 20.0, || {
                Ok(runtime.sandboxes()?.is_empty().then_some(()))
            })?;
        }
        Ok(())
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            rig::say(&format!("   not cleared by the node itself: {error:#}"));
        }
        // A node that hangs is ended hard by the program's own drop.
        self.program = None;
        if let Ok(runtime) = self.machine.runtime() {
            let _left_to_containerd_sh = runtime.clear();
        }
    }
}

pub(crate) fn json_body(bytes: &[u8]) -> Body<'_> {
    Body {
        kind: "application/json",
        bytes,
    }
}

/// A request whose answer is JSON and 2xx.
pub(crate) fn asked(
    http: &mut Http,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let bytes = body.map(Value::to_string);
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = bytes.as_ref().map(|text| Body {
        kind,
        bytes: text.as_bytes(),
    });
    let (status, answer) = http.ask(method, path, body)?;
    if !matches!(status, 200..=202) {
        let said: String = String::from_utf8_lossy(&answer).chars().take(300).collect();
        bail!("{method} {path}: {status}: {said}");
    }
    Ok(serde_json::from_slice(&answer).unwrap_or_default())
}

/// The objects of a list.
pub(crate) fn items(http: &mut Http, path: &str) -> anyhow::Result<Vec<Value>> {
    let mut list = asked(http, "GET", path, None)?;
    Ok(match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Condition Ready is True.
pub(crate) fn is_ready(object: &Value) -> bool {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// A container that runs until SIGTERM, which it obeys at once.
pub(crate) const LASTING: &str = "trap \"exit 0\" TERM; sleep 100000 & wait";

/// A pod with one container that runs this script.
pub(crate) fn pod(image: &str, name: &str, restart: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 2, "restartPolicy": restart,
            "containers": [{
                "name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
            }],
        },
    })
}
