//! `pods/<name>:<port>/proxy`: proxies a request to a port of a pod.
//!
//! In:    `name`, `name:port` or `scheme:name:port`; the path and query after it
//! Out:   the pod's response
//! Calls: `proxy`
//! Holds: only a pod's address is dialled, never a loopback or link-local address; the pod sees neither the caller's
//!        credentials nor the server's certificate
//! Upstream: pkg/registry/core/pod/{rest/subresources.go,strategy.go} ResourceLocation, apimachinery/pkg/util/net
//!           SplitSchemeNamePort (1.36); differences: links in the response are not rewritten

use std::net::IpAddr;

use serde_json::Value;

use super::Destination;
use crate::base::failure::Failure;
use crate::base::object::{list, number, text};
use crate::registry::ObjectPath;
use crate::verbs::Call;
use crate::verbs::kubelets::{Scheme, unreachable};
use crate::verbs::state::Inner;

/// Splits the name segment of the path.
fn split(id: &str) -> Option<(Scheme, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    let scheme = match scheme {
        "" | "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    (!name.is_empty()).then_some((scheme, name, port))
}

/// Go's `IsGlobalUnicast`: whether an address is of no special kind.
fn is_of_a_pod(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local()
                || v6
                    .to_ipv4_mapped()
                    .is_some_and(|v4| !is_of_a_pod(v4.into()))
        }
    };
    !(address.is_loopback() || address.is_multicast() || address.is_unspecified() || is_link_local)
}

/// The default port: the pod's first one.
fn first_port(pod: &Value) -> Option<i64> {
    let containers = list(pod, "/spec/containers").iter();
    let first = containers.map(|container| list(container, "/ports"));
    let first = first.filter_map(<[Value]>::first).next();
    first.and_then(|port| number(port, "/containerPort"))
}

/// The destination of a request.
pub(super) fn destination(
    server: &Inner,
    call: &Call<'_>,
) -> Result<(Scheme, Destination), Failure> {
    let id = &*call.target.name;
    let (scheme, name, port) =
        split(id).ok_or_else(|| Failure::bad_request(format!("invalid pod request {id:?}")))?;
    let place = ObjectPath {
        name,
        ..call.place()
    };
    let pod = server.registry.get(place)?.value();
    let address = text(&pod, "/status/podIP").parse::<IpAddr>();
    let address = address.ok().filter(|address| is_of_a_pod(*address));
    let address = address.ok_or_else(|| Failure::bad_request("address not allowed"))?;
    let usual = match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let port = match port {
        "" => {
            let first = first_port(&pod).map(u16::try_from);
            first.and_then(Result::ok).unwrap_or(usual)
        }
        named => named
            .parse::<u16>()
            .map_err(|_| unreachable(&format!("dial tcp: lookup tcp/{named}: unknown port")))?,
    };
    let query = match call.raw_query {
        "" => String::new(),
        query => format!("?{query}"),
    };
    let path = format!("/{}{query}", call.target.rest);
    let host = address.to_string();
    Ok((scheme, Destination { host, port, path }))
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use hyper::Request;
    use hyper::body::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::base::clock::Chance;
    use crate::identity::Identity;
    use crate::verbs::kubelets::{Proxy, Via};

    #[tokio::test]
    async fn a_pod_is_spoken_to_in_plain_http_and_who_does_not_answer_is_told() {
        let identity = Identity::fresh(&Chance::seeded(1), jiff::Timestamp::UNIX_EPOCH).unwrap();
        let (proxy, mut streams) = Proxy::new(&identity.kubelet_client, 4).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pod = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
            stream.write_all(answer).await.unwrap();
            String::from_utf8(head).unwrap()
        };
        let ask = async {
            let (via, place) = (Via::Pod(Scheme::Http), proxy.place().unwrap());
            let mut sender = proxy
                .connect(via, ("127.0.0.1", port), place)
                .await
                .unwrap();
            let mut request = Request::new(Full::<Bytes>::default());
            *request.uri_mut() = "/a?b=c".parse().unwrap();
            let answer = sender.send_request(request).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        };
        tokio::select! {
            () = streams.run() => panic!("somebody can still start one"),
            (head, body) = async { tokio::join!(pod, ask) } => {
                assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
                assert_eq!(&*body, b"hi");
            }
        }
        drop(listener);
        let (via, place) = (Via::Pod(Scheme::Http), proxy.place().unwrap());
        let refused = proxy.connect(via, ("127.0.0.1", port), place).await;
        let refused = refused.err().unwrap();
        let why = format!(
            "error trying to reach service: dial tcp 127.0.0.1:{port}: connect: connection refused"
        );
        assert_eq!((refused.code, refused.message), (503, why));
    }

    #[test]
    fn names_have_a_scheme_and_a_port_or_neither() {
        for (id, parts) in [
            ("web", Some((Scheme::Http, "web", ""))),
            ("web:80", Some((Scheme::Http, "web", "80"))),
            (":web:80", Some((Scheme::Http, "web", "80"))),
            ("https:web:443", Some((Scheme::Https, "web", "443"))),
            ("ftp:web:21", None),
            (":80", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(split(id), parts, "{id}");
        }
    }

    #[test]
    fn no_address_of_this_machine_or_of_a_link_is_called() {
        for (address, is_allowed) in [
            ("10.200.0.7", true),
            ("fd00::7", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(
                is_of_a_pod(address.parse().unwrap()),
                is_allowed,
                "{address}"
            );
        }
    }
}
