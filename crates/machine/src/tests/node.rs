//! `hyperkube node` asked by plain requests: what kubectl's commands come down to, for machines without kubectl.
//!
//! Upstream: test/e2e/common/node in what it looks at

use serde_json::{Value, json};
use testkit::exposition;

use crate::cluster::{Cluster, GONE};
use crate::kubelet::{SOON, container, is_ready, pod, shell};
use crate::node::{settles, until, variable};
use crate::stream::websocket;

const LOOP: &str = "trap 'exit 0' TERM; i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done";
const PODS: &str = "/api/v1/namespaces/default/pods";

#[test]
fn requests_behind_kubectls_commands_work() {
    let cluster = Cluster::running("requests");
    let mut watch = cluster.stream(
        "GET",
        &format!("{PODS}?watch=1&allowWatchBookmarks=true"),
        "",
    );
    assert_eq!(watch.status, 200, "{}", watch.head);
    let web = json!({"name": "web", "image": variable("HK_WEB_IMAGE")});
    let made = cluster.asked("POST", PODS, Some(&pod("a", &[shell("c", LOOP), web])));
    let uid = made["metadata"]["uid"].as_str().unwrap();
    cluster.wait("a", "Ready", is_ready);
    // The watcher saw it come, and saw it become Ready.
    watch.until("\"type\":\"ADDED\"");
    watch.until("\"phase\":\"Running\"");
    let figures = cluster.asked("GET", "/api/v1/nodes/n1/proxy/metrics", None);
    let lines = exposition::differences(figures.as_str().unwrap(), exposition::IN_CLUSTER).unwrap();
    assert!(lines.is_empty(), "{lines:#?}");

    let labels = json!({"metadata": {"labels": {"tier": "front"}}});
    cluster.asked("PATCH", &format!("{PODS}/a"), Some(&labels));
    let found = cluster.asked("GET", &format!("{PODS}?labelSelector=tier%3Dfront"), None);
    assert_eq!(found["items"].as_array().unwrap().len(), 1);

    let (status, log) = cluster.ask(
        "GET",
        &format!("{PODS}/a/log?container=c&tailLines=1"),
        None,
    );
    assert!(
        status == 200 && log.as_str().unwrap().starts_with("line "),
        "{status} {log}"
    );
    let command = "command=sh&command=-c&command=echo+out%3B+exit+3&stdout=true&container=c";
    let mut exec = cluster.stream(
        "GET",
        &format!("{PODS}/a/exec?{command}"),
        &websocket("v4.channel.k8s.io"),
    );
    assert_eq!(exec.status, 101, "{}", exec.head);
    let [_, out, _, ended] = exec.channels();
    assert_eq!(out, "out\n");
    let ended: Value = serde_json::from_str(&ended).unwrap();
    assert_eq!(ended["details"]["causes"][0]["message"], "3", "{ended}");
    let mut attach = cluster.stream(
        "GET",
        &format!("{PODS}/a/attach?container=c&stdout=true"),
        &websocket("v4.channel.k8s.io"),
    );
    attach.channel_until(1, "line ");
    drop(attach);
    let mut forward = cluster.stream(
        "GET",
        &format!("{PODS}/a/portforward?ports=8080"),
        &websocket("v4.channel.k8s.io"),
    );
    assert_eq!(forward.status, 101, "{}", forward.head);
    // Two channels a port, data and error; each begins with the port's number.
    forward.send(0, b"GET / HTTP/1.0\r\n\r\n");
    let mut answer = String::new();
    while !answer.contains("hyperkube") {
        let (_, bytes) = forward.receive().expect("the answer through the port");
        answer += &String::from_utf8_lossy(&bytes);
    }

    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a", "namespace": "default"}});
    cluster.asked("POST", &format!("{PODS}/a/eviction"), Some(&eviction));
    until("the pod to be gone", GONE, || {
        (cluster.ask("GET", &format!("{PODS}/a"), None).0 == 404).then_some(())
    });
    assert_eq!(cluster.kubelet.host_traces(uid), Vec::<String>::new());
    settles("its sandbox to go", SOON, || cluster.kubelet.traces(uid));
}

