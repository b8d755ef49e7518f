//! The Node object against what the Go kubelet wrote (`parity/node.json`, `lease.json`, `csinode.json`), and its rules.
//!
//! In:    recorded objects
//! Out:   objects, events, patches
//! Calls: cargo test
//! Holds: recorded objects are compared whole, but for what the server adds
//! Upstream: pkg/kubelet/kubelet_node_status_test.go, pkg/kubelet/nodestatus/setters_test.go (which cases)

use serde_json::{Value, json};

use super::*;
use kubelet_model::config::NodeTaint;

const NODE: &str = include_str!("../../../../../parity/node.json");
const LEASE: &str = include_str!("../../../../../parity/lease.json");
const CSI_NODE: &str = include_str!("../../../../../parity/csinode.json");

struct Machine {
    addresses: AddressView,
    system: SystemView,
    resources: ResourceView,
    images: Vec<ImageView>,
    runtime: RuntimeFeatureView,
    not_ready: Vec<String>,
    pressure: PressureView,
    warning: Option<&'static str>,
    now: &'static str,
}

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

/// The machine of the recording.
fn machine() -> Machine {
    let image = |name: &str, size| ImageView {
        names: vec![format!("registry.k8s.io/e2e-test-images/agnhost:{name}")],
        size,
    };
    let capacity = [
        ("cpu", "2"),
        ("ephemeral-storage", "264212084Ki"),
        ("hugepages-1Gi", "0"),
        ("hugepages-2Mi", "0"),
        ("memory", "24684092Ki"),
        ("pods", "600"),
    ];
    // Hard eviction: 100Mi of memory, a tenth of the disk.
    let reserved = [("memory", "100Mi"), ("ephemeral-storage", "27055317804")];
    let amounts = |all: &[(&str, &str)]| {
        let all = all
            .iter()
            .map(|(name, text)| ((*name).to_owned(), quantity(text)));
        all.collect::<BTreeMap<_, _>>()
    };
    Machine {
        addresses: AddressView {
            authority: AddressAuthority::Kubelet,
            given: Vec::new(),
            found: vec!["192.0.2.2".to_owned()],
            problem: None,
            hostname: "bench".to_owned(),
        },
        system: SystemView {
            machine_id: "\u{2026}".to_owned(),
            system_uuid: "\u{2026}".to_owned(),
            boot_id: "\u{2026}".to_owned(),
            kernel_version: "6.18.44-fc-v657".to_owned(),
            os_image: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            architecture: "amd64".to_owned(),
            swap_bytes: None,
            kubelet_version: "v1.36.2".to_owned(),
            runtime_version: Some("containerd://1.6.20".to_owned()),
        },
        resources: ResourceView {
            capacity: amounts(&capacity),
            reserved: amounts(&reserved),
            ..ResourceView::default()
        },
        images: vec![
            image("2.6", 65_352_510),
            image("2.63.0", 65_352_513),
            image("2.55", 65_352_511),
        ],
        runtime: RuntimeFeatureView {
            declared: [
                "ExtendWebSocketsToKubelet",
                "InPlacePodLevelResourcesVerticalScaling",
                "InPlacePodVerticalScalingInitContainers",
                "RestartAllContainersOnContainerExits",
            ]
            .map(str::to_owned)
            .to_vec(),
            ..RuntimeFeatureView::default()
        },
        not_ready: Vec::new(),
        pressure: PressureView::default(),
        warning: None,
        now: "2026-11-23T08:40:43.4Z",
    }
}

impl Machine {
    fn status(&self, existing: &Node) -> NodeStatusPlan {
        let view = NodeStatusView {
            addresses: &self.addresses,
            system: &self.system,
            resources: &self.resources,
            images: Some(&self.images),
            max_images: Some(50),
            runtime: &self.runtime,
            port: 10250,
            pressure: self.pressure,
            not_ready: &self.not_ready,
            warning: self.warning,
            volumes_in_use: None,
            was_unschedulable: false,
            now: self.now.parse().unwrap(),
        };
        node_status(existing, &view)
    }
}

fn first(authority: AddressAuthority) -> Node {
    initial_node(&Registration {
        name: "bench",
        hostname: "bench",
        architecture: "amd64",
        labels: &BTreeMap::new(),
        taints: &[],
        provider_id: None,
        authority,
        attach_detach_by_cluster: true,
    })
}

