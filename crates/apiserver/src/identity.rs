//! Certificates and keys of a one-node cluster: created at the first start, read afterwards.
//!
//! In:    the data directory, names, the time
//! Out:   the CA, the server's certificate and key, the token key; kubeconfigs for the administrator and the node
//! Calls: wiring at start; tests ([`Identity::fresh`])
//! Holds: files with keys have mode 0600 from their first byte on; existing files are used and never replaced, except leaf
//!        certificates that expire soon
//! Upstream: cmd/kubeadm/app/phases/{certs,kubeconfig} (1.36); differences: one directory

pub(crate) mod authority;
pub(crate) mod tokens;

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use kubelet_tls::Certificate;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

use crate::base::clock::Chance;
use crate::base::encoding::base64;
use crate::identity::authority::{Authority, LEAF_SECONDS, Pair, Purpose};
use crate::identity::tokens::TokenKey;

/// Why the identity could not be loaded or created.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{operation} {path}")]
    File {
        /// The operation that failed.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A file has unexpected content.
    #[error("{path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate could not be created.
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
    /// A token key could not be created.
    #[error("make a token key: {0}")]
    TokenKey(String),
}

/// The names for which certificates are issued.
#[derive(Clone, Debug)]
pub struct CertificateNames {
    /// The node's name.
    pub node: String,
    /// Names and addresses by which clients reach the server.
    pub server: Vec<String>,
    /// The server's URL in the kubeconfigs.
    pub url: String,
}

/// The CA, the certificates and keys.
#[derive(Debug)]
pub struct Identity {
    pub(crate) authority: Authority,
    pub(crate) token_key: TokenKey,
    /// Names and addresses by which clients reach the server.
    pub(crate) server_names: Vec<String>,
    /// The node on the server's machine; empty if there is none.
    pub(crate) node: String,
    /// The server's serving certificate.
    pub server: Pair,
    /// The server's client certificate for requests to kubelets.
    pub kubelet_client: Pair,
}

impl Identity {
    /// An identity in memory, for tests.
    ///
    /// # Errors
    /// What could not be created.
    pub fn fresh(chance: &Chance, now: Timestamp) -> Result<Self, IdentityError> {
        let authority = Authority::of(&Authority::fresh(now)?)?;
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        Ok(Self {
            token_key: token_key(&rcgen::KeyPair::generate()?.serialize_der())?,
            server: authority.issue(&Purpose::Server(names.to_vec()), chance, now)?,
            kubelet_client: authority.issue(&kubelet_client(), chance, now)?,
            server_names: names.to_vec(),
            node: String::new(),
            authority,
        })
    }

    /// The identity in a directory and its kubeconfigs. Missing files are created.
    ///
    /// # Errors
    /// [`IdentityError`], naming the file.
    pub fn open(
        dir: &Path,
        names: &CertificateNames,
        chance: &Chance,
        now: Timestamp,
    ) -> Result<Self, IdentityError> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(dir).map_err(|source| IdentityError::File {
            operation: "make",
            path: dir.to_owned(),
            source,
        })?;
        let pair = pair(dir, "ca", || Ok(Authority::fresh(now)?))?;
        let content = |path: PathBuf| {
            move |error: rcgen::Error| IdentityError::Content {
                path,
                why: error.to_string(),
            }
        };
        let authority = Authority::of(&pair).map_err(content(dir.join("ca.crt")))?;
        let key_path = dir.join("sa.key");
        let pem = match read(&key_path)? {
            Some(pem) => pem,
            None => {
                let pem = rcgen::KeyPair::generate()?.serialize_pem();
                write(&key_path, &pem, 0o600)?;
                pem
            }
        };
        let der =
            PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| IdentityError::Content {
                path: key_path,
                why: e.to_string(),
            })?;
        let issue = |purpose: Purpose| {
            let (authority, names) = (&authority, purpose);
            move || Ok(authority.issue(&names, chance, now)?)
        };
        renew(dir, "apiserver", &names.server, now)?;
        let server = self::pair(
            dir,
            "apiserver",
            issue(Purpose::Server(names.server.clone())),
        )?;
        renew(dir, "apiserver-kubelet-client", &[], now)?;
        let kubelet_client = self::pair(dir, "apiserver-kubelet-client", issue(kubelet_client()))?;
        let identity = Self {
            token_key: token_key(der.secret_der())?,
            server,
            kubelet_client,
            server_names: names.server.clone(),
            node: names.node.clone(),
            authority,
        };
        let admin = Purpose::Client(
            "kubernetes-admin".to_owned(),
            vec!["system:masters".to_owned()],
        );
        let node = Purpose::Client(
            format!("system:node:{}", names.node),
            vec!["system:nodes".to_owned()],
        );
        identity.kubeconfig(dir, "admin", &names.url, &admin, (chance, now))?;
        identity.kubeconfig(dir, "kubelet", &names.url, &node, (chance, now))?;
        Ok(identity)
    }

    /// The CA certificate in PEM.
    pub fn authority_certificate(&self) -> &str {
        self.authority.certificate()
    }

    /// A new client certificate signed by the CA, for tests.
    ///
    /// # Errors
    /// The error of the library.
    pub fn client(
        &self,
        name: &str,
        groups: &[&str],
        chance: &Chance,
        now: Timestamp,
    ) -> Result<Pair, IdentityError> {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Ok(self
            .authority
            .issue(&Purpose::Client(name.to_owned(), groups), chance, now)?)
    }

    /// Writes `<name>.kubeconfig`, unless it exists for this URL and user and its certificate is not about to expire.
    fn kubeconfig(
        &self,
        dir: &Path,
        name: &str,
        url: &str,
        who: &Purpose,
        (chance, now): (&Chance, Timestamp),
    ) -> Result<(), IdentityError> {
        let path = dir.join(format!("{name}.kubeconfig"));
        let Purpose::Client(user, _) = who else {
            return Ok(());
        };
        let server_line = format!("server: {url}\n");
        let user_line = format!("\n    user: {user}\n");
        let authority = base64(self.authority.certificate().as_bytes());
        if let Some(old) = read(&path)?
            && old.contains(&server_line)
            && old.contains(&authority)
            && old.contains(&user_line)
            && is_young(&path, now)
        {
            return Ok(());
        }
        let pair = self.authority.issue(who, chance, now)?;
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: hyperkube\n  cluster:\n    certificate-authority-data: {authority}\n    {server_line}contexts:\n- name: hyperkube\n  context:\n    cluster: hyperkube{user_line}current-context: hyperkube\npreferences: {{}}\nusers:\n- name: {user}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            base64(pair.certificate.as_bytes()),
            base64(pair.key.as_bytes()),
        );
        write(&path, &text, 0o600)
    }
}

