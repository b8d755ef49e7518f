//! Validates volumes of a pod, and mounts and devices of a container.
//!
//! In:    the pod's spec; a container and the names of the valid volumes
//! Out:   problems; the names of the valid volumes
//! Calls: `pod`, containers of every list
//! Holds: each volume has exactly one source, also among types that the API will add
//! Upstream: pkg/apis/core/validation/validation.go (ValidateVolumes, ValidateVolumeMounts, ValidateVolumeDevices)

use super::sources::{Sources, check_volume};
use super::{Problems, list, names, text};
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

/// Valid volumes by name; true for those of a claim.
pub(super) type Volumes<'a> = BTreeMap<&'a str, bool>;

/// Checks the volumes; only valid ones can be mounted.
pub(super) fn validate_volumes<'a>(
    spec: &'a PodSpec,
    meta: &ObjectMeta,
    problems: &mut Problems,
) -> Volumes<'a> {
    let pod = text(&meta.name);
    let claims: BTreeSet<String> = list(&spec.volumes)
        .iter()
        .filter(|volume| volume.ephemeral.is_some())
        .filter_map(|volume| Some(format!("{}-{}", pod?, volume.name)))
        .collect();
    let mut good = Volumes::new();
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        let path = format!("spec.volumes[{index}]");
        let mut own = Problems::default();
        validate_volume(&path, volume, pod, &mut own);
        if good.contains_key(volume.name.as_str()) {
            own.duplicate(format!("{path}.name"), &volume.name);
        }
        if own.len() == 0 {
            let claim = volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
            good.insert(&volume.name, claim);
        }
        problems.append(own);
        if let Some(claim) = &volume.persistent_volume_claim
            && claims.contains(&claim.claim_name)
        {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            let at = format!("{path}.persistentVolumeClaim.claimName");
            problems.invalid(at, &claim.claim_name, detail);
        }
    }
    good
}

fn validate_volume(path: &str, volume: &Volume, pod: Option<&str>, problems: &mut Problems) {
    let mut sources = Sources::new(path, problems);
    check_volume(volume, &mut sources);
    sources.finish();
    let at = format!("{path}.name");
    if let (Some(pod), Some(_)) = (pod, &volume.ephemeral)
        && !volume.name.is_empty()
    {
        let claim = format!("{pod}-{}", volume.name);
        for reason in names::dns_subdomain(&claim) {
            let detail = format!("PVC name {claim:?}: {reason}");
            problems.invalid(at.as_str(), &volume.name, &detail);
        }
    }
    problems.required_name(at, &volume.name, names::dns_label);
}

/// Mounts and devices of a container.
pub(super) fn validate_mounts(
    path: &str,
    container: &Container,
    volumes: &Volumes<'_>,
    problems: &mut Problems,
) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    let device_names: BTreeSet<&String> = devices.iter().map(|device| &device.name).collect();
    let device_paths: BTreeSet<&String> =
        devices.iter().map(|device| &device.device_path).collect();
    let mut paths = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("{path}.volumeMounts[{index}]");
        if mount.name.is_empty() {
            problems.required(format!("{at}.name"), "");
        }
        if !volumes.contains_key(mount.name.as_str()) {
            problems.not_found(format!("{at}.name"), &mount.name, "");
        }
        let mount_path = format!("{at}.mountPath");
        if mount.mount_path.is_empty() {
            problems.required(mount_path.as_str(), "");
        }
        if !paths.insert(&mount.mount_path) {
            problems.invalid(mount_path.as_str(), &mount.mount_path, "must be unique");
        }
        if device_names.contains(&mount.name) {
            let detail = "must not already exist in volumeDevices";
            problems.invalid(format!("{at}.name"), &mount.name, detail);
        }
        if device_paths.contains(&mount.mount_path) {
            let detail = "must not already exist as a path in volumeDevices";
            problems.invalid(mount_path, &mount.mount_path, detail);
        }
        validate_mount_options((path, index), mount, container, problems);
    }
    validate_devices(path, container, volumes, problems);
}

/// Upstream names these fields without the mount's index, but for the one about both sub paths.
fn validate_mount_options(
    (path, index): (&str, usize),
    mount: &VolumeMount,
    container: &Container,
    problems: &mut Problems,
) {
    let at = format!("{path}.volumeMounts");
    if let Some(part) = text(&mount.sub_path) {
        problems.reasons(format!("{at}.subPath"), part, names::descending_path(part));
    }
    if let Some(expression) = text(&mount.sub_path_expr) {
        if text(&mount.sub_path).is_some() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            problems.invalid(format!("{at}[{index}].subPathExpr"), expression, detail);
        }
        let reasons = names::descending_path(expression);
        problems.reasons(format!("{at}.subPathExpr"), expression, reasons);
    }
    if let Some(mode) = &mount.mount_propagation {
        let path = format!("{at}.mountPropagation");
        let known = ["Bidirectional", "HostToContainer", "None"];
        if !known.contains(&mode.as_str()) {
            problems.unsupported(path.as_str(), mode, &known);
        }
        let privileged = container
            .security_context
            .as_ref()
            .is_some_and(|context| context.privileged == Some(true));
        if mode == "Bidirectional" && !privileged {
            problems.forbidden(
                path,
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
    }
    let path = format!("{at}.recursiveReadOnly");
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                problems.forbidden(path.as_str(), "may only be specified when readOnly is true");
            }
            if mount.mount_propagation.as_deref().unwrap_or("None") != "None" {
                let detail = "may only be specified when mountPropagation is None or not specified";
                problems.forbidden(path, detail);
            }
        }
        Some(mode) => problems.unsupported(path, mode, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn validate_devices(
    path: &str,
    container: &Container,
    volumes: &Volumes<'_>,
    problems: &mut Problems,
) {
    let mounts = list(&container.volume_mounts);
    let mount_names: BTreeSet<&String> = mounts.iter().map(|mount| &mount.name).collect();
    let mount_paths: BTreeSet<&String> = mounts.iter().map(|mount| &mount.mount_path).collect();
    let (mut seen_names, mut seen_paths) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in container.volume_devices.iter().flatten().enumerate() {
        let name = format!("{path}.volumeDevices[{index}].name");
        let device_path = format!("{path}.volumeDevices[{index}].devicePath");
        if device.name.is_empty() {
            problems.required(name.as_str(), "");
        }
        match volumes.get(device.name.as_str()) {
            Some(true) => {}
            Some(false) => problems.invalid(
                name.as_str(),
                &device.name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            None => problems.not_found(name.as_str(), &device.name, ""),
        }
        if !seen_names.insert(&device.name) {
            problems.invalid(name.as_str(), &device.name, "must be unique");
        }
        if mount_names.contains(&device.name) {
            let detail = "must not already exist in volumeMounts";
            problems.invalid(name, &device.name, detail);
        }
        if mount_paths.contains(&device.device_path) {
            let detail = "must not already exist as a path in volumeMounts";
            problems.invalid(device_path.as_str(), &device.device_path, detail);
        }
        if device.device_path.is_empty() {
            problems.required(device_path.as_str(), "");
        }
        if !names::no_backsteps(&device.device_path).is_empty() {
            let detail = "can not contain backsteps ('..')";
            problems.invalid(device_path, &device.device_path, detail);
        } else if !seen_paths.insert(&device.device_path) {
            problems.invalid(device_path, &device.device_path, "must be unique");
        }
    }
}
