//! What the node tells of its pods without an API server: `hyperkube get`, `describe`, `why`, `timeline`, and the local pods API.
//!
//! Upstream: test/e2e_node/pods_api_test.go, in what the socket is

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::kubelet::{Kubelet, SOON, binary, container, is_ready, pod, shell};
use crate::node::until;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn asked(kubelet: &Kubelet, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).arg("--root-dir").arg(&kubelet.root);
    command.stdin(Stdio::null()).output().unwrap()
}

/// What a command says that must succeed.
fn said(kubelet: &Kubelet, arguments: &[&str]) -> String {
    let output = asked(kubelet, arguments);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    eprintln!("$ hyperkube {}\n{out}", arguments.join(" "));
    out.into_owned()
}

/// The error of a command that must fail.
fn refused(kubelet: &Kubelet, arguments: &[&str]) -> String {
    let output = asked(kubelet, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json_of(kubelet: &Kubelet, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(kubelet, arguments)).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn own_socket(kubelet: &Kubelet) -> PathBuf {
    kubelet.root.join("hyperkube/story.sock")
}

/// The error of another user.
fn stranger(kubelet: &Kubelet) -> String {
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--clear-groups"])
        .arg(binary())
        .args(["get", "--socket"])
        .arg(own_socket(kubelet))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(1) && output.stdout.is_empty(),
        "{error}"
    );
    error
}

#[test]
fn another_user_is_told_nothing_even_where_the_socket_is_open() {
    let kubelet = Kubelet::running("story-open");
    let socket = own_socket(&kubelet);
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(&socket, 0o777);
    let above = socket.ancestors().skip(1);
    let above = above.take_while(|path| path.starts_with(&kubelet.node.data));
    let before: Vec<(&Path, u32)> = above.map(|path| (path, mode(path))).collect();
    before
        .iter()
        .for_each(|(path, mode)| set(path, mode | 0o111));
    let error = stranger(&kubelet);
    before.iter().for_each(|(path, mode)| set(path, *mode));
    assert!(error.contains("has closed the connection"), "{error}");
    kubelet.wait_log("A user other than root asked for pods; refused");
    assert_eq!(said(&kubelet, &["get"]), "No pods on this node.\n");
}

/// One that serves, and one whose readiness probe is refused.
fn two_pods(kubelet: &mut Kubelet) {
    let http = json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
    let mut good = shell("web", "mkdir /w; sleep 0.3; exec httpd -f -p 8080 -h /w");
    good["startupProbe"] =
        json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30});
    good["readinessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 1});
    let mut broken = shell("web", "sleep 1000");
    broken["readinessProbe"] = http;
    kubelet.put("good.yaml", &pod("good", &[good]));
    kubelet.put("broken.yaml", &pod("broken", &[broken]));
    kubelet.wait_ready("good");
    kubelet.wait("broken", "running", SOON, |pod| {
        !container(pod, "web")["state"]["running"].is_null()
    });
    kubelet.wait_log("Readiness probe failed: ");
}

