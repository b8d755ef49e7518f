//! Validates PersistentVolumeClaims.
//!
//! In:    a claim with its defaults, or the spec of a claim template
//! Out:   problems
//! Calls: the API server, volumes of pods
//! Holds: a claim's spec cannot change, except that a bound claim may request more storage
//! Upstream: pkg/apis/core/validation/validation.go (ValidatePersistentVolumeClaim and its updates); differences: messages do
//!           not contain Go's diff of the specs
//! Gap:   the deprecated annotation for the storage class

use crate::Checked;
use crate::amounts::amount_of;
use crate::meta;
use crate::names;
use crate::problem::{Problems, list, plain, text};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use kubelet_model::emptiness;
use kubelet_model::quantity::Quantity;

pub(crate) const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
pub(crate) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

impl Checked for PersistentVolumeClaim {
    fn check(&self, problems: &mut Problems) {
        let spec = self.spec.clone().unwrap_or_default();
        check_spec("spec", &spec, problems);
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        let (spec, before) = (
            self.spec.clone().unwrap_or_default(),
            old.spec.clone().unwrap_or_default(),
        );
        let status = old.status.clone().unwrap_or_default();
        let bound = plain(&status.phase) == "Bound";
        let mut rest = spec.clone();
        if text(&before.volume_name).is_none() {
            rest.volume_name.clone_from(&before.volume_name);
        }
        if before.storage_class_name.is_none() {
            rest.storage_class_name
                .clone_from(&before.storage_class_name);
        }
        if bound {
            rest.volume_attributes_class_name
                .clone_from(&before.volume_attributes_class_name);
            rest.resources.clone_from(&before.resources);
        }
        if said(&rest) != said(&before) {
            let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
            problems.forbidden("spec", detail);
        }
        let size = |spec: &PersistentVolumeClaimSpec| {
            let requests = spec.resources.as_ref()?.requests.as_ref()?;
            amount_of(requests, "storage")
        };
        let capacity = status.capacity.as_ref();
        let held = capacity.and_then(|capacity| amount_of(capacity, "storage"));
        if let (Some(now), Some(then)) = (size(&spec), size(&before))
            && now < then
            && now <= held.unwrap_or_default()
        {
            let detail = "field can not be less than status.capacity";
            problems.forbidden("spec.resources.requests.storage", detail);
        }
        problems.immutable("volumeMode", &spec.volume_mode, &before.volume_mode);
        if status.current_volume_attributes_class_name.is_some()
            && spec.volume_attributes_class_name != before.volume_attributes_class_name
            && text(&spec.volume_attributes_class_name).is_none()
        {
            let what = match spec.volume_attributes_class_name {
                None => "nil",
                Some(_) => "empty string",
            };
            let detail = format!(
                "update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
            );
            problems.forbidden("spec.volumeAttributesClassName", &detail);
        }
    }

    fn check_status(&self, _old: &Self, problems: &mut Problems) {
        let status = self.status.as_ref();
        let capacity = status.and_then(|status| status.capacity.as_ref());
        for (name, amount) in capacity.into_iter().flatten() {
            let path = format!("status.capacity[{name}]");
            match amount.0.parse::<Quantity>() {
                Ok(amount) if amount.is_negative() => {
                    problems.invalid(path, amount.value(), "must be a valid resource quantity");
                }
                Ok(_) => {}
                Err(error) => problems.invalid(path, &amount.0, &error.to_string()),
            }
        }
    }
}

fn said(spec: &PersistentVolumeClaimSpec) -> serde_json::Value {
    emptiness::plain(serde_json::to_value(spec).unwrap_or_default())
}

/// Access modes, of which one excludes all others.
pub(crate) fn check_access_modes(path: &str, modes: &[String], problems: &mut Problems) {
    let at = format!("{path}.accessModes");
    for mode in modes {
        problems.known(at.as_str(), Some(mode), &ACCESS_MODES);
    }
    let single = |mode: &&String| *mode == "ReadWriteOncePod";
    let others = modes
        .iter()
        .any(|mode| !single(&mode) && ACCESS_MODES.contains(&mode.as_str()));
    if others && modes.iter().any(|mode| single(&mode)) {
        problems.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The spec of a claim at `path`.
pub(crate) fn check_spec(path: &str, spec: &PersistentVolumeClaimSpec, problems: &mut Problems) {
    let modes = list(&spec.access_modes);
    if modes.is_empty() {
        let detail = "at least 1 access mode is required";
        problems.required(format!("{path}.accessModes"), detail);
    }
    let selector = spec.selector.as_ref();
    meta::selector(&format!("{path}.selector"), selector, problems);
    check_access_modes(path, modes, problems);
    let at = format!("{path}.resources[storage]");
    let resources = spec.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    match requests.and_then(|requests| requests.get("storage")) {
        None => problems.required(at, ""),
        Some(amount) => check_positive(at, &amount.0, problems),
    }
    for (field, value) in [
        ("storageClassName", &spec.storage_class_name),
        (
            "volumeAttributesClassName",
            &spec.volume_attributes_class_name,
        ),
    ] {
        if let Some(name) = text(value) {
            problems.reasons(format!("{path}.{field}"), name, names::dns_subdomain(name));
        }
    }
    let mode = spec.volume_mode.as_deref();
    problems.known(format!("{path}.volumeMode"), mode, &VOLUME_MODES);
    check_data_source(path, spec, problems);
}

/// Must be greater than zero.
pub(crate) fn check_positive(at: String, amount: &str, problems: &mut Problems) {
    match amount.parse::<Quantity>() {
        Ok(amount) if amount.is_negative() || amount.is_zero() => {
            problems.invalid(at, amount.to_string(), "must be greater than zero");
        }
        Ok(_) => {}
        Err(error) => problems.invalid(at, amount, &error.to_string()),
    }
}

fn check_data_source(path: &str, spec: &PersistentVolumeClaimSpec, problems: &mut Problems) {
    if let Some(source) = &spec.data_source {
        let at = format!("{path}.dataSource");
        let group = plain(&source.api_group);
        check_reference(&at, (group, &source.kind, &source.name), problems);
    }
    let Some(reference) = &spec.data_source_ref else {
        return;
    };
    let at = format!("{path}.dataSourceRef");
    let group = plain(&reference.api_group);
    check_reference(&at, (group, &reference.kind, &reference.name), problems);
    let namespace = text(&reference.namespace);
    if let Some(name) = namespace {
        problems.reasons(format!("{at}.namespace"), name, names::dns_label(name));
    }
    let Some(source) = &spec.data_source else {
        return;
    };
    let same = source.api_group == reference.api_group
        && source.kind == reference.kind
        && source.name == reference.name;
    if namespace.is_some() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        problems.invalid(path, format!("{path}.dataSource"), detail);
    } else if !same {
        problems.invalid(
            path,
            format!("{path}.dataSource"),
            "must match dataSourceRef",
        );
    }
}

fn check_reference(at: &str, (group, kind, name): (&str, &str, &str), problems: &mut Problems) {
    for (field, value) in [("name", name), ("kind", kind)] {
        if value.is_empty() {
            problems.required(format!("{at}.{field}"), "");
        }
    }
    if group.is_empty() {
        if kind != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            problems.invalid(at, kind, detail);
        }
    } else {
        problems.reasons(format!("{at}.apiGroup"), group, names::dns_subdomain(group));
    }
}
