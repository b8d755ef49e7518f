//! Updates of pods: of the pod itself, its status, its ephemeral containers, its resources.
//!
//! In:    pods, and their updates
//! Out:   –
//! Calls: cargo test
//! Upstream: pkg/apis/core/validation/validation_test.go (TestValidatePodUpdate, TestValidatePodStatusUpdate,
//!           TestValidatePodEphemeralContainersUpdate, TestValidatePodResize)

use super::pods::base;
use super::*;

const CHANGED: &str = "spec|pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn with(image: &str, rest: &str) -> String {
    format!("{{spec: {{containers: [{{name: ctr, image: {image}, imagePullPolicy: IfNotPresent, terminationMessagePolicy: File{rest}}}]}}}}")
}

#[test]
fn a_pod_changes_in_few_places() {
    let gated = |rest: &str| format!("{{spec: {{schedulingGates: [{{name: foo}}]{rest}}}}}");
    let terms = |terms: &str| gated(&format!(", affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{terms}]}}}}}}"));
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let one = "{matchExpressions: [{key: expr, operator: In, values: [foo]}]}";
    let rows: Vec<(String, String, Vec<String>)> = [
        ("{}".to_owned(), "{}".to_owned(), vec![]),
        ("{}".to_owned(), "{metadata: {labels: {a: b}, annotations: {c: d}}}".to_owned(), vec![]),
        ("{}".to_owned(), with("other", ""), vec![]),
        ("{}".to_owned(), with("''", ""), vec!["spec.containers[0].image|Required".to_owned(), "spec.containers[0].image|Required".to_owned()]),
        ("{}".to_owned(), with("image", ", tty: true"), vec![CHANGED.to_owned()]),
        ("{}".to_owned(), "{spec: {hostname: a}}".to_owned(), vec![CHANGED.to_owned()]),
        ("{}".to_owned(), "{spec: {containers: []}}".to_owned(), vec!["spec.containers|Required".to_owned(), "spec.containers|pod updates may not add or remove containers".to_owned()]),
        ("{}".to_owned(), "{spec: {initContainers: [{name: i, image: i, imagePullPolicy: Always, terminationMessagePolicy: File}]}}".to_owned(), vec!["spec.initContainers|pod updates may not add or remove containers".to_owned()]),
        ("{}".to_owned(), "{spec: {activeDeadlineSeconds: 10}}".to_owned(), vec![]),
        ("{spec: {activeDeadlineSeconds: 10}}".to_owned(), "{spec: {activeDeadlineSeconds: 5}}".to_owned(), vec![]),
        ("{spec: {activeDeadlineSeconds: 10}}".to_owned(), "{spec: {activeDeadlineSeconds: 20}}".to_owned(), vec!["spec.activeDeadlineSeconds|must be less than or equal to previous value".to_owned()]),
        ("{spec: {activeDeadlineSeconds: 10}}".to_owned(), "{}".to_owned(), vec!["spec.activeDeadlineSeconds|must not update from a positive integer to nil value".to_owned()]),
        ("{spec: {terminationGracePeriodSeconds: -1}}".to_owned(), "{spec: {terminationGracePeriodSeconds: 1}}".to_owned(), vec![]),
        ("{spec: {terminationGracePeriodSeconds: 0}}".to_owned(), "{spec: {terminationGracePeriodSeconds: 1}}".to_owned(), vec![CHANGED.to_owned()]),
        ("{}".to_owned(), "{spec: {tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 10}]}}".to_owned(), vec![]),
        ("{spec: {tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 10}]}}".to_owned(), "{spec: {tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 20}]}}".to_owned(), vec![]),
        ("{spec: {tolerations: [{key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 10}]}}".to_owned(), "{spec: {tolerations: [{key: b, operator: Exists, effect: NoExecute, tolerationSeconds: 10}]}}".to_owned(), vec!["spec.tolerations|existing toleration can not be modified except its tolerationSeconds".to_owned()]),
        ("{spec: {tolerations: [{key: a, operator: Exists}]}}".to_owned(), "{}".to_owned(), vec!["spec.tolerations|existing toleration can not be modified except its tolerationSeconds".to_owned()]),
        ("{}".to_owned(), "{spec: {tolerations: [{key: a, operator: Exists, effect: NoSchedule, tolerationSeconds: 10}]}}".to_owned(), vec!["spec.tolerations[0].effect|effect must be 'NoExecute' when `tolerationSeconds` is set".to_owned()]),
        ("{}".to_owned(), "{spec: {schedulingGates: [{name: foo}]}}".to_owned(), vec!["spec.schedulingGates[0].name|only deletion is allowed, but found new scheduling gate 'foo'".to_owned()]),
        (gated(""), "{}".to_owned(), vec![]),
        (gated(", nodeSelector: {foo: bar}"), gated(", nodeSelector: {foo: bar, baz: qux}"), vec![]),
        (gated(", nodeSelector: {foo: bar}"), gated(", nodeSelector: {foo: baz}"), vec!["spec.nodeSelector|only additions to spec.nodeSelector are allowed (no mutations or deletions)".to_owned()]),
        ("{spec: {nodeSelector: {foo: bar}}}".to_owned(), "{spec: {nodeSelector: {foo: bar, baz: qux}}}".to_owned(), vec![CHANGED.to_owned()]),
        (gated(""), terms(one), vec![]),
        (terms(one), terms("{matchExpressions: [{key: expr, operator: In, values: [foo]}, {key: more, operator: Exists}]}"), vec![]),
        (terms(one), terms("{matchExpressions: [{key: expr, operator: In, values: [bar]}]}"), vec![format!("{at}[0]|only additions are allowed (no mutations or deletions)")]),
        (terms(one), terms(&format!("{one}, {one}")), vec![format!("{at}|no additions/deletions to non-empty NodeSelectorTerms list are allowed")]),
        ("{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/ctr: runtime/default}}}".to_owned(), "{}".to_owned(), vec!["metadata.annotations[container.apparmor.security.beta.kubernetes.io/ctr]|may not remove or update AppArmor annotations".to_owned()]),
        ("{}".to_owned(), "{metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/ctr: runtime/default}}}".to_owned(), vec!["metadata.annotations[container.apparmor.security.beta.kubernetes.io/ctr]|may not add AppArmor annotations".to_owned()]),
        ("{spec: {nodeName: nx}}".to_owned(), "{metadata: {annotations: {kubernetes.io/config.mirror: x}}, spec: {nodeName: nx}}".to_owned(), vec!["metadata.annotations[kubernetes.io/config.mirror]|may not add mirror pod annotation".to_owned()]),
    ]
    .into();
    for (old, new, expected) in &rows {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check_changes::<Pod>(&base(), &[(old, new, &expected)]);
    }
}