#[test]
fn the_node_tells_why_a_pod_is_not_ready() {
    let mut kubelet = Kubelet::running("story");
    assert_eq!(said(&kubelet, &["get"]), "No pods on this node.\n");
    two_pods(&mut kubelet);

    let socket = own_socket(&kubelet);
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(
        (mode(&socket), mode(socket.parent().unwrap())),
        (0o600, 0o700)
    );
    assert!(
        !kubelet.root.join("pods-api").exists(),
        "upstream's socket waits for its gate"
    );
    // Nobody else gets as far as the socket.
    let error = stranger(&kubelet);
    assert!(error.contains("may be used by root only"), "{error}");

    let table = said(&kubelet, &["get", "pods"]);
    let words =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let rows: Vec<Vec<String>> = table.lines().map(words).collect();
    assert_eq!(
        rows[0],
        ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    );
    assert_eq!(
        rows[1][..5],
        ["default", "broken-n1", "0/1", "Running", "0"]
    );
    assert_eq!(rows[2][..5], ["default", "good-n1", "1/1", "Running", "0"]);
    assert!(!table.contains('\u{1b}'), "colours are for terminals");
    assert!(said(&kubelet, &["get", "-o", "wide"]).contains("1 failing"));
    assert_eq!(
        said(&kubelet, &["get", "good", "-o", "name"]),
        "pod/default/good-n1\n"
    );

    let why = until("the probe to have failed twice", SOON, || {
        let why = said(&kubelet, &["why", "broken"]);
        why.contains("times in a row").then_some(why)
    });
    for part in [
        "Pod default/broken-n1 is not Ready since ",
        "- Condition Ready is False: containers with unready status: [web]",
        "  - Container web runs and is not ready, since ",
        "    - Readiness probe GET http://:8080/ (every 1s, timeout 1s) has failed ",
        "connection refused",
        "tried again ",
    ] {
        assert!(why.contains(part), "{part:?}: {why}");
    }
    let ready = said(&kubelet, &["why", "pod/good"]);
    assert!(
        ready.starts_with("Pod default/good-n1 is Ready since "),
        "{ready}"
    );
    let value = json_of(&kubelet, &["why", "broken", "-o", "json"]);
    assert_eq!(
        (&value["state"], &value["name"]),
        (&json!("NotReady"), &json!("broken-n1"))
    );

    let list = json_of(&kubelet, &["get", "-o", "json"]);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let shown = kubelet.pod("good").unwrap();
    let one = json_of(&kubelet, &["get", "good", "-o", "json"]);
    assert_eq!(
        (&one["kind"], &one["apiVersion"]),
        (&json!("Pod"), &json!("v1"))
    );
    assert_eq!(one["metadata"]["uid"], shown["metadata"]["uid"]);
    assert_eq!(one["status"]["podIP"], shown["status"]["podIP"]);
    assert!(said(&kubelet, &["get", "good", "-o", "yaml"]).contains("\nkind: Pod\n"));

    let described = said(&kubelet, &["describe", "broken"]);
    for part in [
        "Containers:",
        "Last Failure:",
        "Conditions:",
        "Start:",
        "Why:",
    ] {
        assert!(described.contains(part), "{part}: {described}");
    }
    let start = said(&kubelet, &["timeline", "good"]);
    let order = [
        "queued",
        "admitted",
        "sandbox",
        "startup probe of web",
        "readiness probe of web",
        "ready",
    ];
    let places = order.map(|stage| start.find(&format!("\n{stage} ")));
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{start}"
    );
    assert!(said(&kubelet, &["timeline"]).contains("broken-n1"));

    let unknown = refused(&kubelet, &["why", "nothing"]);
    assert!(
        unknown.contains("no pod \"nothing\" on this node; there is default/broken-n1"),
        "{unknown}"
    );

    kubelet.kill();
    let gone = refused(&kubelet, &["get"]);
    assert!(
        gone.contains(&socket.display().to_string()) && gone.contains("does not run"),
        "{gone}"
    );
    // The next one takes the socket's place, and knows what it took up.
    kubelet.start();
    until("the pods to be there again", SOON, || {
        said(&kubelet, &["get"]).contains("good-n1").then_some(())
    });
}

#[test]
fn a_crash_loop_says_how_it_ended_and_when_it_starts_again() {
    let mut kubelet = Kubelet::running("story-crash");
    let crash = shell("c", "echo no database > /dev/termination-log; exit 3");
    kubelet.put("crash.yaml", &pod("crash", &[crash]));
    let absent =
        json!({"name": "c", "image": "hyperkube.local/absent:1", "imagePullPolicy": "Never"});
    kubelet.put("absent.yaml", &pod("absent", &[absent]));
    for (name, reason) in [
        ("crash", "CrashLoopBackOff"),
        ("absent", "ErrImageNeverPull"),
    ] {
        kubelet.wait(name, "held back", SOON, |pod| {
            container(pod, "c")["state"]["waiting"]["reason"] == reason
        });
    }
    let why = said(&kubelet, &["why"]);
    for part in [
        "Pod default/crash-n1 is not Ready since ",
        "Container c keeps ending; its next start is held back (CrashLoopBackOff)",
        "because: back-off 10s restarting failed container=c pod=crash-n1_default(",
        "Container c ended with exit code 3 (Error)",
        "it said: no database",
        "Pod default/absent-n1 is not Ready since ",
        "Container c has no image, and its pull policy is Never (ErrImageNeverPull)",
    ] {
        assert!(why.contains(part), "{part:?}: {why}");
    }
    let crash = json_of(&kubelet, &["why", "crash", "-o", "json"]);
    let links = crash["chain"].as_array().unwrap();
    assert!(
        links.iter().any(|link| link["nextTry"].is_string()),
        "{crash}"
    );
}

