//! Volumes of a pod, and the mounts and devices of a container.
//!
//! In:    the pod's spec; a container and the names of the good volumes
//! Out:   problems; the names of the volumes that are good
//! Calls: validation of this directory
//! Holds: exactly one kind for each volume, whatever kinds the API grows
//! Upstream: pkg/apis/core/validation/validation.go (ValidateVolumes, ValidateVolumeMounts, ValidateVolumeDevices)

use super::payloads::{validate_downward, validate_projected};
use super::{Problems, names, text};
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume, VolumeMount};
use kubelet_model::quantity::Quantity;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// Good volumes by name; true for those that a claim backs.
pub(super) type Volumes<'a> = BTreeMap<&'a str, bool>;

/// Checks the volumes; only the good ones can be mounted.
pub(super) fn validate_volumes<'a>(spec: &'a PodSpec, problems: &mut Problems) -> Volumes<'a> {
    let mut good = Volumes::new();
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        let path = format!("spec.volumes[{index}]");
        let before = problems.len();
        validate_source(&path, volume, problems);
        let at = format!("{path}.name");
        if volume.name.is_empty() {
            problems.required(at.as_str(), "");
        } else {
            problems.reasons(at.as_str(), &volume.name, names::dns_label(&volume.name));
        }
        if good.contains_key(volume.name.as_str()) {
            problems.duplicate(at, &volume.name);
        }
        if problems.len() == before {
            let claim = volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
            good.insert(&volume.name, claim);
        }
    }
    good
}

fn validate_source(path: &str, volume: &Volume, problems: &mut Problems) {
    let mut kinds = match serde_json::to_value(volume) {
        Ok(Value::Object(fields)) => fields.into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    };
    kinds.retain(|name| name != "name");
    // Upstream's order begins so; the rest only matters for which of several is named.
    kinds.sort_by_key(|name| match name.as_str() {
        "emptyDir" => 0,
        "hostPath" => 1,
        _ => 2,
    });
    for kind in kinds.iter().skip(1) {
        let detail = "may not specify more than 1 volume type";
        problems.forbidden(format!("{path}.{kind}"), detail);
    }
    match kinds.first().map(String::as_str) {
        None => problems.required(path, "must specify a volume type"),
        Some("emptyDir") => validate_empty_dir(path, volume, problems),
        Some("hostPath") => validate_host_path(path, volume, problems),
        Some("nfs") => validate_nfs(path, volume, problems),
        Some("downwardAPI") => {
            if let Some(source) = &volume.downward_api {
                validate_downward(&format!("{path}.downwardAPI"), source, problems);
            }
        }
        Some("projected") => {
            if let Some(source) = &volume.projected {
                validate_projected(&format!("{path}.projected"), source, problems);
            }
        }
        Some(_) => {}
    }
}

fn validate_empty_dir(path: &str, volume: &Volume, problems: &mut Problems) {
    let Some(source) = &volume.empty_dir else {
        return;
    };
    if let Some(medium) = text(&source.medium) {
        let known = ["", "HugePages", "Memory"];
        if !known.contains(&medium) && !medium.starts_with("HugePages-") {
            problems.unsupported(format!("{path}.emptyDir.medium"), medium, &known);
        }
    }
    if let Some(limit) = &source.size_limit {
        let at = format!("{path}.emptyDir.sizeLimit");
        match limit.0.parse::<Quantity>() {
            Ok(amount) if amount.is_negative() => {
                problems.forbidden(at, "SizeLimit field must be a valid resource quantity");
            }
            Ok(_) => {}
            Err(error) => problems.invalid(at, &limit.0, &error.to_string()),
        }
    }
}

fn validate_host_path(path: &str, volume: &Volume, problems: &mut Problems) {
    let Some(source) = &volume.host_path else {
        return;
    };
    let at = format!("{path}.hostPath.path");
    if source.path.is_empty() {
        problems.required(at, "");
        return;
    }
    problems.reasons(at, &source.path, names::no_backsteps(&source.path));
    if let Some(kind) = &source.type_
        && !HOST_PATH_TYPES.contains(&kind.as_str())
    {
        problems.unsupported(format!("{path}.hostPath.type"), kind, &HOST_PATH_TYPES);
    }
}

fn validate_nfs(path: &str, volume: &Volume, problems: &mut Problems) {
    let Some(source) = &volume.nfs else {
        return;
    };
    for (field, value) in [("server", &source.server), ("path", &source.path)] {
        if value.is_empty() {
            problems.required(format!("{path}.nfs.{field}"), "");
        }
    }
    if !source.path.starts_with('/') {
        let at = format!("{path}.nfs.path");
        problems.invalid(at, &source.path, "must be an absolute path");
    }
}

/// Mounts and devices of one container.
pub(super) fn validate_mounts(
    path: &str,
    container: &Container,
    volumes: &Volumes<'_>,
    problems: &mut Problems,
) {
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    let devices = container.volume_devices.as_deref().unwrap_or_default();
    let mut paths = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("{path}.volumeMounts[{index}]");
        if mount.name.is_empty() {
            problems.required(format!("{at}.name"), "");
        }
        if !volumes.contains_key(mount.name.as_str()) {
            problems.not_found(format!("{at}.name"), &mount.name);
        }
        let mount_path = format!("{at}.mountPath");
        if mount.mount_path.is_empty() {
            problems.required(mount_path.as_str(), "");
        }
        if !paths.insert(&mount.mount_path) {
            problems.invalid(mount_path.as_str(), &mount.mount_path, "must be unique");
        }
        if devices.iter().any(|device| device.name == mount.name) {
            let detail = "must not already exist in volumeDevices";
            problems.invalid(format!("{at}.name"), &mount.name, detail);
        }
        if devices.iter().any(|d| d.device_path == mount.mount_path) {
            let detail = "must not already exist as a path in volumeDevices";
            problems.invalid(mount_path, &mount.mount_path, detail);
        }
        validate_mount_options(&at, mount, container, problems);
    }
    validate_devices(path, container, volumes, problems);
}

fn validate_mount_options(
    at: &str,
    mount: &VolumeMount,
    container: &Container,
    problems: &mut Problems,
) {
    for (field, value) in [
        ("subPath", &mount.sub_path),
        ("subPathExpr", &mount.sub_path_expr),
    ] {
        if let Some(value) = text(value) {
            let reasons = names::descending_path(value);
            problems.reasons(format!("{at}.{field}"), value, reasons);
        }
    }
    if let (Some(_), Some(expression)) = (text(&mount.sub_path), text(&mount.sub_path_expr)) {
        let detail = "subPathExpr and subPath are mutually exclusive";
        problems.invalid(format!("{at}.subPathExpr"), expression, detail);
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
            None => problems.not_found(name.as_str(), &device.name),
        }
        if !seen_names.insert(&device.name) {
            problems.invalid(name, &device.name, "must be unique");
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
