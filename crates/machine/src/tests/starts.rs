//! A pod's start, edit and end, held against what the Go kubelet was seen to do (`parity/`).
//!
//! Upstream: test/e2e_node/{static_pod_test.go,pods_container_manager_test.go}, test/e2e/common/storage/{empty_dir,host_path}.go

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Http;
use crate::kubelet::{Kubelet, SOON, condition, container, is_ready, pod, shell};
use crate::node::{Node, settles, until};

/// The recorded static pod, with an image that is here.
fn recorded_pod(node: &Node) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static-web", "labels": {"app": "web2"}},
        "spec": {"terminationGracePeriodSeconds": 5, "containers": [{
            "name": "web", "image": node.web, "ports": [{"containerPort": 80, "hostPort": 8089}],
            "resources": {"limits": {"memory": "32Mi", "cpu": "100m"}},
        }]},
    })
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn mode(path: &Path) -> String {
    let found =
        fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    format!("{:o}", found.mode() & 0o7777)
}

#[test]
fn the_example_pod_becomes_ready_and_answers_on_its_own_address() {
    let mut kubelet = Kubelet::running("web");
    kubelet.put_text("web.yaml", include_str!("../../../../examples/web.yaml"));
    let pod = kubelet.wait_ready("web");

    let address = text(&pod, "/status/podIP").to_owned();
    let page = until("the pod's answer", SOON, || {
        Http::new(format!("{address}:8080")).text("/").ok()
    });
    assert!(
        page.contains("A pod started by hyperkube answers."),
        "{page}"
    );

    let metadata = &pod["metadata"];
    let uid = text(metadata, "/uid");
    assert_eq!(uid.len(), 32, "{uid}");
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["labels"], json!({"app": "web"}));
    let annotations = &metadata["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(annotations["kubernetes.io/config.hash"], uid);
    assert!(!text(annotations, "/kubernetes.io~1config.seen").is_empty());
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(
        pod["spec"]["tolerations"],
        json!([{"operator": "Exists", "effect": "NoExecute"}])
    );

    let status = &pod["status"];
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["qosClass"], "Burstable");
    assert_eq!(status["podIPs"], json!([{"ip": address}]));
    assert_eq!(status["hostIPs"], json!([{"ip": status["hostIP"]}]));
    assert!(!text(status, "/startTime").is_empty());
    let kinds: Vec<&str> = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| text(condition, "/type"))
        .collect();
    let expected = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ];
    assert_eq!(kinds, expected);
    for kind in kinds {
        assert_eq!(condition(&pod, kind), "True", "{kind}");
    }

    let web = container(&pod, "web");
    let held = kubelet.runtime.containers();
    let (id, held) = held.iter().next().unwrap();
    assert!(held.running);
    assert_eq!(web["containerID"], format!("containerd://{id}"));
    assert_eq!(web["image"], kubelet.node.web);
    assert!(text(web, "/imageID").starts_with("sha256:"), "{web}");
    assert_eq!(web["ready"], true);
    assert_eq!(web["started"], true);
    assert_eq!(web["restartCount"], 0);
    assert_eq!(web["lastState"], json!({}));
    assert!(!text(web, "/state/running/startedAt").is_empty());
    assert_eq!(
        web["allocatedResources"],
        json!({"cpu": "10m", "memory": "8Mi"})
    );
}

/// A recorded request in the shape that the runtime keeps it in: numbers and enumerations as numbers.
fn as_kept(value: Value) -> Value {
    match value {
        Value::String(text) => match text.as_str() {
            "CONTAINER" | "Unconfined" => json!(1),
            "NODE" => json!(2),
            other => other
                .parse::<i64>()
                .map_or(Value::String(text.clone()), |n| json!(n)),
        },
        Value::Array(list) => list.into_iter().map(as_kept).collect(),
        // What is kept as text although it looks like a number.
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| match key.as_str() {
                "annotations" | "labels" => (key, value),
                _ => (key, as_kept(value)),
            })
            .collect(),
        other => other,
    }
}

/// Leaves out what is empty: zero values are absent in some encodings and present in others.
fn dense(value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(true) => false,
    };
    match value {
        Value::Array(list) => list.into_iter().map(dense).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, dense(value)))
            .filter(|(_, value)| !is_empty(value))
            .collect(),
        other => other,
    }
}

fn recorded(method: &str) -> Value {
    let requests = include_str!("../../../../parity/cri-requests.jsonl");
    requests
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|line| line["method"] == *method && line.to_string().contains("static-web-bench"))
        .map(|line| line["config"].clone())
        .unwrap()
}

