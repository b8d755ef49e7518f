//! Services and Endpoints, new and updated.
//!
//! In:    Services and Endpoints, and their updates
//! Out:   –
//! Calls: cargo test
//! Upstream: pkg/apis/core/validation/validation_test.go (TestValidateServiceCreate, TestValidateServiceUpdate,
//!           TestValidateServiceExternalTrafficPolicy, TestValidateLoadBalancerStatus, TestValidateEndpointsCreate, TestValidateEndpointIP)

use super::*;
use k8s_openapi::api::core::v1::{Endpoints, Service};

fn base() -> Value {
    json!({
        "metadata": {"name": "valid", "namespace": "valid"},
        "spec": {
            "selector": {"key": "val"}, "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "p", "protocol": "TCP", "port": 8675, "targetPort": 8675}],
        },
    })
}

#[test]
fn new_services() {
    check_new::<Service>(&base(), &[
        ("{}", &[]),
        ("{spec: {ports: []}}", &["spec.ports|Required"]),
        ("{spec: {ports: [], clusterIP: None, clusterIPs: [None]}}", &[]),
        ("{spec: {selector: {'a b': val}}}", &["spec.selector|name part"]),
        ("{spec: {sessionAffinity: ''}}", &["spec.sessionAffinity|Required"]),
        ("{spec: {sessionAffinity: Random}}", &["spec.sessionAffinity|Unsupported value: \"Random\": supported values: \"ClientIP\", \"None\""]),
        ("{spec: {sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}}}", &["spec.sessionAffinityConfig|must not be set when session affinity is None"]),
        ("{spec: {sessionAffinity: ClientIP}}", &["spec.sessionAffinityConfig|when session affinity type is ClientIP"]),
        ("{spec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}}}", &["spec.sessionAffinityConfig.clientIP.timeoutSeconds|must be greater than 0 and less than 86400"]),
        ("{spec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 600}}}}", &[]),
        ("{spec: {type: ''}}", &["spec.type|Required"]),
        ("{spec: {type: invalid}}", &["spec.type|Unsupported value: \"invalid\""]),
        ("{spec: {ports: [{name: '', protocol: TCP, port: 8675, targetPort: 8675}, {name: '', protocol: TCP, port: 8676, targetPort: 8675}]}}", &["spec.ports[0].name|Required", "spec.ports[1].name|Required"]),
        ("{spec: {ports: [{name: INVALID, protocol: TCP, port: 8675, targetPort: 8675}]}}", &["spec.ports[0].name|label"]),
        ("{spec: {ports: [{name: p, protocol: INVALID, port: 8675, targetPort: 8675}]}}", &["spec.ports[0].protocol|Unsupported value: \"INVALID\""]),
        ("{spec: {ports: [{name: p, port: 8675, targetPort: 8675}]}}", &["spec.ports[0].protocol|Required"]),
        ("{spec: {ports: [{name: p, protocol: TCP, port: 0, targetPort: 8675}]}}", &["spec.ports[0].port|between 1 and 65535"]),
        ("{spec: {ports: [{name: p, protocol: TCP, port: 65536, targetPort: 65536}]}}", &["spec.ports[0].port|between 1 and 65535", "spec.ports[0].targetPort|between 1 and 65535"]),
        ("{spec: {ports: [{name: p, protocol: TCP, port: 1, targetPort: 'toolongnameoverfifteen'}]}}", &["spec.ports[0].targetPort|must be no more than 15 characters"]),
        ("{spec: {ports: [{name: p, protocol: TCP, port: 1, targetPort: 1, appProtocol: 'Foo*bar'}]}}", &["spec.ports[0].appProtocol|name part"]),
        ("{spec: {ports: [{name: p, protocol: TCP, port: 1, targetPort: 1}, {name: p, protocol: UDP, port: 1, targetPort: 1}]}}", &["spec.ports[1].name|Duplicate value: \"p\""]),
        ("{spec: {ports: [{name: p, protocol: TCP, port: 1, targetPort: 1}, {name: q, protocol: TCP, port: 1, targetPort: 2}]}}", &["spec.ports[1]|Duplicate value"]),
        ("{spec: {ports: [{name: p, protocol: TCP, port: 1, targetPort: 1, nodePort: 30000}]}}", &["spec.ports[0].nodePort|may not be used when `type` is 'ClusterIP'"]),
        ("{spec: {type: NodePort, externalTrafficPolicy: Cluster, ports: [{name: p, protocol: TCP, port: 1, targetPort: 1, nodePort: 30000}, {name: q, protocol: TCP, port: 2, targetPort: 1, nodePort: 30000}]}}", &["spec.ports[1].nodePort|Duplicate value: 30000"]),
        ("{spec: {type: NodePort, externalTrafficPolicy: Cluster, ports: [{name: p, protocol: TCP, port: 1, targetPort: 1, nodePort: 30000}, {name: q, protocol: UDP, port: 1, targetPort: 1, nodePort: 30000}]}}", &[]),
        ("{spec: {type: NodePort, externalTrafficPolicy: Cluster, clusterIP: None, clusterIPs: [None]}}", &["spec.clusterIPs[0]|may not be set to 'None' for NodePort services"]),
        ("{spec: {type: NodePort}}", &["spec.externalTrafficPolicy|Required"]),
        ("{spec: {type: NodePort, externalTrafficPolicy: invalid}}", &["spec.externalTrafficPolicy|Unsupported value: \"invalid\""]),
        ("{spec: {externalTrafficPolicy: Cluster}}", &["spec.externalTrafficPolicy|may only be set for externally-accessible services"]),
        ("{spec: {type: LoadBalancer, externalTrafficPolicy: Cluster, allocateLoadBalancerNodePorts: true}}", &[]),
        ("{spec: {type: LoadBalancer, externalTrafficPolicy: Cluster}}", &["allocateLoadBalancerNodePorts|Required"]),
        ("{spec: {allocateLoadBalancerNodePorts: true}}", &["spec.allocateLoadBalancerNodePorts|may only be used when `type` is 'LoadBalancer'"]),
        ("{spec: {type: LoadBalancer, externalTrafficPolicy: Local, allocateLoadBalancerNodePorts: true}}", &["spec.healthCheckNodePort|Required"]),
        ("{spec: {type: LoadBalancer, externalTrafficPolicy: Local, allocateLoadBalancerNodePorts: true, healthCheckNodePort: 31111}}", &[]),
        ("{spec: {healthCheckNodePort: 31111}}", &["spec.healthCheckNodePort|may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"]),
        ("{spec: {loadBalancerClass: test.com/lb}}", &["spec.loadBalancerClass|may only be used when `type` is 'LoadBalancer'"]),
        ("{spec: {type: LoadBalancer, externalTrafficPolicy: Cluster, allocateLoadBalancerNodePorts: true, loadBalancerClass: 'a b'}}", &["spec.loadBalancerClass|name part"]),
        ("{spec: {type: LoadBalancer, externalTrafficPolicy: Cluster, allocateLoadBalancerNodePorts: true, loadBalancerSourceRanges: [1.2.3.0/24, 5.6.0.0/16]}}", &[]),
        ("{spec: {type: LoadBalancer, externalTrafficPolicy: Cluster, allocateLoadBalancerNodePorts: true, loadBalancerSourceRanges: [foo.bar, 1.2.3.4/24, 01.2.3.0/24]}}", &["spec.LoadBalancerSourceRanges[0]|must be a valid CIDR value", "spec.LoadBalancerSourceRanges[1]|must not have bits set beyond the prefix length", "spec.LoadBalancerSourceRanges[2]|must not have leading 0s"]),
        ("{spec: {loadBalancerSourceRanges: [1.2.3.0/24]}}", &["spec.LoadBalancerSourceRanges|may only be used when `type` is 'LoadBalancer'"]),
        ("{metadata: {annotations: {service.beta.kubernetes.io/load-balancer-source-ranges: 'foo.bar'}}}", &["metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]|may only be used", "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]|valid CIDR"]),
        ("{spec: {externalIPs: [1.2.3.4], externalTrafficPolicy: Cluster}}", &[]),
        ("{spec: {externalIPs: [myhost.mydomain], externalTrafficPolicy: Cluster}}", &["spec.externalIPs[0]|must be a valid IP address"]),
        ("{spec: {externalIPs: [127.0.0.1], externalTrafficPolicy: Cluster}}", &["spec.externalIPs[0]|may not be in the loopback range"]),
        ("{spec: {internalTrafficPolicy: null}}", &["spec.internalTrafficPolicy|Required"]),
        ("{spec: {internalTrafficPolicy: invalid}}", &["spec.internalTrafficPolicy|Unsupported value: \"invalid\": supported values: \"Cluster\", \"Local\""]),
        ("{spec: {trafficDistribution: PreferClose}}", &[]),
        ("{spec: {trafficDistribution: Random}}", &["spec.trafficDistribution|Unsupported value: \"Random\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\""]),
        ("{spec: {type: ExternalName, externalName: foo.bar.example.com., ports: [], internalTrafficPolicy: null}}", &[]),
        ("{spec: {type: ExternalName, externalName: '', ports: [], internalTrafficPolicy: null}}", &["spec.externalName|Required"]),
        ("{spec: {type: ExternalName, externalName: '-foo', ports: [], internalTrafficPolicy: null}}", &["spec.externalName|subdomain"]),
        ("{spec: {type: ExternalName, externalName: a, clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}}", &["spec.clusterIPs|may not be set for ExternalName services", "spec.ipFamilies|may not be set", "spec.ipFamilyPolicy|may not be set"]),
        ("{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4]}}", &[]),
        ("{spec: {clusterIP: 1.2.3.4}}", &["spec.clusterIPs|Required"]),
        ("{spec: {clusterIPs: [1.2.3.4]}}", &["spec.clusterIPs|must be empty when `clusterIP` is not specified"]),
        ("{spec: {clusterIP: 1.2.3.5, clusterIPs: [1.2.3.4]}}", &["spec.clusterIPs|first value must match `clusterIP`"]),
        ("{spec: {clusterIP: invalid, clusterIPs: [invalid]}}", &["spec.clusterIPs[0]|must be a valid IP address"]),
        ("{spec: {clusterIP: '01.2.3.4', clusterIPs: ['01.2.3.4']}}", &["spec.clusterIPs[0]|must not have leading 0s"]),
        ("{spec: {clusterIP: '::ffff:1.2.3.4', clusterIPs: ['::ffff:1.2.3.4']}}", &["spec.clusterIPs[0]|must not be an IPv4-mapped IPv6 address"]),
        ("{spec: {clusterIP: None, clusterIPs: [None, 1.2.3.4]}}", &["spec.clusterIPs|'None' must be the first and only value"]),
        ("{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4, 5.6.7.8]}}", &["spec.clusterIPs|may specify no more than one IP for each IP family"]),
        ("{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4, '2001::1'], ipFamilies: [IPv4, IPv6], ipFamilyPolicy: PreferDualStack}}", &[]),
        ("{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4], ipFamilies: [IPv6]}}", &["spec.clusterIPs[0]|expected an IPv6 value as indicated by `ipFamilies[0]`"]),
        ("{spec: {ipFamilies: [IPv4, IPv4]}}", &["spec.ipFamilies[1]|Duplicate value: \"IPv4\""]),
        ("{spec: {ipFamilies: [IPv5]}}", &["spec.ipFamilies[0]|Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\""]),
        ("{spec: {ipFamilyPolicy: x}}", &["spec.ipFamilyPolicy|Unsupported value: \"x\""]),
        ("{metadata: {annotations: {service.kubernetes.io/topology-mode: auto, service.kubernetes.io/topology-aware-hints: disabled}}}", &["metadata.annotations[service.kubernetes.io/topology-mode]|must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified"]),
    ]);
}

