//! The main port's certificate, key and client authorities: made, checked, and read again when the files change.
//!
//! In:    paths; the node's name and the present time for a pair of our own
//! Out:   the TLS configuration of the next connection
//! Calls: `lib` at bind; `listener` and `answer` (a stat of at most three files, once a second at the most; nothing runs while
//!        nobody asks)
//! Holds: before the cluster's certificate has come no handshake succeeds; a changed file that is unusable keeps what was in force and is logged once per change; the key file is 0600
//! Upstream: cmd/kubelet/app/server.go InitializeTLS, client-go util/cert (1.36); differences: an ECDSA key (upstream: RSA), and
//!           the names `localhost` and `127.0.0.1` beside the node's

use std::fs::Metadata;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubelet_host::Blocking;
use kubelet_tls::{MinTls, certificates, client_authorities, pair, private_key, server_config};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, ServerConfig};
use tokio::time::Instant;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("{operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key are not a pair.
    #[error("certificate {certificate} and key {key} cannot be used together: {why}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the TLS library said.
        why: String,
    },
    /// A cipher suite or key exchange that this build does not have, or nobody has.
    #[error("{0}")]
    Negotiation(String),
    /// A pair of our own could not be made.
    #[error("make a self-signed certificate: {0}")]
    Make(String),
}

/// Where the serving pair is.
#[derive(Debug, Clone)]
pub enum ServingPair {
    /// `kubelet.crt` and `kubelet.key` in this directory, made when they are not there.
    SelfSigned(PathBuf),
    /// Certificate and key in one file that the cluster's certificate comes to; until then handshakes fail.
    FromCluster(PathBuf),
    /// Files somebody else keeps.
    Files {
        /// PEM: the certificate, then its chain.
        certificate: PathBuf,
        /// PEM.
        key: PathBuf,
    },
}

/// What clients may negotiate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiation {
    /// `tlsMinVersion`.
    pub min: MinTls,
    /// `tlsCipherSuites` by their Go names; empty is all. Those of 1.3 are always on, as in upstream.
    pub cipher_suites: Vec<String>,
    /// `tlsCurvePreferences` by their TLS numbers, best first; empty is all.
    pub curves: Vec<i32>,
}

/// What stands behind one handshake.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) authorities: Option<Arc<dyn ClientCertVerifier>>,
}

/// The TLS configuration and the files it came from.
pub(crate) struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    provider: Arc<CryptoProvider>,
    min: MinTls,
    seen: Vec<Option<Stamp>>,
    tls: Tls,
}

/// What changes when a file does, links followed.
type Stamp = (u64, u64, i64, i64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let of = |m: Metadata| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec(), m.size());
    std::fs::metadata(path).map(of).ok()
}

impl TlsFiles {
    /// Makes the pair if it is to be made, and reads everything.
    pub(crate) fn open(
        pair: &ServingPair,
        client_ca: Option<PathBuf>,
        negotiation: &Negotiation,
        node_name: &str,
        now: jiff::Timestamp,
    ) -> Result<Self, TlsError> {
        let (min, provider) = (negotiation.min, Arc::new(negotiation.provider()?));
        let (certificate, key) = match pair {
            ServingPair::Files { certificate, key } => (certificate.clone(), key.clone()),
            ServingPair::FromCluster(file) => (file.clone(), file.clone()),
            ServingPair::SelfSigned(dir) => {
                let (certificate, key) = (dir.join("kubelet.crt"), dir.join("kubelet.key"));
                match (certificate.exists(), key.exists()) {
                    (true, true) => {}
                    (false, _) => make_pair(&certificate, &key, node_name, now)?,
                    (true, false) => {
                        let why =
                            format!("the key that belongs to it, {}, is missing", key.display());
                        return Err(TlsError::Content {
                            path: certificate,
                            why,
                        });
                    }
                }
                (certificate, key)
            }
        };
        let seen = stamps(&certificate, &key, client_ca.as_deref());
        let is_to_come = matches!(pair, ServingPair::FromCluster(_)) && !certificate.exists();
        let tls = if is_to_come {
            // What is spoken before there is a certificate: no handshake succeeds.
            shown(Arc::new(NothingYet), client_ca.as_deref(), (min, &provider))?
        } else {
            load((&certificate, &key), client_ca.as_deref(), (min, &provider))?
        };
        Ok(Self {
            certificate,
            key,
            client_ca,
            provider,
            min,
            seen,
            tls,
        })
    }

