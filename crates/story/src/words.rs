//! Words that several texts share.
//!
//! In:    probes, texts of others
//! Out:   what a probe asks; texts that change nothing on a terminal
//! Calls: `describe`, `why`, `table`
//! Holds: pure
//! Upstream: kubectl describe (DescribeProbe), differences: shorter

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What a probe asks, and how often.
pub(crate) fn asked(probe: &v1::Probe) -> String {
    let port = |port: &IntOrString| match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    let what = if let Some(exec) = &probe.exec {
        let command = exec.command.clone().unwrap_or_default();
        format!("exec [{}]", command.join(" "))
    } else if let Some(get) = &probe.http_get {
        let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let (host, path) = (get.host.as_deref(), get.path.as_deref());
        let port = port(&get.port);
        format!(
            "GET {scheme}://{}:{port}{}",
            host.unwrap_or_default(),
            path.unwrap_or("/")
        )
    } else if let Some(tcp) = &probe.tcp_socket {
        format!(
            "TCP {}:{}",
            tcp.host.as_deref().unwrap_or_default(),
            port(&tcp.port)
        )
    } else if let Some(grpc) = &probe.grpc {
        let service = grpc.service.as_deref().unwrap_or_default();
        format!("gRPC :{} {service}", grpc.port)
            .trim_end()
            .to_owned()
    } else {
        "nothing".to_owned()
    };
    let number = |of: Option<i32>, default| of.filter(|given| *given > 0).unwrap_or(default);
    let (period, timeout) = (
        number(probe.period_seconds, 10),
        number(probe.timeout_seconds, 1),
    );
    format!("{what} (every {period}s, timeout {timeout}s)")
}

/// Without what moves a terminal's cursor: others write names, messages and annotations.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
