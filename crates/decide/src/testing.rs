//! For tests: desired pods from short YAML, a node, and CRI messages as protobuf JSON.
//!
//! In:    YAML of a pod without what the API would default
//! Out:   pods, nodes, JSON trees with zero values absent
//! Calls: the tests of every builder of messages
//! Holds: message fields are named without `..`, so that a new field is not left out of comparisons unseen
//! Upstream: none

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kubelet_model::node::{CgroupView, DnsView, NodeView};
use kubelet_model::pod::{Pod, SourceKind};

pub(crate) mod held;
pub(crate) mod json;
pub(crate) mod recorded;
pub(crate) mod seen;

/// The pod of a YAML object; name, namespace and UID have defaults, and fields the API would default are set.
pub(crate) fn pod(yaml: &str) -> Pod {
    let mut object: v1::Pod = serde_saphyr::from_str(yaml).expect("the test's YAML is a pod");
    let meta = &mut object.metadata;
    meta.namespace.get_or_insert_with(|| "default".into());
    meta.name.get_or_insert_with(|| "web".into());
    meta.uid.get_or_insert_with(|| "u1".into());
    let spec = object.spec.get_or_insert_default();
    spec.enable_service_links = Some(true);
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".into());
    spec.security_context.get_or_insert_default();
    let inits = spec.init_containers.iter_mut().flatten();
    for container in inits.chain(&mut spec.containers) {
        let path = &mut container.termination_message_path;
        path.get_or_insert_with(|| "/dev/termination-log".into());
        let policy = &mut container.termination_message_policy;
        policy.get_or_insert_with(|| "File".into());
        for port in container.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(|| "TCP".into());
        }
        if let Some(resources) = &mut container.resources {
            let mut requests = resources.limits.clone().unwrap_or_default();
            requests.extend(resources.requests.take().unwrap_or_default());
            resources.requests = Some(requests);
        }
    }
    Pod::new(Arc::new(object), SourceKind::File, Vec::new()).expect("it has a name")
}

/// A pod with this text as its `spec`, in YAML's one-line form.
pub(crate) fn pod_of(spec: &str) -> Pod {
    pod(&format!("spec: {spec}"))
}

/// The node of the recordings: cgroup v1, no resolver settings, two page sizes.
pub(crate) fn node() -> NodeView {
    NodeView {
        name: "bench".into(),
        hostname: "bench".into(),
        ips: vec!["10.0.0.5".into(), "fd00::5".into()],
        capacity_milli_cpu: 2000,
        capacity_memory_bytes: 25_276_510_208,
        allocatable: [
            ("cpu", 2000),
            ("memory", 25_171_652_608),
            ("ephemeral-storage", 9_000),
        ]
        .map(|(name, amount)| (name.to_owned(), amount))
        .into(),
        hugepage_sizes: vec!["2MB".into(), "1GB".into()],
        root_dir: "/var/lib/kubelet".into(),
        pod_logs_dir: "/var/log/pods".into(),
        cgroups: CgroupView {
            root: "/".into(),
            per_qos: true,
            v2: false,
            oom_group: true,
            has_swap: true,
            cfs_quota: true,
            cfs_period_us: 100_000,
            pod_pids_limit: None,
        },
        dns: DnsView::default(),
        seccomp_default: false,
        extra_masked_paths: Vec::new(),
        max_backoff_seconds: 300,
        first_backoff_seconds: 10,
        env_files: true,
        selinux_enabled: false,
        runtime_name: "containerd".to_owned(),
    }
}
