//! gRPC probes: one `grpc.health.v1.Health/Check`.
//!
//! In:    address, the service's name, a timeout for all of it
//! Out:   `Answer`: `SERVING` is well
//! Calls: act/probes
//! Holds: no connection is kept; an answer is at most 64 KiB
//! Upstream: pkg/probe/grpc/grpc.go; grpc/health/v1/health.proto

use std::time::Duration;

use hyper_util::rt::TokioIo;
use kubelet_api::duration::GoDuration;
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
    let deadline = tokio::time::Instant::now() + timeout;
    let connected = tokio::time::timeout_at(deadline, connect(host, port, user_agent)).await;
    let channel = match connected {
        Ok(Ok(channel)) => channel,
        Ok(Err(why)) => {
            return Answer::Failure(format!(
                "error: failed to connect service at \"{address}\": {why}"
            ));
        }
        Err(_) => {
            return Answer::Failure(format!(
                "timeout: failed to connect service \"{address}\" within {allowed}: context deadline exceeded"
            ));
        }
    };
    match tokio::time::timeout_at(deadline, check(channel, service)).await {
        Ok(Ok(SERVING)) => Answer::Success("service healthy".to_owned()),
        Ok(Ok(status)) => Answer::Failure(format!(
            "service unhealthy (responded with \"{}\")",
            status_name(status)
        )),
        Ok(Err(status)) => Answer::Failure(refusal_text(&status, allowed)),
        Err(_) => Answer::Failure(format!(
            "timeout: health rpc did not complete within {allowed}"
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

/// A connection on which the server speaks HTTP/2; one that cannot be had is tried again until the caller's time is over.
async fn connect(host: &str, port: u16, user_agent: &str) -> Result<Channel, String> {
    let address = join_host_port(host, port);
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .and_then(|endpoint| endpoint.user_agent(user_agent.to_owned()))
        .map_err(|error| error.to_string())?;
    let mut pause = FIRST_PAUSE;
    loop {
        let host = host.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let host = host.clone();
            async move { dial(&host, port, None).await.map(TokioIo::new) }
        });
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => return Ok(channel),
            Err(error) => {
                tracing::debug!(%address, %error, "No connection for a gRPC probe");
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(1.6);
            }
        }
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
