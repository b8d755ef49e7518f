//! status_write: statuses that change while the server is in trouble.
//!
//! In:    twenty pods whose restart counts go up every 30 s
//! Out:   what the server holds, and held
//! Calls: cargo test
//! Holds: each pod ends with its last status within a minute; no count goes back; no write says what was said already
//! Upstream: none

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use kubelet_act::report::status::StatusHandle;
use kubelet_act::report::status_write::{StatusFigures, StatusInputs, StatusWriter};
use kubelet_cluster::pods::{PodWatch, Terms};
use kubelet_model::dice::Dice;
use kubelet_model::ids::PodUid;

use super::*;

const COUNT: usize = 20;

struct Writer {
    site: Site,
    status: StatusHandle,
    pods: BTreeMap<String, (PodUid, Arc<v1::Pod>)>,
}

impl Writer {
    async fn new(count: usize) -> Self {
        let site = Site::new().await;
        let status = StatusHandle::default();
        let client = site.client();
        let (watch, held) = PodWatch::new(client.clone(), NODE, Terms::default(), Dice::new(1));
        let inputs = StatusInputs {
            status: status.clone(),
            held,
            figures: StatusFigures::new(&prometheus::Registry::new()).unwrap(),
        };
        site.run(watch.run());
        site.keep(StatusWriter::new(client, inputs), StatusWriter::pace());
        let mut writer = Self {
            site,
            status,
            pods: BTreeMap::new(),
        };
        for number in 0..count {
            writer.add(&format!("p{number:02}")).await;
        }
        writer.report(0);
        seconds(5).await;
        writer
    }

    async fn add(&mut self, name: &str) {
        let uid = self.site.pod(name, |_| ()).await;
        let object = typed(&self.site.get(&format!("{PODS}/{name}")).await);
        let pod = (PodUid::parse(&uid).unwrap(), object);
        self.pods.insert(name.to_owned(), pod);
    }

    fn report(&self, restarts: u64) {
        for (uid, object) in self.pods.values() {
            self.status.report(uid, object, running(restarts));
        }
    }

    /// Restart counts go up until nothing is in trouble any more.
    async fn trouble(&self, trouble: Trouble) -> u64 {
        let mut restarts = 0;
        let counting = async {
            loop {
                seconds(30).await;
                restarts += 1;
                self.report(restarts);
            }
        };
        tokio::select! {
            () = trouble.run(&self.site) => {}
            () = counting => {}
        }
        restarts
    }
}

fn running(restarts: u64) -> v1::PodStatus {
    let status = json!({
        "phase": "Running", "startTime": "2026-11-25T12:00:00Z",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-25T12:00:00Z"}],
        "containerStatuses": [{"name": "main", "image": "i", "imageID": "i", "ready": true, "restartCount": restarts}],
    });
    serde_json::from_value(status).unwrap()
}

fn restarts(pod: &v1::Pod) -> i32 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers
        .and_then(|all| all.first())
        .map_or(-1, |c| c.restart_count)
}