#[test]
fn the_runtime_is_asked_what_the_go_kubelet_asks() {
    let mut kubelet = Kubelet::running("requests");
    kubelet.put("static-web.yaml", &recorded_pod(&kubelet.node));
    let pod = kubelet.wait_ready("static-web");
    let uid = text(&pod, "/metadata/uid").to_owned();
    let held = kubelet.runtime.containers().into_values().next().unwrap();

    // Names of the recording's node become names of ours; times and hashes are looked at apart.
    let rename = |value: Value| {
        let mut text = value.to_string();
        for (from, to) in [
            ("/var/log/pods/", format!("{}/", kubelet.logs.display())),
            ("/var/lib/kubelet/", format!("{}/", kubelet.root.display())),
            (
                "\"/kubepods/",
                format!("\"{}/kubepods/", kubelet.node.cgroup_root),
            ),
            ("1b902bdef067f330c5e44a7b0214c8b4", uid.clone()),
            ("static-web-bench", "static-web-n1".to_owned()),
        ] {
            text = text.replace(from, &to);
        }
        dense(as_kept(serde_json::from_str(&text).unwrap()))
    };
    let without = |mut value: Value, pointers: &[&str]| {
        for pointer in pointers {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            if let Some(parent) = value.pointer_mut(parent).and_then(Value::as_object_mut) {
                parent.remove(&key.replace("~1", "/"));
            }
        }
        dense(value)
    };

    let (_, sandbox) = kubelet.runtime.sandbox(&held.sandbox);
    let here = [
        "/annotations/kubernetes.io~1config.seen",
        "/dns_config",                                              // of the machine
        "/linux/security_context/namespace_options/userns_options", // containerd 1.6 does not know it
    ];
    assert_eq!(
        without(sandbox["config"].clone(), &here),
        without(rename(recorded("RunPodSandbox")), &here)
    );

    let (status, info) = kubelet.runtime.container(&held.id);
    let here = [
        "/annotations/io.kubernetes.container.hash",
        "/image",
        "/envs", // services of the recording's cluster
        "/mounts",
        "/linux/security_context/namespace_options/userns_options",
    ];
    assert_eq!(
        without(info["config"].clone(), &here),
        without(rename(recorded("CreateContainer")), &here)
    );
    let hash = &status.annotations["io.kubernetes.container.hash"];
    assert!(
        u32::from_str_radix(hash, 16).is_ok() && !hash.starts_with('0'),
        "{hash}"
    );
    assert_eq!(
        info["config"]["image"]["image"],
        container(&pod, "web")["imageID"]
    );
    let mounts: Vec<(&str, &str)> = info["config"]["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| (text(mount, "/container_path"), text(mount, "/host_path")))
        .collect();
    let home = kubelet.root.join("pods").join(&uid);
    let at = |container_path| {
        let found = mounts.iter().find(|(path, _)| *path == container_path);
        found
            .unwrap_or_else(|| panic!("no mount at {container_path}: {mounts:?}"))
            .1
    };
    assert_eq!(Path::new(at("/etc/hosts")), home.join("etc-hosts"));
    let message = Path::new(at("/dev/termination-log"));
    assert_eq!(message.parent().unwrap(), home.join("containers/web"));
    assert_eq!(message.file_name().unwrap().len(), 8);
    assert_eq!(mounts.len(), 2, "{mounts:?}");
}

#[test]
fn cgroups_directories_logs_and_links_are_as_recorded() {
    let mut kubelet = Kubelet::running("files");
    kubelet.put("static-web.yaml", &recorded_pod(&kubelet.node));
    let pod = kubelet.wait_ready("static-web");
    let uid = text(&pod, "/metadata/uid").to_owned();
    let held = kubelet.runtime.containers().into_values().next().unwrap();

    if kubelet.node.cgroup_v2 {
        let read = |file| {
            fs::read_to_string(
                kubelet
                    .node
                    .cgroup("", &format!("kubepods/pod{uid}/{file}")),
            )
            .unwrap()
        };
        assert_eq!(read("memory.max").trim(), "33554432");
        assert_eq!(read("cpu.max").trim(), "10000 100000");
    } else {
        // Controller, path below kubepods, value: parity of cgroups-v1.txt.
        let in_pod = format!("pod{uid}");
        let in_container = format!("pod{uid}/{}", held.id);
        for (controller, cgroup, file, value) in [
            ("cpu", "besteffort", "cpu.shares", "2"),
            ("cpu", &in_pod, "cpu.shares", "102"),
            ("cpu", &in_pod, "cpu.cfs_quota_us", "10000"),
            ("cpu", &in_pod, "cpu.cfs_period_us", "100000"),
            ("cpu", &in_container, "cpu.shares", "102"),
            ("cpu", &in_container, "cpu.cfs_quota_us", "10000"),
            ("memory", &in_pod, "memory.limit_in_bytes", "33554432"),
            ("memory", &in_container, "memory.limit_in_bytes", "33554432"),
            ("pids", &in_pod, "pids.max", "max"),
        ] {
            let path = kubelet
                .node
                .cgroup(controller, &format!("kubepods/{cgroup}/{file}"));
            let found = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(found.trim(), value, "{}", path.display());
        }
        let cpus = std::thread::available_parallelism().unwrap().get() * 1024;
        let shares = fs::read_to_string(kubelet.node.cgroup("cpu", "kubepods/cpu.shares")).unwrap();
        assert_eq!(shares.trim(), cpus.to_string());
    }

    let root = &kubelet.root;
    for directory in ["", "pods", "plugins", "plugins_registry", "pod-resources"] {
        assert_eq!(mode(&root.join(directory)), "750", "{directory:?}");
    }
    assert_eq!(mode(&root.join("checkpoints")), "700");
    let home = root.join("pods").join(&uid);
    for directory in ["", "containers", "containers/web", "plugins", "volumes"] {
        assert_eq!(mode(&home.join(directory)), "750", "{directory:?}");
    }
    assert_eq!(mode(&home.join("etc-hosts")), "644");
    let messages: Vec<_> = fs::read_dir(home.join("containers/web")).unwrap().collect();
    assert_eq!(messages.len(), 1);
    assert_eq!(mode(&messages[0].as_ref().unwrap().path()), "666");

    let logs = kubelet.logs.join(format!("default_static-web-n1_{uid}"));
    assert_eq!(mode(&logs), "755");
    assert_eq!(mode(&logs.join("web")), "755");
    assert_eq!(mode(&logs.join("web/0.log")), "640");
    let link = format!("static-web-n1_default_web-{}.log", held.id);
    assert_eq!(
        Node::log_links(&kubelet.logs),
        [(link, logs.join("web/0.log"))]
    );
}

#[test]
fn volumes_hosts_file_and_termination_message_are_there() {
    let mut kubelet = Kubelet::running("volumes");
    let outside = kubelet.base.join("outside");
    fs::create_dir_all(outside.join("directory")).unwrap();
    fs::write(outside.join("file"), "in a file").unwrap();
    let line = "set -e; cat /file; echo; cat /etc/hosts; stat -c 'mode %a' /disk /memory; echo a > /disk/a; echo b > /memory/b; \
        echo d > /created/d; echo e > /directory/e; echo f > /fresh; \
        awk '$2 == \"/memory\" {print \"memory is\", $3, $4}' /proc/mounts; echo the message > /dev/termination-log; \
        while :; do sleep 1; done";
    let mut writer = shell("c", line);
    let mount = |name: &str| json!({"name": name, "mountPath": format!("/{name}")});
    writer["volumeMounts"] = ["disk", "memory", "file", "directory", "created", "fresh"]
        .map(mount)
        .into();
    let mut manifest = pod("volumes", &[writer]);
    let host = |name: &str, kind: &str| json!({"name": name, "hostPath": {"path": outside.join(name), "type": kind}});
    manifest["spec"]["volumes"] = json!([
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
        host("file", "File"), host("directory", "Directory"), host("created", "DirectoryOrCreate"), host("fresh", "FileOrCreate"),
    ]);
    kubelet.put("volumes.yaml", &manifest);
    let mut wrong = pod("wrong-type", &[shell("c", "sleep 100")]);
    wrong["spec"]["containers"][0]["volumeMounts"] = json!([mount("file")]);
    wrong["spec"]["volumes"] = json!([host("file", "Directory")]);
    kubelet.put("wrong.yaml", &wrong);

    let pod = kubelet.wait_ready("volumes");
    let uid = text(&pod, "/metadata/uid").to_owned();
    let log = kubelet
        .logs
        .join(format!("default_volumes-n1_{uid}/c/0.log"));
    let log = until("the container's words", SOON, || {
        let log = fs::read_to_string(&log).ok()?;
        log.contains("memory is").then_some(log)
    });
    assert!(log.contains("in a file"), "{log}");
    assert!(
        log.contains("mode 777\n") && log.contains("mode 1777\n"),
        "{log}"
    );
    assert!(
        log.contains("memory is tmpfs") && log.contains("size=8192k"),
        "{log}"
    );
    assert!(log.contains("# Kubernetes-managed hosts file."), "{log}");
    let line = format!("{}\tvolumes-n1", text(&pod, "/status/podIP"));
    assert!(log.contains(&line), "no {line:?} in {log}");

    let volumes = kubelet
        .root
        .join(format!("pods/{uid}/volumes/kubernetes.io~empty-dir"));
    assert_eq!(mode(&volumes), "755");
    assert_eq!(mode(&volumes.join("disk")), "777");
    assert_eq!(fs::read_to_string(volumes.join("disk/a")).unwrap(), "a\n");
    assert_eq!(Node::mounts_below(&kubelet.root).len(), 1);
    for (file, content) in [
        ("created/d", "d\n"),
        ("directory/e", "e\n"),
        ("fresh", "f\n"),
    ] {
        assert_eq!(
            fs::read_to_string(outside.join(file)).unwrap(),
            content,
            "{file}"
        );
    }
    assert_eq!(mode(&outside.join("created")), "755");
    assert_eq!(mode(&outside.join("fresh")), "644");

    // The message is shown once the container has ended.
    let id = kubelet.runtime.running()[&("volumes-n1".to_owned(), "c".to_owned())][0].clone();
    kubelet.runtime.stop_container(&id);
    let ended = kubelet.wait("volumes", "restarted", SOON, |pod| {
        container(pod, "c")["restartCount"] == 1
    });
    assert_eq!(
        container(&ended, "c")["lastState"]["terminated"]["message"],
        "the message\n"
    );
    assert_eq!(
        container(&ended, "c")["lastState"]["terminated"]["exitCode"],
        137
    );

    // A path of another type keeps its pod from starting, and is not touched.
    let wrong = kubelet.pod("wrong-type").unwrap();
    assert_eq!(text(&wrong, "/status/phase"), "Pending", "{wrong:#}");
    assert_eq!(
        container(&wrong, "c")["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    kubelet.wait_log("hostPath type check failed");

    kubelet.take("volumes.yaml");
    kubelet.wait_gone("volumes");
    until("the pod's directory to go", SOON, || {
        (!kubelet.root.join("pods").join(&uid).exists()).then_some(())
    });
    assert_eq!(Node::mounts_below(&kubelet.root), [""; 0]);
    assert_eq!(
        fs::read_to_string(outside.join("directory/e")).unwrap(),
        "e\n"
    );
}

#[test]
fn an_edited_pod_ends_before_its_successor_starts() {
    let mut kubelet = Kubelet::running("edit");
    let line = "trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.05; done";
    let mut manifest = pod("edit", &[shell("c", line)]);
    manifest["spec"]["terminationGracePeriodSeconds"] = json!(5);
    kubelet.put("edit.yaml", &manifest);
    kubelet.put("other.yaml", &crate::kubelet::idle("other"));
    let before = kubelet.wait_ready("edit");
    let other = kubelet.wait_ready("other");

    // A changed field, then another image.
    for change in 0..2 {
        if change == 0 {
            manifest["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "1"}]);
        } else {
            manifest["spec"]["containers"][0]["image"] = json!(kubelet.node.web);
        }
        let old = text(&kubelet.pod("edit").unwrap(), "/metadata/uid").to_owned();
        kubelet.put("edit.yaml", &manifest);
        let after = until("the successor", SOON, || {
            let running = kubelet.runtime.running();
            let of_edit = &running.get(&("edit-n1".to_owned(), "c".to_owned()));
            assert!(
                of_edit.is_none_or(|ids| ids.len() == 1),
                "both run: {of_edit:?}"
            );
            let pod = kubelet.pod("edit")?;
            (text(&pod, "/metadata/uid") != old && is_ready(&pod)).then_some(pod)
        });
        assert_eq!(container(&after, "c")["restartCount"], 0);
        settles("the old one's traces to go", SOON, || kubelet.traces(&old));
    }
    let now = kubelet.pod("edit").unwrap();
    assert_ne!(now["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(container(&now, "c")["image"], kubelet.node.web);
    assert_eq!(kubelet.pod("other").unwrap()["status"], other["status"]);
}

#[test]
fn a_deleted_pod_ends_gracefully_and_leaves_nothing() {
    let mut kubelet = Kubelet::running("delete");
    let farewell = kubelet.base.join("farewell");
    let mut leaving = shell(
        "c",
        "trap 'echo bye > /out/farewell; exit 0' TERM; while :; do sleep 0.05; done",
    );
    leaving["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    let mut manifest = pod("delete", &[leaving]);
    manifest["spec"]["terminationGracePeriodSeconds"] = json!(10);
    manifest["spec"]["volumes"] = json!([{"name": "out", "hostPath": {"path": kubelet.base}}]);
    kubelet.put("delete.yaml", &manifest);
    kubelet.wait_ready("delete");
    crate::node::pause(Duration::from_millis(300)); // the shell sets its trap
    kubelet.take("delete.yaml");
    kubelet.wait_gone("delete");
    assert_eq!(fs::read_to_string(farewell).unwrap(), "bye\n");
    settles("every trace to go", SOON, || kubelet.traces(""));
}
