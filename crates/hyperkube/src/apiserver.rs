//! `hyperkube apiserver`: its flags, and its parts in start order.
//!
//! In:    the arguments after the component's name
//! Out:   runs until a signal; exit status 0 after a regular stop
//! Calls: main
//! Holds: the port is bound before the store accepts a write, so a second server on the same directory fails without changing
//!        anything
//! Upstream: cmd/kube-apiserver/app/server.go; differences: a flag table of its own, one data directory

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kubelet_apiserver::base::clock::{Chance, Now};
use kubelet_apiserver::base::user::User;
use kubelet_apiserver::identity::{CertificateNames, Identity};
use kubelet_apiserver::kinds::resources;
use kubelet_apiserver::serve::listener::{Listener, Serving};
use kubelet_apiserver::store::Store;
use kubelet_apiserver::{ApiServer, Limits, ServerParts};
use kubelet_model::config::{LogFormat, LoggingConfig};
use kubelet_model::error_text::error_text;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Every flag: name, default, description.
const FLAGS: [(&str, &str, &str); 9] = [
    ("bind-address", "127.0.0.1", "Address to listen on"),
    (
        "data-dir",
        "",
        "Directory of the store, the certificates and the kubeconfigs; created if it does not exist (required)",
    ),
    (
        "http2-max-streams-per-connection",
        "100",
        "Concurrent requests per connection",
    ),
    (
        "max-mutating-requests-inflight",
        "200",
        "Concurrent mutating requests; further ones get 429; 0 means no limit",
    ),
    (
        "max-requests-inflight",
        "400",
        "Concurrent read requests; further ones get 429; 0 means no limit",
    ),
    (
        "node-name",
        "",
        "The node of kubelet.kubeconfig (default: the host's name)",
    ),
    ("secure-port", "6443", "Port to listen on"),
    (
        "token-auth-file",
        "",
        "Static tokens, one per line: token,user,uid,\"group,group\"",
    ),
    ("v", "0", "Log verbosity"),
];

/// How often freed memory is returned to the kernel.
const MEMORY: Duration = Duration::from_secs(10);
/// How often the age of the certificates is checked.
const RENEWAL: Duration = Duration::from_secs(12 * 3600);

/// The options of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) data_dir: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) node_name: String,
    token_file: Option<PathBuf>,
    verbosity: u32,
    limits: Limits,
    /// The address of `node_name`'s kubelet if it is part of this process.
    pub(crate) own_kubelet: Option<SocketAddr>,
}

/// The action that the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Help,
    Run(Options),
}

/// As many open files as a kubelet may have by default. Shells start with 1,024, as many as the port accepts connections.
const OPEN_FILES: u64 = 1_000_000;

fn raise_open_files() {
    match kubelet_host::oom::raise_open_files(OPEN_FILES) {
        Ok(raised) => tracing::info!(?raised, "The limit of open files is set"),
        Err(error) => {
            tracing::warn!(%error, "The limit of open files is unchanged");
        }
    }
}

/// Parses the flags and runs the server.
///
/// # Errors
/// The first error; nothing runs then.
pub(crate) fn main(arguments: &[String]) -> anyhow::Result<Option<String>> {
    let options = match parse(arguments, &host_name())? {
        Request::Help => return Ok(Some(help())),
        Request::Run(options) => options,
    };
    let logs = crate::logs::install(&LoggingConfig {
        format: LogFormat::Text,
        split_stream: false,
        info_buffer: 0,
        flush_frequency: Duration::from_secs(1),
        verbosity: options.verbosity,
        vmodule: Vec::new(),
    })?;
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
        let opened = open(&options).await?;
        let stop = CancellationToken::new();
        let until_signal = async {
            tokio::select! {
                // Either signal is enough.
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("Stopping");
            stop.cancel();
        };
        let memory = stop.run_until_cancelled(async {
            loop {
                tokio::time::sleep(MEMORY).await;
                kubelet_host::memory::give_back();
            }
        });
        tokio::join!(until_signal, opened.serve(stop.clone()), memory);
        Ok(())
    });
    end(runtime);
    logs.flush();
    ended.map(|()| None)
}

