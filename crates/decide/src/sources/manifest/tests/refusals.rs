//! What validation refuses, and in which words; and near misses that it takes.
//!
//! Upstream: pkg/apis/core/validation/validation_test.go (facts of rows)

use super::*;

/// The fields that problems of a pod's spec name.
fn paths(text: &str) -> Vec<String> {
    validate_static_pod(&identified(text))
        .into_iter()
        .map(|problem| problem.path)
        .collect()
}

#[test]
fn messages_are_those_of_upstream() {
    let c = "spec.containers[0]";
    let rows = [
        (with_spec("containers: []"), "spec.containers: Required value".to_owned()),
        (with_spec("containers: [{name: c}]"), format!("{c}.image: Required value")),
        (with_spec("containers: [{name: c, image: ' i'}]"), format!("{c}.image: Invalid value: \" i\": must not have leading or trailing whitespace")),
        (
            with_spec("containers: [{name: A_b, image: i}]"),
            format!("{c}.name: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"),
        ),
        (with_spec("containers: [{name: a.b, image: i}]"), format!("{c}.name: Invalid value: \"a.b\": must not contain dots")),
        (with_spec("containers: [{name: c, image: i}, {name: c, image: i}]"), "spec.containers[1].name: Duplicate value: \"c\"".to_owned()),
        (with_spec("containers: [{name: c, image: i}], initContainers: [{name: c, image: i}]"), "spec.initContainers[0].name: Duplicate value: \"c\"".to_owned()),
        (with_container("imagePullPolicy: Sometimes"), format!("{c}.imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"")),
        (with_spec("containers: [{name: c, image: i}], restartPolicy: never"), "spec.restartPolicy: Unsupported value: \"never\": supported values: \"Always\", \"OnFailure\", \"Never\"".to_owned()),
        (with_spec("containers: [{name: c, image: i}], dnsPolicy: x"), "spec.dnsPolicy: Unsupported value: \"x\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"".to_owned()),
        (with_container("ports: [{containerPort: 65536}]"), format!("{c}.ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive")),
        (with_container("ports: [{containerPort: 1, protocol: tcp}]"), format!("{c}.ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"")),
        (with_container("ports: [{containerPort: 1, hostPort: 7}, {containerPort: 2, hostPort: 7}]"), format!("{c}.ports[1].hostPort: Duplicate value: \"TCP//7\"")),
        (with_spec("hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 1, hostPort: 7}]}]"), format!("{c}.ports[0].hostPort: Invalid value: 7: must match `containerPort` when `hostNetwork` is true")),
        (with_container("env: [{name: 'a=b'}]"), format!("{c}.env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='")),
        (with_container("env: [{name: a, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"), format!("{c}.env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty")),
        (with_container("env: [{name: a, valueFrom: {}}]"), format!("{c}.env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`")),
        (with_container("env: [{name: a, valueFrom: {fieldRef: {fieldPath: metadata.nmae}}}]"), format!("{c}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.nmae\": error converting fieldPath: field label not supported: metadata.nmae")),
        (with_container("volumeMounts: [{name: v, mountPath: /v}]"), format!("{c}.volumeMounts[0].name: Not found: \"v\"")),
        (with_spec("volumes: [{name: v}], containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v}, {name: v, mountPath: /v}]}]"), format!("{c}.volumeMounts[1].mountPath: Invalid value: \"/v\": must be unique")),
        (with_spec("volumes: [{name: v}], containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]}]"), format!("{c}.volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers")),
        (with_spec("containers: [{name: c, image: i}], volumes: [{name: v, emptyDir: {}, hostPath: {path: /}}]"), "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type".to_owned()),
        (with_spec("containers: [{name: c, image: i}], volumes: [{name: v}, {name: v}]"), "spec.volumes[1].name: Duplicate value: \"v\"".to_owned()),
        (with_spec("containers: [{name: c, image: i}], volumes: [{name: v, hostPath: {path: /a/../b}}]"), "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'".to_owned()),
        (with_spec("containers: [{name: c, image: i}], volumes: [{name: v, emptyDir: {sizeLimit: -1}}]"), "spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity".to_owned()),
        (with_volume("downwardAPI: {items: [{path: ../a, fieldRef: {fieldPath: metadata.name}}]}"), "spec.volumes[0].downwardAPI.path: Invalid value: \"../a\": must not contain '..'".to_owned()),
        (with_volume("downwardAPI: {items: [{path: ..a, fieldRef: {fieldPath: metadata.name}}]}"), "spec.volumes[0].downwardAPI.path: Invalid value: \"..a\": must not start with '..'".to_owned()),
        (with_volume("downwardAPI: {items: [{path: a}]}"), "spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required".to_owned()),
        (with_volume("downwardAPI: {items: [{path: a, fieldRef: {fieldPath: spec.nodeName}}]}"), "spec.volumes[0].downwardAPI.fieldRef.fieldPath: Unsupported value: \"spec.nodeName\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"".to_owned()),
        (with_volume("downwardAPI: {items: [{path: a, resourceFieldRef: {resource: limits.cpu}}]}"), "spec.volumes[0].downwardAPI.resourceFieldRef.containerName: Required value".to_owned()),
        (with_volume("downwardAPI: {defaultMode: 512}"), "spec.volumes[0].downwardAPI.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive".to_owned()),
        (with_volume("projected: {sources: [{downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}}, {path: a, fieldRef: {fieldPath: metadata.uid}}]}}]}"), "spec.volumes[0].projected: Invalid value: \"a\": conflicting duplicate paths".to_owned()),
        (with_container("resources: {limits: {cpu: 1}, requests: {cpu: 1500m}}"), format!("{c}.resources.requests: Invalid value: \"1500m\": must be less than or equal to cpu limit of 1")),
        (with_container("resources: {requests: {memory: -1}}"), format!("{c}.resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0")),
        (with_container("resources: {requests: {memory: 1GB}}"), format!("{c}.resources.requests[memory]: Invalid value: \"1GB\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")),
        (with_container("livenessProbe: {}"), format!("{c}.livenessProbe: Required value: must specify a handler type")),
        (with_container("livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}"), format!("{c}.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type")),
        (with_container("livenessProbe: {exec: {command: [a]}, successThreshold: 2}"), format!("{c}.livenessProbe.successThreshold: Invalid value: 2: must be 1")),
        (with_container("readinessProbe: {exec: {command: [a]}, periodSeconds: -1}"), format!("{c}.readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0")),
        (with_container("lifecycle: {preStop: {sleep: {seconds: 31}}}"), format!("{c}.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)")),
        (with_container("securityContext: {runAsUser: -1}"), format!("{c}.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive")),
        (with_container("securityContext: {procMount: Unmasked}"), format!("{c}.securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`")),
        (with_container("securityContext: {seccompProfile: {type: Localhost}}"), format!("{c}.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost")),
        (
            with_container("securityContext: {privileged: true, allowPrivilegeEscalation: false}"),
            format!("{c}.securityContext: Invalid value: {{\"allowPrivilegeEscalation\":false,\"privileged\":true}}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"),
        ),
        (with_spec("containers: [{name: c, image: i}], activeDeadlineSeconds: 0"), "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive".to_owned()),
        (with_spec("containers: [{name: c, image: i}], hostAliases: [{ip: 1.2.3}]"), "spec.hostAliases[0].ip: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()),
        (with_spec("containers: [{name: c, image: i}], dnsPolicy: None"), "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None".to_owned()),
        (with_spec("containers: [{name: c, image: i}], ephemeralContainers: [{name: e, image: i}]"), "spec.ephemeralContainers: Forbidden: cannot be set on create".to_owned()),
        (with_spec("containers: [{name: c, image: i}], initContainers: [{name: a, image: i, readinessProbe: {exec: {command: [a]}}}]"), "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always".to_owned()),
        (with_spec("containers: [{name: c, image: i}], tolerations: [{key: a, operator: Gt, value: '1'}]"), "spec.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \"Lt\", \"Gt\"".to_owned()),
        (with_spec("containers: [{name: c, image: i}], hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.ip_forward, value: '1'}]}"), "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.ip_forward\": may not be specified when 'hostNetwork' is true".to_owned()),
        (with_container("stdin: true").replace("name: p", "name: P"), "metadata.name: Invalid value: \"P-node\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".to_owned()),
    ];
    for (text, expected) in rows {
        // The node of these tests has an upper-case name, which is refused on its own.
        let mut found = problems(&text);
        found.retain(|problem| !problem.starts_with("spec.nodeName"));
        assert_eq!(found, [expected], "{text}");
    }
}

#[test]
fn each_wrong_field_is_named() {
    let c = "spec.containers[0]";
    let rows: Vec<(&str, Vec<String>)> = vec![
        (
            "ports: [{name: a--b, containerPort: 1}]",
            vec![format!("{c}.ports[0].name")],
        ),
        (
            "ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}]",
            vec![format!("{c}.ports[1].name")],
        ),
        (
            "ports: [{hostPort: 1}]",
            vec![format!("{c}.ports[0].containerPort")],
        ),
        (
            "terminationMessagePolicy: x",
            vec![format!("{c}.terminationMessagePolicy")],
        ),
        (
            "env: [{name: a, valueFrom: {fieldRef: {apiVersion: v2, fieldPath: metadata.name}}}]",
            vec![format!("{c}.env[0].valueFrom.fieldRef.fieldPath")],
        ),
        (
            "env: [{name: a, valueFrom: {fieldRef: {fieldPath: status.phase}}}]",
            vec![format!("{c}.env[0].valueFrom.fieldRef.fieldPath")],
        ),
        (
            "env: [{name: a, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a b']\"}}}]",
            vec![format!("{c}.env[0].valueFrom.fieldRef")],
        ),
        (
            "env: [{name: a, valueFrom: {resourceFieldRef: {resource: limits.disk}}}]",
            vec![format!("{c}.env[0].valueFrom.resourceFieldRef.resource")],
        ),
        (
            "env: [{name: a, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 2m}}}]",
            vec![format!("{c}.env[0].valueFrom.resourceFieldRef.divisor")],
        ),
        (
            "resources: {limits: {cpus: 1}}",
            vec![
                format!("{c}.resources.limits[cpus]"),
                format!("{c}.resources.limits[cpus]"),
                format!("{c}.resources.requests[cpus]"),
                format!("{c}.resources.requests[cpus]"),
            ],
        ),
        (
            "resources: {limits: {pods: 1}}",
            vec![
                format!("{c}.resources.limits[pods]"),
                format!("{c}.resources.requests[pods]"),
            ],
        ),
        (
            "resources: {requests: {a.b/c: 1}}",
            vec![format!("{c}.resources.limits")],
        ),
        (
            "resources: {limits: {a.b/c: 500m}}",
            vec![
                format!("{c}.resources.limits[a.b/c]"),
                format!("{c}.resources.requests[a.b/c]"),
            ],
        ),
        (
            "resources: {limits: {a.b/c: 2}, requests: {a.b/c: 1}}",
            vec![format!("{c}.resources.requests")],
        ),
        (
            "resources: {limits: {hugepages-2Mi: 2Mi}}",
            vec![format!("{c}.resources")],
        ),
        (
            "resources: {limits: {hugepages-2Mi: 3Mi, cpu: 1}}",
            vec![
                format!("{c}.resources.limits[hugepages-2Mi]"),
                format!("{c}.resources.requests[hugepages-2Mi]"),
            ],
        ),
        (
            "resizePolicy: [{resourceName: disk, restartPolicy: x}]",
            vec![
                format!("{c}.resizePolicy[0].resourceName"),
                format!("{c}.resizePolicy[0].restartPolicy"),
            ],
        ),
        (
            "livenessProbe: {httpGet: {port: 0, scheme: ftp, httpHeaders: [{name: 'a b', value: x}]}}",
            vec![
                format!("{c}.livenessProbe.httpGet.port"),
                format!("{c}.livenessProbe.httpGet.scheme"),
                format!("{c}.livenessProbe.httpGet.httpHeaders"),
            ],
        ),
        (
            "livenessProbe: {exec: {}}",
            vec![format!("{c}.livenessProbe.exec.command")],
        ),
        (
            "lifecycle: {stopSignal: SIGTERM}",
            vec![format!("{c}.lifecycle.stopSignal")],
        ),
        (
            "restartPolicyRules: [{action: x}]",
            vec![
                format!("{c}.restartPolicy"),
                format!("{c}.restartPolicyRules[0].action"),
                format!("{c}.restartPolicyRules[0].exitCodes"),
            ],
        ),
        (
            "securityContext: {procMount: x, seccompProfile: {type: x, localhostProfile: z}}",
            vec![
                format!("{c}.securityContext.procMount"),
                format!("{c}.securityContext.seccompProfile.type"),
                format!("{c}.securityContext.seccompProfile.localhostProfile"),
            ],
        ),
        (
            "securityContext: {seccompProfile: {type: Localhost, localhostProfile: /../a}}",
            vec![format!("{c}.securityContext.seccompProfile.localhostProfile"); 2],
        ),
        (
            "securityContext: {appArmorProfile: {type: Localhost}}",
            vec![format!(
                "{c}.securityContext.appArmorProfile.localhostProfile"
            )],
        ),
        ("envFrom: [{}]", vec![format!("{c}.envFrom[0]")]),
        (
            "volumeDevices: [{name: x, devicePath: /dev/../x}]",
            vec![
                format!("{c}.volumeDevices[0].name"),
                format!("{c}.volumeDevices[0].devicePath"),
            ],
        ),
    ];
    for (fields, expected) in rows {
        let mut found = paths(&with_container(fields));
        found.retain(|path| path != "spec.nodeName");
        assert_eq!(found, expected, "{fields}");
    }
}

#[test]
fn each_wrong_field_of_the_pod_is_named() {
    let rows: [(&str, &[&str]); 17] = [
        (
            "hostname: a.b, subdomain: A",
            &["spec.hostname", "spec.subdomain"],
        ),
        (
            "priorityClassName: A, runtimeClassName: B",
            &["spec.priorityClassName", "spec.runtimeClassName"],
        ),
        ("nodeSelector: {'a b': c}", &["spec.nodeSelector"]),
        (
            "dnsConfig: {nameservers: [a, 1.1.1.1, 1.1.1.2, ::1], searches: [A], options: [{value: x}]}",
            &[
                "spec.dnsConfig.nameservers",
                "spec.dnsConfig.nameservers[0]",
                "spec.dnsConfig.searches[0]",
                "spec.dnsConfig.options[0]",
            ],
        ),
        (
            "dnsPolicy: None, dnsConfig: {}",
            &["spec.dnsConfig.nameservers"],
        ),
        (
            "hostAliases: [{ip: '::1', hostnames: [A]}]",
            &["spec.hostAliases[0].hostnames[0]"],
        ),
        (
            "tolerations: [{value: a}]",
            &["spec.tolerations[0].operator"],
        ),
        (
            "tolerations: [{key: a, operator: Exists, value: b, effect: x, tolerationSeconds: 1}]",
            &[
                "spec.tolerations[0].effect",
                "spec.tolerations[0].operator",
                "spec.tolerations[0].effect",
            ],
        ),
        (
            "securityContext: {runAsUser: -1, fsGroup: 2147483648, supplementalGroups: [-1], fsGroupChangePolicy: x}",
            &[
                "spec.securityContext.fsGroup",
                "spec.securityContext.runAsUser",
                "spec.securityContext.supplementalGroups[0]",
                "spec.securityContext.fsGroupChangePolicy",
            ],
        ),
        (
            "securityContext: {sysctls: [{name: 'A', value: x}, {name: a.b, value: x}, {name: a.b, value: x}, {name: '', value: x}]}",
            &[
                "spec.securityContext.sysctls[0].name",
                "spec.securityContext.sysctls[2].name",
                "spec.securityContext.sysctls[3].name",
            ],
        ),
        (
            "hostIPC: true, securityContext: {sysctls: [{name: kernel/shm_rmid_forced, value: '1'}]}",
            &["spec.securityContext.sysctls[0].name"],
        ),
        (
            "hostPID: true, shareProcessNamespace: true",
            &["spec.securityContext.shareProcessNamespace"],
        ),
        (
            "hostUsers: false, hostNetwork: true, hostPID: true",
            &["spec.hostNetwork", "spec.hostPID"],
        ),
        (
            "os: {name: plan9}, preemptionPolicy: x",
            &["spec.os.name", "spec.preemptionPolicy"],
        ),
        (
            "hostnameOverride: a, setHostnameAsFQDN: true",
            &["spec.hostnameOverride"],
        ),
        (
            "volumes: [{name: '', emptyDir: {medium: x}}, {name: h, hostPath: {path: '', type: Dir}}, {name: nf, nfs: {server: '', path: a}}]",
            &[
                "spec.volumes[0].name",
                "spec.volumes[1].hostPath.path",
                "spec.volumes[2].nfs.server",
                "spec.volumes[2].nfs.path",
            ],
        ),
        ("schedulingGates: [{name: a}]", &["spec.nodeName"]),
    ];
    for (fields, expected) in rows {
        let text = with_spec(&format!("containers: [{{name: c, image: i}}], {fields}"));
        let mut pod = decode(&text).unwrap();
        apply_v1_defaults(&mut pod);
        let pod = identify_static_pod(pod, "u", "node", StaticSource::File, Timestamp::UNIX_EPOCH);
        let mut found: Vec<_> = validate_static_pod(&pod)
            .into_iter()
            .map(|problem| problem.path)
            .collect();
        found.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{fields}");
    }
}

#[test]
fn references_to_objects_of_the_api_are_refused() {
    let rows = [
        (
            "serviceAccountName: a",
            "spec.serviceAccountName",
            "serviceaccounts",
        ),
        (
            "serviceAccount: a",
            "spec.serviceAccountName",
            "serviceaccounts",
        ),
        (
            "imagePullSecrets: [{name: a}]",
            "spec.imagePullSecrets[0]",
            "secrets",
        ),
        (
            "resourceClaims: [{name: a, resourceClaimName: b}]",
            "spec.resourceClaims[0]",
            "resourceclaims",
        ),
        (
            "volumes: [{name: v, configMap: {name: a}}]",
            "spec.volumes[0].configMap",
            "configmaps (via configmap volumes)",
        ),
        (
            "volumes: [{name: v, secret: {secretName: a}}]",
            "spec.volumes[0].secret",
            "secrets (via secret volumes)",
        ),
        (
            "volumes: [{name: v, csi: {driver: a.b}}]",
            "spec.volumes[0].csi",
            "csidrivers (via CSI volumes)",
        ),
        (
            "volumes: [{name: v, persistentVolumeClaim: {claimName: a}}]",
            "spec.volumes[0].persistentVolumeClaim",
            "persistentvolumeclaims",
        ),
        (
            "volumes: [{name: v, ephemeral: {}}]",
            "spec.volumes[0].ephemeral",
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        (
            "volumes: [{name: v, rbd: {image: a, monitors: [b], secretRef: {name: c}}}]",
            "spec.volumes[0].rbd.secretRef",
            "secrets",
        ),
        (
            "volumes: [{name: v, projected: {sources: [{downwardAPI: {}}, {serviceAccountToken: {path: a}}]}}]",
            "spec.volumes[0].projected.sources[1].serviceAccountToken",
            "serviceaccounts (via projected volumes)",
        ),
        (
            "initContainers: [{name: i, image: i, env: [{name: a, valueFrom: {secretKeyRef: {name: a, key: b}}}]}]",
            "spec.initContainers[0].env[0].valueFrom.secretKeyRef",
            "secrets",
        ),
        (
            "initContainers: [{name: i, image: i, envFrom: [{configMapRef: {name: a}}]}]",
            "spec.initContainers[0].envFrom[0].configMapRef",
            "configmaps",
        ),
    ];
    for (fields, path, what) in rows {
        let found = problems(
            &with_spec(&format!("containers: [{{name: c, image: i}}], {fields}"))
                .replace("Node", "node"),
        );
        let expected = format!("{path}: Forbidden: static pods may not reference {what}");
        assert!(found.contains(&expected), "{fields}: {found:?}");
    }
}

#[test]
fn a_large_correct_pod_is_taken() {
    let text = r#"
apiVersion: v1
kind: Pod
metadata:
  name: all
  namespace: kube-system
  labels: {app.kubernetes.io/name: all, tier: ""}
  annotations: {Example.com/Upper: "any text at all"}
spec:
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  dnsConfig: {nameservers: [10.0.0.10, "2001:db8::1", 010.1.1.1], searches: [a.b., _tcp.c, "."], options: [{name: ndots, value: "2"}]}
  hostAliases: [{ip: 127.0.0.1, hostnames: [foo.local]}]
  tolerations: [{operator: Exists}, {key: a/b, value: c, effect: NoSchedule}]
  priorityClassName: system-node-critical
  securityContext: {runAsUser: 0, sysctls: [{name: kernel.shm_rmid_forced, value: "1"}], seccompProfile: {type: RuntimeDefault}}
  os: {name: linux}
  volumes:
  - name: tmp
  - {name: mem, emptyDir: {medium: Memory, sizeLimit: 64Mi}}
  - {name: etc, hostPath: {path: /etc/kubernetes, type: DirectoryOrCreate}}
  initContainers:
  - {name: first, image: busybox, command: [sh], ports: [{containerPort: 80}]}
  containers:
  - name: main
    image: registry.k8s.io/kube-apiserver:v1.36.0
    args: [--v=2]
    env:
    - {name: "MY VAR.x", value: ""}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: L, valueFrom: {fieldRef: {fieldPath: "metadata.annotations['Example.com/Upper']"}}}
    - {name: M, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    ports: [{name: https, containerPort: 6443, hostPort: 6443}, {containerPort: 53, protocol: UDP}]
    resources: {limits: {cpu: 2, memory: 1.5Gi, hugepages-2Mi: 4Mi, ephemeral-storage: 1G}, requests: {cpu: 250m}}
    volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: etc, mountPath: /etc/kubernetes, readOnly: true, mountPropagation: HostToContainer}
    livenessProbe: {httpGet: {host: 127.0.0.1, path: /livez, port: https, scheme: HTTPS}, failureThreshold: 8}
    securityContext: {privileged: true, capabilities: {add: [NET_ADMIN], drop: [ALL]}}
"#;
    let mut pod = decode(text).unwrap();
    apply_v1_defaults(&mut pod);
    let pod = identify_static_pod(
        pod,
        "u",
        "node-1.example",
        StaticSource::File,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(validate_static_pod(&pod), []);
    assert!(unbuilt_fields(&pod).is_empty());
}
