//! Defaults of pods.
//!
//! In:    a pod
//! Out:   the pod with upstream's defaults
//! Calls: the strategy of pods, on every write
//! Holds: pure; idempotent
//! Upstream: pkg/apis/core/v1/defaults.go, zz_generated.defaults.go (1.36); differences: the removed in-tree cloud volume
//!           sources are left out
//!           volume sources

use serde_json::{Map, Value, json};

use super::super::quantities;
use crate::base::object::{as_map, fill, fill_text, list_mut, map_mut, text};
use crate::base::pod::CONTAINER_LISTS;

const MODE: i32 = 0o644;

pub(crate) fn default(pod: &mut Value) {
    let spec = map_mut(pod, "spec");
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill_text(spec, "restartPolicy", "Always");
    fill_text(spec, "schedulerName", "default-scheduler");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "enableServiceLinks", true);
    fill(spec, "securityContext", json!({}));
    both_account_names(spec);
    if let Some(resources) = spec.get_mut("resources") {
        default_resources(resources);
    }
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for which in CONTAINER_LISTS {
        let ephemeral = which == "ephemeralContainers";
        for container in list_mut(pod, &format!("/spec/{which}")) {
            default_container(container, on_host && !ephemeral);
        }
    }
    for volume in list_mut(pod, "/spec/volumes") {
        default_volume(volume);
    }
}

/// Keeps the deprecated `serviceAccount` equal to `serviceAccountName`.
fn both_account_names(spec: &mut Map<String, Value>) {
    let named = ["serviceAccountName", "serviceAccount"]
        .into_iter()
        .filter_map(|field| spec.get(field).and_then(Value::as_str))
        .find(|name| !name.is_empty())
        .map(str::to_owned);
    if let Some(name) = named {
        spec.insert("serviceAccountName".to_owned(), name.clone().into());
        spec.insert("serviceAccount".to_owned(), name.into());
    }
}

fn default_container(container: &mut Value, on_host: bool) {
    let policy = pull_policy(text(container, "/image"));
    let map = as_map(container);
    fill_text(map, "imagePullPolicy", policy);
    fill_text(map, "terminationMessagePath", "/dev/termination-log");
    fill_text(map, "terminationMessagePolicy", "File");
    fill(map, "resources", json!({}));
    if let Some(resources) = map.get_mut("resources") {
        default_resources(resources);
    }
    for port in list_mut(container, "/ports") {
        let number = port.get("containerPort").cloned().unwrap_or_default();
        fill_text(as_map(port), "protocol", "TCP");
        if on_host {
            fill(as_map(port), "hostPort", number);
        }
    }
    for variable in list_mut(container, "/env") {
        default_field_reference(variable.pointer_mut("/valueFrom/fieldRef"));
        if let Some(key) = variable.pointer_mut("/valueFrom/fileKeyRef") {
            fill(as_map(key), "optional", false);
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            default_probe(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        default_http(container.pointer_mut(&format!("/lifecycle/{hook}/httpGet")));
    }
}

/// Requests default to the limits.
fn default_resources(resources: &mut Value) {
    for kind in ["limits", "requests"] {
        if let Some(amounts) = resources.get_mut(kind) {
            quantities::normalize(amounts);
        }
    }
    let limits = resources.get("limits").and_then(Value::as_object).cloned();
    for (resource, amount) in limits.unwrap_or_default() {
        fill(map_mut(resources, "requests"), &resource, amount);
    }
}

/// An image with the tag `latest`, or without a tag, is always pulled.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or_default();
    let moving = match (name.contains('@'), name.split_once(':')) {
        (true, _) => false,
        (false, Some((_, tag))) => tag == "latest",
        (false, None) => true,
    };
    if moving { "Always" } else { "IfNotPresent" }
}

fn default_probe(probe: &mut Value) {
    default_http(probe.get_mut("httpGet"));
    if let Some(grpc) = probe.get_mut("grpc") {
        fill(as_map(grpc), "service", "");
    }
    let map = as_map(probe);
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        // Upstream treats 0 as unset.
        if map.get(field).and_then(Value::as_i64).unwrap_or(0) == 0 {
            map.insert(field.to_owned(), value.into());
        }
    }
}

fn default_http(action: Option<&mut Value>) {
    if let Some(action) = action {
        fill_text(as_map(action), "path", "/");
        fill_text(as_map(action), "scheme", "HTTP");
    }
}

fn default_field_reference(reference: Option<&mut Value>) {
    if let Some(reference) = reference {
        fill_text(as_map(reference), "apiVersion", "v1");
    }
}

fn default_volume(volume: &mut Value) {
    let sources = as_map(volume)
        .iter()
        .filter(|(k, v)| *k != "name" && !v.is_null());
    if sources.count() == 0 {
        as_map(volume).insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source) {
            fill(as_map(source), "defaultMode", MODE);
        }
    }
    if let Some(path) = volume.get_mut("hostPath") {
        fill(as_map(path), "type", "");
    }
    if let Some(image) = volume.get_mut("image") {
        let policy = pull_policy(text(image, "/reference"));
        fill_text(as_map(image), "pullPolicy", policy);
    }
    if let Some(template) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        fill_text(as_map(template), "volumeMode", "Filesystem");
    }
    default_downward(volume, "/downwardAPI/items");
    for source in list_mut(volume, "/projected/sources") {
        if let Some(token) = source.get_mut("serviceAccountToken") {
            fill(as_map(token), "expirationSeconds", 3600);
        }
        default_downward(source, "/downwardAPI/items");
    }
}

fn default_downward(source: &mut Value, pointer: &str) {
    for item in list_mut(source, pointer) {
        default_field_reference(item.get_mut("fieldRef"));
        if let Some(reference) = item.get_mut("resourceFieldRef") {
            fill(as_map(reference), "divisor", "0");
        }
    }
}