/// How long a stop waits for a thread that is still busy.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Ends a runtime. A thread that hangs on a disk is abandoned; dropping the runtime would wait for it for ever.
pub(crate) fn end(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_timeout(LAST_WAIT);
}

/// The node's name if none is given.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .trim()
        .to_lowercase()
}

fn help() -> String {
    let mut text = "The API server of a one-node cluster.\n\nUsage:\n  hyperkube apiserver --data-dir DIR [flags]\n\nFlags:\n".to_owned();
    text.push_str(&flag_help(|_| true));
    text
}

/// The help of the selected flags, two lines each.
pub(crate) fn flag_help(is_wanted: impl Fn(&str) -> bool) -> String {
    let wanted = FLAGS.iter().filter(|(name, ..)| is_wanted(name));
    let lines = wanted.map(|(name, default, doc)| {
        let default = match *default {
            "" => String::new(),
            default => format!(" (default {default})"),
        };
        format!("  --{name}\n        {doc}{default}\n")
    });
    lines.collect()
}

/// Parses the flags.
///
/// # Errors
/// The first invalid flag.
pub(crate) fn parse(arguments: &[String], host_name: &str) -> anyhow::Result<Request> {
    let mut given: BTreeMap<&str, String> = BTreeMap::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if ["-h", "--help", "help"].contains(&argument.as_str()) {
            return Ok(Request::Help);
        }
        let Some(long) = argument
            .strip_prefix("--")
            .or_else(|| argument.strip_prefix("-").filter(|a| a.starts_with('v')))
        else {
            bail!("unknown command {argument:?} for \"apiserver\"");
        };
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let Some((name, ..)) = FLAGS.iter().find(|(known, ..)| *known == name) else {
            bail!("unknown flag: --{name}");
        };
        let Some(value) = value.or_else(|| rest.next().cloned()) else {
            bail!("flag needs an argument: --{name}");
        };
        given.insert(name, value);
    }
    let text = |name: &str| {
        let row = FLAGS.iter().find(|(known, ..)| *known == name);
        let default = row.map_or("", |(_, default, _)| default);
        given
            .get(name)
            .cloned()
            .unwrap_or_else(|| default.to_owned())
    };
    let bad = |name: &str| format!("invalid argument {:?} for \"--{name}\" flag", text(name));
    let ip: IpAddr = text("bind-address")
        .parse()
        .with_context(|| bad("bind-address"))?;
    let port: u16 = text("secure-port")
        .parse()
        .with_context(|| bad("secure-port"))?;
    if text("data-dir").is_empty() {
        bail!("--data-dir is required");
    }
    let node_name = match text("node-name") {
        empty if empty.is_empty() => host_name.to_owned(),
        given => given,
    };
    Ok(Request::Run(Options {
        data_dir: text("data-dir").into(),
        address: SocketAddr::new(ip, port),
        node_name,
        token_file: given.get("token-auth-file").map(PathBuf::from),
        verbosity: text("v").parse().with_context(|| bad("v"))?,
        limits: limits(&text)?,
        own_kubelet: None,
    }))
}

/// How long the start waits for a store that another process has open.
const STORE_PATIENCE: Duration = Duration::from_secs(30);
/// The limits of requests in flight.
fn limits(text: &dyn Fn(&str) -> String) -> anyhow::Result<Limits> {
    let number = |name: &str| {
        let value = text(name);
        // Upstream's error text.
        if value.starts_with('-') {
            bail!("--{name} can not be negative value");
        }
        let parsed = value.parse::<u32>();
        parsed.with_context(|| format!("invalid argument {value:?} for \"--{name}\" flag"))
    };
    let default = Limits::default();
    let streams = match number("http2-max-streams-per-connection")? {
        0 => default.streams,
        streams => streams,
    };
    Ok(Limits {
        reading: number("max-requests-inflight")? as usize,
        changing: number("max-mutating-requests-inflight")? as usize,
        streams,
        ..default
    })
}

