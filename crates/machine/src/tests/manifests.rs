//! What is wrong with manifests: named with file, line and field, and never the end of a pod that runs.
//!
//! Upstream: pkg/kubelet/config/file.go, in what it reads; the last good pod is kept here and not there

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::kubelet::{Kubelet, SOON, container, idle};
use crate::node::{pause, until};

/// Problems that `/debug/sources` shows of a file.
fn problems(kubelet: &Kubelet, file: &str) -> Vec<Value> {
    let report = kubelet.main_json("/debug/sources");
    let all = report["sources"][0]["problems"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let of_file = |problem: &Value| {
        problem["file"]
            .as_str()
            .is_some_and(|name| name.ends_with(file))
    };
    all.into_iter().filter(of_file).collect()
}

fn wait_problem(kubelet: &Kubelet, file: &str) -> Value {
    until(&format!("a problem of {file}"), SOON, || {
        problems(kubelet, file).pop()
    })
}

fn ids(kubelet: &Kubelet) -> Vec<String> {
    kubelet.runtime.containers().into_keys().collect()
}

#[test]
fn a_manifest_that_becomes_bad_keeps_its_pod_over_a_restart_too() {
    let mut kubelet = Kubelet::running("bad-manifest");
    kubelet.put("good.yaml", &idle("good"));
    kubelet.wait_ready("good");
    let before = ids(&kubelet);

    let truncated = serde_json::to_string_pretty(&idle("good")).unwrap();
    kubelet.put_text("good.yaml", &truncated[..truncated.len() / 2]);
    let problem = wait_problem(&kubelet, "good.yaml");
    assert!(problem["line"].as_u64().is_some(), "{problem}");
    assert_eq!(problem["keepsLastGood"], true);

    let invalid = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: good\nspec:\n  containers:\n  - name: c\n    image: [not, text]\n";
    kubelet.put_text("good.yaml", invalid);
    let problem = until("the next problem", SOON, || {
        problems(&kubelet, "good.yaml")
            .into_iter()
            .find(|p| p["field"].is_string())
    });
    assert_eq!(problem["line"], 8, "{problem}");
    assert!(
        problem["field"]
            .as_str()
            .unwrap()
            .contains("containers[0].image"),
        "{problem}"
    );
    kubelet.wait_log("good.yaml:8");
    let metrics = kubelet.read_only.text("/metrics").unwrap();
    assert!(
        metrics.contains("hyperkube_source_problems{source=\"file\"} 1"),
        "no metric of the problem"
    );

    kubelet.kill();
    kubelet.start();
    wait_problem(&kubelet, "good.yaml");
    kubelet.wait_ready("good");
    pause(Duration::from_secs(1));
    assert_eq!(ids(&kubelet), before);

    kubelet.put("good.yaml", &idle("good"));
    until("the problem to go", SOON, || {
        problems(&kubelet, "good.yaml").is_empty().then_some(())
    });
    assert_eq!(ids(&kubelet), before);
}

#[test]
fn hostile_and_odd_files_harm_nobody() {
    let mut kubelet = Kubelet::running("odd-files");
    kubelet.put("good.yaml", &idle("good"));
    kubelet.wait_ready("good");
    let before = ids(&kubelet);

    kubelet.put_text("big.yaml", &format!("# {}\n", "x".repeat(11 << 20)));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let aliases = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{aliases}]\n"));
    }
    kubelet.put_text("bomb.yaml", &bomb);
    kubelet.put("second.yaml", &idle("good"));
    for name in [
        "good.yaml~",
        "#good.yaml#",
        "good.yaml.bak",
        "good.orig",
        ".good.yaml.swp",
        "x.tmp",
        ".hidden",
    ] {
        kubelet.put(name, &idle("from-a-backup"));
    }
    fs::create_dir(kubelet.manifests.join("directory")).unwrap();
    // Every other name is read, whatever it ends in.
    kubelet.put("no-extension", &idle("plain"));
    kubelet.wait_ready("plain");

    let big = wait_problem(&kubelet, "big.yaml");
    assert!(
        big["message"].as_str().unwrap().contains("10485760")
            || big["message"].as_str().unwrap().contains("10 MiB"),
        "{big}"
    );
    wait_problem(&kubelet, "bomb.yaml");
    let twice = wait_problem(&kubelet, "second.yaml");
    assert!(
        twice["message"].as_str().unwrap().contains("good"),
        "{twice}"
    );
    let report = kubelet.main_json("/debug/sources");
    let skipped: Vec<&str> = report["sources"][0]["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|skip| skip["name"].as_str())
        .collect();
    for name in [
        "good.yaml~",
        "#good.yaml#",
        "good.yaml.bak",
        "good.orig",
        "x.tmp",
    ] {
        assert!(
            skipped.iter().any(|skipped| skipped.ends_with(name)),
            "{name} not among {skipped:?}"
        );
    }
    assert_eq!(kubelet.pods().len(), 2);
    assert!(ids(&kubelet).contains(&before[0]));
    assert!(kubelet.pod("from-a-backup").is_none());
}

#[test]
fn a_directory_that_vanishes_takes_no_pod_with_it() {
    let mut kubelet = Kubelet::running("vanishing");
    kubelet.put("good.yaml", &idle("good"));
    kubelet.wait_ready("good");
    let before = ids(&kubelet);
    let aside = kubelet.base.join("aside");
    fs::rename(&kubelet.manifests, &aside).unwrap();
    let name = kubelet.manifests.display().to_string();
    let problem = wait_problem(&kubelet, &name);
    assert_eq!(problem["keepsLastGood"], true);
    pause(Duration::from_secs(2));
    assert_eq!(ids(&kubelet), before);
    fs::rename(&aside, &kubelet.manifests).unwrap();
    kubelet.put("another.yaml", &idle("another"));
    kubelet.wait(
        "another",
        "Ready",
        Duration::from_secs(30),
        crate::kubelet::is_ready,
    );
    assert!(ids(&kubelet).contains(&before[0]));
}

#[test]
fn a_pod_that_needs_what_is_not_built_is_held_and_says_so() {
    let mut kubelet = Kubelet::running("unbuilt");
    let mut manifest = idle("mapped");
    manifest["spec"]["hostUsers"] = json!(false);
    kubelet.put("mapped.yaml", &manifest);
    let pod = kubelet.wait("mapped", "held", SOON, |pod| {
        pod["status"].to_string().contains("hostUsers")
    });
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(container(&pod, "c")["state"]["running"], Value::Null);
    pause(Duration::from_millis(500));
    assert!(kubelet.runtime.sandboxes().is_empty());
    // Without it, it runs.
    kubelet.put("mapped.yaml", &idle("mapped"));
    kubelet.wait_ready("mapped");
}

#[test]
fn groups_that_the_runtime_cannot_keep_strict_are_refused() {
    let mut kubelet = Kubelet::running("strict");
    let mut manifest = idle("strict");
    manifest["spec"]["securityContext"] = json!({"supplementalGroupsPolicy": "Strict"});
    kubelet.put("strict.yaml", &manifest);
    let pod = kubelet.wait("strict", "refused", SOON, |pod| {
        pod["status"]["phase"] == "Failed"
    });
    assert_eq!(
        pod["status"]["reason"],
        "SupplementalGroupsPolicyNotSupported"
    );
    assert!(kubelet.runtime.sandboxes().is_empty());
    manifest["spec"]["securityContext"] = json!({"supplementalGroupsPolicy": "Merge"});
    kubelet.put("strict.yaml", &manifest);
    kubelet.wait_ready("strict");
}
