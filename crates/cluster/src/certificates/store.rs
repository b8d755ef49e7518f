//! The files of one certificate: `<prefix>-<time>.pem` with certificate and key, and a link `<prefix>-current.pem` to the newest.
//!
//! In:    PEM texts
//! Out:   files of mode 0600
//! Calls: certificates; the client and the main port read through the link
//! Holds: a file is written and synced before the link names it; the link changes at once, never to nothing
//! Upstream: client-go/util/certificate/certificate_store.go
//! Gap:   files of earlier certificates are kept, as upstream keeps them

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use kubelet_tls::{Certificate, Validity};
use tokio::io::AsyncWriteExt as _;

use crate::tls;

use super::CertificateError;

/// A pair in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPair {
    /// From when until when.
    pub validity: Validity,
}

/// Where one certificate is kept.
#[derive(Clone, Debug)]
pub struct CertificateStore {
    directory: PathBuf,
    prefix: String,
}

impl CertificateStore {
    /// `kubelet-client` or `kubelet-server` in `--cert-dir`.
    pub fn new(directory: &Path, prefix: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    /// That of the client certificate.
    pub fn client(directory: &Path) -> Self {
        Self::new(directory, "kubelet-client")
    }

    /// That of the serving certificate.
    pub fn serving(directory: &Path) -> Self {
        Self::new(directory, "kubelet-server")
    }

    /// The link to the newest.
    pub fn current(&self) -> PathBuf {
        self.directory.join(format!("{}-current.pem", self.prefix))
    }

    /// The pair that the link names; nothing when it is not there or cannot be used.
    pub async fn read(&self) -> Option<StoredPair> {
        let path = self.current();
        let text = match tls::read_file(&path).await {
            Ok(text) => text,
            Err(why) => {
                tracing::debug!(why, "No certificate is stored");
                return None;
            }
        };
        if let Err(why) = tls::certified_key(&text, &text) {
            tracing::warn!(path = %path.display(), why, "Stored certificate cannot be used");
            return None;
        }
        let read = Certificate::from_pem(&text);
        let unread =
            |why| tracing::warn!(path = %path.display(), why, "Stored certificate cannot be read");
        let validity = read.map_err(unread).ok()?.validity;
        Some(StoredPair { validity })
    }

    /// Stores a pair and makes it the current one.
    pub(super) async fn write(
        &self,
        certificate: &[u8],
        key: &[u8],
        now: Timestamp,
    ) -> Result<(), CertificateError> {
        let stamp = now
            .to_zoned(TimeZone::UTC)
            .strftime("%Y-%m-%d-%H-%M-%S")
            .to_string();
        let path = self.directory.join(format!("{}-{stamp}.pem", self.prefix));
        let gap: &[u8] = if certificate.ends_with(b"\n") {
            b""
        } else {
            b"\n"
        };
        write_whole(&path, &[certificate, gap, key].concat()).await?;
        let next = self.directory.join(format!("{}-updated.pem", self.prefix));
        match tokio::fs::remove_file(&next).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error("remove", &next)(error));
            }
            _ => {}
        }
        let linked = tokio::fs::symlink(&path, &next).await;
        linked.map_err(file_error("link", &next))?;
        let current = self.current();
        let renamed = tokio::fs::rename(&next, &current).await;
        renamed.map_err(file_error("rename", &current))?;
        sync_directory(&self.directory).await
    }
}

pub(super) fn file_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> CertificateError {
    let path = path.to_owned();
    move |source| CertificateError::File {
        operation,
        path,
        source,
    }
}

/// Writes a file of mode 0600 in whole or not at all, making its directory.
pub(super) async fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), CertificateError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let made = tokio::fs::create_dir_all(directory).await;
    made.map_err(file_error("make", directory))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let part = directory.join(name);
    let written = async {
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&part).await?;
        file.write_all(bytes).await?;
        file.sync_all().await?;
        tokio::fs::rename(&part, path).await
    };
    written.await.map_err(file_error("write", path))?;
    sync_directory(directory).await
}

async fn sync_directory(path: &Path) -> Result<(), CertificateError> {
    let synced = async { tokio::fs::File::open(path).await?.sync_all().await };
    synced.await.map_err(file_error("sync", path))
}
