//! What was asked of the kubelet, and when: every life of every pod UID, with its versions.
//!
//! In:    each whole set that a source handed to a living kubelet
//! Out:   whether a pod was wanted all the time, and as what
//! Calls: run writes; watch and invariants read
//! Holds: what changed while the kubelet was down and changed back was never asked; a pod that no source names any more is wanted
//!        until every source has spoken in this life of the kubelet; of a UID that two sources name the first counts
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
}

impl Ledger {
    /// A new life of the kubelet: no source has spoken to it yet.
    pub fn kubelet_starts(&mut self) {
        self.named.clear();
        self.counts.clear();
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
