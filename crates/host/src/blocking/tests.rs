//! Lanes: deadlines, hung calls, refusals.

use super::*;
use crate::testing::block_on;
use std::sync::mpsc;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(500);

#[test]
fn a_call_gives_its_result_and_inline_runs_on_the_same_thread() {
    let here = std::thread::current().id();
    let blocking = Blocking::threads(2);
    let there = block_on(blocking.run(LONG, "look", || std::thread::current().id()));
    assert_ne!(there.unwrap(), here);
    let there = block_on(Blocking::Inline.run(LONG, "look", || std::thread::current().id()));
    assert_eq!(there.unwrap(), here);
}

#[test]
fn an_overdue_call_is_counted_abandoned_and_frees_its_thread_when_it_returns() {
    let blocking = Blocking::threads(1);
    let (release, held) = mpsc::channel::<()>();
    let (report, began) = mpsc::channel::<&str>();
    let first = report.clone();
    block_on(async {
        let stuck = blocking.run(SHORT, "stat a dead server", move || {
            first.send("stuck").unwrap();
            held.recv().unwrap_err();
        });
        let overdue = stuck.await.unwrap_err();
        assert_eq!(
            overdue,
            Overdue::Abandoned {
                what: "stat a dead server".to_owned(),
                deadline: SHORT
            }
        );
        let second = report.clone();
        let overdue = blocking
            .run(SHORT, "mount", move || second.send("mount").unwrap())
            .await
            .unwrap_err();
        let Overdue::NotStarted {
            what,
            abandoned,
            holders,
        } = overdue
        else {
            panic!("{overdue}");
        };
        assert_eq!((what.as_str(), abandoned), ("mount", 1));
        assert!(
            holders.starts_with(" (stat a dead server since "),
            "{holders}"
        );
        assert_eq!(blocking.counts().overdue_total, 2);
        drop(release);
        // Until it has returned, every call is refused at once.
        while blocking.counts().abandoned > 0 {
            std::thread::yield_now();
        }
        assert_eq!(blocking.run(LONG, "again", || 7).await, Ok(7));
    });
    drop(report);
    assert_eq!(blocking.counts().abandoned, 0);
    assert_eq!(
        began.iter().collect::<Vec<_>>(),
        ["stuck"],
        "the call that never began did not run later"
    );
}

#[test]
fn a_panic_in_a_call_is_an_error_and_the_thread_lives_on() {
    let blocking = Blocking::threads(1);
    block_on(async {
        let outcome: Result<(), _> = blocking.run(LONG, "boom", || panic!("on purpose")).await;
        assert_eq!(
            outcome,
            Err(Overdue::Panicked {
                what: "boom".to_owned()
            })
        );
        assert_eq!(blocking.run(LONG, "next", || 1).await, Ok(1));
    });
}

#[test]
fn never_more_threads_than_the_limit() {
    let blocking = Blocking::threads(3);
    block_on(async {
        let calls: Vec<_> = (0..40)
            .map(|i| blocking.run(LONG, "count", move || i))
            .collect();
        let mut sum = 0;
        for call in calls {
            sum += call.await.unwrap();
        }
        assert_eq!(sum, 780);
    });
    assert!(blocking.counts().threads <= 3);
}

/// Makes a call that began, was given up by its caller, is overdue, and hangs until the sender is dropped.
async fn hang(blocking: &Blocking, about: About) -> mpsc::Sender<()> {
    let before = blocking.counts().abandoned;
    let release = begin_and_drop(blocking, about, Duration::from_millis(50)).await;
    while blocking.counts().abandoned == before {
        std::thread::yield_now();
    }
    release
}

/// Makes a call that began, was given up by its caller, and hangs until the sender is dropped.
async fn begin_and_drop(blocking: &Blocking, about: About, deadline: Duration) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (report, mut began) = tokio::sync::oneshot::channel();
    let call = move || {
        report.send(()).unwrap();
        held.recv().unwrap_err();
    };
    {
        let mut hangs = std::pin::pin!(blocking.run_about(about, deadline, "stat", call));
        let mut is_asked = false;
        std::future::poll_fn(|context| {
            // Polled once: it begins, however late.
            if !std::mem::replace(&mut is_asked, true) {
                assert!(hangs.as_mut().poll(context).is_pending());
            }
            std::pin::Pin::new(&mut began).poll(context)
        })
        .await
        .unwrap();
    }
    release
}

fn about(key: &str, mount: Option<&str>) -> About {
    About {
        key: key.to_owned(),
        text: format!("pod {key}"),
        mount: mount.map(str::to_owned),
    }
}

#[test]
fn while_a_call_about_something_hangs_no_second_one_is_made_about_it() {
    let blocking = Blocking::threads(2);
    block_on(async {
        let release = hang(&blocking, about("a/data", None)).await;
        // At once, long before its deadline, without a thread.
        for _ in 0..5 {
            let again = blocking.run_about(about("a/data", None), LONG, "stat", || ());
            let overdue = again.await.unwrap_err();
            let text = overdue.to_string();
            assert!(matches!(overdue, Overdue::Hangs { .. }), "{text}");
            assert!(
                text.contains("stat (pod a/data) has not returned since 2"),
                "{text}"
            );
        }
        let counts = blocking.counts();
        assert_eq!((counts.abandoned, counts.threads), (1, 1), "{counts:?}");
        assert_eq!(counts.overdue_total, 1, "counted once");
        let other = blocking.run_about(about("a/other", None), LONG, "stat", || 7);
        assert_eq!(other.await, Ok(7));
        drop(release);
        // The thread runs the next call once the first one has returned.
        while blocking.counts().abandoned > 0 {
            std::thread::yield_now();
        }
        let again = blocking.run_about(about("a/data", None), LONG, "stat", || 8);
        assert_eq!(again.await, Ok(8));
    });
}

