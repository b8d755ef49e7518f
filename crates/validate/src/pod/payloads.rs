//! Validates volumes whose files the kubelet writes: configMap, secret, downwardAPI and projected.
//!
//! In:    a volume of a pod
//! Out:   problems
//! Calls: sources.rs of this directory
//! Holds: each file path of a volume has one source
//! Upstream: pkg/apis/core/validation/validation.go (validateDownwardAPIVolumeSource, validateProjectedVolumeSource)

use super::refs::{validate_field_ref, validate_resource_ref};
use super::{Problems, list, names, plain};
use crate::meta;
use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, ConfigMapVolumeSource, DownwardAPIVolumeFile,
    DownwardAPIVolumeSource, KeyToPath, PodCertificateProjection, ProjectedVolumeSource,
    SecretVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};
use std::collections::BTreeSet;

/// The pod fields that a file may contain, in upstream's order.
const VOLUME_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// A downwardAPI volume at `path`.
pub(super) fn validate_downward(
    path: &str,
    source: &DownwardAPIVolumeSource,
    problems: &mut Problems,
) {
    validate_mode(format!("{path}.defaultMode"), source.default_mode, problems);
    // Quirk: problems of an item are reported at the volume (validateDownwardAPIVolumeSource).
    for item in source.items.iter().flatten() {
        validate_item(path, item, problems);
    }
}

/// A secret volume at `path`.
pub(super) fn validate_secret(path: &str, source: &SecretVolumeSource, problems: &mut Problems) {
    if plain(&source.secret_name).is_empty() {
        problems.required(format!("{path}.secretName"), "");
    }
    validate_mode(format!("{path}.defaultMode"), source.default_mode, problems);
    check_items(path, list(&source.items), problems);
}

/// A configMap volume at `path`.
pub(super) fn validate_config_map(
    path: &str,
    source: &ConfigMapVolumeSource,
    problems: &mut Problems,
) {
    if source.name.is_empty() {
        problems.required(format!("{path}.name"), "");
    }
    validate_mode(format!("{path}.defaultMode"), source.default_mode, problems);
    check_items(path, list(&source.items), problems);
}

fn check_items(path: &str, items: &[KeyToPath], problems: &mut Problems) {
    for (index, item) in items.iter().enumerate() {
        let at = format!("{path}.items[{index}]");
        if item.key.is_empty() {
            problems.required(format!("{at}.key"), "");
        }
        if item.path.is_empty() {
            problems.required(format!("{at}.path"), "");
        }
        let reasons = names::unreserved_path(&item.path);
        problems.reasons(format!("{at}.path"), &item.path, reasons);
        validate_mode(format!("{at}.mode"), item.mode, problems);
    }
}

/// The file paths of one volume, each once.
struct Paths<'a> {
    volume: &'a str,
    taken: BTreeSet<String>,
}

impl Paths<'_> {
    /// `shown` is upstream's text for the source.
    fn take(&mut self, path: &str, shown: &str, problems: &mut Problems) {
        if !self.taken.insert(path.to_owned()) {
            problems.invalid(self.volume, shown, "conflicting duplicate paths");
        }
    }
}

/// A projected volume at `path`.
pub(super) fn validate_projected(
    path: &str,
    source: &ProjectedVolumeSource,
    problems: &mut Problems,
) {
    validate_mode(format!("{path}.defaultMode"), source.default_mode, problems);
    let mut paths = Paths {
        volume: path,
        taken: BTreeSet::new(),
    };
    for (index, source) in list(&source.sources).iter().enumerate() {
        let at = format!("{path}.sources[{index}]");
        check_projection(&at, source, &mut paths, problems);
        let kinds = [
            source.secret.is_some(),
            source.config_map.is_some(),
            source.downward_api.is_some(),
            source.service_account_token.is_some(),
            source.cluster_trust_bundle.is_some(),
            source.pod_certificate.is_some(),
        ];
        if kinds.iter().filter(|used| **used).count() > 1 {
            problems.forbidden(at, "may not specify more than 1 volume type per source");
        }
    }
}

fn check_projection(
    at: &str,
    source: &VolumeProjection,
    paths: &mut Paths<'_>,
    problems: &mut Problems,
) {
    let objects = [
        source
            .secret
            .as_ref()
            .map(|s| ("secret", &s.name, list(&s.items))),
        source
            .config_map
            .as_ref()
            .map(|c| ("configMap", &c.name, list(&c.items))),
    ];
    for (field, name, items) in objects.into_iter().flatten() {
        let at = format!("{at}.{field}");
        if name.is_empty() {
            problems.required(format!("{at}.name"), "");
        }
        check_items(&at, items, problems);
        for item in items.iter().filter(|item| !item.path.is_empty()) {
            paths.take(&item.path, name, problems);
        }
    }
    let items = source.downward_api.iter().flat_map(|d| list(&d.items));
    for item in items {
        validate_item(&format!("{at}.downwardAPI"), item, problems);
        if !item.path.is_empty() {
            paths.take(&item.path, &item.path, problems);
        }
    }
    if let Some(token) = &source.service_account_token {
        let volume = paths.volume;
        check_token(
            &format!("{at}.serviceAccountToken"),
            volume,
            token,
            problems,
        );
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        check_bundle(&format!("{at}.clusterTrustBundle"), bundle, problems);
        paths.take(&bundle.path, &bundle.path, problems);
    }
    if let Some(certificate) = &source.pod_certificate {
        let at = format!("{at}.podCertificate");
        check_certificate(&at, certificate, paths, problems);
    }
}