/// A server with an open store and a bound port.
#[derive(Debug)]
pub(crate) struct Opened {
    listener: Listener,
    server: ApiServer,
    renewal: Renewal,
}

impl Opened {
    /// Serves until the stop.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        tokio::join!(
            self.listener.serve(stop.clone()),
            self.server.run(stop.clone()),
            self.renewal.run(stop)
        );
    }
}

/// Renews the certificates, which are valid for a year, when a quarter of it is left; the process may run longer than that.
#[derive(Debug)]
struct Renewal {
    pki: PathBuf,
    names: CertificateNames,
    serving: Serving,
    server: ApiServer,
}

impl Renewal {
    async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                // The stop first; dropping the wait loses nothing.
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RENEWAL) => {}
            }
            if let Err(error) = self.round().await {
                tracing::error!(error = error_text(&*error), again_in = ?RENEWAL, "Certificates of the API server cannot be renewed");
            }
        }
    }

    async fn round(&self) -> anyhow::Result<()> {
        let (pki, names) = (self.pki.clone(), self.names.clone());
        let now = kubelet_act::frame::clock::Clock::system().now();
        let open = move || Identity::open(&pki, &names, &Chance::System, now);
        let identity = tokio::task::spawn_blocking(open).await??;
        self.serving.show(&identity.server)?;
        self.server
            .show_kubelets(&identity.kubelet_client)
            .map_err(anyhow::Error::msg)
    }
}

