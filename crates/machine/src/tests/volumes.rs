//! Volumes whose files the kubelet writes, parts of volumes, and the group of a pod, as containers see them.
//!
//! Upstream: test/e2e/common/storage/{downwardapi_volume.go,projected_downwardapi.go}, test/e2e/common/node/expansion.go

use std::fs;

use serde_json::json;

use crate::kubelet::{Kubelet, SOON, container, pod, shell};
use crate::node::{Node, until};

#[test]
fn a_static_pod_reads_about_itself_and_mounts_parts_of_volumes() {
    let mut kubelet = Kubelet::running("payloads");
    let line = "cat /about/labels; echo; cat /about/notes; echo; cat /all/me/name; echo; cat /about/cpu; echo; \
        stat -L -c 'file %a %g' /about/labels; stat -c 'directory %a %g' /part /named; id -G; \
        echo x > /part/x; touch /about/labels 2>&1; echo done; while :; do sleep 1; done";
    let mut writer = shell("c", line);
    writer["resources"] = json!({"limits": {"cpu": "250m"}});
    writer["env"] =
        json!([{"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    writer["volumeMounts"] = json!([
        {"name": "about", "mountPath": "/about"}, {"name": "all", "mountPath": "/all"},
        {"name": "disk", "mountPath": "/part", "subPath": "deep/part"},
        {"name": "disk", "mountPath": "/named", "subPathExpr": "of-$(ME)"},
    ]);
    let mut manifest = pod("payloads", &[writer]);
    manifest["metadata"]["labels"] = json!({"app": "web", "tier": "a-b"});
    manifest["metadata"]["annotations"] = json!({"note": "a \"b\""});
    manifest["spec"]["securityContext"] = json!({"fsGroup": 2000});
    let field = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    manifest["spec"]["volumes"] = json!([
        {"name": "about", "downwardAPI": {"items": [field("labels", "metadata.labels"), field("notes", "metadata.annotations"),
            {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}]}},
        {"name": "all", "projected": {"sources": [{"downwardAPI": {"items": [field("me/name", "metadata.name")]}}]}},
        {"name": "disk", "emptyDir": {}},
    ]);
    kubelet.put("payloads.yaml", &manifest);
    let shown = kubelet.wait_ready("payloads");
    let uid = shown["metadata"]["uid"].as_str().unwrap().to_owned();
    let log = kubelet
        .logs
        .join(format!("default_payloads-n1_{uid}/c/0.log"));
    let log = until("the container's words", SOON, || {
        let log = fs::read_to_string(&log).ok()?;
        log.contains("done").then_some(log)
    });
    for expected in [
        "app=\"web\"",
        "tier=\"a-b\"",
        "note=\"a \\\"b\\\"\"",
        "payloads-n1",
        "250",
        "file 644 2000",
        "directory 2777 2000",
        "2000",
        "Read-only file system",
    ] {
        assert!(log.contains(expected), "no {expected:?} in {log}");
    }
    let volumes = kubelet.root.join(format!("pods/{uid}/volumes"));
    let about = volumes.join("kubernetes.io~downward-api/about");
    let data = fs::read_link(about.join("..data")).unwrap();
    assert!(data.to_str().unwrap().starts_with("..2"), "{data:?}");
    let disk = volumes.join("kubernetes.io~empty-dir/disk");
    assert_eq!(fs::read_to_string(disk.join("deep/part/x")).unwrap(), "x\n");
    assert!(disk.join("of-payloads-n1").is_dir());
    // Two volumes in memory, two parts.
    assert_eq!(Node::mounts_below(&kubelet.root).len(), 4);

    // The next start of the container mounts the same parts again.
    let id = kubelet.runtime.running()[&("payloads-n1".to_owned(), "c".to_owned())][0].clone();
    kubelet.runtime.stop_container(&id);
    kubelet.wait("payloads", "restarted", SOON, |pod| {
        container(pod, "c")["restartCount"] == 1
    });
    assert_eq!(Node::mounts_below(&kubelet.root).len(), 4);
    assert_eq!(fs::read_link(about.join("..data")).unwrap(), data);

    kubelet.take("payloads.yaml");
    kubelet.wait_gone("payloads");
    until("the pod's directory to go", SOON, || {
        (!kubelet.root.join("pods").join(&uid).exists()).then_some(())
    });
    assert_eq!(Node::mounts_below(&kubelet.root), [""; 0]);
}
