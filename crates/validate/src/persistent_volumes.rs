//! Validates PersistentVolumes.
//!
//! In:    a persistent volume with its defaults, or the inline spec of an attachment
//! Out:   problems
//! Calls: the API server, attachments
//! Holds: the source of a volume cannot change
//! Upstream: pkg/apis/core/validation/validation.go (ValidatePersistentVolume and its updates); differences: messages do not
//!           contain Go's diff of the specs

use crate::Checked;
use crate::claims::{VOLUME_MODES, check_access_modes, check_positive};
use crate::names;
use crate::pod::{Sources, check_csi_driver, node_selector, sources};
use crate::problem::{Problems, list, plain, text};
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, ISCSIPersistentVolumeSource, PersistentVolume, PersistentVolumeSpec,
};
use kubelet_model::emptiness;
use serde_json::Value;

/// Fields of the spec that are not a source.
const NOT_SOURCES: [&str; 8] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
];

impl Checked for PersistentVolume {
    fn check(&self, problems: &mut Problems) {
        let spec = self.spec.clone().unwrap_or_default();
        let name = plain(&self.metadata.name);
        check_own(&spec, problems);
        check_spec("spec", name, &spec, problems);
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        let (mut spec, before) = (
            self.spec.clone().unwrap_or_default(),
            old.spec.clone().unwrap_or_default(),
        );
        let mode = spec.volume_mode.clone();
        // A secret for expanding the volume may be added later.
        if let (Some(now), Some(then)) = (&mut spec.csi, &before.csi)
            && then.controller_expand_secret_ref.is_none()
        {
            now.controller_expand_secret_ref = None;
        }
        if source(&spec) != source(&before) {
            let detail = "spec.persistentvolumesource is immutable after creation";
            problems.forbidden("spec.persistentvolumesource", detail);
        }
        problems.immutable("volumeMode", &mode, &before.volume_mode);
        if before.node_affinity.is_some() && spec.node_affinity != before.node_affinity {
            let detail = "field is immutable, except for updating from beta label to GA";
            problems.invalid("nodeAffinity", &spec.node_affinity, detail);
        }
        if before.volume_attributes_class_name.is_some()
            && spec.volume_attributes_class_name.is_none()
        {
            let detail = "update from non-nil value to nil is forbidden";
            problems.forbidden("spec.volumeAttributesClassName", detail);
        }
    }
}

fn source(spec: &PersistentVolumeSpec) -> Value {
    let mut all = emptiness::plain(serde_json::to_value(spec).unwrap_or_default());
    if let Some(all) = all.as_object_mut() {
        all.retain(|name, _| !NOT_SOURCES.contains(&name.as_str()) && name != "volumeMode");
    }
    all
}

/// Rules for a PersistentVolume that do not apply to the inline spec of an attachment.
fn check_own(spec: &PersistentVolumeSpec, problems: &mut Problems) {
    let capacity = spec.capacity.clone().unwrap_or_default();
    let path = "spec.capacity";
    if capacity.is_empty() {
        problems.required(path, "");
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        let held: Vec<&str> = capacity.keys().map(String::as_str).collect();
        problems.unsupported(path, &held.join(", "), &["storage"]);
    }
    for (name, amount) in &capacity {
        check_positive(format!("{path}[{name}]"), &amount.0, problems);
    }
    let policy = text(&spec.persistent_volume_reclaim_policy);
    let known = ["Delete", "Recycle", "Retain"];
    problems.known("spec.persistentVolumeReclaimPolicy", policy, &known);
    let path = "spec.nodeAffinity";
    match &spec.node_affinity {
        Some(affinity) => match &affinity.required {
            Some(selector) => node_selector(&format!("{path}.required"), selector, problems),
            None => {
                let detail = "must specify required node constraints";
                problems.required(format!("{path}.required"), detail);
            }
        },
        None if spec.local.is_some() => {
            problems.required(path, "Local volume requires node affinity");
        }
        None => {}
    }
    let root = spec.host_path.as_ref().is_some_and(|host| {
        let mut parts = host.path.split('/');
        host.path.starts_with('/') && parts.all(|part| matches!(part, "" | "."))
    });
    if root && policy == Some("Recycle") {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        problems.forbidden("spec.persistentVolumeReclaimPolicy", detail);
    }
    if let Some(class) = text(&spec.storage_class_name) {
        let reasons = names::dns_subdomain(class);
        problems.reasons("spec.storageClassName", class, reasons);
    }
    let mode = spec.volume_mode.as_deref();
    problems.known("spec.volumeMode", mode, &VOLUME_MODES);
    if let Some(class) = &spec.volume_attributes_class_name {
        let path = "spec.volumeAttributesClassName";
        if class.is_empty() {
            problems.required(path, "an empty string is disallowed");
        } else {
            problems.reasons(path, class, names::dns_subdomain(class));
        }
        if spec.csi.is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            problems.required("spec.csi", detail);
        }
    }
}