    /// The configuration for the next connection; files that changed since the last call are read again.
    pub(crate) fn current(&mut self) -> Tls {
        let seen = stamps(&self.certificate, &self.key, self.client_ca.as_deref());
        if seen != self.seen {
            self.seen = seen;
            match load(
                (&self.certificate, &self.key),
                self.client_ca.as_deref(),
                (self.min, &self.provider),
            ) {
                Ok(tls) => {
                    tracing::info!(certificate = %self.certificate.display(), "serving certificate read again");
                    self.tls = tls;
                }
                Err(error) => {
                    tracing::warn!(%error, "changed TLS files cannot be used, the former ones stay in force")
                }
            }
        }
        self.tls.clone()
    }
}

/// How old a look at the files may be.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The TLS files as they were a second ago at the most. They are looked at when somebody asks, by a thread of their own: a file
/// system that does not answer costs one thread, and the configuration in force stays.
pub(crate) struct Current {
    blocking: Blocking,
    /// Locked by the look alone.
    files: Arc<Mutex<TlsFiles>>,
    /// Never locked across an await.
    in_force: Mutex<(Tls, Option<Instant>)>,
}

impl Current {
    pub(crate) fn new(files: TlsFiles, blocking: Blocking) -> Self {
        let in_force = (files.tls.clone(), None);
        Self {
            blocking,
            files: Arc::new(Mutex::new(files)),
            in_force: Mutex::new(in_force),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Tls, Option<Instant>)> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn get(&self) -> Tls {
        let now = Instant::now();
        {
            let mut in_force = self.lock();
            let (tls, looked) = &mut *in_force;
            if looked.is_some_and(|at| now.saturating_duration_since(at) < LOOK_EVERY) {
                return tls.clone();
            }
            // Whoever comes meanwhile does not look as well.
            *looked = Some(now);
        }
        let files = Arc::clone(&self.files);
        // Nothing when the look before this one has not come back.
        let look = move || files.try_lock().ok().map(|mut files| files.current());
        match self
            .blocking
            .run(LOOK_EVERY, "look at the TLS files", look)
            .await
        {
            Ok(Some(tls)) => self.lock().0 = tls,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the TLS files cannot be looked at, the former ones stay in force")
            }
        }
        self.lock().0.clone()
    }
}

fn stamps(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Vec<Option<Stamp>> {
    [Some(certificate), Some(key), client_ca]
        .into_iter()
        .flatten()
        .map(stamp)
        .collect()
}

fn load(
    (certificate, key): (&Path, &Path),
    client_ca: Option<&Path>,
    (min, provider): (MinTls, &Arc<CryptoProvider>),
) -> Result<Tls, TlsError> {
    let chain = read_certificates(certificate)?;
    let pem = read(key)?;
    let private = private_key(&pem).map_err(content(key))?;
    let pair = pair(chain, private).map_err(|error| TlsError::Pair {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        why: error.to_string(),
    })?;
    shown(
        Arc::new(SingleCertAndKey::from(pair)),
        client_ca,
        (min, provider),
    )
}

#[derive(Debug)]
struct NothingYet;

impl ResolvesServerCert for NothingYet {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        tracing::warn!("no serving certificate available for the kubelet");
        None
    }
}

fn shown(
    pair: Arc<dyn ResolvesServerCert>,
    client_ca: Option<&Path>,
    (min, provider): (MinTls, &Arc<CryptoProvider>),
) -> Result<Tls, TlsError> {
    let authorities = client_ca.map(read_authorities).transpose()?;
    let config = server_config((Arc::clone(provider), min), authorities.as_ref(), pair);
    Ok(Tls {
        config: Arc::new(config.map_err(TlsError::Negotiation)?),
        authorities,
    })
}

/// Every suite that Go's names can mean here; those of TLS 1.3 are beside them in the list but cannot be chosen.
const SUITES: [(&str, CipherSuite); 11] = [
    (
        "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_128_GCM_SHA256,
    ),
    (
        "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_256_GCM_SHA384,
    ),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// What Go has besides; weak, and not in this build.
const WEAK: [&str; 16] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_RC4_128_SHA",
];

impl Negotiation {
    /// Suites that are asked for, that Go has, and that are not offered here: weak ones. The rest of the list counts without them.
    pub fn weak_suites(&self) -> impl Iterator<Item = &str> {
        let names = self.cipher_suites.iter().map(String::as_str);
        names.filter(|name| WEAK.contains(name))
    }

