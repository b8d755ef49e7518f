//! Validates the group `storage.k8s.io`: StorageClasses, CSIDrivers, CSINodes, VolumeAttachments.
//!
//! In:    an object of one of these kinds, with its defaults
//! Out:   problems
//! Calls: the API server
//! Holds: linear
//! Upstream: pkg/apis/storage/validation/validation.go

use crate::Checked;
use crate::names;
use crate::persistent_volumes;
use crate::pod::check_csi_driver;
use crate::problem::{Problems, list, text};
use k8s_openapi::api::core::v1::{PersistentVolumeSpec, TopologySelectorTerm};
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSIDriverSpec, CSINode, CSINodeDriver, StorageClass, VolumeAttachment,
    VolumeAttachmentSource, VolumeAttachmentStatus, VolumeError,
};
use kubelet_model::emptiness;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

const PARAMETERS: usize = 512;
const PARAMETER_BYTES: usize = 256 << 10;
const ERROR_BYTES: usize = 1024;
const NODE_ID: usize = 256;

impl Checked for StorageClass {
    fn check(&self, problems: &mut Problems) {
        let provisioner = self.provisioner.as_str();
        problems.required_name("provisioner", provisioner, |name| {
            names::label_key(&name.to_lowercase())
        });
        check_parameters(self.parameters.as_ref(), problems);
        let policy = text(&self.reclaim_policy);
        problems.known("reclaimPolicy", policy, &["Delete", "Retain"]);
        let mode = self.volume_binding_mode.as_deref();
        let modes = ["Immediate", "WaitForFirstConsumer"];
        problems.one_of("volumeBindingMode", mode, &modes);
        check_topologies(list(&self.allowed_topologies), problems);
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        problems.immutable("parameters", &self.parameters, &old.parameters);
        problems.immutable("provisioner", &self.provisioner, &old.provisioner);
        problems.immutable("reclaimPolicy", &self.reclaim_policy, &old.reclaim_policy);
        let (now, then) = (&self.volume_binding_mode, &old.volume_binding_mode);
        problems.immutable("volumeBindingMode", now, then);
    }
}

fn check_parameters(parameters: Option<&BTreeMap<String, String>>, problems: &mut Problems) {
    let path = "parameters";
    let Some(parameters) = parameters else { return };
    if parameters.len() > PARAMETERS {
        problems.too_long(path, PARAMETERS);
        return;
    }
    if parameters.contains_key("") {
        problems.invalid(path, "", "field can not be empty.");
    }
    let size = |(key, value): (&String, &String)| key.len() + value.len();
    if parameters.iter().map(size).sum::<usize>() > PARAMETER_BYTES {
        problems.too_long(path, PARAMETER_BYTES);
    }
}

fn check_topologies(terms: &[TopologySelectorTerm], problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, term) in terms.iter().enumerate() {
        let path = format!("allowedTopologies[{index}].matchLabelExpressions");
        let mut said: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (index, one) in list(&term.match_label_expressions).iter().enumerate() {
            let at = format!("{path}[{index}]");
            if one.values.is_empty() {
                problems.required(format!("{at}.values"), "");
            }
            let mut values = BTreeSet::new();
            for (index, value) in one.values.iter().enumerate() {
                if !values.insert(value.as_str()) {
                    problems.duplicate(format!("{at}.values[{index}]"), value);
                }
            }
            problems.reasons(format!("{at}.key"), &one.key, names::label_key(&one.key));
            if said.insert(&one.key, values).is_some() {
                problems.duplicate(format!("{at}.key"), &one.key);
            }
        }
        if !seen.insert(said) {
            problems.duplicate(path, "");
        }
    }
}

