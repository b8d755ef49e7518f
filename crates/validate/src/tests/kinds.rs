//! The other kinds, new and updated.
//!
//! In:    objects, and their updates
//! Out:   –
//! Calls: cargo test
//! Upstream: pkg/apis/core/validation/{validation,events}_test.go, pkg/apis/{coordination,node,scheduling,storage,certificates}/validation

use super::*;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Binding, ConfigMap, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Secret,
};
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, StorageClass, VolumeAttachment};

fn named() -> Value {
    json!({"metadata": {"name": "a", "namespace": "b"}})
}

#[test]
fn config_maps_and_secrets() {
    check_new::<ConfigMap>(&named(), &[
        ("{data: {key: value, key.name: v, KEY_NAME: v}, binaryData: {bin: dmFs}}", &[]),
        ("{data: {'a..b': v, '..': v}}", &["data[..]|must not be '..'"]),
        ("{data: {'..foo': v}}", &["data[..foo]|must not start with '..'"]),
        ("{data: {'a*b': v}}", &["data[a*b]|a valid config key must consist of alphanumeric characters, '-', '_' or '.'"]),
        ("{data: {key: v}, binaryData: {key: dmFs}}", &["data[key]|duplicate of key present in binaryData"]),
        ("{binaryData: {'a/b': dmFs}}", &["binaryData[a/b]|a valid config key"]),
    ]);
    let large: ConfigMap = read(&json!({"metadata": {}, "data": {"a": "x".repeat(1 << 20), "b": "y"}}));
    compare("large", &created(&large), &["[]|Too long: may not be more than 1048576 bytes"]);
    let forbidden = "field is immutable when `immutable` is set";
    check_changes::<ConfigMap>(&named(), &[
        ("{data: {a: b}}", "{data: {a: c}}", &[]),
        ("{immutable: true, data: {a: b}}", "{immutable: true, data: {a: b}}", &[]),
        ("{immutable: true, data: {a: b}}", "{data: {a: b}}", &[&format!("immutable|{forbidden}")]),
        ("{immutable: true, data: {a: b}}", "{immutable: true, data: {a: c}}", &[&format!("data|{forbidden}")]),
        ("{immutable: true}", "{immutable: true, binaryData: {a: dmFs}}", &[&format!("binaryData|{forbidden}")]),
    ]);
    check_new::<Secret>(&named(), &[
        ("{type: Opaque, data: {key: dmFs}}", &[]),
        ("{type: Opaque, data: {'a*b': dmFs}}", &["data[a*b]|a valid config key"]),
        ("{type: kubernetes.io/service-account-token}", &["metadata.annotations[kubernetes.io/service-account.name]|Required"]),
        ("{type: kubernetes.io/service-account-token, metadata: {annotations: {kubernetes.io/service-account.name: foo}}}", &[]),
        ("{type: kubernetes.io/dockercfg}", &["data[.dockercfg]|Required"]),
        ("{type: kubernetes.io/dockercfg, data: {.dockercfg: e30=}}", &[]),
        ("{type: kubernetes.io/dockerconfigjson, data: {.dockerconfigjson: Zm9v}}", &["data[.dockerconfigjson]|\"<secret contents redacted>\""]),
        ("{type: kubernetes.io/basic-auth, data: {username: dXNlcg==}}", &[]),
        ("{type: kubernetes.io/basic-auth}", &["data[username]|Required", "data[password]|Required"]),
        ("{type: kubernetes.io/ssh-auth}", &["data[ssh-privatekey]|Required"]),
        ("{type: kubernetes.io/tls, data: {tls.crt: e30=}}", &["data[tls.key]|Required"]),
    ]);
    check_changes::<Secret>(&named(), &[
        ("{type: Opaque, data: {a: dmFs}}", "{type: Opaque, data: {a: e30=}}", &[]),
        ("{type: Opaque}", "{type: other}", &["type|field is immutable"]),
        ("{type: Opaque, immutable: true, data: {a: dmFs}}", "{type: Opaque, immutable: true, data: {a: e30=}}", &[&format!("data|{forbidden}")]),
        ("{type: Opaque, immutable: true}", "{type: Opaque}", &[&format!("immutable|{forbidden}")]),
    ]);
}

