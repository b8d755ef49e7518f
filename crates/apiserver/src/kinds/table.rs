//! The tables that `kubectl get` prints.
//!
//! In:    an object and the time
//! Out:   its row; the columns of its kind; a whole `Table`
//! Calls: `verbs`, if a client asks for `as=Table`
//! Holds: pure; a row has one cell per column
//! Upstream: pkg/printers/internalversion/printers.go, staging/src/k8s.io/apimachinery/pkg/util/duration (1.36); differences: none known

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::base::object::{list, name, number, parse_time, text};

mod pod;

pub(crate) use pod::{POD, pod};

/// One column.
#[derive(Debug)]
pub struct Column {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    /// Above 0: shown with `-o wide` only.
    priority: u8,
}

const fn column(name: &'static str, kind: &'static str) -> Column {
    Column {
        name,
        kind,
        format: "",
        priority: 0,
    }
}

const fn wide(name: &'static str, kind: &'static str) -> Column {
    Column {
        priority: 1,
        ..column(name, kind)
    }
}

const NAME: Column = Column {
    format: "name",
    ..column("Name", "string")
};
const AGE: Column = column("Age", "string");

/// What a row includes beside its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    /// Metadata only.
    Metadata,
    /// The whole object.
    Object,
    /// Nothing.
    Nothing,
}

/// The column definitions.
pub(crate) fn definitions(columns: &[Column]) -> Value {
    columns
        .iter()
        .map(|c| {
            json!({"name": c.name, "type": c.kind, "format": c.format, "description": "", "priority": c.priority})
        })
        .collect()
}

/// One row.
pub(crate) fn row(cells: Vec<Value>, object: &Value, include: Include) -> Value {
    let mut row = json!({"cells": cells});
    let beside = match include {
        Include::Nothing => None,
        Include::Object => Some(object.clone()),
        Include::Metadata => Some(json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": object["metadata"],
        })),
    };
    if let Some(beside) = beside {
        row["object"] = beside;
    }
    row
}

/// Go's short form of a duration in seconds.
pub(crate) fn short_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let with_rest = |whole: i64, unit: &str, rest: i64, rest_unit: &str| {
        if rest == 0 {
            format!("{whole}{unit}")
        } else {
            format!("{whole}{unit}{rest}{rest_unit}")
        }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => with_rest(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => with_rest(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => with_rest(hours / 24, "d", hours % 24, "h"),
        _ if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        _ if hours < 24 * 365 * 8 => with_rest(hours / 24 / 365, "y", (hours / 24) % 365, "d"),
        _ => format!("{}y", hours / 24 / 365),
    }
}

/// The age of a timestamp of the object.
fn since(object: &Value, pointer: &str, now: Timestamp) -> Value {
    parse_time(text(object, pointer)).map_or_else(
        || Value::from("<unknown>"),
        |at| short_duration(now.as_second() - at.as_second()).into(),
    )
}

fn age(object: &Value, now: Timestamp) -> Value {
    since(object, "/metadata/creationTimestamp", now)
}

fn or(text: &str, otherwise: &str) -> Value {
    if text.is_empty() {
        otherwise.into()
    } else {
        text.into()
    }
}

fn count(object: &Value, fields: &[&str]) -> Value {
    let len = |field: &&str| match object.get(field) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    };
    fields.iter().map(len).sum::<usize>().into()
}

pub(crate) const PLAIN: &[Column] = &[NAME, column("Created At", "date")];

pub(crate) fn plain(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![
        name(object).into(),
        text(object, "/metadata/creationTimestamp").into(),
    ]
}

pub(crate) const CONFIG_MAP: &[Column] = &[NAME, column("Data", "string"), AGE];

pub(crate) fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let data = count(object, &["data", "binaryData"]);
    vec![name(object).into(), data, age(object, now)]
}

pub(crate) const SECRET: &[Column] = &[
    NAME,
    column("Type", "string"),
    column("Data", "string"),
    AGE,
];

pub(crate) fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    let (kind, data) = (text(object, "/type").into(), count(object, &["data"]));
    vec![name(object).into(), kind, data, age(object, now)]
}

pub(crate) const SERVICE_ACCOUNT: &[Column] = &[NAME, column("Secrets", "string"), AGE];

pub(crate) fn service_account(object: &Value, now: Timestamp) -> Vec<Value> {
    let secrets = count(object, &["secrets"]);
    vec![name(object).into(), secrets, age(object, now)]
}

pub(crate) const NAMESPACE: &[Column] = &[NAME, column("Status", "string"), AGE];

