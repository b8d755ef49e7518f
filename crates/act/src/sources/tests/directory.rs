//! What comes and goes in the manifest directory.
//!
//! Upstream: pkg/kubelet/config/file_linux_test.go

use super::*;

const RECORDED: &str = include_str!("../../../../../parity/static-pods-defaulted.json");

#[tokio::test]
async fn an_empty_directory_and_a_missing_one_report_empty_sets() {
    let machine = Machine::new();
    let mut running = machine.start();
    assert!(running.next().await.is_empty());
    let report = running.report(|report| report["seen"] == true).await;
    assert_eq!(report["problems"], json!([]));
    running.crash().await;

    let mut running = machine.start_at("/etc/elsewhere", LONG);
    assert!(running.next().await.is_empty());
    let problem = running.problem().await;
    assert_eq!(problem["file"], "/etc/elsewhere");
    assert_eq!(problem["keepsLastGood"], false);
    assert_eq!(
        running.gauge(),
        "hyperkube_source_problems{source=\"file\"} 1"
    );
    // It is picked up when it appears, long before the next list.
    let elsewhere = machine.dir.join("etc/elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("a.yaml"), manifest("a", "i:1")).unwrap();
    assert_eq!(running.until(&["a-bench"]).await.len(), 1);
    running.no_problem().await;
    assert_eq!(
        running.gauge(),
        "hyperkube_source_problems{source=\"file\"} 0"
    );
}

#[tokio::test]
async fn a_path_below_missing_directories_is_picked_up() {
    let machine = Machine::new();
    let mut running = machine.start_at("/srv/x/manifests/", LONG);
    assert!(running.next().await.is_empty());
    let path = machine.dir.join("srv/x/manifests");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("a.yaml"), manifest("a", "i:1")).unwrap();
    running.until(&["a-bench"]).await;
}

#[tokio::test]
async fn recorded_manifests_become_the_pods_of_the_go_kubelet() {
    let machine = Machine::new();
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    for pod in &recorded {
        let path = pod["file"].as_str().unwrap();
        let path = machine.dir.join(path.trim_start_matches('/'));
        std::fs::write(path, pod["manifest"].as_str().unwrap()).unwrap();
    }
    let mut running = machine.start_at("/etc//kubernetes/manifests/", LONG);
    let pods = running.next().await;
    assert_eq!(pods.len(), recorded.len());
    for wanted in &recorded {
        let uid = wanted["uid"].as_str().unwrap();
        let pod = pods.iter().find(|pod| pod.uid.to_string() == uid);
        let pod = pod.unwrap_or_else(|| panic!("{uid} is not in {pods:?}"));
        assert_eq!(wanted["name"], *pod.full_name.name);
        assert_eq!(wanted["namespace"], *pod.full_name.namespace);
        assert_eq!(pod.annotation("kubernetes.io/config.source"), Some("file"));
    }
}

#[tokio::test]
async fn files_are_written_renamed_changed_and_removed() {
    let machine = Machine::new();
    let mut running = machine.start();
    assert!(running.next().await.is_empty());
    machine.write("a.yaml", &manifest("a", "i:1"));
    let first = running.until(&["a-bench"]).await;

    // Renamed into place, as careful writers do; the temporary name is never read.
    machine.write("b.yaml.tmp", &manifest("b", "i:1"));
    std::fs::rename(machine.at("b.yaml.tmp"), machine.at("b.yaml")).unwrap();
    let both = running.until(&["a-bench", "b-bench"]).await;
    assert!(
        Arc::ptr_eq(&both[0], &first[0]),
        "an unchanged pod stays the same"
    );

    // In place: another content is another UID.
    machine.write("a.yaml", &manifest("a", "i:2"));
    let changed = running.until_images(&["i:2", "i:1"]).await;
    assert_ne!(changed[0].uid, first[0].uid);
    assert!(seen(&changed[0]) > seen(&first[0]));

    // Another path is another UID, too.
    std::fs::rename(machine.at("b.yaml"), machine.at("c.yaml")).unwrap();
    let moved = running.next().await;
    assert_eq!(names(&moved), ["a-bench", "b-bench"]);
    assert_ne!(moved[1].uid, changed[1].uid);

    // An emptied directory has no pods.
    std::fs::remove_file(machine.at("a.yaml")).unwrap();
    std::fs::remove_file(machine.at("c.yaml")).unwrap();
    running.until(&[]).await;
    assert_eq!(running.records.keys("manifest/"), Vec::<String>::new());
}

#[tokio::test]
async fn a_file_that_is_removed_and_put_back_starts_its_pod_anew() {
    let machine = Machine::new();
    machine.write("a.yaml", &manifest("a", "i:1"));
    machine.write("b.yaml", &manifest("b", "i:1"));
    let mut running = machine.start();
    let both = running.until(&["a-bench", "b-bench"]).await;
    std::fs::remove_file(machine.at("a.yaml")).unwrap();
    machine.write("a.yaml", &manifest("a", "i:1"));
    assert_eq!(names(&running.next().await), ["b-bench"]);
    let back = running.until(&["a-bench", "b-bench"]).await;
    assert_eq!(back[0].uid, both[0].uid);
    assert!(Arc::ptr_eq(&back[1], &both[1]), "the other one never went");

    // An editor that renames the old file away: bad content keeps the last good pod, as ever.
    std::fs::rename(machine.at("a.yaml"), machine.at("a.yaml~")).unwrap();
    machine.write("a.yaml", "kind: [");
    machine.write("c.yaml", &manifest("c", "i:1"));
    let pods = running.next().await;
    assert_eq!(names(&pods), ["a-bench", "b-bench", "c-bench"]);
}

