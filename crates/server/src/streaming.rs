//! `/exec`, `/attach`, `/portForward`, `/run` and `/checkpoint`: turns names and parameters into a CRI call, and gives the URL
//! to the proxy.
//!
//! In:    names from the path, parameters from the query, the upgrade that the client requests
//! Out:   the proxy's 101 (or the runtime's error), a command's output, the path of a checkpoint; or upstream's error
//! Calls: `answer`
//! Holds: statuses, texts and the order of checks are upstream's; a container or sandbox is always looked up by the UID of the
//!        pod that was found
//! Upstream: pkg/kubelet/server/server.go (getExec, getAttach, getRun, getPortForward, checkpoint), cri-streaming (NewOptions,
//!           NewV4Options, WriteError), pkg/kubelet/kubelet_pods.go (1.36); differences: WebSockets are passed to the runtime
//!           unchanged (no translation of v5, no tunnel), so the gate ExtendWebSocketsToKubelet must not be declared;
//!           parameters in a form body are not read

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, UPGRADE};
use hyper::{Request, Response, StatusCode};
use kubelet_api::runtime::v1 as cri;
use kubelet_cri::CriError;
use kubelet_model::reported::ReportedPod;

use crate::ServerState;
use crate::body::{Answer, full};
use crate::endpoints::Streams;
use crate::query::Query;
use crate::replies::plain;
use crate::targets::{
    PodPath, find_container, find_pod, full_name, ready_sandbox, running_container,
};
use crate::upgrade::{Peer, is_upgrade, proxy};

/// A response that ends a request early.
struct Refused(StatusCode, String);

impl Refused {
    fn answer(self) -> Answer {
        let mut answer = plain(self.0, self.1.clone());
        // The runtime's error text contains the time to retry after.
        let later = self
            .1
            .split_once("[Retry-After:")
            .and_then(|(_, rest)| rest.split_once(']'));
        if let Some((seconds, _)) = later.filter(|_| self.0 == StatusCode::TOO_MANY_REQUESTS)
            && seconds.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(value) = HeaderValue::from_str(seconds)
        {
            answer.headers_mut().insert(RETRY_AFTER, value);
        }
        answer
    }
}

impl From<CriError> for Refused {
    fn from(error: CriError) -> Self {
        let status = match error.code() {
            Some(kubelet_cri::Code::NotFound) => StatusCode::NOT_FOUND,
            Some(kubelet_cri::Code::ResourceExhausted) => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.message())
    }
}

