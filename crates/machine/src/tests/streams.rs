//! Exec, attach, port-forward, run and logs on a real containerd, through the main port, as the API server asks for them.
//!
//! Upstream: test/e2e/common/node/pods.go and test/e2e/kubectl in what they look at

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, container, pod, shell};
use crate::node::{until, variable};
use crate::stream::{Stream, websocket};

const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn exec(kubelet: &Kubelet, query: &str) -> Stream {
    let path = format!("/exec/default/a-n1/c?{query}");
    let stream = Stream::open(kubelet, "GET", &path, &websocket("v4.channel.k8s.io"));
    assert_eq!(stream.status, 101, "{}", stream.head);
    stream
}

#[test]
fn commands_run_over_websocket_and_spdy() {
    let mut kubelet = Kubelet::running("exec");
    kubelet.put("a.yaml", &pod("a", &[shell("c", IDLE)]));
    kubelet.wait_ready("a");

    let mut stream = exec(&kubelet, "command=cat&input=1&output=1");
    assert!(
        stream
            .head
            .to_lowercase()
            .contains("sec-websocket-protocol: v4.channel.k8s.io"),
        "{}",
        stream.head
    );
    stream.send(0, b"hello\n");
    stream.channel_until(1, "hello\n");
    stream.send(0, b"again\n");
    stream.channel_until(1, "again\n");
    drop(stream);

    let script = "command=sh&command=-c&command=echo+out%3B+echo+err+%3E%262%3B+exit+3";
    let [_, out, err, status] = exec(&kubelet, &format!("{script}&output=1&error=1")).channels();
    assert_eq!((&*out, &*err), ("out\n", "err\n"));
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["status"], "Failure", "{status}");
    assert_eq!(status["details"]["causes"][0]["message"], "3", "{status}");

    // Much output passes whole; a terminal has one output.
    let script = "command=sh&command=-c&command=head+-c+500000+/dev/zero+|+tr+%27%5C0%27+x";
    let [_, out, _, status] = exec(&kubelet, &format!("{script}&output=1")).channels();
    assert_eq!((out.len(), out.trim_matches('x')), (500_000, ""));
    assert!(status.contains("Success"), "{status}");
    // As people use a terminal. (Short commands on one lose their output in this runtime, asked directly as well.)
    let mut stream = exec(&kubelet, "command=sh&input=1&output=1&error=1&tty=1");
    stream.send(0, b"test -t 0 && echo a$((1+1))b >&2\n");
    stream.channel_until(1, "a2b\r\n");
    // Its size, on a channel of its own.
    stream.send(4, b"{\"Width\":97,\"Height\":31}");
    stream.send(0, b"while ! stty size | grep 97; do sleep 0.1; done\n");
    stream.channel_until(1, "31 97\r\n");
    stream.send(0, b"exit 4\n");
    assert!(stream.channels()[3].contains("\"message\":\"4\""));

    // SPDY as it is: a PING frame comes back.
    let spdy = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
    let path = "/exec/default/a-n1/c?command=cat&input=1&output=1";
    let mut stream = Stream::open(&kubelet, "POST", path, spdy);
    assert_eq!(stream.status, 101, "{}", stream.head);
    assert!(
        stream
            .head
            .to_lowercase()
            .contains("x-stream-protocol-version: v4.channel.k8s.io"),
        "{}",
        stream.head
    );
    let ping = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    stream.send_raw(&ping);
    assert_eq!(stream.exact(ping.len()), ping);
    // The runtime does not speak the fifth version; its word passes.
    let refused = Stream::open(&kubelet, "GET", path, &websocket("v5.channel.k8s.io"));
    assert_eq!(refused.status, 403, "{}", refused.head);

    let post = &["-X", "POST"];
    assert_eq!(
        kubelet.main_port("/run/default/a-n1/c?cmd=echo+a+b", post),
        (200, "a b\n".to_owned())
    );
    let (status, text) = kubelet.main_port("/run/default/a-n1/c?cmd=ls+/nowhere", post);
    assert_eq!(status, 500);
    assert!(
        text.starts_with("command 'ls /nowhere' exited with 1: ls: /nowhere"),
        "{text}"
    );
    for (path, status, text) in [
        ("/exec/default/b-n1/c?output=1", 404, "pod does not exist"),
        (
            "/exec/default/a-n1/x?output=1",
            500,
            "container not found (\"x\")",
        ),
        (
            "/exec/default/a-n1/c",
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        (
            "/exec/default/a-n1/c?output=1",
            500,
            "Upgrade request required\n",
        ),
    ] {
        assert_eq!(
            kubelet.main_port(path, &[]),
            (status, text.to_owned()),
            "{path}"
        );
    }
    let (status, text) = kubelet.main_port("/checkpoint/default/a-n1/c", post);
    assert_eq!(status, 500);
    assert!(
        text.starts_with("checkpointing of default/a-n1/c failed (rpc error: code = "),
        "{text}"
    );
}

