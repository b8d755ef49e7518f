//! The strategy of each kind: what is reset, defaulted, kept and validated when objects are created and updated.
//!
//! In:    the object in the request, and the stored one
//! Out:   the object to be stored, or what is invalid
//! Calls: `registry`, through the kind's row
//! Holds: pure; the status changes only through the status subresource, everything else only outside it
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

/// The strategy of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    /// Before an object is created.
    pub(crate) create: fn(&mut Value),
    /// Applies defaults, on every write.
    pub(crate) default: fn(&mut Value),
    /// Before an update of the object itself.
    pub(crate) update: fn(&mut Value, &Value),
    /// Before an update of the status subresource.
    pub(crate) update_status: fn(&mut Value, &Value),
    /// Validates a new object, or an update if there is an old object.
    pub(crate) validate: fn(&Value, Option<&Value>) -> Vec<Cause>,
    /// Validates an update of the status subresource.
    pub(crate) validate_status: fn(&Value, &Value) -> Vec<Cause>,
    /// Which changes increment the generation.
    pub(crate) generation: Generation,
    /// Conversion between the stored form and this version.
    pub(crate) convert: Option<Convert>,
}

/// Two functions that convert between the stored form and the served one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convert {
    pub(crate) shown: fn(&mut Value),
    pub(crate) stored: fn(&mut Value),
}

/// Whether a kind has a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    Absent,
    /// Incremented when the spec changes.
    OfSpec,
}

fn nothing(_: &mut Value) {}

fn keep_status(new: &mut Value, old: &Value) {
    keep(new, old, "status");
}

/// A status update keeps everything else; upstream lets metadata through.
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

/// A kind without rules of its own.
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

/// Nodes. A kubelet registers its Node with a status.
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

/// ConfigMaps.
pub(crate) const CONFIG_MAP: Strategy = Strategy {
    validate: checked::object::<api::core::v1::ConfigMap>,
    ..PLAIN
};

/// Secrets.
pub(crate) const SECRET: Strategy = Strategy {
    default: |secret| {
        fill_text(as_map(secret), "type", "Opaque");
        // `stringData` is merged into `data` and not stored.
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
        // The API server of a single machine listens on the loopback address and advertises it.
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

/// RuntimeClasses.
pub(crate) const RUNTIME_CLASS: Strategy = Strategy {
    validate: checked::object::<api::node::v1::RuntimeClass>,
    ..PLAIN
};

/// CSINodes.
pub(crate) const CSI_NODE: Strategy = Strategy {
    validate: checked::object::<api::storage::v1::CSINode>,
    ..PLAIN
};

/// Events of the core group, which is the stored form.
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

/// Services: API objects only, without a data plane. A cluster IP is allocated so that clients see what they expect.
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

/// PersistentVolumes.
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

/// PersistentVolumeClaims.
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

/// CSRs; admission sets the requester.
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

/// PriorityClasses.
pub(crate) const PRIORITY_CLASS: Strategy = Strategy {
    default: |class| fill_text(as_map(class), "preemptionPolicy", "PreemptLowerPriority"),
    validate: checked::object::<api::scheduling::v1::PriorityClass>,
    ..PLAIN
};

/// StorageClasses.
pub(crate) const STORAGE_CLASS: Strategy = Strategy {
    default: |class| {
        fill_text(as_map(class), "reclaimPolicy", "Delete");
        fill_text(as_map(class), "volumeBindingMode", "Immediate");
    },
    validate: checked::object::<api::storage::v1::StorageClass>,
    ..PLAIN
};

/// CSIDrivers.
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

/// VolumeAttachments.
pub(crate) const ATTACHMENT: Strategy = Strategy {
    create: |attachment| {
        as_map(attachment).insert("status".to_owned(), json!({"attached": false}));
    },
    validate: checked::object::<api::storage::v1::VolumeAttachment>,
    validate_status: checked::status::<api::storage::v1::VolumeAttachment>,
    ..WITH_STATUS
};

/// A map inside a map, created if it is missing.
fn map_mut_in<'a>(value: &'a mut Value, outer: &str, name: &str) -> &'a mut Map<String, Value> {
    let outer = map_mut(value, outer).entry(name.to_owned());
    as_map(outer.or_insert(Value::Null))
}