#[test]
fn what_a_kubelet_may_say() {
    let ended = |code: i32| format!("{{status: {{containerStatuses: [{{name: ctr, state: {{terminated: {{exitCode: {code}}}}}}}]}}}}");
    let running = "{status: {containerStatuses: [{name: ctr, state: {running: {}}}]}}";
    let policy = |policy: &str, text: &str| text.replacen('{', &format!("{{spec: {{restartPolicy: {policy}}}, "), 1);
    let rows: Vec<(String, String, Vec<&str>)> = vec![
        ("{}".into(), "{status: {conditions: [{type: Ready, status: 'True'}, {type: a.b/c, status: 'False'}]}}".into(), vec![]),
        ("{}".into(), "{status: {conditions: [{type: invalid?, status: 'True'}]}}".into(), vec!["status.conditions[0].Type|name part"]),
        ("{}".into(), "{status: {conditions: [{type: Ready, status: 'True', observedGeneration: -1}]}}".into(), vec!["status.conditions[0].observedGeneration|must be a non-negative integer"]),
        ("{}".into(), "{status: {observedGeneration: -1}}".into(), vec!["status.observedGeneration|must be a non-negative integer"]),
        ("{}".into(), "{status: {nominatedNodeName: node1}}".into(), vec![]),
        ("{}".into(), "{status: {nominatedNodeName: 'a b'}}".into(), vec!["status.nominatedNodeName|subdomain"]),
        ("{spec: {nodeName: nx}}".into(), "{spec: {nodeName: nx}, status: {nominatedNodeName: node1}}".into(), vec!["status.nominatedNodeName|may not be set on pods that are already bound to a node"]),
        ("{status: {qosClass: Burstable}}".into(), "{status: {qosClass: Guaranteed}}".into(), vec!["status.qosClass|field is immutable"]),
        (ended(0), running.into(), vec![]),
        (policy("Never", &ended(0)), policy("Never", running), vec!["status.containerStatuses[0].state|may not be transitioned to non-terminated state"]),
        (policy("OnFailure", &ended(0)), policy("OnFailure", running), vec!["status.containerStatuses[0].state|may not be transitioned to non-terminated state"]),
        (policy("OnFailure", &ended(1)), policy("OnFailure", running), vec![]),
        ("{}".into(), "{status: {podIPs: [{ip: 1.1.1.1}, {ip: '::1'}]}}".into(), vec![]),
        ("{}".into(), "{status: {podIPs: [{ip: This-is-not-an-ip}]}}".into(), vec!["status.podIPs[0]|must be a valid IP address"]),
        ("{}".into(), "{status: {podIPs: [{ip: 1.1.1.1}, {ip: 8.8.8.8}]}}".into(), vec!["status.podIPs|may specify no more than one IP for each IP family"]),
        ("{}".into(), "{status: {hostIP: 1.1.1.1, hostIPs: [{ip: 2.2.2.2}]}}".into(), vec!["status.hostIPs[0].ip|must be equal to `hostIP`"]),
        ("{}".into(), "{status: {containerStatuses: [{name: ctr, user: {linux: {uid: -1, gid: 0, supplementalGroups: [-1]}}}]}}".into(), vec!["status.containerStatuses[0].user.linux.uid|between", "status.containerStatuses[0].user.linux.supplementalGroups[0]|between"]),
        ("{spec: {os: {name: windows}}}".into(), "{spec: {os: {name: windows}}, status: {containerStatuses: [{name: ctr, user: {linux: {uid: 0, gid: 0}}}]}}".into(), vec!["status.containerStatuses[0].user.linux|cannot be set for a windows pod"]),
    ];
    for (old, new, expected) in &rows {
        let (old_pod, new_pod): (Pod, Pod) = (read(&laid(&base(), old)), read(&laid(&base(), new)));
        compare(&format!("{old} -> {new}"), &status_changed(&new_pod, &old_pod), expected);
    }
}

