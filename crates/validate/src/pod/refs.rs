//! Validates `fieldRef` and `resourceFieldRef` of environment variables and files.
//!
//! In:    `fieldRef`, `resourceFieldRef`
//! Out:   problems
//! Calls: containers (variables), payloads (files)
//! Holds: environment variables and files have separate lists of allowed fields
//! Upstream: pkg/apis/core/validation/validation.go (validateObjectFieldSelector, validateContainerResourceFieldSelector)

use k8s_openapi::api::core::v1::{ObjectFieldSelector, ResourceFieldSelector};

use kubelet_model::quantity::Quantity;

use super::{Problems, names};

/// Pod fields for environment variables.
pub(super) const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Pod fields that exist for volumes but not for environment variables.
const OTHER_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
];
const ENV_RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const DIVISORS: [&str; 13] = [
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
];

/// A pod field, which must be one of `known`.
pub(super) fn validate_field_ref(
    path: &str,
    selector: &ObjectFieldSelector,
    known: &[&str],
    problems: &mut Problems,
) {
    let at = format!("{path}.fieldPath");
    let field = selector.field_path.as_str();
    let version = selector.api_version.as_deref().unwrap_or_default();
    if version.is_empty() {
        problems.required(format!("{path}.apiVersion"), "");
        return;
    }
    if field.is_empty() {
        problems.required(at, "");
        return;
    }
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        problems.invalid(at, field, &detail);
        return;
    }
    let subscripted = field
        .strip_suffix("']")
        .and_then(|rest| rest.split_once("['"))
        .filter(|(head, _)| !head.is_empty());
    match subscripted {
        Some(("metadata.annotations", key)) => {
            problems.reasons(
                path,
                key.to_lowercase(),
                names::label_key(&key.to_lowercase()),
            );
        }
        Some(("metadata.labels", key)) => problems.reasons(path, key, names::label_key(key)),
        Some(_) => {
            let detail = format!(
                "error converting fieldPath: field label does not support subscript: {field}"
            );
            problems.invalid(at, field, &detail);
        }
        None if known.contains(&as_named(field)) => {}
        None if ENV_FIELDS.contains(&as_named(field)) || OTHER_FIELDS.contains(&field) => {
            problems.unsupported(at, as_named(field), known);
        }
        None => {
            let detail = format!("error converting fieldPath: field label not supported: {field}");
            problems.invalid(at, field, &detail);
        }
    }
}

/// The current name of a field.
fn as_named(field: &str) -> &str {
    if field == "spec.host" {
        "spec.nodeName"
    } else {
        field
    }
}

/// A container's resource, in units of a divisor.
pub(super) fn validate_resource_ref(
    path: &str,
    selector: &ResourceFieldSelector,
    problems: &mut Problems,
) {
    let name = selector.resource.as_str();
    let huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if name.is_empty() {
        problems.required(format!("{path}.resource"), "");
    } else if !ENV_RESOURCES.contains(&name) && !huge {
        problems.unsupported(format!("{path}.resource"), name, &ENV_RESOURCES);
    }
    let Some(divisor) = &selector.divisor else {
        return;
    };
    let at = format!("{path}.divisor");
    let Ok(amount) = divisor.0.parse::<Quantity>() else {
        let detail = kubelet_model::quantity::QuantityParseError::Format.to_string();
        problems.invalid(at, &divisor.0, &detail);
        return;
    };
    let (known, resource): (&[&str], &str) = match name {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&DIVISORS, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (&DIVISORS, "local ephemeral storage")
        }
        _ if huge => (&DIVISORS, "hugepages"),
        _ => return,
    };
    if !amount.is_zero() && !known.contains(&amount.to_string().as_str()) {
        let values = if resource == "cpu" {
            "1m and 1".to_owned()
        } else {
            known.join(", ")
        };
        let detail =
            format!("only divisor's values {values} are supported with the {resource} resource");
        problems.invalid(at, name, &detail);
    }
}