#[test]
fn nodes_and_namespaces() {
    let base = json!({"metadata": {"name": "abc"}});
    check_new::<Node>(&base, &[
        ("{status: {addresses: [{type: ExternalIP, address: something}], capacity: {cpu: '10', memory: 0}}, spec: {podCIDRs: [192.168.0.0/16]}}", &[]),
        ("{status: {capacity: {cpu: '-1'}}}", &["status.capacity.cpu|must be greater than or equal to 0"]),
        ("{status: {allocatable: {pods: 1500m}}}", &["status.allocatable.pods|must be an integer"]),
        ("{spec: {taints: [{key: GPU, value: 'true', effect: NoSchedule}, {key: GPU, value: 'true', effect: NoExecute}]}}", &[]),
        ("{spec: {taints: [{key: '', value: a, effect: NoSchedule}]}}", &["metadata.taints[0].key|name part must be non-empty", "metadata.taints[0].key|name part must consist of"]),
        ("{spec: {taints: [{key: dedicated, value: 'some\\bad\\value', effect: NoSchedule}]}}", &["metadata.taints[0].value|a valid label must be"]),
        ("{spec: {taints: [{key: dedicated, value: v, effect: ''}]}}", &["metadata.taints[0].effect|Required"]),
        ("{spec: {taints: [{key: dedicated, value: v, effect: NoExecu}]}}", &["metadata.taints[0].effect|Unsupported value: \"NoExecu\""]),
        ("{spec: {taints: [{key: dedicated, value: a, effect: NoSchedule}, {key: dedicated, value: b, effect: NoSchedule}]}}", &["metadata.taints[1]|taints must be unique by key and effect pair"]),
        ("{spec: {podCIDRs: [192.168.0.0]}}", &["spec.podCIDRs[0]|must be a valid CIDR value"]),
        ("{spec: {podCIDRs: ['2000::/10', '3000::/10']}}", &["spec.podCIDRs|may specify no more than one CIDR for each IP family"]),
        ("{spec: {podCIDRs: [192.168.0.0/16, '2000::/10']}}", &[]),
        ("{status: {declaredFeatures: [FeatureB, FeatureA]}}", &["status.declaredFeatures[1]|list must be sorted alphabetically"]),
        ("{status: {declaredFeatures: [feature]}}", &["status.declaredFeatures[0]|must start with an UpperCamelCase segment"]),
    ]);
    check_changes::<Node>(&base, &[
        ("{}", "{spec: {podCIDRs: [192.168.0.0/16], providerID: a}}", &[]),
        ("{spec: {podCIDRs: [192.168.0.0/16]}}", "{spec: {podCIDRs: [192.123.0.0/16]}}", &["spec.podCIDRs|node updates may not change podCIDR except from \"\" to valid"]),
        ("{spec: {providerID: a}}", "{spec: {providerID: b}}", &["spec.providerID|node updates may not change providerID except from \"\" to valid"]),
        ("{}", "{spec: {taints: [{key: a, value: b, effect: x}]}}", &["metadata.taints[0].effect|Unsupported value: \"x\""]),
    ]);
    let node: Node = read(&laid(&base, "{status: {addresses: [{type: Hostname, address: a}, {type: Hostname, address: a}]}}"));
    compare("addresses", &status_changed(&node, &read(&base)), &["status.addresses[1]|Duplicate value"]);
    check_new::<Namespace>(&base, &[
        ("{spec: {finalizers: [kubernetes, example.com/a]}}", &[]),
        ("{spec: {finalizers: [bar]}}", &["spec.finalizers|name is neither a standard finalizer name nor is it fully qualified"]),
    ]);
    for (text, expected) in [
        ("{status: {phase: Active}}", vec![]),
        ("{status: {phase: Terminating}}", vec!["status.Phase|may only be 'Active' if `deletionTimestamp` is empty"]),
        ("{metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Active}}", vec!["status.Phase|may only be 'Terminating' if `deletionTimestamp` is not empty"]),
    ] {
        let namespace: Namespace = read(&laid(&base, text));
        compare(text, &status_changed(&namespace, &namespace), &expected);
    }
}