fn failed(text: String) -> Refused {
    Refused(StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn pod_of(state: &ServerState, names: PodPath<'_>) -> Result<ReportedPod, Refused> {
    let found = find_pod(&state.pods.borrow(), names.namespace, names.pod);
    found.ok_or_else(|| Refused(StatusCode::NOT_FOUND, "pod does not exist".to_owned()))
}

/// Exec, attach or port-forward.
pub(crate) async fn streams<B: Send>(
    state: &ServerState,
    (kind, names): (Streams, PodPath<'_>),
    mut request: Request<B>,
    (peer, idle): (&Peer, Option<Duration>),
) -> Answer {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let url = match kind {
        Streams::Exec => exec_url(state, names, &query).await,
        Streams::Attach => attach_url(state, names, &query).await,
        Streams::PortForward => ports_url(state, names, &query, request.headers()).await,
    };
    match url {
        Ok(url) => proxy(&mut request, &url, peer, idle).await,
        Err(refused) => refused.answer(),
    }
}

/// The requested streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Options {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Options {
    fn read(query: &Query) -> Result<Self, Refused> {
        let on = |key| query.first(key) == Some("1");
        let tty = on("tty");
        let options = Self {
            stdin: on("input"),
            stdout: on("output"),
            // A terminal has only one output stream.
            stderr: on("error") && !tty,
            tty,
        };
        if options.stdin || options.stdout || options.stderr {
            return Ok(options);
        }
        let text = "you must specify at least 1 of stdin, stdout, stderr";
        Err(Refused(StatusCode::BAD_REQUEST, text.to_owned()))
    }
}

async fn exec_url(
    state: &ServerState,
    names: PodPath<'_>,
    query: &Query,
) -> Result<String, Refused> {
    let options = Options::read(query)?;
    let pod = pod_of(state, names)?;
    let runtime = &state.node.runtime;
    let found = running_container(runtime, &pod.object, names.container).await?;
    let container_id =
        found.ok_or_else(|| failed(format!("container not found ({:?})", names.container)))?;
    let request = cri::ExecRequest {
        container_id,
        cmd: query.all("command").map(str::to_owned).collect(),
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    Ok(runtime.exec(request).await?)
}

async fn attach_url(
    state: &ServerState,
    names: PodPath<'_>,
    query: &Query,
) -> Result<String, Refused> {
    let options = Options::read(query)?;
    let pod = pod_of(state, names)?;
    let runtime = &state.node.runtime;
    let full_name = full_name(&pod.object);
    let absent = || {
        failed(format!(
            "container {} not found in pod {full_name}",
            names.container
        ))
    };
    let found = running_container(runtime, &pod.object, names.container).await?;
    let container_id = found.ok_or_else(absent)?;
    if names
        .uid
        .is_some_and(|uid| pod.object.metadata.uid.as_deref() != Some(uid))
    {
        return Err(failed(format!("pod {full_name} not found")));
    }
    let request = cri::AttachRequest {
        container_id,
        stdin: options.stdin,
        // As the container was created; a request cannot change it.
        tty: find_container(&pod.object, names.container).ok_or_else(absent)?,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    Ok(runtime.attach(request).await?)
}

async fn ports_url(
    state: &ServerState,
    names: PodPath<'_>,
    query: &Query,
    headers: &HeaderMap,
) -> Result<String, Refused> {
    let ports = ports(query, headers).map_err(|text| Refused(StatusCode::BAD_REQUEST, text))?;
    let pod = pod_of(state, names)?;
    if names
        .uid
        .is_some_and(|uid| pod.object.metadata.uid.as_deref() != Some(uid))
    {
        return Err(Refused(StatusCode::NOT_FOUND, "pod not found".to_owned()));
    }
    let runtime = &state.node.runtime;
    let sandbox = ready_sandbox(runtime, &pod.object).await?;
    let sandbox =
        sandbox.ok_or_else(|| failed(format!("pod not found ({:?})", full_name(&pod.object))))?;
    Ok(runtime.port_forward(&sandbox, ports).await?)
}

/// Over WebSocket the ports are parameters; over SPDY each stream has its own.
fn ports(query: &Query, headers: &HeaderMap) -> Result<Vec<i32>, String> {
    let websocket = headers
        .get(UPGRADE)
        .is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if !websocket || !is_upgrade(headers) {
        return Ok(Vec::new());
    }
    let mut ports = Vec::new();
    for list in query.all("port") {
        if list.is_empty() {
            return Err("query parameter \"port\" cannot be empty".to_owned());
        }
        for text in list.split(',') {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let why = if digits {
                "value out of range"
            } else {
                "invalid syntax"
            };
            match text.parse::<u16>() {
                Ok(port) if digits && port > 0 => ports.push(i32::from(port)),
                Ok(_) if digits => return Err(format!("port {list:?} must be > 0")),
                _ => {
                    return Err(format!(
                        "unable to parse {list:?} as a port: strconv.ParseUint: parsing {text:?}: {why}"
                    ));
                }
            }
        }
    }
    if ports.is_empty() {
        return Err("query parameter \"port\" is required".to_owned());
    }
    Ok(ports)
}

/// `/run`: a command without streams. Waits for its end as long as the client does.
pub(crate) async fn run(state: &ServerState, names: PodPath<'_>, query: &Query) -> Answer {
    match output(state, names, query).await {
        Ok(output) => json(output),
        Err(refused) => refused.answer(),
    }
}

async fn output(
    state: &ServerState,
    names: PodPath<'_>,
    query: &Query,
) -> Result<Vec<u8>, Refused> {
    let pod = pod_of(state, names)?;
    let command = query.first("cmd").unwrap_or_default();
    let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
    let runtime = &state.node.runtime;
    let found = running_container(runtime, &pod.object, names.container).await?;
    let id = found.ok_or_else(|| failed(format!("container not found ({:?})", names.container)))?;
    // Every failure here is a 500, unlike with streams.
    let ended = runtime.exec_sync(&id, words, Duration::ZERO).await;
    let ended = ended.map_err(|error| failed(error.message()))?;
    if ended.exit_code != 0 {
        let stderr = String::from_utf8_lossy(&ended.stderr);
        return Err(failed(format!(
            "command '{command}' exited with {}: {stderr}",
            ended.exit_code
        )));
    }
    let mut output = ended.stdout;
    output.extend_from_slice(&ended.stderr);
    Ok(output)
}

/// Output under upstream's media type, whatever it contains; empty output has no type.
fn json(output: Vec<u8>) -> Answer {
    let empty = output.is_empty();
    let mut answer = Response::new(full(output));
    if !empty {
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    answer
}

/// `/checkpoint`: writes a container's state into a file on the node.
pub(crate) async fn checkpoint(
    state: &ServerState,
    names: PodPath<'_>,
    (query, now): (&Query, jiff::Timestamp),
) -> Answer {
    match write_checkpoint(state, names, (query, now)).await {
        Ok(location) => json(format!("{{\"items\":[\"{location}\"]}}").into_bytes()),
        Err(refused) => refused.answer(),
    }
}

async fn write_checkpoint(
    state: &ServerState,
    names: PodPath<'_>,
    (query, now): (&Query, jiff::Timestamp),
) -> Result<String, Refused> {
    let pod = pod_of(state, names)?;
    let absent = |text: String| Refused(StatusCode::NOT_FOUND, text);
    if find_container(&pod.object, names.container).is_none() {
        return Err(absent(format!(
            "container {} does not exist",
            names.container
        )));
    }
    let seconds = query.all("timeout").last().map_or(Ok(0), str::parse::<i64>);
    let seconds =
        seconds.map_err(|_| absent("cannot parse value of timeout parameter".to_owned()))?;
    let attempt = async {
        let runtime = &state.node.runtime;
        let found = running_container(runtime, &pod.object, names.container).await;
        let id = found
            .map_err(|error| error.message())?
            .ok_or_else(|| format!("container {} not found", names.container))?;
        let seconds_only = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
        let (pod, container) = (full_name(&pod.object), names.container);
        let file = format!("checkpoint-{pod}-{container}-{seconds_only}.tar");
        let location = state.node.checkpoints.join(file).display().to_string();
        let written = runtime.checkpoint_container(&id, &location, seconds).await;
        written.map(|()| location).map_err(|error| error.message())
    };
    attempt.await.map_err(|why: String| {
        let PodPath {
            namespace,
            pod,
            container,
            ..
        } = names;
        failed(format!(
            "checkpointing of {namespace}/{pod}/{container} failed ({why})"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &str) -> Result<Options, String> {
        Options::read(&Query::parse(query)).map_err(|refused| refused.1)
    }

    #[test]
    fn streams_are_asked_for_by_the_number_one() {
        let all = options("input=1&output=1&error=1").unwrap();
        assert_eq!(
            all,
            Options {
                stdin: true,
                stdout: true,
                stderr: true,
                tty: false
            }
        );
        let terminal = options("output=1&error=1&tty=1").unwrap();
        assert_eq!(
            terminal,
            Options {
                stdin: false,
                stdout: true,
                stderr: false,
                tty: true
            }
        );
        for none in ["", "input=true&output=yes", "stdout=1", "error=1&tty=1"] {
            assert_eq!(
                options(none).unwrap_err(),
                "you must specify at least 1 of stdin, stdout, stderr",
                "{none}"
            );
        }
    }

    #[test]
    fn ports_are_parameters_over_websocket_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "connection",
            HeaderValue::from_static("keep-alive, Upgrade"),
        );
        let of = |query: &str, headers: &HeaderMap| ports(&Query::parse(query), headers);
        assert_eq!(of("", &headers), Ok(Vec::new()));
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        assert_eq!(of("port=80,443&port=1", &headers), Ok(vec![80, 443, 1]));
        for (query, text) in [
            ("", "query parameter \"port\" is required"),
            ("port=", "query parameter \"port\" cannot be empty"),
            ("port=0", "port \"0\" must be > 0"),
            (
                "port=1,x",
                "unable to parse \"1,x\" as a port: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            (
                "port=65536",
                "unable to parse \"65536\" as a port: strconv.ParseUint: parsing \"65536\": value out of range",
            ),
            (
                "port=%2B1",
                "unable to parse \"+1\" as a port: strconv.ParseUint: parsing \"+1\": invalid syntax",
            ),
        ] {
            assert_eq!(of(query, &headers), Err(text.to_owned()), "{query}");
        }
    }

    #[test]
    fn the_runtimes_refusals_keep_their_meaning() {
        let refused = |code, message: &str| {
            let answer = Refused::from(CriError::Refused {
                operation: "exec",
                code,
                message: message.to_owned(),
            })
            .answer();
            let later = answer
                .headers()
                .get(RETRY_AFTER)
                .map(|value| value.to_str().unwrap().to_owned());
            (answer.status().as_u16(), later)
        };
        assert_eq!(refused(kubelet_cri::Code::NotFound, "x"), (404, None));
        assert_eq!(
            refused(kubelet_cri::Code::ResourceExhausted, "many [Retry-After:7]"),
            (429, Some("7".to_owned()))
        );
        assert_eq!(
            refused(
                kubelet_cri::Code::ResourceExhausted,
                "many [Retry-After:\n]"
            ),
            (429, None)
        );
        assert_eq!(
            refused(kubelet_cri::Code::Unknown, "[Retry-After:7]"),
            (500, None)
        );
    }
}
