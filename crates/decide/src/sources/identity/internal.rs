//! The pod in the shape that is hashed: the API server's internal one, not v1.
//!
//! In: a v1 pod. Out: a JSON value with v1's field names, rearranged where the internal types hold a field elsewhere.
//! Called by `identity.rs`; `identity/dump.rs` walks the result. Everything not named here has the same place in both.
//!
//! Upstream: pkg/apis/core/v1/conversion.go

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

/// Pod-wide switches that v1 keeps in the spec and the internal type in its security context.
const HOST_SWITCHES: [&str; 5] = [
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "shareProcessNamespace",
    "hostUsers",
];

/// Annotations of clients from before init containers were fields; conversion drops them.
const DROPPED_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// `pod` as JSON in the internal arrangement, without `kind` and `apiVersion` (a decoded object has neither).
pub(super) fn pod_as_hashed(pod: &Pod) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(pod)?;
    if let Value::Object(pod) = &mut value {
        pod.remove("kind");
        pod.remove("apiVersion");
        if let Some(Value::Object(annotations)) = pod
            .get_mut("metadata")
            .and_then(|meta| meta.get_mut("annotations"))
        {
            annotations.retain(|key, _| !DROPPED_ANNOTATIONS.contains(&key.as_str()));
        }
        if let Value::Object(spec) = pod.entry("spec").or_insert_with(|| json!({})) {
            arrange_spec(spec);
        }
        if let Some(Value::Object(status)) = pod.get_mut("status") {
            arrange_status(status);
        }
    }
    Ok(value)
}

fn arrange_spec(spec: &mut Map<String, Value>) {
    let moved: Vec<_> = HOST_SWITCHES
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), spec.remove(key)?)))
        .collect();
    if let Value::Object(context) = spec.entry("securityContext").or_insert_with(|| json!({})) {
        context.extend(moved);
    }
    let old_account = spec.remove("serviceAccount");
    let account = spec
        .get("serviceAccountName")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if let (true, Some(old)) = (account.is_empty(), old_account) {
        spec.insert("serviceAccountName".to_owned(), old);
    }
    if spec
        .get("terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .is_some_and(|grace| grace < 0)
    {
        spec.insert("terminationGracePeriodSeconds".to_owned(), json!(1));
    }
}

/// The single address is kept only as the first of the list; where the two differ, it wins.
fn arrange_status(status: &mut Map<String, Value>) {
    let Some(ip) = status
        .remove("podIP")
        .filter(|ip| ip.as_str().is_some_and(|ip| !ip.is_empty()))
    else {
        return;
    };
    let first = status
        .get("podIPs")
        .and_then(|ips| ips.get(0))
        .map(|first| first.get("ip") == Some(&ip));
    if first != Some(true) {
        status.insert("podIPs".to_owned(), json!([{ "ip": ip }]));
    }
}