#[test]
fn containers_that_are_added_to_a_running_pod() {
    let e = |fields: &str| format!("{{spec: {{ephemeralContainers: [{{name: debugger, image: busybox, imagePullPolicy: IfNotPresent, terminationMessagePolicy: File{fields}}}]}}}}");
    let rows: Vec<(String, String, Vec<&str>)> = vec![
        ("{}".into(), e(""), vec![]),
        ("{}".into(), e(", targetContainerName: ctr"), vec![]),
        ("{}".into(), e(", targetContainerName: bogus"), vec!["spec.ephemeralContainers[0].targetContainerName|Not found: \"bogus\""]),
        (e(""), "{}".into(), vec!["spec.ephemeralContainers|existing ephemeral containers \"debugger\" may not be removed"]),
        (e(""), e(", tty: true"), vec!["spec.ephemeralContainers|existing ephemeral containers \"debugger\" may not be changed"]),
        ("{}".into(), e(", ports: [{containerPort: 80, protocol: TCP}]"), vec!["spec.ephemeralContainers[0].ports|cannot be set for an Ephemeral Container"]),
        ("{}".into(), e(", livenessProbe: {tcpSocket: {port: 1}}, lifecycle: {preStop: {exec: {command: [ls]}}}"), vec!["spec.ephemeralContainers[0].livenessProbe|cannot be set for an Ephemeral Container", "spec.ephemeralContainers[0].lifecycle|cannot be set"]),
        ("{}".into(), e(", resources: {limits: {cpu: '1'}}"), vec!["spec.ephemeralContainers[0].resources|cannot be set for an Ephemeral Container"]),
        ("{spec: {volumes: [{name: v, emptyDir: {}}]}}".into(), e(", volumeMounts: [{name: v, mountPath: /a, subPath: b}]").replace("{spec: {", "{spec: {volumes: [{name: v, emptyDir: {}}], "), vec!["spec.ephemeralContainers[0].volumeMounts[0].subPath|cannot be set for an Ephemeral Container"]),
        ("{}".into(), e("").replace("name: debugger", "name: ctr"), vec!["spec.ephemeralContainers[0].name|Duplicate value: \"ctr\""]),
        ("{}".into(), e("").replace("image: busybox", "image: ''"), vec!["spec.ephemeralContainers[0].image|Required"]),
        ("{}".into(), e("").replace("image: busybox", "image: ' a'"), vec!["spec.ephemeralContainers[0].image|must not have leading or trailing whitespace"]),
        ("{metadata: {annotations: {kubernetes.io/config.mirror: x}}, spec: {nodeName: nx}}".into(), e(""), vec!["|static pods do not support ephemeral containers"]),
    ];
    for (old, new, expected) in &rows {
        let (old_pod, new_pod): (Pod, Pod) = (read(&laid(&base(), old)), read(&laid(&base(), new)));
        compare(&format!("{old} -> {new}"), &pod_ephemeral_containers(&new_pod, &old_pod), expected);
    }
}

