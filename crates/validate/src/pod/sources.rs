//! Validates volume sources: exactly one source, and the requirements of each type.
//!
//! In:    a volume of a pod, or the spec of a persistent volume
//! Out:   problems
//! Calls: volumes of pods, persistent volumes
//! Holds: sources are checked in upstream's order, since the second one is reported as surplus
//! Upstream: pkg/apis/core/validation/validation.go (validateVolumeSource)

use super::payloads::{
    validate_config_map, validate_downward, validate_projected, validate_secret,
};
use super::{Problems, list, names, plain, text};
use crate::claims;
use crate::meta;
use k8s_openapi::api::core::v1::{
    AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, CSIVolumeSource, EmptyDirVolumeSource,
    EphemeralVolumeSource, FCVolumeSource, FlockerVolumeSource, GCEPersistentDiskVolumeSource,
    HostPathVolumeSource, ISCSIVolumeSource, NFSVolumeSource, QuobyteVolumeSource, Volume,
};
use kubelet_model::quantity::Quantity;
use std::collections::BTreeMap;

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
const PARTITION: &str = "must be between 0 and 255, inclusive";

/// Counts sources: the first one is validated, every further one is reported.
pub(crate) struct Sources<'a> {
    path: &'a str,
    problems: &'a mut Problems,
    count: usize,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(path: &'a str, problems: &'a mut Problems) -> Self {
        Self {
            path,
            problems,
            count: 0,
        }
    }

    /// Checks one type of source.
    pub(crate) fn take<T>(
        &mut self,
        field: &str,
        source: &Option<T>,
        check: impl FnOnce(&str, &T, &mut Problems),
    ) {
        let Some(source) = source else { return };
        self.count += 1;
        let at = format!("{}.{field}", self.path);
        if self.count == 1 {
            check(&at, source, self.problems);
        } else {
            let detail = "may not specify more than 1 volume type";
            self.problems.forbidden(at, detail);
        }
    }

    pub(crate) fn finish(self) {
        if self.count == 0 {
            self.problems
                .required(self.path, "must specify a volume type");
        }
    }
}

/// Texts that are required.
fn required(at: &str, fields: &[(&str, &str)], problems: &mut Problems) {
    for (field, value) in fields {
        if value.is_empty() {
            problems.required(format!("{at}.{field}"), "");
        }
    }
}

/// Every source that a pod volume can have.
pub(super) fn check_volume(volume: &Volume, sources: &mut Sources<'_>) {
    sources.take("emptyDir", &volume.empty_dir, check_empty_dir);
    sources.take("hostPath", &volume.host_path, check_host_path);
    sources.take("gitRepo", &volume.git_repo, |at, repo, problems| {
        required(at, &[("repository", &repo.repository)], problems);
        let directory = plain(&repo.directory);
        let reasons = names::descending_path(directory);
        problems.reasons(format!("{at}.directory"), directory, reasons);
    });
    sources.take("gcePersistentDisk", &volume.gce_persistent_disk, check_gce);
    sources.take(
        "awsElasticBlockStore",
        &volume.aws_elastic_block_store,
        check_aws,
    );
    sources.take("secret", &volume.secret, validate_secret);
    sources.take("nfs", &volume.nfs, check_nfs);
    sources.take("iscsi", &volume.iscsi, |at, source, problems| {
        check_iscsi(at, source, problems);
        check_portal(at, &volume.name, source, problems);
    });
    sources.take("glusterfs", &volume.glusterfs, |at, source, problems| {
        let fields = [("endpoints", &*source.endpoints), ("path", &source.path)];
        required(at, &fields, problems);
    });
    sources.take("flocker", &volume.flocker, check_flocker);
    let claim = &volume.persistent_volume_claim;
    sources.take("persistentVolumeClaim", claim, |at, claim, problems| {
        required(at, &[("claimName", &claim.claim_name)], problems);
    });
    sources.take("rbd", &volume.rbd, |at, source, problems| {
        check_monitors(at, &source.monitors, problems);
        required(at, &[("image", &source.image)], problems);
    });
    sources.take("cinder", &volume.cinder, |at, source, problems| {
        required(at, &[("volumeID", &source.volume_id)], problems);
        if let Some(secret) = &source.secret_ref {
            required(at, &[("secretRef.name", &secret.name)], problems);
        }
    });
    sources.take("cephfs", &volume.cephfs, |at, source, problems| {
        check_monitors(at, &source.monitors, problems);
    });
    sources.take("quobyte", &volume.quobyte, check_quobyte);
    sources.take("downwardAPI", &volume.downward_api, validate_downward);
    sources.take("fc", &volume.fc, check_fc);
    sources.take("flexVolume", &volume.flex_volume, |at, source, problems| {
        check_flex(at, &source.driver, source.options.as_ref(), problems);
    });
    sources.take("configMap", &volume.config_map, validate_config_map);
    check_clouds(volume, sources);
    sources.take("projected", &volume.projected, validate_projected);
    sources.take("scaleIO", &volume.scale_io, |at, source, problems| {
        let name = plain(&source.volume_name);
        let fields = [
            ("gateway", &*source.gateway),
            ("system", &source.system),
            ("volumeName", name),
        ];
        required(at, &fields, problems);
    });
    sources.take("csi", &volume.csi, check_csi);
    sources.take("ephemeral", &volume.ephemeral, check_ephemeral);
    sources.take("image", &volume.image, |at, source, problems| {
        required(at, &[("reference", plain(&source.reference))], problems);
        problems.one_of(
            format!("{at}.pullPolicy"),
            source.pull_policy.as_deref(),
            &["Always", "IfNotPresent", "Never"],
        );
    });
}

