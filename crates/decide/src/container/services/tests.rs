//! Upstream's table, and which Services a pod sees.

use super::*;

fn service(namespace: &str, name: &str, ip: &str, ports: &[(&str, i32, &str)]) -> Arc<v1::Service> {
    let ports = ports.iter().map(|(name, port, protocol)| v1::ServicePort {
        name: Some((*name).to_owned()).filter(|name| !name.is_empty()),
        port: *port,
        protocol: Some((*protocol).to_owned()).filter(|protocol| !protocol.is_empty()),
        ..v1::ServicePort::default()
    });
    let mut service = v1::Service::default();
    service.metadata.name = Some(name.to_owned());
    service.metadata.namespace = Some(namespace.to_owned());
    service.spec = Some(v1::ServiceSpec {
        cluster_ip: Some(ip.to_owned()),
        ports: Some(ports.collect()),
        ..v1::ServiceSpec::default()
    });
    Arc::new(service)
}

fn lines(variables: &[(String, String)]) -> Vec<String> {
    variables
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

#[test]
fn names_and_values_are_those_of_upstreams_table() {
    for (given, expected) in [
        (
            service("ns", "foo-bar", "1.2.3.4", &[("", 8080, "TCP")]),
            "FOO_BAR_SERVICE_HOST=1.2.3.4 FOO_BAR_SERVICE_PORT=8080 FOO_BAR_PORT=tcp://1.2.3.4:8080 \
             FOO_BAR_PORT_8080_TCP=tcp://1.2.3.4:8080 FOO_BAR_PORT_8080_TCP_PROTO=tcp FOO_BAR_PORT_8080_TCP_PORT=8080 \
             FOO_BAR_PORT_8080_TCP_ADDR=1.2.3.4",
        ),
        (
            service(
                "ns",
                "abc-123",
                "5.6.7.8",
                &[("u-d-p", 8081, "UDP"), ("t-c-p", 8081, "TCP")],
            ),
            "ABC_123_SERVICE_HOST=5.6.7.8 ABC_123_SERVICE_PORT=8081 ABC_123_SERVICE_PORT_U_D_P=8081 \
             ABC_123_SERVICE_PORT_T_C_P=8081 ABC_123_PORT=udp://5.6.7.8:8081 ABC_123_PORT_8081_UDP=udp://5.6.7.8:8081 \
             ABC_123_PORT_8081_UDP_PROTO=udp ABC_123_PORT_8081_UDP_PORT=8081 ABC_123_PORT_8081_UDP_ADDR=5.6.7.8 \
             ABC_123_PORT_8081_TCP=tcp://5.6.7.8:8081 ABC_123_PORT_8081_TCP_PROTO=tcp ABC_123_PORT_8081_TCP_PORT=8081 \
             ABC_123_PORT_8081_TCP_ADDR=5.6.7.8",
        ),
        (
            service(
                "ns",
                "q-u-u-x",
                "9.8.7.6",
                &[("", 8082, ""), ("8083", 8083, "TCP")],
            ),
            "Q_U_U_X_SERVICE_HOST=9.8.7.6 Q_U_U_X_SERVICE_PORT=8082 Q_U_U_X_SERVICE_PORT_8083=8083 \
             Q_U_U_X_PORT=tcp://9.8.7.6:8082 Q_U_U_X_PORT_8082_TCP=tcp://9.8.7.6:8082 Q_U_U_X_PORT_8082_TCP_PROTO=tcp \
             Q_U_U_X_PORT_8082_TCP_PORT=8082 Q_U_U_X_PORT_8082_TCP_ADDR=9.8.7.6 Q_U_U_X_PORT_8083_TCP=tcp://9.8.7.6:8083 \
             Q_U_U_X_PORT_8083_TCP_PROTO=tcp Q_U_U_X_PORT_8083_TCP_PORT=8083 Q_U_U_X_PORT_8083_TCP_ADDR=9.8.7.6",
        ),
        (
            service("ns", "super-ipv6", "2001:DB8::", &[("u-d-p", 8084, "UDP")]),
            "SUPER_IPV6_SERVICE_HOST=2001:DB8:: SUPER_IPV6_SERVICE_PORT=8084 SUPER_IPV6_SERVICE_PORT_U_D_P=8084 \
             SUPER_IPV6_PORT=udp://[2001:DB8::]:8084 SUPER_IPV6_PORT_8084_UDP=udp://[2001:DB8::]:8084 \
             SUPER_IPV6_PORT_8084_UDP_PROTO=udp SUPER_IPV6_PORT_8084_UDP_PORT=8084 SUPER_IPV6_PORT_8084_UDP_ADDR=2001:DB8::",
        ),
        (
            service("ns", "sctp-1", "1.2.3.4", &[("", 777, "SCTP")]),
            "SCTP_1_SERVICE_HOST=1.2.3.4 SCTP_1_SERVICE_PORT=777 SCTP_1_PORT=sctp://1.2.3.4:777 \
             SCTP_1_PORT_777_SCTP=sctp://1.2.3.4:777 SCTP_1_PORT_777_SCTP_PROTO=sctp SCTP_1_PORT_777_SCTP_PORT=777 \
             SCTP_1_PORT_777_SCTP_ADDR=1.2.3.4",
        ),
        (service("ns", "none", "None", &[("", 8082, "TCP")]), ""),
        (service("ns", "empty", "", &[("", 8082, "TCP")]), ""),
    ] {
        let expected: Vec<_> = expected.split_whitespace().collect();
        assert_eq!(lines(&service_variables(&[given], "ns", true)), expected);
    }
}

#[test]
fn a_pod_sees_its_namespace_when_it_wants_to_and_the_api_server_always() {
    let all = [
        service("default", "kubernetes", "1.2.3.1", &[("", 8081, "")]),
        service("test1", "test", "1.2.3.3", &[("", 8083, "")]),
        service("kubernetes", "kubernetes", "1.2.3.4", &[("", 8084, "")]),
        service("test2", "test", "1.2.3.5", &[("", 8085, "")]),
        service("test2", "test2", "None", &[("", 8085, "")]),
        service("default", "other", "1.2.3.6", &[("", 8086, "")]),
    ];
    let hosts = |namespace: &str, links| {
        let variables = service_variables(&all, namespace, links);
        let hosts = lines(&variables)
            .into_iter()
            .filter(|line| line.contains("_SERVICE_HOST="));
        hosts.collect::<Vec<_>>().join(" ")
    };
    let own = "KUBERNETES_SERVICE_HOST=1.2.3.1";
    assert_eq!(
        hosts("test1", true),
        format!("{own} TEST_SERVICE_HOST=1.2.3.3")
    );
    assert_eq!(hosts("test1", false), own);
    assert_eq!(
        hosts("test2", true),
        format!("{own} TEST_SERVICE_HOST=1.2.3.5")
    );
    assert_eq!(hosts("kubernetes", true), "KUBERNETES_SERVICE_HOST=1.2.3.4");
    assert_eq!(hosts("kubernetes", false), own);
    assert_eq!(
        hosts("default", true),
        format!("{own} OTHER_SERVICE_HOST=1.2.3.6")
    );
}
