//! The loop of every background task that is not a pod worker: observe, decide, act, wait; with timer, jitter, back-off, status and
//! metrics.
//!
//! In:    a `Reconciler`, its `Pace`
//! Out:   rounds; a table of the last ones (`/debug/tasks`), `hyperkube_reconciler_*`
//! Calls: wiring through [`Reconcilers::spawn`]
//! Holds: one round at a time; a panic ends the round, not the process; each failure lengthens the wait, never beyond the
//!        period, unless the reconciler sets the wait itself; changes in quick succession share a round
//! Upstream: none (there each loop is its own `wait.Until`)

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_model::dice::Dice;
use kubelet_model::doubling::Doubling;
use kubelet_model::error_text::error_text;
use prometheus::{CounterVec, IntCounterVec, Opts, Registry};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::frame::clock::Clock;
use crate::frame::supervisor::Supervisor;

/// A part of a round that did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RoundError(pub String);

/// How a round went.
pub type RoundResult = Result<(), RoundError>;

impl RoundError {
    /// With the causes of an error, outermost first.
    pub fn of(error: &dyn std::error::Error) -> Self {
        Self(error_text(error))
    }
}

/// Why a round began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeReason {
    /// The first one.
    Start,
    /// The period, or the wait after a failure, has passed.
    Clock,
    /// [`Reconciler::changed`].
    Changed,
}

impl WakeReason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Clock => "clock",
            Self::Changed => "changed",
        }
    }
}

/// Something that is brought to where it should be again and again. A clone begins anew after a panic.
pub trait Reconciler: Clone + Send + 'static {
    /// Its name, for people and figures.
    const NAME: &'static str;
    /// What it looks at.
    type Seen: Send;
    /// What is to be done; its text is a log line, empty when there is nothing.
    type Plan: Display + Send;

    /// Looks, under its own deadline.
    fn observe(
        &mut self,
        why: WakeReason,
    ) -> impl Future<Output = Result<Self::Seen, RoundError>> + Send;

    /// Pure.
    fn decide(&self, seen: Self::Seen, now: Timestamp) -> Self::Plan;

    /// Does it, and publishes.
    fn act(&mut self, plan: Self::Plan) -> impl Future<Output = RoundResult> + Send;

    /// Resolves when a round is worth it before its time. Cancel: must lose nothing.
    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// How long to wait after a round that went so; `None` leaves it to the pace.
    fn wait(&self, _result: &RoundResult) -> Option<Duration> {
        None
    }

    /// What is still to be done when the process stops. Bounded by itself.
    fn last_words(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// How often.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between rounds.
    pub period: Duration,
    /// At most this part of the period is added at random, in percent.
    pub jitter_percent: u32,
    /// After the first failure; doubles up to the period.
    pub retry: Duration,
    /// Shortest time from one round to the next that a change asks for.
    pub gap: Duration,
}

impl Pace {
    /// A plain period: no jitter, the same period after a failure, changes at most once a second.
    pub fn every(period: Duration) -> Self {
        Self {
            period,
            jitter_percent: 0,
            retry: period,
            gap: Duration::from_secs(1),
        }
    }

    fn wait(&self, failures: u32, dice: &mut Dice) -> Duration {
        if failures > 0 {
            return Doubling::new(self.retry, self.period).after(failures);
        }
        dice.jitter(self.period, f64::from(self.jitter_percent) / 100.0)
    }
}

/// This many rounds are shown.
const SHOWN_ROUNDS: usize = 8;

/// How the rounds of one reconciler went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rounds {
    /// All so far.
    pub total: u64,
    /// Failures since the last success.
    pub failures: u32,
    /// What the last failure said, until a success.
    pub error: Option<String>,
    /// How often it was begun anew after a panic.
    pub restarts: u32,
    /// The last ones, the newest last.
    pub last: VecDeque<RoundOutcome>,
}

/// One round.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundOutcome {
    /// Why it began.
    pub why: WakeReason,
    /// Its end.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What did not work.
    pub error: Option<String>,
}

impl RoundOutcome {
    fn to_json(&self) -> Value {
        json!({
            "why": self.why.as_str(),
            "at": self.at.to_string(),
            "seconds": self.took.as_secs_f64(),
            "error": self.error,
        })
    }
}

/// After this many failures in a row it counts as unhealthy.
const UNHEALTHY_FAILURES: u32 = 3;

/// Starts reconcilers and knows how they do. Clones share the table.
#[derive(Clone, Debug)]
pub struct Reconcilers {
    supervisor: Supervisor,
    clock: Clock,
    seed: u64,
    table: watch::Sender<BTreeMap<&'static str, Rounds>>,
    rounds: IntCounterVec,
    seconds: CounterVec,
}

impl Reconcilers {
    /// An empty table; `seed` spreads the timers of this process from those of others.
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub fn new(
        supervisor: Supervisor,
        clock: Clock,
        seed: u64,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let rounds = IntCounterVec::new(
            Opts::new(
                "hyperkube_reconciler_rounds_total",
                "Rounds of background loops, by result",
            ),
            &["name", "result"],
        )?;
        let seconds = CounterVec::new(
            Opts::new(
                "hyperkube_reconciler_seconds_total",
                "Time that rounds of background loops took",
            ),
            &["name"],
        )?;
        registry.register(Box::new(rounds.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            supervisor,
            clock,
            seed,
            table: watch::Sender::new(BTreeMap::new()),
            rounds,
            seconds,
        })
    }

