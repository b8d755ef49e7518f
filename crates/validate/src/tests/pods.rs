//! New pods.
//!
//! In:    specs of pods
//! Out:   –
//! Calls: cargo test
//! Upstream: pkg/apis/core/validation/validation_test.go (TestValidatePod, TestValidatePodSpec, TestValidateVolumes, TestValidateContainers,
//!           TestValidateInitContainers, TestValidateEnv, TestValidateVolumeMounts, TestValidatePodDNSConfig, …)

use super::*;

/// A valid pod with its defaults.
pub(super) fn base() -> Value {
    json!({
        "metadata": {"name": "123", "namespace": "default"},
        "spec": {
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "ctr", "image": "image", "imagePullPolicy": "IfNotPresent", "terminationMessagePolicy": "File"}],
        },
    })
}

/// Merges fields into the pod's first container.
fn with_container(fields: &str) -> Value {
    let mut pod = base();
    lay(yaml(fields), &mut pod["spec"]["containers"][0]);
    pod
}

fn check_containers(rows: &[Row<'_>]) {
    for (text, expected) in rows {
        let pod: Pod = read(&with_container(text));
        compare(text, &pod_problems(&pod), expected);
    }
}

fn check_specs(rows: &[Row<'_>]) {
    for (text, expected) in rows {
        let mut pod = base();
        lay(yaml(text), &mut pod["spec"]);
        let pod: Pod = read(&pod);
        compare(text, &pod_problems(&pod), expected);
    }
}

fn check_pods(rows: &[Row<'_>]) {
    for (text, expected) in rows {
        let pod: Pod = read(&laid(&base(), text));
        compare(text, &pod_problems(&pod), expected);
    }
}

fn pod_problems(pod: &Pod) -> Vec<FieldProblem> {
    crate::pod(pod)
}

const C: &str = "{name: ctr, image: image, imagePullPolicy: IfNotPresent, terminationMessagePolicy: File";

/// Containers of any list, each with its fields.
fn containers(list: &str, fields: &[&str]) -> String {
    let all: Vec<String> = fields.iter().map(|fields| format!("{C}, {fields}}}")).collect();
    format!("{{{list}: [{}]}}", all.join(", "))
}

#[test]
fn pods_as_a_whole() {
    check_pods(&[
        ("{}", &[]),
        ("{metadata: {name: abc.123.do-re-mi}, spec: {nodeSelector: {key: value}, nodeName: foobar, serviceAccountName: acct, volumes: [{name: vol, emptyDir: {}}]}}", &[]),
        ("{metadata: {name: ''}}", &["metadata.name|Required"]),
        ("{metadata: {name: 'a/b'}}", &["metadata.name|subdomain"]),
        ("{metadata: {namespace: ''}}", &["metadata.namespace|Required"]),
        ("{metadata: {labels: {NoUppercaseOrSpecialCharsLike=Equals: bar}}}", &["metadata.labels|NoUppercaseOrSpecialCharsLike=Equals"]),
        ("{metadata: {annotations: {kubernetes.io/config.mirror: foo}}}", &["metadata.annotations[kubernetes.io/config.mirror]|must set spec.nodeName if mirror pod annotation is set"]),
        ("{metadata: {annotations: {kubernetes.io/config.mirror: ''}}}", &["metadata.annotations[kubernetes.io/config.mirror]|mirror"]),
        ("{metadata: {annotations: {kubernetes.io/config.mirror: foo}}, spec: {nodeName: node}}", &[]),
        ("{metadata: {annotations: {controller.kubernetes.io/pod-deletion-cost: '10'}}}", &[]),
        ("{metadata: {annotations: {controller.kubernetes.io/pod-deletion-cost: '-10'}}}", &[]),
        ("{metadata: {annotations: {controller.kubernetes.io/pod-deletion-cost: text}}}", &["metadata.annotations[controller.kubernetes.io/pod-deletion-cost]|\"text\": must be a 32bit integer"]),
        ("{metadata: {annotations: {controller.kubernetes.io/pod-deletion-cost: '008'}}}", &["metadata.annotations[controller.kubernetes.io/pod-deletion-cost]|\"008\": must be a 32bit integer"]),
        ("{metadata: {annotations: {controller.kubernetes.io/pod-deletion-cost: '+10'}}}", &["metadata.annotations[controller.kubernetes.io/pod-deletion-cost]|\"+10\": must be a 32bit integer"]),
        ("{metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: foo}}}", &["metadata.annotations.seccomp.security.alpha.kubernetes.io/pod|must be a valid seccomp profile"]),
        ("{metadata: {annotations: {container.seccomp.security.alpha.kubernetes.io/foo: foo}}}", &["metadata.annotations.container.seccomp.security.alpha.kubernetes.io/foo|must be a valid seccomp profile"]),
        ("{metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: docker/default}}}", &[]),
        ("{metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: localhost//foo}}}", &["metadata.annotations.seccomp.security.alpha.kubernetes.io/pod|must be a relative path"]),
        ("{metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: localhost/../foo}}}", &["metadata.annotations.seccomp.security.alpha.kubernetes.io/pod|must not contain '..'"]),
        ("{metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: unconfined}}, spec: {securityContext: {seccompProfile: {type: Unconfined}}}}", &[]),
        ("{metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: unconfined}}, spec: {securityContext: {seccompProfile: {type: RuntimeDefault}}}}", &["spec.securityContext.seccompProfile.type|seccomp type in annotation and field must match"]),
        ("{metadata: {annotations: {seccomp.security.alpha.kubernetes.io/pod: localhost/a}}, spec: {securityContext: {seccompProfile: {type: Localhost, localhostProfile: b}}}}", &["spec.securityContext.seccompProfile.localhostProfile|seccomp profile in annotation and field must match"]),
        ("{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/ctr: runtime/default}}}", &[]),
        ("{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/fake-ctr: runtime/default}}}", &["metadata.annotations[container.apparmor.security.beta.kubernetes.io/fake-ctr]|container not found"]),
        ("{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/ctr: bad-name}}}", &["metadata.annotations[container.apparmor.security.beta.kubernetes.io/ctr]|invalid AppArmor profile name"]),
        ("{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/ctr: runtime/foo}}}", &["metadata.annotations[container.apparmor.security.beta.kubernetes.io/ctr]|invalid AppArmor profile name"]),
        ("{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/ctr: unconfined}}, spec: {securityContext: {appArmorProfile: {type: RuntimeDefault}}}}", &["spec.containers[0].securityContext.appArmorProfile.type|apparmor type in annotation and field must match"]),
        ("{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/ctr: localhost/a}}, spec: {securityContext: {appArmorProfile: {type: Localhost, localhostProfile: b}}}}", &["spec.containers[0].securityContext.appArmorProfile.localhostProfile|apparmor profile in annotation and field must match"]),
        ("{spec: {ephemeralContainers: [{name: e, image: i, imagePullPolicy: Always, terminationMessagePolicy: File}]}}", &["spec.ephemeralContainers|Forbidden: cannot be set on create"]),
        ("{spec: {schedulingGates: [{name: foo}]}}", &[]),
        ("{spec: {nodeName: node, schedulingGates: [{name: foo}]}}", &["spec.nodeName|cannot be set until all schedulingGates have been cleared"]),
        ("{spec: {schedulingGates: [{name: foo}, {name: foo}, {name: 'a b'}]}}", &["spec.schedulingGates[1]|Duplicate value: \"foo\"", "spec.schedulingGates[2]|name part"]),
    ]);
}

#[test]
fn containers_and_their_ports() {
    check_containers(&[
        ("{name: ''}", &["spec.containers[0].name|Required"]),
        ("{name: a.b.c}", &["spec.containers[0].name|must not contain dots"]),
        ("{image: ''}", &["spec.containers[0].image|Required"]),
        ("{image: ' some-image'}", &["spec.containers[0].image|must not have leading or trailing whitespace"]),
        ("{imagePullPolicy: ''}", &["spec.containers[0].imagePullPolicy|Required"]),
        ("{imagePullPolicy: Bogus}", &["spec.containers[0].imagePullPolicy|Unsupported value: \"Bogus\": supported values: \"Always\", \"IfNotPresent\", \"Never\""]),
        ("{terminationMessagePolicy: ''}", &["spec.containers[0].terminationMessagePolicy|Required"]),
        ("{terminationMessagePolicy: Unknown}", &["spec.containers[0].terminationMessagePolicy|Unsupported value: \"Unknown\": supported values: \"File\", \"FallbackToLogsOnError\""]),
        ("{ports: [{name: abc, containerPort: 80, hostPort: 80, protocol: TCP}, {name: '123-abc', containerPort: 83, hostPort: 83, protocol: SCTP}, {containerPort: 85, protocol: UDP}]}", &[]),
        ("{ports: [{containerPort: 0, protocol: TCP}]}", &["spec.containers[0].ports[0].containerPort|Required"]),
        ("{ports: [{containerPort: 65536, protocol: TCP}]}", &["spec.containers[0].ports[0].containerPort|65536: must be between 1 and 65535, inclusive"]),
        ("{ports: [{containerPort: 80, hostPort: 65536, protocol: TCP}]}", &["spec.containers[0].ports[0].hostPort|between 1 and 65535"]),
        ("{ports: [{containerPort: 80, protocol: tcp}]}", &["spec.containers[0].ports[0].protocol|Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\""]),
        ("{ports: [{containerPort: 80, protocol: ICMP}]}", &["spec.containers[0].ports[0].protocol|Unsupported value: \"ICMP\""]),
        ("{ports: [{containerPort: 80}]}", &["spec.containers[0].ports[0].protocol|Required"]),
        ("{ports: [{name: abcdefghijklmnop, containerPort: 80, protocol: TCP}]}", &["spec.containers[0].ports[0].name|must be no more than 15 characters"]),
        ("{ports: [{name: 'a.b.c', containerPort: 80, protocol: TCP}]}", &["spec.containers[0].ports[0].name|must contain only alpha-numeric characters"]),
        ("{ports: [{name: abc, containerPort: 80, protocol: TCP}, {name: abc, containerPort: 81, protocol: TCP}]}", &["spec.containers[0].ports[1].name|Duplicate value: \"abc\""]),
        ("{ports: [{containerPort: 80, hostPort: 80, protocol: TCP}, {containerPort: 81, hostPort: 80, protocol: TCP}]}", &["spec.containers[0].ports[1].hostPort|Duplicate value: \"TCP//80\""]),
        ("{ports: [{containerPort: 80, hostPort: 80, protocol: TCP}, {containerPort: 81, hostPort: 80, protocol: UDP}]}", &[]),
        ("{resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: memory, restartPolicy: RestartContainer}]}", &[]),
        ("{resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}, {resourceName: cpu, restartPolicy: RestartContainer}]}", &["spec.containers[0].resizePolicy[1]|Duplicate value: \"cpu\""]),
        ("{resizePolicy: [{resourceName: storage, restartPolicy: NotRequired}]}", &["spec.containers[0].resizePolicy[0].resourceName|Unsupported value: \"storage\""]),
        ("{resizePolicy: [{resourceName: cpu, restartPolicy: ''}]}", &["spec.containers[0].resizePolicy[0].restartPolicy|Required"]),
        ("{restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]}", &[]),
        ("{restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]}", &["spec.containers[0].restartPolicy|must specify restartPolicy when restart rules are used"]),
        ("{restartPolicy: Sometimes}", &["spec.containers[0].restartPolicy|Unsupported value: \"Sometimes\""]),
        ("{restartPolicy: Never, restartPolicyRules: [{action: Restart, exitCodes: {operator: Exists, values: [42]}}]}", &["spec.containers[0].restartPolicyRules[0].exitCodes.operator|Unsupported value: \"Exists\""]),
    ]);
    check_specs(&[
        ("{containers: []}", &["spec.containers|Required"]),
        (&containers("containers", &["tty: true", "tty: true"]), &["spec.containers[1].name|Duplicate value: \"ctr\""]),
        ("{hostNetwork: true, containers: [{name: a, image: i, imagePullPolicy: Always, terminationMessagePolicy: File, ports: [{containerPort: 1, hostPort: 2, protocol: TCP}]}]}", &["spec.containers[0].ports[0].hostPort|must match `containerPort` when `hostNetwork` is true"]),
        (&containers("initContainers", &["tty: true"]), &["spec.initContainers[0].name|Duplicate value: \"ctr\""]),
        ("{initContainers: [{name: i, image: i, imagePullPolicy: Always, terminationMessagePolicy: File, livenessProbe: {tcpSocket: {port: 80}, successThreshold: 1}}]}", &["spec.initContainers[0].livenessProbe|may not be set for init containers without restartPolicy=Always"]),
        ("{initContainers: [{name: i, image: i, imagePullPolicy: Always, terminationMessagePolicy: File, restartPolicy: Always, livenessProbe: {tcpSocket: {port: 80}, successThreshold: 1}}]}", &[]),
        ("{initContainers: [{name: i, image: i, imagePullPolicy: Always, terminationMessagePolicy: File, lifecycle: {preStop: {exec: {command: [ls]}}}}]}", &["spec.initContainers[0].lifecycle|may not be set"]),
        ("{initContainers: [{name: i, image: i, imagePullPolicy: Always, terminationMessagePolicy: File, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]}", &["spec.initContainers[0].resizePolicy[0].restartPolicy|must not be set to 'RestartContainer' for non-sidecar initContainers"]),
        ("{restartPolicy: Never, containers: [{name: a, image: i, imagePullPolicy: Always, terminationMessagePolicy: File, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]}", &["spec.containers[0].resizePolicy[0].restartPolicy|must be 'NotRequired' when pod `restartPolicy` is 'Never'"]),
    ]);
}

#[test]
fn variables() {
    check_containers(&[
        ("{env: [{name: abc, value: value}, {name: ABC.xyz, value: ''}, {name: 'a=c'}]}", &["spec.containers[0].env[2].name|a valid environment variable name must consist only of printable ASCII characters other than '='"]),
        ("{env: [{name: ''}]}", &["spec.containers[0].env[0].name|Required"]),
        ("{env: [{name: a, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: \"metadata.annotations['key']\"}}}, {name: b, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIPs}}}]}", &[]),
        ("{env: [{name: a, valueFrom: {secretKeyRef: {name: some-secret, key: secret-key}}}, {name: b, valueFrom: {configMapKeyRef: {name: some-config-map, key: some-key}}}]}", &[]),
        ("{env: [{name: a, value: foo, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}]}", &["spec.containers[0].env[0].valueFrom|may not be specified when `value` is not empty"]),
        ("{env: [{name: a, valueFrom: {}}]}", &["spec.containers[0].env[0].valueFrom|must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"]),
        ("{env: [{name: a, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}, secretKeyRef: {name: a, key: b}}}]}", &["spec.containers[0].env[0].valueFrom|may not have more than one field specified at a time"]),
        ("{env: [{name: a, valueFrom: {secretKeyRef: {name: '$%^&*#', key: a}}}]}", &["spec.containers[0].env[0].valueFrom.secretKeyRef.name|subdomain"]),
        ("{env: [{name: a, valueFrom: {secretKeyRef: {name: a, key: ''}}}]}", &["spec.containers[0].env[0].valueFrom.secretKeyRef.key|Required"]),
        ("{env: [{name: a, valueFrom: {configMapKeyRef: {name: a, key: 'a b'}}}]}", &["spec.containers[0].env[0].valueFrom.configMapKeyRef.key|a valid config key must consist of"]),
        ("{env: [{name: a, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: ''}}}]}", &["spec.containers[0].env[0].valueFrom.fieldRef.fieldPath|Required"]),
        ("{env: [{name: a, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}", &["spec.containers[0].env[0].valueFrom.fieldRef.apiVersion|Required"]),
        ("{env: [{name: a, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.whoops}}}]}", &["spec.containers[0].env[0].valueFrom.fieldRef.fieldPath|error converting fieldPath: field label not supported: metadata.whoops"]),
        ("{env: [{name: a, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: \"metadata.name['key']\"}}}]}", &["spec.containers[0].env[0].valueFrom.fieldRef.fieldPath|field label does not support subscript"]),
        ("{env: [{name: a, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.labels}}}]}", &["spec.containers[0].env[0].valueFrom.fieldRef.fieldPath|Unsupported value: \"metadata.labels\""]),
        ("{env: [{name: a, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}]}", &[]),
        ("{env: [{name: a, valueFrom: {resourceFieldRef: {resource: requests.hugepages-2Mi, divisor: 1Mi}}}]}", &[]),
        ("{env: [{name: a, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 2Mi}}}]}", &["spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor|are supported with the memory resource"]),
        ("{envFrom: [{configMapRef: {name: abc}}, {prefix: pre_, secretRef: {name: abc}}]}", &[]),
        ("{envFrom: [{configMapRef: {name: ''}}]}", &["spec.containers[0].envFrom[0].configMapRef.name|Required"]),
        ("{envFrom: [{configMapRef: {name: '$'}}]}", &["spec.containers[0].envFrom[0].configMapRef.name|subdomain"]),
        ("{envFrom: [{prefix: 'a=', secretRef: {name: abc}}]}", &["spec.containers[0].envFrom[0].prefix|printable ASCII"]),
        ("{envFrom: [{}]}", &["spec.containers[0].envFrom[0]|must specify one of: `configMapRef` or `secretRef`"]),
        ("{envFrom: [{configMapRef: {name: abc}, secretRef: {name: abc}}]}", &["spec.containers[0].envFrom[0]|may not have more than one field specified at a time"]),
        ("{env: [{name: a, valueFrom: {fileKeyRef: {key: K, volumeName: v, path: a}}}]}", &["spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName|Not found: \"v\""]),
        ("{env: [{name: a, valueFrom: {fileKeyRef: {key: '', volumeName: '', path: ''}}}]}", &["spec.containers[0].env[0].valueFrom.fileKeyRef.key|Required", "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName|Required", "spec.containers[0].env[0].valueFrom.fileKeyRef.path|Required", "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName|Not found: \"\""]),
    ]);
}

#[test]
fn resources() {
    check_containers(&[
        ("{resources: {limits: {cpu: '10', memory: 10G, my.org/resource: '10'}, requests: {my.org/resource: '10'}}}", &[]),
        ("{resources: {limits: {cpu: '-10'}}}", &["spec.containers[0].resources.limits[cpu]|\"-10\": must be greater than or equal to 0"]),
        ("{resources: {requests: {cpu: '-10'}}}", &["spec.containers[0].resources.requests[cpu]|must be greater than or equal to 0"]),
        ("{resources: {requests: {disk: 10G}}}", &["spec.containers[0].resources.requests[disk]|must be a standard resource type or fully qualified", "spec.containers[0].resources.requests[disk]|must be a standard resource for containers"]),
        ("{resources: {requests: {'!': 10G}}}", &["spec.containers[0].resources.requests[!]|name part must consist of", "spec.containers[0].resources.requests[!]|must be a standard resource for containers"]),
        ("{resources: {requests: {example.com/a: '2'}, limits: {example.com/a: '1'}}}", &["spec.containers[0].resources.requests|must be equal to example.com/a limit of 1"]),
        ("{resources: {requests: {example.com/a: '1'}}}", &["spec.containers[0].resources.limits|Limit must be set for non overcommitable resources"]),
        ("{resources: {requests: {example.com/a: 500m}, limits: {example.com/a: 500m}}}", &["spec.containers[0].resources.limits[example.com/a]|must be an integer", "spec.containers[0].resources.requests[example.com/a]|must be an integer"]),
        ("{resources: {requests: {cpu: '10'}, limits: {cpu: '5'}}}", &["spec.containers[0].resources.requests|\"10\": must be less than or equal to cpu limit of 5"]),
        ("{resources: {limits: {hugepages-2Mi: 1Gi}}}", &["spec.containers[0].resources|HugePages require cpu or memory"]),
        ("{resources: {limits: {cpu: '1', hugepages-2Mi: 1Mi}, requests: {hugepages-2Mi: 1Mi}}}", &["spec.containers[0].resources.limits[hugepages-2Mi]|1Mi is not positive integer multiple of hugepages-2Mi", "spec.containers[0].resources.requests[hugepages-2Mi]|not positive integer multiple"]),
        ("{resources: {limits: {cpu: x}}}", &["spec.containers[0].resources.limits[cpu]|quantities must match the regular expression"]),
        ("{resources: {claims: [{name: c}]}}", &["spec.containers[0].resources.claims[0]|Not found: \"c\": must be one of the names in pod.spec.resourceClaims which is empty"]),
    ]);
    let claim = "resourceClaims: [{name: my-claim, resourceClaimTemplateName: t}]";
    let with = |claims: &str| {
        format!("{{{claim}, containers: [{C}, resources: {{claims: {claims}}}}}]}}")
    };
    check_specs(&[
        (&with("[{name: my-claim}]"), &[]),
        (&with("[{name: my-claim, request: req-1}, {name: my-claim, request: req-2}]"), &[]),
        (&with("[{name: my-claim}, {name: my-claim}]"), &["spec.containers[0].resources.claims[1]|Duplicate value: \"my-claim\""]),
        (&with("[{name: my-claim, request: a}, {name: my-claim, request: a}]"), &["spec.containers[0].resources.claims[1]|Duplicate value: \"my-claim/a\""]),
        (&with("[{name: my-claim, request: a}, {name: my-claim}]"), &["spec.containers[0].resources.claims[1]|Duplicate value: \"my-claim\""]),
        (&with("[{name: ''}]"), &["spec.containers[0].resources.claims[0]|Required"]),
        (&with("[{name: other}]"), &["spec.containers[0].resources.claims[0]|must be one of the names in pod.spec.resourceClaims: my-claim"]),
        (&with("[{name: my-claim, request: '*$@'}]"), &["spec.containers[0].resources.claims[0].request|label"]),
        ("{resourceClaims: [{name: a, resourceClaimName: b}, {name: a, resourceClaimName: b}]}", &["spec.resourceClaims[1].name|Duplicate value: \"a\""]),
        ("{resourceClaims: [{name: a}]}", &["spec.resourceClaims[0]|must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"]),
        ("{resourceClaims: [{name: a, resourceClaimName: b, resourceClaimTemplateName: c}]}", &["spec.resourceClaims[0]|at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"]),
        ("{resourceClaims: [{name: 'a!', resourceClaimName: '.'}]}", &["spec.resourceClaims[0].name|label", "spec.resourceClaims[0].resourceClaimName|subdomain"]),
        ("{resources: {limits: {cpu: '10', memory: 10Mi}, requests: {cpu: '1'}}}", &[]),
        ("{resources: {limits: {ephemeral-storage: 10Mi}}}", &["spec.resources.limits[ephemeral-storage]|Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\""]),
        ("{resources: {claims: []}}", &["spec.resources.claims|claims may not be set for Resources at pod-level"]),
        (&format!("{{resources: {{requests: {{cpu: '1'}}}}, containers: [{C}, resources: {{requests: {{cpu: '2'}}}}}}]}}"), &["spec.resources.requests[cpu]|\"1\": must be greater than or equal to aggregate container requests of 2"]),
        (&format!("{{resources: {{limits: {{cpu: '1'}}}}, containers: [{C}, resources: {{limits: {{cpu: '2'}}}}}}]}}"), &["spec.resources.containers[0][cpu].limits|\"2\": must be less than or equal to pod limits of 1"]),
        ("{overhead: {cpu: '10', memory: 10G}}", &[]),
        ("{overhead: {my.org: '1'}}", &["spec.overhead.limits[my.org]|must be a standard resource type or fully qualified", "spec.overhead.limits[my.org]|must be a standard resource for containers"]),
    ]);
}

#[test]
fn probes_and_hooks() {
    check_containers(&[
        ("{livenessProbe: {exec: {command: [echo]}, successThreshold: 1}}", &[]),
        ("{livenessProbe: {tcpSocket: {port: 80}, successThreshold: 2}}", &["spec.containers[0].livenessProbe.successThreshold|2: must be 1"]),
        ("{livenessProbe: {successThreshold: 1}}", &["spec.containers[0].livenessProbe|Required value: must specify a handler type"]),
        ("{livenessProbe: {exec: {}, successThreshold: 1}}", &["spec.containers[0].livenessProbe.exec.command|Required"]),
        ("{livenessProbe: {httpGet: {port: 0, path: '', scheme: HTTP}, successThreshold: 1}}", &["spec.containers[0].livenessProbe.httpGet.path|Required", "spec.containers[0].livenessProbe.httpGet.port|between 1 and 65535"]),
        ("{livenessProbe: {httpGet: {port: 65536, path: /, scheme: HTTP}, successThreshold: 1}}", &["spec.containers[0].livenessProbe.httpGet.port|between 1 and 65535"]),
        ("{livenessProbe: {httpGet: {port: port, path: /, scheme: ftp}, successThreshold: 1}}", &["spec.containers[0].livenessProbe.httpGet.scheme|Unsupported value: \"ftp\": supported values: \"HTTP\", \"HTTPS\""]),
        ("{livenessProbe: {httpGet: {port: port, path: /, scheme: HTTPS, httpHeaders: [{name: 'Host:', value: foo}]}, successThreshold: 1}}", &["spec.containers[0].livenessProbe.httpGet.httpHeaders|a valid HTTP header"]),
        ("{livenessProbe: {tcpSocket: {port: 80}, exec: {command: [a]}, successThreshold: 1}}", &["spec.containers[0].livenessProbe.tcpSocket|may not specify more than 1 handler type"]),
        ("{livenessProbe: {grpc: {port: 0}, successThreshold: 1}}", &["spec.containers[0].livenessProbe.grpc.port|between 1 and 65535"]),
        ("{readinessProbe: {tcpSocket: {port: 80}, initialDelaySeconds: -1, timeoutSeconds: -1, periodSeconds: -1, successThreshold: -1, failureThreshold: -1}}", &["spec.containers[0].readinessProbe.initialDelaySeconds|must be greater than or equal to 0", "spec.containers[0].readinessProbe.timeoutSeconds|must be", "spec.containers[0].readinessProbe.periodSeconds|must be", "spec.containers[0].readinessProbe.successThreshold|must be", "spec.containers[0].readinessProbe.failureThreshold|must be"]),
        ("{readinessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 10}}", &["spec.containers[0].readinessProbe.terminationGracePeriodSeconds|must not be set for readinessProbes"]),
        ("{startupProbe: {tcpSocket: {port: 80}, successThreshold: 1, terminationGracePeriodSeconds: 0}}", &["spec.containers[0].startupProbe.terminationGracePeriodSeconds|must be greater than 0"]),
        ("{lifecycle: {preStop: {exec: {command: [ls]}}}}", &[]),
        ("{lifecycle: {preStop: {}}}", &["spec.containers[0].lifecycle.preStop|must specify a handler type"]),
        ("{lifecycle: {preStop: {tcpSocket: {port: ''}}}}", &["spec.containers[0].lifecycle.preStop.tcpSocket.port|must contain only alpha-numeric characters", "spec.containers[0].lifecycle.preStop.tcpSocket.port|must contain at least one letter"]),
        ("{lifecycle: {preStop: {sleep: {seconds: 5}}}}", &[]),
        ("{lifecycle: {preStop: {sleep: {seconds: -1}}}}", &["spec.containers[0].lifecycle.preStop.sleep|must be non-negative and less than terminationGracePeriodSeconds (30)"]),
        ("{lifecycle: {preStop: {sleep: {seconds: 60}}}}", &["spec.containers[0].lifecycle.preStop.sleep|must be non-negative and less than"]),
        ("{lifecycle: {stopSignal: SIGUSR1}}", &["spec.containers[0].lifecycle.stopSignal|may not be set for containers with empty `spec.os.name`"]),
    ]);
    check_specs(&[
        (&format!("{{os: {{name: linux}}, containers: [{C}, lifecycle: {{stopSignal: SIGUSR1}}}}]}}"), &[]),
        (&format!("{{os: {{name: windows}}, containers: [{C}, lifecycle: {{stopSignal: SIGHUP}}}}]}}"), &["spec.containers[0].lifecycle.stopSignal|Unsupported value: \"SIGHUP\": supported values: \"SIGKILL\", \"SIGTERM\""]),
    ]);
}

#[test]
fn volumes_and_mounts() {
    let v = |source: &str| format!("{{volumes: [{{name: v, {source}}}]}}");
    let rows: Vec<(String, &[&str])> = vec![
        (v("hostPath: {path: /mnt/path, type: Directory}"), &[]),
        (v("hostPath: {path: /mnt/path, type: invalid}"), &["spec.volumes[0].hostPath.type|Unsupported value: \"invalid\""]),
        (v("hostPath: {path: ''}"), &["spec.volumes[0].hostPath.path|Required"]),
        (v("hostPath: {path: /foo/../bar}"), &["spec.volumes[0].hostPath.path|must not contain '..'"]),
        (v("emptyDir: {sizeLimit: '-1'}"), &["spec.volumes[0].emptyDir.sizeLimit|SizeLimit field must be a valid resource quantity"]),
        ("{volumes: [{name: v}]}".to_owned(), &["spec.volumes[0]|must specify a volume type"]),
        ("{volumes: [{name: '', emptyDir: {}}]}".to_owned(), &["spec.volumes[0].name|Required"]),
        ("{volumes: [{name: a.b.c, emptyDir: {}}]}".to_owned(), &["spec.volumes[0].name|must not contain dots"]),
        ("{volumes: [{name: abc, emptyDir: {}}, {name: abc, emptyDir: {}}]}".to_owned(), &["spec.volumes[1].name|Duplicate value: \"abc\""]),
        (v("emptyDir: {}, hostPath: {path: /a}"), &["spec.volumes[0].hostPath|may not specify more than 1 volume type"]),
        (v("gitRepo: {repository: my-repo, directory: target}"), &[]),
        (v("gitRepo: {repository: ''}"), &["spec.volumes[0].gitRepo.repository|Required"]),
        (v("gitRepo: {repository: r, directory: /target}"), &["spec.volumes[0].gitRepo.directory|must be a relative path"]),
        (v("gitRepo: {repository: r, directory: foo/../bar}"), &["spec.volumes[0].gitRepo.directory|must not contain '..'"]),
        (v("gcePersistentDisk: {pdName: ''}"), &["spec.volumes[0].persistentDisk.pdName|Required"]),
        (v("awsElasticBlockStore: {volumeID: a, partition: 256}"), &["spec.volumes[0].awsElasticBlockStore.partition|between 0 and 255"]),
        (v("secret: {secretName: s, defaultMode: 420, items: [{key: a, path: b, mode: 256}]}"), &[]),
        (v("secret: {secretName: ''}"), &["spec.volumes[0].secret.secretName|Required"]),
        (v("secret: {secretName: s, defaultMode: 512}"), &["spec.volumes[0].secret.defaultMode|must be a number between 0 and 0777 (octal), both inclusive"]),
        (v("secret: {secretName: s, items: [{key: '', path: ''}]}"), &["spec.volumes[0].secret.items[0].key|Required", "spec.volumes[0].secret.items[0].path|Required"]),
        (v("secret: {secretName: s, items: [{key: a, path: ../foo}]}"), &["spec.volumes[0].secret.items[0].path|must not contain '..'"]),
        (v("secret: {secretName: s, items: [{key: a, path: ..foo}]}"), &["spec.volumes[0].secret.items[0].path|must not start with '..'"]),
        (v("secret: {secretName: s, items: [{key: a, path: /a, mode: -1}]}"), &["spec.volumes[0].secret.items[0].path|must be a relative path", "spec.volumes[0].secret.items[0].mode|0777"]),
        (v("configMap: {name: ''}"), &["spec.volumes[0].configMap.name|Required"]),
        (v("nfs: {server: '', path: rel}"), &["spec.volumes[0].nfs.server|Required", "spec.volumes[0].nfs.path|must be an absolute path"]),
        (v("iscsi: {targetPortal: 127.0.0.1, iqn: 'iqn.2015-02.example.com:test', lun: 1}"), &[]),
        (v("iscsi: {targetPortal: '', iqn: '', lun: 256}"), &["spec.volumes[0].iscsi.targetPortal|Required", "spec.volumes[0].iscsi.iqn|Required", "spec.volumes[0].iscsi.lun|between 0 and 255"]),
        (v("iscsi: {targetPortal: a, iqn: 'ian.2015-02.example.com:test', lun: 1}"), &["spec.volumes[0].iscsi.iqn|must be valid format starting with iqn, eui, or naa"]),
        (v("iscsi: {targetPortal: a, iqn: 'naa.000000000000', lun: 1}"), &["spec.volumes[0].iscsi.iqn|must be valid format"]),
        (v("iscsi: {targetPortal: a, iqn: 'eui.0123456789ABCDEF', lun: 1, chapAuthSession: true}"), &["spec.volumes[0].iscsi.secretRef|Required"]),
        (v("glusterfs: {endpoints: '', path: ''}"), &["spec.volumes[0].glusterfs.endpoints|Required", "spec.volumes[0].glusterfs.path|Required"]),
        (v("flocker: {}"), &["spec.volumes[0].flocker|one of datasetName and datasetUUID is required"]),
        (v("flocker: {datasetName: a/b}"), &["spec.volumes[0].flocker.datasetName|must not contain '/'"]),
        (v("flocker: {datasetName: a, datasetUUID: b}"), &["spec.volumes[0].flocker|can not be specified simultaneously"]),
        (v("rbd: {monitors: [], image: ''}"), &["spec.volumes[0].rbd.monitors|Required", "spec.volumes[0].rbd.image|Required"]),
        (v("cinder: {volumeID: ''}"), &["spec.volumes[0].cinder.volumeID|Required"]),
        (v("cephfs: {monitors: []}"), &["spec.volumes[0].cephfs.monitors|Required"]),
        (v("quobyte: {registry: 'registry:7861', volume: v}"), &[]),
        (v("quobyte: {registry: registry7861, volume: ''}"), &["spec.volumes[0].quobyte.registry|must be a host:port pair", "spec.volumes[0].quobyte.volume|Required"]),
        (v("fc: {targetWWNs: [a], lun: 1}"), &[]),
        (v("fc: {}"), &["spec.volumes[0].fc.targetWWNs|must specify either targetWWNs or wwids, but not both"]),
        (v("fc: {targetWWNs: [a], wwids: [b]}"), &["spec.volumes[0].fc.targetWWNs|simultaneously", "spec.volumes[0].fc.lun|lun is required if targetWWNs is specified"]),
        (v("flexVolume: {driver: ''}"), &["spec.volumes[0].flexVolume.driver|Required"]),
        (v("flexVolume: {driver: a/b, options: {kubernetes.io/test: v}}"), &["spec.volumes[0].flexVolume.options[kubernetes.io/test]|namespaces are reserved"]),
        (v("azureFile: {secretName: '', shareName: ''}"), &["spec.volumes[0].azureFile.secretName|Required", "spec.volumes[0].azureFile.shareName|Required"]),
        (v("azureDisk: {diskName: '', diskURI: 'https://a', kind: Dedicated, cachingMode: x}"), &["spec.volumes[0].azureDisk.diskName|Required", "spec.volumes[0].azureDisk.cachingMode|Unsupported value: \"x\""]),
        (v("vsphereVolume: {volumePath: ''}"), &["spec.volumes[0].vsphereVolume.volumePath|Required"]),
        (v("portworxVolume: {volumeID: ''}"), &["spec.volumes[0].portworxVolume.volumeID|Required"]),
        (v("storageos: {volumeName: 'a b', volumeNamespace: c_d}"), &["spec.volumes[0].storageos.volumeName|label", "spec.volumes[0].storageos.volumeNamespace|label"]),
        (v("scaleIO: {gateway: '', system: '', secretRef: {name: a}}"), &["spec.volumes[0].scaleIO.gateway|Required", "spec.volumes[0].scaleIO.system|Required", "spec.volumes[0].scaleIO.volumeName|Required"]),
        (v("csi: {driver: ''}"), &["spec.volumes[0].csi.driver|Required"]),
        (v("csi: {driver: 'Com.Google.gcepd', nodePublishSecretRef: {name: ''}}"), &["spec.volumes[0].csi.nodePublishSecretRef.name|Required"]),
        (v("image: {reference: '', pullPolicy: Always}"), &["spec.volumes[0].image.reference|Required"]),
        (v("image: {reference: a, pullPolicy: x}"), &["spec.volumes[0].image.pullPolicy|Unsupported value: \"x\""]),
        (v("downwardAPI: {items: [{path: labels, fieldRef: {apiVersion: v1, fieldPath: metadata.labels}}, {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu}}]}"), &[]),
        (v("downwardAPI: {items: [{path: '', fieldRef: {apiVersion: v1, fieldPath: metadata.labels}}]}"), &["spec.volumes[0].downwardAPI.path|Required"]),
        (v("downwardAPI: {items: [{path: a, fieldRef: {apiVersion: v1, fieldPath: metadata.labels}, resourceFieldRef: {containerName: c, resource: limits.cpu}}]}"), &["spec.volumes[0].downwardAPI|fieldRef and resourceFieldRef can not be specified simultaneously"]),
        (v("persistentVolumeClaim: {claimName: ''}"), &["spec.volumes[0].persistentVolumeClaim.claimName|Required"]),
        (v("ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10G}}}}}"), &[]),
        (v("ephemeral: {}"), &["spec.volumes[0].ephemeral.volumeClaimTemplate|Required"]),
        (v("ephemeral: {volumeClaimTemplate: {metadata: {name: a}, spec: {accessModes: [], resources: {}}}}"), &["spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name|cannot be set", "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes|at least 1 access mode is required", "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]|Required"]),
        ("{volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10G}}}}}}, {name: p, persistentVolumeClaim: {claimName: 123-v}}]}".to_owned(), &["spec.volumes[1].persistentVolumeClaim.claimName|must not reference a PVC that gets created for an ephemeral volume"]),
        (v("projected: {sources: [{secret: {name: ''}}]}"), &["spec.volumes[0].projected.sources[0].secret.name|Required"]),
        (v("projected: {sources: [{secret: {name: a, items: [{key: k, path: p}]}}, {configMap: {name: b, items: [{key: k, path: p}]}}]}"), &["spec.volumes[0].projected|\"b\": conflicting duplicate paths"]),
        (v("projected: {sources: [{secret: {name: a}, configMap: {name: b}}]}"), &["spec.volumes[0].projected.sources[0]|may not specify more than 1 volume type per source"]),
        (v("projected: {sources: [{serviceAccountToken: {path: foo/bar, expirationSeconds: 6000}}]}"), &["spec.volumes[0].projected.sources[0].serviceAccountToken|must not be specified when serviceAccountName is not set"]),
        ("{serviceAccountName: a, volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: '', expirationSeconds: 1}}]}}]}".to_owned(), &["spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds|may not specify a duration less than 10 minutes", "spec.volumes[0].projected.path|Required"]),
        (v("projected: {sources: [{clusterTrustBundle: {path: foo-path, signerName: example.com/foo, name: foo}}]}"), &["spec.volumes[0].projected.sources[0].clusterTrustBundle|only one of name and signerName may be used"]),
        (v("projected: {sources: [{clusterTrustBundle: {path: foo-path, name: ''}}]}"), &["spec.volumes[0].projected.sources[0].clusterTrustBundle.name|must be a valid object name", "spec.volumes[0].projected.sources[0].clusterTrustBundle.name|not a valid clustertrustbundlename"]),
        (v("projected: {sources: [{clusterTrustBundle: {path: foo-path, signerName: example.com}}]}"), &["spec.volumes[0].projected.sources[0].clusterTrustBundle.signerName|must be a fully qualified domain and path of the form"]),
        (v("projected: {sources: [{clusterTrustBundle: {path: foo-path}}]}"), &["spec.volumes[0].projected.sources[0].clusterTrustBundle|either name or signerName must be specified"]),
        (v("projected: {sources: [{podCertificate: {signerName: example.com/foo, keyType: BAD, credentialBundlePath: c}}]}"), &["spec.volumes[0].projected.sources[0].podCertificate.keyType|Unsupported value: \"BAD\""]),
        (v("projected: {sources: [{podCertificate: {signerName: example.com/foo, keyType: ED25519}}]}"), &["spec.volumes[0].projected.sources[0].podCertificate|specify at least one of credentialBundlePath, keyPath, and certificateChainPath"]),
        (v("projected: {sources: [{podCertificate: {signerName: example.com/foo, keyType: ED25519, keyPath: same, certificateChainPath: same}}]}"), &["spec.volumes[0].projected|conflicting duplicate paths"]),
        (v("projected: {sources: [{podCertificate: {signerName: example.com/foo, keyType: ED25519, keyPath: /a, maxExpirationSeconds: 10}}]}"), &["spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds|must be >= 3600", "spec.volumes[0].projected.sources[0].podCertificate.keyPath|must be a relative path"]),
    ];
    for (text, expected) in &rows {
        check_specs(&[(text, expected)]);
    }
    let long = format!("{{volumes: [{{name: {}, ephemeral: {{volumeClaimTemplate: {{spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 10G}}}}}}}}}}}}]}}", "b".repeat(60));
    let mut pod = base();
    pod["metadata"]["name"] = "a".repeat(200).into();
    lay(yaml(&long), &mut pod["spec"]);
    let found = crate::pod(&read(&pod));
    compare("long", &found, &["spec.volumes[0].name|must be no more than 253 characters"]);
    let m = |mounts: &str| {
        format!("{{volumes: [{{name: abc, emptyDir: {{}}}}, {{name: pvc, persistentVolumeClaim: {{claimName: a}}}}], containers: [{C}, {mounts}}}]}}")
    };
    let rows: Vec<(String, &[&str])> = vec![
        (m("volumeMounts: [{name: abc, mountPath: /foo, subPath: baz/bar}, {name: pvc, mountPath: bar}]"), &[]),
        (m("volumeMounts: [{name: '', mountPath: /foo}]"), &["spec.containers[0].volumeMounts[0].name|Required", "spec.containers[0].volumeMounts[0].name|Not found: \"\""]),
        (m("volumeMounts: [{name: other, mountPath: /foo}]"), &["spec.containers[0].volumeMounts[0].name|Not found: \"other\""]),
        (m("volumeMounts: [{name: abc, mountPath: ''}]"), &["spec.containers[0].volumeMounts[0].mountPath|Required"]),
        (m("volumeMounts: [{name: abc, mountPath: /a}, {name: abc, mountPath: /a}]"), &["spec.containers[0].volumeMounts[1].mountPath|must be unique"]),
        (m("volumeMounts: [{name: abc, mountPath: /a, subPath: /b}]"), &["spec.containers[0].volumeMounts.subPath|must be a relative path"]),
        (m("volumeMounts: [{name: abc, mountPath: /a, subPath: a/../b}]"), &["spec.containers[0].volumeMounts.subPath|must not contain '..'"]),
        (m("volumeMounts: [{name: abc, mountPath: /a, subPath: b, subPathExpr: c}]"), &["spec.containers[0].volumeMounts[0].subPathExpr|mutually exclusive"]),
        (m("volumeMounts: [{name: abc, mountPath: /a, mountPropagation: Bidirectional}]"), &["spec.containers[0].volumeMounts.mountPropagation|available only to privileged containers"]),
        (m("volumeMounts: [{name: abc, mountPath: /a, mountPropagation: HostToContainer}]"), &[]),
        (m("volumeMounts: [{name: abc, mountPath: /a, mountPropagation: x}]"), &["spec.containers[0].volumeMounts.mountPropagation|Unsupported value: \"x\""]),
        (m("volumeMounts: [{name: abc, mountPath: /a, recursiveReadOnly: Enabled}]"), &["spec.containers[0].volumeMounts.recursiveReadOnly|may only be specified when readOnly is true"]),
        (m("volumeDevices: [{name: pvc, devicePath: /dev/a}]"), &[]),
        (m("volumeDevices: [{name: abc, devicePath: /dev/a}]"), &["spec.containers[0].volumeDevices[0].name|can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"]),
        (m("volumeDevices: [{name: pvc, devicePath: ''}]"), &["spec.containers[0].volumeDevices[0].devicePath|Required"]),
        (m("volumeMounts: [{name: pvc, mountPath: /a}], volumeDevices: [{name: pvc, devicePath: /b}]"), &["spec.containers[0].volumeMounts[0].name|must not already exist in volumeDevices", "spec.containers[0].volumeDevices[0].name|must not already exist in volumeMounts"]),
    ];
    for (text, expected) in &rows {
        check_specs(&[(text, expected)]);
    }
}

#[test]
fn specs() {
    check_specs(&[
        ("{restartPolicy: ''}", &["spec.restartPolicy|Required"]),
        ("{restartPolicy: UnknowPolicy}", &["spec.restartPolicy|Unsupported value: \"UnknowPolicy\": supported values: \"Always\", \"OnFailure\", \"Never\""]),
        ("{dnsPolicy: invalid}", &["spec.dnsPolicy|Unsupported value: \"invalid\""]),
        ("{serviceAccountName: invalidName}", &["spec.serviceAccountName|subdomain"]),
        ("{nodeName: 'a/b'}", &["spec.nodeName|subdomain"]),
        ("{terminationGracePeriodSeconds: null}", &["spec.terminationGracePeriodSeconds|Required"]),
        ("{activeDeadlineSeconds: 30}", &[]),
        ("{activeDeadlineSeconds: 0}", &["spec.activeDeadlineSeconds|between 1 and 2147483647"]),
        ("{activeDeadlineSeconds: 4294967296}", &["spec.activeDeadlineSeconds|between 1 and 2147483647"]),
        ("{hostname: subhost, subdomain: abc}", &[]),
        ("{hostname: 'hostname.with.dot', subdomain: 'a_b'}", &["spec.hostname|must not contain dots", "spec.subdomain|label"]),
        ("{nodeSelector: {'a b': c}}", &["spec.nodeSelector|name part"]),
        ("{priorityClassName: InvalidName}", &["spec.priorityClassName|subdomain"]),
        ("{runtimeClassName: invalid/sandbox}", &["spec.runtimeClassName|subdomain"]),
        ("{preemptionPolicy: x}", &["spec.preemptionPolicy|Unsupported value: \"x\""]),
        ("{schedulingGroup: {}}", &["spec.schedulingGroup.podGroupName|must specify one of: `podGroupName`"]),
        ("{hostnameOverride: a.b}", &[]),
        ("{hostnameOverride: a, hostNetwork: true}", &["spec.hostnameOverride|may not be specified when hostNetwork is true"]),
        ("{hostnameOverride: a, setHostnameAsFQDN: true}", &["spec.hostnameOverride|may not be specified when setHostnameAsFQDN is true"]),
        ("{hostAliases: [{ip: 12.34.56.78, hostnames: [host1, host2]}]}", &[]),
        ("{hostAliases: [{ip: 999.999.999.999, hostnames: [host1]}]}", &["spec.hostAliases[0].ip|must be a valid IP address"]),
        ("{hostAliases: [{ip: 12.34.56.78, hostnames: ['@#$^#@#$']}]}", &["spec.hostAliases[0].hostnames[0]|subdomain"]),
        ("{securityContext: {fsGroup: -1}}", &["spec.securityContext.fsGroup|between 0 and 2147483647"]),
        ("{securityContext: {supplementalGroups: [-1, 1234]}}", &["spec.securityContext.supplementalGroups[0]|between"]),
        ("{securityContext: {runAsUser: 2147483648, runAsGroup: 2147483648}}", &["spec.securityContext.runAsUser|between", "spec.securityContext.runAsGroup|between"]),
        ("{securityContext: {fsGroupChangePolicy: invalid}}", &["spec.securityContext.fsGroupChangePolicy|Unsupported value: \"invalid\""]),
        ("{securityContext: {seLinuxChangePolicy: Recursive}}", &[]),
        ("{securityContext: {seLinuxChangePolicy: MountOption}}", &["spec.securityContext.seLinuxChangePolicy|supported values: \"Recursive\""]),
        ("{securityContext: {supplementalGroupsPolicy: x}}", &["spec.securityContext.supplementalGroupsPolicy|Unsupported"]),
        ("{hostPID: true, shareProcessNamespace: true}", &["spec.securityContext.shareProcessNamespace|ShareProcessNamespace and HostPID cannot both be enabled"]),
        ("{securityContext: {seccompProfile: {type: Localhost}}}", &["spec.securityContext.seccompProfile.localhostProfile|must be set when seccomp type is Localhost"]),
        ("{securityContext: {seccompProfile: {type: ''}}}", &["spec.securityContext.seccompProfile.type|type is required when seccompProfile is set"]),
        ("{securityContext: {appArmorProfile: {type: test}}}", &["spec.securityContext.appArmorProfile.type|Unsupported value: \"test\""]),
        ("{securityContext: {appArmorProfile: {type: RuntimeDefault, localhostProfile: foo-bar}}}", &["spec.securityContext.appArmorProfile.localhostProfile|\"foo-bar\": can only be set when AppArmor type is Localhost"]),
        ("{securityContext: {appArmorProfile: {type: Localhost, localhostProfile: 'foo-bar '}}}", &["spec.securityContext.appArmorProfile.localhostProfile|must not be padded with whitespace"]),
        ("{securityContext: {sysctls: [{name: kernel.shmmni, value: '32768'}]}}", &[]),
        ("{securityContext: {sysctls: [{name: 'i.e.', value: x}, {name: '', value: x}]}}", &["spec.securityContext.sysctls[0].name|must have at most 253 characters and match regex", "spec.securityContext.sysctls[1].name|Required"]),
        ("{hostNetwork: true, securityContext: {sysctls: [{name: net.ipv4.x, value: x}]}}", &["spec.securityContext.sysctls[0].name|may not be specified when 'hostNetwork' is true"]),
        ("{hostUsers: false, hostPID: true, hostIPC: true, hostNetwork: true}", &["spec.hostNetwork|when `hostUsers` is false", "spec.hostPID|when", "spec.hostIPC|when"]),
        ("{os: {name: dummyOS}}", &["spec.os.name|Unsupported value: \"dummyOS\": supported values: \"linux\", \"windows\""]),
        ("{os: {name: ''}}", &["spec.os.name|Required"]),
        ("{os: {name: linux}, securityContext: {windowsOptions: {runAsUserName: dummy}}}", &["spec.securityContext.windowsOptions|windows options cannot be set for a linux pod"]),
        ("{os: {name: windows}, securityContext: {runAsUser: 1, fsGroup: 1}}", &["spec.securityContext.fsGroup|cannot be set for a windows pod", "spec.securityContext.runAsUser|cannot be set for a windows pod"]),
        ("{securityContext: {windowsOptions: {runAsUserName: ''}}}", &["spec.securityContext.windowsOptions.runAsUserName|runAsUserName cannot be an empty string"]),
        ("{securityContext: {windowsOptions: {runAsUserName: 'a\\b\\c'}}}", &["spec.securityContext.windowsOptions.runAsUserName|cannot contain more than one backslash"]),
        ("{securityContext: {windowsOptions: {runAsUserName: '...'}}}", &["spec.securityContext.windowsOptions.runAsUserName|cannot contain only periods or spaces"]),
        ("{securityContext: {windowsOptions: {hostProcess: true}}}", &["spec.hostNetwork|hostNetwork must be true if pod contains any hostProcess containers"]),
    ]);
    check_containers(&[
        ("{securityContext: {privileged: true, runAsUser: 1, runAsGroup: 2}}", &[]),
        ("{securityContext: {runAsUser: -1}}", &["spec.containers[0].securityContext.runAsUser|between"]),
        ("{securityContext: {privileged: true, allowPrivilegeEscalation: false}}", &["spec.containers[0].securityContext|cannot set `allowPrivilegeEscalation` to false and `privileged` to true"]),
        ("{securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}, allowPrivilegeEscalation: false}}", &["spec.containers[0].securityContext|`capabilities.Add` CAP_SYS_ADMIN"]),
        ("{securityContext: {procMount: Unmasked}}", &["spec.containers[0].securityContext.procMount|`hostUsers` must be false to use `Unmasked`"]),
        ("{securityContext: {procMount: x}}", &["spec.containers[0].securityContext.procMount|Unsupported value: \"x\""]),
        ("{securityContext: {seccompProfile: {type: RuntimeDefault, localhostProfile: a}}}", &["spec.containers[0].securityContext.seccompProfile.localhostProfile|can only be set when seccomp type is Localhost"]),
    ]);
}

#[test]
fn where_a_pod_may_run() {
    let node = |expression: &str| format!("{{affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{expression}]}}}}}}}}");
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let path = |rest: &str| format!("{at}{rest}");
    let anti = |term: &str| format!("{{affinity: {{podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{term}]}}}}}}");
    let pod_at = |rest: &str| format!("spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]{rest}");
    let rows: Vec<(String, Vec<String>)> = vec![
        (node("{matchExpressions: [{key: key2, operator: In, values: [value1, value2]}], matchFields: [{key: metadata.name, operator: In, values: [host1]}]}"), vec![]),
        (node("{matchExpressions: [{key: key1}]}"), vec![path("[0].matchExpressions[0].operator|not a valid selector operator")]),
        (node("{matchExpressions: [{key: invalid key ___@#, operator: Exists}]}"), vec![path("[0].matchExpressions[0].key|name part")]),
        (node("{matchFields: [{key: metadata.name, operator: In, values: [host1, host2]}]}"), vec![path("[0].matchFields[0].values|must be only one value")]),
        (node("{matchFields: [{key: metadata.name, operator: Exists}]}"), vec![path("[0].matchFields[0].operator|not a valid selector operator")]),
        (node("{matchFields: [{key: metadata.namespace, operator: In, values: [ns1]}]}"), vec![path("[0].matchFields[0].key|not a valid field selector key")]),
        (node("{matchExpressions: [{key: a, operator: In}]}"), vec![path("[0].matchExpressions[0].values|must be specified when `operator` is 'In' or 'NotIn'")]),
        (node("{matchExpressions: [{key: a, operator: Exists, values: [b]}]}"), vec![path("[0].matchExpressions[0].values|may not be specified when `operator` is 'Exists' or 'DoesNotExist'")]),
        (node("{matchExpressions: [{key: a, operator: Gt, values: ['1', '2']}]}"), vec![path("[0].matchExpressions[0].values|must be specified single value")]),
        (node("{matchExpressions: [{key: a, operator: In, values: ['-1']}]}"), vec![path("[0].matchExpressions[0].values[0]|a valid label must be")]),
        (node(""), vec![path("|must have at least one node selector term")]),
        ("{affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 199, preference: {matchExpressions: [{key: foo, operator: In, values: [bar]}]}}]}}}".to_owned(), vec!["spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight|must be in the range 1-100".to_owned()]),
        ("{affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, podAffinityTerm: {topologyKey: zone, namespaces: [INVALID]}}]}}}".to_owned(), vec![
            "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight|must be in the range 1-100".to_owned(),
            "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.namespace|label".to_owned(),
        ]),
        (anti("{topologyKey: zone, labelSelector: {matchExpressions: [{key: key2, operator: In, values: [a]}]}}"), vec![]),
        (anti("{topologyKey: ''}"), vec![pod_at(".topologyKey|can not be empty"), pod_at(".topologyKey|name part must be non-empty"), pod_at(".topologyKey|name part must consist of")]),
        (anti("{topologyKey: zone, labelSelector: {matchExpressions: [{key: key2, operator: Exists, values: [a]}]}}"), vec![pod_at(".labelSelector.matchExpressions[0].values|may not be specified")]),
        (anti("{topologyKey: zone, matchLabelKeys: [a]}"), vec![pod_at(".matchLabelKeys|must not be specified when labelSelector is not set")]),
        (anti("{topologyKey: zone, labelSelector: {}, matchLabelKeys: [/simple]}"), vec![pod_at(".matchLabelKeys[0]|prefix part must be non-empty")]),
        (anti("{topologyKey: zone, labelSelector: {}, mismatchLabelKeys: [/simple]}"), vec![pod_at(".mismatchLabelKeys[0]|prefix part must be non-empty")]),
        (anti("{topologyKey: zone, labelSelector: {matchLabels: {key: value}, matchExpressions: [{key: key, operator: In, values: [value]}]}, matchLabelKeys: [key]}"), vec![pod_at("[0]|exists in both matchLabelKeys and labelSelector")]),
        (anti("{topologyKey: zone, labelSelector: {}, matchLabelKeys: [same], mismatchLabelKeys: [same]}"), vec![pod_at(".matchLabelKeys[0]|exists in both matchLabelKeys and mismatchLabelKeys")]),
    ];
    for (text, expected) in &rows {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check_specs(&[(text, &expected)]);
    }
    check_specs(&[
        ("{tolerations: [{key: foo, operator: Equal, value: bar, effect: NoSchedule}, {operator: Exists}, {key: foo, operator: Exists, effect: NoExecute, tolerationSeconds: -5}]}", &[]),
        ("{tolerations: [{key: 'nospecialchars^=@', operator: Equal, value: bar, effect: NoSchedule}]}", &["spec.tolerations[0].key|name part"]),
        ("{tolerations: [{key: foo, operator: In, value: bar, effect: NoSchedule}]}", &["spec.tolerations[0].operator|Unsupported value: \"In\": supported values: \"Equal\", \"Exists\""]),
        ("{tolerations: [{key: foo, operator: Exists, value: bar, effect: NoSchedule}]}", &["spec.tolerations[0].operator|value must be empty when `operator` is 'Exists'"]),
        ("{tolerations: [{operator: Equal, value: bar, effect: NoSchedule}]}", &["spec.tolerations[0].operator|operator must be Exists when `key` is empty"]),
        ("{tolerations: [{key: foo, operator: Exists, effect: NoSchedule, tolerationSeconds: 20}]}", &["spec.tolerations[0].effect|effect must be 'NoExecute' when `tolerationSeconds` is set"]),
        ("{tolerations: [{key: foo, operator: Lt, value: '950', effect: NoSchedule}]}", &["spec.tolerations[0].operator|Unsupported value: \"Lt\""]),
        ("{tolerations: [{key: foo, operator: Exists, effect: x}]}", &["spec.tolerations[0].effect|Unsupported value: \"x\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""]),
        ("{dnsConfig: {nameservers: [127.0.0.1, '::1'], searches: [custom, mydomain.com, _a.b, '.'], options: [{name: ndots, value: '2'}]}}", &[]),
        ("{dnsPolicy: None}", &["spec.dnsConfig|must provide `dnsConfig` when `dnsPolicy` is None"]),
        ("{dnsPolicy: None, dnsConfig: {searches: [a]}}", &["spec.dnsConfig.nameservers|must provide at least one DNS nameserver"]),
        ("{dnsConfig: {nameservers: [a, 1.1.1.1, 2.2.2.2, 3.3.3.3]}}", &["spec.dnsConfig.nameservers|must not have more than 3 nameservers", "spec.dnsConfig.nameservers[0]|must be a valid IP address"]),
        ("{dnsConfig: {searches: [invalid?]}}", &["spec.dnsConfig.searches[0]|subdomain"]),
        ("{dnsConfig: {options: [{value: '2'}]}}", &["spec.dnsConfig.options[0]|must not be empty"]),
        ("{readinessGates: [{conditionType: example.com/condition}, {conditionType: 'invalid?'}]}", &["spec.readinessGates[1].conditionType|name part"]),
        ("{topologySpreadConstraints: [{maxSkew: 1, topologyKey: k8s.io/zone, whenUnsatisfiable: DoNotSchedule, minDomains: 3}]}", &[]),
        ("{topologySpreadConstraints: [{maxSkew: 0, topologyKey: k8s.io/zone, whenUnsatisfiable: DoNotSchedule}]}", &["spec.topologySpreadConstraints[0].maxSkew|must be greater than zero"]),
        ("{topologySpreadConstraints: [{maxSkew: 1, topologyKey: '', whenUnsatisfiable: ''}]}", &["spec.topologySpreadConstraints[0].topologyKey|can not be empty", "spec.topologySpreadConstraints[0].whenUnsatisfiable|Unsupported value: \"\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\""]),
        ("{topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway, minDomains: 10}]}", &["spec.topologySpreadConstraints[0].minDomains|can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"]),
        ("{topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule}, {maxSkew: 2, topologyKey: a, whenUnsatisfiable: DoNotSchedule}]}", &["spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}|Duplicate value: \"{a, DoNotSchedule}\""]),
        ("{topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, nodeAffinityPolicy: x}]}", &["spec.topologySpreadConstraints[0].nodeAffinityPolicy|Unsupported value: \"x\": supported values: \"Honor\", \"Ignore\""]),
        ("{topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, matchLabelKeys: [foo]}]}", &["spec.topologySpreadConstraints[0].matchLabelKeys|must not be specified when labelSelector is not set"]),
        ("{topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchExpressions: [{key: foo, operator: In, values: []}]}}]}", &["spec.topologySpreadConstraints[0].labelSelector.matchExpressions[0].values|must be specified"]),
    ]);
}