    /// The library's ciphers, as far as they are wanted.
    fn provider(&self) -> Result<CryptoProvider, TlsError> {
        let mut provider = CryptoProvider::clone(&kubelet_tls::provider());
        if !self.cipher_suites.is_empty() {
            let wanted = self.cipher_suites.iter().map(|name| suite(name));
            let wanted: Vec<Option<CipherSuite>> = wanted.collect::<Result<_, _>>()?;
            let wanted: Vec<CipherSuite> = wanted.into_iter().flatten().collect();
            if wanted.is_empty() {
                return Err(TlsError::Negotiation(format!(
                    "tlsCipherSuites: no suite is left of {}: weak, and not available here; these are: {}",
                    self.cipher_suites.join(", "),
                    names_of_suites()
                )));
            }
            provider.cipher_suites.retain(|suite| {
                suite.version() == &rustls::version::TLS13 || wanted.contains(&suite.suite())
            });
        }
        if !self.curves.is_empty() {
            let known = provider.kx_groups.clone();
            let group = |number: &i32| {
                let found = known
                    .iter()
                    .find(|group| i32::from(u16::from(group.name())) == *number);
                found.copied().ok_or_else(|| {
                    let known: Vec<u16> = known.iter().map(|group| group.name().into()).collect();
                    TlsError::Negotiation(format!(
                        "tlsCurvePreferences: {number} is not available here; these are: {known:?}"
                    ))
                })
            };
            provider.kx_groups = self.curves.iter().map(group).collect::<Result<_, _>>()?;
        }
        Ok(provider)
    }
}

/// The suite of this name; `None` when Go has it and this build has not.
fn suite(name: &str) -> Result<Option<CipherSuite>, TlsError> {
    if let Some((_, suite)) = SUITES.iter().find(|(known, _)| *known == name) {
        return Ok(Some(*suite));
    }
    if WEAK.contains(&name) {
        return Ok(None);
    }
    // The first half is upstream's text.
    Err(TlsError::Negotiation(format!(
        "tlsCipherSuites: Cipher suite {name} not supported or doesn't exist; these are: {}",
        names_of_suites()
    )))
}

fn names_of_suites() -> String {
    SUITES.map(|(name, _)| name).join(", ")
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File {
        operation: "read",
        path: path.to_owned(),
        source,
    })
}

fn content(path: &Path) -> impl FnOnce(String) -> TlsError {
    let path = path.to_owned();
    move |why| TlsError::Content { path, why }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(&read(path)?).map_err(content(path))
}

fn read_authorities(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    client_authorities(&read(path)?).map_err(content(path))
}

/// Writes a fresh authority's leaf and its authority to `certificate`, the leaf's key to `key`; the authority's key is
/// dropped. One year, from an hour ago.
fn make_pair(
    certificate: &Path,
    key: &Path,
    node_name: &str,
    now: jiff::Timestamp,
) -> Result<(), TlsError> {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
        KeyPair, KeyUsagePurpose,
    };
    let make = |e: rcgen::Error| TlsError::Make(e.to_string());
    let seconds = now.as_second();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |seconds: i64| epoch + Duration::from_secs(seconds.try_into().unwrap_or(0));
    let parameters = |names: Vec<String>, common_name: String| {
        let mut parameters = CertificateParams::new(names).map_err(make)?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::CommonName, common_name);
        parameters.not_before = at(seconds - 3600);
        parameters.not_after = at(seconds - 3600 + 365 * 24 * 3600);
        Ok::<_, TlsError>(parameters)
    };
    let mut authority = parameters(Vec::new(), format!("{node_name}-ca@{seconds}"))?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let authority_key = KeyPair::generate().map_err(make)?;
    let authority_certificate = authority.self_signed(&authority_key).map_err(make)?;
    let names = [node_name, "localhost", "127.0.0.1"]
        .map(str::to_owned)
        .to_vec();
    let mut leaf = parameters(names, format!("{node_name}@{seconds}"))?;
    leaf.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A key without certificate is what a crash between the two writes leaves, or somebody's: it is used, not replaced.
    let leaf_key = if key.exists() {
        let pem = String::from_utf8_lossy(&read(key)?).into_owned();
        KeyPair::from_pem(&pem).map_err(|e| TlsError::Content {
            path: key.to_owned(),
            why: e.to_string(),
        })?
    } else {
        let made = KeyPair::generate().map_err(make)?;
        write(key, made.serialize_pem().as_bytes(), 0o600)?;
        made
    };
    let leaf_certificate = leaf
        .signed_by(&leaf_key, &Issuer::new(authority, authority_key))
        .map_err(make)?;
    let chain = format!("{}{}", leaf_certificate.pem(), authority_certificate.pem());
    write(certificate, chain.as_bytes(), 0o644)
}