fn check_token(
    at: &str,
    volume: &str,
    token: &ServiceAccountTokenProjection,
    problems: &mut Problems,
) {
    let field = format!("{at}.expirationSeconds");
    let seconds = token.expiration_seconds.unwrap_or_default();
    if seconds < 600 {
        problems.invalid(
            field,
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    } else if seconds > 1 << 32 {
        problems.invalid(
            field,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        );
    }
    // Quirk: the path of a token is reported at the volume (validateProjectionSources).
    let field = format!("{volume}.path");
    problems.required_name(field, &token.path, names::unreserved_path);
}

fn check_bundle(at: &str, bundle: &ClusterTrustBundleProjection, problems: &mut Problems) {
    match (&bundle.name, &bundle.signer_name) {
        (Some(_), Some(_)) => {
            problems.invalid(at, bundle, "only one of name and signerName may be used");
        }
        (Some(name), None) => {
            if name.is_empty() {
                problems.required(format!("{at}.name"), "must be a valid object name");
            }
            let reasons = bundle_name(name).into_iter();
            let reasons = reasons.map(|why| format!("not a valid clustertrustbundlename: {why}"));
            problems.reasons(format!("{at}.name"), name, reasons.collect());
            if bundle.label_selector.is_some() {
                let detail = "labelSelector must be unset if name is specified";
                let field = format!("{at}.labelSelector");
                problems.invalid(field, &bundle.label_selector, detail);
            }
        }
        (None, Some(signer)) => {
            check_signer_name(&format!("{at}.signerName"), signer, problems);
            let selector = bundle.label_selector.as_ref();
            meta::selector(&format!("{at}.labelSelector"), selector, problems);
        }
        (None, None) => problems.required(at, "either name or signerName must be specified"),
    }
    if bundle.path.is_empty() {
        problems.required(format!("{at}.path"), "");
    }
    let reasons = names::unreserved_path(&bundle.path);
    problems.reasons(format!("{at}.path"), &bundle.path, reasons);
}

/// The name of a signer's bundle starts with the signer's name and a colon.
fn bundle_name(name: &str) -> Vec<String> {
    match name.rsplit_once(':') {
        Some((_, rest)) => names::dns_subdomain(rest),
        None => names::dns_subdomain(name),
    }
}

fn check_certificate(
    at: &str,
    certificate: &PodCertificateProjection,
    paths: &mut Paths<'_>,
    problems: &mut Problems,
) {
    let signer = certificate.signer_name.as_str();
    check_signer_name(&format!("{at}.signerName"), signer, problems);
    let field = format!("{at}.userAnnotations");
    meta::annotations(&field, certificate.user_annotations.as_ref(), problems);
    let known = [
        "RSA3072",
        "RSA4096",
        "ECDSAP256",
        "ECDSAP384",
        "ECDSAP521",
        "ED25519",
    ];
    problems.known(format!("{at}.keyType"), Some(&certificate.key_type), &known);
    if let Some(seconds) = certificate.max_expiration_seconds {
        let domain = signer.split('/').next().unwrap_or_default();
        let ours = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
        let most = if ours { 24 * 3600 } else { 91 * 24 * 3600 };
        let field = format!("{at}.maxExpirationSeconds");
        if seconds < 3600 {
            let detail = "if provided, maxExpirationSeconds must be >= 3600";
            problems.invalid(field.as_str(), seconds, detail);
        }
        if seconds > most {
            let detail = format!("if provided, maxExpirationSeconds must be <= {most}");
            problems.invalid(field, seconds, &detail);
        }
    }
    let files = [
        (
            "credentialBundlePath",
            plain(&certificate.credential_bundle_path),
        ),
        ("keyPath", plain(&certificate.key_path)),
        (
            "certificateChainPath",
            plain(&certificate.certificate_chain_path),
        ),
    ];
    if files.iter().all(|(_, path)| path.is_empty()) {
        let detail =
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        problems.required(at, detail);
    }
    for (field, path) in files.into_iter().filter(|(_, path)| !path.is_empty()) {
        problems.reasons(format!("{at}.{field}"), path, names::unreserved_path(path));
        paths.take(path, path, problems);
    }
}

/// A signer name: a domain and a path.
pub(crate) fn check_signer_name(at: &str, signer: &str, problems: &mut Problems) {
    if signer.is_empty() {
        problems.required(at, "");
        return;
    }
    let segments: Vec<&str> = signer.split('/').collect();
    let [domain, path] = segments.as_slice() else {
        let detail =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        problems.invalid(at, signer, detail);
        return;
    };
    if domain.len() > 253 {
        problems.too_long(at, 253);
    }
    let mut check = |segment: &str, check: fn(&str) -> Vec<String>| {
        let wrong = segment.split('.').map(|label| (label, check(label)));
        if let Some((label, reasons)) = wrong.into_iter().find(|(_, reasons)| !reasons.is_empty()) {
            for reason in reasons {
                let detail = format!("validating label {label:?}: {reason}");
                problems.invalid(at, segment, &detail);
            }
        }
    };
    check(domain, names::dns_label);
    check(path, names::dns_subdomain);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        problems.invalid(at, domain, detail);
    }
    let most = 253 + 1 + 253 + 1 + 63;
    if signer.len() > most {
        problems.too_long(at, most);
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
    problems.reasons(at, &item.path, names::unreserved_path(&item.path));
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
