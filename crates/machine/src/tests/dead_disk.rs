//! A file system that never answers lies under host paths: it holds up the pods that use it, and nothing else of the node. One that
//! stands still lies under the kubelet's root directory: what needs no write there goes on.
//!
//! Upstream: none

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::ApiServer;
use crate::dead_mount::{DeadMount, FreezableMount};
use crate::http::Http;
use crate::kubelet::{Kubelet, SOON, container, idle, is_ready, pod, shell};
use crate::node::{pause, until};

/// Far longer than a pod takes, far shorter than what hangs.
const QUICK: Duration = Duration::from_secs(20);

/// An idle pod with a host path, of which the container mounts all or a part.
fn on(path: &str, name: &str, part: Option<&str>, kind: &str) -> Value {
    let mut wanted = idle(name);
    let mut mount = json!({"name": "data", "mountPath": "/data"});
    if let Some(part) = part {
        mount["subPath"] = json!(part);
    }
    wanted["spec"]["containers"][0]["volumeMounts"] = json!([mount]);
    wanted["spec"]["volumes"] = json!([{"name": "data", "hostPath": {"path": path, "type": kind}}]);
    wanted
}

#[test]
fn a_dead_file_system_under_host_paths_holds_up_its_own_pods_alone() {
    let mut kubelet = Kubelet::running("dead-disk");
    kubelet.put("before.yaml", &idle("before"));
    kubelet.wait_ready("before");
    let at = kubelet.base.join("dead");
    let dead = DeadMount::new(&at);
    let path = at.to_str().unwrap().to_owned();
    for n in 0..20 {
        let (part, kind) = if n % 2 == 0 {
            (None, "Directory")
        } else {
            (Some("part"), "")
        };
        let name = format!("hung-{n}");
        kubelet.put(&format!("{name}.yaml"), &on(&path, &name, part, kind));
    }
    // Said of the pod, with its volume; not said before a call is given up.
    kubelet.wait_log("volume \\\"data\\\" at");
    kubelet.wait_log("has not returned since");

    let began = Instant::now();
    kubelet.put("after.yaml", &idle("after"));
    kubelet.wait("after", "Ready", QUICK, is_ready);
    let line = "echo told > /dev/termination-log; exit 3";
    let mut ends = pod("ends", &[shell("c", line)]);
    ends["spec"]["restartPolicy"] = json!("Never");
    kubelet.put("ends.yaml", &ends);
    let ended = kubelet.wait("ends", "Failed", QUICK, |pod| {
        pod["status"]["phase"] == "Failed"
    });
    let end = &container(&ended, "c")["state"]["terminated"];
    assert_eq!(end["message"], "told\n", "read meanwhile: {end:#}");
    kubelet.take("before.yaml");
    kubelet.wait_gone("before");
    eprint!("[others: {:.1?}] ", began.elapsed());
    let (status, text) = kubelet.main_port("/healthz", &[]);
    assert_eq!(
        (status, text.as_str()),
        (200, "ok"),
        "a pod is not the node"
    );
    let tasks = kubelet.main_json("/debug/tasks");
    let lanes = tasks["hostWork"].as_array().unwrap();
    let lane = lanes.iter().find(|lane| lane["lane"] == "host paths");
    let hung = lane.unwrap()["hung"].as_array().unwrap();
    assert!(
        (1..=20).contains(&hung.len()) && hung[0]["what"].as_str().unwrap().contains(&path),
        "{lanes:#?}"
    );
    eprint!("[{} threads hang] ", hung.len());

    kubelet.kill();
    kubelet.start();
    kubelet.wait_ready("after");
    let began = Instant::now();
    kubelet.put("later.yaml", &idle("later"));
    kubelet.wait("later", "Ready", QUICK, is_ready);
    // A pod that hangs can be taken away all the same, if nothing of it can come to be mounted later.
    kubelet.take("hung-0.yaml");
    kubelet.wait_gone("hung-0");
    eprint!("[after a restart: {:.1?}] ", began.elapsed());

    drop(dead);
    let began = Instant::now();
    for n in 1..20 {
        kubelet.wait(&format!("hung-{n}"), "Ready", SOON * 2, is_ready);
    }
    eprint!("[all go on after {:.1?}] ", began.elapsed());
}

