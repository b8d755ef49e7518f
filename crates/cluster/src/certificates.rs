//! The node's client and serving certificates: bootstrap by token, CSRs, rotation before expiry.
//!
//! In:    a client, the node's name, where certificates are kept; for serving ones the node's names and addresses
//! Out:   files (`kubelet-client-current.pem`, `kubelet-server-current.pem`), a kubeconfig; word to the client that they changed
//! Calls: wiring (bootstrap), hyperkube/wiring/certificates (rotation), one task per certificate
//! Holds: the key is generated on this machine and never leaves it; a certificate and key are used only as a complete pair; a
//!        CSR whose request was cut off is resumed with the same key; the kubelet waits 15 min for a CSR to be approved
//! Upstream: pkg/kubelet/certificate (bootstrap/bootstrap.go, kubelet.go), client-go/util/certificate (certificate_manager.go,
//!           csr/csr.go); differences: the request's name is made of another digest
//!
//! | Module | What |
//! |---|---|
//! | `store` | the files |
//! | `client` | the client certificate from nothing to its last rotation |

mod client;
mod store;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubelet_model::doubling::Doubling;
use kubelet_model::error_text::error_text;
use kubelet_tls::{Certificate, Validity};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::{Client, LaneKind};
use crate::error::ClusterError;
use crate::kubeconfig::{ClientPair, Kubeconfig, KubeconfigError, Login, Material, Server, Trust};
use crate::objects_api::At;
use crate::reflector::{FirstSet, Reflector, Selection};
use crate::tls;
use kubelet_model::dice::Dice;

pub use client::ClientCertificate;
pub use store::{CertificateStore, StoredPair};

const CALL: Duration = Duration::from_secs(30);
/// How long a request waits for approval.
const APPROVAL: Duration = Duration::from_secs(15 * 60);
/// Waits after failed rotations: doubling so often, then the last again and again.
const RETRY: Doubling = Doubling::new(Duration::from_secs(2), Duration::from_secs(32));
/// Between two rotations that time demands.
const GAP: Duration = Duration::from_secs(60);
/// The key of a bootstrap that is not done.
const BOOTSTRAP_KEY: &str = "kubelet-client.key.tmp";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
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
    /// Key or request could not be made, or the certificate that came is not of the key.
    #[error("{0}")]
    Pair(String),
    /// The API server could not be asked.
    #[error("certificate signing request")]
    Request(#[source] ClusterError),
    /// Somebody said no.
    #[error(
        "certificate signing request {name} is {verdict}, reason: {reason}, message: {message}"
    )]
    Refused {
        /// Name of the request.
        name: String,
        /// `denied` or `failed`.
        verdict: &'static str,
        /// Reason.
        reason: String,
        /// Message.
        message: String,
    },
    /// Nobody said anything.
    #[error("certificate signing request {name} was not approved within {APPROVAL:?}")]
    NotApproved {
        /// Name of the request.
        name: String,
    },
    /// The bootstrap kubeconfig, or the one to write, is of no use.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Showing who this node is.
    Client,
    /// The main port, under these names.
    Serving(ServingNames),
}

/// Names of the main port's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingNames {
    /// Host names, sorted.
    pub dns: Vec<String>,
    /// Addresses, sorted.
    pub ips: Vec<IpAddr>,
}

impl Purpose {
    fn signer(&self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving(_) => "kubernetes.io/kubelet-serving",
        }
    }

    /// Of a key that cannot encipher other keys.
    fn usages(&self) -> Vec<String> {
        let purpose = match self {
            Self::Client => "client auth",
            Self::Serving(_) => "server auth",
        };
        ["digital signature", purpose].map(str::to_owned).to_vec()
    }
}

fn pair_error(error: &dyn std::error::Error) -> CertificateError {
    CertificateError::Pair(error.to_string())
}

/// The request of a node, PEM.
fn signing_request(
    node: &str,
    purpose: &Purpose,
    key: &KeyPair,
) -> Result<String, CertificateError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "system:nodes");
    name.push(DnType::CommonName, format!("system:node:{node}"));
    params.distinguished_name = name;
    if let Purpose::Serving(names) = purpose {
        for dns in &names.dns {
            let dns = dns.clone().try_into().map_err(|error| pair_error(&error))?;
            params.subject_alt_names.push(SanType::DnsName(dns));
        }
        let ips = names.ips.iter().map(|ip| SanType::IpAddress(*ip));
        params.subject_alt_names.extend(ips);
    }
    let request = params
        .serialize_request(key)
        .map_err(|error| pair_error(&error))?;
    request.pem().map_err(|error| pair_error(&error))
}

