//! What goes wrong between kubelet and runtime: a seeded plan, asked once at every RPC and at every event.
//!
//! In:    a seed and rates per 10,000 calls; scripted faults ("at call 3 of StopContainer lose the answer")
//! Out:   one [`Decision`] per call, one [`EventFault`] per event; counters of what was done
//! Calls: `cri::StandInRuntime` at the begin of every RPC
//! Holds: scripted faults go first and are made even while the plan is quiet; decisions depend on the seed and the order of calls only
//! Upstream: none

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tonic::Code;

use crate::prng::Prng;

/// One thing that goes wrong with one RPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call does nothing and ends with this code.
    FailBefore(Code),
    /// The call does its work and then ends with this code.
    LoseAnswer(Code),
    /// The work is done twice, as if a retry below us repeated the request; the second answer is given.
    Twice,
    /// The work begins later.
    Delay(Duration),
    /// Nothing is done and nothing is answered until the caller gives up.
    Hang,
    /// The work is done, but nothing is answered until the caller gives up.
    HangAfter,
    /// All connections drop before the work; the runtime itself stays up.
    Cut,
    /// All connections drop after the work; the runtime itself stays up.
    CutAfter,
    /// The runtime is gone for this long, before the work; containers run on.
    Crash(Duration),
    /// The runtime is gone for this long, after the work; containers run on.
    CrashAfter(Duration),
}

impl Fault {
    /// The effect comes to be and the caller hears nothing of it.
    pub fn loses_answer(&self) -> bool {
        matches!(
            self,
            Self::LoseAnswer(_) | Self::HangAfter | Self::CutAfter | Self::CrashAfter(_)
        )
    }

    /// Name under which it is counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::FailBefore(_) => "fail before",
            Self::LoseAnswer(_) => "lose answer",
            Self::Twice => "twice",
            Self::Delay(_) => "delay",
            Self::Hang => "hang",
            Self::HangAfter => "hang after",
            Self::Cut => "cut",
            Self::CutAfter => "cut after",
            Self::Crash(_) => "crash",
            Self::CrashAfter(_) => "crash after",
        }
    }
}

/// One thing that goes wrong with one event of the event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFault {
    /// It is never sent.
    Drop,
    /// It is sent twice.
    Twice,
    /// It is sent after the next one.
    Swap,
    /// It is sent later.
    Delay(Duration),
}

/// How often each fault comes, per 10,000 calls (or events).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRates {
    /// [`Fault::FailBefore`], with Unavailable, DeadlineExceeded or Unknown.
    pub fail_before: u16,
    /// [`Fault::LoseAnswer`], with Unavailable or DeadlineExceeded.
    pub lose_answer: u16,
    /// [`Fault::Twice`].
    pub twice: u16,
    /// [`Fault::Delay`], uniform up to `longest_delay`.
    pub delay: u16,
    /// [`Fault::Hang`] and [`Fault::HangAfter`], half each.
    pub hang: u16,
    /// [`Fault::Cut`] and [`Fault::CutAfter`], half each.
    pub cut: u16,
    /// [`Fault::Crash`] and [`Fault::CrashAfter`], half each, up to `longest_crash`.
    pub crash: u16,
    /// Extra delay of lists of the whole node.
    pub slow_list: u16,
    /// [`EventFault::Drop`].
    pub event_drop: u16,
    /// [`EventFault::Twice`].
    pub event_twice: u16,
    /// [`EventFault::Swap`].
    pub event_swap: u16,
    /// [`EventFault::Delay`], uniform up to `longest_delay`.
    pub event_delay: u16,
    /// Upper bound of random delays.
    pub longest_delay: Duration,
    /// Upper bound of random down times.
    pub longest_crash: Duration,
}

impl FaultRates {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::uniform(0)
    }

    /// A bad day: everything happens, together to about one call in six.
    pub fn chaos() -> Self {
        Self {
            cut: 50,
            crash: 20,
            hang: 50,
            ..Self::uniform(300)
        }
    }

    /// Every kind at the same rate per 10,000.
    pub fn uniform(rate: u16) -> Self {
        Self {
            fail_before: rate,
            lose_answer: rate,
            twice: rate,
            delay: rate,
            hang: rate,
            cut: rate,
            crash: rate,
            slow_list: rate,
            event_drop: rate,
            event_twice: rate,
            event_swap: rate,
            event_delay: rate,
            longest_delay: Duration::from_secs(60),
            longest_crash: Duration::from_secs(60),
        }
    }
}

/// Whether a call walks the whole node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One object, or a filtered list.
    Narrow,
    /// A list without filter by id or sandbox.
    Node,
}

/// What the plan wants for one call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Wait this long first.
    pub delay: Duration,
    /// And then this.
    pub fault: Option<Fault>,
}

/// The plan: rates, script, its own random streams, and counters.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    rates: FaultRates,
    calls: Prng,
    events: Prng,
    script: BTreeMap<(&'static str, u64), Fault>,
    event_script: BTreeMap<u64, EventFault>,
    seen_calls: BTreeMap<&'static str, u64>,
    seen_events: u64,
    made: BTreeMap<&'static str, u64>,
    quiet: bool,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self::new(0, FaultRates::none())
    }
}

impl FaultPlan {
    /// A plan that depends on the seed and on the order of calls.
    pub fn new(seed: u64, rates: FaultRates) -> Self {
        Self {
            rates,
            calls: Prng::stream(seed, "calls"),
            events: Prng::stream(seed, "events"),
            script: BTreeMap::new(),
            event_script: BTreeMap::new(),
            seen_calls: BTreeMap::new(),
            seen_events: 0,
            made: BTreeMap::new(),
            quiet: false,
        }
    }

