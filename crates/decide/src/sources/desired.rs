//! Merges whole sets of pods from the sources into one desired set, and says what changed.
//!
//! In:    one source's snapshot (always the whole set), what was desired before
//! Out:   the new desired set; `PodChange`s in delivery order REMOVE, ADD, UPDATE, DELETE, RECONCILE
//! Calls: act/pod/sync_loop.rs
//! Holds: merging a snapshot twice changes nothing; absence from a snapshot removes only pods of that source; the first of
//!        two pods with one full name in one source wins, and the loser is named
//! Upstream: pkg/kubelet/config/config.go (1.36)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1;
use kubelet_model::ids::{PodFullName, PodUid};
use kubelet_model::pod::{
    CONFIG_SEEN_ANNOTATION, CONFIG_SOURCE_ANNOTATION, Pod, SourceKind, changed_alone,
};

/// Every pod that some source wants, by UID.
#[derive(Clone, Debug, Default)]
pub struct DesiredPods {
    /// The pods. Of one UID that several sources name, the source that named it first counts until it names it no more.
    pub pods: BTreeMap<PodUid, Arc<Pod>>,
    /// Sources that have delivered at least once.
    pub seen: BTreeSet<SourceKind>,
    /// What each source named last.
    named: BTreeMap<SourceKind, BTreeMap<PodUid, Arc<Pod>>>,
    /// The last set of each source of which every pod is desired as that source wants it.
    clean: BTreeMap<SourceKind, Vec<Arc<Pod>>>,
}

/// One change of desire.
#[derive(Clone, Debug, PartialEq)]
pub enum PodChange {
    /// Not named any more.
    Remove(Arc<Pod>),
    /// New.
    Add(Arc<Pod>),
    /// Spec, labels or annotations changed.
    Update(Arc<Pod>),
    /// Asked to end, with its grace.
    Delete(Arc<Pod>),
    /// Only its status changed.
    Reconcile(Arc<Pod>),
}

/// What a merge brought.
#[derive(Clone, Debug, Default)]
pub struct Merge {
    /// Changes in delivery order.
    pub changes: Vec<PodChange>,
    /// Full names that came more than once; the first was kept.
    pub duplicates: Vec<PodFullName>,
    /// UIDs that another source names, too; what that one says counts.
    pub elsewhere: Vec<PodUid>,
}

/// Puts one source's whole set in the place of what that source wanted before.
pub fn merge(desired: &mut DesiredPods, source: SourceKind, snapshot: &[Arc<Pod>]) -> Merge {
    let before = desired.clean.remove(&source);
    let changed = before.and_then(|before| changed_alone(&before, snapshot));
    let merge = match changed {
        Some(changed) => merge_changed(desired, source, changed),
        None => merge_whole(desired, source, snapshot),
    };
    if merge.duplicates.is_empty() && merge.elsewhere.is_empty() {
        desired.clean.insert(source, snapshot.to_vec());
    }
    merge
}

/// The same pods as before; these are other objects. Nearly always it is one of many, so the others are not gone through again.
fn merge_changed(desired: &mut DesiredPods, source: SourceKind, changed: Vec<Arc<Pod>>) -> Merge {
    let mut sorted = Sorted::default();
    let named = desired.named.entry(source).or_default();
    for pod in changed {
        named.insert(pod.uid.clone(), Arc::clone(&pod));
        sorted.put(&mut desired.pods, pod);
    }
    Merge {
        changes: sorted.in_order(),
        ..Merge::default()
    }
}

fn merge_whole(desired: &mut DesiredPods, source: SourceKind, snapshot: &[Arc<Pod>]) -> Merge {
    let mut merge = Merge::default();
    let mut wanted: BTreeMap<PodUid, Arc<Pod>> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for pod in snapshot {
        if !wanted.contains_key(&pod.uid) && names.insert(pod.full_name.clone()) {
            wanted.insert(pod.uid.clone(), Arc::clone(pod));
        } else {
            merge.duplicates.push(pod.full_name.clone());
        }
    }
    desired.named.insert(source, wanted.clone());
    let gone: Vec<PodUid> = desired
        .pods
        .iter()
        .filter(|(uid, pod)| pod.source == source && !wanted.contains_key(*uid))
        .map(|(uid, _)| uid.clone())
        .collect();
    let mut sorted = Sorted::default();
    for uid in gone {
        let mut others = desired.named.values();
        if let Some(other) = others.find_map(|named| named.get(&uid).cloned()) {
            // Another source names it, too: what that one says counts from now on.
            sorted.put(&mut desired.pods, other);
        } else if let Some(pod) = desired.pods.remove(&uid) {
            merge.changes.push(PodChange::Remove(pod));
        }
    }
    for (uid, pod) in wanted {
        if desired.pods.get(&uid).is_some_and(|p| p.source != source) {
            merge.elsewhere.push(uid);
        } else {
            sorted.put(&mut desired.pods, pod);
        }
    }
    merge.changes.extend(sorted.in_order());
    desired.seen.insert(source);
    merge
}

/// Changes by kind, before they are put in order.
#[derive(Default)]
struct Sorted {
    adds: Vec<PodChange>,
    updates: Vec<PodChange>,
    deletes: Vec<PodChange>,
    reconciles: Vec<PodChange>,
}

impl Sorted {
    fn in_order(self) -> Vec<PodChange> {
        let parts = [self.adds, self.updates, self.deletes, self.reconciles];
        parts.into_iter().flatten().collect()
    }

