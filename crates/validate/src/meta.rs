//! Validates metadata: names by the kind's rule, labels, annotations, owner references, finalizers.
//!
//! In:    an object's metadata; the kind's name rule, whether the kind is namespaced
//! Out:   problems
//! Calls: `pod`; the API server for every kind
//! Holds: linear in the size of the metadata
//! Upstream: staging/src/k8s.io/apimachinery/pkg/api/validation/objectmeta.go, apis/meta/v1/validation/validation.go;
//!           differences: several controlling owners are reported once; managed fields are neither stored nor checked

use crate::names::{self, NameRule};
use crate::problem::{Problems, text};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use std::collections::BTreeMap;

const ANNOTATIONS_LIMIT: usize = 256 * 1024;
/// Finalizers that need no domain prefix.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Validates the metadata of an object that has its name and namespace.
pub(crate) fn check(meta: &ObjectMeta, rule: NameRule, namespaced: bool, problems: &mut Problems) {
    if let Some(prefix) = text(&meta.generate_name) {
        let reasons = rule.check_prefix(prefix);
        problems.reasons("metadata.generateName", prefix, reasons);
    }
    match text(&meta.name) {
        Some(name) => problems.reasons("metadata.name", name, rule.check(name)),
        None => problems.required("metadata.name", "name or generateName is required"),
    }
    match (text(&meta.namespace), namespaced) {
        (Some(name), true) => {
            problems.reasons("metadata.namespace", name, names::dns_label(name));
        }
        (None, true) => problems.required("metadata.namespace", ""),
        (Some(_), false) => problems.forbidden("metadata.namespace", "not allowed on this type"),
        (None, false) => {}
    }
    problems.not_negative("metadata.generation", meta.generation.unwrap_or_default());
    labels("metadata.labels", meta.labels.as_ref(), problems);
    annotations("metadata.annotations", meta.annotations.as_ref(), problems);
    owners(
        meta.owner_references.as_deref().unwrap_or_default(),
        problems,
    );
    finalizers(meta.finalizers.as_deref().unwrap_or_default(), problems);
}

/// Keys and values of labels.
pub(crate) fn labels(
    path: &str,
    labels: Option<&BTreeMap<String, String>>,
    problems: &mut Problems,
) {
    for (key, value) in labels.into_iter().flatten() {
        if problems.is_full() {
            return;
        }
        problems.reasons(path, key, names::label_key(key));
        problems.reasons(path, value, names::label_value(value));
    }
}

/// Annotation keys, and the total size.
pub(crate) fn annotations(
    path: &str,
    annotations: Option<&BTreeMap<String, String>>,
    problems: &mut Problems,
) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        size += key.len() + value.len();
        if !problems.is_full() {
            problems.reasons(path, key, names::label_key(&key.to_lowercase()));
        }
    }
    if size > ANNOTATIONS_LIMIT {
        problems.too_long(path, ANNOTATIONS_LIMIT);
    }
}

/// Group and version of an `apiVersion`.
fn version(api_version: &str) -> &str {
    api_version
        .split_once('/')
        .map_or(api_version, |(_, version)| version)
}

fn owners(owners: &[OwnerReference], problems: &mut Problems) {
    let path = "metadata.ownerReferences";
    for owner in owners {
        if version(&owner.api_version).is_empty() {
            let detail = "version must not be empty";
            problems.invalid(format!("{path}.apiVersion"), &owner.api_version, detail);
        }
        for (field, value) in [
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ] {
            if value.is_empty() {
                problems.invalid(format!("{path}.{field}"), value, "must not be empty");
            }
        }
        if owner.api_version == "v1" && owner.kind == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            problems.invalid(path, owner, detail);
        }
    }
    let mut controllers = owners.iter().filter(|owner| owner.controller == Some(true));
    if let (Some(first), Some(second)) = (controllers.next(), controllers.next()) {
        let called = |owner: &OwnerReference| format!("{}/{}", owner.kind, owner.name);
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
            called(first),
            called(second)
        );
        problems.invalid(path, owners, &detail);
    }
}

fn finalizers(finalizers: &[String], problems: &mut Problems) {
    let path = "metadata.finalizers";
    for finalizer in finalizers {
        problems.reasons(path, finalizer, names::label_key(finalizer));
    }
    let has = |wanted: &str| finalizers.iter().any(|one| one == wanted);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        problems.invalid(path, finalizers, detail);
    }
    for (index, finalizer) in finalizers.iter().enumerate() {
        standard_finalizer(format!("{path}[{index}]"), finalizer, problems);
    }
}

/// A finalizer without a domain must be one of Kubernetes' own.
pub(crate) fn standard_finalizer(path: String, finalizer: &str, problems: &mut Problems) {
    if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        problems.invalid(path, finalizer, detail);
    }
}

/// A label selector.
pub(crate) fn selector(path: &str, selector: Option<&LabelSelector>, problems: &mut Problems) {
    let Some(selector) = selector else { return };
    labels(
        &format!("{path}.matchLabels"),
        selector.match_labels.as_ref(),
        problems,
    );
    for (index, one) in selector.match_expressions.iter().flatten().enumerate() {
        let at = format!("{path}.matchExpressions[{index}]");
        let values = one.values.as_deref().unwrap_or_default();
        match one.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => problems.required(
                format!("{at}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => problems.forbidden(
                format!("{at}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => problems.invalid(
                format!("{at}.operator"),
                other,
                "not a valid selector operator",
            ),
        }
        problems.reasons(format!("{at}.key"), &one.key, names::label_key(&one.key));
        for (index, value) in values.iter().enumerate() {
            let reasons = names::label_value(value);
            problems.reasons(format!("{at}.values[{index}]"), value, reasons);
        }
    }
}
