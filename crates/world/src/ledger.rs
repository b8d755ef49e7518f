//! What was asked of the kubelet, and when: every life of every pod UID, with its versions.
//!
//! In:    each whole set that a source handed to a living kubelet
//! Out:   whether a pod was wanted all the time, and as what
//! Calls: run writes; watch and invariants read
//! Holds: what changed while the kubelet was down and changed back was never asked; a pod that no source names any more is wanted
//!        until every source has spoken in this life of the kubelet; of a UID that two sources name the first counts; a pod that is
//!        back before the kubelet may let go of anything may have gone on
//! Upstream: none

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kubelet_model::pod::{Pod, SourceKind};

/// A moment, by the truth and by the node's wall clock; nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The truth.
    pub truth: i64,
    /// What the node's clock said.
    pub wall: i64,
}

/// A pod as asked for from a time on.
#[derive(Clone, Debug)]
pub struct Version {
    /// Nanoseconds since 1970, the truth.
    pub at: i64,
    /// The pod.
    pub pod: Arc<Pod>,
}

/// From the first time a UID was asked for until it was not any more.
#[derive(Clone, Debug)]
pub struct Life {
    /// Begin, nanoseconds since 1970, the truth.
    pub since: i64,
    /// Begin by the node's wall clock.
    pub since_wall: i64,
    /// End: from here on it may be removed.
    pub until: Option<i64>,
    /// What was asked, in order.
    pub versions: Vec<Version>,
    /// The life before may have gone on as this one: the kubelet could not let go of the pod in between.
    pub goes_on: bool,
}

impl Life {
    /// The newest version.
    pub fn pod(&self) -> Option<&Arc<Pod>> {
        self.versions.last().map(|version| &version.pod)
    }

    /// Versions that were in force at some moment of this time.
    pub fn versions_between(&self, from: i64, to: i64) -> impl Iterator<Item = &Arc<Pod>> {
        let next = self.versions.iter().skip(1).map(|version| version.at);
        let ends = next.chain([i64::MAX]);
        let spans = self.versions.iter().zip(ends);
        spans
            .filter(move |(version, end)| version.at <= to && *end >= from)
            .map(|(version, _)| &version.pod)
    }
}

/// All lives by UID.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    lives: BTreeMap<String, Vec<Life>>,
    /// What each source that has spoken names now.
    named: BTreeMap<SourceKind, BTreeMap<String, Arc<Pod>>>,
    /// Whose word counts for a UID.
    counts: BTreeMap<String, SourceKind>,
    /// When the kubelet started, while it has not let go of anything yet: it has not heard every source, or not listed the runtime. A
    /// process that ends before that leaves all to the next.
    holds_since: Option<i64>,
    /// When the kubelet ended.
    ends: Vec<i64>,
}

impl Ledger {
    /// A new life of the kubelet: no source has spoken to it yet.
    pub fn kubelet_starts(&mut self, at: i64) {
        self.named.clear();
        self.counts.clear();
        self.holds_since.get_or_insert(at);
    }

    /// The process ended, however.
    pub fn kubelet_ends(&mut self, at: i64) {
        self.ends.push(at);
    }

    /// Whether a kubelet ended between these moments.
    pub fn kubelet_ended_between(&self, from: i64, to: i64) -> bool {
        self.ends.iter().any(|at| (from..=to).contains(at))
    }

    /// From here on the kubelet stops what no source names.
    pub fn kubelet_lets_go(&mut self) {
        self.holds_since = None;
    }