    /// Adds a scripted fault at the `nth` call of a method, counted from 1 since the begin of the plan.
    #[must_use]
    pub fn at(mut self, method: &'static str, nth: u64, fault: Fault) -> Self {
        self.add(method, nth, fault);
        self
    }

    /// Adds a scripted fault at the `nth` event, counted from 1.
    #[must_use]
    pub fn at_event(mut self, nth: u64, fault: EventFault) -> Self {
        self.event_script.insert(nth, fault);
        self
    }

    /// Adds a scripted fault to a plan that runs; `nth` counts from 1 since the begin of the plan.
    pub fn add(&mut self, method: &'static str, nth: u64, fault: Fault) {
        self.script.insert((method, nth), fault);
    }

    /// How many calls of the method the plan has seen.
    pub fn calls_of(&self, method: &'static str) -> u64 {
        self.seen_calls.get(method).copied().unwrap_or(0)
    }

    /// No more random faults (scripted ones stay), so that a simulation can look whether things settle.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// How many faults of each kind were made so far.
    pub fn made(&self) -> &BTreeMap<&'static str, u64> {
        &self.made
    }

    /// Asks about the next call of a method.
    pub fn decide(&mut self, method: &'static str, scope: Scope) -> Decision {
        let seen = self.seen_calls.entry(method).or_insert(0);
        *seen += 1;
        let key = (method, *seen);
        let mut decision = Decision::default();
        if let Some(fault) = self.script.remove(&key) {
            self.count(fault.kind());
            match fault {
                Fault::Delay(delay) => decision.delay = delay,
                other => decision.fault = Some(other),
            }
            return decision;
        }
        if self.quiet {
            return decision;
        }
        if self.calls.chance(self.rates.delay) {
            decision.delay = self.calls.duration(self.rates.longest_delay);
            self.count("delay");
        }
        if scope == Scope::Node && self.calls.chance(self.rates.slow_list) {
            decision.delay += self.calls.duration(self.rates.longest_delay);
            self.count("slow list");
        }
        decision.fault = self.random_fault();
        if let Some(fault) = &decision.fault {
            self.count(fault.kind());
        }
        decision
    }

    /// One draw over all kinds, so that a call costs two random numbers and not ten.
    fn random_fault(&mut self) -> Option<Fault> {
        let rates = &self.rates;
        let table = [
            rates.fail_before,
            rates.lose_answer,
            rates.twice,
            rates.hang,
            rates.cut,
            rates.crash,
        ];
        let mut drawn = self.calls.below(10_000);
        let kind = table.iter().position(|rate| {
            let rate = u64::from(*rate);
            let hit = drawn < rate;
            drawn = drawn.saturating_sub(rate);
            hit
        })?;
        let after = self.calls.chance(5_000);
        Some(match (kind, after) {
            (0, _) => Fault::FailBefore(match self.calls.below(3) {
                0 => Code::Unavailable,
                1 => Code::DeadlineExceeded,
                _ => Code::Unknown,
            }),
            (1, true) => Fault::LoseAnswer(Code::DeadlineExceeded),
            (1, false) => Fault::LoseAnswer(Code::Unavailable),
            (2, _) => Fault::Twice,
            (3, true) => Fault::HangAfter,
            (3, false) => Fault::Hang,
            (4, true) => Fault::CutAfter,
            (4, false) => Fault::Cut,
            (_, true) => Fault::CrashAfter(self.calls.duration(self.rates.longest_crash)),
            (_, false) => Fault::Crash(self.calls.duration(self.rates.longest_crash)),
        })
    }

    /// Asks about the next event.
    pub fn decide_event(&mut self) -> Option<EventFault> {
        self.seen_events += 1;
        let fault = match self.event_script.remove(&self.seen_events) {
            Some(fault) => Some(fault),
            None if self.quiet => None,
            None if self.events.chance(self.rates.event_drop) => Some(EventFault::Drop),
            None if self.events.chance(self.rates.event_twice) => Some(EventFault::Twice),
            None if self.events.chance(self.rates.event_swap) => Some(EventFault::Swap),
            None if self.events.chance(self.rates.event_delay) => Some(EventFault::Delay(
                self.events.duration(self.rates.longest_delay),
            )),
            None => None,
        };
        if let Some(fault) = fault {
            self.count(match fault {
                EventFault::Drop => "event drop",
                EventFault::Twice => "event twice",
                EventFault::Swap => "event swap",
                EventFault::Delay(_) => "event delay",
            });
        }
        fault
    }

    fn count(&mut self, kind: &'static str) {
        *self.made.entry(kind).or_insert(0) += 1;
    }
}

impl fmt::Display for FaultPlan {
    /// One line: `crash 2, delay 17, …`; `no faults` if there were none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.made.is_empty() {
            return f.write_str("no faults");
        }
        let parts: Vec<String> = self
            .made
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64) -> (Vec<Decision>, String) {
        let mut plan = FaultPlan::new(seed, FaultRates::uniform(500));
        let decisions = (0..500)
            .map(|_| plan.decide("StopContainer", Scope::Node))
            .collect();
        (decisions, plan.to_string())
    }

    #[test]
    fn a_seed_repeats_and_another_differs() {
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn scripted_faults_come_once_at_their_call_even_when_quiet() {
        let mut plan = FaultPlan::new(1, FaultRates::chaos()).at("Status", 2, Fault::Hang);
        plan.set_quiet(true);
        let made: Vec<_> = (0..3)
            .map(|_| plan.decide("Status", Scope::Narrow).fault)
            .collect();
        assert_eq!(made, [None, Some(Fault::Hang), None]);
        assert_eq!(plan.to_string(), "hang 1");
    }
}