/// Without what the server and its controllers add.
fn stripped(text: &str) -> Value {
    let mut value: Value = serde_json::from_str(text).unwrap();
    for field in ["creationTimestamp", "resourceVersion", "uid"] {
        value["metadata"].as_object_mut().unwrap().remove(field);
    }
    if value["kind"] == "Node" {
        value["spec"] = json!({});
    }
    value
}

fn reasons(plan: &NodeStatusPlan) -> Vec<&'static str> {
    plan.events.iter().map(|event| event.reason).collect()
}

#[test]
fn the_node_equals_the_recorded_one() {
    let plan = machine().status(&first(AddressAuthority::Kubelet));
    assert_eq!(serde_json::to_value(&plan.node).unwrap(), stripped(NODE));
    assert!(plan.problems.is_empty());
    assert_eq!(
        reasons(&plan),
        [
            "NodeHasSufficientMemory",
            "NodeHasNoDiskPressure",
            "NodeHasSufficientPID"
        ]
    );
    assert_eq!(
        plan.events[0].message,
        "Node bench status is now: NodeHasSufficientMemory"
    );
}

#[test]
fn lease_and_csi_node_equal_the_recorded_ones() {
    let uid = "a3cee1a2-77cf-4ddc-bdec-a542ff3cc940";
    let mut lease = serde_json::to_value(initial_lease("bench", uid, 40)).unwrap();
    lease["spec"]["renewTime"] = json!("2026-11-23T08:43:27.005044Z");
    assert_eq!(lease, stripped(LEASE));
    let mut csi = stripped(CSI_NODE);
    // Go writes no list as null.
    csi["spec"]["drivers"] = json!([]);
    assert_eq!(serde_json::to_value(csi_node("bench", uid)).unwrap(), csi);
}

#[test]
fn what_is_empty_there_and_not_said_here_is_no_difference() {
    let plain = machine().status(&first(AddressAuthority::Kubelet)).node;
    let mut value = json!(plain);
    value["status"]["volumesInUse"] = json!([]);
    value["status"]["volumesAttached"] = json!([]);
    value["status"]["conditions"][0]["extra"] = Value::Null;
    value["metadata"]["finalizers"] = json!([]);
    let wordy: Node = serde_json::from_value(value).unwrap();
    assert_ne!(plain.status, wordy.status);
    for (one, other) in [(&plain, &wordy), (&wordy, &plain)] {
        assert!(!is_different(one, other));
        assert_eq!(node_patch(one, other), None);
    }
}

#[test]
fn heartbeats_alone_are_no_change_and_an_old_report_is_repeated() {
    let mut machine = machine();
    let before = machine.status(&first(AddressAuthority::Kubelet)).node;
    machine.now = "2026-11-23T08:40:53Z";
    let plan = machine.status(&before);
    assert_ne!(plan.node, before);
    assert!(!is_different(&before, &plan.node) && plan.events.is_empty());
    let times = |seconds: Option<u64>, fraction| ReportTimes {
        since_last: seconds.map(Duration::from_secs),
        frequency: Duration::from_secs(300),
        fraction,
    };
    for (since, fraction, expected) in [
        (None, 0.0, true),
        (Some(10), 0.0, false),
        (Some(299), 0.0, false),
        (Some(300), 0.0, true),
        (Some(150), -0.5, true),
        (Some(449), 0.5, false),
    ] {
        let must = must_report(&before, &plan.node, &times(since, fraction));
        assert_eq!(must, expected, "{since:?} {fraction}");
    }
    machine.pressure.disk = true;
    let plan = machine.status(&before);
    assert!(must_report(&before, &plan.node, &times(Some(10), 0.0)));
    assert_eq!(reasons(&plan), ["NodeHasDiskPressure"]);
}

