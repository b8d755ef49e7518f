//! Volumes of files that the kubelet writes without an API server: downwardAPI, and projected volumes of it.
//!
//! In:    a volume of a static pod
//! Out:   problems
//! Calls: volumes.rs of this directory
//! Holds: sources that refer to the API are refused elsewhere, whatever else is wrong with them
//! Upstream: pkg/apis/core/validation/validation.go (validateDownwardAPIVolumeSource, validateProjectedVolumeSource)

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, ProjectedVolumeSource,
};
use serde_json::Value;

use super::containers::{validate_field_ref, validate_resource_ref};
use super::{Problems, names};

/// What a file may hold of a pod, in upstream's order.
const VOLUME_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Checks a downwardAPI volume at `path`.
pub(super) fn validate_downward(
    path: &str,
    source: &DownwardAPIVolumeSource,
    problems: &mut Problems,
) {
    validate_mode(format!("{path}.defaultMode"), source.default_mode, problems);
    // Quirk: an item's problem is told at the volume (validateDownwardAPIVolumeSource).
    for item in source.items.iter().flatten() {
        validate_item(path, item, problems);
    }
}

/// Checks a projected volume at `path`.
pub(super) fn validate_projected(
    path: &str,
    source: &ProjectedVolumeSource,
    problems: &mut Problems,
) {
    validate_mode(format!("{path}.defaultMode"), source.default_mode, problems);
    let mut paths = BTreeSet::new();
    for (index, source) in source.sources.iter().flatten().enumerate() {
        let at = format!("{path}.sources[{index}]");
        let items = source
            .downward_api
            .iter()
            .flat_map(|d| d.items.iter().flatten());
        for item in items {
            validate_item(&format!("{at}.downwardAPI"), item, problems);
            if !item.path.is_empty() && !paths.insert(&item.path) {
                problems.invalid(path, &item.path, "conflicting duplicate paths");
            }
        }
        let kinds = match serde_json::to_value(source) {
            Ok(Value::Object(kinds)) => kinds.len(),
            _ => 0,
        };
        if kinds > 1 {
            problems.forbidden(at, "may not specify more than 1 volume type per source");
        }
    }
}

fn validate_mode(path: String, mode: Option<i32>, problems: &mut Problems) {
    if let Some(mode) = mode.filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        problems.invalid(path, mode, detail);
    }
}

fn validate_item(path: &str, item: &DownwardAPIVolumeFile, problems: &mut Problems) {
    let at = format!("{path}.path");
    if item.path.is_empty() {
        problems.required(at.as_str(), "");
    }
    let mut reasons = names::descending_path(&item.path);
    if item.path.starts_with("..") && !item.path.starts_with("../") {
        reasons.push("must not start with '..'".to_owned());
    }
    problems.reasons(at, &item.path, reasons);
    match (&item.field_ref, &item.resource_field_ref) {
        (Some(field), resource) => {
            let at = format!("{path}.fieldRef");
            validate_field_ref(&at, field, &VOLUME_FIELDS, problems);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                problems.invalid(path, "resource", detail);
            }
        }
        (None, Some(resource)) => {
            let at = format!("{path}.resourceFieldRef");
            let container = resource.container_name.as_deref().unwrap_or_default();
            if container.is_empty() {
                problems.required(format!("{at}.containerName"), "");
            }
            validate_resource_ref(&at, resource, problems);
        }
        (None, None) => {
            problems.required(path, "one of fieldRef and resourceFieldRef is required");
        }
    }
    validate_mode(format!("{path}.mode"), item.mode, problems);
}