fn kubelet_client() -> Purpose {
    let groups = vec!["system:masters".to_owned()];
    Purpose::Client("kube-apiserver-kubelet-client".to_owned(), groups)
}

fn token_key(der: &[u8]) -> Result<TokenKey, IdentityError> {
    TokenKey::from_pkcs8(der).map_err(IdentityError::TokenKey)
}

/// Reads `<name>.crt` and `<name>.key`; creates both if the certificate is missing.
fn pair(
    dir: &Path,
    name: &str,
    make: impl FnOnce() -> Result<Pair, IdentityError>,
) -> Result<Pair, IdentityError> {
    let (certificate, key) = (
        dir.join(format!("{name}.crt")),
        dir.join(format!("{name}.key")),
    );
    match (read(&certificate)?, read(&key)?) {
        (Some(certificate), Some(key)) => Ok(Pair { certificate, key }),
        // A crash between the two writes leaves a key alone.
        (None, _) => {
            let made = make()?;
            write(&key, &made.key, 0o600)?;
            write(&certificate, &made.certificate, 0o644)?;
            Ok(made)
        }
        (Some(_), None) => Err(IdentityError::Content {
            why: format!("the key that belongs to it, {}, is missing", key.display()),
            path: certificate,
        }),
    }
}

/// Deletes a leaf certificate that has less than a quarter of its year left, or that lacks a name, so that it is created again.
fn renew(dir: &Path, name: &str, names: &[String], now: Timestamp) -> Result<(), IdentityError> {
    let path = dir.join(format!("{name}.crt"));
    let Some(pem) = read(&path)? else {
        return Ok(());
    };
    if !is_young(&path, now) || !has_names(&pem, names) {
        std::fs::remove_file(&path).map_err(|source| IdentityError::File {
            operation: "remove",
            path,
            source,
        })?;
    }
    Ok(())
}

/// Whether a certificate contains all of these names and addresses.
fn has_names(pem: &str, names: &[String]) -> bool {
    let read = Certificate::from_pem(pem.as_bytes());
    read.is_ok_and(|read| names.iter().all(|name| read.names.has(name)))
}

/// Whether the file was written less than three quarters of a year ago, and not in the future.
fn is_young(path: &Path, now: Timestamp) -> bool {
    let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let written = modified.and_then(|at| Timestamp::try_from(at).ok());
    let age = written.map(|at| now.as_second() - at.as_second());
    age.is_some_and(|age| (-300..LEAF_SECONDS * 3 / 4).contains(&age))
}

fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::File {
            operation: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes a new file, syncs it and renames it into place.
fn write(path: &Path, content: &str, mode: u32) -> Result<(), IdentityError> {
    let fail = |source| IdentityError::File {
        operation: "write",
        path: path.to_owned(),
        source,
    };
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .map_err(fail)?;
    file.write_all(content.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&fresh, path))
        .map_err(fail)
}
