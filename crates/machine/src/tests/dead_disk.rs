//! A file system that never answers lies under host paths: it holds up the pods that use it, and nothing else of the node.
//!
//! Upstream: none

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::dead_mount::DeadMount;
use crate::kubelet::{Kubelet, SOON, container, idle, is_ready, pod, shell};

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
