//! The served kinds, one row each.
//!
//! In:    group, version and plural of a path; a storage's name
//! Out:   the row: names, scope, verbs, subresources, selectable fields, rules and columns of the kind
//! Calls: `path`, `discovery`, `registry`, `strategy`, `table`
//! Holds: differences between kinds are in this table or in the functions that a row names; `verbs` has no `if` about a kind
//! Upstream: pkg/registry/*/*/storage (1.36); differences: no apps, batch, networking, policy or rbac group

use jiff::Timestamp;
use k8s_openapi::api;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use kubelet_validate::NameRule;

use crate::base::failure::Named;
use crate::kinds::strategy::{self, Strategy};
use crate::kinds::table::{self, Column};

/// A subresource.
#[derive(Debug)]
pub struct Subresource {
    /// The name in the path.
    pub name: &'static str,
    /// The kind of its request and response.
    pub kind: &'static str,
    /// That kind's group and version if they differ from the resource's: `policy`, `v1`.
    pub group_version: Option<(&'static str, &'static str)>,
    /// Verbs as discovery shows them.
    pub verbs: &'static [&'static str],
}

const fn sub(
    name: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Subresource {
    Subresource {
        name,
        kind,
        group_version: None,
        verbs,
    }
}

const READ_WRITE: &[&str] = &["get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const ALL: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const NO_COLLECTION: &[&str] = &[
    "create", "delete", "get", "list", "patch", "update", "watch",
];
const CREATE: &[&str] = &["create"];

/// One kind.
#[derive(Debug)]
pub struct Resource {
    /// Empty for the core group.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// The name in paths.
    pub plural: &'static str,
    /// The singular name in discovery.
    pub singular: &'static str,
    /// `Pod`.
    pub kind: &'static str,
    /// Whether its objects are namespaced.
    pub namespaced: bool,
    /// Short names: `po`.
    pub short_names: &'static [&'static str],
    /// Categories: `all`.
    pub categories: &'static [&'static str],
    /// Verbs of the resource itself.
    pub verbs: &'static [&'static str],
    /// The subresources of an object.
    pub subresources: &'static [Subresource],
    /// The first part of its keys in the store. Two rows with the same storage show the same objects.
    pub storage: &'static str,
    /// Fields for field selectors, in addition to name and namespace.
    pub selectable: &'static [&'static str],
    /// The deprecation warning that every client gets; empty if the kind is not deprecated.
    pub deprecated: &'static str,
    /// The rule for object names.
    pub names: NameRule,
    /// Reads the value as the kind's type and drops unknown fields; the error says what does not fit.
    pub check: fn(&Value) -> Result<Value, String>,
    /// Defaulting, validation and update rules.
    pub strategy: Strategy,
    /// The columns that kubectl prints.
    pub columns: &'static [Column],
    /// The cells of one row.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
}

/// Reads the value as `T` and serializes it again.
fn typed<T: for<'de> Deserialize<'de> + Serialize>(value: &Value) -> Result<Value, String> {
    let read = T::deserialize(value).map_err(|e| e.to_string())?;
    serde_json::to_value(read).map_err(|e| e.to_string())
}

