//! mirror_pods: static pods that come, change and go while the server is in trouble.
//!
//! In:    ten static pods; one more, one less, one changed, one whose mirror somebody deletes
//! Out:   the mirrors that the server holds, and held
//! Calls: cargo test
//! Holds: a minute after there is one mirror of each, of its hash; none was made twice
//! Upstream: none

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1;
use kubelet_act::report::mirror_pods::{MirrorInputs, MirrorPods};
use kubelet_act::report::status::StatusHandle;
use kubelet_cluster::pods::{PodWatch, Terms};
use kubelet_cluster::reflector::Change;
use kubelet_model::dice::Dice;
use kubelet_model::ids::PodUid;
use tokio::sync::watch;

use super::*;

const COUNT: usize = 10;
const MIRROR: &str = "kubernetes.io/config.mirror";

struct Keeper {
    site: Site,
    status: StatusHandle,
}

impl Keeper {
    async fn new() -> Self {
        let site = Site::new().await;
        let uid = site.node().await;
        let status = StatusHandle::default();
        let client = site.client();
        let (pods, held) = PodWatch::new(client.clone(), NODE, Terms::default(), Dice::new(1));
        let known = Some((NODE.to_owned(), uid));
        // The senders stay: their owners live as long as the task.
        let (node, all_seen) = (watch::Sender::new(known), watch::Sender::new(true));
        let inputs = MirrorInputs {
            reported: status.subscribe(),
            held,
            node: node.subscribe(),
            all_seen: all_seen.subscribe(),
        };
        site.run(pods.run());
        site.keep(MirrorPods::new(client, inputs), MirrorPods::pace());
        let stop = site.stop.clone();
        site.run(async move {
            stop.cancelled().await;
            drop((node, all_seen));
        });
        let keeper = Self { site, status };
        for number in 0..COUNT {
            keeper.show(&format!("s{number}"), "1");
        }
        seconds(5).await;
        keeper
    }

    /// A static pod has a worker; its UID is its hash, as it is for every static pod.
    fn show(&self, name: &str, version: &str) {
        self.show_as(name, version, v1::PodStatus::default());
    }

    fn show_as(&self, name: &str, version: &str, status: v1::PodStatus) {
        let hash = format!("hash-{name}-{version}");
        let pod = json!({
            "metadata": {"name": format!("{name}-{NODE}"), "namespace": "default", "uid": hash,
                "annotations": {"kubernetes.io/config.hash": hash, "kubernetes.io/config.source": "file"}},
            "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "img/here:1"}],
                     "tolerations": [{"operator": "Exists", "effect": "NoExecute"}]},
        });
        self.status
            .report(&PodUid::parse(&hash).unwrap(), &typed(&pod), status);
    }

    fn hide(&self, name: &str, version: &str) {
        let uid = format!("hash-{name}-{version}");
        self.status.forget(&PodUid::parse(&uid).unwrap());
    }

    /// Name to hash, as the server has them.
    async fn mirrors(&self) -> BTreeMap<String, String> {
        let list = self.site.get(PODS).await;
        let items = list["items"].as_array().unwrap().clone();
        let pair = |pod: &Value| {
            let hash = pod["metadata"]["annotations"][MIRROR].as_str().unwrap();
            (text(pod, "/metadata/name").to_owned(), hash.to_owned())
        };
        items.iter().map(pair).collect()
    }
}

fn wanted(names: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(name, version): &(&str, &str)| {
        (format!("{name}-{NODE}"), format!("hash-{name}-{version}"))
    };
    names.iter().map(pair).collect()
}

#[tokio::test(start_paused = true)]
async fn a_changed_pod_gets_its_mirror_when_the_old_one_has_ended() {
    let keeper = Keeper::new().await;
    let waits = v1::PodStatus {
        reason: Some("WaitingForName".to_owned()),
        ..v1::PodStatus::default()
    };
    keeper.show_as("s0", "2", waits);
    seconds(30).await;
    let name = format!("s0-{NODE}");
    assert_eq!(keeper.mirrors().await[&name], "hash-s0-1");
    keeper.hide("s0", "1");
    keeper.show("s0", "2");
    seconds(5).await;
    assert_eq!(keeper.mirrors().await[&name], "hash-s0-2");
}

#[tokio::test(start_paused = true)]
async fn every_static_pod_has_its_mirror_a_minute_after() {
    in_every_trouble(|trouble| async move {
        let keeper = Keeper::new().await;
        let (site, line) = (&keeper.site, &keeper.site.cluster.line);
        assert_eq!(keeper.mirrors().await.len(), COUNT, "before");
        let history = site.cluster.witness::<v1::Pod>();
        seconds(1).await;
        let began = line.now();
        let meanwhile = async {
            tokio::time::sleep(trouble.lasts() / 3).await;
            keeper.show("new", "1");
            keeper.hide("s0", "1");
            keeper.hide("s1", "1");
            keeper.show("s1", "2");
            site.remove(&format!("s2-{NODE}")).await;
        };
        tokio::join!(trouble.run(site), meanwhile);
        // A step that is refused is tried after 2, 4, 8, 16 and then every 20 s: at most five times a minute for each of four pods,
        // and what comes back from the watch. A server that is away: after 1, 2, 4, 8 and then every 10 s, by one step for all.
        assert_calm(site, began, 4 * 5 + 40, &format!("{trouble:?}"));
        let healed = line.now();
        seconds(60).await;
        let mut names = vec![("new", "1"), ("s1", "2")];
        let rest: Vec<String> = (2..COUNT).map(|number| format!("s{number}")).collect();
        names.extend(rest.iter().map(|name| (name.as_str(), "1")));
        assert_eq!(keeper.mirrors().await, wanted(&names), "{trouble:?}");
        // Four changes, at most three calls each, and the watch.
        let after = line.attempts_since(healed);
        assert!(after <= 4 * 3 + 10, "{trouble:?}: {after} after it healed");
        let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for change in history.since(0) {
            let (Change::Applied(pod) | Change::Deleted(pod)) = change;
            let metadata = pod.metadata.clone();
            let uids = made.entry(metadata.name.unwrap()).or_default();
            uids.insert(metadata.uid.unwrap());
        }
        let twice: Vec<&String> = made
            .iter()
            .filter(|(_, u)| u.len() > 1)
            .map(|(n, _)| n)
            .collect();
        assert_eq!(twice, ["s1-n", "s2-n"], "{trouble:?}: made more than once");
        let most = made.values().map(BTreeSet::len).max();
        assert_eq!(most, Some(2), "{trouble:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_holds_no_other_mirror_up_and_is_tried_seldom() {
    let keeper = Keeper::new().await;
    let (site, line) = (&keeper.site, &keeper.site.cluster.line);
    site.pod("taken-n", |pod| pod["spec"]["nodeName"] = "other".into())
        .await;
    keeper.show("taken", "1");
    seconds(120).await;
    let began = line.now();
    keeper.show("later", "1");
    seconds(1).await;
    let list = site.get(PODS).await.to_string();
    assert!(list.contains("later-n"), "it waits for nobody");
    seconds(300).await;
    let tries = line
        .asked_since(began)
        .iter()
        .filter(|a| a.is_write())
        .count();
    // One for the later one; the other every 20 s.
    assert!((10..=17).contains(&tries), "{tries}");
}
