//! The node's own credentials for image pulls, from docker configuration files where upstream looks for them.
//!
//! In:    `config.json` and `.dockercfg` in the root directory, the working directory, the home directory, `/`
//! Out:   the node's keyring, at most five minutes old
//! Calls: images, before a pull
//! Holds: the first readable file counts, and no other; file contents are never logged
//! Upstream: pkg/credentialprovider/config.go (ReadDockerConfigFile), provider.go (CachingDockerConfigProvider); 1.36

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kubelet_decide::images::pull_credentials::{DockerConfigForm, Keyring};
use kubelet_host::HostRoot;
use kubelet_host::blocking::{About, Blocking};
use kubelet_host::files::read_text_bounded;
use tokio::time::Instant;

/// As long as this the files are not read again.
const LIFE: Duration = Duration::from_secs(300);
/// Such a file is not longer than this.
const CONFIG_BYTES: u64 = 1 << 20;
/// Reading them all.
const READ: Duration = Duration::from_secs(10);

/// When the files were read, and what was in them.
type Read = (Instant, Arc<Keyring>);

/// The node's own credentials. Clones share what was read.
#[derive(Clone, Debug)]
pub struct NodeCredentials {
    root: HostRoot,
    blocking: Blocking,
    files: Arc<[(PathBuf, DockerConfigForm)]>,
    read: Arc<Mutex<Option<Read>>>,
}

impl NodeCredentials {
    /// Of a node with this root directory of the kubelet; home and working directory are the process's own.
    pub fn new(
        root: HostRoot,
        blocking: Blocking,
        root_dir: &str,
        home: Option<PathBuf>,
        working_dir: Option<PathBuf>,
    ) -> Self {
        let kubelet = Some(PathBuf::from(root_dir));
        let docker = home.clone().map(|home| home.join(".docker"));
        let slash = || Some(PathBuf::from("/"));
        let json = [
            kubelet.clone(),
            working_dir.clone(),
            docker,
            Some(PathBuf::from("/.docker")),
        ];
        let legacy = || [kubelet.clone(), working_dir.clone(), home.clone(), slash()];
        let files = |directories: [Option<PathBuf>; 4], name: &'static str, form| {
            let directories = directories.into_iter().flatten();
            directories.map(move |directory| (directory.join(name), form))
        };
        let all = files(json, "config.json", DockerConfigForm::Json)
            .chain(files(legacy(), ".dockercfg", DockerConfigForm::Legacy))
            .chain(files(legacy(), ".dockerconfigjson", DockerConfigForm::Json));
        Self {
            root,
            blocking,
            files: all.collect(),
            read: Arc::default(),
        }
    }

    /// The keyring; empty where there is no file, or none that can be read.
    pub async fn keyring(&self) -> Arc<Keyring> {
        let known = self
            .read
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((at, keyring)) = known
            && at.elapsed() < LIFE
        {
            return keyring;
        }
        let (root, files) = (self.root.clone(), Arc::clone(&self.files));
        // One call at a time, however many pulls there are: a home directory may be dead.
        let about = About::the("files of the node's own credentials");
        let read = self
            .blocking
            .run_about(about, READ, "docker configuration", move || {
                read(&root, &files)
            });
        let keyring = match read.await {
            Ok(keyring) => Arc::new(keyring),
            Err(overdue) => {
                tracing::warn!(error = %overdue, "Docker configuration of the node could not be read; pulls go on without it");
                return Arc::default();
            }
        };
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), Arc::clone(&keyring)));
        keyring
    }
}

fn read(root: &HostRoot, files: &[(PathBuf, DockerConfigForm)]) -> Keyring {
    for (path, form) in files {
        let at = root.join(path);
        let Ok(text) = read_text_bounded(&at, CONFIG_BYTES) else {
            continue;
        };
        let mut keyring = Keyring::default();
        match keyring.add(text.as_bytes(), *form) {
            Ok(()) => return keyring,
            Err(error) => {
                tracing::warn!(file = %at.display(), error = %error, "Docker configuration is passed over");
            }
        }
    }
    Keyring::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    fn node(directory: &std::path::Path) -> NodeCredentials {
        NodeCredentials::new(
            HostRoot::at(directory),
            Blocking::Inline,
            "/var/lib/kubelet",
            Some("/root".into()),
            None,
        )
    }

    fn config(user: &str) -> String {
        format!("{{\"auths\": {{\"r.io\": {{\"username\": \"{user}\", \"password\": \"p\"}}}}}}")
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_file_that_can_be_read_counts_and_is_read_again_after_a_while() {
        let scratch = Scratch::new();
        let directory = scratch.path();
        let user = async |node: &NodeCredentials| {
            let found = node.keyring().await.for_image("r.io/a");
            found.first().map(|c| c.username.clone())
        };
        assert_eq!(user(&node(directory)).await, None);
        scratch.write("root/.dockercfg", "{\"r.io\": {\"username\": \"legacy\"}}");
        assert_eq!(user(&node(directory)).await.as_deref(), Some("legacy"));
        scratch.write("root/.docker/config.json", &config("home"));
        let here = node(directory);
        assert_eq!(user(&here).await.as_deref(), Some("home"));
        scratch.write("var/lib/kubelet/config.json", "{");
        assert_eq!(
            user(&node(directory)).await.as_deref(),
            Some("home"),
            "a broken one is passed over"
        );
        scratch.write("var/lib/kubelet/config.json", &config("kubelet"));
        assert_eq!(user(&here).await.as_deref(), Some("home"));
        tokio::time::advance(LIFE).await;
        assert_eq!(user(&here).await.as_deref(), Some("kubelet"));
    }
}