#[test]
fn ready_says_why_not_stays_last_and_keeps_its_transition() {
    let mut machine = machine();
    machine.not_ready = vec!["PLEG is not healthy: a".to_owned()];
    let unready = machine.status(&first(AddressAuthority::Kubelet)).node;
    let ready = |node: &Node| {
        node.status
            .clone()
            .unwrap()
            .conditions
            .unwrap()
            .pop()
            .unwrap()
    };
    assert_eq!(ready(&unready).type_, "Ready");
    assert_eq!(ready(&unready).reason.as_deref(), Some("KubeletNotReady"));
    assert_eq!(
        ready(&unready).message.as_deref(),
        Some("PLEG is not healthy: a")
    );
    machine.not_ready.push("b".to_owned());
    machine.not_ready.push("b".to_owned());
    machine.warning = Some("soft");
    machine.now = "2026-11-23T08:41:00Z";
    let plan = machine.status(&unready);
    let message = "[PLEG is not healthy: a, b]. WARNING: soft";
    assert_eq!(ready(&plan.node).message.as_deref(), Some(message));
    assert_eq!(
        ready(&plan.node).last_transition_time,
        ready(&unready).last_transition_time
    );
    assert!(plan.events.is_empty());
    machine.not_ready.clear();
    machine.warning = None;
    let plan = machine.status(&unready);
    assert_eq!(reasons(&plan), ["NodeReady"]);
    assert_ne!(
        ready(&plan.node).last_transition_time,
        ready(&unready).last_transition_time
    );
}

#[test]
fn a_machine_that_cannot_be_read_is_not_ready() {
    let mut machine = machine();
    machine.resources = ResourceView::default();
    let plan = machine.status(&first(AddressAuthority::Kubelet));
    let status = plan.node.status.unwrap();
    let ready = status.conditions.unwrap().pop().unwrap();
    assert_eq!(
        ready.message.as_deref(),
        Some("missing node capacity for resources: pods, ephemeral-storage")
    );
}

#[test]
fn a_new_boot_is_told_once() {
    let mut machine = machine();
    let before = machine.status(&first(AddressAuthority::Kubelet)).node;
    machine.system.boot_id = "new".to_owned();
    let plan = machine.status(&before);
    assert_eq!(plan.events.len(), 1);
    assert_eq!(
        plan.events[0].message,
        "Node bench has been rebooted, boot id: new"
    );
    assert!(machine.status(&plan.node).events.is_empty());
}

#[test]
fn addresses_follow_who_knows_them() {
    let given = |all: &[&str]| all.iter().map(|ip| (*ip).to_owned()).collect::<Vec<_>>();
    let shown = |node: &Node| {
        let all = node.status.clone().unwrap().addresses.unwrap_or_default();
        all.iter()
            .map(|a| format!("{} {}", a.type_, a.address))
            .collect::<Vec<_>>()
    };
    let annotation = |node: &Node| {
        let all = node.metadata.annotations.clone().unwrap_or_default();
        all.get(PROVIDED_IP_ANNOTATION).cloned()
    };
    let mut machine = machine();
    machine.addresses.given = given(&["10.0.0.1", "fd00::1"]);
    let both = machine.status(&first(AddressAuthority::Kubelet)).node;
    assert_eq!(
        shown(&both),
        [
            "InternalIP 10.0.0.1",
            "InternalIP fd00::1",
            "Hostname bench"
        ]
    );
    assert_eq!(annotation(&both), None);

    machine.addresses.authority = AddressAuthority::Cloud;
    let cloud = machine.status(&first(AddressAuthority::Cloud)).node;
    assert_eq!(annotation(&cloud).as_deref(), Some("10.0.0.1,fd00::1"));
    assert_eq!(shown(&cloud).len(), 3);
    let taints = cloud.spec.clone().unwrap().taints.unwrap();
    assert_eq!(
        taints[0].key,
        "node.cloudprovider.kubernetes.io/uninitialized"
    );

    machine.addresses.given.clear();
    let waiting = machine.status(&first(AddressAuthority::Cloud)).node;
    assert_eq!(shown(&waiting), ["Hostname bench"]);
    let kept = machine.status(&cloud).node;
    assert_eq!(shown(&kept), shown(&cloud), "the provider's addresses stay");
    assert_eq!(annotation(&kept), None, "a stale annotation goes");

    machine.addresses.authority = AddressAuthority::Kubelet;
    machine.addresses.found.clear();
    machine.addresses.problem = Some("no default route".to_owned());
    let plan = machine.status(&first(AddressAuthority::Kubelet));
    assert_eq!(
        plan.problems,
        ["can't get ip address of node bench. error: no default route"]
    );
}

