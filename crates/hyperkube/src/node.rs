//! `hyperkube node`: an API server and a kubelet for one machine, in one process with one data directory.
//!
//! In:    the arguments after the component's name: flags of the API server and of the kubelet
//! Out:   runs until a signal or a fatal error of either part
//! Calls: main
//! Holds: the kubelet is the same as elsewhere: it reaches the API server by a kubeconfig over TLS; each part has a thread of
//!        its own, so that a long list delays no pod; the kubelet stops first, so that its last status updates arrive
//! Upstream: none; the parts are cmd/kube-apiserver's and cmd/kubelet's

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config_files::Loaded;
use crate::flags::{self, CommandLine};
use crate::logs::LogHandle;
use crate::{apiserver, kubelet_answer, wiring};

/// Flags of the API server that have the same name and meaning here.
const SERVER_FLAGS: [&str; 7] = [
    "bind-address",
    "data-dir",
    "http2-max-streams-per-connection",
    "max-mutating-requests-inflight",
    "max-requests-inflight",
    "secure-port",
    "token-auth-file",
];
/// Kubelet flags that name another API server.
const ELSEWHERE: [&str; 2] = ["kubeconfig", "bootstrap-kubeconfig"];

/// The action that the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Print this text.
    Answer(String),
    /// Run both parts.
    Run(Box<Node>),
}

/// Both parts, before they start.
#[derive(Debug)]
pub(crate) struct Node {
    /// The kubelet's command line, completed from the data directory.
    pub(crate) kubelet: CommandLine,
    server: apiserver::Options,
}

/// Parses the flags.
///
/// # Errors
/// The first invalid flag, in the words of the part that it belongs to.
pub(crate) fn prepare(arguments: &[String]) -> anyhow::Result<Request> {
    if let Some("-h" | "--help" | "help") = arguments.first().map(String::as_str) {
        return Ok(Request::Answer(help()));
    }
    let (server, kubelet) = split(arguments)?;
    let mut kubelet = flags::parse(&kubelet)?;
    if let Some(answer) = kubelet_answer(&kubelet) {
        return Ok(Request::Answer(answer));
    }
    if let Some(name) = ELSEWHERE
        .into_iter()
        .find(|name| kubelet.given.contains_key(name))
    {
        bail!(
            "--{name}: a node has its own API server; to join another one, run: hyperkube kubelet --{name} …"
        );
    }
    let name = match kubelet.flags.hostname_override.trim().to_lowercase() {
        empty if empty.is_empty() => apiserver::host_name(),
        given => given,
    };
    let apiserver::Request::Run(mut server) = apiserver::parse(&server, &name)? else {
        return Ok(Request::Answer(help()));
    };
    let dir = std::path::absolute(&server.data_dir).context("--data-dir")?;
    server.data_dir = server_dir(&dir);
    let settings = &mut kubelet.flags;
    settings.fast_first_probe = true;
    settings.kubeconfig = text(&server.data_dir.join("pki/kubelet.kubeconfig"));
    for (flag, field, place) in [
        ("root-dir", &mut settings.root_dir, "kubelet"),
        ("cert-dir", &mut settings.cert_dir, "kubelet/pki"),
    ] {
        if !kubelet.given.contains_key(flag) {
            *field = text(&dir.join(place));
        }
    }
    Ok(Request::Run(Box::new(Node { kubelet, server })))
}

/// The API server's part of the data directory.
fn server_dir(dir: &Path) -> PathBuf {
    dir.join("apiserver")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The API server's arguments, and all others.
fn split(arguments: &[String]) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut server, mut kubelet) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let long = word.strip_prefix("--").unwrap_or_default();
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        if !SERVER_FLAGS.contains(&name) {
            kubelet.push(word.clone());
            continue;
        }
        server.push(match value {
            Some(_) => word.clone(),
            None => match rest.next() {
                Some(value) => format!("{word}={value}"),
                None => bail!("flag needs an argument: {word}"),
            },
        });
    }
    Ok((server, kubelet))
}

fn help() -> String {
    let mut text = "The API server and the kubelet of one machine, as one process.\n\nUsage:\n  hyperkube node --data-dir DIR [flags]\n\nFlags:\n".to_owned();
    text.push_str(&apiserver::flag_help(|name| SERVER_FLAGS.contains(&name)));
    text.push_str("\nAll flags of `hyperkube kubelet` are accepted as well, except --kubeconfig and --bootstrap-kubeconfig. In DIR:\n");
    for (place, what) in [
        ("apiserver/", "store, certificates"),
        (
            "apiserver/pki/admin.kubeconfig",
            "for kubectl, with all rights",
        ),
        (
            "kubelet/",
            "the kubelet's root directory, unless --root-dir names another",
        ),
    ] {
        text.push_str(&format!("  {place:<32} {what}\n"));
    }
    text
}

