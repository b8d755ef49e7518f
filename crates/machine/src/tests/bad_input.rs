//! Bad input of the binary: what is wrong is named, the exit status is upstream's, and what can go on goes on.
//!
//! Upstream: cmd/kubelet/app/server.go

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;

use crate::kubelet::{Kubelet, binary, idle};
use crate::node::until;

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn refused(output: &Output, words: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[test]
fn the_binary_tells_what_it_is() {
    let alone = run(&[]);
    assert!(
        alone.status.success() && said(&alone).contains("kubelet"),
        "{}",
        said(&alone)
    );
    for version in [run(&["--version"]), run(&["kubelet", "--version"])] {
        assert!(version.status.success());
        let said = said(&version);
        assert!(
            said.starts_with("Kubernetes v1.36.") && said.contains("+hyperkube."),
            "{said}"
        );
    }
    let help = run(&["kubelet", "--help"]);
    let said = said(&help);
    for flag in include_str!("../../../../parity/flags.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let name = flag.split('\t').next().unwrap().trim_start_matches("--");
        let hidden = ["azure-container-registry-config"].contains(&name);
        assert!(
            hidden || said.contains(&format!("--{name}")),
            "--{name} is not in --help"
        );
    }
    let place = std::env::temp_dir().join(format!("hyperkube-link-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    let link = place.join("kubelet");
    let _old = fs::remove_file(&link);
    symlink(binary(), &link).unwrap();
    let by_link = Command::new(&link).arg("--version").output().unwrap();
    fs::remove_dir_all(&place).unwrap();
    assert!(String::from_utf8_lossy(&by_link.stdout).starts_with("Kubernetes v1.36."));
}

#[test]
fn flags_and_configuration_that_are_wrong_are_named() {
    refused(
        &run(&["kubelet", "--no-such-flag=1"]),
        &["unknown flag: --no-such-flag"],
    );
    refused(&run(&["scheduler"]), &["scheduler", "kubelet", "apiserver"]);
    let mut kubelet = Kubelet::new("bad-config");
    kubelet.config["maxPods"] = json!(-1);
    kubelet.config["healthzPort"] = json!(70000);
    kubelet.config["imageGCHighThresholdPercent"] = json!(10);
    kubelet.config["imageGCLowThresholdPercent"] = json!(20);
    refused(
        &kubelet.output(),
        &["maxPods", "healthzPort", "imageGCLowThresholdPercent"],
    );
    kubelet.config = json!({"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "maxPods": "many"});
    refused(&kubelet.output(), &["kubelet.yaml", "maxPods"]);
}

#[test]
fn a_runtime_that_is_not_there_and_a_taken_port_are_named() {
    let mut kubelet = Kubelet::new("unreachable");
    let endpoint = kubelet.config["containerRuntimeEndpoint"].take();
    kubelet.config["containerRuntimeEndpoint"] = json!("unix:///run/nobody-listens-here.sock");
    refused(&kubelet.output(), &["nobody-listens-here.sock"]);
    kubelet.config["containerRuntimeEndpoint"] = endpoint;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    kubelet.config["readOnlyPort"] = json!(port);
    refused(&kubelet.output(), &[&port.to_string()]);
}

#[test]
fn a_cgroup_v1_host_is_refused_unless_allowed() {
    let mut kubelet = Kubelet::new("cgroup-v1");
    if kubelet.node.cgroup_v2 {
        return;
    }
    kubelet.config["failCgroupV1"] = json!(true);
    refused(
        &kubelet.output(),
        &[
            "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be removed in a future release",
        ],
    );
}

#[test]
fn a_full_disk_is_named_and_survived() {
    let mut kubelet = Kubelet::new("full-disk");
    fs::create_dir_all(&kubelet.root).unwrap();
    let mounted = Command::new("mount")
        .args([
            "-t",
            "tmpfs",
            "-o",
            "size=1m",
            "full",
            &kubelet.root.display().to_string(),
        ])
        .status()
        .unwrap();
    assert!(mounted.success());
    kubelet.start();
    kubelet.put("before.yaml", &idle("before"));
    kubelet.wait_ready("before");
    let filler = kubelet.root.join("filler");
    let written = fs::write(&filler, vec![0; 2 << 20]);
    assert!(written.is_err(), "the disk is not full");
    kubelet.put("full.yaml", &idle("full"));
    kubelet.wait_log("no space on the disk to write");
    assert!(!crate::kubelet::is_ready(&kubelet.pod("full").unwrap()));
    // Again on the full disk.
    kubelet.kill();
    kubelet.start();
    kubelet.wait_ready("before");
    fs::remove_file(filler).unwrap();
    kubelet.wait(
        "full",
        "Ready",
        Duration::from_secs(60),
        crate::kubelet::is_ready,
    );
    until("one container each", crate::kubelet::SOON, || {
        (kubelet.runtime.containers().len() == 2).then_some(())
    });
}