pub(crate) fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    let phase = text(object, "/status/phase").into();
    vec![name(object).into(), phase, age(object, now)]
}

pub(crate) const ENDPOINTS: &[Column] = &[NAME, column("Endpoints", "string"), AGE];

pub(crate) fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(object, "/subsets") {
        let ports = list(subset, "/ports");
        for address in list(subset, "/addresses") {
            let ip = text(address, "/ip");
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            for port in ports {
                all.push(format!("{ip}:{}", number(port, "/port").unwrap_or(0)));
            }
        }
    }
    let more = all.len().saturating_sub(3);
    all.truncate(3);
    let mut shown = if all.is_empty() {
        "<none>".to_owned()
    } else {
        all.join(",")
    };
    if more > 0 {
        shown.push_str(&format!(" + {more} more..."));
    }
    vec![name(object).into(), shown.into(), age(object, now)]
}

pub(crate) const SERVICE: &[Column] = &[
    NAME,
    column("Type", "string"),
    column("Cluster-IP", "string"),
    column("External-IP", "string"),
    column("Port(s)", "string"),
    AGE,
    wide("Selector", "string"),
];

pub(crate) fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "/spec/ports")
        .iter()
        .map(|port| {
            let (number_of, protocol) =
                (number(port, "/port").unwrap_or(0), text(port, "/protocol"));
            match number(port, "/nodePort") {
                Some(node) if node > 0 => format!("{number_of}:{node}/{protocol}"),
                _ => format!("{number_of}/{protocol}"),
            }
        })
        .collect();
    let external: Vec<&str> = list(object, "/spec/externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let external = match text(object, "/spec/type") {
        "ExternalName" => text(object, "/spec/externalName").to_owned(),
        "LoadBalancer" if external.is_empty() => "<pending>".to_owned(),
        _ => external.join(","),
    };
    vec![
        name(object).into(),
        text(object, "/spec/type").into(),
        or(text(object, "/spec/clusterIP"), "<none>"),
        or(&external, "<none>"),
        or(&ports.join(","), "<none>"),
        age(object, now),
        selector(object.pointer("/spec/selector")),
    ]
}

fn selector(labels: Option<&Value>) -> Value {
    let labels = labels.and_then(Value::as_object);
    let pairs: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or(&pairs.join(","), "<none>")
}

pub(crate) const NODE: &[Column] = &[
    NAME,
    column("Status", "string"),
    column("Roles", "string"),
    AGE,
    column("Version", "string"),
    wide("Internal-IP", "string"),
    wide("External-IP", "string"),
    wide("OS-Image", "string"),
    wide("Kernel-Version", "string"),
    wide("Container-Runtime", "string"),
];

pub(crate) fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(object, "/status/conditions")
        .iter()
        .find(|c| text(c, "/type") == "Ready");
    let mut status = match ready.map(|c| text(c, "/status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str(),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    let address = |kind: &str| {
        let addresses = list(object, "/status/addresses");
        let found = addresses.iter().find(|a| text(a, "/type") == kind);
        found.map_or("", |a| text(a, "/address")).to_owned()
    };
    let fact = |field: &str| text(object, &format!("/status/nodeInfo/{field}")).to_owned();
    vec![
        name(object).into(),
        status.into(),
        or(&roles.join(","), "<none>"),
        age(object, now),
        fact("kubeletVersion").into(),
        or(&address("InternalIP"), "<none>"),
        or(&address("ExternalIP"), "<none>"),
        or(&fact("osImage"), "<unknown>"),
        or(&fact("kernelVersion"), "<unknown>"),
        or(&fact("containerRuntimeVersion"), "<unknown>"),
    ]
}

pub(crate) const EVENT: &[Column] = &[
    column("Last Seen", "string"),
    column("Type", "string"),
    column("Reason", "string"),
    column("Object", "string"),
    wide("Subobject", "string"),
    wide("Source", "string"),
    column("Message", "string"),
    wide("First Seen", "string"),
    wide("Count", "string"),
    wide("Name", "string"),
];