/// How a request is named.
#[derive(Clone, Debug)]
enum RequestName {
    /// By the server, with this beginning.
    Generated(&'static str),
    /// By the key, so that a request that was cut off is found again.
    OfKey(String),
}

/// Asks for a certificate and waits for it; PEM, checked against the key.
async fn request_certificate(
    client: &Client,
    node: &str,
    purpose: &Purpose,
    key: &KeyPair,
    (name, dice): (RequestName, &mut Dice),
) -> Result<Vec<u8>, CertificateError> {
    let pem = signing_request(node, purpose, key)?;
    let (name, generate_name) = match name {
        RequestName::Generated(start) => (None, Some(start.to_owned())),
        RequestName::OfKey(name) => (Some(name), None),
    };
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            name: name.clone(),
            generate_name,
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: purpose.signer().to_owned(),
            usages: Some(purpose.usages()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let at = At {
        operation: "create certificate signing request",
        lane: LaneKind::General,
        namespace: None,
        name: "",
        subresource: None,
        deadline: CALL,
    };
    let name = match (client.create(at, &request).await, name) {
        (Ok(created), _) => created.metadata.name.unwrap_or_default(),
        // Asked before, by a process that ended.
        (Err(error), Some(name)) if error.is_already_exists() => name,
        (Err(error), _) => return Err(CertificateError::Request(error)),
    };
    let issued = tokio::time::timeout(APPROVAL, issued(client, &name, dice.split())).await;
    let certificate = issued.map_err(|_| CertificateError::NotApproved { name })??;
    tls::certified_key(&certificate, key.serialize_pem().as_bytes())
        .map_err(CertificateError::Pair)?;
    Ok(certificate)
}

/// Watches one request until it has its certificate.
async fn issued(client: &Client, name: &str, dice: Dice) -> Result<Vec<u8>, CertificateError> {
    let selection = Selection {
        fields: Some(format!("metadata.name={name}")),
        ..Selection::default()
    };
    let (reflector, mut snapshots) = Reflector::<CertificateSigningRequest>::new(
        client.clone(),
        selection,
        FirstSet::Paged,
        dice,
    );
    let verdict = async {
        while snapshots.changed().await.is_ok() {
            let set = snapshots.borrow_and_update().clone();
            let request = set.and_then(|set| set.get("", name).cloned());
            if let Some(verdict) = request.and_then(|request| verdict(name, &request)) {
                return verdict;
            }
        }
        Err(CertificateError::NotApproved {
            name: name.to_owned(),
        })
    };
    tokio::select! {
        biased;
        // Cancel: the watch of an answered request is of no more use.
        verdict = verdict => verdict,
        () = reflector.run() => Err(CertificateError::NotApproved { name: name.to_owned() }),
    }
}

fn verdict(
    name: &str,
    request: &CertificateSigningRequest,
) -> Option<Result<Vec<u8>, CertificateError>> {
    let status = request.status.as_ref()?;
    for condition in status.conditions.iter().flatten() {
        let verdict = match condition.type_.as_str() {
            "Denied" => "denied",
            "Failed" => "failed",
            _ => continue,
        };
        return Some(Err(CertificateError::Refused {
            name: name.to_owned(),
            verdict,
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        }));
    }
    let certificate = status.certificate.as_ref()?;
    (!certificate.0.is_empty()).then(|| Ok(certificate.0.clone()))
}

/// When to ask for the next certificate: after 70 to 90 % of its life, `fraction` from 0 to 1 of the way between.
pub fn rotation_deadline(validity: Validity, fraction: f64) -> Timestamp {
    let life = validity.not_after.duration_since(validity.not_before);
    let until = life.as_secs_f64() * (0.7 + 0.2 * fraction);
    let until = SignedDuration::try_from_secs_f64(until).unwrap_or(SignedDuration::ZERO);
    validity
        .not_before
        .saturating_add(until)
        .unwrap_or(validity.not_after)
}

/// Where a bootstrap reads and writes.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// The kubeconfig to write.
    pub kubeconfig: PathBuf,
    /// `--cert-dir`.
    pub directory: PathBuf,
    /// Node name.
    pub node: String,
}

impl Bootstrap {
    /// Whether the kubeconfig is absent or its client certificate is of no use any more.
    pub async fn is_needed(&self, now: Timestamp) -> bool {
        let Ok(config) = Kubeconfig::read(&self.kubeconfig).await else {
            return true;
        };
        // One without a certificate of its own has other credentials.
        let Some(pair) = config.pair else {
            return false;
        };
        let certificate = tls::read_material(&pair.certificate).await;
        let key = tls::read_material(&pair.key).await;
        let (Ok(certificate), Ok(key)) = (certificate, key) else {
            return true;
        };
        if tls::certified_key(&certificate, &key).is_err() {
            return true;
        }
        let read = Certificate::from_pem(&certificate);
        read.map_or(true, |read| read.validity.not_after <= now)
    }

