//! When the probes of one instance of a container are tried, and what follows from the answers.
//!
//! In:    specs, the moment of the container's start, what was known of the instance before, answers; the moment of each
//! Out:   which probe is due and when the next one is; results
//! Calls: act/probes/prober
//! Holds: reads no clock; startup comes before the others; a result changes only by its threshold; after startup has spoken, or liveness
//!        has failed, that probe is not tried again for this instance; a failed early try counts as no failure
//! Upstream: pkg/kubelet/prober/worker.go (doProbe); differences: with early tries a container is started and ready as soon as it is

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1;
use kubelet_model::doubling::Doubling;

use crate::probes::spec::{ProbeSpec, probe_of};
use crate::shapes::probe::{ContainerProbes, ProbeKind, ProbeResult, Target};

/// The first pause between early tries.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// When the first tries are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstTries {
    /// At the period alone, as upstream's kubelet does.
    ByPeriod,
    /// At short, growing intervals until the first success.
    Early,
}

/// Why a try is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// Its period has passed: the answer counts.
    Regular,
    /// Before its time: only a success counts.
    Early,
}

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryResult {
    /// Well.
    Success,
    /// Not well.
    Failure,
    /// The probe itself did not work: nothing is known.
    Error,
}

/// What comes next of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// A try at this steady time.
    At(Timestamp),
    /// The answer of a try.
    UnderWay,
    /// The startup probe's success.
    AfterStartup,
    /// Nothing: it has spoken for this instance.
    Settled,
}

/// One probe's state.
#[derive(Clone, Debug)]
struct Row {
    kind: ProbeKind,
    spec: ProbeSpec,
    /// The last answer that counted, and how many times in a row it came.
    run: (Option<ProbeResult>, u32),
    /// It has spoken for this instance.
    is_settled: bool,
    is_under_way: bool,
    /// The next regular try; `None` before its turn has come.
    regular: Option<Timestamp>,
    /// The next early try and how many there were; `None` when there are none any more.
    early: Option<(Timestamp, u32)>,
}

/// The probes of one instance.
#[derive(Clone, Debug)]
pub struct Timetable {
    results: ContainerProbes,
    rows: Vec<Row>,
    started_at: Timestamp,
    first_tries: FirstTries,
    /// Where in a period this container's regular tries lie, in thousandths.
    phase: u32,
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// The next moment of a timetable after this one; one that was missed while a try was under way is made up for at once.
fn next_regular(due: Timestamp, period: Duration, now: Timestamp) -> Timestamp {
    let next = after(due, period);
    let late = Duration::try_from(now.duration_since(next)).unwrap_or_default();
    let missed = late.as_millis() / period.as_millis().max(1);
    let missed = u32::try_from(missed).unwrap_or(u32::MAX);
    after(next, period.saturating_mul(missed))
}

impl Timetable {
    /// For an instance; `phase` spreads those of many containers over their periods.
    pub fn new(
        container: &v1::Container,
        target: &Target,
        first_tries: FirstTries,
        phase: u32,
        now: Timestamp,
    ) -> Self {
        let known = target.known.clone();
        let rows = ProbeKind::ALL.into_iter().filter_map(|kind| {
            let spec = ProbeSpec::of(probe_of(container, kind)?);
            Some(Row {
                kind,
                spec,
                run: (None, 0),
                is_settled: false,
                is_under_way: false,
                regular: None,
                early: None,
            })
        });
        let mut table = Self {
            rows: rows.collect(),
            results: known
                .clone()
                .unwrap_or_else(|| ContainerProbes::none(target.id.clone())),
            started_at: target.started_at,
            first_tries,
            phase: phase % 1000,
        };
        for row in &mut table.rows {
            match (row.kind, table.results.of(row.kind)) {
                (ProbeKind::Startup, Some(_))
                | (ProbeKind::Liveness, Some(ProbeResult::Failure)) => {
                    row.is_settled = true;
                }
                (ProbeKind::Liveness, None) => {
                    *table.results.of_mut(row.kind) = Some(ProbeResult::Success);
                }
                (ProbeKind::Readiness, None) => {
                    *table.results.of_mut(row.kind) = Some(ProbeResult::Failure);
                }
                (ProbeKind::Startup, None)
                | (ProbeKind::Liveness | ProbeKind::Readiness, Some(_)) => {}
            }
        }
        table.open(known.is_some(), now);
        table
    }

    /// What is known.
    pub fn results(&self) -> &ContainerProbes {
        &self.results
    }

    /// The numbers of one of the probes.
    pub fn spec(&self, kind: ProbeKind) -> Option<ProbeSpec> {
        let row = self.rows.iter().find(|row| row.kind == kind);
        row.map(|row| row.spec)
    }

    /// What comes next of a probe, by steady time, and how many answers in a row were like the last that counted.
    pub fn outlook(&self, kind: ProbeKind) -> Option<(Outlook, u32)> {
        let row = self.rows.iter().find(|row| row.kind == kind)?;
        let early = row.early.map(|(at, _)| at);
        let next = row.regular.into_iter().chain(early).min();
        let outlook = match next {
            _ if row.is_settled => Outlook::Settled,
            _ if row.is_under_way => Outlook::UnderWay,
            Some(at) => Outlook::At(at),
            None => Outlook::AfterStartup,
        };
        Some((outlook, row.run.1))
    }

    /// Whether a probe has spoken for this instance: what it answers now says nothing.
    pub fn is_settled(&self, kind: ProbeKind) -> bool {
        let row = self.rows.iter().find(|row| row.kind == kind);
        row.is_none_or(|row| row.is_settled)
    }

