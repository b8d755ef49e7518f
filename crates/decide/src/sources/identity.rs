//! Names that outlive a restart: the UID of a static pod and the hash of a container.
//!
//! In: a pod as its manifest says it, with the API's defaults filled in but before the kubelet's own additions (name suffix, default
//! namespace, annotations, toleration, node name), and where the manifest came from; or a container's name and image.
//! Out: the UID (32 hex digits, or the manifest's own), the container hash. Called by the pod sources and by the container plan.
//!
//! Both must equal the Go kubelet's bit for bit: another UID or another hash restarts every static pod of a node that is taken over.
//! Go hashes a printed dump of its in-memory values, so `identity/dump.rs` prints a pod the way those values print, along the
//! table of types in `identity/pod-types.txt`. A field the table does not know is an error, never a silently different hash.
//!
//! Known to differ, all legal but rare in a static pod: times (`creationTimestamp`) print as on a host whose zone is UTC;
//! pod-level requests that defaulting summed up from several containers remember in Go that they are sums.
//!
//! Upstream: pkg/kubelet/config/common.go, pkg/kubelet/container/helpers.go, pkg/util/hash/hash.go, k8s.io/utils/dump

mod dump;
mod fnv;
mod internal;
mod quantity;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::Pod;
use std::fmt::Write as _;

/// Where a static pod's manifest was found; part of its UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestPlace<'a> {
    /// A file in the manifest directory.
    File {
        /// The node's name, as the kubelet registers it.
        node_name: &'a str,
        /// The file's path as the kubelet opened it: the configured directory joined with the file's name.
        path: &'a str,
    },
    /// The body of an HTTP answer.
    Url {
        /// The configured URL, unchanged.
        url: &'a str,
    },
}

/// Why a pod has no UID that could be held against Go's.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The API type has a field that the table of hashed types lacks: the table is of another release.
    #[error("{path}: not in the table of hashed types")]
    UnknownField {
        /// Dotted path of the field.
        path: String,
    },
    /// A value is not of the kind its type says.
    #[error("{path}: not a valid {expected}")]
    Value {
        /// Dotted path of the field.
        path: String,
        /// The Go type that was expected.
        expected: String,
    },
    /// The pod cannot be written as JSON.
    #[error("pod as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The UID of a static pod: its own if the manifest gives one, else 128 bits of FNV-1a over the pod's dump and its place, in hex.
///
/// `pod` is the manifest after the API's defaulting and nothing else; its quantities keep the manifest's spelling ("1000m" and
/// "1" hash differently). Empty lists and maps must still be there: `args: []` and no `args` hash differently.
/// A pod out of a `PodList` is hashed the same way.
///
/// # Errors
/// [`IdentityError`] when a field is unknown or a quantity or time does not parse.
pub fn static_pod_uid(pod: &Pod, place: &ManifestPlace<'_>) -> Result<String, IdentityError> {
    if let Some(own) = pod.metadata.uid.as_deref().filter(|own| !own.is_empty()) {
        return Ok(own.to_owned());
    }
    let value = internal::pod_as_hashed(pod)?;
    let mut hash = fnv::Fnv128a::default();
    dump::dump("*core.Pod", &value, &mut |text| hash.write(text.as_bytes()))?;
    match place {
        ManifestPlace::File { node_name, path } => {
            for part in ["host:", node_name, "file:", path] {
                hash.write(part.as_bytes());
            }
        }
        ManifestPlace::Url { url } => {
            hash.write(b"url:");
            hash.write(url.as_bytes());
        }
    }
    Ok(format!("{:032x}", hash.finish()))
}

/// The hash of what a running container cannot change: 32 bits of FNV-1a over Go's print of the JSON bytes of image and name.
pub fn container_hash(name: &str, image: &str) -> u32 {
    let json = format!(
        r#"{{"image":{},"name":{}}}"#,
        go_json_string(image),
        go_json_string(name)
    );
    let mut hash = fnv::Fnv32a::default();
    hash.write(b"([]uint8)[");
    for (index, byte) in json.bytes().enumerate() {
        if index > 0 {
            hash.write(b" ");
        }
        hash.write(byte.to_string().as_bytes());
    }
    hash.write(b"]");
    hash.finish()
}

/// [`container_hash`] as the annotation `io.kubernetes.container.hash` carries it: hex without leading zeros.
pub fn container_hash_hex(name: &str, image: &str) -> String {
    format!("{:x}", container_hash(name, image))
}

/// A JSON string as Go's encoder writes it: also escapes what is special in HTML and the two Unicode line ends.
fn go_json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string cannot fail");
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}
