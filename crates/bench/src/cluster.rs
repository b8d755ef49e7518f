//! A node in a cluster: `hyperkube node`, or an API server and a kubelet as two processes; and the API server alone.
//!
//! In:    the release binary, the node's configuration as `make run` has it
//! Out:   processes to look at; requests of an administrator
//! Calls: phases api_…, record
//! Holds: a cluster is handed out when its node is Ready and pods can be made; times begin before the first byte of a request
//! Upstream: none

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::clock;
use crate::http::{Body, Http, Secure};
use crate::kubelet::{Timelines, is_ready, timeline};
use crate::node::{KubeletPlaces, NODE_NAME, Node, configuration, free_ports};
use crate::program::Program;
use crate::watcher::{Event, Watcher};

/// Whoever shows it is an administrator.
const TOKEN: &str = "bench";
/// Connections that send many requests at once.
pub(crate) const CONNECTIONS: usize = 4;
/// Where pods are made.
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";

/// An API server's place.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    port: u16,
    secure: Secure,
}

impl Api {
    pub(crate) fn http(&self) -> Http {
        Http::secure(self.port, self.secure.clone())
    }

    /// Waits until it answers as wanted.
    fn until(
        &self,
        program: &mut Program,
        path: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        let mut http = self.http();
        let result = clock::poll(&format!("{path} is as wanted"), 10, 30.0, || {
            program.check()?;
            let answer = http.get(path).ok();
            let answer = answer.map(|body| serde_json::from_slice(&body).unwrap_or_default());
            Ok(answer.filter(&wanted).map(drop))
        });
        result.with_context(|| program.log_tail())
    }

    /// Waits until pods can be made in `default`.
    fn until_usable(&self, program: &mut Program) -> anyhow::Result<()> {
        for object in ["serviceaccounts/default", "configmaps/kube-root-ca.crt"] {
            let path = format!("/api/v1/namespaces/default/{object}");
            self.until(program, &path, |_| true)?;
        }
        Ok(())
    }
}