/// Config maps and secrets as variables and files, a token, Services' variables; a changed map reaches its file.
#[test]
fn an_ordinary_pod_has_all_it_needs() {
    let cluster = Cluster::running("ordinary");
    let map = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": value}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"p": "hidden"}});
    cluster.asked(
        "POST",
        "/api/v1/namespaces/default/configmaps",
        Some(&map("one")),
    );
    cluster.asked("POST", "/api/v1/namespaces/default/secrets", Some(&secret));
    let line = "env | sort; cat /m/k /s/p; echo; ls -l /m; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; \
                test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token; \
                trap 'exit 0' TERM; while :; do grep -q two /m/k && echo changed; sleep 0.2; done";
    let mut main = shell("c", line);
    main["env"] =
        json!([{"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]);
    main["envFrom"] = json!([{"prefix": "S_", "secretRef": {"name": "s"}}]);
    main["volumeMounts"] =
        json!([{"name": "m", "mountPath": "/m"}, {"name": "s", "mountPath": "/s"}]);
    let mut wanted = pod("a", &[main]);
    wanted["spec"]["volumes"] = json!([{"name": "m", "configMap": {"name": "m"}}, {"name": "s", "secret": {"secretName": "s"}}]);
    cluster.asked("POST", PODS, Some(&wanted));
    cluster.wait("a", "Ready", is_ready);
    let log = || {
        cluster
            .ask("GET", &format!("{PODS}/a/log"), None)
            .1
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let first = until("the log", GONE, || {
        Some(log()).filter(|log| log.contains("token\n"))
    });
    for part in [
        "FROM_MAP=one\n",
        "S_p=hidden\n",
        "KUBERNETES_SERVICE_HOST=",
        "onehidden\n",
        "default",
        "k -> ..data/k",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    let mut host = shell(
        "c",
        "test -n \"$POD_IP\" && test \"$POD_IP\" = \"$HOST_IP\"",
    );
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    host["env"] = json!([
        field("POD_IP", "status.podIP"),
        field("HOST_IP", "status.hostIP")
    ]);
    let mut of_host = pod("h", &[host]);
    of_host["spec"]["hostNetwork"] = json!(true);
    of_host["spec"]["restartPolicy"] = json!("Never");
    cluster.asked("POST", PODS, Some(&of_host));
    // An image that names no user runs as root.
    let mut no_root = pod("r", &[shell("c", "id")]);
    no_root["spec"]["securityContext"] = json!({"runAsNonRoot": true});
    cluster.asked("POST", PODS, Some(&no_root));
    let refused = cluster.wait("r", "refused", |pod| {
        container(pod, "c")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    });
    let waiting = &container(&refused, "c")["state"]["waiting"]["message"];
    assert!(
        waiting.as_str().unwrap().contains("image will run as root"),
        "{waiting}"
    );
    cluster.wait("h", "Succeeded", |pod| {
        assert_ne!(pod["status"]["phase"], "Failed", "the addresses differ");
        pod["status"]["phase"] == "Succeeded"
    });
    cluster.asked(
        "PUT",
        "/api/v1/namespaces/default/configmaps/m",
        Some(&map("two")),
    );
    until(
        "the change to reach the file",
        std::time::Duration::from_secs(90),
        || log().contains("changed").then_some(()),
    );
}

/// The grace of the deletion counts, also when it is longer than the pod's own.
#[test]
fn a_deletion_gives_the_time_it_says() {
    let cluster = Cluster::running("grace");
    let slow = "trap 'sleep 4; echo done > /out/done; exit 0' TERM; while :; do sleep 0.05; done";
    let mut main = shell("c", slow);
    main["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    let mut wanted = pod("slow", &[main]);
    wanted["spec"]["terminationGracePeriodSeconds"] = json!(1);
    wanted["spec"]["volumes"] =
        json!([{"name": "out", "hostPath": {"path": cluster.kubelet.base}}]);
    let init = shell("first", "while [ ! -e /out/go ]; do sleep 0.05; done");
    wanted["spec"]["initContainers"] = json!([init]);
    wanted["spec"]["initContainers"][0]["volumeMounts"] =
        wanted["spec"]["containers"][0]["volumeMounts"].clone();
    cluster.asked("POST", PODS, Some(&wanted));
    // An init container that runs has started, though it is not ready.
    cluster.wait("slow", "initializing", |pod| {
        let status = &pod["status"]["initContainerStatuses"][0];
        status["state"]["running"].is_object()
            && status["started"] == true
            && status["ready"] == false
    });
    std::fs::write(cluster.kubelet.base.join("go"), "").unwrap();
    cluster.wait("slow", "Ready", is_ready);
    let delete = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 60});
    cluster.asked("DELETE", &format!("{PODS}/slow"), Some(&delete));
    until("the pod to be gone", GONE, || {
        (cluster.ask("GET", &format!("{PODS}/slow"), None).0 == 404).then_some(())
    });
    let done = std::fs::read_to_string(cluster.kubelet.base.join("done"));
    assert_eq!(done.unwrap(), "done\n");
}

/// Who loses patience need not wait for what was asked first.
#[test]
fn a_shorter_grace_ends_a_stop_that_is_under_way() {
    let cluster = Cluster::running("shorter");
    // It never ends by itself.
    let deaf = || shell("c", "trap '' TERM; while :; do sleep 1; done");
    for name in ["shorter", "forced", "again"] {
        cluster.asked("POST", PODS, Some(&pod(name, &[deaf()])));
        cluster.wait(name, "Ready", is_ready);
    }
    let delete = |name: &str, seconds: u32| {
        let options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": seconds});
        cluster.asked("DELETE", &format!("{PODS}/{name}"), Some(&options));
    };
    let is_being_stopped = |name: &str| {
        let line = format!("Pod is being stopped\" pod=\"default/{name}\"");
        cluster.kubelet.wait_log(&line);
    };
    delete("shorter", 90);
    is_being_stopped("shorter");
    let began = std::time::Instant::now();
    delete("shorter", 2);
    until("the pod to be gone", GONE, || {
        (cluster.ask("GET", &format!("{PODS}/shorter"), None).0 == 404).then_some(())
    });
    let shortened = began.elapsed();
    assert!(shortened < std::time::Duration::from_secs(20));
    // By force, a moment after a deletion with its grace. A busy machine may be slow once.
    let forced = ["forced", "again"].map(|name| {
        delete(name, 30);
        is_being_stopped(name);
        let began = std::time::Instant::now();
        delete(name, 0);
        until("the pod to be gone", GONE, || {
            let running = cluster.kubelet.runtime.running();
            let is_gone = cluster.ask("GET", &format!("{PODS}/{name}"), None).0 == 404;
            (is_gone && !running.keys().any(|(pod, _)| pod == name)).then_some(())
        });
        began.elapsed()
    });
    eprint!("[{shortened:.1?}, forced {forced:.1?}] ");
    assert!(forced.into_iter().min() < Some(std::time::Duration::from_secs(3)));
}
