//! gRPC probes: one `grpc.health.v1.Health/Check`.
//!
//! In:    address, the service's name, a timeout for all of it
//! Out:   `Answer`: `SERVING` is well
//! Calls: act/probes
//! Holds: no connection is kept; an answer is at most 64 KiB
//! Upstream: pkg/probe/grpc/grpc.go; grpc/health/v1/health.proto

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use kubelet_api::duration::GoDuration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codegen::http::Uri;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::dial::dial;
use crate::{Answer, join_host_port};

/// Of an answer, which is one number.
const MOST_ANSWER: usize = 64 << 10;
/// Before a connection that failed is tried again, then longer, as Go's client does.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Where a frame of HTTP/2 has its type, and the type that a server's first frame has.
const FRAME_TYPE: usize = 3;
const SETTINGS: u8 = 4;
/// `SERVING`.
const SERVING: i32 = 1;

fn status_name(status: i32) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        SERVING => "SERVING".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

/// Asks once. Cancel: safe.
pub async fn grpc(
    host: &str,
    port: u16,
    service: &str,
    user_agent: &str,
    timeout: Duration,
) -> Answer {
    let address = join_host_port(host, port);
    let allowed = GoDuration::from_nanos(i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX));
    let spoke = Arc::new(AtomicBool::new(false));
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .and_then(|endpoint| endpoint.user_agent(user_agent.to_owned()));
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(why) => {
            return Answer::Failure(format!(
                "error: failed to connect service at \"{address}\": {why}"
            ));
        }
    };
    let asked = ask(&endpoint, (host, port), service, &spoke);
    match tokio::time::timeout_at(Instant::now() + timeout, asked).await {
        Ok(Ok(SERVING)) => Answer::Success("service healthy".to_owned()),
        Ok(Ok(status)) => Answer::Failure(format!(
            "service unhealthy (responded with \"{}\")",
            status_name(status)
        )),
        Ok(Err(status)) => Answer::Failure(refusal_text(&status, allowed)),
        Err(_) if spoke.load(Ordering::Relaxed) => Answer::Failure(format!(
            "timeout: health rpc did not complete within {allowed}"
        )),
        Err(_) => Answer::Failure(format!(
            "timeout: failed to connect service \"{address}\" within {allowed}: context deadline exceeded"
        )),
    }
}

fn refusal_text(status: &Status, allowed: GoDuration) -> String {
    let said = status.message();
    match status.code() {
        Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {said}"
        ),
        Code::DeadlineExceeded => {
            format!("timeout: health rpc did not complete within {allowed}")
        }
        code => {
            let code = match code {
                Code::Cancelled => "Canceled".to_owned(),
                code => format!("{code:?}"),
            };
            format!("error: health rpc probe failed: rpc error: code = {code} desc = {said}")
        }
    }
}

/// Asks over a connection on which the server speaks HTTP/2, which `spoke` says; one that cannot be had is tried again until the caller's
/// time is over, as Go's client does that waits for its connection.
async fn ask(
    endpoint: &Endpoint,
    (host, port): (&str, u16),
    service: &str,
    spoke: &Arc<AtomicBool>,
) -> Result<i32, Status> {
    let mut pause = FIRST_PAUSE;
    loop {
        let (host, heard) = (host.to_owned(), Arc::clone(spoke));
        let connector = tower::service_fn(move |_: Uri| {
            let (host, spoke) = (host.clone(), Arc::clone(&heard));
            async move {
                let stream = dial(&host, port, None).await.map_err(io::Error::other)?;
                let heard = Heard {
                    stream,
                    bytes: 0,
                    spoke,
                };
                Ok::<_, io::Error>(TokioIo::new(heard))
            }
        });
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => {
                let answer = check(channel, service).await;
                if answer.is_ok() || spoke.load(Ordering::Relaxed) {
                    return answer;
                }
                tracing::debug!(uri = %endpoint.uri(), "A server that does not speak HTTP/2 cannot be asked by gRPC");
            }
            Err(error) => {
                tracing::debug!(uri = %endpoint.uri(), %error, "No connection for a gRPC probe");
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.6);
    }
}

/// A connection that tells whether the first frame from the server is one with its settings.
struct Heard<S> {
    stream: S,
    /// How many were read, up to the type of the first frame.
    bytes: usize,
    spoke: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        if let Some(at) = FRAME_TYPE.checked_sub(self.bytes)
            && read.get(at) == Some(&SETTINGS)
        {
            self.spoke.store(true, Ordering::Relaxed);
        }
        self.bytes = self.bytes.saturating_add(read.len());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

async fn check(channel: Channel, service: &str) -> Result<i32, Status> {
    let mut client = Grpc::new(channel).max_decoding_message_size(MOST_ANSWER);
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let request = Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    let answer = client.unary(request, path, codec).await?;
    Ok(answer.into_inner().status)
}
