//! A kubeconfig file: the server, the CA, the credentials.
//!
//! In:    the file, YAML or JSON
//! Out:   [`Kubeconfig`] of its current context; paths made absolute against the file's directory
//! Calls: wiring at start, certificates (the bootstrap file)
//! Holds: all problems are reported at once, each with its field; secrets do not show in `Debug`
//! Gap:   `auth-provider` and SOCKS proxies are refused; proxies named in the environment are not used
//! Upstream: client-go/tools/clientcmd (loader.go, client_config.go)

use std::fmt;
use std::path::{Path, PathBuf};

use hyper::Uri;
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::Value;

use kubelet_model::yaml::{self, Duplicates};

use crate::files::read_bounded;

/// More than a kubeconfig with a few certificates in it needs.
const MAX_BYTES: u64 = 4 << 20;

/// Why there is no usable kubeconfig.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file cannot be read.
    #[error("kubeconfig {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// It does not say what it should.
    #[error("kubeconfig {path}: {}", .problems.join("; "))]
    Content {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        problems: Vec<String>,
    },
}

/// A secret text that does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(crate) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Bytes in the kubeconfig, or in a file that is read again when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// Given in the kubeconfig.
    Data(Secret),
    /// In a file.
    File(PathBuf),
}

/// Whom to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// These authorities.
    Authorities(Material),
    /// The machine's own authorities.
    System,
    /// Anybody.
    Nobody,
}

/// Who this client says it is, by bearer token or password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// A certificate alone, or nobody.
    None,
    /// A token.
    Token(Secret),
    /// A file with a token, read again each minute; until it can be read, this token.
    TokenFile(PathBuf, Option<Secret>),
    /// Name and password.
    Basic(String, Secret),
    /// A program that gives credentials.
    Exec(ExecConfig),
}

/// A credential program (`client.authentication.k8s.io`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecConfig {
    /// `client.authentication.k8s.io/v1` or `…/v1beta1`.
    pub api_version: String,
    /// The program; with a slash in it, below the kubeconfig's directory.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables on top of this process's.
    pub env: Vec<(String, String)>,
    /// Whether it is told of the cluster.
    pub provide_cluster_info: bool,
    /// What to tell people when it is not there.
    pub install_hint: String,
}

/// A client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPair {
    /// PEM.
    pub certificate: Material,
    /// PEM.
    pub key: Material,
}

/// Where the API server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `http` or `https`, host, port, and a path before all paths.
    pub url: Uri,
    /// Whom to trust.
    pub trust: Trust,
    /// The name that its certificate must bear instead of the URL's host.
    pub tls_name: Option<String>,
    /// `http` or `https` proxy.
    pub proxy: Option<Uri>,
}