fn check_clouds(volume: &Volume, sources: &mut Sources<'_>) {
    sources.take("azureFile", &volume.azure_file, |at, source, problems| {
        let fields = [
            ("secretName", &*source.secret_name),
            ("shareName", &source.share_name),
        ];
        required(at, &fields, problems);
    });
    let vsphere = &volume.vsphere_volume;
    sources.take("vsphereVolume", vsphere, |at, source, problems| {
        required(at, &[("volumePath", &source.volume_path)], problems);
    });
    let photon = &volume.photon_persistent_disk;
    sources.take("photonPersistentDisk", photon, |at, source, problems| {
        required(at, &[("pdID", &source.pd_id)], problems);
    });
    let portworx = &volume.portworx_volume;
    sources.take("portworxVolume", portworx, |at, source, problems| {
        required(at, &[("volumeID", &source.volume_id)], problems);
    });
    sources.take("azureDisk", &volume.azure_disk, check_azure_disk);
    sources.take("storageos", &volume.storageos, |at, source, problems| {
        check_storageos(at, &source.volume_name, &source.volume_namespace, problems);
        if let Some(secret) = &source.secret_ref {
            required(at, &[("secretRef.name", &secret.name)], problems);
        }
    });
}

fn check_empty_dir(at: &str, source: &EmptyDirVolumeSource, problems: &mut Problems) {
    if let Some(limit) = &source.size_limit {
        let at = format!("{at}.sizeLimit");
        match limit.0.parse::<Quantity>() {
            Ok(amount) if amount.is_negative() => {
                problems.forbidden(at, "SizeLimit field must be a valid resource quantity");
            }
            Ok(_) => {}
            Err(error) => problems.invalid(at, &limit.0, &error.to_string()),
        }
    }
}

pub(crate) fn check_host_path(at: &str, source: &HostPathVolumeSource, problems: &mut Problems) {
    let path = format!("{at}.path");
    if source.path.is_empty() {
        problems.required(path, "");
        return;
    }
    problems.reasons(path, &source.path, names::no_backsteps(&source.path));
    problems.known(
        format!("{at}.type"),
        source.type_.as_deref(),
        &HOST_PATH_TYPES,
    );
}

pub(crate) fn check_nfs(at: &str, source: &NFSVolumeSource, problems: &mut Problems) {
    let fields = [("server", &*source.server), ("path", &source.path)];
    required(at, &fields, problems);
    if !source.path.starts_with('/') {
        problems.invalid(
            format!("{at}.path"),
            &source.path,
            "must be an absolute path",
        );
    }
}

// Quirk: upstream names these two differently when it validates one (validateVolumeSource).
pub(crate) fn check_gce(at: &str, source: &GCEPersistentDiskVolumeSource, problems: &mut Problems) {
    let at = at.replace("gcePersistentDisk", "persistentDisk");
    required(&at, &[("pdName", &source.pd_name)], problems);
    check_partition(&at, source.partition, problems);
}

pub(crate) fn check_aws(
    at: &str,
    source: &AWSElasticBlockStoreVolumeSource,
    problems: &mut Problems,
) {
    required(at, &[("volumeID", &source.volume_id)], problems);
    check_partition(at, source.partition, problems);
}