#[test]
fn events() {
    let base = json!({"metadata": {"name": "test", "namespace": "foo"}, "involvedObject": {"namespace": "foo", "kind": "Pod"}});
    let new = "eventTime: '2026-01-01T00:00:00.000000Z'";
    check_new::<Event>(&base, &[
        ("{}", &[]),
        ("{involvedObject: {namespace: bar}}", &["involvedObject.namespace|does not match event.namespace"]),
        ("{involvedObject: {namespace: ''}}", &["involvedObject.namespace|does not match event.namespace"]),
        ("{metadata: {namespace: default}, involvedObject: {namespace: '', kind: Node}}", &[]),
        (&format!("{{{new}, reportingComponent: k8s.io/kubelet, reportingInstance: node-xyz, action: Do, reason: Yeees}}"), &[]),
        (&format!("{{{new}}}"), &["reportingComponent|Required", "reportingComponent|name part must be non-empty", "reportingComponent|name part must consist of", "reportingInstance|Required", "action|Required", "reason|Required"]),
        (&format!("{{{new}, reportingComponent: 'my-contr@ller', reportingInstance: a, action: b, reason: c}}"), &["reportingComponent|name part must consist of"]),
        (&format!("{{{new}, reportingComponent: a, reportingInstance: {}, action: b, reason: c}}", "x".repeat(129)), &["reportingInstance|can have at most 128 characters"]),
        (&format!("{{{new}, reportingComponent: a, reportingInstance: a, action: b, reason: c, message: {}}}", "x".repeat(1025)), &["message|can have at most 1024 characters"]),
    ]);
    let base = json!({
        "metadata": {"name": "test", "namespace": "foo"}, "regarding": {"namespace": "foo", "kind": "Pod"}, "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a", "reportingInstance": "b", "action": "c", "reason": "d",
    });
    check_new::<NewEvent>(&base, &[
        ("{}", &[]),
        ("{eventTime: null}", &["eventTime|Required"]),
        ("{type: Odd}", &["type|has invalid value: Odd"]),
        ("{deprecatedCount: 1, deprecatedSource: {component: a}}", &["count|needs to be unset", "source|needs to be unset"]),
        ("{series: {count: 1, lastObservedTime: '2026-01-01T00:00:00.000000Z'}}", &["series.count|should be at least 2"]),
    ]);
    check_changes::<NewEvent>(&base, &[
        ("{}", "{series: {count: 2, lastObservedTime: '2026-01-01T00:00:00.000000Z'}}", &[]),
        ("{note: a}", "{note: b, reason: e}", &["reason|field is immutable", "message|field is immutable"]),
    ]);
}

