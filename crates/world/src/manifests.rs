//! The manifests of every source, and how they change.
//!
//! In:    actions, random numbers
//! Out:   the whole set of each source
//! Calls: run
//! Holds: names of the second source are few, so that they meet those of the first; UIDs are never used twice
//! Upstream: none

use std::collections::BTreeMap;
use std::sync::Arc;

use kubelet_model::pod::{Pod, SourceKind};
use testkit::prng::Prng;

use crate::pods;
use crate::script::Action;

/// A manifest: its source and the number in its pod's name.
type Key = (SourceKind, usize);

/// All of them.
#[derive(Debug, Default)]
pub struct Manifests {
    pods: BTreeMap<Key, Arc<Pod>>,
    gone: BTreeMap<Key, Arc<Pod>>,
    next_uid: u32,
    has_url: bool,
}

impl Manifests {
    /// None yet; of one source or of two.
    pub fn new(has_url: bool) -> Self {
        Self {
            has_url,
            ..Self::default()
        }
    }

    /// The set of one source.
    pub fn of(&self, source: SourceKind) -> Vec<Arc<Pod>> {
        let pods = self.pods.iter().filter(|((of, _), _)| *of == source);
        pods.map(|(_, pod)| Arc::clone(pod)).collect()
    }

    /// Those of all sources.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    /// All go.
    pub fn clear(&mut self) {
        self.pods.clear();
    }

    fn new_pod(&mut self, (source, number): Key, random: &mut Prng) -> Arc<Pod> {
        self.next_uid += 1;
        let uid = format!("uid{}", self.next_uid);
        pods::pod(source, number, &uid, random)
    }

    /// Changes one manifest; says of which source.
    pub fn change(&mut self, action: &Action, random: &mut Prng) -> Option<SourceKind> {
        let keys: Vec<Key> = self.pods.keys().copied().collect();
        let picked = (!keys.is_empty()).then(|| keys[pods::at(random, keys.len())]);
        let is_free = |key: &Key| !self.pods.contains_key(key);
        let changed = match (action, picked) {
            (Action::Add, _) => {
                let (source, names) = if self.has_url && random.chance(4_000) {
                    (SourceKind::Url, 0..3)
                } else {
                    (SourceKind::File, 0..6)
                };
                let key = names.map(|number| (source, number)).find(is_free)?;
                let pod = self.new_pod(key, random);
                self.pods.insert(key, pod);
                key
            }
            (Action::Remove, Some(key)) => {
                let pod = self.pods.remove(&key)?;
                self.gone.insert(key, pod);
                key
            }
            (Action::BringBack, _) => {
                let key = self.gone.keys().copied().find(is_free)?;
                let pod = self.gone.remove(&key)?;
                self.pods.insert(key, pod);
                key
            }
            (Action::EditImage, Some(key)) => {
                let image = pods::image(random);
                let pod = self.pods.get_mut(&key)?;
                let which = pods::at(random, pod.containers().len());
                *pod = pods::with_image(pod, which, image);
                key
            }
            (Action::Replace, Some(key)) => {
                let pod = self.new_pod(key, random);
                self.pods.insert(key, pod);
                key
            }
            (Action::Share, Some((SourceKind::File, number))) if self.has_url => {
                let key = (SourceKind::Url, number);
                let pod = self.pods.get(&(SourceKind::File, number))?;
                let pod = pods::from_source(pod, SourceKind::Url);
                self.pods.insert(key, pod);
                key
            }
            _ => return None,
        };
        Some(changed.0)
    }
}
