//! The bytes of one manifest become pods of this node, or every reason why not. No task, no file.
//!
//! In:    bytes, their path or URL, the node's name, when pods were first seen
//! Out:   [`Reading`]: pods ready for the sync loop, or problems with line and field
//! Calls: scan (in a blocking thread), url
//! Order: decode → defaults of v1 → UID → identity → validation → fields not built; the UID is of the defaulted pod before
//!        the kubelet's own additions, validation is of the pod with them
//! Holds: equal bytes at an equal place on an equal node give equal UIDs; all pods of a manifest are good, or none is
//! Upstream: pkg/kubelet/config/common.go (tryDecodeSinglePod, tryDecodePodList, applyDefaults)

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kubelet_decide::sources::identity::{IdentityError, ManifestPlace, static_pod_uid};
use kubelet_decide::sources::manifest::{
    FieldProblem, StaticSource, apply_v1_defaults, decode_manifest, identify_static_pod,
    locate_field, unbuilt_fields, validate_static_pod,
};
use kubelet_model::ids::PodUid;
use kubelet_model::pod::{Pod, SourceKind};

use super::Taker;
use super::report::Problem;

/// More problems of one manifest than this are not worth a parse each to find their lines.
const LOCATED_PROBLEMS: usize = 16;

/// Where a manifest lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    /// File or URL.
    pub(super) kind: SourceKind,
    /// The path as the kubelet was told, or the URL.
    pub(super) at: &'a str,
    /// Who takes its pods.
    pub(super) taker: &'a Taker,
}

impl Origin<'_> {
    fn source(&self) -> StaticSource {
        match self.kind {
            SourceKind::File => StaticSource::File,
            SourceKind::Url | SourceKind::Api => StaticSource::Url,
        }
    }
}

/// When the pods of a source were first seen.
#[derive(Clone, Debug)]
pub(super) struct FirstSeen {
    /// For pods that are new.
    pub(super) now: Timestamp,
    /// By UID.
    pub(super) known: BTreeMap<String, Timestamp>,
}

/// What a look at a manifest brought.
#[derive(Debug)]
pub(super) enum Reading {
    /// The bytes that were judged before.
    Unchanged,
    /// Pods that may run, each with the time of its first sight.
    Good {
        /// Of the bytes.
        fingerprint: u64,
        /// The bytes.
        text: String,
        /// In the manifest's order.
        pods: Vec<Arc<Pod>>,
    },
    /// Nothing that may run.
    Bad {
        /// Of the bytes, when they could be read.
        fingerprint: Option<u64>,
        /// Why; at least one.
        problems: Vec<Problem>,
    },
}

/// What tells two contents apart.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.write_usize(bytes.len());
    hasher.finish()
}

/// Judges bytes, unless they have this fingerprint.
pub(super) fn read_manifest(
    bytes: Vec<u8>,
    judged: Option<u64>,
    place: Origin<'_>,
    seen: &FirstSeen,
) -> Reading {
    let fingerprint = fingerprint(&bytes);
    if judged == Some(fingerprint) {
        return Reading::Unchanged;
    }
    let bad = |problems| Reading::Bad {
        fingerprint: Some(fingerprint),
        problems,
    };
    match pods_of(&bytes, place, seen) {
        Err(problems) => bad(problems),
        Ok(pods) => match String::from_utf8(bytes) {
            Ok(text) => Reading::Good {
                fingerprint,
                text,
                pods,
            },
            Err(_) => bad(vec![Problem::at(place.at, "not UTF-8 text")]),
        },
    }
}

/// The pods of a manifest.
///
/// # Errors
/// Every problem of every pod, at least one.
pub(super) fn pods_of(
    bytes: &[u8],
    place: Origin<'_>,
    seen: &FirstSeen,
) -> Result<Vec<Arc<Pod>>, Vec<Problem>> {
    let decoded = decode_manifest(bytes, place.source()).map_err(|problem| {
        vec![Problem {
            line: problem.line,
            column: problem.column,
            field: problem.field,
            ..Problem::at(place.at, problem.message)
        }]
    })?;
    let mut pods = Vec::with_capacity(decoded.len());
    let mut problems = Vec::new();
    for (index, pod) in decoded.into_iter().enumerate() {
        match admit(pod, place, seen) {
            Ok(pod) => pods.push(Arc::new(pod)),
            Err(found) => problems.extend(found.into_iter().map(|problem| (index, problem))),
        }
    }
    if problems.is_empty() {
        return Ok(pods);
    }
    // Whether a URL gave a pod or a list shows in whether there is such an item.
    let is_list =
        place.kind == SourceKind::Url && locate_field(bytes, "items[0]") != locate_field(bytes, "");
    let located = problems
        .into_iter()
        .enumerate()
        .map(|(number, (index, p))| {
            let field = match (is_list, p.path.is_empty()) {
                (true, true) => format!("items[{index}]"),
                (true, false) => format!("items[{index}].{}", p.path),
                (false, _) => p.path,
            };
            let line = (number < LOCATED_PROBLEMS).then(|| locate_field(bytes, &field));
            let line = line.flatten();
            Problem {
                line: line.map(|(line, _)| line),
                column: line.map(|(_, column)| column),
                field: Some(field).filter(|field| !field.is_empty()),
                ..Problem::at(place.at, p.message)
            }
        });
    Err(located.collect())
}

/// One pod of a manifest with everything this node adds to it.
fn admit(mut pod: v1::Pod, place: Origin<'_>, seen: &FirstSeen) -> Result<Pod, Vec<FieldProblem>> {
    apply_v1_defaults(&mut pod);
    let found_at = match place.kind {
        SourceKind::File => ManifestPlace::File {
            node_name: &place.taker.node_name,
            path: place.at,
        },
        SourceKind::Url | SourceKind::Api => ManifestPlace::Url { url: place.at },
    };
    let uid = static_pod_uid(&pod, &found_at).map_err(|error| {
        let path = match &error {
            IdentityError::UnknownField { path } | IdentityError::Value { path, .. } => {
                path.clone()
            }
            IdentityError::Json(_) => String::new(),
        };
        let message = error.to_string();
        vec![FieldProblem::invalid(path, message)]
    })?;
    if let Err(why) = PodUid::parse(&uid) {
        // Upstream takes any text of the manifest, and would leave the pods' directory with it.
        let path = "metadata.uid".to_owned();
        let message = format!("Invalid value: {why}: must do as the name of a directory");
        return Err(vec![FieldProblem::invalid(path, message)]);
    }
    let first = seen.known.get(&uid).copied().unwrap_or(seen.now);
    let pod = identify_static_pod(pod, &uid, &place.taker.node_name, place.source(), first);
    let problems = validate_static_pod(&pod);
    if !problems.is_empty() {
        return Err(problems);
    }
    let unbuilt = unbuilt_fields(&pod);
    let pod = Pod::new(Arc::new(pod), place.kind, unbuilt);
    let pod = pod.map(|pod| pod.under(place.taker.gates));
    pod.map_err(|error| {
        let (path, message) = (
            error.what.to_owned(),
            format!("Invalid value: {}", error.why),
        );
        vec![FieldProblem::invalid(path, message)]
    })
}
