//! The machine's certificate authorities, found as Go finds them.
//!
//! In:    `SSL_CERT_FILE` and `SSL_CERT_DIR` as they were at start; the files where distributions keep authorities
//! Out:   a store of roots
//! Calls: fetch, before its first https request
//! Holds: the first file that can be read counts, then every file of the directories; what does not parse is left out; bytes,
//!        files and directories are bounded
//! Upstream: Go's crypto/x509 (root_unix.go, root_linux.go)

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use kubelet_host::HostRoot;
use kubelet_host::files;
use kubelet_model::error_text::error_text;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Bundles; the first that is there counts.
const FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Directories; all of their files count.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
/// Of one file.
const LARGEST: u64 = 8 << 20;
/// Files of one directory.
const MOST: usize = 2000;

/// What the environment says of certificate authorities; empty is as good as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootsWish {
    /// `SSL_CERT_FILE`: instead of the bundles.
    pub file: Option<OsString>,
    /// `SSL_CERT_DIR`: instead of the directories, several with a colon between them.
    pub directories: Option<OsString>,
}

impl RootsWish {
    /// The variables of this process.
    pub fn from_environment() -> Self {
        let said = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            file: said("SSL_CERT_FILE"),
            directories: said("SSL_CERT_DIR"),
        }
    }

    /// Reads the authorities. Blocks.
    pub(super) fn read(&self, root: &HostRoot) -> Result<RootCertStore, String> {
        let files: Vec<PathBuf> = match &self.file {
            Some(file) => vec![root.join(file)],
            None => FILES.iter().map(|file| root.join(file)).collect(),
        };
        let directories: Vec<PathBuf> = match &self.directories {
            Some(list) => std::env::split_paths(list)
                .map(|directory| root.join(directory))
                .collect(),
            None => DIRECTORIES.iter().map(|dir| root.join(dir)).collect(),
        };
        let mut store = RootCertStore::empty();
        let mut first_error = None;
        for file in files {
            match files::read_bounded(&file, LARGEST) {
                Ok(pem) => {
                    add(&mut store, &pem);
                    break;
                }
                Err(error) => {
                    first_error.get_or_insert_with(|| error_text(&error));
                }
            }
        }
        for file in directories.iter().flat_map(|directory| entries(directory)) {
            if let Ok(pem) = files::read_bounded(&file, LARGEST) {
                add(&mut store, &pem);
            }
        }
        match first_error {
            _ if !store.is_empty() => Ok(store),
            Some(error) => Err(error),
            None => Err("the file holds none".to_owned()),
        }
    }
}

fn add(store: &mut RootCertStore, pem: &[u8]) {
    for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
        // Bundles and directories hold most authorities twice: once is enough.
        let mut one = RootCertStore::empty();
        if one.add(certificate).is_ok()
            && let Some(anchor) = one.roots.pop()
            && !store.roots.contains(&anchor)
        {
            store.roots.push(anchor);
        }
    }
}

/// Files of a directory in order, without links to a neighbour: hashed names of the same certificates.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory).map(|list| list.take(MOST).collect());
    let listed: Vec<io::Result<std::fs::DirEntry>> = listed.unwrap_or_default();
    let mut paths: Vec<PathBuf> = listed
        .into_iter()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| !is_link_to_neighbour(path))
        .collect();
    paths.sort();
    paths
}

fn is_link_to_neighbour(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|target| target.components().count() == 1)
}