#[tokio::test]
async fn a_comment_changes_nothing() {
    let machine = Machine::new();
    machine.write("a.yaml", &manifest("a", "i:1"));
    let mut running = machine.start();
    let first = running.next().await;
    machine.write("a.yaml", &format!("# why\n{}", manifest("a", "i:1")));
    machine.write("b.yaml", &manifest("b", "i:1"));
    let second = running.until(&["a-bench", "b-bench"]).await;
    assert!(Arc::ptr_eq(&first[0], &second[0]));
}

#[tokio::test]
async fn the_list_finds_what_no_event_told() {
    let machine = Machine::new();
    let (one, other) = (machine.dir.join("one"), machine.dir.join("other"));
    std::fs::create_dir(&one).unwrap();
    std::fs::create_dir(&other).unwrap();
    std::fs::write(one.join("a.yaml"), manifest("a", "i:1")).unwrap();
    std::fs::write(other.join("a.yaml"), manifest("a", "i:2")).unwrap();
    let link = machine.at("live");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let path = "/etc/kubernetes/manifests/live";
    let mut running = machine.start_at(path, Duration::from_millis(20));
    assert_eq!(images(&running.next().await), ["i:1"]);
    // A link that is turned around is no event in the directory that it led to.
    std::os::unix::fs::symlink(&other, machine.at("new")).unwrap();
    std::fs::rename(machine.at("new"), &link).unwrap();
    assert_eq!(images(&running.next().await), ["i:2"]);
    // From here on the other directory is the watched one.
    std::fs::write(other.join("b.yaml"), manifest("b", "i:1")).unwrap();
    running.until(&["a-bench", "b-bench"]).await;
}

#[tokio::test]
async fn links_to_manifests_are_followed() {
    let machine = Machine::new();
    let target = machine.dir.join("target.yaml");
    std::fs::write(&target, manifest("a", "i:1")).unwrap();
    std::os::unix::fs::symlink(&target, machine.at("a.yaml")).unwrap();
    let mut running = machine.start();
    assert_eq!(running.next_names().await, ["a-bench"]);
    // A link that leads nowhere is a manifest that cannot be read, and keeps its pod.
    std::fs::remove_file(&target).unwrap();
    machine.write("b.yaml", &manifest("b", "i:1"));
    running.until(&["a-bench", "b-bench"]).await;
    let problem = running.problem().await;
    assert_eq!(problem["file"], "/etc/kubernetes/manifests/a.yaml");
    assert_eq!(problem["keepsLastGood"], true);
}

#[tokio::test]
async fn names_of_editors_directories_and_odd_files_are_left_alone() {
    let machine = Machine::new();
    let names = [
        ".a.yaml", "a.yaml~", "#a.yaml#", "a.bak", "a.orig", "a.swp", "a.tmp",
    ];
    for name in names {
        machine.write(name, &manifest("wrong", "i:1"));
    }
    std::fs::create_dir(machine.at("below")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(machine.at("socket")).unwrap();
    machine.write("README", &manifest("right", "i:1"));
    let mut running = machine.start();
    assert_eq!(running.next_names().await, ["right-bench"]);
    let report = running.report(|report| report["seen"] == true).await;
    let skipped = report["skipped"].as_array().unwrap();
    assert_eq!(skipped.len(), 9, "{skipped:?}");
    assert_eq!(report["problems"], json!([]));
    assert_eq!(report["pods"][0]["name"], "default/right-bench");
}

#[tokio::test]
async fn a_single_file_is_a_source() {
    let machine = Machine::new();
    let path = "/etc/kubernetes/manifests/one.yaml";
    let mut running = machine.start_at(path, LONG);
    assert!(running.next().await.is_empty());
    machine.write("other.yaml", &manifest("other", "i:1"));
    machine.write("one.yaml", &manifest("one", "i:1"));
    running.until(&["one-bench"]).await;
    machine.write("new", &manifest("one", "i:2"));
    std::fs::rename(machine.at("new"), machine.at("one.yaml")).unwrap();
    assert_eq!(images(&running.next().await), ["i:2"]);
    machine.write("one.yaml", "spec: [");
    let problem = running.problem().await;
    assert_eq!(problem["keepsLastGood"], true);
    std::fs::remove_file(machine.at("one.yaml")).unwrap();
    running.until(&[]).await;
}

#[tokio::test]
async fn a_file_rewritten_a_hundred_times_a_second_ends_with_its_last_pod() {
    let machine = Machine::new();
    let mut running = machine.start();
    assert!(running.next().await.is_empty());
    let mut every = tokio::time::interval(Duration::from_millis(10));
    for n in 0..100 {
        every.tick().await;
        machine.write("a.yaml", &manifest("a", &format!("i:{n}")));
    }
    let mut sets = 1;
    let mut pods = running.next().await;
    while images(&pods) != ["i:99"] {
        assert_eq!(names(&pods), ["a-bench"]);
        pods = running.next().await;
        sets += 1;
    }
    assert!(sets <= 100, "{sets}");
    running.no_problem().await;
    assert!(running.is_quiet());
}