const fn row(
    group: &'static str,
    (plural, singular, kind): (&'static str, &'static str, &'static str),
    storage: &'static str,
    check: fn(&Value) -> Result<Value, String>,
) -> Resource {
    Resource {
        group,
        version: "v1",
        plural,
        singular,
        kind,
        namespaced: true,
        short_names: &[],
        categories: &[],
        verbs: ALL,
        subresources: &[],
        storage,
        selectable: &[],
        deprecated: "",
        names: NameRule::Subdomain,
        check,
        strategy: strategy::PLAIN,
        columns: table::PLAIN,
        cells: table::plain,
    }
}

/// A kind that is answered and not stored.
const fn review(
    group: &'static str,
    names: (&'static str, &'static str, &'static str),
    check: fn(&Value) -> Result<Value, String>,
) -> Resource {
    Resource {
        namespaced: false,
        verbs: CREATE,
        ..row(group, names, "", check)
    }
}

/// Every kind, in the order in which discovery shows groups and resources.
pub static RESOURCES: &[Resource] = &[
    Resource {
        short_names: &["cm"],
        columns: table::CONFIG_MAP,
        cells: table::config_map,
        strategy: strategy::CONFIG_MAP,
        ..row(
            "",
            ("configmaps", "configmap", "ConfigMap"),
            "configmaps",
            typed::<api::core::v1::ConfigMap>,
        )
    },
    Resource {
        short_names: &["ep"],
        deprecated: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
        columns: table::ENDPOINTS,
        cells: table::endpoints,
        strategy: strategy::ENDPOINTS,
        ..row(
            "",
            ("endpoints", "endpoints", "Endpoints"),
            "endpoints",
            typed::<api::core::v1::Endpoints>,
        )
    },
    Resource {
        short_names: &["ev"],
        selectable: EVENT_FIELDS,
        columns: table::EVENT,
        cells: table::event,
        strategy: strategy::EVENT,
        names: NameRule::PathSegment,
        ..row(
            "",
            ("events", "event", "Event"),
            "events",
            typed::<api::core::v1::Event>,
        )
    },
    Resource {
        short_names: &["ns"],
        namespaced: false,
        verbs: NO_COLLECTION,
        subresources: &[
            sub("finalize", "Namespace", &["update"]),
            sub("status", "Namespace", READ_WRITE),
        ],
        selectable: &["status.phase"],
        names: NameRule::Label,
        strategy: strategy::NAMESPACE,
        columns: table::NAMESPACE,
        cells: table::namespace,
        ..row(
            "",
            ("namespaces", "namespace", "Namespace"),
            "namespaces",
            typed::<api::core::v1::Namespace>,
        )
    },
    Resource {
        short_names: &["no"],
        namespaced: false,
        subresources: &[
            sub("proxy", "NodeProxyOptions", PROXY),
            sub("status", "Node", READ_WRITE),
        ],
        selectable: &["spec.unschedulable"],
        strategy: strategy::NODE,
        columns: table::NODE,
        cells: table::node,
        ..row(
            "",
            ("nodes", "node", "Node"),
            "nodes",
            typed::<api::core::v1::Node>,
        )
    },
    Resource {
        short_names: &["pvc"],
        subresources: &[sub("status", "PersistentVolumeClaim", READ_WRITE)],
        strategy: strategy::CLAIM,
        columns: table::CLAIM,
        cells: table::claim,
        ..row(
            "",
            (
                "persistentvolumeclaims",
                "persistentvolumeclaim",
                "PersistentVolumeClaim",
            ),
            "persistentvolumeclaims",
            typed::<api::core::v1::PersistentVolumeClaim>,
        )
    },
    Resource {
        short_names: &["pv"],
        namespaced: false,
        subresources: &[sub("status", "PersistentVolume", READ_WRITE)],
        strategy: strategy::VOLUME,
        columns: table::VOLUME,
        cells: table::volume,
        ..row(
            "",
            ("persistentvolumes", "persistentvolume", "PersistentVolume"),
            "persistentvolumes",
            typed::<api::core::v1::PersistentVolume>,
        )
    },
    Resource {
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            sub("attach", "PodAttachOptions", CONNECT),
            sub("binding", "Binding", CREATE),
            sub("ephemeralcontainers", "Pod", READ_WRITE),
            Subresource {
                group_version: Some(("policy", "v1")),
                ..sub("eviction", "Eviction", CREATE)
            },
            sub("exec", "PodExecOptions", CONNECT),
            sub("log", "Pod", &["get"]),
            sub("portforward", "PodPortForwardOptions", CONNECT),
            sub("proxy", "PodProxyOptions", PROXY),
            sub("resize", "Pod", READ_WRITE),
            sub("status", "Pod", READ_WRITE),
        ],
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        strategy: strategy::POD,
        columns: table::POD,
        cells: table::pod,
        ..row(
            "",
            ("pods", "pod", "Pod"),
            "pods",
            typed::<api::core::v1::Pod>,
        )
    },
    Resource {
        selectable: &["type"],
        columns: table::SECRET,
        cells: table::secret,
        strategy: strategy::SECRET,
        ..row(
            "",
            ("secrets", "secret", "Secret"),
            "secrets",
            typed::<api::core::v1::Secret>,
        )
    },
    Resource {
        short_names: &["sa"],
        subresources: &[Subresource {
            group_version: Some(("authentication.k8s.io", "v1")),
            ..sub("token", "TokenRequest", CREATE)
        }],
        columns: table::SERVICE_ACCOUNT,
        cells: table::service_account,
        ..row(
            "",
            ("serviceaccounts", "serviceaccount", "ServiceAccount"),
            "serviceaccounts",
            typed::<api::core::v1::ServiceAccount>,
        )
    },
    Resource {
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[sub("status", "Service", READ_WRITE)],
        selectable: &["spec.clusterIP", "spec.type"],
        names: NameRule::Label,
        strategy: strategy::SERVICE,
        columns: table::SERVICE,
        cells: table::service,
        ..row(
            "",
            ("services", "service", "Service"),
            "services",
            typed::<api::core::v1::Service>,
        )
    },
    review(
        "authentication.k8s.io",
        (
            "selfsubjectreviews",
            "selfsubjectreview",
            "SelfSubjectReview",
        ),
        typed::<api::authentication::v1::SelfSubjectReview>,
    ),
    review(
        "authentication.k8s.io",
        ("tokenreviews", "tokenreview", "TokenReview"),
        typed::<api::authentication::v1::TokenReview>,
    ),
    Resource {
        namespaced: true,
        ..review(
            "authorization.k8s.io",
            (
                "localsubjectaccessreviews",
                "localsubjectaccessreview",
                "LocalSubjectAccessReview",
            ),
            typed::<api::authorization::v1::LocalSubjectAccessReview>,
        )
    },
    review(
        "authorization.k8s.io",
        (
            "selfsubjectaccessreviews",
            "selfsubjectaccessreview",
            "SelfSubjectAccessReview",
        ),
        typed::<api::authorization::v1::SelfSubjectAccessReview>,
    ),
    review(
        "authorization.k8s.io",
        (
            "selfsubjectrulesreviews",
            "selfsubjectrulesreview",
            "SelfSubjectRulesReview",
        ),
        typed::<api::authorization::v1::SelfSubjectRulesReview>,
    ),
    review(
        "authorization.k8s.io",
        (
            "subjectaccessreviews",
            "subjectaccessreview",
            "SubjectAccessReview",
        ),
        typed::<api::authorization::v1::SubjectAccessReview>,
    ),
    Resource {
        short_names: &["csr"],
        namespaced: false,
        subresources: &[
            sub("approval", "CertificateSigningRequest", READ_WRITE),
            sub("status", "CertificateSigningRequest", READ_WRITE),
        ],
        selectable: &["spec.signerName"],
        strategy: strategy::SIGNING_REQUEST,
        columns: table::SIGNING_REQUEST,
        cells: table::signing_request,
        names: NameRule::PathSegment,
        ..row(
            "certificates.k8s.io",
            (
                "certificatesigningrequests",
                "certificatesigningrequest",
                "CertificateSigningRequest",
            ),
            "certificatesigningrequests.certificates.k8s.io",
            typed::<api::certificates::v1::CertificateSigningRequest>,
        )
    },
    Resource {
        columns: table::LEASE,
        cells: table::lease,
        strategy: strategy::LEASE,
        ..row(
            "coordination.k8s.io",
            ("leases", "lease", "Lease"),
            "leases.coordination.k8s.io",
            typed::<api::coordination::v1::Lease>,
        )
    },
    Resource {
        short_names: &["ev"],
        selectable: EVENT_FIELDS,
        columns: table::EVENT,
        cells: table::event,
        strategy: strategy::NEW_EVENT,
        ..row(
            "events.k8s.io",
            ("events", "event", "Event"),
            "events",
            typed::<api::events::v1::Event>,
        )
    },
    Resource {
        namespaced: false,
        columns: table::RUNTIME_CLASS,
        cells: table::runtime_class,
        strategy: strategy::RUNTIME_CLASS,
        ..row(
            "node.k8s.io",
            ("runtimeclasses", "runtimeclass", "RuntimeClass"),
            "runtimeclasses.node.k8s.io",
            typed::<api::node::v1::RuntimeClass>,
        )
    },
    Resource {
        short_names: &["pc"],
        namespaced: false,
        strategy: strategy::PRIORITY_CLASS,
        columns: table::PRIORITY_CLASS,
        cells: table::priority_class,
        ..row(
            "scheduling.k8s.io",
            ("priorityclasses", "priorityclass", "PriorityClass"),
            "priorityclasses.scheduling.k8s.io",
            typed::<api::scheduling::v1::PriorityClass>,
        )
    },
    Resource {
        namespaced: false,
        columns: table::CSI_DRIVER,
        cells: table::csi_driver,
        strategy: strategy::CSI_DRIVER,
        ..row(
            "storage.k8s.io",
            ("csidrivers", "csidriver", "CSIDriver"),
            "csidrivers.storage.k8s.io",
            typed::<api::storage::v1::CSIDriver>,
        )
    },
    Resource {
        namespaced: false,
        columns: table::CSI_NODE,
        cells: table::csi_node,
        strategy: strategy::CSI_NODE,
        ..row(
            "storage.k8s.io",
            ("csinodes", "csinode", "CSINode"),
            "csinodes.storage.k8s.io",
            typed::<api::storage::v1::CSINode>,
        )
    },
    Resource {
        short_names: &["sc"],
        namespaced: false,
        columns: table::STORAGE_CLASS,
        cells: table::storage_class,
        strategy: strategy::STORAGE_CLASS,
        ..row(
            "storage.k8s.io",
            ("storageclasses", "storageclass", "StorageClass"),
            "storageclasses.storage.k8s.io",
            typed::<api::storage::v1::StorageClass>,
        )
    },
    Resource {
        namespaced: false,
        subresources: &[sub("status", "VolumeAttachment", READ_WRITE)],
        columns: table::ATTACHMENT,
        cells: table::attachment,
        strategy: strategy::ATTACHMENT,
        ..row(
            "storage.k8s.io",
            ("volumeattachments", "volumeattachment", "VolumeAttachment"),
            "volumeattachments.storage.k8s.io",
            typed::<api::storage::v1::VolumeAttachment>,
        )
    },
];

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

impl Named for Resource {
    fn group(&self) -> &str {
        self.group
    }

    fn plural(&self) -> &str {
        self.plural
    }

    fn kind(&self) -> &str {
        self.kind
    }
}

impl Resource {
    /// `pods`, or `leases.coordination.k8s.io`.
    pub fn qualified(&self) -> String {
        Named::qualified(self)
    }

    /// The rule for names, and whether the kind is namespaced.
    pub(crate) const fn naming(&self) -> (NameRule, bool) {
        (self.names, self.namespaced)
    }

    /// `v1`, or `coordination.k8s.io/v1`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The subresource with this name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// The key of an object in the store.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        format!("{}/{namespace}/{name}", self.storage)
    }

    /// The common prefix of all keys, in one namespace or in all.
    pub fn prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{}/{namespace}/", self.storage),
            None => format!("{}/", self.storage),
        }
    }

    /// Whether the kind is answered and not stored.
    pub fn is_virtual(&self) -> bool {
        self.storage.is_empty()
    }
}

/// The row for a path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    let mut rows = RESOURCES.iter();
    rows.find(|row| row.group == group && row.version == version && row.plural == plural)
}

/// The row for a plural or a qualified name: `pods`, `leases.coordination.k8s.io`.
pub(crate) fn by_storage(storage: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|row| row.storage == storage)
}

/// The row of a kind.
pub(crate) fn by_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    let mut rows = RESOURCES.iter();
    rows.find(|row| row.kind == kind && row.api_version() == api_version)
}

/// What the store keeps for field selectors.
pub fn selectable_fields(storage: &str, value: &Value) -> Vec<(&'static str, String)> {
    let Some(row) = by_storage(storage) else {
        return Vec::new();
    };
    let read = |field: &str| {
        let place = match (storage, field) {
            ("events", "source") => "/source/component".to_owned(),
            _ => format!("/{}", field.replace('.', "/")),
        };
        match value.pointer(&place) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(yes)) => yes.to_string(),
            None if ["spec.hostNetwork", "spec.unschedulable"].contains(&field) => {
                "false".to_owned()
            }
            _ => String::new(),
        }
    };
    let fields = row.selectable.iter();
    fields.map(|field| (*field, read(field))).collect()
}