#[test]
fn a_watch_prints_what_changes_and_ends_with_the_kubelet() {
    let mut kubelet = Kubelet::running("story-watch");
    let out = kubelet.base.join("watch.txt");
    let mut watch = Command::new(binary())
        .args(["get", "-w", "--socket"])
        .arg(own_socket(&kubelet))
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(kubelet.base.join("watch-error.txt")).unwrap())
        .spawn()
        .unwrap();
    kubelet.put("a.yaml", &pod("a", &[shell("c", "sleep 1000")]));
    kubelet.wait_ready("a");
    let printed = until("the ready pod in the watch", SOON, || {
        let text = fs::read_to_string(&out).unwrap();
        text.lines()
            .any(|line| line.contains("a-n1") && line.contains("1/1"))
            .then_some(text)
    });
    assert!(printed.starts_with("NAMESPACE"), "{printed}");
    kubelet.kill();
    let status = until("the watch to end", SOON, || watch.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    let error = fs::read_to_string(kubelet.base.join("watch-error.txt")).unwrap();
    assert!(error.contains("has closed the connection"), "{error}");
}

#[test]
fn a_node_with_an_api_server_tells_what_its_pods_wait_for() {
    let cluster = Cluster::running("story-node");
    let mut waits = pod("waits", &[shell("c", "sleep 1000")]);
    waits["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "settings"}}]);
    waits["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    cluster.asked("POST", PODS, Some(&waits));
    let kubelet = &cluster.kubelet;
    let why = until("the volume to be waited for", SOON, || {
        let output = asked(kubelet, &["why", "waits"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Within its first step nothing is tried again yet.
        let waits = ["settings", "tried again "];
        waits.iter().all(|part| text.contains(part)).then_some(text)
    });
    for part in [
        "Volume v cannot be set up (FailedMount)",
        "because: ",
        "configmap \"settings\" not found",
    ] {
        assert!(why.contains(part), "{part:?}: {why}");
    }
    let settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"k": "v"}});
    cluster.asked(
        "POST",
        "/api/v1/namespaces/default/configmaps",
        Some(&settings),
    );
    cluster.wait("waits", "Ready", is_ready);
    assert!(said(kubelet, &["why"]).starts_with("The only pod is Ready"));
    let row = said(kubelet, &["get", "waits", "-n", "default", "-o", "wide"]);
    assert!(row.contains(" api "), "{row}");
    cluster.asked("DELETE", &format!("{PODS}/waits"), None);
    until("the pod to be gone", SOON, || {
        (said(kubelet, &["get"]) == "No pods on this node.\n").then_some(())
    });
}

#[test]
fn the_local_pods_api_is_served_behind_its_gate() {
    let mut kubelet = Kubelet::new("pods-api");
    kubelet.config["featureGates"] = json!({"PodsAPI": true});
    kubelet.start();
    let socket = kubelet.root.join("pods-api/pods-api.sock");
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!(
        (mode(&socket), mode(socket.parent().unwrap())),
        (0o755, 0o750)
    );
    // It is upstream's service alone.
    let error = Command::new(binary())
        .args(["get", "--socket"])
        .arg(&socket)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&error.stderr).into_owned();
    assert!(error.contains("is too old for this command"), "{error}");
    let began = std::time::Instant::now();
    kubelet.terminate();
    assert!(began.elapsed() < Duration::from_secs(5));
}