impl Node {
    /// Passes to each part what it needs to know about the other.
    pub(crate) fn fit(&mut self, loaded: &mut Loaded) {
        let settings = &mut loaded.effective;
        let ip = apiserver::reached_at(settings.server.address);
        let port = settings.server.port;
        self.server.own_kubelet = Some(SocketAddr::new(ip, port));
        if settings.auth.client_ca_file.is_none() {
            let ca = self.server.data_dir.join("pki/ca.crt");
            loaded.config.authentication.x509.client_ca_file = Some(text(&ca));
            settings.auth.client_ca_file = Some(ca);
        }
    }

    /// Runs both until the kubelet ends, or the API server ends unexpectedly.
    pub(crate) async fn run(
        self: Box<Self>,
        loaded: Loaded,
        logs: LogHandle,
    ) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        let (opened, is_open) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        let (server, stop_server) = (self.server, stop.clone());
        let body = move || {
            let result = serve(&server, opened, stop_server);
            // The receiver is gone if the kubelet has ended with an error of its own.
            let _heard = ended.send(result);
        };
        let thread = std::thread::Builder::new().name("apiserver".to_owned());
        let thread = thread.spawn(body).context("start the API server")?;
        let mut has_ended = has_ended;
        let result = match is_open.await {
            Ok(()) => tokio::select! {
                result = wiring::run(loaded, logs) => result,
                early = &mut has_ended => Err(early_end(early)),
            },
            Err(_) => Err(early_end(has_ended.await)),
        };
        stop.cancel();
        // Its stop is limited in time; `has_ended` has reported a panic in it.
        let _joined = tokio::task::spawn_blocking(move || thread.join()).await;
        result
    }
}

type Ended = Result<anyhow::Result<()>, oneshot::error::RecvError>;

fn early_end(ended: Ended) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => error.context("API server"),
        Ok(Ok(())) => anyhow::Error::msg("the API server ended unexpectedly"),
        Err(_) => anyhow::Error::msg("the API server panicked"),
    }
}

fn serve(
    options: &apiserver::Options,
    opened: oneshot::Sender<()>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(async {
        let server = apiserver::open(options).await?;
        // The kubelet waits for this, or has been told to stop.
        let _heard = opened.send(());
        server.serve(stop).await;
        Ok(())
    });
    apiserver::end(runtime);
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(line: &str) -> Result<Box<Node>, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match prepare(&words) {
            Ok(Request::Run(node)) => Ok(node),
            Ok(Request::Answer(text)) => Err(text),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn each_part_gets_its_flags_and_its_places() {
        let node = prepared(
            "--data-dir /d --v=2 --secure-port=7443 --hostname-override N --bind-address ::1",
        )
        .unwrap();
        assert_eq!(node.server.data_dir, Path::new("/d/apiserver"));
        assert_eq!(node.server.address, "[::1]:7443".parse().unwrap());
        assert_eq!(node.server.node_name, "n");
        let flags = &node.kubelet.flags;
        assert_eq!(flags.kubeconfig, "/d/apiserver/pki/kubelet.kubeconfig");
        assert_eq!(
            (&*flags.root_dir, &*flags.cert_dir),
            ("/d/kubelet", "/d/kubelet/pki")
        );
        let node = prepared("--root-dir /r --data-dir=/d").unwrap();
        assert_eq!(node.kubelet.flags.root_dir, "/r");
    }

    #[test]
    fn mistakes_are_named_by_the_part_they_belong_to() {
        for (line, words) in [
            ("", "--data-dir is required"),
            ("--data-dir", "flag needs an argument: --data-dir"),
            (
                "--data-dir d --nonsense",
                "failed to parse kubelet flag: unknown flag: --nonsense",
            ),
            (
                "--data-dir d --secure-port x",
                "invalid argument \"x\" for \"--secure-port\" flag",
            ),
            (
                "--data-dir d --kubeconfig k",
                "--kubeconfig: a node has its own API server",
            ),
            ("--help", "hyperkube node --data-dir DIR"),
            ("--data-dir d --version", "Kubernetes v1.36"),
        ] {
            let answer = prepared(line).unwrap_err();
            assert!(answer.contains(words), "{line}: {answer}");
        }
    }
}
