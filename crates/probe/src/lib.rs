//! Probes over the network: HTTP, HTTPS, TCP and gRPC, as a kubelet asks containers whether they are well; and the requests of hooks.
//!
//! In:    an address and what to ask there, a timeout
//! Out:   [`Answer`], in upstream's words
//! Calls: act/probes, act/pod/hooks
//! Holds: one connection for each probe, closed after it; nothing is read beyond its bound; every probe ends by its timeout
//! Upstream: pkg/probe/{http,tcp,grpc}, pkg/probe/dialer_others.go (1.36); differences: HTTPS asks for HTTP/1.1 alone

mod dial;
mod grpc;
mod http;
mod url;

pub use grpc::grpc;
pub use http::{HttpGet, RequestFailure, Scheme, http, request};

/// What a container said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is well; what it said.
    Success(String),
    /// It counts as well, and people are told why that is not certain.
    Warning(String),
    /// It is not well: why.
    Failure(String),
    /// The probe itself did not work, and says nothing of the container.
    Error {
        /// `failure` or `unknown`, as the event has it.
        state: &'static str,
        /// Why.
        message: String,
    },
}

/// Opens a TCP connection and closes it.
pub async fn tcp(host: &str, port: u16, timeout: std::time::Duration) -> Answer {
    match dial::dial(host, port, Some(timeout)).await {
        Ok(_) => Answer::Success(String::new()),
        Err(error) => Answer::Failure(error.to_string()),
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests;