#[test]
fn containers_are_attached_to_and_ports_forwarded() {
    let mut kubelet = Kubelet::running("attach");
    let mut reader = shell(
        "c",
        "trap 'exit 0' TERM; while read -r line; do echo \"got $line\"; done",
    );
    reader["stdin"] = json!(true);
    let web = json!({"name": "web", "image": variable("HK_WEB_IMAGE")});
    kubelet.put("a.yaml", &pod("a", &[reader, web]));
    kubelet.wait_ready("a");

    let path = "/attach/default/a-n1/c?input=1&output=1&error=1";
    let mut stream = Stream::open(&kubelet, "GET", path, &websocket("v4.channel.k8s.io"));
    assert_eq!(stream.status, 101, "{}", stream.head);
    stream.send(0, b"one\n");
    stream.channel_until(1, "got one\n");
    stream.send(0, b"two\n");
    stream.channel_until(1, "got two\n");
    drop(stream);

    let path = "/portForward/default/a-n1?port=8080";
    let mut stream = Stream::open(&kubelet, "GET", path, &websocket("v4.channel.k8s.io"));
    assert_eq!(stream.status, 101, "{}", stream.head);
    // Each channel says its port first, low byte before high.
    for channel in [0, 1] {
        assert_eq!(
            stream.receive(),
            Some((channel, 8080_u16.to_le_bytes().to_vec()))
        );
    }
    stream.send(0, b"GET / HTTP/1.0\r\nHost: x\r\n\r\n");
    let answer = stream.channel_until(0, "\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"),
        "{answer}"
    );
    for (path, status, text) in [
        ("/portForward/default/b-n1", 404, "pod does not exist"),
        ("/portForward/default/a-n1/another", 404, "pod not found"),
        (
            "/portForward/default/a-n1",
            500,
            "Upgrade request required\n",
        ),
    ] {
        assert_eq!(
            kubelet.main_port(path, &[]),
            (status, text.to_owned()),
            "{path}"
        );
    }
    let refused = Stream::open(
        &kubelet,
        "GET",
        "/portForward/default/a-n1",
        &websocket("v4.channel.k8s.io"),
    );
    assert_eq!(refused.status, 400, "{}", refused.head);
}

/// The directory of the one pod's logs.
fn pod_logs(kubelet: &Kubelet) -> PathBuf {
    let mut entries = fs::read_dir(&kubelet.logs).unwrap();
    entries.next().unwrap().unwrap().path()
}

#[test]
fn logs_are_read_as_the_runtime_writes_them_and_followed_through_rotation() {
    let mut kubelet = Kubelet::running("logs");
    // One line is longer than the runtime keeps whole; then lines on demand.
    let talk = "echo first; head -c 100000 /dev/zero | tr '\\0' x; echo; sleep 0.3; echo wrong >&2; sleep 0.3; echo ready; \
                trap 'exit 0' TERM; n=0; while [ ! -e /tmp/end ]; do if [ -e /tmp/say ]; then n=$((n+1)); echo \"said $n\"; rm /tmp/say; fi; sleep 0.02; done; echo bye";
    let mut spec = pod("a", &[shell("c", talk)]);
    spec["spec"]["restartPolicy"] = json!("Never");
    kubelet.put("a.yaml", &spec);
    kubelet.wait_ready("a");
    let path = "/containerLogs/default/a-n1/c";
    let read = |query: &str| kubelet.main_port(&format!("{path}?{query}"), &[]);
    let whole = format!("first\n{}\nwrong\nready\n", "x".repeat(100_000));
    let size = whole.len();
    until("the container's lines", SOON, || {
        (read("").1.len() == size).then_some(())
    });
    assert!(read("").1 == whole, "{:?}…", &read("limitBytes=100").1);
    assert_eq!(read("tailLines=1"), (200, "ready\n".to_owned()));
    assert_eq!(read("tailLines=2&limitBytes=7").1.len(), 7);
    assert_eq!(read("sinceSeconds=3600").1, whole);
    assert_eq!(read("sinceTime=2999-01-01T00:00:00Z").1, "");
    let timed = read("tailLines=1&timestamps=true").1;
    let (time, rest) = timed.split_once(' ').unwrap();
    assert_eq!(
        (
            time.len() >= 30,
            time.parse::<jiff::Timestamp>().is_ok(),
            rest
        ),
        (true, true, "ready\n"),
        "{timed}"
    );
    assert_eq!(read("stream=Stdout").0, 400);
    assert_eq!(
        read("previous=true"),
        (
            400,
            "previous terminated container \"c\" in pod \"a-n1\" not found".to_owned()
        )
    );
    assert_eq!(read("tailLines=-1").0, 422);
    assert_eq!(
        kubelet.main_port("/containerLogs/default/a-n1/x", &[]),
        (404, "container \"x\" not found in pod \"a-n1\"".to_owned())
    );

    let mut follower = Stream::open(
        &kubelet,
        "GET",
        &format!("{path}?follow=true&tailLines=1"),
        "",
    );
    assert_eq!(follower.status, 200);
    follower.until("ready\n");
    let log = pod_logs(&kubelet).join("c/0.log");
    let (id, _) = kubelet
        .runtime
        .containers()
        .into_iter()
        .find(|(_, held)| held.pod == "a-n1")
        .unwrap();
    let touch = |file: &str| {
        let (status, text) = kubelet.main_port(
            &format!("/run/default/a-n1/c?cmd=touch+{file}"),
            &["-X", "POST"],
        );
        assert_eq!(status, 200, "{text}");
    };
    for round in 1..=6 {
        touch("/tmp/say");
        follower.until(&format!("said {round}\n"));
        if round % 2 == 0 {
            fs::rename(&log, log.with_extension(format!("log.{round}"))).unwrap();
            kubelet.runtime.reopen_log(&id);
        }
    }
    touch("/tmp/end");
    follower.until("bye\n");
    // The end of the chunks: the answer is complete.
    follower.until("0\r\n\r\n");
    kubelet.wait("a", "ended", SOON, |pod| {
        container(pod, "c")["state"]["terminated"].is_object()
    });
    // What was rotated away is not shown, as in upstream.
    assert_eq!(
        kubelet.main_port(&format!("{path}?follow=true"), &[]),
        (200, "bye\n".to_owned())
    );
    // Nobody leads the reader out by a link.
    fs::rename(&log, log.with_extension("kept")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &log).unwrap();
    let (status, text) = kubelet.main_port(path, &[]);
    assert_eq!(status, 200);
    assert!(
        text.starts_with("failed to open log file") && text.contains("symbolic links"),
        "{text}"
    );
}