    /// The kubeconfig that the bootstrap leaves, before its files are there.
    pub fn to_come(&self, server: Server) -> Kubeconfig {
        let current = Material::File(CertificateStore::client(&self.directory).current());
        let pair = ClientPair {
            certificate: current.clone(),
            key: current,
        };
        Kubeconfig {
            server,
            pair: Some(pair),
            login: Login::None,
        }
    }

    /// Gets the first client certificate by a client of the bootstrap kubeconfig, and writes the kubeconfig that uses it.
    ///
    /// # Errors
    /// When a file cannot be written, the request was refused, or nobody approved it. Trying again takes it up.
    pub async fn run(
        &self,
        client: &Client,
        server: &Server,
        dice: &mut Dice,
    ) -> Result<(), CertificateError> {
        let store = CertificateStore::client(&self.directory);
        let (key, key_path) = self.key().await?;
        let name = RequestName::OfKey(format!("node-csr-{}", digest(key.public_key_raw())));
        let certificate =
            request_certificate(client, &self.node, &Purpose::Client, &key, (name, dice)).await?;
        let now = client.clock().now();
        let pem = key.serialize_pem();
        store.write(&certificate, pem.as_bytes(), now).await?;
        let text = kubeconfig_text(server, &store.current());
        store::write_whole(&self.kubeconfig, text.as_bytes()).await?;
        // Only now the key lives on in the store.
        tokio::fs::remove_file(&key_path)
            .await
            .map_err(store::file_error("remove", &key_path))
    }

    /// The key of a bootstrap that was cut off, or a new one.
    async fn key(&self) -> Result<(KeyPair, PathBuf), CertificateError> {
        let path = self.directory.join(BOOTSTRAP_KEY);
        if let Ok(text) = tls::read_file(&path).await
            && let Ok(text) = String::from_utf8(text)
            && let Ok(key) = KeyPair::from_pem(&text)
        {
            return Ok((key, path));
        }
        let key = KeyPair::generate().map_err(|error| pair_error(&error))?;
        store::write_whole(&path, key.serialize_pem().as_bytes()).await?;
        Ok((key, path))
    }
}

/// Hexadecimal digest, by the hash that TLS has anyway.
fn digest(bytes: &[u8]) -> String {
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    let hash = suite.map(|suite| suite.common.hash_provider.hash(bytes));
    let hash = hash.as_ref().map_or(bytes, |hash| hash.as_ref());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kubeconfig that a bootstrap leaves: the server as it was, the certificate by its link.
fn kubeconfig_text(server: &Server, current: &Path) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut cluster = Vec::new();
    match &server.trust {
        Trust::Authorities(Material::Data(data)) => {
            let data = serde_json::json!(ByteString(data.0.clone()));
            cluster.push(format!("certificate-authority-data: {data}"));
        }
        Trust::Authorities(Material::File(path)) => {
            let path = quoted(&path.to_string_lossy());
            cluster.push(format!("certificate-authority: {path}"));
        }
        Trust::Nobody => cluster.push("insecure-skip-tls-verify: true".to_owned()),
        Trust::System => {}
    }
    let url = server.url.to_string();
    cluster.push(format!("server: {}", quoted(url.trim_end_matches('/'))));
    if let Some(name) = &server.tls_name {
        cluster.push(format!("tls-server-name: {}", quoted(name)));
    }
    if let Some(proxy) = &server.proxy {
        cluster.push(format!("proxy-url: {}", quoted(&proxy.to_string())));
    }
    let cluster = cluster.join("\n    ");
    let pem = quoted(&current.to_string_lossy());
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    {cluster}\n  name: default-cluster\ncontexts:\n- context:\n    \
         cluster: default-cluster\n    namespace: default\n    user: default-auth\n  name: default-context\n\
         current-context: default-context\nkind: Config\nusers:\n- name: default-auth\n  user:\n    \
         client-certificate: {pem}\n    client-key: {pem}\n"
    )
}

/// What a rotation is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationState {
    /// Nothing was looked at yet.
    Starting,
    /// Until then nothing is to be done.
    Good {
        /// When the certificate ends.
        until: Timestamp,
        /// When the next one is asked for.
        rotate_at: Timestamp,
    },
    /// Asked, not answered.
    Asking,
    /// Not had; asked again soon.
    Failed {
        /// Why, with its causes.
        why: String,
        /// In a row.
        failures: u32,
    },
}

/// What happened to a pair, for figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationNews {
    /// This one is in force.
    Pair(Validity),
    /// The next one could not be had.
    Failed,
    /// It was replaced, so long after it began.
    Replaced(SignedDuration),
}

/// Who is told.
#[derive(Clone)]
pub struct Listener(pub Arc<dyn Fn(RotationNews) + Send + Sync>);

