//! The rules of a kind: what is reset, defaulted, kept and refused when its objects are made and changed.
//!
//! In:    the object as it was sent, and as it was
//! Out:   the object as it is to be kept, or what is wrong with it
//! Calls: `registry`, through the row of the kind
//! Holds: pure; a status is changed through its own path only, and everything else not through that
//! Upstream: pkg/registry/*/*/strategy.go, pkg/apis/*/v1/defaults.go (1.36)

use k8s_openapi::api;
use serde_json::{Map, Value, json};

use crate::base::failure::Cause;
use crate::base::object::{as_map, fill, fill_text, keep, list_mut, map_mut, text};

pub(crate) mod checked;
mod event;
mod node;
pub(crate) mod pod;
pub(crate) mod quantities;
pub(crate) mod service;

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
    /// What is wrong with a change through the path of the status.
    pub(crate) validate_status: fn(&Value, &Value) -> Vec<Cause>,
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
    validate_status: |_, _| Vec::new(),
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
    update_status: |new, old| {
        keep_spec(new, old);
        let class = text(old, "/status/qosClass").to_owned();
        if !class.is_empty() {
            fill_text(map_mut(new, "status"), "qosClass", &class);
        }
    },
    validate: checked::object::<api::core::v1::Pod>,
    validate_status: checked::status::<api::core::v1::Pod>,
    generation: Generation::OfSpec,
    ..WITH_STATUS
};

/// Nodes; a kubelet registers with a status.
pub(crate) const NODE: Strategy = Strategy {
    create: nothing,
    default: node::default,
    validate: checked::object::<api::core::v1::Node>,
    validate_status: checked::status::<api::core::v1::Node>,
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
    validate: checked::object::<api::core::v1::Namespace>,
    validate_status: checked::status::<api::core::v1::Namespace>,
    ..WITH_STATUS
};

/// Config maps.
pub(crate) const CONFIG_MAP: Strategy = Strategy {
    validate: checked::object::<api::core::v1::ConfigMap>,
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
                    data.insert(key, crate::base::encoding::base64(value.as_bytes()).into());
                }
            }
        }
    },
    validate: checked::object::<api::core::v1::Secret>,
    ..PLAIN
};

/// Endpoints.
pub(crate) const ENDPOINTS: Strategy = Strategy {
    default: |endpoints| {
        for subset in list_mut(endpoints, "/subsets") {
            for port in list_mut(subset, "/ports") {
                fill_text(as_map(port), "protocol", "TCP");
            }
        }
    },
    validate: |new, old| {
        let mut causes = checked::object::<api::core::v1::Endpoints>(new, old);
        // The API server of one machine listens on the loopback address, and says so.
        if text(new, "/metadata/namespace") == "default"
            && text(new, "/metadata/name") == "kubernetes"
        {
            causes.retain(|cause| !cause.message.contains("may not be in the loopback range"));
        }
        causes
    },
    ..PLAIN
};

/// Leases.
pub(crate) const LEASE: Strategy = Strategy {
    validate: checked::object::<api::coordination::v1::Lease>,
    ..PLAIN
};

/// Runtime classes.
pub(crate) const RUNTIME_CLASS: Strategy = Strategy {
    validate: checked::object::<api::node::v1::RuntimeClass>,
    ..PLAIN
};

/// What a node has of CSI drivers.
pub(crate) const CSI_NODE: Strategy = Strategy {
    validate: checked::object::<api::storage::v1::CSINode>,
    ..PLAIN
};

/// Events as the core group has them; the form that is stored.
pub(crate) const EVENT: Strategy = Strategy {
    validate: checked::object::<api::core::v1::Event>,
    ..PLAIN
};

/// Events of `events.k8s.io`.
pub(crate) const NEW_EVENT: Strategy = Strategy {
    convert: Some(Convert {
        shown: event_to_new,
        stored: event_from_new,
    }),
    validate: checked::new_event,
    ..PLAIN
};

/// Services: objects only, there is no data plane; an address is given so that clients see what they expect.
pub(crate) const SERVICE: Strategy = Strategy {
    create: |service| {
        as_map(service).insert("status".to_owned(), json!({"loadBalancer": {}}));
    },
    default: service::default,
    update: service::update,
    validate: checked::object::<api::core::v1::Service>,
    validate_status: checked::status::<api::core::v1::Service>,
    ..WITH_STATUS
};

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
    validate: checked::object::<api::core::v1::PersistentVolume>,
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
    validate: checked::object::<api::core::v1::PersistentVolumeClaim>,
    validate_status: checked::status::<api::core::v1::PersistentVolumeClaim>,
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
    validate: checked::object::<api::certificates::v1::CertificateSigningRequest>,
    validate_status: checked::status::<api::certificates::v1::CertificateSigningRequest>,
    update: |new, old| {
        keep(new, old, "spec");
        keep(new, old, "status");
    },
    ..WITH_STATUS
};

/// Priority classes.
pub(crate) const PRIORITY_CLASS: Strategy = Strategy {
    default: |class| fill_text(as_map(class), "preemptionPolicy", "PreemptLowerPriority"),
    validate: checked::object::<api::scheduling::v1::PriorityClass>,
    ..PLAIN
};

/// Storage classes.
pub(crate) const STORAGE_CLASS: Strategy = Strategy {
    default: |class| {
        fill_text(as_map(class), "reclaimPolicy", "Delete");
        fill_text(as_map(class), "volumeBindingMode", "Immediate");
    },
    validate: checked::object::<api::storage::v1::StorageClass>,
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
    validate: checked::object::<api::storage::v1::CSIDriver>,
    ..PLAIN
};

/// Attachments of volumes.
pub(crate) const ATTACHMENT: Strategy = Strategy {
    create: |attachment| {
        as_map(attachment).insert("status".to_owned(), json!({"attached": false}));
    },
    validate: checked::object::<api::storage::v1::VolumeAttachment>,
    validate_status: checked::status::<api::storage::v1::VolumeAttachment>,
    ..WITH_STATUS
};

/// A map inside a map, made if it is not there.
fn map_mut_in<'a>(value: &'a mut Value, outer: &str, name: &str) -> &'a mut Map<String, Value> {
    let outer = map_mut(value, outer).entry(name.to_owned());
    as_map(outer.or_insert(Value::Null))
}