    /// A source's whole set was handed over. `all` are the sources that there are.
    pub fn sent(
        &mut self,
        now: Now,
        source: SourceKind,
        pods: &[Arc<Pod>],
        all: &BTreeSet<SourceKind>,
    ) {
        let set: BTreeMap<String, Arc<Pod>> = pods
            .iter()
            .map(|pod| (pod.uid.to_string(), Arc::clone(pod)))
            .collect();
        self.named.insert(source, set);
        self.settle_who_counts();
        for (uid, of) in &self.counts {
            let pod = &self.named[of][uid];
            let lives = self.lives.entry(uid.clone()).or_default();
            let version = Version {
                at: now.truth,
                pod: Arc::clone(pod),
            };
            match lives.last_mut().filter(|life| life.until.is_none()) {
                Some(life) if life.pod() == Some(pod) => {}
                Some(life) => life.versions.push(version),
                None => lives.push(Life {
                    since: now.truth,
                    since_wall: now.wall,
                    until: None,
                    versions: vec![version],
                    goes_on: lives.last().is_some_and(|before| {
                        self.holds_since
                            .is_some_and(|held| before.until >= Some(held))
                    }),
                }),
            }
        }
        if all.iter().all(|source| self.named.contains_key(source)) {
            for (uid, lives) in &mut self.lives {
                if let Some(life) = lives.last_mut().filter(|life| life.until.is_none())
                    && !self.counts.contains_key(uid)
                {
                    life.until = Some(now.truth);
                }
            }
        }
    }

    fn settle_who_counts(&mut self) {
        let named = &self.named;
        self.counts
            .retain(|uid, source| named.get(source).is_some_and(|set| set.contains_key(uid)));
        for (source, set) in named {
            for uid in set.keys() {
                self.counts.entry(uid.clone()).or_insert(*source);
            }
        }
    }

    /// The life that a thing made at this time belongs to, with its number.
    pub fn life_at(&self, uid: &str, at: i64) -> Option<(usize, &Life)> {
        let lives = self.lives.get(uid)?;
        lives
            .iter()
            .enumerate()
            .rev()
            .find(|(_, life)| life.since <= at)
    }

    /// When the pod of this life may have become active: where lives may have gone on as one, the first of them began it.
    pub fn active_since(&self, uid: &str, life: &Life) -> i64 {
        let lives = self.lives.get(uid).map_or(&[][..], Vec::as_slice);
        let so_far = lives.iter().rev().skip_while(|of| of.since > life.since);
        let mut first = life.since;
        for of in so_far {
            first = of.since;
            if !of.goes_on {
                break;
            }
        }
        first
    }

    /// The life of this number.
    pub fn life(&self, uid: &str, number: usize) -> Option<&Life> {
        self.lives.get(uid)?.get(number)
    }

    /// The life now, if the pod is wanted.
    pub fn wanted(&self, uid: &str) -> Option<(usize, &Life)> {
        let lives = self.lives.get(uid)?;
        let number = lives.len().checked_sub(1)?;
        let life = lives.last().filter(|life| life.until.is_none())?;
        Some((number, life))
    }

    /// Whether the pod was wanted from one time to the other without a break.
    pub fn wanted_throughout(&self, uid: &str, from: i64, to: i64) -> bool {
        self.life_at(uid, from)
            .is_some_and(|(_, life)| life.until.is_none_or(|until| until > to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods;
    use testkit::prng::Prng;

    const FILE: SourceKind = SourceKind::File;

    /// When the pod's third life may have begun, where the kubelet starts before these moments and lets go of pods from one on.
    fn active_since(starts: &[i64], lets_go_at: i64) -> i64 {
        let pod = pods::pod(FILE, 0, "uid1", &mut Prng::new(1));
        let all = BTreeSet::from([FILE]);
        let mut ledger = Ledger::default();
        for (at, is_named) in [(1, true), (2, false), (11, true), (12, false), (13, true)] {
            if starts.contains(&at) {
                ledger.kubelet_starts(at - 1);
            }
            if at >= lets_go_at {
                ledger.kubelet_lets_go();
            }
            let set = if is_named {
                vec![Arc::clone(&pod)]
            } else {
                Vec::new()
            };
            let now = Now {
                truth: at,
                wall: at,
            };
            ledger.sent(now, FILE, &set, &all);
        }
        let (number, life) = ledger.wanted("uid1").unwrap();
        assert_eq!((number, life.since), (2, 13));
        ledger.active_since("uid1", life)
    }

    #[test]
    fn a_pod_that_is_back_before_the_kubelet_lets_go_may_have_gone_on() {
        assert_eq!(active_since(&[11], i64::MAX), 11);
        assert_eq!(active_since(&[11], 13), 13);
        // A process that let go of nothing leaves what it held to the next.
        assert_eq!(active_since(&[11, 13], i64::MAX), 11);
        assert_eq!(active_since(&[11, 13], 12), 13);
    }
}
