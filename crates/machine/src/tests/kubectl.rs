//! A stock kubectl at `hyperkube node`: every command that people use, on real containerd.
//!
//! Upstream: test/e2e/kubectl/kubectl.go in what it looks at

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, GONE, has_kubectl};
use crate::kubelet::{SOON, is_ready, pod, shell};
use crate::node::{pause, settles, until, variable};

const LOOP: &str = "trap 'exit 0' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done";

fn text(value: &Value) -> String {
    value.to_string()
}

#[test]
fn pods_are_made_seen_and_changed() {
    if !has_kubectl("kubectl::pods_are_made_seen_and_changed") {
        return;
    }
    let cluster = Cluster::running("kubectl");
    let ctl = |words: &str| cluster.says(&words.split(' ').collect::<Vec<_>>());
    assert!(ctl("get nodes -o wide").contains(" Ready "));
    assert!(ctl("api-resources").contains("pods"));
    assert_eq!(ctl("auth can-i delete pods").trim(), "yes");

    // A watch that begins before there is anything.
    let mut watch = cluster
        .kubectl(&["get", "pods", "-w", "-o", "name"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let made = cluster.says_to(
        &["create", "-f", "-"],
        &text(&pod("a", &[shell("c", LOOP)])),
    );
    assert_eq!(made.trim(), "pod/a created");
    let mut first = String::new();
    let mut lines = BufReader::new(watch.stdout.take().unwrap());
    lines.read_line(&mut first).unwrap();
    assert_eq!(first.trim(), "pod/a");
    let _sent = watch.kill();
    watch.wait().unwrap();

    ctl("wait --for=condition=Ready pod/a --timeout=20s");
    assert!(ctl("get pods -o wide").contains("Running"));
    assert!(ctl("get pods -A").contains("default"));
    assert!(ctl("get pod a -o yaml").contains("podIP:"));
    let described = ctl("describe pod a");
    for part in ["Status:           Running", "Started", "Scheduled"] {
        assert!(described.contains(part), "{part}: {described}");
    }
    assert!(ctl("describe node n1").contains("KubeletReady"));
    let events = ctl("events");
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        assert!(events.contains(reason), "{reason}: {events}");
    }

    ctl("label pod a tier=front");
    ctl("annotate pod a note=seen");
    cluster.says(&[
        "patch",
        "pod",
        "a",
        "-p",
        r#"{"metadata":{"labels":{"more":"yes"}}}"#,
    ]);
    assert!(ctl("get pods -l tier=front,more=yes -o name").contains("pod/a"));
    let mut edit = cluster.kubectl(&["edit", "pod", "a"]);
    let edited = edit
        .env("EDITOR", "sed -i s/tier:.front/tier:\\ back/")
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&edited.stdout).contains("pod/a edited"),
        "{edited:?}"
    );

    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "1"}});
    let apply = ["apply", "--validate=false", "-f", "-"];
    assert_eq!(
        cluster.says_to(&apply, &text(&map)).trim(),
        "configmap/m created"
    );
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "2"}});
    assert_eq!(
        cluster.says_to(&apply, &text(&map)).trim(),
        "configmap/m configured"
    );
    assert_eq!(
        cluster.says_to(&apply, &text(&map)).trim(),
        "configmap/m unchanged"
    );
    assert_eq!(
        cluster.says(&["get", "cm", "m", "-o", "jsonpath={.data.k}"]),
        "2"
    );
}

