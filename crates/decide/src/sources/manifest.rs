//! Manifests of static pods: bytes in, pods that may run out. Pure.
//!
//! In:    the bytes of a manifest (file or URL), the UID computed elsewhere, the node's name, the time it was seen
//! Out:   pods as the API would hold them (decoded, defaulted, named), or every reason why not
//! Calls: the static pod sources, and `hyperkube validate`
//! Order: [`decode_manifest`] → [`apply_v1_defaults`] → UID → [`identify_static_pod`] → [`validate_static_pod`] →
//!        [`unbuilt_fields`]; validation expects the suffixed name and the defaults, as upstream's does
//! Holds: no input panics or costs more than its budget; a field this kubelet does not know is reported, never ignored
//! Upstream: pkg/kubelet/config/common.go, config.go, file.go, http.go

mod api_references;
mod decode;
mod defaults;
mod image_name;
mod unbuilt;

pub use decode::{MAX_MANIFEST_BYTES, ManifestProblem, decode_manifest, locate_field};
pub use defaults::{apply_v1_defaults, canonical_amounts};
pub use kubelet_validate::FieldProblem;
pub use unbuilt::{unbuilt_fields, unbuilt_fields_from};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use std::fmt;

/// Annotation with the UID of the manifest.
pub const CONFIG_HASH_ANNOTATION: &str = "kubernetes.io/config.hash";
/// Annotation with the name of the source.
pub const CONFIG_SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
/// Annotation with the time at which the pod was first seen.
pub const CONFIG_SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";

/// Where a static pod comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StaticSource {
    /// A file of the manifest directory.
    File,
    /// The manifest URL.
    Url,
}

impl StaticSource {
    /// The name in the `kubernetes.io/config.source` annotation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Url => "http",
        }
    }
}

/// Gives a defaulted pod its identity on this node: UID, annotations, name with the node's suffix, namespace,
/// node, toleration (file pods only) and phase. Its amounts become canonical text.
///
/// `uid` is the manifest's own or the computed one; `seen` is printed as UTC with nine digits of a second.
pub fn identify_static_pod(
    mut pod: Pod,
    uid: &str,
    node_name: &str,
    source: StaticSource,
    seen: Timestamp,
) -> Pod {
    canonical_amounts(&mut pod);
    let meta = &mut pod.metadata;
    meta.uid = Some(uid.to_owned());
    let name = meta.name.take().unwrap_or_default();
    meta.name = Some(format!("{name}-{}", node_name.to_lowercase()));
    if meta.namespace.as_deref().is_none_or(str::is_empty) {
        meta.namespace = Some("default".to_owned());
    }
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(CONFIG_HASH_ANNOTATION.to_owned(), uid.to_owned());
    annotations.insert(
        CONFIG_SOURCE_ANNOTATION.to_owned(),
        source.as_str().to_owned(),
    );
    annotations.insert(CONFIG_SEEN_ANNOTATION.to_owned(), format!("{seen:.9}"));

    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node_name.to_owned());
    if source == StaticSource::File {
        tolerate_no_execute(spec);
    }
    pod.status.get_or_insert_default().phase = Some("Pending".to_owned());
    pod
}

/// Adds the toleration of every `NoExecute` taint; one that differs only in its seconds is replaced in place.
fn tolerate_no_execute(spec: &mut PodSpec) {
    let wanted = Toleration {
        effect: Some("NoExecute".to_owned()),
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    let mut found = false;
    for held in tolerations.iter_mut() {
        let blank = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
        if held.effect == wanted.effect
            && held.operator == wanted.operator
            && blank(&held.key)
            && blank(&held.value)
        {
            *held = wanted.clone();
            found = true;
        }
    }
    if !found {
        tolerations.push(wanted);
    }
}

/// Every problem of a static pod that has its defaults and its identity. Empty means it may run.
pub fn validate_static_pod(pod: &Pod) -> Vec<FieldProblem> {
    let mut problems = kubelet_validate::pod(pod);
    if let Some(spec) = &pod.spec {
        problems.extend(api_references::found_in(spec));
    }
    problems
}

/// Why a file of the manifest directory is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Begins with a dot, as upstream skips it.
    Hidden,
    /// A copy that an editor or an administrator left (`x.yaml~`, `x.bak`, `x.orig`).
    Backup,
    /// A file that an editor or a download is still writing (`#x#`, `x.swp`, `x.tmp`).
    Temporary,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hidden => "the name begins with a dot",
            Self::Backup => "the name is that of a backup copy",
            Self::Temporary => "the name is that of a temporary file",
        })
    }
}

/// Whether a file of the manifest directory is left alone because of its name. Upstream skips dot files only and
/// would run a backup copy as a second pod.
pub fn is_skipped_name(file_name: &str) -> Option<SkipReason> {
    let ends = |suffixes: &[&str]| {
        let lower = file_name.to_ascii_lowercase();
        suffixes.iter().any(|suffix| lower.ends_with(suffix))
    };
    if file_name.starts_with('.') {
        Some(SkipReason::Hidden)
    } else if ends(&["~", ".bak", ".orig"]) {
        Some(SkipReason::Backup)
    } else if ends(&[".swp", ".tmp"])
        || (file_name.len() > 1 && file_name.starts_with('#') && file_name.ends_with('#'))
    {
        Some(SkipReason::Temporary)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
