//! Containers that can write the pods' logs, and directories that somebody makes among the pods' own.
//!
//! Upstream: none

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, container, idle, pod, shell};
use crate::node::until;

/// A line as the runtime writes logs, so that whoever reads the file as a log shows it.
const SECRET: &str = "2026-11-23T08:43:26.1Z stdout F the-administrators-key\n";

/// A pod that may write every log, does what the line says and fails.
fn writes_logs(kubelet: &Kubelet, name: &str, line: &str) -> Value {
    let mut fails = shell("c", &format!("{line}; exit 3"));
    fails["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    fails["volumeMounts"] = json!([{"name": "logs", "mountPath": "/logs"}]);
    let mut manifest = pod(name, &[fails]);
    manifest["spec"]["restartPolicy"] = json!("Never");
    manifest["spec"]["volumes"] = json!([{"name": "logs", "hostPath": {"path": kubelet.logs}}]);
    manifest
}

fn is_failed(pod: &Value) -> bool {
    pod["status"]["phase"] == "Failed"
}

#[test]
fn a_directory_of_logs_without_a_uid_costs_no_pod_its_data() {
    let mut kubelet = Kubelet::running("nobodys-logs");
    let mut keeper = shell("c", "echo kept > /data/file; while :; do sleep 1; done");
    keeper["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let mut manifest = pod("keeper", &[keeper]);
    manifest["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    kubelet.put("keeper.yaml", &manifest);
    let shown = kubelet.wait_ready("keeper");
    let uid = shown["metadata"]["uid"].as_str().unwrap().to_owned();
    let file = kubelet.root.join(format!(
        "pods/{uid}/volumes/kubernetes.io~empty-dir/data/file"
    ));
    let read = || {
        fs::read_to_string(&file)
            .ok()
            .filter(|text| text == "kept\n")
    };
    until("the pod's file", SOON, read);
    for name in ["default_x_", "default_x_.", "default_x_..", "__"] {
        fs::create_dir(kubelet.logs.join(name)).unwrap();
    }
    let orphan = kubelet.logs.join("default_gone_0a0b");
    fs::create_dir(&orphan).unwrap();
    kubelet.kill();
    kubelet.start();
    until("the orphan's logs to go", SOON, || {
        (!orphan.exists()).then_some(())
    });
    kubelet.wait_ready("keeper");
    assert_eq!(read().as_deref(), Some("kept\n"));
    assert!(kubelet.logs.join("default_x_").exists());
    let told = kubelet.log_text();
    assert!(
        told.contains("Ignoring a directory entry that is not a valid pod name"),
        "{told}"
    );
}

#[test]
fn a_log_that_became_a_link_is_neither_shown_nor_served() {
    let mut kubelet = Kubelet::running("log-links");
    let secret = kubelet.base.join("secret");
    fs::write(&secret, SECRET).unwrap();
    let line = format!(
        "for log in /logs/default_thief-n1_*/c/0.log; do rm $log; ln -s {} $log; done",
        secret.display()
    );
    kubelet.put("thief.yaml", &writes_logs(&kubelet, "thief", &line));
    let shown = kubelet.wait("thief", "Failed", SOON, is_failed);
    let uid = shown["metadata"]["uid"].as_str().unwrap().to_owned();
    let log = kubelet.logs.join(format!("default_thief-n1_{uid}/c/0.log"));
    assert_eq!(fs::read_link(&log).unwrap(), secret);
    assert_eq!(container(&shown, "c")["state"]["terminated"]["exitCode"], 3);
    assert!(
        !shown.to_string().contains("the-administrators-key"),
        "{shown:#}"
    );
    let path = "/containerLogs/default/thief-n1/c";
    let (_, served) = kubelet.main_port(path, &[]);
    assert!(!served.contains("the-administrators-key"), "{served}");
    // The message's own file, replaced while the kubelet does not run, and read again after.
    kubelet.kill();
    let messages = kubelet.root.join(format!("pods/{uid}/containers/c"));
    for entry in fs::read_dir(&messages).unwrap() {
        let message = entry.unwrap().path();
        fs::remove_file(&message).unwrap();
        symlink(&secret, &message).unwrap();
    }
    kubelet.start();
    let shown = kubelet.wait("thief", "Failed", SOON, is_failed);
    assert!(
        !shown.to_string().contains("the-administrators-key"),
        "{shown:#}"
    );
}

#[test]
fn logs_that_became_pipes_keep_nothing_waiting() {
    let mut kubelet = Kubelet::running("log-pipes");
    // More than there are threads for the disk.
    let names: Vec<String> = (0..18).map(|n| format!("pipe-{n}")).collect();
    for name in &names {
        let line =
            format!("for log in /logs/default_{name}-n1_*/c/0.log; do rm $log; mkfifo $log; done");
        kubelet.put(&format!("{name}.yaml"), &writes_logs(&kubelet, name, &line));
    }
    let failed = |kubelet: &mut Kubelet| {
        for name in &names {
            kubelet.wait(name, "Failed", Duration::from_secs(60), is_failed);
        }
    };
    failed(&mut kubelet);
    kubelet.put("before.yaml", &idle("before"));
    kubelet.wait_ready("before");
    let (_, served) = kubelet.main_port("/containerLogs/default/pipe-0-n1/c", &[]);
    assert!(served.contains("failed to open log file"), "{served}");
    kubelet.kill();
    kubelet.start();
    failed(&mut kubelet);
    kubelet.put("after.yaml", &idle("after"));
    kubelet.wait_ready("after");
}
