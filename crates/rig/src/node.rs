//! The machine's side: a private containerd for this run, and what a kubelet on it is given.
//!
//! In:    `scripts/machine_env.sh`, the release binary
//! Out:   a node's places, a kubelet's configuration; everything removed at the end
//! Calls: bench, attack
//! Holds: the node is removed also after an error
//! Upstream: none

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// The name of the node, in a cluster or alone.
pub const NODE_NAME: &str = "bench";

/// A private containerd and the places of its node.
#[derive(Debug)]
pub struct Node {
    repository: PathBuf,
    values: BTreeMap<String, String>,
}

impl Node {
    /// Starts one in a new directory.
    ///
    /// # Errors
    /// It did not start.
    pub fn up(repository: &Path) -> anyhow::Result<Self> {
        let output = Command::new(repository.join("scripts/machine_env.sh"))
            .arg("up")
            .stderr(Stdio::inherit())
            .output()
            .context("run scripts/machine_env.sh")?;
        if !output.status.success() {
            bail!("scripts/machine_env.sh up: {}", output.status);
        }
        let text = String::from_utf8(output.stdout)?;
        let values = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Ok(Self {
            repository: repository.to_owned(),
            values,
        })
    }

    /// A value of the environment, such as `HK_DATA`.
    pub fn value(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    /// The same as a path.
    pub fn path(&self, key: &str) -> PathBuf {
        PathBuf::from(self.value(key))
    }

    /// The runtime's socket.
    pub fn socket(&self) -> PathBuf {
        PathBuf::from(self.value("HK_ENDPOINT").trim_start_matches("unix://"))
    }

    /// The checkout.
    pub fn repository(&self) -> &Path {
        &self.repository
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let ended = Command::new(self.repository.join("scripts/machine_env.sh"))
            .args(["down", self.value("HK_DATA")])
            .status();
        if !ended.is_ok_and(|status| status.success()) {
            crate::say(&format!(
                "could not remove all of {}",
                self.value("HK_DATA")
            ));
        }
    }
}

/// What a kubelet is started with.
#[derive(Debug)]
pub struct KubeletPlaces {
    /// `unix://…`
    pub endpoint: String,
    /// Root directory, manifests (`manifests`), staging and configuration lie in it.
    pub folder: PathBuf,
    /// `maxPods`.
    pub max_pods: u32,
}

impl KubeletPlaces {
    /// Where manifests lie.
    pub fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    /// The kubelet's root directory.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// The program's log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("kubelet.log")
    }

    fn file(&self) -> PathBuf {
        self.folder.join("kubelet.yaml")
    }

    /// Makes the directories and writes the configuration.
    ///
    /// # Errors
    /// What could not be written.
    pub fn make(&self, configuration: &str) -> anyhow::Result<()> {
        fs::create_dir_all(self.manifests())?;
        fs::create_dir_all(self.folder.join("staging"))?;
        Ok(fs::write(self.file(), configuration)?)
    }

    /// The kubelet's flags.
    pub fn words(&self) -> [OsString; 7] {
        let root = self.root();
        [
            format!("--hostname-override={NODE_NAME}").into(),
            "--config".into(),
            self.file().into(),
            "--root-dir".into(),
            root.clone().into(),
            "--cert-dir".into(),
            root.join("pki").into(),
        ]
    }
}

/// Three ports that nobody listens on.
///
/// # Errors
/// There are none.
pub fn free_ports() -> anyhow::Result<[u16; 3]> {
    let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, socket) in ports.iter_mut().zip(sockets) {
        *port = socket?.local_addr()?.port();
    }
    Ok(ports)
}

/// One of the node's configurations with other ports and places, at the default log level.
///
/// # Errors
/// The file cannot be read.
pub fn configuration(
    file: &Path,
    places: &KubeletPlaces,
    [main, read_only, health]: [u16; 3],
) -> anyhow::Result<String> {
    let ours = [
        "staticPodPath:",
        "containerRuntimeEndpoint:",
        "readOnlyPort:",
    ];
    let text = fs::read_to_string(file)?;
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !ours.iter().any(|key| line.starts_with(key)))
        .map(str::to_owned)
        .collect();
    lines.push(format!("staticPodPath: {}", places.manifests().display()));
    lines.push(format!("containerRuntimeEndpoint: {}", places.endpoint));
    lines.push(format!(
        "port: {main}\nreadOnlyPort: {read_only}\nhealthzPort: {health}"
    ));
    lines.push(format!("maxPods: {}\n", places.max_pods));
    Ok(lines.join("\n"))
}

/// The kubelet under measurement: `$HYPERKUBE_BIN`, or what lies beside this program.
pub fn binary(repository: &Path) -> PathBuf {
    let ready_made = std::env::var_os("HYPERKUBE_BIN").map(PathBuf::from);
    let beside = std::env::current_exe().map(|program| program.with_file_name("hyperkube"));
    ready_made
        .or_else(|| beside.ok().filter(|program| program.exists()))
        .unwrap_or_else(|| repository.join("target/release/hyperkube"))
}