#[test]
fn pods_are_looked_into_and_ended() {
    if !has_kubectl("kubectl::pods_are_looked_into_and_ended") {
        return;
    }
    let cluster = Cluster::running("kubectl-streams");
    let ctl = |words: &str| cluster.says(&words.split(' ').collect::<Vec<_>>());
    let web = json!({"name": "web", "image": variable("HK_WEB_IMAGE")});
    for made in [pod("a", &[shell("c", LOOP)]), pod("w", &[web])] {
        cluster.says_to(&["create", "-f", "-"], &text(&made));
    }
    ctl("wait --for=condition=Ready pod/a pod/w --timeout=20s");

    // The log: its end, with times, and as it grows.
    assert!(ctl("logs a --tail=1 --timestamps").contains("Z line "));
    let mut follow = cluster
        .kubectl(&["logs", "-f", "a", "--tail=1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.take(5).filter(|line| line.is_ok()).count(), 5);
    let _sent = follow.kill();
    follow.wait().unwrap();

    // Commands: input, both outputs, the exit code.
    assert_eq!(
        cluster.says_to(&["exec", "-i", "a", "--", "cat"], "hello\n"),
        "hello\n"
    );
    let words = [
        "exec",
        "a",
        "--",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ];
    let ended = cluster.kubectl(&words).output().unwrap();
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    assert_eq!(ended.stdout, b"out\n");
    assert!(
        String::from_utf8_lossy(&ended.stderr).starts_with("err\n"),
        "{ended:?}"
    );

    // To a running process, and to one that is waited for.
    let mut attach = cluster
        .kubectl(&["attach", "a"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(attach.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("line "), "{line}");
    let _sent = attach.kill();
    attach.wait().unwrap();
    let image = format!("--image={}", variable("HK_BUSYBOX_IMAGE"));
    let run = [
        "run",
        "once",
        &image,
        "--restart=Never",
        "-i",
        "--rm",
        "--quiet",
        "--",
        "cat",
    ];
    assert_eq!(
        cluster.says_to(&run, "through attach\n"),
        "through attach\n"
    );

    // A port.
    let mut forward = cluster
        .kubectl(&["port-forward", "pod/w", ":8080"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // Kept: kubectl tells of each connection there.
    let mut told = BufReader::new(forward.stdout.take().unwrap());
    told.read_line(&mut line).unwrap();
    let port = line
        .split(':')
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    let mut connection = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    // To the page, not to the end: the server closes as it likes.
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("hyperkube") {
        let mut block = [0; 4096];
        let read = connection.read(&mut block).unwrap();
        assert!(read > 0, "the end: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&block[..read]);
    }
    let _sent = forward.kill();
    forward.wait().unwrap();

    // Gracefully: kubectl waits until it is gone, and nothing is left. Forced: gone at once, and nothing is left soon after.
    let uid = |name: &str| {
        let found = cluster.asked(
            "GET",
            &format!("/api/v1/namespaces/default/pods/{name}"),
            None,
        );
        found["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let (a, w) = (uid("a"), uid("w"));
    ctl("delete pod a");
    assert_eq!(cluster.kubelet.host_traces(&a), Vec::<String>::new());
    settles("its sandbox to go", SOON, || cluster.kubelet.traces(&a));
    ctl("delete pod w --force --grace-period=0");
    assert_eq!(
        cluster
            .ask("GET", "/api/v1/namespaces/default/pods/w", None)
            .0,
        404
    );
    until("nothing of w to be left", GONE, || {
        cluster.kubelet.traces(&w).is_empty().then_some(())
    });
}

#[test]
fn a_node_is_cordoned_and_drained() {
    if !has_kubectl("kubectl::a_node_is_cordoned_and_drained") {
        return;
    }
    let cluster = Cluster::running("kubectl-drain");
    let ctl = |words: &str| cluster.says(&words.split(' ').collect::<Vec<_>>());
    cluster
        .kubelet
        .put("s.yaml", &pod("s", &[shell("c", LOOP)]));
    cluster.says_to(
        &["create", "-f", "-"],
        &text(&pod("a", &[shell("c", LOOP)])),
    );
    ctl("wait --for=condition=Ready pod/a --timeout=20s");
    cluster.wait("s-n1", "Ready", is_ready);
    ctl("cordon n1");
    assert!(ctl("get nodes").contains("SchedulingDisabled"));
    cluster.says_to(
        &["create", "-f", "-"],
        &text(&pod("b", &[shell("c", LOOP)])),
    );
    ctl("drain n1 --force --ignore-daemonsets --timeout=30s");
    // What was there is gone but the static pod's mirror; what came later waits, and an event says why.
    let names = ctl("get pods -o name");
    assert!(
        !names.contains("pod/a") && names.contains("pod/b") && names.contains("pod/s-n1"),
        "{names}"
    );
    until("an event that says why", GONE, || {
        ctl("get events").contains("FailedScheduling").then_some(())
    });
    ctl("uncordon n1");
    ctl("wait --for=condition=Ready pod/b --timeout=20s");
}

/// What kubectl sends as protobuf, and what it asks for whatever there is.
#[test]
fn a_node_and_a_pod_are_debugged_and_the_whole_is_dumped() {
    if !has_kubectl("kubectl::a_node_and_a_pod_are_debugged_and_the_whole_is_dumped") {
        return;
    }
    let cluster = Cluster::running("kubectl-debug");
    let ctl = |words: &str| cluster.says(&words.split(' ').collect::<Vec<_>>());
    let image = format!("--image={}", variable("HK_BUSYBOX_IMAGE"));
    let told = ctl(&format!("debug node/n1 {image} -- ls /host"));
    let name = told
        .split(' ')
        .find(|word| word.starts_with("node-debugger-n1-"));
    let name = name.unwrap_or_else(|| panic!("{told}"));
    until("the end of the node's debugger", SOON, || {
        let phase = ctl(&format!("get pod {name} -o jsonpath={{.status.phase}}"));
        (phase == "Succeeded").then_some(())
    });
    assert!(ctl(&format!("logs {name}")).contains("etc"));
    cluster.says_to(
        &["create", "-f", "-"],
        &text(&pod("a", &[shell("c", LOOP)])),
    );
    ctl("wait --for=condition=Ready pod/a --timeout=20s");
    ctl(&format!(
        "debug a --copy-to=b {image} --container=d -- sleep 1000"
    ));
    ctl("wait --for=condition=Ready pod/b --timeout=20s");
    let copied = ctl("get pod b -o jsonpath={.spec.containers[*].name}");
    assert_eq!(copied, "c d");
    // One that is put into the running pod sees the processes of the container that it aims at, in every profile.
    for profile in ["legacy", "general", "baseline", "netadmin", "sysadmin"] {
        let line = format!(
            "debug a --target=c --container=e-{profile} --profile={profile} {image} -- sh -c"
        );
        let mut words: Vec<&str> = line.split(' ').collect();
        // It tells, and stays.
        words.push("cat /proc/1/cmdline; echo; sleep 1000");
        cluster.says(&words);
        let path = "{.status.ephemeralContainerStatuses[?(@.name==\"e-PROFILE\")].state.running.startedAt}";
        let path = path.replace("PROFILE", profile);
        until("the debugger runs", SOON, || {
            let started = ctl(&format!("get pod a -o jsonpath={path}"));
            (!started.is_empty()).then_some(())
        });
        until("it tells of the other's process", SOON, || {
            let told = ctl(&format!("logs a -c e-{profile}"));
            told.contains("trap 'exit 0' TERM").then_some(())
        });
        let said = ctl(&format!("exec a -c e-{profile} -- echo here"));
        assert_eq!(said, "here\n");
    }
    // The image runs as root, and this profile does not allow that.
    ctl(&format!(
        "debug a --container=e-restricted --profile=restricted {image} -- true"
    ));
    until("the restricted one waits", SOON, || {
        let why = ctl(
            "get pod a -o jsonpath={.status.ephemeralContainerStatuses[?(@.name==\"e-restricted\")].state.waiting.reason}",
        );
        (why == "CreateContainerConfigError").then_some(())
    });
    assert_eq!(
        ctl("get pod a -o jsonpath={.status.containerStatuses[0].restartCount}"),
        "0"
    );
    let dump = ctl("cluster-info dump");
    for part in [
        "\"NodeList\"",
        "\"DeploymentList\"",
        "START logs for container c of pod default/a",
    ] {
        assert!(dump.contains(part), "{part}: {dump}");
    }
    let raw = "get --raw /api/v1/namespaces/default/pods/a/log?tailLines=-5";
    let refused = cluster
        .kubectl(&raw.split(' ').collect::<Vec<_>>())
        .output();
    let why = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(why.contains("tailLines: Invalid value: -5"), "{why}");
}

/// Pods are made and deleted while the process is killed again and again: what was acknowledged stays so.
#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    if !has_kubectl("kubectl::nothing_acknowledged_is_lost_by_kill_9") {
        return;
    }
    let mut cluster = Cluster::running("kubectl-kill");
    cluster.says_to(
        &["create", "-f", "-"],
        &text(&pod("stays", &[shell("c", LOOP)])),
    );
    let before = cluster.wait("stays", "Ready", is_ready);
    let (mut made, mut deleted) = (Vec::new(), Vec::new());
    for round in 0..6_u64 {
        let (enough, granted) = (AtomicBool::new(false), AtomicUsize::new(0));
        let names = std::thread::scope(|scope| {
            let maker = scope.spawn(|| {
                let mut acknowledged = Vec::new();
                let mut old: Option<String> = None;
                for number in 0..40 {
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("p-{round}-{number}");
                    let (status, _) = cluster.ask(
                        "POST",
                        "/api/v1/namespaces/default/pods",
                        Some(&pod(&name, &[shell("c", LOOP)])),
                    );
                    if status == 201 {
                        granted.fetch_add(1, Ordering::Relaxed);
                        acknowledged.push((name.clone(), false));
                        // Every other one goes again.
                        if let Some(old) = old.take() {
                            let path = format!("/api/v1/namespaces/default/pods/{old}");
                            let deleted = cluster.ask("DELETE", &path, None).0 == 200;
                            // Without an answer it may be gone or not.
                            acknowledged.retain(|(name, _)| *name != old);
                            if deleted {
                                acknowledged.push((old, true));
                            }
                        } else {
                            old = Some(name);
                        }
                    }
                }
                acknowledged
            });
            pause(Duration::from_millis(150 + round * 130));
            // However slow the machine is, there is something to be lost.
            until("pods to be granted", SOON, || {
                (granted.load(Ordering::Relaxed) >= 4).then_some(())
            });
            cluster.kubelet.strike();
            enough.store(true, Ordering::Relaxed);
            maker.join().unwrap()
        });
        for (name, is_deleted) in names {
            if is_deleted {
                made.retain(|n| *n != name);
                deleted.push(name);
            } else {
                made.push(name);
            }
        }
        cluster.kubelet.ended(Duration::from_secs(5)).unwrap();
        cluster.kubelet.start();
        cluster.node_ready();
    }
    assert!(made.len() > 6 && deleted.len() > 3, "{made:?} {deleted:?}");
    for name in &made {
        cluster.wait(name, "Ready", is_ready);
    }
    for name in &deleted {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        until(&format!("{name} to be gone"), GONE, || {
            (cluster.ask("GET", &path, None).0 == 404).then_some(())
        });
    }
    let after = cluster.wait("stays", "Ready", is_ready);
    let container = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
    assert_eq!(
        container(&after),
        container(&before),
        "the kills touched what ran"
    );
    let began = Instant::now();
    cluster.says(&["delete", "pods", "--all", "--wait=true"]);
    eprintln!(
        "[{} pods survived 6 kills; all deleted in {:.1} s] ",
        made.len(),
        began.elapsed().as_secs_f64()
    );
}
