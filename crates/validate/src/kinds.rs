//! Validates kinds with few rules: Namespaces, ServiceAccounts, Leases, RuntimeClasses, PriorityClasses.
//!
//! In:    an object of one of these kinds, with its defaults
//! Out:   problems
//! Calls: the API server
//! Holds: linear
//! Upstream: pkg/apis/core/validation/validation.go, pkg/apis/{coordination,node,scheduling}/validation

use crate::Checked;
use crate::meta::{self, standard_finalizer};
use crate::names;
use crate::pod::{check_tolerations, validate_overhead};
use crate::problem::{Problems, list, plain, text};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use std::collections::BTreeSet;

const HIGHEST_PRIORITY: i32 = 1_000_000_000;

impl Checked for Namespace {
    fn check(&self, problems: &mut Problems) {
        let spec = self.spec.as_ref();
        for finalizer in spec.map(|spec| list(&spec.finalizers)).unwrap_or_default() {
            let path = "spec.finalizers";
            problems.reasons(path, finalizer, names::label_key(finalizer));
            standard_finalizer(path.to_owned(), finalizer, problems);
        }
    }

    fn check_status(&self, _old: &Self, problems: &mut Problems) {
        let phase = self.status.as_ref().map(|status| plain(&status.phase));
        let phase = phase.unwrap_or_default();
        let (wanted, state) = match self.metadata.deletion_timestamp {
            None => ("Active", "empty"),
            Some(_) => ("Terminating", "not empty"),
        };
        if phase != wanted {
            let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {state}");
            problems.invalid("status.Phase", phase, &detail);
        }
    }
}

impl Checked for ServiceAccount {
    fn check(&self, _problems: &mut Problems) {}
}

impl Checked for Lease {
    fn check(&self, problems: &mut Problems) {
        let Some(spec) = &self.spec else { return };
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            problems.invalid(
                "spec.leaseDurationSeconds",
                seconds,
                "must be greater than 0",
            );
        }
        if let Some(count) = spec.lease_transitions {
            problems.not_negative("spec.leaseTransitions", i64::from(count));
        }
        if let Some(strategy) = &spec.strategy {
            if strategy.contains('/') {
                let reasons = names::label_key(strategy);
                problems.reasons("spec.strategy", strategy, reasons);
            } else {
                let known = ["OldestEmulationVersion"];
                problems.known("spec.strategy", Some(strategy), &known);
            }
        }
        if text(&spec.preferred_holder).is_some() && text(&spec.strategy).is_none() {
            let detail = "may only be specified if `strategy` is defined";
            problems.forbidden("spec.preferredHolder", detail);
        }
    }
}

impl Checked for RuntimeClass {
    fn check(&self, problems: &mut Problems) {
        problems.required_name("handler", &self.handler, names::dns_label);
        let fixed = self
            .overhead
            .as_ref()
            .and_then(|held| held.pod_fixed.as_ref());
        if let Some(fixed) = fixed {
            validate_overhead("overhead", fixed, problems);
        }
        let Some(scheduling) = &self.scheduling else {
            return;
        };
        let selector = scheduling.node_selector.as_ref();
        meta::labels("scheduling.nodeSelector", selector, problems);
        let (path, tolerations) = ("scheduling.tolerations", list(&scheduling.tolerations));
        check_tolerations(path, tolerations, problems);
        let mut seen = BTreeSet::new();
        for (index, one) in tolerations.iter().enumerate() {
            if !seen.insert((&one.key, &one.operator, &one.value, &one.effect)) {
                problems.duplicate(format!("{path}[{index}]"), one);
            }
        }
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        problems.immutable("handler", &self.handler, &old.handler);
    }
}

impl Checked for PriorityClass {
    fn check(&self, problems: &mut Problems) {
        let (name, value) = (plain(&self.metadata.name), self.value.unwrap_or_default());
        if name.starts_with("system-") {
            if let Some(why) = unlike_system(self) {
                let detail = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                problems.forbidden("metadata.name", &detail);
            }
        } else if value > HIGHEST_PRIORITY {
            let detail =
                format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
            problems.forbidden("value", &detail);
        }
        if let Some(policy) = &self.preemption_policy {
            let known = ["PreemptLowerPriority", "Never"];
            problems.one_of("preemptionPolicy", Some(policy), &known);
        }
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        if self.value.unwrap_or_default() != old.value.unwrap_or_default() {
            problems.forbidden("value", "may not be changed in an update.");
        }
        let (now, then) = (&self.preemption_policy, &old.preemption_policy);
        problems.immutable("preemptionPolicy", now, then);
    }
}

/// How a class differs from the system class with the same name.
fn unlike_system(class: &PriorityClass) -> Option<String> {
    let name = plain(&class.metadata.name);
    let value = match name {
        "system-node-critical" => 2_000_001_000,
        "system-cluster-critical" => 2_000_000_000,
        _ => return Some(format!("{name} is not a known system priority class")),
    };
    if class.value != Some(value) {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    (class.global_default == Some(true))
        .then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
