//! The pods whose requests were recorded, as their sandboxes identified them.
//!
//! In:    a recorded pod's name
//! Out:   the desired pod: the manifest's spec, with UID, labels and annotations of the run
//! Calls: parity tests
//! Holds: specs are those of the recorded manifests, without probes; objects are those of the recorded cluster
//! Upstream: none

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kubelet_model::objects::{ApiAccess, ObjectState, PodObjects, Services, TokenRef};
use kubelet_model::pod::Pod;
use serde_json::{Value, json};

const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1";

/// Names of all recorded pods.
pub(crate) const NAMES: [&str; 7] = [
    "guaranteed",
    "besteffort-host",
    "crasher",
    "once",
    "noimage",
    "static-web-bench",
    "burstable",
];

fn spec(name: &str) -> &'static str {
    match name {
        "guaranteed" => {
            r#"{terminationGracePeriodSeconds: 3, containers: [{name: g, image: BUSYBOX, command: [sleep, "10000"],
            resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 100m, memory: 32Mi}}}]}"#
        }
        "besteffort-host" => {
            r#"{hostNetwork: true, hostPID: true, shareProcessNamespace: false, terminationGracePeriodSeconds: 3,
            containers: [{name: b, image: BUSYBOX, command: [sleep, "10000"], securityContext: {privileged: true}}]}"#
        }
        "crasher" => {
            r#"{containers: [{name: c, image: BUSYBOX,
            command: [sh, -c, "echo bye > /dev/termination-log; exit 3"]}]}"#
        }
        "once" => {
            r#"{restartPolicy: Never, containers: [{name: c, image: BUSYBOX, command: [sh, -c, "exit 0"]}]}"#
        }
        "noimage" => r#"{containers: [{name: c, image: "example.invalid/none:1"}]}"#,
        "static-web-bench" => {
            r#"{terminationGracePeriodSeconds: 5, containers: [{name: web,
            image: "registry.k8s.io/e2e-test-images/nginx:1.27-0", ports: [{containerPort: 80, hostPort: 8089}],
            resources: {limits: {memory: 32Mi, cpu: 100m}}}]}"#
        }
        "burstable" => {
            r#"{terminationGracePeriodSeconds: 5, hostname: h1, subdomain: sub,
            dnsConfig: {options: [{name: ndots, value: "3"}]},
            hostAliases: [{ip: 10.1.2.3, hostnames: [alias.local]}],
            securityContext: {fsGroup: 2000, runAsUser: 1000, runAsGroup: 3000, supplementalGroups: [4000],
              sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}],
              seccompProfile: {type: RuntimeDefault}},
            initContainers: [
              {name: init1, image: BUSYBOX, command: [sh, -c, "echo init"]},
              {name: side, image: BUSYBOX, restartPolicy: Always, command: [sh, -c, "sleep 10000"]}],
            containers: [{name: main, image: BUSYBOX, command: [sh, -c, "echo $(MY_POD) $(B); sleep 10000"],
              env: [{name: MY_POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}},
                    {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}],
              envFrom: [{configMapRef: {name: cm}}],
              resources: {requests: {cpu: 50m, memory: 16Mi}, limits: {cpu: 200m, memory: 64Mi}},
              securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true,
                capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}},
              lifecycle: {preStop: {exec: {command: ["sleep", "1"]}}},
              volumeMounts: [{name: cm, mountPath: /cm}, {name: sec, mountPath: /sec, readOnly: true},
                {name: e, mountPath: /e}, {name: m, mountPath: /m}, {name: p, mountPath: /p},
                {name: e, mountPath: /sp, subPath: x/y}, {name: h, mountPath: /h}]}],
            volumes: [{name: cm, configMap: {name: cm, defaultMode: 288}},
              {name: sec, secret: {secretName: sec, defaultMode: 420}},
              {name: e, emptyDir: {}}, {name: m, emptyDir: {medium: Memory, sizeLimit: 8Mi}},
              {name: h, hostPath: {path: /srv/demo/hp, type: DirectoryOrCreate}},
              {name: p, projected: {defaultMode: 420, sources: [
                {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.annotations}}]}},
                {configMap: {name: cm}}, {serviceAccountToken: {path: token, expirationSeconds: 3600}}]}}]}"#
        }
        other => panic!("no manifest of {other}"),
    }
}

/// What the recorded pods referred to, and the one Service there was.
pub(crate) fn objects() -> PodObjects {
    fn known<T: serde::de::DeserializeOwned>(json: Value) -> ObjectState<T> {
        ObjectState::Known(Arc::new(
            serde_json::from_value(json).expect("it is an object"),
        ))
    }
    let service = json!({"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {
        "clusterIP": "10.0.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}});
    let service: v1::Service = serde_json::from_value(service).expect("it is a service");
    PodObjects {
        access: ApiAccess::Cluster,
        config_maps: [(
            "cm".to_owned(),
            known(json!({"data": {"a.txt": "hello", "B": "bee"}})),
        )]
        .into(),
        secrets: [(
            "sec".to_owned(),
            known(json!({"data": {"password": "czNjcmV0"}})),
        )]
        .into(),
        services: Services::Known([Arc::new(service)].into()),
        tokens: [(
            TokenRef {
                audience: String::new(),
                expiration_seconds: 3600,
            },
            known(json!("t0ken")),
        )]
        .into(),
        ..PodObjects::default()
    }
}

/// The pod behind a recorded sandbox.
pub(crate) fn pod(name: &str, uid: &str, sandbox: &Value) -> Pod {
    let mut own_labels = sandbox["labels"].as_object().cloned().unwrap_or_default();
    own_labels.retain(|key, _| !key.starts_with("io.kubernetes.pod."));
    let labels = Value::Object(own_labels);
    let annotations = &sandbox["annotations"];
    let spec = spec(name).replace("BUSYBOX", &format!("\"{BUSYBOX}\""));
    super::pod(&format!(
        "{{metadata: {{name: {name}, namespace: default, uid: \"{uid}\", labels: {labels}, annotations: {annotations}}},\n\
         spec: {spec}}}"
    ))
}
