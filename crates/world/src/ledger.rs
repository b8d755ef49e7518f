//! What was asked of the kubelet, and when: every life of every pod UID, with its versions.
//!
//! In:    each whole set that was handed to a living kubelet
//! Out:   whether a pod was wanted all the time, and as what
//! Calls: run writes; watch and invariants read
//! Holds: what changed while the kubelet was down and changed back was never asked
//! Upstream: none

use std::collections::BTreeMap;
use std::sync::Arc;

use kubelet_model::pod::Pod;

/// A pod as asked for from a time on.
#[derive(Clone, Debug)]
pub struct Version {
    /// Nanoseconds since 1970.
    pub at: i64,
    /// The pod.
    pub pod: Arc<Pod>,
}

/// From the first time a UID was asked for until it was not any more.
#[derive(Clone, Debug)]
pub struct Life {
    /// Begin, nanoseconds since 1970.
    pub since: i64,
    /// End.
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
}

impl Ledger {
    /// A whole set was handed over.
    pub fn sent(&mut self, now: i64, pods: &[Arc<Pod>]) {
        for (uid, lives) in &mut self.lives {
            let open = lives.last_mut().filter(|life| life.until.is_none());
            if let Some(life) = open
                && pods.iter().all(|pod| pod.uid.as_str() != uid)
            {
                life.until = Some(now);
            }
        }
        for pod in pods {
            let lives = self.lives.entry(pod.uid.to_string()).or_default();
            let version = Version {
                at: now,
                pod: Arc::clone(pod),
            };
            match lives.last_mut().filter(|life| life.until.is_none()) {
                Some(life) if life.pod() == Some(pod) => {}
                Some(life) => life.versions.push(version),
                None => lives.push(Life {
                    since: now,
                    until: None,
                    versions: vec![version],
                }),
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