    /// Puts the pod in the place of what was desired under its UID, and notes what that changes.
    fn put(&mut self, pods: &mut BTreeMap<PodUid, Arc<Pod>>, pod: Arc<Pod>) {
        let Some(old) = pods.get(&pod.uid) else {
            self.adds.push(PodChange::Add(Arc::clone(&pod)));
            pods.insert(pod.uid.clone(), pod);
            return;
        };
        let is_moved = old.source != pod.source;
        match difference(old, &pod) {
            Difference::None if is_moved => {}
            Difference::None => return,
            Difference::Status => self.reconciles.push(PodChange::Reconcile(Arc::clone(&pod))),
            Difference::Deletion => self.deletes.push(PodChange::Delete(Arc::clone(&pod))),
            Difference::Spec => self.updates.push(PodChange::Update(Arc::clone(&pod))),
        }
        pods.insert(pod.uid.clone(), pod);
    }
}

enum Difference {
    None,
    Status,
    Spec,
    Deletion,
}

fn difference(old: &Pod, new: &Pod) -> Difference {
    if Arc::ptr_eq(&old.object, &new.object) {
        return Difference::None;
    }
    let (old, new) = (&*old.object, &*new.object);
    let marks = |pod: &v1::Pod| {
        (
            pod.metadata.deletion_timestamp.clone(),
            pod.metadata.deletion_grace_period_seconds,
        )
    };
    let semantic = old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || annotations(old) != annotations(new)
        || marks(old) != marks(new);
    if semantic {
        return if new.metadata.deletion_timestamp.is_some() {
            Difference::Deletion
        } else {
            Difference::Spec
        };
    }
    if old.status == new.status {
        Difference::None
    } else {
        Difference::Status
    }
}

/// Annotations without the kubelet's own times, which change with every read.
fn annotations(pod: &v1::Pod) -> BTreeMap<&str, &str> {
    let own = [CONFIG_SEEN_ANNOTATION, CONFIG_SOURCE_ANNOTATION];
    let all = pod.metadata.annotations.iter().flatten();
    all.map(|(k, v)| (k.as_str(), v.as_str()))
        .filter(|(k, _)| !own.contains(k))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, uid: &str, image: &str, source: SourceKind) -> Arc<Pod> {
        let mut object = v1::Pod::default();
        object.metadata.name = Some(name.into());
        object.metadata.namespace = Some("default".into());
        object.metadata.uid = Some(uid.into());
        let container = v1::Container {
            name: "c".into(),
            image: Some(image.into()),
            ..Default::default()
        };
        object.spec = Some(v1::PodSpec {
            containers: vec![container],
            ..Default::default()
        });
        Arc::new(Pod::new(Arc::new(object), source, Vec::new()).unwrap())
    }

    fn words(merge: &Merge) -> Vec<String> {
        let word = |c: &PodChange| match c {
            PodChange::Remove(p) => format!("REMOVE {}", p.uid),
            PodChange::Add(p) => format!("ADD {}", p.uid),
            PodChange::Update(p) => format!("UPDATE {}", p.uid),
            PodChange::Delete(p) => format!("DELETE {}", p.uid),
            PodChange::Reconcile(p) => format!("RECONCILE {}", p.uid),
        };
        merge.changes.iter().map(word).collect()
    }

    #[test]
    fn a_snapshot_becomes_changes_in_delivery_order_and_twice_is_once() {
        use SourceKind::File;
        let mut desired = DesiredPods::default();
        let first = [pod("a", "1", "i", File), pod("b", "2", "i", File)];
        assert_eq!(
            words(&merge(&mut desired, File, &first)),
            ["ADD 1", "ADD 2"]
        );
        assert!(merge(&mut desired, File, &first).changes.is_empty());
        let second = [pod("b", "2", "other", File), pod("c", "3", "i", File)];
        assert_eq!(
            words(&merge(&mut desired, File, &second)),
            ["REMOVE 1", "ADD 3", "UPDATE 2"]
        );
    }

    #[test]
    fn a_source_only_removes_its_own() {
        let mut desired = DesiredPods::default();
        merge(
            &mut desired,
            SourceKind::File,
            &[pod("a", "1", "i", SourceKind::File)],
        );
        merge(
            &mut desired,
            SourceKind::Url,
            &[pod("b", "2", "i", SourceKind::Url)],
        );
        assert_eq!(
            words(&merge(&mut desired, SourceKind::Url, &[])),
            ["REMOVE 2"]
        );
        assert_eq!(desired.pods.len(), 1);
        assert_eq!(desired.seen.len(), 2);
    }

    #[test]
    fn a_uid_that_two_sources_name_stays_until_neither_does() {
        use SourceKind::{File, Url};
        let mut desired = DesiredPods::default();
        merge(&mut desired, File, &[pod("a", "1", "i", File)]);
        let second = merge(&mut desired, Url, &[pod("a", "1", "other", Url)]);
        assert!(second.changes.is_empty());
        assert_eq!(second.elsewhere.len(), 1);
        assert_eq!(words(&merge(&mut desired, File, &[])), ["UPDATE 1"]);
        assert_eq!(words(&merge(&mut desired, Url, &[])), ["REMOVE 1"]);
        assert!(desired.pods.is_empty());
    }

    #[test]
    fn the_first_of_one_full_name_wins() {
        let mut desired = DesiredPods::default();
        let twins = [
            pod("a", "1", "i", SourceKind::File),
            pod("a", "2", "i", SourceKind::File),
        ];
        let merged = merge(&mut desired, SourceKind::File, &twins);
        assert_eq!(words(&merged), ["ADD 1"]);
        assert_eq!(merged.duplicates.len(), 1);
    }
}