/// A request that must succeed; its answer.
pub(crate) fn asked(
    http: &mut Http,
    (method, path): (&str, &str),
    body: Option<&Value>,
) -> anyhow::Result<Vec<u8>> {
    let kind = match method {
        "PATCH" => "application/strategic-merge-patch+json",
        _ => "application/json",
    };
    let bytes = body.map(Value::to_string);
    let body = bytes.as_ref().map(|text| Body {
        kind,
        bytes: text.as_bytes(),
    });
    let (status, answer) = http.ask(method, path, body)?;
    if !matches!(status, 200..=202) {
        bail!(
            "{method} {path}: {status}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(answer)
}

/// Starts an API server below this directory with more flags, and waits for its authority.
fn start(
    node: &Node,
    words: Vec<OsString>,
    (folder, log): (&Path, &Path),
) -> anyhow::Result<(Program, Api)> {
    let [port, ..] = free_ports()?;
    fs::create_dir_all(folder)?;
    let tokens = folder.join("tokens.csv");
    fs::write(&tokens, format!("{TOKEN},bench,1,\"system:masters\"\n"))?;
    let ours = [
        format!("--secure-port={port}"),
        format!("--token-auth-file={}", tokens.display()),
    ];
    let words = words.into_iter().chain(ours.map(OsString::from));
    let mut program = Program::start(node, words, log)?;
    let authority = folder.join("apiserver/pki/ca.crt");
    let secure = clock::poll("the API server has an authority", 5, 20.0, || {
        program.check()?;
        Ok(Secure::new(&authority, TOKEN).ok())
    })?;
    let api = Api { port, secure };
    api.until_usable(&mut program)?;
    Ok((program, api))
}

/// `hyperkube apiserver` in `folder/apiserver`.
pub(crate) fn api_server(node: &Node, folder: &Path) -> anyhow::Result<(Program, Api)> {
    let data = folder.join("apiserver");
    let words = ["apiserver".into(), "--data-dir".into(), data.into()];
    let name = OsString::from(format!("--node-name={NODE_NAME}"));
    let words = words.into_iter().chain([name]).collect();
    fs::create_dir_all(folder)?;
    start(node, words, (folder, &folder.join("apiserver.log")))
}

/// A node with its API server.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The process in which the kubelet is.
    pub(crate) kubelet: Program,
    /// The API server's process when it is another one.
    pub(crate) server: Option<Program>,
    pub(crate) api: Api,
    main_port: u16,
    connections: Vec<Http>,
}

impl Cluster {
    /// Both in one process: `hyperkube node`.
    pub(crate) fn node(node: &Node, places: &KubeletPlaces) -> anyhow::Result<Self> {
        let ports = free_ports()?;
        places.make(&configuration(
            &node.path("HK_CONFIG_SECURED"),
            places,
            ports,
        )?)?;
        let folder = &places.folder;
        let words = ["node".into(), "--data-dir".into(), folder.into()];
        let words = words.into_iter().chain(places.words()).collect();
        let (program, api) = start(node, words, (folder, &places.log()))?;
        Self::ready(program, None, api, ports)
    }

    /// Each a process of its own.
    pub(crate) fn apart(node: &Node, places: &KubeletPlaces) -> anyhow::Result<Self> {
        let ports = free_ports()?;
        places.make(&configuration(
            &node.path("HK_CONFIG_SECURED"),
            places,
            ports,
        )?)?;
        let (server, api) = api_server(node, &places.folder)?;
        let join = places.folder.join("apiserver/pki/kubelet.kubeconfig");
        let words = [
            OsString::from("kubelet"),
            "--kubeconfig".into(),
            join.into(),
        ];
        let words = words.into_iter().chain(places.words());
        let kubelet = Program::start(node, words, &places.log())?;
        Self::ready(kubelet, Some(server), api, ports)
    }

    fn ready(
        mut kubelet: Program,
        server: Option<Program>,
        api: Api,
        [main_port, ..]: [u16; 3],
    ) -> anyhow::Result<Self> {
        let path = format!("/api/v1/nodes/{NODE_NAME}");
        api.until(&mut kubelet, &path, is_ready)?;
        // The first seconds have work of their own.
        clock::pause_ms(3000);
        Ok(Self {
            connections: (0..CONNECTIONS).map(|_| api.http()).collect(),
            kubelet,
            server,
            api,
            main_port,
        })
    }

    pub(crate) fn watcher(&self) -> anyhow::Result<Watcher> {
        Watcher::open(&self.api.http())
    }

    /// Sends these requests over all connections at once; when it began, and the seconds of each answer.
    fn send(&mut self, requests: &[(&str, String, Value)]) -> anyhow::Result<(f64, Vec<f64>)> {
        for http in &mut self.connections {
            // Those that were idle too long are opened anew before the clock starts.
            http.get("/livez")?;
        }
        let share = requests.len().div_ceil(self.connections.len()).max(1);
        let begin = clock::now();
        let workers = self.connections.iter_mut().zip(requests.chunks(share));
        let results: Vec<anyhow::Result<Vec<f64>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = workers
                .map(|(http, requests)| scope.spawn(move || send_each(http, requests)))
                .collect();
            let ended = threads.into_iter().map(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => bail!("a sender panicked"),
            });
            ended.collect()
        });
        let mut took = Vec::new();
        for result in results {
            took.extend(result?);
        }
        Ok((begin, took))
    }

    /// Makes pods; when it began, and the seconds of each answer.
    pub(crate) fn post(&mut self, pods: &[Value]) -> anyhow::Result<(f64, Vec<f64>)> {
        let requests: Vec<_> = pods
            .iter()
            .map(|pod| ("POST", PODS.to_owned(), pod.clone()))
            .collect();
        self.send(&requests)
    }

    /// Deletes pods, each with the grace that it asks for; when it began.
    pub(crate) fn delete(&mut self, names: &[String]) -> anyhow::Result<f64> {
        let requests: Vec<_> = names
            .iter()
            .map(|name| ("DELETE", format!("{PODS}/{name}"), Value::Null))
            .collect();
        Ok(self.send(&requests)?.0)
    }

    /// Deletes pods and waits until the watcher saw all of them gone; seconds.
    pub(crate) fn clear(&mut self, watcher: &Watcher, names: &[String]) -> anyhow::Result<f64> {
        let begin = self.delete(names)?;
        let gone = watcher.wait("deleted pods are gone", names, 180.0, Event::is_gone);
        let gone = gone.with_context(|| self.kubelet.log_tail())?;
        Ok(last(&gone, begin) - begin)
    }

    /// Makes pods and waits until the watcher saw all of them Ready; seconds.
    pub(crate) fn run(
        &mut self,
        watcher: &Watcher,
        pods: &[Value],
        names: &[String],
    ) -> anyhow::Result<f64> {
        let (begin, _) = self.post(pods)?;
        let ready = watcher.wait("pods are Ready", names, 180.0, Event::is_ready);
        let ready = ready.with_context(|| self.kubelet.log_tail())?;
        Ok(last(&ready, begin) - begin)
    }

    pub(crate) fn timeline(&self) -> anyhow::Result<Timelines> {
        timeline(self.main_port, Some(TOKEN))
    }

    /// SIGTERM and wait; pods keep running.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.kubelet.stop()?;
        self.server.map_or(Ok(()), Program::stop)
    }
}

fn send_each(http: &mut Http, requests: &[(&str, String, Value)]) -> anyhow::Result<Vec<f64>> {
    let mut took = Vec::new();
    for (method, path, body) in requests {
        let begin = clock::now();
        asked(
            http,
            (method, path),
            Some(body).filter(|body| !body.is_null()),
        )?;
        took.push(clock::now() - begin);
    }
    Ok(took)
}

/// The latest of these events, or `begin`.
pub(crate) fn last(events: &std::collections::BTreeMap<String, Event>, begin: f64) -> f64 {
    events.values().map(|event| event.at).fold(begin, f64::max)
}

/// A pod with one container that runs this script, and the service account's token as every pod has it.
pub(crate) fn pod(image: &str, name: &str, restart: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 5, "restartPolicy": restart,
            "containers": [{
                "name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
            }],
        },
    })
}

/// A container that runs until SIGTERM, which it obeys at once.
pub(crate) const LASTING: &str = "trap \"exit 0\" TERM; sleep 100000 & wait";

/// Pods that run until they are asked to end, and their names.
pub(crate) fn lasting(image: &str, numbers: std::ops::Range<usize>) -> (Vec<Value>, Vec<String>) {
    let names: Vec<String> = numbers.map(|number| format!("p-{number:06}")).collect();
    let pods = names
        .iter()
        .map(|name| pod(image, name, "Always", LASTING))
        .collect();
    (pods, names)
}