#[test]
fn a_path_of_an_unset_type_is_not_touched() {
    let mut kubelet = Kubelet::running("unset-type");
    let at = kubelet.base.join("dead");
    let dead = DeadMount::new(&at);
    // Not mounted by any container: only the check of its type could hang.
    let mut wanted = on(at.to_str().unwrap(), "untouched", None, "");
    wanted["spec"]["containers"][0]["volumeMounts"] = json!([]);
    kubelet.put("untouched.yaml", &wanted);
    kubelet.wait("untouched", "Ready", QUICK, is_ready);
    drop(dead);
}

/// How long the root directory stands still.
const STILL: Duration = Duration::from_secs(60);

/// The kubelet renews its lease each 10 s; a write at the end of one period and one at the begin of the next, with some time to ask.
const LONGEST_GAP: Duration = Duration::from_secs(13);

/// `/healthz`, the lease and pods that run go on while nothing can be written below the root directory; what waited happens after it.
#[test]
fn a_root_directory_that_stands_still_holds_up_what_writes_there_alone() {
    let mut kubelet = Kubelet::new("still-root");
    let mut disk = FreezableMount::new(&kubelet.root);
    let mut api = ApiServer::beside(&kubelet);
    api.start();
    let kubeconfig = format!("--kubeconfig={}", api.kubeconfig().display());
    kubelet.flags.push(kubeconfig);
    kubelet.start();
    kubelet.put("runs.yaml", &idle("runs"));
    let mut ends = pod("ends", &[shell("c", "sleep 25; exit 3")]);
    ends["spec"]["restartPolicy"] = json!("Never");
    kubelet.put("ends.yaml", &ends);
    kubelet.wait_ready("runs");
    kubelet.wait_ready("ends");
    let node = |api: &ApiServer| api.ask("GET", "/api/v1/nodes/n1", None).1;
    until("the node to be Ready", SOON, || {
        is_ready(&node(&api)).then_some(())
    });

    disk.freeze();
    let began = Instant::now();
    kubelet.put("later.yaml", &idle("later"));
    let port = &kubelet.config["healthzPort"];
    let mut health = Http::new(format!("127.0.0.1:{port}"));
    let renewed = |api: &ApiServer| {
        let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
        let lease = api.ask("GET", path, None).1;
        lease["spec"]["renewTime"].as_str().map(str::to_owned)
    };
    let (mut last, mut since) = (renewed(&api), Instant::now());
    assert!(last.is_some(), "there is a lease");
    let (mut gap, mut slowest, mut shown) = (Duration::ZERO, Duration::ZERO, None);
    while began.elapsed() < STILL {
        let asked = Instant::now();
        let (status, _) = health.get("/healthz").unwrap();
        slowest = slowest.max(asked.elapsed());
        assert_eq!(status, 200);
        let now = renewed(&api);
        gap = gap.max(since.elapsed());
        if now != last {
            (last, since) = (now, Instant::now());
        }
        let ended = kubelet.pod("ends").unwrap();
        if shown.is_none() && ended["status"]["phase"] == "Failed" {
            shown = Some(began.elapsed());
            assert_eq!(container(&ended, "c")["state"]["terminated"]["exitCode"], 3);
        }
        let runs = kubelet.pod("runs").unwrap();
        assert!(is_ready(&runs), "it runs on: {:#}", runs["status"]);
        pause(Duration::from_millis(500));
    }
    let said = &node(&api)["status"]["conditions"];
    disk.thaw();
    eprint!(
        "[slowest /healthz {slowest:.1?}, longest gap of the lease {gap:.1?}, end shown after {shown:.1?}] "
    );
    assert!(
        slowest < Duration::from_secs(1),
        "/healthz took {slowest:?}"
    );
    assert!(gap < LONGEST_GAP, "the lease was not renewed for {gap:?}");
    let shown = shown.expect("the end of a pod is shown meanwhile");
    assert!(shown < Duration::from_secs(40), "shown after {shown:?}");
    let said = said.to_string();
    let wanted = format!(
        "the journal below the root directory {} is not written",
        kubelet.root.display()
    );
    assert!(said.contains(&wanted), "the Node says what hangs: {said}");

    let began = Instant::now();
    kubelet.wait("later", "Ready", QUICK, is_ready);
    until("the node to be Ready again", SOON, || {
        is_ready(&node(&api)).then_some(())
    });
    let end = kubelet.pod("ends").unwrap();
    assert_eq!(end["status"]["phase"], "Failed");
    eprint!("[all goes on after {:.1?}] ", began.elapsed());
    drop(kubelet);
    drop(disk);
}
