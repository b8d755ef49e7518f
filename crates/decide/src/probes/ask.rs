//! What one try of a probe asks, from the spec.
//!
//! In:    `Container`, its probe, the pod's address
//! Out:   [`Ask`]; or why it cannot be asked, in upstream's words
//! Calls: act/probes/asking
//! Holds: a command knows the variables whose values stand in the spec, and no others
//! Upstream: pkg/kubelet/prober/prober.go (runProbe), pkg/probe/util.go (ResolveContainerPort), pkg/probe/http/request.go

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::container::env::expand_static;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A command in the container.
    Exec(Vec<String>),
    /// An HTTP or HTTPS server.
    Http {
        /// Whether over TLS.
        is_tls: bool,
        /// Address or name.
        host: String,
        /// Port.
        port: u16,
        /// Path and query.
        path: String,
        /// Headers.
        headers: Vec<(String, String)>,
    },
    /// Whether a connection can be opened.
    Tcp {
        /// Address or name.
        host: String,
        /// Port.
        port: u16,
    },
    /// A gRPC health service.
    Grpc {
        /// Address.
        host: String,
        /// Port.
        port: u16,
        /// The service that is asked about; mostly empty.
        service: String,
    },
}

/// The number of a port, which may be one of the container's by name.
///
/// # Errors
/// There is no such port.
pub fn port_of(port: &IntOrString, container: &v1::Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => {
            let mut named = container.ports.iter().flatten();
            let named = named.find(|port| port.name.as_deref() == Some(name));
            match named {
                Some(port) => i64::from(port.container_port),
                None => name
                    .parse()
                    .map_err(|_| format!("strconv.Atoi: parsing \"{name}\": invalid syntax"))?,
            }
        }
    };
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("invalid port number: {number}"))
}

/// What a probe of a container asks.
///
/// # Errors
/// Why it cannot.
pub fn ask(probe: &v1::Probe, container: &v1::Container, ip: &str) -> Result<Ask, String> {
    let host = |host: &Option<String>| {
        let host = host.as_deref().filter(|host| !host.is_empty());
        host.unwrap_or(ip).to_owned()
    };
    if let Some(exec) = &probe.exec {
        let env = container.env.as_deref().unwrap_or_default();
        let words = exec.command.iter().flatten();
        return Ok(Ask::Exec(
            words.map(|word| expand_static(word, env)).collect(),
        ));
    }
    if let Some(get) = &probe.http_get {
        let headers = get.http_headers.iter().flatten();
        return Ok(Ask::Http {
            is_tls: get.scheme.as_deref() == Some("HTTPS"),
            host: host(&get.host),
            port: port_of(&get.port, container)?,
            path: get.path.clone().unwrap_or_default(),
            headers: headers
                .map(|header| (header.name.clone(), header.value.clone()))
                .collect(),
        });
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Ok(Ask::Tcp {
            host: host(&tcp.host),
            port: port_of(&tcp.port, container)?,
        });
    }
    if let Some(grpc) = &probe.grpc {
        return Ok(Ask::Grpc {
            host: ip.to_owned(),
            port: port_of(&IntOrString::Int(grpc.port), container)?,
            service: grpc.service.clone().unwrap_or_default(),
        });
    }
    Err(format!("missing probe handler for {}", container.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::probe::ProbeKind;
    use crate::testing::pod_of;

    fn asked(probe: &str) -> Result<Ask, String> {
        let pod = pod_of(&format!(
            "{{containers: [{{name: c, ports: [{{name: web, containerPort: 8080}}], env: [{{name: A, value: x}}, {{name: B, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}], livenessProbe: {{{probe}}}}}]}}"
        ));
        let container = &pod.containers()[0];
        let probe = crate::probes::spec::probe_of(container, ProbeKind::Liveness).unwrap();
        ask(probe, container, "10.0.0.1")
    }

    #[test]
    fn each_handler_is_asked_as_the_spec_says() {
        let words = |words: &[&str]| Ask::Exec(words.iter().map(ToString::to_string).collect());
        assert_eq!(
            asked("exec: {command: [cat, $(A), $(B), $(C), $$(A)]}"),
            Ok(words(&["cat", "x", "", "$(C)", "$(A)"]))
        );
        let http = |is_tls, host: &str, port, path: &str| Ask::Http {
            is_tls,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            headers: Vec::new(),
        };
        let rows = [
            ("httpGet: {port: web}", http(false, "10.0.0.1", 8080, "")),
            (
                "httpGet: {port: 80, path: /x, host: other, scheme: HTTPS}",
                http(true, "other", 80, "/x"),
            ),
            (
                "httpGet: {port: '81', scheme: HTTP}",
                http(false, "10.0.0.1", 81, ""),
            ),
        ];
        for (probe, expected) in rows {
            assert_eq!(asked(probe), Ok(expected), "{probe}");
        }
        let tcp = Ask::Tcp {
            host: "10.0.0.1".to_owned(),
            port: 8080,
        };
        assert_eq!(asked("tcpSocket: {port: web}"), Ok(tcp));
        let grpc = Ask::Grpc {
            host: "10.0.0.1".to_owned(),
            port: 9,
            service: "s".to_owned(),
        };
        assert_eq!(asked("grpc: {port: 9, service: s}"), Ok(grpc));
    }

    #[test]
    fn what_cannot_be_asked_says_why_in_upstreams_words() {
        for (probe, why) in [
            (
                "tcpSocket: {port: nope}",
                "strconv.Atoi: parsing \"nope\": invalid syntax",
            ),
            ("tcpSocket: {port: 0}", "invalid port number: 0"),
            ("httpGet: {port: '70000'}", "invalid port number: 70000"),
            ("periodSeconds: 1", "missing probe handler for c"),
        ] {
            assert_eq!(asked(probe), Err(why.to_owned()), "{probe}");
        }
    }
}