impl Checked for CSIDriver {
    fn check(&self, problems: &mut Problems) {
        let spec = &self.spec;
        for (field, value) in [
            ("attachedRequired", spec.attach_required),
            ("podInfoOnMount", spec.pod_info_on_mount),
            ("storageCapacity", spec.storage_capacity),
        ] {
            if value.is_none() {
                problems.required(format!("spec.{field}"), "");
            }
        }
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        let policy = spec.fs_group_policy.as_deref();
        problems.known("spec.fsGroupPolicy", policy, &policies);
        check_tokens(spec, problems);
        for mode in list(&spec.volume_lifecycle_modes) {
            let known = ["Persistent", "Ephemeral"];
            problems.known("spec.volumeLifecycleModes", Some(mode), &known);
        }
        if spec.se_linux_mount.is_none() {
            problems.required("spec.seLinuxMount", "");
        }
        if let Some(seconds) = spec.node_allocatable_update_period_seconds
            && seconds < 10
        {
            let detail = "must be greater than or equal to 10 seconds";
            problems.invalid("spec.nodeAllocatableUpdatePeriodSeconds", seconds, detail);
        }
        if let Some(wanted) = spec.service_account_token_in_secrets
            && list(&spec.token_requests).is_empty()
        {
            let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            problems.invalid("spec.serviceAccountTokenInSecrets", wanted, detail);
        }
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        let (now, then) = (&self.spec.attach_required, &old.spec.attach_required);
        problems.immutable("spec.attachedRequired", now, then);
        let (now, then) = (
            &self.spec.volume_lifecycle_modes,
            &old.spec.volume_lifecycle_modes,
        );
        problems.immutable("spec.volumeLifecycleModes", now, then);
    }
}

fn check_tokens(spec: &CSIDriverSpec, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, request) in list(&spec.token_requests).iter().enumerate() {
        let path = format!("spec.tokenRequests[{index}]");
        if !seen.insert(&request.audience) {
            problems.duplicate(format!("{path}.audience"), &request.audience);
            continue;
        }
        let at = format!("{path}.expirationSeconds");
        match request.expiration_seconds {
            Some(seconds) if seconds < 600 => {
                let detail = "may not specify a duration less than 10 minutes";
                problems.invalid(at, seconds, detail);
            }
            Some(seconds) if seconds > 1 << 32 => {
                let detail = "may not specify a duration larger than 2^32 seconds";
                problems.invalid(at, seconds, detail);
            }
            _ => {}
        }
    }
}

impl Checked for CSINode {
    fn check(&self, problems: &mut Problems) {
        let mut seen = BTreeSet::new();
        for (index, driver) in self.spec.drivers.iter().enumerate() {
            let path = format!("spec.drivers[{index}]");
            check_driver(&path, driver, problems);
            if !seen.insert(&driver.name) {
                problems.duplicate(format!("{path}.name"), &driver.name);
            }
        }
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        let bare = |driver: &CSINodeDriver| CSINodeDriver {
            allocatable: None,
            ..driver.clone()
        };
        let now: BTreeMap<&str, &CSINodeDriver> = self
            .spec
            .drivers
            .iter()
            .map(|driver| (driver.name.as_str(), driver))
            .collect();
        for then in &old.spec.drivers {
            if let Some(now) = now.get(then.name.as_str()) {
                problems.immutable("spec.drivers", &bare(now), &bare(then));
            }
        }
    }
}

fn check_driver(path: &str, driver: &CSINodeDriver, problems: &mut Problems) {
    check_csi_driver(format!("{path}.name"), &driver.name, problems);
    let at = format!("{path}.nodeID");
    if driver.node_id.is_empty() {
        problems.required(at.as_str(), "");
    }
    if driver.node_id.len() > NODE_ID {
        let detail = format!("must be {NODE_ID} characters or less");
        problems.invalid(at, &driver.node_id, &detail);
    }
    let count = driver.allocatable.as_ref().and_then(|held| held.count);
    if let Some(count) = count {
        problems.not_negative(format!("{path}.allocatable.count"), i64::from(count));
    }
    let mut seen = BTreeSet::new();
    for key in list(&driver.topology_keys) {
        if key.is_empty() {
            problems.required(path, "");
        }
        if !seen.insert(key) {
            problems.duplicate(path, key);
        }
        problems.reasons(path, key, names::label_key(key));
    }
}

