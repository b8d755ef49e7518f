//! A counter driven through periods, failures, changes and a panic under paused time.
//!
//! Upstream: none

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

#[derive(Clone)]
struct Counter {
    rounds: watch::Sender<Vec<(u64, WakeReason)>>,
    fail_first: u32,
    panics: Arc<AtomicU32>,
    bell: watch::Receiver<u32>,
    clock: Clock,
}

impl Reconciler for Counter {
    const NAME: &'static str = "counter";
    type Seen = u32;
    type Plan = String;

    async fn observe(&mut self, why: WakeReason) -> Result<u32, RoundError> {
        let at = self.clock.moment().0.as_secs();
        self.rounds.send_modify(|rounds| rounds.push((at, why)));
        let count = u32::try_from(self.rounds.borrow().len()).unwrap();
        if count <= self.fail_first {
            return Err(RoundError("not yet".to_owned()));
        }
        Ok(count)
    }

    fn decide(&self, seen: u32, _now: Timestamp) -> String {
        format!("round {seen}")
    }

    async fn act(&mut self, plan: String) -> Result<(), RoundError> {
        assert!(plan.starts_with("round "));
        if self.panics.load(Ordering::Relaxed) > 0 {
            self.panics.fetch_sub(1, Ordering::Relaxed);
            panic!("on purpose");
        }
        Ok(())
    }

    async fn changed(&mut self) {
        if self.bell.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Bench {
    reconcilers: Reconcilers,
    supervisor: Supervisor,
    counter: Counter,
    bell: watch::Sender<u32>,
}

fn bench() -> Bench {
    let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
    let supervisor = Supervisor::new(clock);
    let (bell, heard) = watch::channel(0);
    Bench {
        reconcilers: Reconcilers::new(supervisor.clone(), clock, 7, &Registry::new()).unwrap(),
        supervisor,
        counter: Counter {
            rounds: watch::Sender::new(Vec::new()),
            fail_first: 0,
            panics: Arc::default(),
            bell: heard,
            clock,
        },
        bell,
    }
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn rounds_come_by_the_clock_and_changes_share_one() {
    let bench = bench();
    let rounds = bench.counter.rounds.clone();
    let pace = Pace {
        gap: Duration::from_secs(2),
        ..Pace::every(Duration::from_secs(10))
    };
    bench.reconcilers.spawn(bench.counter, pace);
    seconds(11).await;
    for _ in 0..5 {
        bench.bell.send_modify(|n| *n += 1);
        tokio::task::yield_now().await;
    }
    seconds(5).await;
    use WakeReason::{Changed, Clock, Start};
    assert_eq!(
        *rounds.borrow(),
        [(0, Start), (10, Clock), (12, Changed), (14, Changed)]
    );
    bench.supervisor.stop().cancel();
    seconds(30).await;
    assert_eq!(rounds.borrow().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn failures_wait_longer_each_time_and_show_until_a_success() {
    let mut bench = bench();
    bench.counter.fail_first = 4;
    let rounds = bench.counter.rounds.clone();
    let pace = Pace {
        retry: Duration::from_secs(2),
        ..Pace::every(Duration::from_secs(10))
    };
    bench.reconcilers.spawn(bench.counter, pace);
    seconds(15).await;
    let at: Vec<u64> = rounds.borrow().iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [0, 2, 6, 14]);
    let shown = bench.reconcilers.to_json();
    assert_eq!(shown["counter"]["error"], "not yet");
    assert_eq!(shown["counter"]["healthy"], false);
    seconds(10).await;
    assert_eq!(bench.reconcilers.to_json()["counter"]["failures"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_begins_anew_from_the_clone() {
    let bench = bench();
    bench.counter.panics.store(1, Ordering::Relaxed);
    let rounds = bench.counter.rounds.clone();
    bench
        .reconcilers
        .spawn(bench.counter, Pace::every(Duration::from_secs(60)));
    seconds(7).await;
    assert_eq!(
        *rounds.borrow(),
        [(0, WakeReason::Start), (5, WakeReason::Start)]
    );
    let shown = bench.reconcilers.to_json();
    assert_eq!(shown["counter"]["restarts"], 1);
    let table = bench.supervisor.to_json();
    assert_eq!(
        (&table["tasks"][0]["restarts"], &table["panics"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_rounds_are_shown_with_why_when_and_how() {
    let mut bench = bench();
    bench.counter.fail_first = 1;
    let pace = Pace::every(Duration::from_secs(10));
    bench.reconcilers.spawn(bench.counter, pace);
    seconds(105).await;
    let shown = bench.reconcilers.to_json();
    let last = shown["counter"]["last"].as_array().unwrap();
    let told = |round: &Value| {
        let part = |name: &str| round[name].as_str().unwrap_or("-").to_owned();
        [part("why"), part("at"), part("error")].join(" ")
    };
    assert_eq!(shown["counter"]["rounds"], 11);
    assert_eq!(last.len(), 8);
    assert_eq!(told(&last[0]), "clock 1970-01-01T00:00:30Z -");
    assert_eq!(told(&last[7]), "clock 1970-01-01T00:01:40Z -");
    assert_eq!(last[7]["seconds"], 0.0);
}

#[test]
fn jitter_adds_at_most_its_part_and_repeats_with_the_seed() {
    let pace = Pace {
        jitter_percent: 100,
        ..Pace::every(Duration::from_secs(60))
    };
    let waits = |seed| {
        let mut dice = Dice::new(seed);
        (0..100)
            .map(|_| pace.wait(0, &mut dice))
            .collect::<Vec<_>>()
    };
    assert_eq!(waits(1), waits(1));
    assert!(
        waits(1)
            .iter()
            .all(|wait| (60..=120).contains(&wait.as_secs()))
    );
    assert_ne!(waits(1), waits(2));
}
