//! A kubelet that stands alone: its process, its manifests, its `/pods`.
//!
//! In:    the release binary, a configuration, manifests renamed into its directory
//! Out:   its pods by manifest name, its timeline
//! Calls: all phases
//! Holds: a kubelet that ended by itself is an error with its last log lines
//! Upstream: none

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::clock;
use crate::http::Http;
use crate::node::{KubeletPlaces, Node, configuration, free_ports};
use crate::program::Program;

/// One life of the kubelet.
#[derive(Debug)]
pub(crate) struct Kubelet {
    /// The process.
    pub(crate) program: Program,
    http: Http,
    main_port: u16,
    manifests: PathBuf,
    root: PathBuf,
}

impl Kubelet {
    /// Starts the release binary and waits for its read-only port.
    pub(crate) fn start(node: &Node, places: &KubeletPlaces) -> anyhow::Result<Self> {
        let ports = free_ports()?;
        places.make(&configuration(&node.path("HK_CONFIG"), places, ports)?)?;
        let words = [OsString::from("kubelet")]
            .into_iter()
            .chain(places.words());
        let mut kubelet = Self {
            program: Program::start(node, words, &places.log())?,
            http: Http::new(ports[1]),
            main_port: ports[0],
            manifests: places.manifests(),
            root: places.root(),
        };
        clock::poll("the kubelet serves /pods", 2, 20.0, || {
            kubelet.program.check()?;
            Ok(kubelet.http.get("/pods").ok().map(drop))
        })?;
        Ok(kubelet)
    }

    /// A page of its read-only port.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        self.http.get(path)
    }

    /// The directory of a pod.
    pub(crate) fn pod_folder(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.manifests.join(format!("{name}.yaml"))
    }

    /// Renames manifests into the directory, as fast as the disk allows; when it began.
    pub(crate) fn add(&self, pods: &[(String, String)]) -> anyhow::Result<f64> {
        let staging = self.manifests.with_file_name("staging");
        for (name, text) in pods {
            fs::write(staging.join(name), text)?;
        }
        let begin = clock::now();
        for (name, _) in pods {
            fs::rename(staging.join(name), self.manifest(name))?;
        }
        Ok(begin)
    }

    /// Removes manifests; when it began.
    pub(crate) fn remove<'a>(&self, names: impl Iterator<Item = &'a str>) -> anyhow::Result<f64> {
        let begin = clock::now();
        for name in names {
            fs::remove_file(self.manifest(name))?;
        }
        Ok(begin)
    }

    /// The pods of `/pods`, by manifest name.
    pub(crate) fn pods(&mut self) -> anyhow::Result<BTreeMap<String, Value>> {
        let list: Value = match self.http.get("/pods") {
            Ok(body) => serde_json::from_slice(&body)?,
            Err(error) => {
                self.program.check()?;
                return Err(error);
            }
        };
        let items = list
            .get("items")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        Ok(items
            .into_iter()
            .filter_map(|pod| {
                let name = pod.pointer("/metadata/name")?.as_str()?;
                Some((name.trim_end_matches("-bench").to_owned(), pod))
            })
            .collect())
    }

    /// Waits until so many pods are Ready; their UIDs by name.
    pub(crate) fn until_ready(
        &mut self,
        count: usize,
        every_ms: u64,
        limit_s: f64,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let result = clock::poll(
            &format!("{count} pods are Ready"),
            every_ms,
            limit_s,
            || {
                let pods = self.pods()?;
                let ready = pods.values().filter(|pod| is_ready(pod)).count();
                Ok((ready >= count).then_some(pods))
            },
        );
        let pods = result.with_context(|| self.program.log_tail())?;
        Ok(pods
            .into_iter()
            .map(|(name, pod)| (name, text_at(&pod, "/metadata/uid")))
            .collect())
    }

    /// Waits until `/pods` is empty.
    pub(crate) fn until_empty(&mut self, every_ms: u64, limit_s: f64) -> anyhow::Result<()> {
        let result = clock::poll("no pod is left", every_ms, limit_s, || {
            Ok(self.pods()?.is_empty().then_some(()))
        });
        result.with_context(|| self.program.log_tail())
    }

    /// `/debug/timeline`: by manifest name the stages in order, each with its time in seconds since 1970.
    pub(crate) fn timeline(&self) -> anyhow::Result<Timelines> {
        timeline(self.main_port, None)
    }
}

/// Stages by pod, each with its time in seconds since 1970.
pub(crate) type Timelines = BTreeMap<String, Vec<(String, f64)>>;

/// `/debug/timeline` of the kubelet at this port.
pub(crate) fn timeline(port: u16, token: Option<&str>) -> anyhow::Result<Timelines> {
    let url = format!("https://127.0.0.1:{port}/debug/timeline");
    let mut command = Command::new("curl");
    command.args(["-fsSk", "-m", "20", &url]);
    if let Some(token) = token {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.output().context("run curl")?;
    if !output.status.success() {
        bail!("{url}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let pods = answer
        .get("pods")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    Ok(pods
        .iter()
        .map(|pod| {
            let name = text_at(pod, "/name").trim_end_matches("-bench").to_owned();
            let stages = pod
                .get("stages")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            (name, stages.filter_map(stage).collect())
        })
        .collect())
}

fn stage(stage: &Value) -> Option<(String, f64)> {
    let at: jiff::Timestamp = stage.get("at")?.as_str()?.parse().ok()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds since 1970 fit a double"
    )]
    let seconds = at.as_microsecond() as f64 / 1e6;
    Some((text_at(stage, "/stage"), seconds))
}

/// A string in a JSON document, or nothing.
pub(crate) fn text_at(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Whether condition Ready is True.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    conditions
        .filter(|condition| text_at(condition, "/type") == "Ready")
        .any(|condition| text_at(condition, "/status") == "True")
}
