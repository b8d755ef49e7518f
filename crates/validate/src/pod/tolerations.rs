//! Validates tolerations and taint effects.
//!
//! In:    a list of tolerations and its path
//! Out:   problems
//! Calls: pods, RuntimeClasses, taints of Nodes
//! Holds: linear
//! Upstream: pkg/apis/core/validation/validation.go (ValidateTolerations, validateTaintEffect)

use super::{Problems, names, text};
use k8s_openapi::api::core::v1::Toleration;

/// Each toleration separately.
pub(crate) fn check_tolerations(path: &str, tolerations: &[Toleration], problems: &mut Problems) {
    for (index, toleration) in tolerations.iter().enumerate() {
        check_toleration(&format!("{path}[{index}]"), toleration, problems);
    }
}

fn check_toleration(path: &str, toleration: &Toleration, problems: &mut Problems) {
    let operator = toleration.operator.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    match text(&toleration.key) {
        Some(key) => problems.reasons(format!("{path}.key"), key, names::label_key(key)),
        None if operator != "Exists" => problems.invalid(
            format!("{path}.operator"),
            operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ),
        None => {}
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        problems.invalid(
            format!("{path}.effect"),
            effect,
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    let at = format!("{path}.operator");
    match operator {
        "" | "Equal" => {
            let reasons = names::label_value(value);
            if !reasons.is_empty() {
                problems.invalid(at, value, &reasons.join(";"));
            }
        }
        "Exists" if value.is_empty() => {}
        "Exists" => problems.invalid(at, value, "value must be empty when `operator` is 'Exists'"),
        "Lt" | "Gt" => problems.unsupported(at, operator, &["Equal", "Exists", "Lt", "Gt"]),
        _ => problems.unsupported(at, operator, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        check_effect(format!("{path}.effect"), effect, problems);
    }
}

/// A taint effect.
pub(crate) fn check_effect(path: String, effect: &str, problems: &mut Problems) {
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    problems.one_of(path, Some(effect), &known);
}