impl Checked for VolumeAttachment {
    fn check(&self, problems: &mut Problems) {
        check_csi_driver("spec.attacher".to_owned(), &self.spec.attacher, problems);
        check_source(&self.spec.source, problems);
        let node = self.spec.node_name.as_str();
        problems.reasons("spec.nodeName", node, names::dns_subdomain(node));
        if let Some(status) = &self.status {
            check_attachment(status, problems);
        }
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        if said(&self.spec) != said(&old.spec) {
            problems.invalid("spec", &self.spec, "field is immutable");
        }
    }

    fn check_status(&self, _old: &Self, problems: &mut Problems) {
        if let Some(status) = &self.status {
            check_attachment(status, problems);
        }
    }
}

fn said(value: &impl Serialize) -> serde_json::Value {
    emptiness::plain(serde_json::to_value(value).unwrap_or_default())
}

fn check_source(source: &VolumeAttachmentSource, problems: &mut Problems) {
    let path = "spec.source";
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&source.inline_volume_spec, &source.persistent_volume_name) {
        (None, None) => problems.required(path, detail),
        (Some(_), Some(_)) => problems.forbidden(path, detail),
        (None, Some(name)) => {
            let at = format!("{path}.persistentVolumeName");
            if name.is_empty() {
                problems.required(at.as_str(), "must specify non empty persistentVolumeName");
            }
            problems.reasons(at, name, names::dns_subdomain(name));
        }
        (Some(spec), None) => check_inline(&format!("{path}.inlineVolumeSpec"), spec, problems),
    }
}

/// The inline volume of an attachment must be a CSI volume without a claim.
fn check_inline(path: &str, spec: &PersistentVolumeSpec, problems: &mut Problems) {
    let inline = "may not be specified in the context of inline volumes";
    for (field, used) in [
        ("claimRef", spec.claim_ref.is_some()),
        (
            "capacity",
            spec.capacity.as_ref().is_some_and(|all| !all.is_empty()),
        ),
        ("nodeAffinity", spec.node_affinity.is_some()),
        ("storageClassName", text(&spec.storage_class_name).is_some()),
    ] {
        if used {
            problems.forbidden(format!("{path}.{field}"), inline);
        }
    }
    if spec.csi.is_none() {
        let detail = "has to be specified in the context of inline volumes";
        problems.required(format!("{path}.csi"), detail);
    }
    let policy = text(&spec.persistent_volume_reclaim_policy);
    if policy.is_some_and(|policy| policy != "Retain") {
        let detail = "may only be Retain in the context of inline volumes";
        problems.forbidden(format!("{path}.persistentVolumeReclaimPolicy"), detail);
    }
    if text(&spec.volume_mode).is_some_and(|mode| mode != "Filesystem") {
        let detail =
            "may not specify volumeMode other than Filesystem in the context of inline volumes";
        problems.forbidden(format!("{path}.volumeMode"), detail);
    }
    persistent_volumes::check_spec(path, "", spec, problems);
}

fn check_attachment(status: &VolumeAttachmentStatus, problems: &mut Problems) {
    let metadata = status.attachment_metadata.iter().flatten();
    if metadata
        .map(|(key, value)| key.len() + value.len())
        .sum::<usize>()
        > PARAMETER_BYTES
    {
        problems.too_long("status.attachmentMetadata", PARAMETER_BYTES);
    }
    check_error("status.attachError", status.attach_error.as_ref(), problems);
    check_error("status.detachError", status.detach_error.as_ref(), problems);
}

fn check_error(path: &str, error: Option<&VolumeError>, problems: &mut Problems) {
    let Some(error) = error else { return };
    if error
        .message
        .as_ref()
        .is_some_and(|text| text.len() > ERROR_BYTES)
    {
        // Quirk: upstream reports another limit than it applies (validateVolumeError).
        problems.too_long(format!("{path}.message"), PARAMETER_BYTES);
    }
    if let Some(code) = error.error_code.filter(|code| *code < 0) {
        let reasons = names::in_range(i64::from(code), 0, i64::from(i32::MAX));
        problems.reasons(format!("{path}.errorCode"), code, reasons);
    }
}