#[test]
fn a_lane_whose_threads_all_hang_refuses_at_once_and_no_other_lane_does() {
    let blocking = Blocking::threads(2);
    let host_paths = blocking.lane(Lane::HostPaths);
    let mut releases = Vec::new();
    block_on(async {
        for key in ["a", "b"] {
            releases.push(hang(&host_paths, about(key, None)).await);
        }
        let refused = host_paths.run(LONG, "stat", || ()).await.unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, Overdue::NotStarted { abandoned: 2, .. }));
        assert!(text.contains("stat (pod a) since ") && text.contains("stat (pod b) since "));
        for lane in [Lane::Sources, Lane::Removals, Lane::Pods, Lane::Reads] {
            assert_eq!(blocking.lane(lane).run(LONG, "look", || 1).await, Ok(1));
        }
    });
    let still: Vec<(Lane, bool)> = blocking
        .standings()
        .into_iter()
        .map(|standing| (standing.lane, standing.still_for.is_some()))
        .collect();
    let expected = Lane::ALL.map(|lane| (lane, lane == Lane::HostPaths));
    assert_eq!(still, expected);
}

#[test]
fn one_dead_file_system_takes_few_of_the_threads_and_is_then_left_alone() {
    let blocking = Blocking::threads(64).lane(Lane::HostPaths);
    let mut releases = Vec::new();
    let dead = |pod: usize| about(&format!("{pod}/data"), Some("/mnt/dead"));
    block_on(async {
        // The allowed number at a time; the others do not even take a thread.
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let calls: Vec<_> = (0..20)
            .map(|pod| {
                let held = Arc::clone(&held);
                let call = move || {
                    held.lock().unwrap().recv().unwrap_err();
                };
                Box::pin(blocking.run_about(dead(pod), LONG, "stat", call))
            })
            .collect();
        let mut calls = calls;
        std::future::poll_fn(|context| {
            for call in &mut calls {
                assert!(call.as_mut().poll(context).is_pending());
            }
            std::task::Poll::Ready(())
        })
        .await;
        while blocking.counts().queued > 12 {
            std::thread::yield_now();
        }
        assert_eq!(blocking.counts().queued, 12);
        let well = about("22/data", Some("/mnt/well"));
        assert_eq!(blocking.run_about(well, LONG, "stat", || 3).await, Ok(3));
        drop(release);
        for call in calls {
            call.await.unwrap();
        }
        for pod in 0..4 {
            releases.push(hang(&blocking, dead(pod)).await);
        }
        let late = about("21/data", Some("/mnt/dead"));
        let refused = blocking.run_about(late, LONG, "stat", || ()).await;
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, Overdue::Hangs { .. }), "{refused}");
        let well = about("23/data", Some("/mnt/well"));
        assert_eq!(blocking.run_about(well, LONG, "stat", || 3).await, Ok(3));
    });
}

/// The removal of a pod must not begin while a mount may still be made in its directory.
#[test]
fn what_hangs_in_one_lane_keeps_the_same_from_being_touched_in_every_other() {
    let blocking = Blocking::threads(2);
    block_on(async {
        let _held = hang(&blocking.lane(Lane::HostPaths), about("a", None)).await;
        for lane in Lane::ALL {
            let lane = blocking.lane(lane);
            let refused = lane
                .run_about(about("a", None), LONG, "remove", || ())
                .await;
            assert!(matches!(refused, Err(Overdue::Hangs { .. })));
            assert_eq!(
                lane.run_about(about("b", None), LONG, "look", || 1).await,
                Ok(1)
            );
        }
    });
}

/// Its caller needed it no longer. That says nothing about the file system, and the other calls keep waiting for the thread.
#[test]
fn a_healthy_call_that_was_dropped_counts_for_its_key_alone_until_its_deadline() {
    let blocking = Blocking::threads(1);
    block_on(async {
        let mount = Some("/mnt/slow");
        let release = begin_and_drop(&blocking, about("a", mount), LONG).await;
        let counts = blocking.counts();
        assert_eq!((counts.abandoned, counts.overdue_total), (0, 0));
        let standing = blocking.standings();
        assert!(
            standing
                .iter()
                .all(|s| s.hung.is_empty() && s.still_for.is_none())
        );
        let same = blocking.run_about(about("a", mount), LONG, "stat", || ());
        assert!(matches!(same.await, Err(Overdue::Hangs { .. })));
        let other = blocking.run_about(about("b", mount), LONG, "stat", || 5);
        let mut other = std::pin::pin!(other);
        std::future::poll_fn(|context| {
            assert!(
                other.as_mut().poll(context).is_pending(),
                "it waits, and is not refused"
            );
            std::task::Poll::Ready(())
        })
        .await;
        drop(release);
        assert_eq!(other.await, Ok(5));
        assert_eq!(blocking.counts().overdue_total, 0);
    });
}