/// The current context of a kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The server.
    pub server: Server,
    /// The client certificate.
    pub pair: Option<ClientPair>,
    /// Token, password or program.
    pub login: Login,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    #[serde(rename = "current-context")]
    current_context: String,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
    contexts: Option<Vec<NamedContext>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: ClusterEntry,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: UserEntry,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: ContextEntry,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct ContextEntry {
    cluster: String,
    user: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    tls_server_name: String,
    insecure_skip_tls_verify: bool,
    certificate_authority: String,
    certificate_authority_data: Option<ByteString>,
    proxy_url: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct UserEntry {
    client_certificate: String,
    client_certificate_data: Option<ByteString>,
    client_key: String,
    client_key_data: Option<ByteString>,
    token: String,
    #[serde(rename = "tokenFile")]
    token_file: String,
    username: String,
    password: String,
    auth_provider: Option<Value>,
    exec: Option<ExecEntry>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExecEntry {
    api_version: String,
    command: String,
    args: Option<Vec<String>>,
    env: Option<Vec<EnvEntry>>,
    install_hint: String,
    provide_cluster_info: bool,
    interactive_mode: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct EnvEntry {
    name: String,
    value: String,
}

impl Kubeconfig {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no kubeconfig, or its current context cannot be used.
    pub async fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let file_error = |source| KubeconfigError::File {
            path: path.to_owned(),
            source,
        };
        let text = read_bounded(path, MAX_BYTES).await.map_err(file_error)?;
        Self::parse(&text, path)
    }

    /// Takes the text of a file at `path`, which need not exist.
    ///
    /// # Errors
    /// When it is no kubeconfig, or its current context cannot be used.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, KubeconfigError> {
        let wrong = |why: String| content(path, vec![why]);
        let text = std::str::from_utf8(text).map_err(|_| wrong("is not UTF-8 text".into()))?;
        // As upstream: YAML becomes JSON, JSON becomes the typed thing.
        let value = yaml::first_document(text, Duplicates::LastWins)
            .map_err(|error| wrong(first_line(&error)))?
            .unwrap_or_default();
        let file: File = serde_path_to_error::deserialize(value).map_err(|error| {
            let field = error.path().to_string();
            wrong(format!("{field}: {}", error.into_inner()))
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        let (cluster, user) = current(file).map_err(wrong)?;
        let mut problems = Vec::new();
        let server = server(&cluster, base, &mut problems);
        let pair = client_pair(&user, base, &mut problems);
        let login = login(user, base, &mut problems);
        match server {
            Some(server) if problems.is_empty() => Ok(Self {
                server,
                pair,
                login,
            }),
            _ => Err(content(path, problems)),
        }
    }
}

fn content(path: &Path, problems: Vec<String>) -> KubeconfigError {
    KubeconfigError::Content {
        path: path.to_owned(),
        problems,
    }
}

fn first_line(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Cluster and user of the current context.
fn current(file: File) -> Result<(ClusterEntry, UserEntry), String> {
    let name = &file.current_context;
    if name.is_empty() {
        let known = file.contexts.iter().flatten().map(|context| &*context.name);
        return Err(format!(
            "current-context is not set; contexts: {}",
            listed(known)
        ));
    }
    let contexts = file.contexts.unwrap_or_default();
    let context = contexts.iter().find(|context| &context.name == name);
    let context = context.map(|context| context.context.clone());
    let context = context.ok_or_else(|| {
        let known = listed(contexts.iter().map(|context| &*context.name));
        format!("contexts: there is none named {name:?} (current-context), only {known}")
    })?;
    let clusters = file.clusters.unwrap_or_default();
    let cluster = clusters
        .into_iter()
        .find(|entry| entry.name == context.cluster);
    let cluster = cluster.ok_or_else(|| {
        format!(
            "clusters: there is none named {:?}, which context {name:?} names",
            context.cluster
        )
    })?;
    let users = file.users.unwrap_or_default();
    let user = match users.into_iter().find(|entry| entry.name == context.user) {
        Some(user) => user.user,
        None if context.user.is_empty() => UserEntry::default(),
        None => {
            return Err(format!(
                "users: there is none named {:?}, which context {name:?} names",
                context.user
            ));
        }
    };
    Ok((cluster.cluster, user))
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

fn server(cluster: &ClusterEntry, base: &Path, problems: &mut Vec<String>) -> Option<Server> {
    // Upstream takes an address without a scheme for http on loopback-like use; nobody writes that for a node.
    let url: Option<Uri> = cluster.server.trim_end_matches('/').parse().ok();
    let url = url
        .filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
    if url.is_none() {
        problems.push(format!(
            "cluster.server: {:?} is not an http or https URL",
            cluster.server
        ));
    }
    let authorities = material(
        cluster.certificate_authority_data.as_ref(),
        &cluster.certificate_authority,
        base,
    );
    let trust = match (cluster.insecure_skip_tls_verify, authorities) {
        (true, None) => Trust::Nobody,
        (true, Some(_)) => {
            problems.push(
                "cluster: specifying a root certificates file with the insecure flag is not allowed"
                    .to_owned(),
            );
            Trust::Nobody
        }
        (false, Some(authorities)) => Trust::Authorities(authorities),
        (false, None) => Trust::System,
    };
    let mut proxy = None;
    if !cluster.proxy_url.is_empty() {
        let uri: Option<Uri> = cluster.proxy_url.parse().ok();
        proxy = uri.filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        if proxy.is_none() {
            problems
                .push("cluster.proxy-url: only http and https proxies are supported".to_owned());
        }
    }
    Some(Server {
        url: url?,
        trust,
        tls_name: Some(cluster.tls_server_name.clone()).filter(|name| !name.is_empty()),
        proxy,
    })
}

/// Data before file, as upstream.
fn material(data: Option<&ByteString>, file: &str, base: &Path) -> Option<Material> {
    match data {
        Some(data) if !data.0.is_empty() => Some(Material::Data(Secret(data.0.clone()))),
        _ if file.is_empty() => None,
        _ => Some(Material::File(base.join(file))),
    }
}

fn client_pair(user: &UserEntry, base: &Path, problems: &mut Vec<String>) -> Option<ClientPair> {
    let certificate = material(
        user.client_certificate_data.as_ref(),
        &user.client_certificate,
        base,
    );
    let key = material(user.client_key_data.as_ref(), &user.client_key, base);
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(ClientPair { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            problems.push("user: client-certificate without client-key".to_owned());
            None
        }
        (None, Some(_)) => {
            problems.push("user: client-key without client-certificate".to_owned());
            None
        }
    }
}

fn login(user: UserEntry, base: &Path, problems: &mut Vec<String>) -> Login {
    if user.auth_provider.is_some() {
        problems.push("user.auth-provider is not supported; use exec".to_owned());
    }
    let token = Some(user.token).filter(|token| !token.is_empty());
    let token = token.map(|token| Secret(token.into_bytes()));
    let is_basic = !user.username.is_empty() || !user.password.is_empty();
    let ways = [
        token.is_some() || !user.token_file.is_empty(),
        is_basic,
        user.exec.is_some(),
    ];
    if ways.iter().filter(|way| **way).count() > 1 {
        problems.push("user: more than one of token, password and exec".to_owned());
    }
    if let Some(exec) = user.exec {
        return Login::Exec(exec_config(exec, base, problems));
    }
    if is_basic {
        return Login::Basic(user.username, Secret(user.password.into_bytes()));
    }
    if !user.token_file.is_empty() {
        return Login::TokenFile(base.join(user.token_file), token);
    }
    token.map_or(Login::None, Login::Token)
}

fn exec_config(exec: ExecEntry, base: &Path, problems: &mut Vec<String>) -> ExecConfig {
    let known = [
        "client.authentication.k8s.io/v1",
        "client.authentication.k8s.io/v1beta1",
    ];
    if !known.contains(&exec.api_version.as_str()) {
        problems.push(format!(
            "user.exec.apiVersion: {:?} is not one of {}",
            exec.api_version,
            known.join(", ")
        ));
    }
    if exec.command.is_empty() {
        problems.push("user.exec.command is not set".to_owned());
    }
    if exec.interactive_mode == "Always" {
        problems.push("user.exec.interactiveMode: a node has no terminal for Always".to_owned());
    }
    let command = if exec.command.contains('/') {
        base.join(&exec.command)
    } else {
        PathBuf::from(&exec.command)
    };
    let env = exec.env.unwrap_or_default();
    ExecConfig {
        api_version: exec.api_version,
        command,
        args: exec.args.unwrap_or_default(),
        env: env
            .into_iter()
            .map(|entry| (entry.name, entry.value))
            .collect(),
        provide_cluster_info: exec.provide_cluster_info,
        install_hint: exec.install_hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Kubeconfig, KubeconfigError> {
        Kubeconfig::parse(text.as_bytes(), Path::new("/etc/kubernetes/kubelet.conf"))
    }

    fn file(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: k, user: u, namespace: x}}}}]\n\
             clusters: [{{name: k, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    #[test]
    fn what_kubeadm_writes_is_read() {
        let text = file(
            "server: 'https://10.0.0.1:6443', certificate-authority-data: Q0E=",
            "client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem, \
             client-key: /var/lib/kubelet/pki/kubelet-client-current.pem",
        );
        let read = parse(&text).unwrap();
        assert_eq!(read.server.url.host(), Some("10.0.0.1"));
        let ca = Material::Data(Secret(b"CA".to_vec()));
        assert_eq!(read.server.trust, Trust::Authorities(ca));
        let link = PathBuf::from("/var/lib/kubelet/pki/kubelet-client-current.pem");
        assert_eq!(read.pair.unwrap().key, Material::File(link));
        assert_eq!(read.login, Login::None);
    }

    #[test]
    fn relative_paths_begin_at_the_files_directory_and_data_wins() {
        let text = file(
            "server: 'https://a', certificate-authority: ca.crt, tls-server-name: b, proxy-url: 'http://p:3128'",
            "tokenFile: t/token, token: first",
        );
        let read = parse(&text).unwrap();
        let ca = Material::File("/etc/kubernetes/ca.crt".into());
        assert_eq!(read.server.trust, Trust::Authorities(ca));
        assert_eq!(read.server.tls_name.as_deref(), Some("b"));
        assert!(matches!(
            read.login,
            Login::TokenFile(path, Some(_)) if path == Path::new("/etc/kubernetes/t/token")
        ));
    }

    #[test]
    fn everything_wrong_is_named_at_once_and_no_secret_is_shown() {
        let text = file(
            "server: nowhere, insecure-skip-tls-verify: true, certificate-authority: x, proxy-url: 'socks5://p'",
            "token: geheim, username: u, password: geheim, client-key: k, exec: {apiVersion: v0, command: ''}",
        );
        let error = parse(&text).unwrap_err().to_string();
        for part in [
            "cluster.server: \"nowhere\"",
            "with the insecure flag",
            "cluster.proxy-url",
            "client-key without client-certificate",
            "more than one of",
            "user.exec.apiVersion",
            "user.exec.command",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!error.contains("geheim"));
        let good = parse(&file("server: 'http://a'", "token: geheim")).unwrap();
        assert!(!format!("{good:?}").contains("geheim"));
    }

    #[test]
    fn malformed_files_are_errors_of_one_line() {
        for text in [
            "",
            "{",
            "[]",
            "current-context: x",
            "current-context: 5\n",
            "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, parts) in [
            (
                "current-context: c\nclusters:\n- name: k\n  cluster: {server: [\n",
                &["line"][..],
            ),
            (
                "contexts:\n- name: c\n  context: {cluster: 5}\n",
                &["contexts[0].context.cluster: ", "expected a string"],
            ),
            (
                "users:\n- name: u\n  user: {client-certificate-data: '%'}\n",
                &["users[0].user.client-certificate-data: "],
            ),
            (
                "contexts: [{name: c}]",
                &["current-context is not set; contexts: \"c\""],
            ),
            (
                "current-context: x\ncontexts: [{name: c}, {name: d}]",
                &["there is none named \"x\" (current-context), only \"c\", \"d\""],
            ),
            (
                "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]",
                &["clusters: there is none named \"k\", which context \"c\" names"],
            ),
            (
                "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k}]",
                &["users: there is none named \"u\", which context \"c\" names"],
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("kubeconfig /etc/kubernetes/kubelet.conf: "),
                "{error}"
            );
            for part in parts {
                assert!(error.contains(part), "{part} is not in {error}");
            }
        }
    }
}
