//! Compares two re-lists of the runtime: which pods must be inspected.
//!
//! In:    what one list said, what the list before said: small states, no inspection
//! Out:   UIDs whose pods changed, with what to inspect
//! Calls: act/observe/pleg.rs after each relist
//! Holds: a change that the list shows is never missed; a list compared with itself gives nothing
//! Upstream: pkg/kubelet/pleg/generic.go (1.36); differences: whole instances are compared, there is one event: look again

use std::collections::{BTreeMap, BTreeSet};

use kubelet_api::runtime::v1 as cri;
use kubelet_model::ids::{PodFullName, PodUid};

/// Label of a sandbox or container: UID of its pod.
pub const POD_UID_LABEL: &str = "io.kubernetes.pod.uid";
const POD_NAME_LABEL: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";

/// One list of the runtime, by pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// UID → (sandbox or container id → state), ids of both kinds do not clash.
    pub pods: BTreeMap<PodUid, BTreeMap<String, ListedState>>,
    /// UID → the pod's name, as labels tell it.
    pub names: BTreeMap<PodUid, PodFullName>,
    /// Labels that look like a pod's and name no possible UID: such a thing is nobody's, and is left alone.
    pub refused: BTreeSet<String>,
}

/// State as a list shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedState {
    /// A sandbox and its state.
    Sandbox(i32),
    /// A container and its state.
    Container(i32),
}

impl Listing {
    /// Sorts two lists by pod. Things without our labels are not ours and are left out.
    pub fn new(sandboxes: &[cri::PodSandbox], containers: &[cri::Container]) -> Self {
        let mut pods: BTreeMap<PodUid, BTreeMap<String, ListedState>> = BTreeMap::new();
        let labels = sandboxes.iter().map(|s| &s.labels);
        let labels = labels.chain(containers.iter().map(|c| &c.labels));
        let names = labels.filter_map(name_of).collect();
        let mut refused = BTreeSet::new();
        for sandbox in sandboxes {
            if let Some(uid) = uid_of(&sandbox.labels, &mut refused) {
                let entry = pods.entry(uid).or_default();
                entry.insert(sandbox.id.clone(), ListedState::Sandbox(sandbox.state));
            }
        }
        for container in containers {
            if let Some(uid) = uid_of(&container.labels, &mut refused) {
                let entry = pods.entry(uid).or_default();
                entry.insert(
                    container.id.clone(),
                    ListedState::Container(container.state),
                );
            }
        }
        Self {
            pods,
            names,
            refused,
        }
    }
}

fn uid_of(labels: &BTreeMap<String, String>, refused: &mut BTreeSet<String>) -> Option<PodUid> {
    let uid = PodUid::parse(labels.get(POD_UID_LABEL)?);
    uid.map_err(|bad| refused.insert(bad.to_string())).ok()
}

fn name_of(labels: &BTreeMap<String, String>) -> Option<(PodUid, PodFullName)> {
    let uid = PodUid::parse(labels.get(POD_UID_LABEL)?).ok()?;
    let (namespace, name) = (
        labels.get(POD_NAMESPACE_LABEL)?,
        labels.get(POD_NAME_LABEL)?,
    );
    Some((uid, PodFullName::parse(namespace, name).ok()?))
}

/// Pods that differ between two lists, gone ones included.
pub fn changed_pods(old: &Listing, new: &Listing) -> BTreeSet<PodUid> {
    let differs = |uid: &&PodUid| old.pods.get(*uid) != new.pods.get(*uid);
    old.pods
        .keys()
        .chain(new.pods.keys())
        .filter(differs)
        .cloned()
        .collect()
}