    /// Runs one under the supervisor until the stop; begins with a round at once.
    pub fn spawn<R: Reconciler>(&self, reconciler: R, pace: Pace) {
        let this = self.clone();
        let name_seed = R::NAME.bytes().fold(self.seed, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        let mut begun = 0_u32;
        self.supervisor.spawn_reconciler(R::NAME, move || {
            this.table.send_modify(|table| {
                table.entry(R::NAME).or_default().restarts = begun;
            });
            begun = begun.saturating_add(1);
            // Boxed: the future holds a round of any size.
            Box::pin(
                this.clone()
                    .run(reconciler.clone(), pace, Dice::new(name_seed)),
            )
        });
    }

    async fn run<R: Reconciler>(self, mut reconciler: R, pace: Pace, mut dice: Dice) {
        let stop = self.supervisor.stop().clone();
        let mut why = WakeReason::Start;
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let began = self.clock.moment();
            let round = self.round(&mut reconciler, why);
            // Cancel: a round has no more to do with a process that stops than with one that crashes.
            let Some(result) = stop.run_until_cancelled(round).await else {
                break;
            };
            let took = self.clock.moment().0.saturating_sub(began.0);
            failures = self.ended::<R>(why, &result, failures, took);
            let wait = reconciler.wait(&result);
            let wait = wait.unwrap_or_else(|| pace.wait(failures, &mut dice));
            let Some(next) = pause(&mut reconciler, wait, pace.gap, &stop).await else {
                break;
            };
            why = next;
        }
        reconciler.last_words().await;
    }

    async fn round<R: Reconciler>(&self, reconciler: &mut R, why: WakeReason) -> RoundResult {
        let seen = reconciler.observe(why).await?;
        let plan = reconciler.decide(seen, self.clock.now());
        let text = plan.to_string();
        if !text.is_empty() {
            tracing::debug!(reconciler = R::NAME, why = ?why, plan = text, "Acting");
        }
        reconciler.act(plan).await
    }

    /// Notes a round; failures in a row with it.
    fn ended<R: Reconciler>(
        &self,
        why: WakeReason,
        result: &RoundResult,
        before: u32,
        took: Duration,
    ) -> u32 {
        let word = if result.is_ok() { "done" } else { "failed" };
        self.rounds.with_label_values(&[R::NAME, word]).inc();
        self.seconds
            .with_label_values(&[R::NAME])
            .inc_by(took.as_secs_f64());
        let error = result.as_ref().err().map(|error| error.0.clone());
        let failures = match error {
            Some(_) => before.saturating_add(1),
            None => 0,
        };
        let at = self.clock.now();
        self.table.send_modify(|table| {
            let rounds = table.entry(R::NAME).or_default();
            // The same failure again is no news.
            if let Some(error) = &error
                && rounds.error.as_ref() != Some(error)
            {
                tracing::warn!(reconciler = R::NAME, err = %error, "Round failed; it is tried again");
            }
            if error.is_none() && before > 0 {
                tracing::info!(reconciler = R::NAME, failures = before, "Round succeeded again");
            }
            rounds.total += 1;
            rounds.failures = failures;
            rounds.error.clone_from(&error);
            if rounds.last.len() == SHOWN_ROUNDS {
                rounds.last.pop_front();
            }
            rounds.last.push_back(RoundOutcome {
                why,
                at,
                took,
                error,
            });
        });
        failures
    }

    /// How all of them do.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<&'static str, Rounds>> {
        self.table.subscribe()
    }

    /// The table, for `/debug/tasks`.
    pub fn to_json(&self) -> Value {
        let table = self.table.borrow();
        let rounds = table.iter().map(|(name, rounds)| {
            let row = json!({
                "rounds": rounds.total,
                "failures": rounds.failures,
                "healthy": rounds.failures < UNHEALTHY_FAILURES,
                "error": rounds.error,
                "restarts": rounds.restarts,
                "last": rounds.last.iter().map(RoundOutcome::to_json).collect::<Vec<_>>(),
            });
            ((*name).to_owned(), row)
        });
        Value::Object(rounds.collect())
    }
}

/// Waits for the next round; `None` at the stop.
async fn pause<R: Reconciler>(
    reconciler: &mut R,
    wait: Duration,
    gap: Duration,
    stop: &CancellationToken,
) -> Option<WakeReason> {
    let ended = tokio::time::Instant::now();
    let why = tokio::select! {
        // The stop first; a due timer before a change, which the same round serves. Nothing is lost when another arm wins.
        biased;
        () = stop.cancelled() => return None,
        () = tokio::time::sleep(wait) => WakeReason::Clock,
        () = reconciler.changed() => WakeReason::Changed,
    };
    if why == WakeReason::Changed {
        tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            () = tokio::time::sleep_until(ended + gap.min(wait)) => {}
        }
    }
    Some(why)
}

#[cfg(test)]
mod tests;