#[tokio::test(start_paused = true)]
async fn every_status_is_there_a_minute_after_and_none_goes_back() {
    in_every_trouble(|trouble| async move {
        let writer = Writer::new(COUNT).await;
        let line = writer.site.cluster.line.clone();
        let history = writer.site.cluster.witness::<v1::Pod>();
        seconds(1).await;
        let (mark, began) = (history.len(), line.now());
        let last = writer.trouble(trouble).await;
        // Of what one pod is asked about: its new status twice a minute; while it is refused, after 1, 2, 4, 8 and then every 10 s;
        // the watch of the pods beside it, at most once in 2 s at first. A server that is away as a whole is asked for all pods at
        // once at the moment at which it goes (16 calls in flight, each with its connection), and then by one call at a time.
        let most = match trouble {
            Trouble::Conflicts | Trouble::Errors => COUNT * 10 + 40,
            Trouble::TooMany | Trouble::BlackHole | Trouble::Refused => 60,
            _ => COUNT * 4 + 40,
        };
        assert_calm(&writer.site, began, most, &format!("{trouble:?}"));
        let healed = line.now();
        seconds(60).await;
        for (name, (uid, _)) in &writer.pods {
            let held = writer.site.get(&format!("{PODS}/{name}")).await;
            let held: Arc<v1::Pod> = typed(&held);
            assert_eq!(
                u64::try_from(restarts(&held)),
                Ok(last),
                "{trouble:?} {uid}"
            );
        }
        // One write per pod, one try that is still refused, and the watch.
        let after = line.attempts_since(healed);
        assert!(
            after <= COUNT * 2 + 20,
            "{trouble:?}: {after} after it healed"
        );
        let mut seen: BTreeMap<String, Arc<v1::Pod>> = BTreeMap::new();
        for pod in history.forms(mark) {
            let name = pod.metadata.name.clone().unwrap();
            if let Some(before) = seen.insert(name, Arc::clone(&pod)) {
                assert!(restarts(&before) <= restarts(&pod), "{trouble:?} goes back");
                assert_ne!(before.status, pod.status, "{trouble:?}: written twice");
            }
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_deleted_and_made_again_meanwhile_keeps_its_own_status() {
    for trouble in [Trouble::Refused, Trouble::BlackHole] {
        let mut writer = Writer::new(3).await;
        let site = &writer.site;
        let meanwhile = async {
            seconds(300).await;
            site.remove("p01").await;
            let uid = site.pod("p01", |_| ()).await;
            seconds(300).await;
            writer.report(7);
            uid
        };
        let ((), uid) = tokio::join!(trouble.run(site), meanwhile);
        seconds(60).await;
        let again = site.get(&format!("{PODS}/p01")).await;
        assert_eq!(text(&again, "/metadata/uid"), uid);
        assert_eq!(again.pointer("/status/containerStatuses"), None, "{again}");
        assert_eq!(restarts(&typed(&site.get(&format!("{PODS}/p00")).await)), 7);
        // The old one is told of no more, and the new one has its worker.
        let (old, _) = writer.pods.remove("p01").unwrap();
        writer.status.forget(&old);
        let object = typed(&again);
        let uid = PodUid::parse(&uid).unwrap();
        writer.status.report(&uid, &object, running(1));
        seconds(5).await;
        let again = writer.site.get(&format!("{PODS}/p01")).await;
        assert_eq!(restarts(&typed(&again)), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_whose_answer_was_lost_is_not_asked_for_again_and_again() {
    let writer = Writer::new(1).await;
    let (site, line) = (&writer.site, &writer.site.cluster.line);
    let (uid, object) = writer.pods["p00"].clone();
    let path = format!("{PODS}/p00");
    site.cluster
        .ask(Method::DELETE, &path, &json!({"gracePeriodSeconds": 30}))
        .await
        .unwrap();
    line.set_rule(|asked| (asked.method == "DELETE").then_some(Fault::LoseAnswer));
    let began = line.now();
    let mut done = running(0);
    done.phase = Some("Succeeded".to_owned());
    writer.status.report(&uid, &object, done);
    writer.status.finish(&uid);
    seconds(60).await;
    let gone = site.cluster.ask(Method::GET, &path, &Value::Null).await;
    assert!(gone.unwrap_err().is_not_found());
    let deletions: Vec<Option<u16>> = line
        .asked_since(began)
        .iter()
        .filter(|asked| asked.method == "DELETE")
        .map(|asked| asked.code)
        .collect();
    // Once done; perhaps once more before the watch tells, and then told that it is gone.
    assert!(
        matches!(&deletions[..], [Some(200)] | [Some(200), Some(404)]),
        "{deletions:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_a_pod_that_others_hold_on_to_is_seldom_repeated() {
    let mut writer = Writer::new(0).await;
    let held = |pod: &mut Value| pod["metadata"]["finalizers"] = json!(["example.com/held"]);
    let uid = writer.site.pod("held", held).await;
    let uid = PodUid::parse(&uid).unwrap();
    let path = format!("{PODS}/held");
    let object: Arc<v1::Pod> = typed(&writer.site.get(&path).await);
    writer
        .pods
        .insert("held".to_owned(), (uid.clone(), Arc::clone(&object)));
    let (site, line) = (&writer.site, &writer.site.cluster.line);
    let grace = json!({"gracePeriodSeconds": 30});
    site.cluster
        .ask(Method::DELETE, &path, &grace)
        .await
        .unwrap();
    let began = line.now();
    let mut done = running(0);
    done.phase = Some("Succeeded".to_owned());
    writer.status.report(&uid, &object, done);
    writer.status.finish(&uid);
    seconds(60).await;
    let asked = line.asked_since(began);
    let deletions = asked.iter().filter(|a| a.method == "DELETE").count();
    assert!(
        (1..=7).contains(&deletions),
        "{deletions} deletions in a minute"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_busy_server_asks_for_is_waited_for() {
    let writer = Writer::new(1).await;
    let line = &writer.site.cluster.line;
    line.set_rule(|asked| {
        asked.is_write().then_some(Fault::Answer {
            code: 429,
            reason: "TooManyRequests",
            retry_after: Some(45),
        })
    });
    let began = line.now();
    writer.report(1);
    seconds(100).await;
    let tries: Vec<u64> = line
        .asked_since(began)
        .iter()
        .filter(|asked| asked.is_write())
        .map(|asked| (asked.at - began).as_secs())
        .collect();
    assert_eq!(tries, [0, 45, 90]);
}

#[tokio::test(start_paused = true)]
async fn one_pod_whose_writes_hang_keeps_no_other_waiting() {
    let writer = Writer::new(3).await;
    let line = &writer.site.cluster.line;
    line.set_rule(|asked| asked.path.contains("/p00/").then_some(Fault::Hang));
    writer.report(1);
    seconds(40).await;
    writer.report(2);
    seconds(2).await;
    for name in ["p01", "p02"] {
        let held = writer.site.get(&format!("{PODS}/{name}")).await;
        assert_eq!(restarts(&typed(&held)), 2, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_never_taken_holds_no_deletion_up_and_is_tried_as_long_as_nobody_waits() {
    let writer = Writer::new(2).await;
    let (site, line) = (&writer.site, &writer.site.cluster.line);
    let refused = Fault::Answer {
        code: 422,
        reason: "Invalid",
        retry_after: None,
    };
    line.set_rule(move |asked| (asked.method == "PATCH").then_some(refused));
    let path = format!("{PODS}/p00");
    let grace = json!({"gracePeriodSeconds": 30});
    site.cluster
        .ask(Method::DELETE, &path, &grace)
        .await
        .unwrap();
    let (uid, object) = writer.pods["p00"].clone();
    let mut done = running(1);
    done.phase = Some("Failed".to_owned());
    writer.status.report(&uid, &object, done);
    writer.status.finish(&uid);
    let (other, object) = writer.pods["p01"].clone();
    writer.status.report(&other, &object, running(1));
    seconds(120).await;
    let gone = site.cluster.ask(Method::GET, &path, &Value::Null).await;
    assert!(
        gone.is_err_and(|error| error.is_not_found()),
        "it stays Terminating"
    );
    // What is refused today may be taken tomorrow.
    line.clear_rule();
    seconds(15).await;
    let held = site.get(&format!("{PODS}/p01")).await;
    assert_eq!(restarts(&typed(&held)), 1);
}
