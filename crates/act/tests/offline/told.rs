//! events: what is told while the server is in trouble.
//!
//! In:    an event every 20 s
//! Out:   what the server holds, and what became of the others
//! Calls: cargo test
//! Holds: every event is sent once or counted as lost; what was told in the last minutes is there; the task asks calmly
//! Upstream: none

use k8s_openapi::api::core::v1;
use kubelet_act::report::events::{Events, send};
use kubelet_decide::report::events::started;
use kubelet_model::dice::Dice;
use kubelet_model::pod::{Pod, SourceKind};

use super::*;

fn pod(number: u64) -> Pod {
    let object = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "default", "uid": format!("u{number}")},
        "spec": {"containers": [{"name": "main"}]},
    });
    Pod::new(typed(&object), SourceKind::Api, Vec::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_is_sent_once_or_counted_and_the_last_ones_are_there() {
    in_every_trouble(|trouble| async move {
        let site = Site::new().await;
        let made =
            kubelet_cluster::events::events(Some(site.client()), site.wall(), NODE, Dice::new(3));
        let (recorder, sender) = made;
        let events = Events::recorded(NODE, recorder.clone());
        let sender = Arc::new(tokio::sync::Mutex::new(sender));
        site.run(send(sender, site.stop.clone()));
        let mut told = 0;
        let telling = async {
            loop {
                let pod = pod(told);
                events.pod(&pod, started(&pod, "main").unwrap());
                told += 1;
                seconds(20).await;
            }
        };
        tokio::select! {
            () = trouble.run(&site) => {}
            () = telling => {}
        }
        // One at a time, tried every 10 s, and three new ones a minute; with a connection each where they are cut.
        assert_calm(&site, Duration::ZERO, 20, &format!("{trouble:?}"));
        seconds(60).await;
        let counts = recorder.counts();
        assert_eq!((counts.dropped, counts.filtered), (0, 0), "{trouble:?}");
        assert_eq!(
            counts.sent + counts.failed,
            told,
            "{trouble:?}: all is settled"
        );
        // A conflict is a refusal: it is not worth a second try. Of a long outage one event in two minutes is given up, as upstream
        // does; where answers are lost, too, though the server has it.
        let most_failed = match trouble {
            Trouble::Conflicts => told,
            Trouble::BlackHole | Trouble::Refused => 30 / 2,
            Trouble::LostAnswers | Trouble::TooMany | Trouble::Errors => 5 / 2,
            _ => 0,
        };
        assert!(counts.failed <= most_failed, "{trouble:?}: {counts:?}");
        let held = site.get("/api/v1/namespaces/default/events").await;
        let held: k8s_openapi::List<v1::Event> = serde_json::from_value(held).unwrap();
        let is_lost = trouble == Trouble::LostAnswers;
        let kept = if is_lost { told } else { counts.sent };
        assert_eq!(held.items.len() as u64, kept, "{trouble:?}: none twice");
        assert!(held.items.iter().all(|event| event.count == Some(1)));
        let last = format!("p{}", told - 1);
        let is_last = |event: &v1::Event| event.involved_object.name.as_ref() == Some(&last);
        let is_there = held.items.iter().any(is_last);
        assert!(is_there || trouble == Trouble::Conflicts, "{trouble:?}");
    })
    .await;
}