#[test]
fn a_resize_changes_processor_and_memory_alone() {
    let r = |resources: &str| with("image", &format!(", resources: {resources}"));
    let rows: Vec<(String, String, Vec<&str>)> = vec![
        (r("{requests: {cpu: 100m}}"), r("{requests: {cpu: 200m}}"), vec![]),
        (r("{limits: {memory: 100Mi}, requests: {memory: 100Mi}}"), r("{limits: {memory: 200Mi}, requests: {memory: 200Mi}}"), vec![]),
        (r("{requests: {cpu: 100m}}"), r("{}"), vec!["spec.containers[0].resources.requests|resource requests cannot be removed"]),
        (r("{limits: {cpu: 100m, memory: 1Mi}}"), r("{limits: {cpu: 100m}}"), vec!["spec.containers[0].resources.limits|resource limits cannot be removed"]),
        (r("{limits: {ephemeral-storage: 1Gi}}"), r("{limits: {ephemeral-storage: 2Gi}}"), vec!["spec|only cpu and memory resources are mutable"]),
        (r("{requests: {cpu: 100m}}"), r("{requests: {cpu: '-1'}}"), vec!["spec.containers[0].resources.requests[cpu]|must be greater than or equal to 0"]),
        ("{}".into(), "{spec: {containers: []}}".into(), vec!["spec.containers|Required", "spec.containers|containers may not be added or removed on resize"]),
        ("{}".into(), with("other", ""), vec!["spec|only cpu and memory resources are mutable"]),
        ("{metadata: {annotations: {kubernetes.io/config.mirror: x}}, spec: {nodeName: nx}}".into(), "{}".into(), vec!["|static pods cannot be resized"]),
        ("{spec: {os: {name: windows}}}".into(), "{spec: {os: {name: windows}}}".into(), vec!["|windows pods cannot be resized"]),
        ("{spec: {resources: {requests: {cpu: 100m}}}}".into(), "{spec: {resources: {requests: {cpu: 200m}}}}".into(), vec![]),
        ("{spec: {resources: {requests: {cpu: 100m}}}}".into(), "{}".into(), vec!["spec.resources|pod-level resources cannot be removed", "spec|only cpu and memory resources are mutable at pod-level"]),
    ];
    for (old, new, expected) in &rows {
        let (old_pod, new_pod): (Pod, Pod) = (read(&laid(&base(), old)), read(&laid(&base(), new)));
        compare(&format!("{old} -> {new}"), &pod_resize(&new_pod, &old_pod), expected);
    }
}