/// Writes a new file beside `path` and puts it in its place.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), TlsError> {
    let fail = |operation| {
        move |source| TlsError::File {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(fail("make the directory of"))?;
    }
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(fail("write")(e)),
        _ => {}
    }
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh);
    let mut file = opened.map_err(fail("write"))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(fail("write"))?;
    std::fs::rename(&fresh, path).map_err(fail("write"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider_of(suites: &[&str], curves: &[i32]) -> Result<CryptoProvider, String> {
        let negotiation = Negotiation {
            min: MinTls::V12,
            cipher_suites: suites.iter().map(|name| (*name).to_owned()).collect(),
            curves: curves.to_vec(),
        };
        negotiation.provider().map_err(|error| error.to_string())
    }

    #[test]
    fn suites_and_curves_are_those_that_are_wanted_and_unknown_ones_are_refused() {
        let suites = |names: &[&str]| -> Vec<CipherSuite> {
            provider_of(names, &[])
                .unwrap()
                .cipher_suites
                .iter()
                .map(|suite| suite.suite())
                .collect()
        };
        assert_eq!(suites(&[]).len(), 9);
        let one = suites(&[
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_AES_128_GCM_SHA256",
        ]);
        assert_eq!(one.len(), 4, "{one:?}");
        assert!(one.contains(&CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256));
        for (name, suite) in SUITES {
            assert!(suites(&[name]).contains(&suite), "{name}");
        }
        for name in WEAK {
            assert_eq!(
                suites(&[name, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]),
                suites(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]),
                "the rest of the list counts"
            );
        }
        let text = provider_of(&WEAK[..2], &[]).unwrap_err();
        let start = format!(
            "tlsCipherSuites: no suite is left of {}, {}: weak",
            WEAK[0], WEAK[1]
        );
        assert!(text.starts_with(&start), "{text}");
        let text = provider_of(&["X"], &[]).unwrap_err();
        assert!(
            text.starts_with(
                "tlsCipherSuites: Cipher suite X not supported or doesn't exist; these are: "
            ),
            "{text}"
        );
        let groups: Vec<u16> = provider_of(&[], &[24, 29])
            .unwrap()
            .kx_groups
            .iter()
            .map(|group| group.name().into())
            .collect();
        assert_eq!(groups, [24, 29]);
        assert_eq!(
            provider_of(&[], &[25]).unwrap_err(),
            "tlsCurvePreferences: 25 is not available here; these are: [29, 23, 24]"
        );
    }

    #[test]
    fn a_certificate_of_the_cluster_is_served_from_the_moment_it_comes() {
        let place = std::env::temp_dir().join(format!("kubelet-tls-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let file = place.join("kubelet-server-current.pem");
        let negotiation = Negotiation {
            min: MinTls::V12,
            cipher_suites: Vec::new(),
            curves: Vec::new(),
        };
        let pair = ServingPair::FromCluster(file.clone());
        let now = "2026-11-25T12:00:00Z".parse().unwrap();
        let mut files = TlsFiles::open(&pair, None, &negotiation, "n", now).unwrap();
        let first = files.current();
        assert!(Arc::ptr_eq(&first.config, &files.current().config));
        for name in ["a", "b"] {
            let before = files.current();
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            let text = made.cert.pem() + &made.signing_key.serialize_pem();
            let (stored, next) = (place.join(name), place.join("next"));
            std::fs::write(&stored, text).unwrap();
            std::os::unix::fs::symlink(&stored, &next).unwrap();
            std::fs::rename(&next, &file).unwrap();
            let after = files.current();
            assert!(!Arc::ptr_eq(&before.config, &after.config), "{name}");
        }
        // One that cannot be used changes nothing.
        let before = files.current();
        std::fs::write(place.join("b"), "no certificate").unwrap();
        assert!(Arc::ptr_eq(&before.config, &files.current().config));
        std::fs::remove_dir_all(place).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_looked_at_once_a_second_at_the_most() {
        let place = std::env::temp_dir().join(format!("kubelet-look-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let pair = ServingPair::SelfSigned(place.clone());
        let negotiation = Negotiation {
            min: MinTls::V12,
            cipher_suites: Vec::new(),
            curves: Vec::new(),
        };
        let now = "2026-11-25T12:00:00Z".parse().unwrap();
        let files = TlsFiles::open(&pair, None, &negotiation, "n", now).unwrap();
        let current = Current::new(files, Blocking::Inline);
        let first = current.get().await;
        std::fs::remove_file(place.join("kubelet.crt")).unwrap();
        let again = TlsFiles::open(&pair, None, &negotiation, "n", now).unwrap();
        drop(again);
        for _ in 0..1000 {
            assert!(Arc::ptr_eq(&first.config, &current.get().await.config));
        }
        tokio::time::advance(LOOK_EVERY).await;
        assert!(!Arc::ptr_eq(&first.config, &current.get().await.config));
        std::fs::remove_dir_all(place).unwrap();
    }
}
