//! Serves the node's pods on unix sockets: to root's own commands always, and as Kubernetes' local pods API behind its gate.
//!
//! In:    handles of the owners of pods, probes, waits and timelines
//! Out:   one task for each socket
//! Calls: wiring
//! Holds: our socket is for root alone, and a kubelet that cannot make it runs all the same; upstream's socket ends the start, as there
//! Upstream: pkg/kubelet/kubelet.go (ListenAndServePods), gate `PodsAPI`

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use k8s_openapi::api::core::v1;
use kubelet_act::frame::supervisor::{Supervisor, TaskKind};
use kubelet_act::pod::pod_path::PodPath;
use kubelet_act::pod::timeline::Timeline;
use kubelet_act::report::status::StatusHandle;
use kubelet_host::blocking::Blocking;
use kubelet_host::files::create_dir_all;
use kubelet_host::sockets::listen;
use kubelet_model::config::Config;
use kubelet_model::gates::name::PODS_API;
use kubelet_model::story::Story;
use kubelet_story::{
    Door, PODS_API_DIRECTORY_MODE, PODS_API_MODE, SOCKET_MODE, Source, pods_api_socket, socket,
};
use prometheus::Registry;

use super::parts;

/// Where what is told comes from.
pub(crate) struct Owners<'a> {
    pub(crate) status: &'a StatusHandle,
    pub(crate) path: &'a PodPath,
    pub(crate) timeline: &'a Timeline,
    pub(crate) registry: &'a Registry,
}

/// Makes the sockets and serves.
pub(crate) async fn start(
    config: &Config,
    owners: Owners<'_>,
    blocking: &Blocking,
    supervisor: &Supervisor,
) -> anyhow::Result<()> {
    let root = &config.paths.root_dir;
    let source = source(owners).context("register metrics of the pods API")?;
    let own = socket(root);
    match bind(blocking, own.clone(), 0o700, SOCKET_MODE).await {
        Ok(listener) => serve(&own, Door::Own, listener, source.clone(), supervisor),
        Err(error) => {
            tracing::error!(path = %own.display(), error = format!("{error:#}"), "No socket for `hyperkube get` and its like");
        }
    }
    if config.gates.is_enabled(PODS_API) {
        let path = pods_api_socket(root);
        let listener = bind(
            blocking,
            path.clone(),
            PODS_API_DIRECTORY_MODE,
            PODS_API_MODE,
        )
        .await;
        let listener = listener.context("create the listener of the pods API")?;
        serve(&path, Door::PodsApi, listener, source, supervisor);
    }
    Ok(())
}

async fn bind(
    blocking: &Blocking,
    path: PathBuf,
    directory_mode: u32,
    mode: u32,
) -> anyhow::Result<UnixListener> {
    parts::on_disk(blocking, "make a socket", move || {
        let directory = path.parent().context("a socket needs a directory")?;
        create_dir_all(directory, directory_mode)?;
        listen(&path, mode).with_context(|| format!("listen on {}", path.display()))
    })
    .await
}

fn serve(path: &Path, door: Door, listener: UnixListener, source: Source, supervisor: &Supervisor) {
    let name = match door {
        Door::Own => "story socket",
        Door::PodsApi => "pods API",
    };
    tracing::info!(path = %path.display(), "Serving pods on a unix socket");
    let stop = supervisor.stop().clone();
    supervisor.spawn(TaskKind::Stream, name, async move {
        if let Err(error) = kubelet_story::serve(listener, door, source, stop).await {
            tracing::error!(socket = name, error = %error, "Socket is no longer served");
        }
    });
}

fn source(owners: Owners<'_>) -> Result<Source, prometheus::Error> {
    let (status, timeline) = (owners.status.clone(), owners.timeline.clone());
    let prober = owners.path.prober.clone();
    let story = move |uid: &_| {
        let note = status.noted(uid);
        Story {
            probes: prober.told(uid),
            waits: note.waits.clone(),
            doing: note.doing.clone(),
            stages: timeline.of(uid),
        }
    };
    Source::new(owners.status.subscribe(), story, protobuf, owners.registry)
}

/// As Go's `Pod.Marshal`.
fn protobuf(pod: &v1::Pod) -> Option<Vec<u8>> {
    let object = serde_json::to_value(pod).ok()?;
    kubelet_apiserver::encode("v1", "Pod", &object)
}
