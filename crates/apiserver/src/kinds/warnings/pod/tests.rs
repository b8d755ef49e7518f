//! Pods with unusual fields, each with its warnings.
//!
//! In:    pods
//! Out:   –
//! Calls: cargo test
//! Upstream: pkg/api/pod/warnings_test.go

use serde_json::json;

use super::*;

fn told(spec: Value, annotations: Value) -> Vec<String> {
    let pod = json!({"metadata": {"annotations": annotations}, "spec": spec});
    warnings(&pod, None)
}

#[test]
fn what_is_odd_is_told_in_upstreams_words() {
    let port = |port: Value| json!({"containers": [{"ports": [port, {"containerPort": 80, "protocol": "TCP", "hostPort": 80}]}]});
    for (spec, expected) in [
        (
            json!({"nodeSelector": {"beta.kubernetes.io/os": "linux", "a": "b"}}),
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "app.kubernetes.io/created-by"}]}]}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key: app.kubernetes.io/created-by is deprecated since v1.9",
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "zone"}]}),
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}}}),
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            json!({"volumes": [{"name": "v", "gitRepo": {}}]}),
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
        ),
        (
            json!({"volumes": [{"name": "v", "configMap": {"name": "m", "items": [{"path": "a/"}, {"path": "a/b"}]}}]}),
            "volume \"v\" (ConfigMap \"m\"): overlapping paths: \"a/b\" with \"a\"",
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s", "items": [{"path": "t"}]}}, {"serviceAccountToken": {"path": "t"}}]}}]}),
            "volume \"v\" (Projected): overlapping paths: \"t\" (ServiceAccountToken) with \"t\" (Secret \"s\")",
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{}]}}]}),
            "volume \"v\" (Projected) has no sources provided",
        ),
        (
            json!({"hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}]}),
            "spec.hostAliases[1].ip: duplicate ip \"1.1.1.1\"",
        ),
        (
            json!({"imagePullSecrets": [{"name": ""}]}),
            "spec.imagePullSecrets[0].name: invalid empty name \"\"",
        ),
        (
            json!({"initContainers": [{"resources": {"limits": {"memory": "1500m"}}}]}),
            "spec.initContainers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
        ),
        (
            json!({"containers": [{"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "3"}]}]}),
            "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
        ),
        (
            port(json!({"containerPort": 80, "protocol": "TCP", "hostPort": 80})),
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            port(json!({"containerPort": 80, "protocol": "TCP"})),
            "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
        ),
        (
            port(
                json!({"containerPort": 80, "protocol": "TCP", "hostPort": 80, "hostIP": "1.1.1.1"}),
            ),
            "spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]",
        ),
        (
            port(json!({"containerPort": 81, "protocol": "TCP", "hostIP": "1.1.1.1"})),
            "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:81 Protocol:TCP HostIP:1.1.1.1}",
        ),
        (
            json!({"containers": [{"ports": [{"name": "web", "containerPort": 1}, {"name": "web", "containerPort": 2}]}]}),
            "spec.containers[0].ports[1]: duplicate port name \"web\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]",
        ),
        (
            json!({"terminationGracePeriodSeconds": -1}),
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ),
        (
            json!({"dnsConfig": {"nameservers": ["010.0.0.1"]}}),
            "spec.dnsConfig.nameservers[0]: non-standard IP address \"010.0.0.1\" is invalid: use \"10.0.0.1\"",
        ),
        (
            json!({"dnsConfig": {"nameservers": ["2001:DB8::1"]}}),
            "spec.dnsConfig.nameservers[0]: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")",
        ),
    ] {
        assert_eq!(told(spec.clone(), json!({})), [expected], "{spec}");
    }
    for (key, spec, expected) in [
        (
            SECCOMP,
            json!({}),
            "metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
        ),
        (
            ANNOTATIONS[0].0,
            json!({}),
            "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead",
        ),
        (
            "container.seccomp.security.alpha.kubernetes.io/c",
            json!({"containers": [{"name": "c"}]}),
            "metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use the \"seccompProfile\" field instead",
        ),
    ] {
        assert_eq!(told(spec, json!({key: ""})), [expected]);
    }
    let plain = json!({
        "containers": [{"name": "c", "env": [{"name": "A"}], "ports": [{"containerPort": 80}],
            "resources": {"limits": {"memory": "1Gi", "cpu": "1500m"}}, "securityContext": {"seccompProfile": {}}}],
        "hostAliases": [{"ip": "::1"}, {"ip": "127.0.0.1"}], "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"path": "a"}, {"path": "ab"}]}}],
    });
    assert!(
        told(
            plain,
            json!({"container.seccomp.security.alpha.kubernetes.io/c": ""})
        )
        .is_empty()
    );
}

#[test]
fn a_change_of_nothing_that_is_wanted_tells_nothing() {
    let pod = |generation: i64| json!({"metadata": {"generation": generation}, "spec": {"terminationGracePeriodSeconds": -1}});
    assert!(warnings(&pod(1), Some(&pod(1))).is_empty());
    assert_eq!(warnings(&pod(2), Some(&pod(1))).len(), 1);
}