#[test]
fn volumes_and_claims() {
    let claim = json!({"metadata": {"name": "foo", "namespace": "ns"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10G"}}, "storageClassName": "valid"}});
    check_new::<PersistentVolumeClaim>(&claim, &[
        ("{}", &[]),
        ("{spec: {selector: {matchExpressions: [{key: key2, operator: InvalidOp, values: [v]}]}}}", &["spec.selector.matchExpressions[0].operator|not a valid selector operator"]),
        ("{spec: {accessModes: []}}", &["spec.accessModes|at least 1 access mode is required"]),
        ("{spec: {accessModes: [fakemode]}}", &["spec.accessModes|Unsupported value: \"fakemode\""]),
        ("{spec: {accessModes: [ReadWriteOncePod, ReadWriteMany]}}", &["spec.accessModes|may not use ReadWriteOncePod with other access modes"]),
        ("{spec: {resources: {requests: {storage: '-10G'}}}}", &["spec.resources[storage]|must be greater than zero"]),
        ("{spec: {resources: {requests: null}}}", &["spec.resources[storage]|Required"]),
        ("{spec: {storageClassName: invalid$name}}", &["spec.storageClassName|subdomain"]),
        ("{spec: {volumeMode: invalid}}", &["spec.volumeMode|Unsupported value: \"invalid\": supported values: \"Block\", \"Filesystem\""]),
        ("{spec: {dataSource: {kind: VolumeSnapshot, name: a}}}", &["spec.dataSource|must be 'PersistentVolumeClaim' when referencing the default apiGroup"]),
        ("{spec: {dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: ''}}}", &["spec.dataSource.name|Required"]),
        ("{spec: {dataSource: {apiGroup: a.b, kind: K, name: nx}, dataSourceRef: {apiGroup: a.b, kind: K, name: m}}}", &["spec|must match dataSourceRef"]),
    ]);
    check_changes::<PersistentVolumeClaim>(&claim, &[
        ("{}", "{spec: {volumeName: v}}", &[]),
        ("{spec: {volumeName: v}}", "{spec: {volumeName: w}}", &["spec|spec is immutable after creation except resources.requests"]),
        ("{}", "{spec: {storageClassName: other}}", &["spec|spec is immutable"]),
        ("{status: {phase: Bound, capacity: {storage: 10G}}}", "{spec: {resources: {requests: {storage: 20G}}}}", &[]),
        ("{}", "{spec: {resources: {requests: {storage: 20G}}}}", &["spec|spec is immutable"]),
        ("{status: {phase: Bound, capacity: {storage: 10G}}}", "{spec: {resources: {requests: {storage: 5G}}}}", &["spec.resources.requests.storage|field can not be less than status.capacity"]),
    ]);
    let volume = json!({"metadata": {"name": "foo"}, "spec": {"capacity": {"storage": "10G"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/foo", "type": "Directory"}}});
    check_new::<PersistentVolume>(&volume, &[
        ("{}", &[]),
        ("{spec: {capacity: null}}", &["spec.capacity|Required", "spec.capacity|Unsupported value"]),
        ("{spec: {capacity: {storage: '0'}}}", &["spec.capacity[storage]|must be greater than zero"]),
        ("{spec: {capacity: {storage: 10G, other: '1'}}}", &["spec.capacity|supported values: \"storage\""]),
        ("{spec: {accessModes: []}}", &["spec.accessModes|Required"]),
        ("{spec: {accessModes: [fakemode]}}", &["spec.accessModes|Unsupported value: \"fakemode\""]),
        ("{spec: {persistentVolumeReclaimPolicy: fakeReclaimPolicy}}", &["spec.persistentVolumeReclaimPolicy|Unsupported value: \"fakeReclaimPolicy\""]),
        ("{spec: {hostPath: null}}", &["spec|must specify a volume type"]),
        ("{spec: {nfs: {server: a, path: /b}}}", &["spec.nfs|may not specify more than 1 volume type"]),
        ("{spec: {hostPath: {path: /}, persistentVolumeReclaimPolicy: Recycle}}", &["spec.persistentVolumeReclaimPolicy|may not be 'recycle' for a hostPath mount of '/'"]),
        ("{spec: {hostPath: {path: /a/..}}}", &["spec.hostPath.path|must not contain '..'"]),
        ("{spec: {storageClassName: -invalid-}}", &["spec.storageClassName|subdomain"]),
        ("{spec: {volumeMode: fakeVolumeMode}}", &["spec.volumeMode|Unsupported value: \"fakeVolumeMode\""]),
        ("{spec: {hostPath: null, local: {path: /a}}}", &["spec.nodeAffinity|Local volume requires node affinity"]),
        ("{spec: {hostPath: null, csi: {driver: test-driver, volumeHandle: ''}}}", &["spec.csi.volumeHandle|Required"]),
        ("{spec: {hostPath: null, csi: {driver: test-driver, volumeHandle: a, nodePublishSecretRef: {name: '', namespace: a}}}}", &["spec.csi.nodePublishSecretRef.name|Required"]),
        ("{spec: {nodeAffinity: {}}}", &["spec.nodeAffinity.required|must specify required node constraints"]),
    ]);
    check_changes::<PersistentVolume>(&volume, &[
        ("{}", "{spec: {persistentVolumeReclaimPolicy: Retain}}", &[]),
        ("{}", "{spec: {hostPath: {path: /bar}}}", &["spec.persistentvolumesource|spec.persistentvolumesource is immutable after creation"]),
        ("{spec: {volumeMode: Filesystem}}", "{spec: {volumeMode: Block}}", &["volumeMode|field is immutable"]),
    ]);
}

#[test]
fn storage() {
    let class = json!({"metadata": {"name": "foo"}, "provisioner": "kubernetes.io/foo", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"});
    check_new::<StorageClass>(&class, &[
        ("{parameters: {foo/parameter: free-form-string}}", &[]),
        ("{provisioner: ''}", &["provisioner|Required"]),
        ("{provisioner: 'kubernetes.io/*'}", &["provisioner|name part"]),
        ("{parameters: {'': value}}", &["parameters|field can not be empty."]),
        ("{reclaimPolicy: Recycle}", &["reclaimPolicy|Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""]),
        ("{volumeBindingMode: null}", &["volumeBindingMode|Required"]),
        ("{volumeBindingMode: foo}", &["volumeBindingMode|Unsupported value: \"foo\""]),
        ("{allowedTopologies: [{matchLabelExpressions: [{key: a, values: []}]}]}", &["allowedTopologies[0].matchLabelExpressions[0].values|Required"]),
        ("{allowedTopologies: [{matchLabelExpressions: [{key: a, values: [b, b]}]}]}", &["allowedTopologies[0].matchLabelExpressions[0].values[1]|Duplicate value: \"b\""]),
        ("{allowedTopologies: [{matchLabelExpressions: [{key: a, values: [b]}, {key: a, values: [c]}]}]}", &["allowedTopologies[0].matchLabelExpressions[1].key|Duplicate value: \"a\""]),
    ]);
    check_changes::<StorageClass>(&class, &[
        ("{}", "{allowVolumeExpansion: true}", &[]),
        ("{}", "{provisioner: other.io/foo, reclaimPolicy: Retain}", &["provisioner|field is immutable", "reclaimPolicy|field is immutable"]),
    ]);
    let driver = json!({"metadata": {"name": "foo"}, "spec": {"attachRequired": true, "podInfoOnMount": true, "storageCapacity": true, "seLinuxMount": false}});
    check_new::<CSIDriver>(&driver, &[
        ("{}", &[]),
        ("{spec: {attachRequired: null, podInfoOnMount: null, storageCapacity: null, seLinuxMount: null}}", &["spec.attachedRequired|Required", "spec.podInfoOnMount|Required", "spec.storageCapacity|Required", "spec.seLinuxMount|Required"]),
        ("{spec: {volumeLifecycleModes: [no-such-mode]}}", &["spec.volumeLifecycleModes|Unsupported value: \"no-such-mode\""]),
        ("{spec: {fsGroupPolicy: x}}", &["spec.fsGroupPolicy|Unsupported value"]),
        ("{spec: {tokenRequests: [{audience: a, expirationSeconds: 10}, {audience: a}]}}", &["spec.tokenRequests[0].expirationSeconds|may not specify a duration less than 10 minutes", "spec.tokenRequests[1].audience|Duplicate value: \"a\""]),
        ("{spec: {serviceAccountTokenInSecrets: true}}", &["spec.serviceAccountTokenInSecrets|no tokenRequests are specified"]),
        ("{spec: {nodeAllocatableUpdatePeriodSeconds: 9}}", &["spec.nodeAllocatableUpdatePeriodSeconds|must be greater than or equal to 10 seconds"]),
    ]);
    check_changes::<CSIDriver>(&driver, &[("{}", "{spec: {attachRequired: false}}", &["spec.attachedRequired|field is immutable"])]);
    let node = json!({"metadata": {"name": "foo"}, "spec": {"drivers": []}});
    check_new::<CSINode>(&node, &[
        ("{spec: {drivers: [{name: io.kubernetes.storage.csi.driver-1, nodeID: nodeB, topologyKeys: [company.com/zone1]}]}}", &[]),
        ("{spec: {drivers: [{name: '', nodeID: ''}]}}", &["spec.drivers[0].name|Required", "spec.drivers[0].nodeID|Required"]),
        ("{spec: {drivers: [{name: a, nodeID: b}, {name: a, nodeID: b}]}}", &["spec.drivers[1].name|Duplicate value: \"a\""]),
        ("{spec: {drivers: [{name: a, nodeID: b, allocatable: {count: -1}}]}}", &["spec.drivers[0].allocatable.count|must be greater than or equal to 0"]),
        ("{spec: {drivers: [{name: a, nodeID: b, topologyKeys: [k, k]}]}}", &["spec.drivers[0]|Duplicate value: \"k\""]),
    ]);
    check_changes::<CSINode>(&node, &[
        ("{spec: {drivers: [{name: a, nodeID: b}]}}", "{spec: {drivers: [{name: a, nodeID: b, allocatable: {count: 1}}]}}", &[]),
        ("{spec: {drivers: [{name: a, nodeID: b}]}}", "{spec: {drivers: [{name: a, nodeID: c}]}}", &["spec.drivers|field is immutable"]),
    ]);
    let attachment = json!({"metadata": {"name": "foo"}, "spec": {"attacher": "myattacher", "nodeName": "mynode", "source": {"persistentVolumeName": "pv-name"}}});
    check_new::<VolumeAttachment>(&attachment, &[
        ("{}", &[]),
        ("{spec: {attacher: 'invalid!@#$%^&*()', nodeName: 'invalid!'}}", &["spec.attacher|subdomain", "spec.nodeName|subdomain"]),
        ("{spec: {source: {persistentVolumeName: null}}}", &["spec.source|must specify exactly one of inlineVolumeSpec and persistentVolumeName"]),
        ("{spec: {source: {persistentVolumeName: ''}}}", &["spec.source.persistentVolumeName|must specify non empty persistentVolumeName", "spec.source.persistentVolumeName|subdomain"]),
    ]);
    check_changes::<VolumeAttachment>(&attachment, &[
        ("{}", "{metadata: {annotations: {a: b}}}", &[]),
        ("{}", "{spec: {nodeName: other}}", &["spec|field is immutable"]),
    ]);
}

#[test]
fn small_kinds() {
    check_new::<Lease>(&named(), &[
        ("{spec: {holderIdentity: a, leaseDurationSeconds: 40, leaseTransitions: 1}}", &[]),
        ("{spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}", &["spec.leaseDurationSeconds|must be greater than 0", "spec.leaseTransitions|must be greater than or equal to 0"]),
        ("{spec: {strategy: x}}", &["spec.strategy|Unsupported value: \"x\""]),
        ("{spec: {preferredHolder: x}}", &["spec.preferredHolder|may only be specified if `strategy` is defined"]),
    ]);
    let class = json!({"metadata": {"name": "foo"}, "handler": "bar"});
    check_new::<RuntimeClass>(&class, &[
        ("{overhead: {podFixed: {cpu: 10m}}, scheduling: {nodeSelector: {valid: 'yes'}, tolerations: [{key: valid, operator: Exists, effect: NoSchedule}]}}", &[]),
        ("{handler: ''}", &["handler|Required"]),
        ("{handler: '&!@#'}", &["handler|label"]),
        ("{overhead: {podFixed: {my.org: 10m}}}", &["overhead.limits[my.org]|standard resource type", "overhead.limits[my.org]|must be a standard resource for containers"]),
        ("{scheduling: {nodeSelector: {'not a valid key!!!': nope}}}", &["scheduling.nodeSelector|name part"]),
        ("{scheduling: {tolerations: [{key: a, operator: Exists}, {key: a, operator: Exists}]}}", &["scheduling.tolerations[1]|Duplicate value"]),
    ]);
    check_changes::<RuntimeClass>(&class, &[
        ("{}", "{metadata: {labels: {foo: bar}}}", &[]),
        ("{}", "{handler: somethingelse}", &["handler|field is immutable"]),
    ]);
    let class = json!({"metadata": {"name": "tier1"}, "value": 100, "preemptionPolicy": "PreemptLowerPriority"});
    check_new::<PriorityClass>(&class, &[
        ("{}", &[]),
        ("{value: 1000000001}", &["value|maximum allowed value of a user defined priority is 1000000000"]),
        ("{metadata: {name: system-node-critical}, value: 2000001000}", &[]),
        ("{metadata: {name: system-node-critical}, value: 1}", &["metadata.name|value of system-node-critical PriorityClass must be 2000001000"]),
        ("{metadata: {name: system-cluster-critical}, value: 2000000000, globalDefault: true}", &["metadata.name|globalDefault of system-cluster-critical PriorityClass must be false"]),
        ("{metadata: {name: system-foo}}", &["metadata.name|system-foo is not a known system priority class"]),
        ("{preemptionPolicy: x}", &["preemptionPolicy|Unsupported value: \"x\""]),
    ]);
    check_changes::<PriorityClass>(&class, &[
        ("{}", "{globalDefault: true}", &[]),
        ("{}", "{value: 101}", &["value|may not be changed in an update."]),
        ("{}", "{preemptionPolicy: Never}", &["preemptionPolicy|field is immutable"]),
    ]);
    let request = json!({"metadata": {"name": "a"}, "spec": {"request": "YQ==", "usages": ["any"], "signerName": "example.com/something"}});
    check_new::<CertificateSigningRequest>(&request, &[
        ("{}", &[]),
        ("{spec: {request: ''}}", &["spec.request|Required"]),
        ("{spec: {usages: []}}", &["spec.usages|Required"]),
        ("{spec: {usages: [foo, any, any]}}", &["spec.usages[0]|Unsupported value: \"foo\"", "spec.usages[2]|Duplicate value: \"any\""]),
        ("{spec: {signerName: ''}}", &["spec.signerName|Required"]),
        ("{spec: {signerName: kubernetes.io/legacy-unknown}}", &["spec.signerName|the legacy signerName is not allowed via this API version"]),
        ("{spec: {signerName: example.com/a/b}}", &["spec.signerName|must be a fully qualified domain and path of the form"]),
        ("{spec: {signerName: example/a}}", &["spec.signerName|should be a domain with at least two segments separated by dots"]),
        ("{spec: {expirationSeconds: 599}}", &["spec.expirationSeconds|may not specify a duration less than 600 seconds (10 minutes)"]),
        ("{status: {conditions: [{type: '', status: 'True'}]}}", &["status.conditions[0].type|Required"]),
        ("{status: {conditions: [{type: Approved, status: 'False'}]}}", &["status.conditions[0].status|Unsupported value: \"False\": supported values: \"True\""]),
        ("{status: {conditions: [{type: Approved, status: 'True'}, {type: Denied, status: 'True'}]}}", &["status.conditions|Approved and Denied conditions are mutually exclusive"]),
    ]);
    let answered = "{status: {certificate: YQ==, conditions: [{type: Approved, status: 'True'}]}}";
    for (old, new, expected) in [
        ("{}", "{status: {certificate: YQ==}}", vec![]),
        (answered, "{status: {certificate: Yg==, conditions: [{type: Approved, status: 'True'}]}}", vec!["status.certificate|updates may not modify existing certificate content"]),
        (answered, "{status: {certificate: YQ==}}", vec!["status.conditions|updates may not remove a condition of type \"Approved\""]),
        ("{}", "{status: {conditions: [{type: Approved, status: 'True'}]}}", vec!["status.conditions|updates may not add a condition of type \"Approved\""]),
        ("{}", "{status: {conditions: [{type: Failed, status: 'True'}]}}", vec![]),
    ] {
        let (old_request, new_request): (CertificateSigningRequest, CertificateSigningRequest) =
            (read(&laid(&request, old)), read(&laid(&request, new)));
        compare(new, &status_changed(&new_request, &old_request), &expected);
    }
    for (text, expected) in [
        ("{target: {kind: Node, name: a}}", vec![]),
        ("{target: {name: ''}}", vec!["target.name|Required"]),
        ("{target: {kind: Pod, name: a}}", vec!["target.kind|Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\""]),
    ] {
        let held: Binding = read(&laid(&named(), text));
        compare(text, &binding(&held), &expected);
    }
}
