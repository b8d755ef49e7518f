//! `/containerLogs/{namespace}/{pod}/{container}`.
//!
//! In:    names from the path, options from the query
//! Out:   the log as a body that is read while it is sent, or upstream's error
//! Calls: `answer`
//! Holds: an error before the log starts has its own status; a later one ends a response with status 200, as upstream's; the
//!        log path that the runtime reports is used only if it is below this pod's log directory
//! Upstream: pkg/kubelet/server/server.go getContainerLogs, pkg/kubelet/kubelet_pods.go GetKubeletContainerLogs,
//!           pkg/kubelet/kuberuntime GetContainerLogs (1.36)

use std::path::{Component, Path, PathBuf};

use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::body::{Answer, coming, full};
use crate::log_options::LogOptions;
use crate::log_stream::{Followed, LogLocation, LogStream};
use crate::query::Query;
use crate::replies::plain;

use crate::targets::{PodPath, bare_id, find_container, find_pod, log_container};
use crate::{LogStreams, ServerState};

/// Handles one request.
pub(crate) async fn container_logs(
    state: &ServerState,
    names: PodPath<'_>,
    (query, streams, now): (&Query, LogStreams, jiff::Timestamp),
    shutdown: CancellationToken,
) -> Answer {
    match begin(state, names, (query, streams, now), shutdown).await {
        Ok(answer) => answer,
        Err((status, text)) => plain(status, text),
    }
}

async fn begin(
    state: &ServerState,
    names: PodPath<'_>,
    (query, streams, now): (&Query, LogStreams, jiff::Timestamp),
    shutdown: CancellationToken,
) -> Result<Answer, (StatusCode, String)> {
    let options = LogOptions::read(query, streams, now).map_err(|(status, text)| {
        (
            StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
            text,
        )
    })?;
    let absent = |text| (StatusCode::NOT_FOUND, text);
    let found = find_pod(&state.pods.borrow(), names.namespace, names.pod);
    let Some(pod) = found else {
        return Err(absent(format!("pod {:?} does not exist", names.pod)));
    };
    if find_container(&pod.object, names.container).is_none() {
        let (container, pod) = (names.container, names.pod);
        return Err(absent(format!(
            "container {container:?} not found in pod {pod:?}"
        )));
    }
    let id = log_container(names.pod, &pod.status, names.container, options.previous)
        .map_err(|text| (StatusCode::BAD_REQUEST, text))?;
    // From here on an error ends a response that has begun.
    let metadata = &pod.object.metadata;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let (namespace, name, uid) = (
        part(&metadata.namespace),
        part(&metadata.name),
        part(&metadata.uid),
    );
    let directory = format!("{namespace}_{name}_{uid}");
    Ok(
        match open(state, (&id, &directory), &options, shutdown).await {
            Ok(stream) => Response::new(coming(chunks(stream))),
            Err(text) => Response::new(full(text)),
        },
    )
}

async fn open(
    state: &ServerState,
    (id, directory): (&str, &str),
    options: &LogOptions,
    shutdown: CancellationToken,
) -> Result<LogStream, String> {
    let node = &state.node;
    let container = bare_id(id).to_owned();
    let answer = node
        .runtime
        .container_status(&container)
        .await
        .map_err(|error| {
            tracing::debug!(container, %error, "no log path");
            format!("unable to retrieve container logs for {id}")
        })?;
    let status = answer
        .status
        .ok_or_else(|| format!("unable to retrieve container logs for {id}"))?;
    let location = locate(&node.pod_logs, Path::new(&status.log_path), directory)?;
    let followed = Followed {
        container,
        pods: state.pods.clone(),
        runtime: node.runtime.clone(),
    };
    LogStream::open(
        location,
        options,
        Some(followed),
        (node.blocking.clone(), shutdown),
    )
    .await
}

/// The runtime's path, if it belongs to this pod.
fn locate(logs: &Path, path: &Path, pod: &str) -> Result<LogLocation, String> {
    let relative = path.strip_prefix(logs).ok().filter(|relative| {
        let mut parts = relative.components();
        parts.next() == Some(Component::Normal(pod.as_ref()))
            && parts.all(|part| matches!(part, Component::Normal(_)))
    });
    match relative {
        Some(relative) => Ok(LogLocation {
            logs: logs.to_owned(),
            relative: PathBuf::from(relative),
        }),
        None => Err(format!(
            "failed to open log file {:?}: it is not in the pod's log directory {:?}",
            path.display().to_string(),
            logs.join(pod).display().to_string()
        )),
    }
}

fn chunks(
    stream: LogStream,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    futures_util::stream::unfold(Some(stream), async |stream| {
        let mut stream = stream?;
        match stream.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(stream))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_path_must_be_the_pods() {
        let logs = Path::new("/var/log/pods");
        let relative = |path: &str| {
            locate(logs, Path::new(path), "n_p_u").map(|found| found.relative.display().to_string())
        };
        assert_eq!(
            relative("/var/log/pods/n_p_u/c/0.log"),
            Ok("n_p_u/c/0.log".to_owned())
        );
        for bad in [
            "",
            "/etc/shadow",
            "/var/log/pods/n_q_u/c/0.log",
            "/var/log/pods/n_p_u/../n_q_u/c/0.log",
            "/var/log/podsn_p_u/x",
        ] {
            let text = relative(bad).unwrap_err();
            assert_eq!(
                text,
                format!(
                    "failed to open log file {bad:?}: it is not in the pod's log directory \"/var/log/pods/n_p_u\""
                )
            );
        }
    }
}
