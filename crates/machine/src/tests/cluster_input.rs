//! Bad input of a node in a cluster, with the real binary: what is wrong is named, what can go on goes on, and nothing is lost.
//!
//! Upstream: none

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{ApiServer, Cluster};
use crate::kubelet::{Kubelet, SOON, container, idle, is_ready, pod, shell};
use crate::node::until;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A kubelet that joins by a file that is not there yet, beside an API server that runs.
fn apart(name: &str) -> (Kubelet, ApiServer) {
    let mut kubelet = Kubelet::new(name);
    let mut api = ApiServer::beside(&kubelet);
    api.start();
    let file = kubelet.base.join("kubelet.kubeconfig");
    kubelet
        .flags
        .push(format!("--kubeconfig={}", file.display()));
    (kubelet, api)
}

fn give(kubelet: &Kubelet, kubeconfig: &str) {
    fs::write(kubelet.base.join("kubelet.kubeconfig"), kubeconfig).unwrap();
}

/// A kubeconfig with other lines in the place of those with these keys.
fn with(kubeconfig: &str, lines: &[(&str, &String)]) -> String {
    let line = |line: &str| {
        let (space, word) = line.split_at(line.len() - line.trim_start().len());
        let other = lines.iter().find(|(key, _)| word.starts_with(key));
        other.map_or_else(|| line.to_owned(), |(_, other)| format!("{space}{other}"))
    };
    kubeconfig.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn wait_node(api: &ApiServer) -> Value {
    until("the node to be Ready", SOON, || {
        let (status, node) = api.ask("GET", "/api/v1/nodes/n1", None);
        (status == 200 && is_ready(&node)).then_some(node)
    })
}

/// Words without spaces in them.
fn openssl(words: &str) {
    let made = Command::new("openssl")
        .args(words.split(' '))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "openssl {words}: {said}");
}