pub(crate) fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |pointers: &[&str]| {
        let found = pointers.iter().find(|p| !text(object, p).is_empty());
        found.map_or_else(|| Value::from("<unknown>"), |p| since(object, p, now))
    };
    let first = first_of(&["/firstTimestamp", "/eventTime"]);
    let last = first_of(&["/series/lastObservedTime", "/lastTimestamp", "/eventTime"]);
    let times = number(object, "/series/count").or_else(|| number(object, "/count"));
    let kind = text(object, "/involvedObject/kind").to_lowercase();
    let involved = text(object, "/involvedObject/name");
    let source = [
        text(object, "/source/component"),
        text(object, "/source/host"),
    ];
    let source: Vec<&str> = source.into_iter().filter(|s| !s.is_empty()).collect();
    let source = match source.is_empty() {
        true => text(object, "/reportingComponent").to_owned(),
        false => source.join(", "),
    };
    vec![
        last,
        text(object, "/type").into(),
        text(object, "/reason").into(),
        format!("{kind}/{involved}").into(),
        text(object, "/involvedObject/fieldPath").into(),
        source.into(),
        text(object, "/message").trim().into(),
        first,
        times.filter(|n| *n > 0).unwrap_or(1).into(),
        name(object).into(),
    ]
}

pub(crate) const CLAIM: &[Column] = &[
    NAME,
    column("Status", "string"),
    column("Volume", "string"),
    column("Capacity", "string"),
    column("Access Modes", "string"),
    column("StorageClass", "string"),
    column("VolumeAttributesClass", "string"),
    AGE,
    wide("VolumeMode", "string"),
];

fn access_modes(object: &Value, pointer: &str) -> Value {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => "RWO",
        Some("ReadOnlyMany") => "ROX",
        Some("ReadWriteMany") => "RWX",
        Some("ReadWriteOncePod") => "RWOP",
        _ => "",
    };
    let modes: Vec<&str> = list(object, pointer).iter().map(short).collect();
    modes.join(",").into()
}

fn deleting_or(object: &Value, phase: &str) -> Value {
    if crate::base::object::is_deleting(object) {
        "Terminating".into()
    } else {
        phase.into()
    }
}

pub(crate) fn claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !text(object, "/spec/volumeName").is_empty();
    let status_of = |pointer: &str| if bound { text(object, pointer) } else { "" };
    vec![
        name(object).into(),
        deleting_or(object, text(object, "/status/phase")),
        text(object, "/spec/volumeName").into(),
        status_of("/status/capacity/storage").into(),
        access_modes(
            object,
            if bound {
                "/status/accessModes"
            } else {
                "/nothing"
            },
        ),
        text(object, "/spec/storageClassName").into(),
        or(text(object, "/spec/volumeAttributesClassName"), "<unset>"),
        age(object, now),
        or(text(object, "/spec/volumeMode"), "<unset>"),
    ]
}

pub(crate) const VOLUME: &[Column] = &[
    NAME,
    column("Capacity", "string"),
    column("Access Modes", "string"),
    column("Reclaim Policy", "string"),
    column("Status", "string"),
    column("Claim", "string"),
    column("StorageClass", "string"),
    column("VolumeAttributesClass", "string"),
    column("Reason", "string"),
    AGE,
    wide("VolumeMode", "string"),
];

pub(crate) fn volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match text(object, "/spec/claimRef/name") {
        "" => String::new(),
        name => format!("{}/{name}", text(object, "/spec/claimRef/namespace")),
    };
    vec![
        name(object).into(),
        text(object, "/spec/capacity/storage").into(),
        access_modes(object, "/spec/accessModes"),
        text(object, "/spec/persistentVolumeReclaimPolicy").into(),
        deleting_or(object, text(object, "/status/phase")),
        claim.into(),
        text(object, "/spec/storageClassName").into(),
        or(text(object, "/spec/volumeAttributesClassName"), "<unset>"),
        text(object, "/status/reason").into(),
        age(object, now),
        or(text(object, "/spec/volumeMode"), "<unset>"),
    ]
}

pub(crate) const LEASE: &[Column] = &[NAME, column("Holder", "string"), AGE];

pub(crate) fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    let holder = text(object, "/spec/holderIdentity").into();
    vec![name(object).into(), holder, age(object, now)]
}

pub(crate) const RUNTIME_CLASS: &[Column] = &[NAME, column("Handler", "string"), AGE];

pub(crate) fn runtime_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let handler = text(object, "/handler").into();
    vec![name(object).into(), handler, age(object, now)]
}

pub(crate) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    column("Value", "integer"),
    column("Global-Default", "boolean"),
    AGE,
    column("PreemptionPolicy", "string"),
];

pub(crate) fn priority_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object).into(),
        number(object, "/value").unwrap_or(0).into(),
        (object["globalDefault"] == Value::Bool(true)).into(),
        age(object, now),
        text(object, "/preemptionPolicy").into(),
    ]
}