fn check_partition(at: &str, partition: Option<i32>, problems: &mut Problems) {
    if let Some(partition) = partition.filter(|number| !(0..=255).contains(number)) {
        problems.invalid(format!("{at}.partition"), partition, PARTITION);
    }
}

fn check_iscsi(at: &str, source: &ISCSIVolumeSource, problems: &mut Problems) {
    check_target(
        at,
        &source.target_portal,
        (&source.iqn, source.lun),
        problems,
    );
    let chap = [source.chap_auth_discovery, source.chap_auth_session].contains(&Some(true));
    if chap && source.secret_ref.is_none() {
        problems.required(format!("{at}.secretRef"), "");
    }
    check_initiator(at, source.initiator_name.as_deref(), problems);
}

pub(crate) fn check_target(
    at: &str,
    portal: &str,
    (iqn, lun): (&str, i32),
    problems: &mut Problems,
) {
    required(at, &[("targetPortal", portal)], problems);
    let field = format!("{at}.iqn");
    if iqn.is_empty() {
        problems.required(field, "");
    } else if let Some(why) = initiator_problem(iqn) {
        problems.invalid(field, iqn, why);
    }
    if !(0..=255).contains(&lun) {
        problems.invalid(format!("{at}.lun"), lun, PARTITION);
    }
}

pub(crate) fn check_initiator(at: &str, initiator: Option<&str>, problems: &mut Problems) {
    if let Some(name) = initiator
        && let Some(why) = initiator_problem(name)
    {
        problems.invalid(format!("{at}.initiatorname"), name, why);
    }
}

fn initiator_problem(name: &str) -> Option<&'static str> {
    let alnum = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let good = if name.starts_with("iqn") {
        is_iqn(name)
    } else if name.starts_with("eui") {
        name.len() == 20 && name.get(4..).is_some_and(alnum)
    } else if name.starts_with("naa") {
        name.len() == 36 && name.get(4..).is_some_and(alnum)
    } else {
        return Some("must be valid format starting with iqn, eui, or naa");
    };
    (!good).then_some("must be valid format")
}

/// `iqn.YYYY-MM.domain:name`
fn is_iqn(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("iqn.") else {
        return false;
    };
    let Some((date, rest)) = rest.split_once('.') else {
        return false;
    };
    let Some((domain, called)) = rest.split_once(':') else {
        return false;
    };
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let dated = date
        .split_once('-')
        .is_some_and(|(year, month)| digits(year, 4) && digits(month, 2));
    let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    dated
        && !domain.is_empty()
        && domain.bytes().all(letters)
        && !called.is_empty()
        && !called.contains(|c: char| c.is_whitespace() || ",;*&$|".contains(c))
}

fn check_portal(at: &str, name: &str, source: &ISCSIVolumeSource, problems: &mut Problems) {
    if source.initiator_name.is_some() && name.len() + 1 + source.target_portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        problems.invalid(at.replace(".iscsi", ".name"), name, detail);
    }
}

pub(crate) fn check_monitors(at: &str, monitors: &[String], problems: &mut Problems) {
    if monitors.is_empty() {
        problems.required(format!("{at}.monitors"), "");
    }
}

pub(crate) fn check_flocker(at: &str, source: &FlockerVolumeSource, problems: &mut Problems) {
    let (name, uuid) = (plain(&source.dataset_name), plain(&source.dataset_uuid));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => problems.required(at, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            problems.invalid(at, "resource", detail);
        }
        _ => {}
    }
    if name.contains('/') {
        problems.invalid(format!("{at}.datasetName"), name, "must not contain '/'");
    }
}

pub(crate) fn check_quobyte(at: &str, source: &QuobyteVolumeSource, problems: &mut Problems) {
    let rule = "must be a host:port pair or multiple pairs separated by commas";
    let field = format!("{at}.registry");
    if source.registry.is_empty() {
        problems.required(field, rule);
    } else if plain(&source.tenant).len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        problems.required(format!("{at}.tenant"), detail);
    } else if !source.registry.split(',').all(is_host_and_port) {
        problems.invalid(field, &source.registry, rule);
    }
    required(at, &[("volume", &source.volume)], problems);
}

/// Exactly one colon outside brackets.
fn is_host_and_port(pair: &str) -> bool {
    match pair.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, port)) => port.starts_with(':'),
        None => pair.matches(':').count() == 1,
    }
}