/// The spec at `path`, without the rules for a PersistentVolume object.
pub(crate) fn check_spec(
    path: &str,
    name: &str,
    spec: &PersistentVolumeSpec,
    problems: &mut Problems,
) {
    let modes = list(&spec.access_modes);
    if modes.is_empty() {
        problems.required(format!("{path}.accessModes"), "");
    }
    check_access_modes(path, modes, problems);
    let mut found = Sources::new(path, problems);
    found.take("hostPath", &spec.host_path, sources::check_host_path);
    let disk = &spec.gce_persistent_disk;
    found.take("gcePersistentDisk", disk, sources::check_gce);
    let store = &spec.aws_elastic_block_store;
    found.take("awsElasticBlockStore", store, sources::check_aws);
    found.take("glusterfs", &spec.glusterfs, |at, source, problems| {
        for (field, value) in [("endpoints", &source.endpoints), ("path", &source.path)] {
            need(at, field, value, problems);
        }
        if let Some(namespace) = &source.endpoints_namespace {
            let reasons = names::dns_label(namespace);
            problems.reasons(format!("{at}.endpointsNamespace"), namespace, reasons);
        }
    });
    found.take("flocker", &spec.flocker, sources::check_flocker);
    found.take("nfs", &spec.nfs, sources::check_nfs);
    found.take("rbd", &spec.rbd, |at, source, problems| {
        sources::check_monitors(at, &source.monitors, problems);
        need(at, "image", &source.image, problems);
    });
    found.take("quobyte", &spec.quobyte, sources::check_quobyte);
    found.take("cephfs", &spec.cephfs, |at, source, problems| {
        sources::check_monitors(at, &source.monitors, problems);
    });
    found.take("iscsi", &spec.iscsi, |at, source, problems| {
        check_iscsi(at, name, source, problems);
    });
    found.take("cinder", &spec.cinder, |at, source, problems| {
        need(at, "volumeID", &source.volume_id, problems);
        if let Some(secret) = &source.secret_ref {
            need_secret(at, (&secret.name, &secret.namespace), problems);
        }
    });
    found.take("fc", &spec.fc, sources::check_fc);
    found.take("flexVolume", &spec.flex_volume, |at, source, problems| {
        sources::check_flex(at, &source.driver, source.options.as_ref(), problems);
    });
    check_clouds(spec, &mut found);
    found.take("csi", &spec.csi, check_csi);
    found.finish();
}

fn need(at: &str, field: &str, value: &str, problems: &mut Problems) {
    if value.is_empty() {
        problems.required(format!("{at}.{field}"), "");
    }
}

/// A secret reference needs name and namespace.
fn need_secret(
    at: &str,
    (name, namespace): (&Option<String>, &Option<String>),
    problems: &mut Problems,
) {
    need(at, "secretRef.name", plain(name), problems);
    need(at, "secretRef.namespace", plain(namespace), problems);
}

fn check_clouds(spec: &PersistentVolumeSpec, found: &mut Sources<'_>) {
    found.take("azureFile", &spec.azure_file, |at, source, problems| {
        need(at, "secretName", &source.secret_name, problems);
        need(at, "shareName", &source.share_name, problems);
        if source.secret_namespace.as_deref() == Some("") {
            need(at, "secretNamespace", "", problems);
        }
    });
    let vsphere = &spec.vsphere_volume;
    found.take("vsphereVolume", vsphere, |at, source, problems| {
        need(at, "volumePath", &source.volume_path, problems);
    });
    let photon = &spec.photon_persistent_disk;
    found.take("photonPersistentDisk", photon, |at, source, problems| {
        need(at, "pdID", &source.pd_id, problems);
    });
    let portworx = &spec.portworx_volume;
    found.take("portworxVolume", portworx, |at, source, problems| {
        need(at, "volumeID", &source.volume_id, problems);
    });
    found.take("azureDisk", &spec.azure_disk, sources::check_azure_disk);
    found.take("scaleIO", &spec.scale_io, |at, source, problems| {
        need(at, "gateway", &source.gateway, problems);
        need(at, "system", &source.system, problems);
        need(at, "volumeName", plain(&source.volume_name), problems);
    });
    found.take("local", &spec.local, |at, source, problems| {
        need(at, "path", &source.path, problems);
        let reasons = names::no_backsteps(&source.path);
        problems.reasons(format!("{at}.path"), &source.path, reasons);
    });
    found.take("storageos", &spec.storageos, |at, source, problems| {
        let (name, namespace) = (&source.volume_name, &source.volume_namespace);
        sources::check_storageos(at, name, namespace, problems);
        if let Some(secret) = &source.secret_ref {
            need_secret(at, (&secret.name, &secret.namespace), problems);
        }
    });
}

fn check_iscsi(
    at: &str,
    name: &str,
    source: &ISCSIPersistentVolumeSource,
    problems: &mut Problems,
) {
    let portal = &source.target_portal;
    sources::check_target(at, portal, (&source.iqn, source.lun), problems);
    if source.initiator_name.is_some() && name.len() + 1 + portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        problems.invalid(format!("{at}.targetportal"), portal, detail);
    }
    let chap = [source.chap_auth_discovery, source.chap_auth_session].contains(&Some(true));
    match &source.secret_ref {
        None if chap => problems.required(format!("{at}.secretRef"), ""),
        Some(secret) => need(at, "secretRef.name", plain(&secret.name), problems),
        None => {}
    }
    sources::check_initiator(at, source.initiator_name.as_deref(), problems);
}

fn check_csi(at: &str, source: &CSIPersistentVolumeSource, problems: &mut Problems) {
    check_csi_driver(format!("{at}.driver"), &source.driver, problems);
    need(at, "volumeHandle", &source.volume_handle, problems);
    for (field, secret) in [
        (
            "controllerPublishSecretRef",
            &source.controller_publish_secret_ref,
        ),
        (
            "controllerExpandSecretRef",
            &source.controller_expand_secret_ref,
        ),
        ("nodePublishSecretRef", &source.node_publish_secret_ref),
        ("nodeExpandSecretRef", &source.node_expand_secret_ref),
    ] {
        let Some(secret) = secret else { continue };
        let at = format!("{at}.{field}");
        let (name, namespace) = (plain(&secret.name), plain(&secret.namespace));
        problems.required_name(format!("{at}.name"), name, names::dns_subdomain);
        problems.required_name(format!("{at}.namespace"), namespace, names::dns_label);
    }
}