impl Default for Listener {
    fn default() -> Self {
        Self(Arc::new(|_| {}))
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

/// Keeps one certificate of this node current; to be run by its owner.
#[derive(Debug)]
pub struct Rotation {
    client: Client,
    store: CertificateStore,
    node: String,
    purpose: watch::Receiver<Purpose>,
    state: watch::Sender<RotationState>,
    listener: Listener,
    dice: Dice,
}

impl Rotation {
    /// Rotation of the pair in a store; a change of the serving names asks anew at once.
    pub fn new(
        client: Client,
        store: CertificateStore,
        node: &str,
        purpose: watch::Receiver<Purpose>,
        dice: Dice,
    ) -> Self {
        Self {
            client,
            store,
            node: node.to_owned(),
            purpose,
            state: watch::Sender::new(RotationState::Starting),
            listener: Listener::default(),
            dice,
        }
    }

    /// The same, with somebody to tell.
    pub fn telling(mut self, listener: Listener) -> Self {
        self.listener = listener;
        self
    }

    /// What it is at.
    pub fn state(&self) -> watch::Receiver<RotationState> {
        self.state.subscribe()
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        // The names that the pair in force was asked for; of one that was here before, nobody knows better than now.
        let mut asked_for = self
            .store
            .read()
            .await
            .map(|_| self.purpose.borrow().clone());
        let mut rotated = None;
        loop {
            self.until_due(asked_for.as_ref(), rotated).await;
            asked_for = Some(self.until_rotated().await);
            rotated = Some(Instant::now());
        }
    }

    /// Asks again and again, without drawing a new deadline.
    async fn until_rotated(&mut self) -> Purpose {
        let mut failures = 0;
        loop {
            self.state.send_replace(RotationState::Asking);
            let purpose = self.purpose.borrow_and_update().clone();
            let Err(error) = self.rotate(&purpose).await else {
                return purpose;
            };
            failures += 1;
            (self.listener.0)(RotationNews::Failed);
            let why = error_text(&error);
            tracing::warn!(why, failures, "Certificate cannot be rotated");
            self.state
                .send_replace(RotationState::Failed { why, failures });
            let wait = self.dice.jitter(RETRY.after(failures), 0.1);
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits until the pair has to be replaced: its time has come, it is gone, or its names changed.
    async fn until_due(&mut self, asked_for: Option<&Purpose>, rotated: Option<Instant>) {
        let Some(pair) = self.store.read().await else {
            return self.until_named().await;
        };
        let rotate_at = rotation_deadline(pair.validity, self.dice.fraction());
        (self.listener.0)(RotationNews::Pair(pair.validity));
        let until = pair.validity.not_after;
        tracing::info!(%until, %rotate_at, "Certificate expiration and rotation deadline");
        self.state.send_replace(RotationState::Good {
            until: pair.validity.not_after,
            rotate_at,
        });
        loop {
            let is_other =
                |purpose: &Purpose| asked_for.is_some_and(|asked_for| purpose != asked_for);
            if is_other(&self.purpose.borrow()) && self.has_names() {
                return;
            }
            let wait = self.client.clock().until(rotate_at);
            if wait.is_zero() {
                // A signer that gives certificates which are old already must not be asked without a pause.
                let pause = rotated.map_or(Duration::ZERO, |at| GAP.saturating_sub(at.elapsed()));
                return tokio::time::sleep(pause).await;
            }
            // Looks at the clock at least each minute: it may jump.
            tokio::select! {
                biased;
                // Cancel: both are looked at again.
                changed = self.purpose.changed() => if changed.is_err() {
                    tokio::time::sleep(wait.min(Duration::from_secs(60))).await;
                },
                () = tokio::time::sleep(wait.min(Duration::from_secs(60))) => {}
            }
        }
    }

    fn has_names(&self) -> bool {
        match &*self.purpose.borrow() {
            Purpose::Client => true,
            Purpose::Serving(names) => !names.dns.is_empty() || !names.ips.is_empty(),
        }
    }

    /// A serving certificate without a name would be refused.
    async fn until_named(&mut self) {
        while !self.has_names() {
            if self.purpose.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn rotate(&mut self, purpose: &Purpose) -> Result<(), CertificateError> {
        let key = KeyPair::generate().map_err(|error| pair_error(&error))?;
        let name = (RequestName::Generated("csr-"), &mut self.dice);
        let certificate =
            request_certificate(&self.client, &self.node, purpose, &key, name).await?;
        let now = self.client.clock().now();
        let pem = key.serialize_pem();
        let before = self.store.read().await;
        self.store.write(&certificate, pem.as_bytes(), now).await?;
        if let Some(before) = before {
            let age = now.duration_since(before.validity.not_before);
            (self.listener.0)(RotationNews::Replaced(age));
        }
        if *purpose == Purpose::Client {
            self.client.credentials_changed();
        }
        tracing::info!(signer = purpose.signer(), "Certificate was rotated");
        Ok(())
    }
}
