//! The rules of a kind: what is reset, defaulted, kept and refused when its objects are made and changed.
//!
//! In:    the object as it was sent, and as it was
//! Out:   the object as it is to be kept, or what is wrong with it
//! Calls: `registry`, through the row of the kind
//! Holds: pure; a status is changed through its own path only, and everything else not through that
//! Upstream: pkg/registry/*/*/strategy.go, pkg/apis/*/v1/defaults.go, pkg/apis/*/validation (1.36); differences: validation is what
//!           a kubelet and kubectl depend on, not all of it

use serde_json::{Map, Value, json};

use crate::failure::Cause;
use crate::object::{as_map, fill, fill_text, keep, list, list_mut, map_mut, number, text};

mod event;
pub(crate) mod names;
mod node;
pub(crate) mod pod;
pub(crate) mod quantities;
pub(crate) mod sizes;

pub(crate) use event::{from_new as event_from_new, to_new as event_to_new};

/// The rules of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    /// Before an object is made.
    pub(crate) create: fn(&mut Value),
    /// Fills what was left open; on every write.
    pub(crate) default: fn(&mut Value),
    /// Before a change through the object's own path.
    pub(crate) update: fn(&mut Value, &Value),
    /// Before a change through the path of its status.
    pub(crate) update_status: fn(&mut Value, &Value),
    /// What is wrong; with the old object where there is one.
    pub(crate) validate: fn(&Value, Option<&Value>) -> Vec<Cause>,
    /// What counts as a change of what is wanted, so that the generation grows.
    pub(crate) generation: Generation,
    /// From the stored form to the one of this version, and back.
    pub(crate) convert: Option<Convert>,
}

/// Two functions between the stored form and the one shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convert {
    pub(crate) shown: fn(&mut Value),
    pub(crate) stored: fn(&mut Value),
}

/// Whether a kind counts generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    Absent,
    /// Grows with the spec.
    OfSpec,
}

fn nothing(_: &mut Value) {}

fn keep_status(new: &mut Value, old: &Value) {
    keep(new, old, "status");
}

/// A change of the status leaves the rest as it is; upstream lets metadata through.
fn keep_spec(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    let owners = old.pointer("/metadata/ownerReferences").cloned();
    let metadata = map_mut(new, "metadata");
    match owners {
        Some(owners) => drop(metadata.insert("ownerReferences".to_owned(), owners)),
        None => drop(metadata.remove("ownerReferences")),
    }
}

fn fine(_: &Value, _: Option<&Value>) -> Vec<Cause> {
    Vec::new()
}

fn no_change(_: &mut Value, _: &Value) {}

/// No rules of its own.
pub(crate) const PLAIN: Strategy = Strategy {
    create: nothing,
    default: nothing,
    update: no_change,
    update_status: no_change,
    validate: fine,
    generation: Generation::Absent,
    convert: None,
};

/// A kind with a status that starts empty.
const WITH_STATUS: Strategy = Strategy {
    create: |object| drop(as_map(object).remove("status")),
    update: keep_status,
    update_status: keep_spec,
    ..PLAIN
};

/// Pods.
pub(crate) const POD: Strategy = Strategy {
    create: pod::create,
    default: pod::default,
    validate: pod::validate,
    generation: Generation::OfSpec,
    ..WITH_STATUS
};

/// Nodes; a kubelet registers with a status.
pub(crate) const NODE: Strategy = Strategy {
    create: nothing,
    default: node::default,
    validate: node::validate,
    ..WITH_STATUS
};