#[test]
fn changes_of_services() {
    check_changes::<Service>(&base(), &[
        ("{}", "{metadata: {labels: {a: b}}, spec: {selector: {newkey: newvalue}}}", &[]),
        ("{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4]}}", "{spec: {clusterIP: 8.6.7.5, clusterIPs: [8.6.7.5]}}", &["spec.clusterIPs[0]|may not change once set"]),
        ("{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4]}}", "{}", &["spec.clusterIPs[0]|primary clusterIP can not be unset"]),
        ("{spec: {clusterIP: None, clusterIPs: [None]}}", "{spec: {clusterIP: 8.6.7.5, clusterIPs: [8.6.7.5]}}", &["spec.clusterIPs[0]|may not change once set"]),
        ("{}", "{spec: {type: NodePort, externalTrafficPolicy: Cluster}}", &[]),
        ("{}", "{spec: {type: ExternalName, externalName: a.b, ports: [], internalTrafficPolicy: null}}", &[]),
        ("{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4], ipFamilies: [IPv4]}}", "{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4], ipFamilies: [IPv6]}}", &["spec.clusterIPs[0]|expected an IPv6 value", "spec.ipFamilies[0]|may not change once set"]),
        ("{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4, '2001::1'], ipFamilies: [IPv4, IPv6], ipFamilyPolicy: PreferDualStack}}", "{spec: {clusterIP: 1.2.3.4, clusterIPs: [1.2.3.4], ipFamilies: [IPv4], ipFamilyPolicy: PreferDualStack}}", &["spec.ipFamilyPolicy|must be set to 'SingleStack' when releasing the secondary clusterIP", "spec.ipFamilyPolicy|must be set to 'SingleStack' when releasing the secondary ipFamily"]),
        ("{spec: {type: LoadBalancer, externalTrafficPolicy: Cluster, allocateLoadBalancerNodePorts: true, loadBalancerClass: test.com/a}}", "{spec: {type: LoadBalancer, externalTrafficPolicy: Cluster, allocateLoadBalancerNodePorts: true, loadBalancerClass: test.com/b}}", &["spec.loadBalancerClass|may not change once set"]),
        ("{spec: {type: LoadBalancer, externalTrafficPolicy: Local, allocateLoadBalancerNodePorts: true, healthCheckNodePort: 1}}", "{spec: {type: LoadBalancer, externalTrafficPolicy: Local, allocateLoadBalancerNodePorts: true, healthCheckNodePort: 2}}", &["spec.healthCheckNodePort|field is immutable"]),
        ("{}", "{spec: {sessionAffinity: x}}", &["spec.sessionAffinity|Unsupported value: \"x\""]),
    ]);
    for (spec, status, expected) in [
        ("LoadBalancer", "[{ip: 1.2.3.4, ipMode: VIP}]", vec![]),
        ("ClusterIP", "[{ip: 1.2.3.4, ipMode: VIP}]", vec!["status.loadBalancer.ingress|may only be used when `spec.type` is 'LoadBalancer'"]),
        ("LoadBalancer", "[{ip: 1.2.3.4}]", vec!["status.loadBalancer.ingress[0].ipMode|must be specified when `ip` is set"]),
        ("LoadBalancer", "[{ipMode: VIP, hostname: a}]", vec!["status.loadBalancer.ingress[0].ipMode|may not be specified when `ip` is not set"]),
        ("LoadBalancer", "[{ip: 1.2.3.4, ipMode: abc}]", vec!["status.loadBalancer.ingress[0].ipMode|Unsupported value: \"abc\": supported values: \"Proxy\", \"VIP\""]),
        ("LoadBalancer", "[{hostname: 1.2.3.4}]", vec!["status.loadBalancer.ingress[0].hostname|must be a DNS name, not an IP address"]),
    ] {
        let over = format!("{{spec: {{type: {spec}}}, status: {{loadBalancer: {{ingress: {status}}}}}}}");
        let service: Service = read(&laid(&base(), &over));
        compare(&over, &status_changed(&service, &service), &expected);
    }
}