#[test]
fn a_kubeconfig_that_cannot_be_read_is_named() {
    let (kubelet, _api) = apart("bad-kubeconfig");
    for (text, words) in [
        ("clusters: [{name: k, cluster: {server: [", vec!["line 1"]),
        (
            "current-context: x\ncontexts: [{name: c}]",
            vec!["none named \"x\"", "only \"c\""],
        ),
    ] {
        give(&kubelet, text);
        let output = kubelet.output();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("kubelet.kubeconfig"), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

/// Nothing that is shown to the API server, or by it, may keep static pods from running; the node joins when it is mended.
#[test]
fn a_wrong_authority_and_an_expired_certificate_are_named_and_survived() {
    let (mut kubelet, mut api) = apart("bad-identity");
    let good = fs::read_to_string(api.kubeconfig()).unwrap();
    kubelet.put("static.yaml", &idle("static"));
    let base = kubelet.base.clone();
    let at = |name: &str| base.join(name).display().to_string();

    // Another authority than the one that made the server's certificate.
    let (key, other) = (at("other.key"), at("other.crt"));
    openssl(&format!(
        "req -x509 -newkey ed25519 -nodes -subj /CN=other -keyout {key} -out {other}"
    ));
    let file = format!("certificate-authority: {other}");
    let wrong = with(&good, &[("certificate-authority-data", &file)]);
    give(&kubelet, &wrong);
    kubelet.start();
    kubelet.wait_ready("static");
    kubelet.wait_log(&format!("https://127.0.0.1:{}", api.port));
    kubelet.wait_log("UnknownIssuer");
    kubelet.kill();

    // A client certificate whose time has passed, made by the right authority.
    let (ca, ca_key) = (api.dir.join("pki/ca.crt"), api.dir.join("pki/ca.key"));
    let (request, expired) = (at("node.csr"), at("node.crt"));
    openssl(&format!(
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {key}"
    ));
    openssl(&format!(
        "req -new -key {key} -subj /O=system:nodes/CN=system:node:n1 -out {request}"
    ));
    let (ca, ca_key, serial) = (ca.display(), ca_key.display(), at("serial"));
    openssl(&format!(
        "x509 -req -in {request} -CA {ca} -CAkey {ca_key} -CAcreateserial -CAserial {serial} -days -1 -out {expired}"
    ));
    let (certificate, key) = (
        format!("client-certificate: {expired}"),
        format!("client-key: {key}"),
    );
    let late = with(
        &good,
        &[
            ("client-certificate-data", &certificate),
            ("client-key-data", &key),
        ],
    );
    give(&kubelet, &late);
    kubelet.start();
    kubelet.wait_ready("static");
    kubelet.wait_log("node.crt");
    kubelet.wait_log("expired");
    kubelet.kill();

    give(&kubelet, &good);
    kubelet.start();
    wait_node(&api);
    api.kill();
}

#[test]
fn a_node_object_of_somebody_else_is_taken_over_and_other_nodes_are_out_of_reach() {
    let (mut kubelet, api) = apart("somebodys-node");
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"owner": "somebody"}}});
    let made: Vec<Value> = ["n1", "n2"]
        .iter()
        .map(|name| {
            let (status, made) = api.ask("POST", "/api/v1/nodes", Some(&node(name)));
            assert_eq!(status, 201, "{made}");
            made
        })
        .collect();
    let good = fs::read_to_string(api.kubeconfig()).unwrap();
    give(&kubelet, &good);
    kubelet.start();
    let ours = wait_node(&api);
    assert_eq!(ours["metadata"]["uid"], made[0]["metadata"]["uid"]);
    assert_eq!(ours["metadata"]["labels"]["owner"], "somebody");
    assert_eq!(ours["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
    kubelet.kill();

    // The same identity under another name: refused, and the other Node is as it was.
    kubelet
        .flags
        .retain(|flag| !flag.starts_with("--hostname-override"));
    kubelet.flags.push("--hostname-override=n2".to_owned());
    kubelet.start();
    kubelet.wait_log("is not allowed to modify node");
    let (_, other) = api.ask("GET", "/api/v1/nodes/n2", None);
    assert_eq!(
        other["metadata"]["resourceVersion"],
        made[1]["metadata"]["resourceVersion"]
    );
}

#[test]
fn a_storm_of_other_writers_loses_no_status() {
    let cluster = Cluster::running("storm");
    let brief = shell(
        "c",
        "trap 'exit 0' TERM; while [ ! -e /out/end ]; do sleep 0.02; done; exit 7",
    );
    let mut wanted = pod("a", &[brief]);
    wanted["spec"]["restartPolicy"] = json!("Never");
    wanted["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
    wanted["spec"]["volumes"] =
        json!([{"name": "out", "hostPath": {"path": cluster.kubelet.base}}]);
    cluster.asked("POST", PODS, Some(&wanted));
    cluster.wait("a", "Ready", is_ready);
    // Somebody writes the whole status and the labels, over and over, as it was: the kubelet's word must come through.
    let (_, before) = cluster.ask("GET", &format!("{PODS}/a"), None);
    for turn in 0..60 {
        if turn == 20 {
            fs::write(cluster.kubelet.base.join("end"), "").unwrap();
        }
        let label = json!({"metadata": {"labels": {"turn": turn.to_string()}}});
        cluster.asked("PATCH", &format!("{PODS}/a"), Some(&label));
        let old = json!({"status": before["status"]});
        let (code, answer) = cluster.ask("PATCH", &format!("{PODS}/a/status"), Some(&old));
        // Once the end of the container is written, nobody takes it back: as upstream, the server refuses that.
        let is_refused = code == 422
            && answer["message"]
                .as_str()
                .unwrap()
                .contains("non-terminated");
        assert!(code == 200 || is_refused, "{code} {answer}");
    }
    let ended = cluster.wait("a", "Failed", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(container(&ended, "c")["state"]["terminated"]["exitCode"], 7);
    assert_eq!(ended["metadata"]["labels"]["turn"], "59");
}

#[test]
fn objects_that_are_too_large_are_refused_and_the_rest_goes_on() {
    let cluster = Cluster::running("too-large");
    let map = |name: &str, bytes: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "x".repeat(bytes)}});
    let (status, answer) = cluster.ask("POST", MAPS, Some(&map("huge", 3 << 20)));
    assert_eq!(status, 413, "{answer}");
    assert_eq!(answer["reason"], "RequestEntityTooLarge");
    assert_eq!(cluster.ask("GET", &format!("{MAPS}/huge"), None).0, 404);
    // Within the request, above what a config map may hold.
    let (status, answer) = cluster.ask("POST", MAPS, Some(&map("large", 1_100_000)));
    assert_eq!(
        (status, &answer["reason"]),
        (422, &json!("Invalid")),
        "{answer}"
    );
    cluster.asked("POST", MAPS, Some(&map("fits", 900_000)));
}

/// A store that is not one any more is left alone, named, and used again when it is put back.
#[test]
fn a_corrupted_store_is_named_and_left_as_it_is() {
    let kubelet = Kubelet::new("corrupted");
    let mut api = ApiServer::beside(&kubelet);
    api.start();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"k": "v"}});
    assert_eq!(api.ask("POST", MAPS, Some(&map)).0, 201);
    api.kill();
    let store = api.dir.join("store.redb");
    let good = fs::read(&store).unwrap();
    for (what, bad) in [
        ("overwritten", vec![0x5a; good.len()]),
        ("cut short", good[..good.len() / 3].to_vec()),
        ("something else", b"apiVersion: v1\n".to_vec()),
    ] {
        fs::write(&store, &bad).unwrap();
        let output = api.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(said.contains("store.redb"), "{what}: {said}");
        assert!(
            fs::read(&store).unwrap() == bad,
            "{what}: it was written to"
        );
    }
    fs::write(&store, &good).unwrap();
    api.start();
    let (status, kept) = api.ask("GET", &format!("{MAPS}/kept"), None);
    assert_eq!((status, &kept["data"]["k"]), (200, &json!("v")));
}