#[test]
fn what_others_wrote_stays_and_devices_that_went_away_are_zero() {
    let mut machine = machine();
    let mut before = machine.status(&first(AddressAuthority::Kubelet)).node;
    let status = before.status.as_mut().unwrap();
    let foreign = json!({ "type": "Foreign", "status": "True" });
    status
        .conditions
        .as_mut()
        .unwrap()
        .push(serde_json::from_value(foreign).unwrap());
    let dongle = (
        "example.com/dongle".to_owned(),
        WireQuantity("4".to_owned()),
    );
    status.capacity.as_mut().unwrap().extend([dongle]);
    machine.resources.devices =
        BTreeMap::from([("example.com/gpu".to_owned(), (quantity("4"), quantity("3")))]);
    machine.resources.removed_devices = vec!["example.com/fpga".to_owned()];
    let status = machine.status(&before).node.status.unwrap();
    let amounts = |all: Option<BTreeMap<String, WireQuantity>>| {
        let all = all
            .unwrap()
            .into_iter()
            .filter(|(name, _)| name.contains('/'));
        all.map(|(name, amount)| format!("{name}={}", amount.0))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        amounts(status.capacity),
        [
            "example.com/dongle=4",
            "example.com/fpga=0",
            "example.com/gpu=4"
        ]
    );
    assert_eq!(
        amounts(status.allocatable),
        [
            "example.com/dongle=4",
            "example.com/fpga=0",
            "example.com/gpu=3"
        ]
    );
    assert!(
        status
            .conditions
            .unwrap()
            .iter()
            .any(|condition| condition.type_ == "Foreign")
    );
}

#[test]
fn huge_pages_are_taken_from_memory() {
    let mut machine = machine();
    machine
        .resources
        .capacity
        .insert("hugepages-2Mi".to_owned(), quantity("1Gi"));
    let status = machine
        .status(&first(AddressAuthority::Kubelet))
        .node
        .status
        .unwrap();
    let memory = status.allocatable.unwrap().remove("memory").unwrap();
    assert_eq!(
        quantity(&memory.0),
        quantity("24581692Ki").minus(&quantity("1Gi"))
    );
}

#[test]
fn the_biggest_images_come_first_and_only_some_are_shown() {
    let all: Vec<ImageView> = (0..60)
        .map(|size| ImageView {
            names: (0..7).map(|name| format!("i{size}:{name}")).collect(),
            size,
        })
        .collect();
    let shown = images(Some(&all), Some(50)).unwrap();
    assert_eq!((shown.len(), shown[0].size_bytes), (50, Some(59)));
    assert_eq!(shown[0].names.as_ref().unwrap().len(), 5);
    assert_eq!(images(Some(&all), None).unwrap().len(), 60);
}

#[test]
fn a_patch_holds_what_differs_and_nothing_of_the_spec() {
    let mut machine = machine();
    let before = machine.status(&first(AddressAuthority::Kubelet)).node;
    assert_eq!(node_patch(&before, &before), None);
    machine.pressure.memory = true;
    machine.addresses.found = vec!["192.0.2.3".to_owned()];
    machine.now = "2026-11-23T08:40:53Z";
    let mut wanted = machine.status(&before).node;
    wanted.spec.as_mut().unwrap().unschedulable = Some(true);
    wanted
        .metadata
        .labels
        .as_mut()
        .unwrap()
        .remove("kubernetes.io/os");
    let beat = |type_: &str| json!({ "type": type_, "lastHeartbeatTime": "2026-11-23T08:40:53Z" });
    let types = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"];
    let expected = json!({
        "metadata": { "labels": { "kubernetes.io/os": null } },
        "status": {
            "$setElementOrder/conditions": types.map(|type_| json!({ "type": type_ })),
            "addresses": [
                { "type": "InternalIP", "address": "192.0.2.3" },
                { "type": "Hostname", "address": "bench" },
                { "$patch": "replace" },
            ],
            "conditions": [
                {
                    "type": "MemoryPressure",
                    "status": "True",
                    "reason": "KubeletHasInsufficientMemory",
                    "message": "kubelet has insufficient memory available",
                    "lastHeartbeatTime": "2026-11-23T08:40:53Z",
                    "lastTransitionTime": "2026-11-23T08:40:53Z",
                },
                beat("DiskPressure"), beat("PIDPressure"), beat("Ready"),
            ],
        }
    });
    assert_eq!(node_patch(&before, &wanted), Some(expected));
}

