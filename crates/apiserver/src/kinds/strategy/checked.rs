//! What upstream's validation says of an object: the rules of `validate`, asked about objects that are kept as JSON.
//!
//! In:    an object that fits its kind's types, and as it was
//! Out:   causes
//! Calls: the rows of the kinds, `registry`, `subresources`
//! Holds: pure; an object that does not fit its types has no causes here, since `typed` refuses it
//! Upstream: pkg/registry/*/*/strategy.go (Validate, ValidateUpdate)

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubelet_validate::{Checked, FieldProblem, NameRule};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::base::failure::Cause;

fn causes(problems: Vec<FieldProblem>) -> Vec<Cause> {
    problems.into_iter().map(Cause::from).collect()
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

/// A new object, or a change of one through its own path.
pub(crate) fn object<T: Checked + DeserializeOwned>(
    new: &Value,
    old: Option<&Value>,
) -> Vec<Cause> {
    let Some(new) = read::<T>(new) else {
        return Vec::new();
    };
    causes(match old.and_then(read::<T>) {
        Some(old) => kubelet_validate::changed(&new, &old),
        None => kubelet_validate::created(&new),
    })
}

/// A change through the path of the status.
pub(crate) fn status<T: Checked + DeserializeOwned>(new: &Value, old: &Value) -> Vec<Cause> {
    sub(new, old, kubelet_validate::status_changed::<T>)
}

/// A change through another path.
pub(crate) fn sub<T: DeserializeOwned>(
    new: &Value,
    old: &Value,
    check: impl FnOnce(&T, &T) -> Vec<FieldProblem>,
) -> Vec<Cause> {
    match (read::<T>(new), read::<T>(old)) {
        (Some(new), Some(old)) => causes(check(&new, &old)),
        _ => Vec::new(),
    }
}

/// An event of `events.k8s.io`, which is kept in the form of the core group.
pub(crate) fn new_event(new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let shown = |event: &Value| {
        let mut event = event.clone();
        super::event_to_new(&mut event);
        event
    };
    object::<Event>(&shown(new), old.map(shown).as_ref())
}

/// The metadata of any object.
pub(crate) fn metadata(
    (rule, namespaced): (NameRule, bool),
    new: &Value,
    old: Option<&Value>,
) -> Vec<Cause> {
    let meta = |object: &Value| read::<ObjectMeta>(object.get("metadata")?);
    let Some(new) = meta(new) else {
        return Vec::new();
    };
    let old = old.and_then(meta);
    causes(kubelet_validate::metadata(
        &new,
        old.as_ref(),
        rule,
        namespaced,
    ))
}
