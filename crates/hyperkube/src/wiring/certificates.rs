//! The node's certificates from the cluster: the client certificate's bootstrap and rotation, the serving certificate, and
//! their metrics.
//!
//! In:    `--kubeconfig`, `--bootstrap-kubeconfig`, `rotateCertificates`, `serverTLSBootstrap`
//! Out:   a client whose calls wait for the client certificate; two tasks
//! Calls: wiring
//! Holds: only calls that need a certificate wait for it
//! Upstream: cmd/kubelet/app/server.go (buildKubeletClientConfig), pkg/kubelet/certificate/kubelet.go; differences: no serving
//!           certificate is requested for a host name that only a cloud provider knows

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use jiff::Timestamp;
use kubelet_act::frame::clock::Clock;
use kubelet_act::frame::supervisor::{Supervisor, TaskKind};
use kubelet_cluster::certificates::{
    Bootstrap, CertificateStore, ClientCertificate, Listener, Purpose, Rotation, RotationNews,
    ServingNames,
};
use kubelet_cluster::{Client, Cluster, Kubeconfig, Server};
use kubelet_host::HostRoot;
use kubelet_model::config::Config;
use kubelet_model::dice::Dice;
use kubelet_model::error_text::error_text;
use kubelet_model::node::NodeView;
use prometheus::{Histogram, HistogramOpts, IntCounter, Registry};
use tokio::sync::watch;

use super::cluster;
use super::ttl::Ttl;

const CLIENT_TTL: (&str, &str) = (
    "kubelet_certificate_manager_client_ttl_seconds",
    "[ALPHA] Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is in seconds until certificate expiry (negative if already expired). If client certificate is invalid or unused, the value will be +INF.",
);
const CLIENT_ERRORS: &str = "kubelet_certificate_manager_client_expiration_renew_errors";
const SERVER_TTL: (&str, &str) = (
    "kubelet_certificate_manager_server_ttl_seconds",
    "[ALPHA] Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The value is in seconds until certificate expiry (negative if already expired). If serving certificate is invalid or unused, the value will be +INF.",
);
const SERVER_ERRORS: &str = "kubelet_server_expiration_renew_errors";
const ERRORS_HELP: &str = "[ALPHA] Counter of certificate renewal errors.";
const SERVER_AGES: (&str, &str) = (
    "kubelet_certificate_manager_server_rotation_seconds",
    "[ALPHA] Histogram of the number of seconds the previous certificate lived before being rotated.",
);
/// From a minute to four years, in seconds.
const AGES: [f64; 10] = [
    60.0,
    3600.0,
    14400.0,
    86400.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
    124_416_000.0,
];

/// The client that requests a certificate now or later, and its API server.
type Asking = (Client, Server);

/// The API server, if one is configured, and how a client certificate is requested from it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) cluster: Cluster,
    asking: Option<Asking>,
}

/// Reads the kubeconfig, or the bootstrap kubeconfig.
pub(crate) async fn open(config: &Config, root: &HostRoot, clock: Clock) -> anyhow::Result<Opened> {
    let settings = &config.cluster;
    let (Some(path), Some(first)) = (&settings.kubeconfig, &settings.bootstrap_kubeconfig) else {
        let cluster = cluster::open(config, root, clock)?;
        if let Cluster::Joined(client) = &cluster {
            rotated(client, config);
        }
        return Ok(Opened {
            cluster,
            asking: None,
        });
    };
    // The node's name is not known yet, and not needed for this check.
    let bootstrap = bootstrap(config, path, "");
    let is_needed = bootstrap.is_needed(clock.now()).await;
    let read = Kubeconfig::read(first).await;
    let read = read.with_context(|| format!("--bootstrap-kubeconfig {}", first.display()));
    let asking = match read {
        Ok(kubeconfig) => {
            let server = kubeconfig.server.clone();
            Some((cluster::client_of(config, kubeconfig, clock), server))
        }
        Err(error) if is_needed => return Err(error),
        Err(error) => {
            tracing::info!(
                error = error_text(&*error),
                "Bootstrap kubeconfig is invalid, but not needed"
            );
            None
        }
    };
    let client = match &asking {
        Some((_, server)) if is_needed => {
            tracing::info!(kubeconfig = %path.display(), bootstrap = %first.display(), "No valid client certificate; requesting one");
            let client = cluster::client_of(config, bootstrap.to_come(server.clone()), clock);
            client.set_waiting(Some(
                "the first client certificate has been requested".to_owned(),
            ));
            client
        }
        Some(_) | None => match cluster::open(config, root, clock)? {
            Cluster::Joined(client) => client,
            Cluster::Absent => {
                return Ok(Opened {
                    cluster: Cluster::Absent,
                    asking: None,
                });
            }
        },
    };
    rotated(&client, config);
    Ok(Opened {
        cluster: Cluster::Joined(client),
        asking,
    })
}

/// Rotated certificates take precedence over those of the kubeconfig.
fn rotated(client: &Client, config: &Config) {
    if config.cluster.rotate_certificates {
        client.prefer_pair(CertificateStore::client(&config.paths.cert_dir).current());
    }
}