pub(crate) const SIGNING_REQUEST: &[Column] = &[
    NAME,
    AGE,
    column("SignerName", "string"),
    column("Requestor", "string"),
    column("RequestedDuration", "string"),
    column("Condition", "string"),
];

pub(crate) fn signing_request(object: &Value, now: Timestamp) -> Vec<Value> {
    let conditions = list(object, "/status/conditions");
    let has = |kind: &str| conditions.iter().any(|c| text(c, "/type") == kind);
    let mut state = match (has("Approved"), has("Denied")) {
        (_, true) => "Denied".to_owned(),
        (true, false) => "Approved".to_owned(),
        (false, false) => "Pending".to_owned(),
    };
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(object, "/status/certificate").is_empty() {
        state.push_str(",Issued");
    }
    let duration = number(object, "/spec/expirationSeconds").map(short_duration);
    vec![
        name(object).into(),
        age(object, now),
        or(text(object, "/spec/signerName"), "<none>"),
        text(object, "/spec/username").into(),
        or(&duration.unwrap_or_default(), "<none>"),
        state.into(),
    ]
}

pub(crate) const CSI_NODE: &[Column] = &[NAME, column("Drivers", "integer"), AGE];

pub(crate) fn csi_node(object: &Value, now: Timestamp) -> Vec<Value> {
    let drivers = list(object, "/spec/drivers").len().into();
    vec![name(object).into(), drivers, age(object, now)]
}

pub(crate) const CSI_DRIVER: &[Column] = &[
    NAME,
    column("AttachRequired", "boolean"),
    column("PodInfoOnMount", "boolean"),
    column("StorageCapacity", "boolean"),
    column("TokenRequests", "string"),
    column("RequiresRepublish", "boolean"),
    column("Modes", "string"),
    AGE,
];

pub(crate) fn csi_driver(object: &Value, now: Timestamp) -> Vec<Value> {
    let flag = |field: &str| {
        object
            .pointer(&format!("/spec/{field}"))
            .cloned()
            .unwrap_or(false.into())
    };
    let words = |pointer: &str, inner: &str| {
        let one = |v: &Value| {
            if inner.is_empty() {
                v.as_str().unwrap_or_default().to_owned()
            } else {
                text(v, inner).to_owned()
            }
        };
        let all: Vec<String> = list(object, pointer).iter().map(one).collect();
        all.join(",")
    };
    vec![
        name(object).into(),
        flag("attachRequired"),
        flag("podInfoOnMount"),
        flag("storageCapacity"),
        or(&words("/spec/tokenRequests", "/audience"), "<unset>"),
        flag("requiresRepublish"),
        or(&words("/spec/volumeLifecycleModes", ""), "<none>"),
        age(object, now),
    ]
}

pub(crate) const STORAGE_CLASS: &[Column] = &[
    NAME,
    column("Provisioner", "string"),
    column("ReclaimPolicy", "string"),
    column("VolumeBindingMode", "string"),
    column("AllowVolumeExpansion", "string"),
    AGE,
];

pub(crate) fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = "storageclass.kubernetes.io/is-default-class";
    let shown = match crate::base::object::annotation(object, is_default) {
        Some("true") => format!("{} (default)", name(object)),
        _ => name(object).to_owned(),
    };
    vec![
        shown.into(),
        text(object, "/provisioner").into(),
        text(object, "/reclaimPolicy").into(),
        text(object, "/volumeBindingMode").into(),
        (object["allowVolumeExpansion"] == Value::Bool(true)).into(),
        age(object, now),
    ]
}

pub(crate) const ATTACHMENT: &[Column] = &[
    NAME,
    column("Attacher", "string"),
    column("PV", "string"),
    column("Node", "string"),
    column("Attached", "boolean"),
    AGE,
];

pub(crate) fn attachment(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object).into(),
        text(object, "/spec/attacher").into(),
        text(object, "/spec/source/persistentVolumeName").into(),
        text(object, "/spec/nodeName").into(),
        object
            .pointer("/status/attached")
            .cloned()
            .unwrap_or(false.into()),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (seconds, shown) in [
            (-5, "<invalid>"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (100_000, "27h"),
            (200_000, "2d7h"),
            (86_400 * 30, "30d"),
            (86_400 * 800, "2y70d"),
        ] {
            assert_eq!(short_duration(seconds), shown);
        }
    }

    #[test]
    fn each_kind_has_a_cell_for_each_column() {
        for row in crate::kinds::resources::RESOURCES {
            let cells = (row.cells)(&json!({}), Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), row.columns.len(), "{}", row.qualified());
        }
    }
}