#[test]
fn a_restarted_containers_former_log_is_previous() {
    let mut kubelet = Kubelet::running("previous");
    let once = "echo run; if [ -e /d/x ]; then trap 'exit 0' TERM; while :; do sleep 0.1; done; fi; touch /d/x; echo failing; exit 1";
    let mut c = shell("c", once);
    c["volumeMounts"] = json!([{"name": "d", "mountPath": "/d"}]);
    let mut spec = pod("a", &[c]);
    spec["spec"]["volumes"] = json!([{"name": "d", "emptyDir": {}}]);
    kubelet.put("a.yaml", &spec);
    kubelet.wait("a", "restarted", SOON, |pod| {
        container(pod, "c")["restartCount"] == 1
            && container(pod, "c")["state"]["running"].is_object()
    });
    let path = "/containerLogs/default/a-n1/c";
    assert_eq!(
        kubelet.main_port(&format!("{path}?previous=true"), &[]),
        (200, "run\nfailing\n".to_owned())
    );
    until("the second run's line", SOON, || {
        (kubelet.main_port(path, &[]).1 == "run\n").then_some(())
    });
    let (status, page) = kubelet.main_port("/logs/", &[]);
    assert_eq!(status, 200);
    assert!(page.starts_with("<!doctype html>\n"), "{page}");
    let (status, line) = kubelet.main_port("/debug/pprof/cmdline", &[]);
    assert_eq!(
        (status, line.contains("kubelet\0--config\0")),
        (200, true),
        "{line:?}"
    );
}

#[test]
fn a_list_of_weak_ciphers_is_refused_and_chosen_ones_are_the_only_ones() {
    let mut kubelet = Kubelet::new("ciphers");
    kubelet.config["tlsCipherSuites"] = json!(["TLS_RSA_WITH_AES_128_CBC_SHA"]);
    let ended = kubelet.output();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned()
        + &String::from_utf8_lossy(&ended.stdout);
    assert!(!ended.status.success());
    assert!(
        said.contains("no suite is left of TLS_RSA_WITH_AES_128_CBC_SHA: weak, and not available here; these are: "),
        "{said}"
    );
    kubelet.config["tlsCipherSuites"] = json!([
        "TLS_RSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    ]);
    kubelet.start();
    let with = |cipher: &str| {
        kubelet
            .main_port("/healthz", &["--tls-max", "1.2", "--ciphers", cipher])
            .0
    };
    assert_eq!(with("ECDHE-ECDSA-AES128-GCM-SHA256"), 200);
    assert_eq!(with("ECDHE-ECDSA-AES256-GCM-SHA384"), 0, "no handshake");
    assert_eq!(kubelet.main_port("/healthz", &[]).0, 200);
}