#[test]
fn endpoints() {
    let subset = |text: &str| format!("{{subsets: [{{{text}}}]}}");
    let rows: Vec<(String, &[&str])> = vec![
        (subset("addresses: [{ip: 10.10.1.1}, {ip: 10.10.2.2}], ports: [{name: a, port: 8675, protocol: TCP}, {name: b, port: 309, protocol: TCP}]"), &[]),
        (subset("ports: [{name: a, port: 93, protocol: TCP}]"), &["subsets[0]|must specify `addresses` or `notReadyAddresses`"]),
        (subset("addresses: [{ip: 1.2.3}], ports: [{port: 93, protocol: TCP}]"), &["subsets[0].addresses[0].ip|must be a valid IP address"]),
        (subset("addresses: [{ip: 10.10.1.1, hostname: 'a b', nodeName: 'c_d'}]"), &["subsets[0].addresses[0].hostname|label", "subsets[0].addresses[0].nodeName|subdomain"]),
        (subset("addresses: [{ip: 10.10.1.1}], ports: [{port: 8675, protocol: TCP}, {name: b, port: 309, protocol: TCP}]"), &["subsets[0].ports[0].name|Required"]),
        (subset("addresses: [{ip: 10.10.1.1}], ports: [{port: 66000, protocol: TCP}]"), &["subsets[0].ports[0].port|between 1 and 65535"]),
        (subset("addresses: [{ip: 10.10.1.1}], ports: [{port: 93, protocol: Protocol}]"), &["subsets[0].ports[0].protocol|Unsupported value: \"Protocol\""]),
        (subset("addresses: [{ip: 127.0.0.1}], ports: [{port: 93, protocol: TCP}]"), &["subsets[0].addresses[0].ip|may not be in the loopback range (127.0.0.0/8, ::1/128)"]),
        (subset("addresses: [{ip: 169.254.169.254}]"), &["subsets[0].addresses[0].ip|may not be in the link-local range (169.254.0.0/16, fe80::/10)"]),
        (subset("addresses: [{ip: 224.0.0.1}]"), &["subsets[0].addresses[0].ip|may not be in the link-local multicast range"]),
        (subset("notReadyAddresses: [{ip: 0.0.0.0}]"), &["subsets[0].notReadyAddresses[0].ip|may not be unspecified (0.0.0.0)"]),
        (subset("addresses: [{ip: 'fe80::9656:d028:8652:66b6'}]"), &["subsets[0].addresses[0].ip|link-local range"]),
        (subset("addresses: [{ip: 10.10.1.1}], ports: [{port: 93, protocol: TCP, appProtocol: 'a?b'}]"), &["subsets[0].ports[0].appProtocol|name part"]),
    ];
    let base = json!({"metadata": {"name": "mysvc", "namespace": "namespace"}});
    for (text, expected) in &rows {
        check_new::<Endpoints>(&base, &[(text, expected)]);
    }
}