fn bootstrap(config: &Config, kubeconfig: &Path, node: &str) -> Bootstrap {
    Bootstrap {
        kubeconfig: kubeconfig.to_owned(),
        directory: config.paths.cert_dir.clone(),
        node: node.to_owned(),
    }
}

impl Opened {
    /// Starts the tasks that renew the certificates.
    pub(crate) fn start(
        self,
        config: &Config,
        node: &NodeView,
        seed: u64,
        registry: &Registry,
        supervisor: &Supervisor,
    ) -> anyhow::Result<()> {
        let Cluster::Joined(client) = self.cluster else {
            if config.server.tls.from_cluster {
                tracing::warn!(
                    "serverTLSBootstrap: there is no API server to sign a certificate, a self-signed one is served"
                );
            }
            return Ok(());
        };
        let mut dice = Dice::new(seed);
        let does_rotate = config.cluster.rotate_certificates;
        let listener = if does_rotate {
            client_figures(&client, registry)
                .context("register metrics of the client certificate")?
        } else {
            Listener::default()
        };
        let kubeconfig = config.cluster.kubeconfig.as_deref();
        let task = ClientCertificate {
            node: node.name.clone(),
            bootstrap: kubeconfig
                .zip(self.asking)
                .map(|(path, (asks, server))| (bootstrap(config, path, &node.name), asks, server)),
            rotation: does_rotate.then(|| CertificateStore::client(&config.paths.cert_dir)),
            listener,
            dice: dice.split(),
            client: client.clone(),
        };
        spawn(supervisor, "client certificate", task.run());
        if is_from_cluster(config) {
            let store = CertificateStore::serving(&config.paths.cert_dir);
            let figures = server_figures(&client, registry);
            let listener = figures.context("register metrics of the serving certificate")?;
            let (names_in, names) = watch::channel(Purpose::Serving(names(config, node)));
            let rotation = Rotation::new(client, store, &node.name, names, dice).telling(listener);
            spawn(supervisor, "serving certificate", async move {
                let _names = names_in;
                rotation.run().await;
            });
        }
        Ok(())
    }
}

fn spawn(
    supervisor: &Supervisor,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let stop = supervisor.stop().clone();
    supervisor.spawn(TaskKind::Core, name, async move {
        stop.run_until_cancelled(Box::pin(task)).await;
    });
}

/// Whether the cluster issues the serving certificate.
pub(crate) fn is_from_cluster(config: &Config) -> bool {
    config.server.tls.from_cluster
        && config.cluster.kubeconfig.is_some()
        && config.gates.is_enabled("RotateKubeletServerCertificate")
}

/// The node's addresses as in its status: the configured ones, else the first found, and the host name.
fn names(config: &Config, node: &NodeView) -> ServingNames {
    let given = config.node.node_ip.as_deref().unwrap_or_default();
    let is_said = |ip: &IpAddr| !ip.is_unspecified();
    let given = given.split(',').filter_map(|ip| ip.trim().parse().ok());
    let mut ips: Vec<IpAddr> = given.filter(is_said).collect();
    if ips.is_empty() {
        let found = node.ips.first().and_then(|ip| ip.parse::<IpAddr>().ok());
        ips.extend(found);
    }
    let hostname = config.node.hostname_override.as_deref();
    let hostname =
        hostname.map_or_else(|| node.hostname.clone(), |name| name.trim().to_lowercase());
    let mut dns = Vec::new();
    match hostname.parse() {
        Ok(ip) if ips.contains(&ip) => {}
        Ok(ip) => ips.push(ip),
        Err(_) => dns.push(hostname),
    }
    ips.sort();
    ServingNames { dns, ips }
}

fn client_figures(client: &Client, registry: &Registry) -> prometheus::Result<Listener> {
    let shown = client.clone();
    let until = move || shown.certificate_validity().map(|pair| pair.not_after);
    Ttl::register(CLIENT_TTL, client, until, registry)?;
    let errors = IntCounter::new(CLIENT_ERRORS, ERRORS_HELP)?;
    registry.register(Box::new(errors.clone()))?;
    Ok(Listener(Arc::new(move |news| {
        if news == RotationNews::Failed {
            errors.inc();
        }
    })))
}

fn server_figures(client: &Client, registry: &Registry) -> prometheus::Result<Listener> {
    let pair = Arc::new(Mutex::new(None::<Timestamp>));
    let lock =
        |pair: &Mutex<Option<Timestamp>>| *pair.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = Arc::clone(&pair);
    Ttl::register(SERVER_TTL, client, move || lock(&shown), registry)?;
    let errors = IntCounter::new(SERVER_ERRORS, ERRORS_HELP)?;
    registry.register(Box::new(errors.clone()))?;
    let ages = HistogramOpts::new(SERVER_AGES.0, SERVER_AGES.1).buckets(AGES.to_vec());
    let ages = Histogram::with_opts(ages)?;
    registry.register(Box::new(ages.clone()))?;
    Ok(Listener(Arc::new(move |news| match news {
        RotationNews::Failed => errors.inc(),
        RotationNews::Replaced(age) => ages.observe(age.as_secs_f64()),
        RotationNews::Pair(validity) => {
            *pair.lock().unwrap_or_else(PoisonError::into_inner) = Some(validity.not_after);
        }
    })))
}

#[cfg(test)]
mod tests;