pub(crate) fn check_fc(at: &str, source: &FCVolumeSource, problems: &mut Problems) {
    let names = list(&source.target_wwns);
    let field = format!("{at}.targetWWNs");
    match (names.is_empty(), list(&source.wwids).is_empty()) {
        (true, true) => {
            let detail = "must specify either targetWWNs or wwids, but not both";
            problems.required(field, detail);
        }
        (false, false) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            problems.invalid(field, names, detail);
        }
        _ => {}
    }
    let field = format!("{at}.lun");
    match source.lun {
        _ if names.is_empty() => {}
        None => problems.required(field, "lun is required if targetWWNs is specified"),
        Some(lun) if !(0..=255).contains(&lun) => problems.invalid(field, lun, PARTITION),
        Some(_) => {}
    }
}

pub(crate) fn check_flex(
    at: &str,
    driver: &str,
    options: Option<&BTreeMap<String, String>>,
    problems: &mut Problems,
) {
    required(at, &[("driver", driver)], problems);
    for key in options.into_iter().flat_map(BTreeMap::keys) {
        let namespace = key.split('/').next().unwrap_or_default();
        let dotted = format!(".{}", namespace.to_lowercase());
        if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            problems.invalid(format!("{at}.options[{key}]"), key, detail);
        }
    }
}

pub(crate) fn check_azure_disk(at: &str, source: &AzureDiskVolumeSource, problems: &mut Problems) {
    let fields = [
        ("diskName", &*source.disk_name),
        ("diskURI", &source.disk_uri),
    ];
    required(at, &fields, problems);
    let caching = ["None", "ReadOnly", "ReadWrite"];
    let field = format!("{at}.cachingMode");
    problems.known(field, source.caching_mode.as_deref(), &caching);
    let kinds = ["Dedicated", "Managed", "Shared"];
    problems.known(format!("{at}.kind"), source.kind.as_deref(), &kinds);
    let (start, known) = match source.kind.as_deref() {
        None => return,
        Some("Managed") => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        Some(_) => (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ),
    };
    if !source.disk_uri.starts_with(start) {
        problems.unsupported(format!("{at}.diskURI"), &source.disk_uri, &[known]);
    }
}

pub(crate) fn check_storageos(
    at: &str,
    name: &Option<String>,
    namespace: &Option<String>,
    problems: &mut Problems,
) {
    problems.required_name(format!("{at}.volumeName"), plain(name), names::dns_label);
    if let Some(namespace) = text(namespace) {
        let reasons = names::dns_label(namespace);
        problems.reasons(format!("{at}.volumeNamespace"), namespace, reasons);
    }
}

/// A CSI driver name.
pub(crate) fn check_csi_driver(at: String, driver: &str, problems: &mut Problems) {
    if driver.is_empty() {
        problems.required(at, "");
        return;
    }
    if driver.len() > 63 {
        problems.too_long(at.as_str(), 63);
    }
    problems.reasons(at, driver, names::caseless_subdomain(driver));
}

fn check_csi(at: &str, source: &CSIVolumeSource, problems: &mut Problems) {
    check_csi_driver(format!("{at}.driver"), &source.driver, problems);
    if let Some(secret) = &source.node_publish_secret_ref {
        let field = format!("{at}.nodePublishSecretRef.name");
        problems.required_name(field, &secret.name, names::dns_subdomain);
    }
}

fn check_ephemeral(at: &str, source: &EphemeralVolumeSource, problems: &mut Problems) {
    let at = format!("{at}.volumeClaimTemplate");
    let Some(template) = &source.volume_claim_template else {
        problems.required(at, "");
        return;
    };
    if let Some(metadata) = &template.metadata {
        let annotations = metadata.annotations.as_ref();
        meta::annotations(&format!("{at}.metadata.annotations"), annotations, problems);
        let labels = metadata.labels.as_ref();
        meta::labels(&format!("{at}.metadata.labels"), labels, problems);
        for (field, used) in [
            ("name", text(&metadata.name).is_some()),
            ("generateName", text(&metadata.generate_name).is_some()),
            ("namespace", text(&metadata.namespace).is_some()),
            ("uid", text(&metadata.uid).is_some()),
            ("finalizers", !list(&metadata.finalizers).is_empty()),
            (
                "ownerReferences",
                !list(&metadata.owner_references).is_empty(),
            ),
        ] {
            if used {
                problems.forbidden(format!("{at}.metadata.{field}"), "cannot be set");
            }
        }
    }
    claims::check_spec(&format!("{at}.spec"), &template.spec, problems);
}
