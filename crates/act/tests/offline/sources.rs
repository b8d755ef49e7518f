//! cluster_source: pods that come, go and come again at the server while the node does not hear of it.
//!
//! In:    five pods; one more, one less, one deleted and made again
//! Out:   the sets that the sync loop gets
//! Calls: cargo test
//! Holds: no set lacks a pod that is there; the last is true a minute after
//! Upstream: none

use std::collections::BTreeMap;

use kubelet_act::sources::SourceSnapshot;
use kubelet_act::sources::cluster_source::follow;
use kubelet_cluster::pods::{PodWatch, Terms};
use kubelet_model::dice::Dice;
use tokio::sync::mpsc;

use super::*;

fn names(set: &SourceSnapshot) -> BTreeMap<String, String> {
    let pair =
        |pod: &Arc<kubelet_model::pod::Pod>| (pod.full_name.name.to_string(), pod.uid.to_string());
    set.pods.iter().map(pair).collect()
}

/// As an etcd that lacks RequestWatchProgress makes the API server answer.
#[tokio::test(start_paused = true)]
async fn pods_come_from_a_server_that_cannot_stream_sets() {
    for code in [400, 403, 404, 405, 429, 500, 503] {
        let site = Site::new().await;
        site.cluster.line.set_rule(move |asked| {
            let is_stream = asked.query.contains("sendInitialEvents");
            is_stream.then_some(Fault::Answer {
                code,
                reason: "InternalError",
                retry_after: None,
            })
        });
        site.pod("p", |_| ()).await;
        let (watch, sets) = PodWatch::new(site.client(), NODE, Terms::default(), Dice::new(1));
        let (sender, mut snapshots) = mpsc::channel(64);
        site.run(watch.run());
        site.run(follow(sets, sender));
        let first = tokio::time::timeout(MINUTE, snapshots.recv()).await;
        let first = names(&first.expect("the pods are never had").unwrap());
        assert!(first.contains_key("p"), "{code}: {first:?}");
        let uid = site.pod("q", |_| ()).await;
        let next = tokio::time::timeout(MINUTE, snapshots.recv()).await;
        let next = names(&next.expect("changes are not heard of").unwrap());
        assert_eq!(next.get("q"), Some(&uid), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_set_lacks_a_pod_that_is_there_and_the_last_is_true_a_minute_after() {
    in_every_trouble(|trouble| async move {
        let site = Site::new().await;
        let line = site.cluster.line.clone();
        let (watch, sets) = PodWatch::new(site.client(), NODE, Terms::default(), Dice::new(1));
        let (sender, mut snapshots) = mpsc::channel(64);
        site.run(watch.run());
        site.run(follow(sets, sender));
        let mut true_ones = BTreeMap::new();
        for number in 0..5 {
            let name = format!("p{number}");
            true_ones.insert(name.clone(), site.pod(&name, |_| ()).await);
        }
        seconds(5).await;
        let before = true_ones.clone();
        while snapshots.try_recv().is_ok() {}
        let began = line.now();
        let meanwhile = async {
            tokio::time::sleep(trouble.lasts() / 3).await;
            site.remove("p1").await;
            true_ones.remove("p1");
            site.remove("p2").await;
            true_ones.insert("p2".to_owned(), site.pod("p2", |_| ()).await);
            true_ones.insert("new".to_owned(), site.pod("new", |_| ()).await);
        };
        tokio::join!(trouble.run(&site), meanwhile);
        // One reflector: after 0.8, 1.6, 3.2, 6.4 s and so on, each with its connection; cut every 7 s it comes back each time.
        assert_calm(&site, began, 40, &format!("{trouble:?}"));
        seconds(60).await;
        let mut last = before.clone();
        let mut taken = 0;
        while let Ok(set) = snapshots.try_recv() {
            last = names(&set);
            taken += 1;
            for (name, uid) in &before {
                let stays = !matches!(name.as_str(), "p1" | "p2");
                assert!(
                    !stays || last.get(name) == Some(uid),
                    "{trouble:?}: lacks {name}: {last:?}"
                );
            }
        }
        assert_eq!(last, true_ones, "{trouble:?}");
        // Four changes, and what relists bring.
        assert!(taken <= 40, "{trouble:?}: {taken} sets");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn mirrors_are_counted_and_not_run() {
    let site = Site::new().await;
    site.pod("p", |_| ()).await;
    site.pod("m", |pod| {
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "1"});
    })
    .await;
    let (watch, sets) = PodWatch::new(site.client(), NODE, Terms::default(), Dice::new(1));
    let (sender, mut snapshots) = mpsc::channel(64);
    site.run(watch.run());
    site.run(follow(sets, sender));
    let first = tokio::time::timeout(MINUTE, snapshots.recv()).await;
    let first = first.expect("the pods are never had").unwrap();
    assert_eq!((first.pods.len(), first.mirrors), (1, 1));
}