/// The address at which this machine reaches a server that listens on `listens_on`.
pub(crate) fn reached_at(listens_on: IpAddr) -> IpAddr {
    match listens_on {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Opens the data directory and binds the port.
///
/// # Errors
/// The first part that failed, and its path or address.
pub(crate) async fn open(options: &Options) -> anyhow::Result<Opened> {
    let clock = kubelet_act::frame::clock::Clock::system();
    let now: Now = Arc::new(move || clock.now());

    let url_host = reached_at(options.address.ip());
    let url = format!(
        "https://{}",
        SocketAddr::new(url_host, options.address.port())
    );
    let names = CertificateNames {
        node: options.node_name.clone(),
        server: server_names(options, url_host),
        url,
    };
    let dir = &options.data_dir;
    let identity = Identity::open(&dir.join("pki"), &names, &Chance::System, now())?;
    let file = dir.join("store.redb");
    // A predecessor that was killed may not have ended yet.
    let store = Store::open_waiting(&file, resources::selectable_fields, STORE_PATIENCE).await?;
    let pair = identity.server.clone();
    let parts = ServerParts {
        store,
        now,
        chance: Chance::System,
        identity,
        static_tokens: static_tokens(options)?,
        advertised: Some((url_host, options.address.port())),
        own_kubelet: options
            .own_kubelet
            .map(|at| (options.node_name.clone(), at)),
    };
    let server = ApiServer::limited(parts, options.limits).map_err(anyhow::Error::msg)?;
    let listener = Listener::bind(options.address, &pair, server.clone()).await?;
    tracing::info!(address = %listener.local_address()?, data = %dir.display(), "API server listens");
    let renewal = Renewal {
        pki: dir.join("pki"),
        names,
        serving: listener.serving(),
        server: server.clone(),
    };
    Ok(Opened {
        listener,
        server,
        renewal,
    })
}

fn server_names(options: &Options, address: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "127.0.0.1",
        "10.96.0.1",
    ]
    .map(str::to_owned)
    .to_vec();
    for more in [address.to_string(), options.node_name.clone()] {
        if !names.contains(&more) {
            names.push(more);
        }
    }
    names
}

/// Upstream's file format: comma separated, groups in quotes.
fn static_tokens(options: &Options) -> anyhow::Result<BTreeMap<String, User>> {
    let Some(path) = &options.token_file else {
        return Ok(BTreeMap::new());
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    tokens_of(&text).with_context(|| path.display().to_string())
}

fn tokens_of(text: &str) -> anyhow::Result<BTreeMap<String, User>> {
    let mut tokens = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut columns = line
            .splitn(4, ',')
            .map(|column| column.trim().trim_matches('"'));
        let (Some(token), Some(name), Some(uid)) = (columns.next(), columns.next(), columns.next())
        else {
            bail!("line {}: token file has fewer than 3 columns", number + 1);
        };
        if token.is_empty() {
            continue;
        }
        let groups = columns.next().unwrap_or_default().split(',');
        let groups: Vec<&str> = groups
            .map(str::trim)
            .filter(|group| !group.is_empty())
            .collect();
        let mut user = User::new(name, &groups);
        user.uid = uid.to_owned();
        tokens.insert(token.to_owned(), user);
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words, "host") {
            Ok(Request::Help) => "help".to_owned(),
            Ok(Request::Run(o)) => format!(
                "{} {} {} {}",
                o.data_dir.display(),
                o.address,
                o.node_name,
                o.verbosity
            ),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn flags_are_read_and_mistakes_named() {
        for (line, read) in [
            ("--data-dir d", "d 127.0.0.1:6443 host 0"),
            (
                "--data-dir=d --secure-port 0 --bind-address=::1 --node-name n -v=4",
                "d [::1]:0 n 4",
            ),
            ("--help", "help"),
            ("", "--data-dir is required"),
            ("--data-dir", "flag needs an argument: --data-dir"),
            (
                "--data-dir d --secure-port x",
                "invalid argument \"x\" for \"--secure-port\" flag",
            ),
            (
                "--data-dir d --max-requests-inflight -1",
                "--max-requests-inflight can not be negative value",
            ),
            (
                "--data-dir d --max-mutating-requests-inflight=x",
                "invalid argument \"x\" for \"--max-mutating-requests-inflight\" flag",
            ),
            ("--other", "unknown flag: --other"),
            ("run", "unknown command \"run\" for \"apiserver\""),
        ] {
            assert_eq!(check(line), read, "{line}");
        }
    }

    #[test]
    fn limits_are_upstreams_unless_they_are_given() {
        let limits = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            match parse(&words, "host").unwrap() {
                Request::Run(options) => options.limits,
                Request::Help => panic!("help"),
            }
        };
        assert_eq!(limits("--data-dir d"), Limits::default());
        let line = "--data-dir d --max-requests-inflight 7 --max-mutating-requests-inflight=0 --http2-max-streams-per-connection 9";
        let given = Limits {
            reading: 7,
            changing: 0,
            streams: 9,
            ..Limits::default()
        };
        assert_eq!(limits(line), given);
    }

    #[test]
    fn a_thread_that_hangs_holds_up_no_stop() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        drop(runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            let _released = released.recv();
        }));
        has_begun.recv().unwrap();
        let (ended, has_ended) = std::sync::mpsc::channel();
        let ending = std::thread::spawn(move || {
            end(runtime);
            ended.send(()).unwrap();
        });
        let waited = has_ended.recv_timeout(LAST_WAIT * 10);
        drop(release);
        ending.join().unwrap();
        waited.expect("the end waited for the thread");
    }

    #[test]
    fn token_files_have_upstreams_form() {
        let tokens =
            tokens_of("# mine\nabc,admin,1,\"system:masters,others\"\ndef,bob,2\n\n").unwrap();
        assert_eq!(tokens.len(), 2);
        assert!(tokens["abc"].is_in("others") && tokens["abc"].is_in("system:masters"));
        assert_eq!(tokens["def"].uid, "2");
        assert!(tokens_of("abc,admin").is_err());
    }
}
