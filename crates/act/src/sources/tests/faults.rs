//! What goes wrong with manifests and the directory, and restarts in the middle of it.
//!
//! Upstream: none (there a manifest that turns bad takes its pod with it)

use super::*;

#[tokio::test]
async fn a_manifest_that_turns_bad_keeps_its_pod_and_says_where() {
    let machine = Machine::new();
    machine.write("a.yaml", &manifest("a", "i:1"));
    let mut running = machine.start();
    let good = running.next().await;

    // Cut off in the middle.
    let whole = manifest("a", "i:2");
    machine.write("a.yaml", &whole[..whole.len() - 30]);
    let problem = running.problem().await;
    assert_eq!(problem["file"], "/etc/kubernetes/manifests/a.yaml");
    assert_eq!(problem["keepsLastGood"], true);
    assert!(problem["line"].is_u64(), "{problem}");

    // Well-formed and wrong: field and line.
    machine.write("a.yaml", &whole.replace("name: main", "name: Main"));
    let of_field = |report: &Value| report["problems"][0]["field"] == "spec.containers[0].name";
    let report = running.report(of_field).await;
    let problem = &report["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&json!(7), &json!(11))
    );
    assert_eq!(report["pods"][0]["uid"], good[0].uid.to_string());
    assert!(running.is_quiet(), "no set was sent for it");

    machine.write("a.yaml", &whole);
    assert_eq!(images(&running.next().await), ["i:2"]);
    running.no_problem().await;
}

#[tokio::test]
async fn a_restart_keeps_pods_of_bad_manifests_and_times_of_first_sight() {
    let machine = Machine::new();
    machine.write("a.yaml", &manifest("a", "i:1"));
    machine.write("b.yaml", &manifest("b", "i:1"));
    machine.write("c.yaml", &manifest("c", "i:1"));
    let mut running = machine.start();
    let before = running.next().await;
    assert_eq!(names(&before), ["a-bench", "b-bench", "c-bench"]);
    running.crash().await;

    // While it is down one turns bad, and one goes.
    machine.write("a.yaml", "{");
    std::fs::remove_file(machine.at("c.yaml")).unwrap();
    for _ in 0..2 {
        let mut running = machine.start();
        let after = running.next().await;
        assert_eq!(after[..], before[..2], "times and UIDs are the same");
        assert_eq!(running.problem().await["keepsLastGood"], true);
        let kept = running.records.keys("manifest/file:");
        assert_eq!(kept.len(), 2, "{kept:?}");
        running.crash().await;
    }
    // Bad, and removed: its pod goes.
    let mut running = machine.start();
    running.next().await;
    std::fs::remove_file(machine.at("a.yaml")).unwrap();
    running.until(&["b-bench"]).await;
}

#[tokio::test]
async fn a_manifest_that_never_was_good_has_no_pod() {
    let machine = Machine::new();
    machine.write("a.yaml", "kind: Pod\napiVersion: v1\nmetadata: {}\n");
    machine.write("b.yaml", &manifest("b", "i:1"));
    let mut running = machine.start();
    assert_eq!(running.next_names().await, ["b-bench"]);
    let problem = running.problem().await;
    assert_eq!(problem["keepsLastGood"], false);
    assert_eq!(problem["field"], "metadata.name");
    assert_eq!(
        running.gauge(),
        "hyperkube_source_problems{source=\"file\"} 1"
    );
}

#[tokio::test]
async fn eleven_mebibytes_are_refused_with_name_and_size() {
    let machine = Machine::new();
    machine.write("a.yaml", &manifest("a", "i:1"));
    let mut running = machine.start();
    running.next().await;
    machine.write("a.yaml", &"#".repeat(11 << 20));
    let problem = running.problem().await;
    assert_eq!(problem["file"], "/etc/kubernetes/manifests/a.yaml");
    assert_eq!(
        problem["message"],
        "has 11534336 bytes, and a manifest may have 10485760"
    );
    assert_eq!(problem["keepsLastGood"], true);
    assert!(running.is_quiet());
}