/// Namespaces.
pub(crate) const NAMESPACE: Strategy = Strategy {
    create: |namespace| {
        map_mut(namespace, "spec").insert("finalizers".to_owned(), json!(["kubernetes"]));
        as_map(namespace).insert("status".to_owned(), json!({"phase": "Active"}));
    },
    default: |namespace| {
        let name = text(namespace, "/metadata/name").to_owned();
        let labels = map_mut_in(namespace, "metadata", "labels");
        if !name.is_empty() {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
    },
    update: |new, old| {
        keep(new, old, "status");
        keep(new, old, "spec");
    },
    ..WITH_STATUS
};

/// Config maps.
pub(crate) const CONFIG_MAP: Strategy = Strategy {
    validate: |new, old| {
        let mut causes = immutable(new, old, &["data", "binaryData"]);
        causes.extend(sizes::config_map(new));
        causes
    },
    ..PLAIN
};

/// Secrets.
pub(crate) const SECRET: Strategy = Strategy {
    default: |secret| {
        fill_text(as_map(secret), "type", "Opaque");
        // What is given in plain goes to the data, and is not kept beside it.
        if let Some(Value::Object(plain)) = as_map(secret).remove("stringData") {
            let data = map_mut(secret, "data");
            for (key, value) in plain {
                if let Value::String(value) = value {
                    data.insert(key, crate::encoding::base64(value.as_bytes()).into());
                }
            }
        }
    },
    validate: |new, old| {
        let mut causes = immutable(new, old, &["data"]);
        causes.extend(sizes::secret(new));
        if let Some(old) = old
            && old["type"] != new["type"]
        {
            causes.push(Cause::invalid("type", &new["type"], "field is immutable"));
        }
        causes
    },
    ..PLAIN
};

/// Events as the core group has them; the form that is stored.
pub(crate) const EVENT: Strategy = PLAIN;

/// Events of `events.k8s.io`.
pub(crate) const NEW_EVENT: Strategy = Strategy {
    convert: Some(Convert {
        shown: event_to_new,
        stored: event_from_new,
    }),
    ..PLAIN
};

/// Services: objects only, there is no data plane; an address is given so that clients see what they expect.
pub(crate) const SERVICE: Strategy = Strategy {
    create: |service| {
        as_map(service).insert("status".to_owned(), json!({"loadBalancer": {}}));
    },
    default: default_service,
    validate: |new, old| {
        let mut causes = Vec::new();
        let external = text(new, "/spec/type") == "ExternalName";
        let headless = text(new, "/spec/clusterIP") == "None";
        if list(new, "/spec/ports").is_empty() && !external && !headless {
            causes.push(Cause::required("spec.ports", ""));
        }
        if let Some(old) = old {
            let (before, after) = (text(old, "/spec/clusterIP"), text(new, "/spec/clusterIP"));
            if !before.is_empty() && !external && before != after {
                let after = Value::from(after);
                causes.push(Cause::invalid(
                    "spec.clusterIP",
                    &after,
                    "field is immutable",
                ));
            }
        }
        causes
    },
    ..WITH_STATUS
};

fn default_service(service: &mut Value) {
    let spec = map_mut(service, "spec");
    fill_text(spec, "type", "ClusterIP");
    fill_text(spec, "sessionAffinity", "None");
    if spec.get("type").and_then(Value::as_str) != Some("ExternalName") {
        fill(spec, "internalTrafficPolicy", "Cluster");
        fill(spec, "ipFamilyPolicy", "SingleStack");
        fill(spec, "ipFamilies", json!(["IPv4"]));
        if let Some(ip) = spec.get("clusterIP").cloned() {
            fill(spec, "clusterIPs", json!([ip]));
        }
    }
    for port in list_mut(service, "/spec/ports") {
        let target = port.get("port").cloned().unwrap_or_default();
        fill_text(as_map(port), "protocol", "TCP");
        fill(as_map(port), "targetPort", target);
    }
}

/// Persistent volumes.
pub(crate) const VOLUME: Strategy = Strategy {
    create: |volume| {
        as_map(volume).insert("status".to_owned(), json!({"phase": "Pending"}));
    },
    default: |volume| {
        let spec = map_mut(volume, "spec");
        fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill_text(spec, "volumeMode", "Filesystem");
        if let Some(capacity) = spec.get_mut("capacity") {
            quantities::normalize(capacity);
        }
    },
    ..WITH_STATUS
};

/// Claims on them.
pub(crate) const CLAIM: Strategy = Strategy {
    create: |claim| {
        as_map(claim).insert("status".to_owned(), json!({"phase": "Pending"}));
    },
    default: |claim| {
        let spec = map_mut(claim, "spec");
        fill_text(spec, "volumeMode", "Filesystem");
        if let Some(requests) = spec
            .get_mut("resources")
            .and_then(|r| r.get_mut("requests"))
        {
            quantities::normalize(requests);
        }
    },
    ..WITH_STATUS
};

/// Signing requests; who asked is set by admission.
pub(crate) const SIGNING_REQUEST: Strategy = Strategy {
    default: |request| {
        fill(
            map_mut(request, "spec"),
            "usages",
            json!(["digital signature", "key encipherment"]),
        );
    },
    validate: |new, _| {
        let mut causes = Vec::new();
        if text(new, "/spec/request").is_empty() {
            causes.push(Cause::required("spec.request", ""));
        }
        if text(new, "/spec/signerName").is_empty() {
            causes.push(Cause::required("spec.signerName", ""));
        }
        causes
    },
    update: |new, old| {
        keep(new, old, "spec");
        keep(new, old, "status");
    },
    ..WITH_STATUS
};

/// Priority classes.
pub(crate) const PRIORITY_CLASS: Strategy = Strategy {
    default: |class| fill_text(as_map(class), "preemptionPolicy", "PreemptLowerPriority"),
    validate: |new, old| {
        let mut causes = Vec::new();
        let (name, value) = (
            text(new, "/metadata/name"),
            number(new, "/value").unwrap_or(0),
        );
        if !name.starts_with("system-") && value > 1_000_000_000 {
            let detail = "maximum allowed value of a user defined priority is 1000000000";
            causes.push(Cause::forbidden("value", detail));
        }
        if old.is_some_and(|old| number(old, "/value") != number(new, "/value")) {
            causes.push(Cause::forbidden(
                "value",
                "may not be changed in an update.",
            ));
        }
        causes
    },
    ..PLAIN
};

/// Storage classes.
pub(crate) const STORAGE_CLASS: Strategy = Strategy {
    default: |class| {
        fill_text(as_map(class), "reclaimPolicy", "Delete");
        fill_text(as_map(class), "volumeBindingMode", "Immediate");
    },
    ..PLAIN
};

/// CSI drivers.
pub(crate) const CSI_DRIVER: Strategy = Strategy {
    default: |driver| {
        let spec = map_mut(driver, "spec");
        fill(spec, "attachRequired", true);
        fill(spec, "podInfoOnMount", false);
        fill(spec, "storageCapacity", false);
        fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        fill(spec, "volumeLifecycleModes", json!(["Persistent"]));
        fill(spec, "requiresRepublish", false);
        fill(spec, "seLinuxMount", false);
    },
    ..PLAIN
};

/// Attachments of volumes.
pub(crate) const ATTACHMENT: Strategy = Strategy {
    create: |attachment| {
        as_map(attachment).insert("status".to_owned(), json!({"attached": false}));
    },
    ..WITH_STATUS
};

/// A map inside a map, made if it is not there.
fn map_mut_in<'a>(value: &'a mut Value, outer: &str, name: &str) -> &'a mut Map<String, Value> {
    let outer = map_mut(value, outer).entry(name.to_owned());
    as_map(outer.or_insert(Value::Null))
}

/// What an object that was made immutable does not let change.
fn immutable(new: &Value, old: Option<&Value>, fields: &[&str]) -> Vec<Cause> {
    let Some(old) = old.filter(|old| old["immutable"] == Value::Bool(true)) else {
        return Vec::new();
    };
    let detail = "field is immutable when `immutable` is set";
    let mut causes = Vec::new();
    if new["immutable"] != Value::Bool(true) {
        causes.push(Cause::forbidden("immutable", detail));
    }
    for field in fields {
        if old.get(field) != new.get(field) {
            causes.push(Cause::forbidden(*field, detail));
        }
    }
    causes
}