#[test]
fn an_adopted_node_gets_its_default_labels_back_and_keeps_the_rest() {
    let machine = machine();
    let initial = first(AddressAuthority::Kubelet);
    let mut there = machine.status(&initial).node;
    let capacity = &machine.resources.capacity;
    assert_eq!(adopted_node(&there, &initial, capacity, false), there);
    let labels = there.metadata.labels.as_mut().unwrap();
    labels.insert("kubernetes.io/arch".to_owned(), "arm64".to_owned());
    labels.insert("mine".to_owned(), "x".to_owned());
    labels.insert("topology.kubernetes.io/zone".to_owned(), "z".to_owned());
    there.metadata.annotations = None;
    let shown = there.status.as_mut().unwrap().capacity.as_mut().unwrap();
    shown.insert("hugepages-64Ki".to_owned(), WireQuantity("1Mi".to_owned()));
    shown.insert("example.com/gpu".to_owned(), WireQuantity("2".to_owned()));
    let adopted = adopted_node(&there, &initial, capacity, true);
    let labels = adopted.metadata.labels.unwrap();
    assert_eq!(labels["kubernetes.io/arch"], "amd64");
    assert_eq!(
        (
            labels["mine"].as_str(),
            labels["topology.kubernetes.io/zone"].as_str()
        ),
        ("x", "z")
    );
    assert!(
        adopted
            .metadata
            .annotations
            .unwrap()
            .contains_key("volumes.kubernetes.io/controller-managed-attach-detach")
    );
    let shown = adopted.status.unwrap().capacity.unwrap();
    assert!(!shown.contains_key("hugepages-64Ki"));
    assert_eq!(shown["example.com/gpu"].0, "0");
}

#[test]
fn registration_carries_labels_taints_and_the_providers_id() {
    let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), "mine".to_owned())]);
    let taints = [NodeTaint {
        key: "k".to_owned(),
        value: String::new(),
        effect: "NoExecute".to_owned(),
    }];
    let node = initial_node(&Registration {
        name: "n",
        hostname: "n",
        architecture: "arm64",
        labels: &labels,
        taints: &taints,
        provider_id: Some("cloud://1"),
        authority: AddressAuthority::Kubelet,
        attach_detach_by_cluster: false,
    });
    let shown = serde_json::to_value(&node).unwrap();
    assert_eq!(
        shown["spec"],
        json!({ "providerID": "cloud://1", "taints": [{ "key": "k", "effect": "NoExecute" }] })
    );
    assert_eq!(
        shown["metadata"]["labels"]["kubernetes.io/hostname"],
        "mine"
    );
    assert!(shown["metadata"].get("annotations").is_none());
}

/// Roles are labels with an empty value, by custom.
#[test]
fn a_label_with_an_empty_value_is_there() {
    let node = |labels: Value| -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n", "labels": labels}})).unwrap()
    };
    let role = "node-role.kubernetes.io/worker";
    let with = node(json!({"a": "b", role: ""}));
    let other = node(json!({"a": "b", role: "x"}));
    let without = node(json!({"a": "b"}));
    let labels = |change: Value| Some(json!({"metadata": {"labels": {role: change}}}));
    assert_eq!(node_patch(&without, &with), labels(json!("")));
    assert_eq!(node_patch(&with, &without), labels(json!(null)));
    assert_eq!(node_patch(&other, &with), labels(json!("")));
    assert_eq!(node_patch(&with, &with), None);
    let absent: Node = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    let empty = node(json!({}));
    assert_eq!(node_patch(&absent, &empty), None);
    assert_eq!(node_patch(&empty, &absent), None);
}

#[test]
fn what_is_declared_follows_the_gates() {
    let declared = |changes: &[(&str, bool)]| {
        let changes = changes.iter().map(|(gate, on)| ((*gate).to_owned(), *on));
        declared_features(&Gates::with(&changes.collect()).unwrap())
    };
    let restart_all = "RestartAllContainersOnContainerExits";
    assert_eq!(declared(&[]), [restart_all]);
    assert!(declared(&[(restart_all, false)]).is_empty());
    let all_off = [
        ("ExtendWebSocketsToKubelet", false),
        ("InPlacePodLevelResourcesVerticalScaling", false),
        ("InPlacePodVerticalScalingInitContainers", false),
        ("NodeDeclaredFeatures", false),
        (restart_all, false),
    ];
    assert!(declared(&all_off).is_empty());
}