#[tokio::test]
async fn a_large_good_manifest_runs_and_is_not_put_into_the_journal() {
    let machine = Machine::new();
    let large = format!("{}{}", manifest("a", "i:1"), "# \"\n".repeat(1 << 20));
    machine.write("a.yaml", &large);
    let mut running = machine.start();
    let before = running.next().await;
    assert_eq!(running.records.last_error(), None);
    running.crash().await;
    let mut running = machine.start();
    assert_eq!(
        running.next().await,
        before,
        "the time of first sight is kept"
    );
    running.crash().await;
    machine.write("a.yaml", "{");
    let mut running = machine.start();
    assert!(running.next().await.is_empty());
}

#[tokio::test]
async fn an_alias_bomb_is_a_problem_like_any_other() {
    let machine = Machine::new();
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for n in 1..12 {
        let before = format!("*a{},", n - 1).repeat(10);
        bomb.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    machine.write("a.yaml", &bomb);
    machine.write("b.yaml", &manifest("b", "i:1"));
    machine.write("c.yaml", &"[".repeat(1 << 20));
    let mut running = machine.start();
    assert_eq!(running.next_names().await, ["b-bench"]);
    let report = running
        .report(|report| report["problems"].as_array().unwrap().len() == 2)
        .await;
    assert_eq!(
        report["problems"][1]["file"],
        "/etc/kubernetes/manifests/c.yaml"
    );
}

#[tokio::test]
async fn of_two_pods_with_one_name_the_first_file_counts() {
    let machine = Machine::new();
    machine.write("b.yaml", &manifest("same", "i:b"));
    machine.write("c.yaml", &manifest("same", "i:c"));
    let mut running = machine.start();
    assert_eq!(images(&running.next().await), ["i:b"]);
    let problem = running.problem().await;
    assert_eq!(problem["file"], "/etc/kubernetes/manifests/c.yaml");
    assert_eq!(
        problem["message"],
        "a pod default/same-bench is in /etc/kubernetes/manifests/b.yaml already, which comes first"
    );
    machine.write("a.yaml", &manifest("same", "i:a"));
    running.until_images(&["i:a"]).await;
    std::fs::remove_file(machine.at("a.yaml")).unwrap();
    std::fs::remove_file(machine.at("b.yaml")).unwrap();
    running.until_images(&["i:c"]).await;
    running.no_problem().await;
}

#[tokio::test]
async fn a_directory_that_vanishes_keeps_its_pods_until_it_is_back() {
    let machine = Machine::new();
    machine.write("a.yaml", &manifest("a", "i:1"));
    let mut running = machine.start();
    let before = running.next().await;
    let (here, away) = (machine.at(""), machine.dir.join("away"));
    std::fs::rename(&here, &away).unwrap();
    let problem = running.problem().await;
    assert_eq!(problem["file"], "/etc/kubernetes/manifests");
    assert_eq!(problem["keepsLastGood"], true);
    assert!(running.is_quiet());
    running.crash().await;

    // Over a restart, too.
    let mut running = machine.start();
    assert_eq!(running.next().await, before);
    assert_eq!(running.problem().await["keepsLastGood"], true);
    std::fs::rename(&away, &here).unwrap();
    running.no_problem().await;
    assert!(running.is_quiet(), "the same pods");

    // Back and empty: gone for good.
    std::fs::rename(&here, &away).unwrap();
    running.problem().await;
    std::fs::create_dir(&here).unwrap();
    running.until(&[]).await;
    assert!(is_at(&away.join("a.yaml")));
}

#[tokio::test]
async fn another_path_forgets_the_old_manifests() {
    let machine = Machine::new();
    machine.write("a.yaml", &manifest("a", "i:1"));
    let mut running = machine.start();
    running.next().await;
    running.crash().await;
    let mut running = machine.start_at("/etc/other", LONG);
    assert!(running.next().await.is_empty());
    assert!(running.records.keys("manifest/").is_empty());
}

#[tokio::test]
async fn a_uid_that_leads_out_of_the_pods_directory_is_refused() {
    let machine = Machine::new();
    let evil = manifest("a", "i:1").replace("  name: a", "  name: a\n  uid: ../../etc");
    machine.write("a.yaml", &evil);
    let mut running = machine.start();
    assert!(running.next().await.is_empty());
    let problem = running.problem().await;
    assert_eq!(problem["field"], "metadata.uid");
    assert_eq!(problem["line"], 5);
}
