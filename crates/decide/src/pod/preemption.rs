//! Which pods make room for a critical one.
//!
//! In:    what the critical pod is short of, the pods that run here
//! Out:   victims; or what could not be had
//! Calls: admission
//! Holds: best effort goes before burstable and that before guaranteed; as few as possible, then the smallest; nothing that is as
//!        important as the pod itself
//! Upstream: pkg/kubelet/preemption/preemption.go, pkg/kubelet/types/pod_update.go (Preemptable), 1.36

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kubelet_model::ids::PodFullName;
use kubelet_model::pod::{Pod, QosClass};

/// Reason of the victim's status and of its event.
pub const PREEMPTED_REASON: &str = "Preempting";
/// Text of both.
pub const PREEMPTED_MESSAGE: &str = "Preempted in order to admit critical pod";
/// Text of the victim's condition `DisruptionTarget`.
pub const PREEMPTED_CONDITION: &str = "Pod was preempted by Kubelet to accommodate a critical pod.";

/// The least priority of a critical pod (`system-cluster-critical`).
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// Whether a pod is critical: static, a mirror, or of a system priority.
pub fn is_critical(pod: &Pod) -> bool {
    pod.is_static()
        || pod
            .spec()
            .priority
            .is_some_and(|priority| priority >= CRITICAL_PRIORITY)
}

/// Whether a pod may be ended for another.
pub fn is_preemptable(by: &Pod, pod: &Pod) -> bool {
    if is_critical(by) && !is_critical(pod) {
        return true;
    }
    let priorities = by.spec().priority.zip(pod.spec().priority);
    priorities.is_some_and(|(by, of)| by > of)
}

/// A pod that may be a victim.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Which.
    pub name: &'a PodFullName,
    /// Its class.
    pub class: QosClass,
    /// What it takes.
    pub requests: &'a BTreeMap<String, i64>,
}

/// What is missing, by resource, in the order in which it was found missing.
pub type Shortfall = Vec<(String, i64)>;

fn request(of: &Candidate<'_>, resource: &str) -> i64 {
    match resource {
        // Each pod takes one place.
        "pods" => 1,
        other => of.requests.get(other).copied().unwrap_or(0),
    }
}

fn without(missing: &[(String, i64)], pods: &[Candidate<'_>]) -> Shortfall {
    let left = missing.iter().map(|(resource, amount)| {
        let freed = pods.iter().map(|pod| request(pod, resource));
        let freed = freed.fold(0_i64, i64::saturating_add);
        (resource.clone(), amount.saturating_sub(freed))
    });
    left.filter(|(_, amount)| *amount > 0).collect()
}

/// Upstream's text of what is missing.
fn text(missing: &[(String, i64)]) -> String {
    let mut text = "[".to_owned();
    for (resource, amount) in missing {
        // A String takes everything.
        let _written = write!(text, "(res: {resource}, q: {amount}), ");
    }
    text.push(']');
    text
}

fn not_found(missing: &[(String, i64)]) -> String {
    format!(
        "no set of running pods found to reclaim resources: {}",
        text(missing)
    )
}

/// How far a pod is from what is missing: every resource weighs the same.
fn distance(missing: &[(String, i64)], pod: &Candidate<'_>) -> f64 {
    let parts = missing.iter().map(|(resource, amount)| {
        let left = amount.saturating_sub(request(pod, resource)).max(0);
        #[expect(clippy::cast_precision_loss, reason = "a part of a whole")]
        let part = left as f64 / *amount as f64;
        part * part
    });
    parts.sum()
}

fn is_smaller(a: &Candidate<'_>, b: &Candidate<'_>) -> bool {
    for resource in ["memory", "cpu"] {
        let (a, b) = (request(a, resource), request(b, resource));
        if a != b {
            return a < b;
        }
    }
    true
}

/// As few as possible of these pods that free what is missing.
fn fewest<'a>(
    mut pods: Vec<Candidate<'a>>,
    mut missing: Shortfall,
) -> Result<Vec<Candidate<'a>>, String> {
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        let mut best: Option<(usize, f64)> = None;
        for (place, pod) in pods.iter().enumerate() {
            let far = distance(&missing, pod);
            let is_better = best.is_none_or(|(at, least)| {
                let equal = far.total_cmp(&least).is_eq();
                far < least || equal && pods.get(at).is_some_and(|best| is_smaller(pod, best))
            });
            if is_better {
                best = Some((place, far));
            }
        }
        let Some((place, _)) = best else {
            return Err(not_found(&missing));
        };
        let pod = pods.swap_remove(place);
        missing = without(&missing, &[pod]);
        chosen.push(pod);
    }
    Ok(chosen)
}

/// The pods that are ended so that nothing is missing any more.
///
/// # Errors
/// All of them together do not free as much: upstream's text.
pub fn victims<'a>(
    candidates: &[Candidate<'a>],
    missing: &Shortfall,
) -> Result<Vec<&'a PodFullName>, String> {
    let of = |class: QosClass| -> Vec<Candidate<'a>> {
        let of_class = candidates.iter().filter(|pod| pod.class == class);
        of_class.copied().collect()
    };
    let (best_effort, burstable) = (of(QosClass::BestEffort), of(QosClass::Burstable));
    let guaranteed = of(QosClass::Guaranteed);
    let lacking = without(missing, candidates);
    if !lacking.is_empty() {
        return Err(not_found(&lacking));
    }
    let both = |a: &[Candidate<'a>], b: &[Candidate<'a>]| [a, b].concat();
    // Of each class only what all of the lesser classes do not free.
    let rest = without(missing, &both(&best_effort, &burstable));
    let of_guaranteed = fewest(guaranteed, rest)?;
    let rest = without(missing, &both(&best_effort, &of_guaranteed));
    let of_burstable = fewest(burstable, rest)?;
    let rest = without(missing, &both(&of_burstable, &of_guaranteed));
    let of_best_effort = fewest(best_effort, rest)?;
    let all = of_best_effort
        .into_iter()
        .chain(of_burstable)
        .chain(of_guaranteed);
    Ok(all.map(|pod| pod.name).collect())
}

#[cfg(test)]
mod tests;