    fn has_startup_to_come(&self) -> bool {
        let mut rows = self.rows.iter();
        rows.any(|row| row.kind == ProbeKind::Startup)
            && self.results.startup != Some(ProbeResult::Success)
    }

    /// Gives those their first moment whose turn has come. One that went on before the kubelet did is not tried with all others at once.
    fn open(&mut self, is_taken_over: bool, now: Timestamp) {
        let waits = self.has_startup_to_come();
        let (started_at, phase, first_tries) = (self.started_at, self.phase, self.first_tries);
        for row in &mut self.rows {
            let is_its_turn = row.kind == ProbeKind::Startup || !waits;
            if row.regular.is_some() || row.is_settled || !is_its_turn {
                continue;
            }
            let opens = after(started_at, row.spec.initial_delay).max(now);
            let is_early = first_tries == FirstTries::Early
                && !is_taken_over
                && row.kind != ProbeKind::Liveness;
            // Upstream's status update asks for readiness at once; the others wait for their tick.
            let is_at_once = row.kind == ProbeKind::Readiness && !is_taken_over && !is_early;
            let spread = if is_at_once {
                Duration::ZERO
            } else {
                row.spec.period.saturating_mul(phase) / 1000
            };
            row.regular = Some(after(opens, spread));
            row.early = is_early.then(|| (after(opens, FIRST_PAUSE), 1));
        }
    }

    /// Which probe is due, as what and since when; it is under way from here on.
    pub fn begin_due(&mut self, now: Timestamp) -> Option<(ProbeKind, Try, Timestamp)> {
        for row in &mut self.rows {
            if row.is_under_way || row.is_settled {
                continue;
            }
            let early = row.early.map(|(at, _)| (Try::Early, at));
            let regular = row.regular.map(|at| (Try::Regular, at));
            let due = regular.into_iter().chain(early);
            if let Some((as_, since)) = due.into_iter().find(|(_, at)| *at <= now) {
                row.is_under_way = true;
                return Some((row.kind, as_, since));
            }
        }
        None
    }

    /// When the next one is due; `None` while that depends on an answer.
    pub fn next_at(&self) -> Option<Timestamp> {
        let rows = self.rows.iter();
        let open = rows.filter(|row| !row.is_under_way && !row.is_settled);
        open.filter_map(|row| {
            let early = row.early.map(|(at, _)| at);
            row.regular.into_iter().chain(early).min()
        })
        .min()
    }

    /// An answer; whether it changed a result.
    pub fn answered(
        &mut self,
        kind: ProbeKind,
        as_: Try,
        result: TryResult,
        now: Timestamp,
    ) -> bool {
        let Some(row) = self.rows.iter_mut().find(|row| row.kind == kind) else {
            return false;
        };
        row.is_under_way = false;
        if row.is_settled {
            // Meanwhile the pod was told to end.
            return false;
        }
        row.reschedule(as_, result, now);
        let counted = match (result, as_) {
            (TryResult::Error, _) | (TryResult::Failure, Try::Early) => return false,
            (TryResult::Success, _) => ProbeResult::Success,
            (TryResult::Failure, Try::Regular) => ProbeResult::Failure,
        };
        row.run = match row.run {
            (Some(last), times) if last == counted => (Some(last), times.saturating_add(1)),
            _ => (Some(counted), 1),
        };
        let threshold = match counted {
            ProbeResult::Success => row.spec.success_threshold,
            ProbeResult::Failure => row.spec.failure_threshold,
        };
        if row.run.1 < threshold {
            return false;
        }
        let is_last = kind == ProbeKind::Startup
            || kind == ProbeKind::Liveness && counted == ProbeResult::Failure;
        if is_last {
            row.is_settled = true;
        }
        let known = self.results.of_mut(kind);
        let is_new = *known != Some(counted);
        *known = Some(counted);
        if is_new && kind == ProbeKind::Startup && counted == ProbeResult::Success {
            self.open(false, now);
        }
        is_new
    }

    /// The pod is being deleted: startup and liveness end quietly. Whether that changed a result.
    pub fn leave(&mut self, now: Timestamp) -> bool {
        let mut is_changed = false;
        for row in &mut self.rows {
            if row.kind == ProbeKind::Readiness || row.is_settled {
                continue;
            }
            row.is_settled = true;
            let known = self.results.of_mut(row.kind);
            is_changed |= *known != Some(ProbeResult::Success);
            *known = Some(ProbeResult::Success);
        }
        if is_changed {
            // Readiness may be tried from here on: its turn does not come otherwise.
            self.open(true, now);
        }
        is_changed
    }
}

impl Row {
    fn reschedule(&mut self, as_: Try, result: TryResult, now: Timestamp) {
        if let Some((_, tries)) = self.early {
            let tries = tries.saturating_add(1);
            let pause = Doubling::new(FIRST_PAUSE, self.spec.period).after(tries);
            // From a period on the regular tries are as good.
            let is_worth_it = result != TryResult::Success && pause < self.spec.period;
            self.early = is_worth_it.then(|| (after(now, pause), tries));
        }
        match as_ {
            Try::Regular => {
                self.regular = self
                    .regular
                    .map(|due| next_regular(due, self.spec.period, now));
            }
            // It was as good as a regular one: the next is a period later.
            Try::Early if result == TryResult::Success => {
                self.regular = Some(after(now, self.spec.period));
            }
            Try::Early => {}
        }
    }
}

#[cfg(test)]
mod tests;
