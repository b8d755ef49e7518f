//! Field numbers of the kinds that clients send as protobuf.
//!
//! In:    version and kind
//! Out:   the fields of the message
//! Calls: `protobuf`
//! Holds: interface facts; what is answered only (a review's status) is left out
//! Upstream: staging/src/k8s.io/api/*/v1/generated.proto, staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto (1.36)

/// One field: number, JSON name, kind.
#[derive(Clone, Copy)]
pub(super) struct Field(pub(super) u64, pub(super) &'static str, pub(super) Kind);

/// What a field holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Text,
    Bytes,
    Int,
    Bool,
    /// A time, or nothing.
    Time,
    /// A message that is a list of texts.
    Words,
    /// A number or a text.
    IntOrText,
    Message(Message),
    List(&'static Kind),
    Map(&'static Kind),
}

/// A message's fields.
pub(super) type Message = &'static [Field];

use Kind::{Bool, Bytes, Int, IntOrText, List, Map, Text, Time, Words};

const TEXTS: Kind = List(&Text);
const TEXT_MAP: Kind = Map(&Text);

/// `ExtraValue`.
pub(super) const WORDS: Message = &[Field(1, "items", TEXTS)];
/// `IntOrString`.
pub(super) const INT_OR_TEXT: Message = &[
    Field(1, "type", Int),
    Field(2, "int", Int),
    Field(3, "text", Text),
];

const OWNER: Message = &[
    Field(1, "kind", Text),
    Field(3, "name", Text),
    Field(4, "uid", Text),
    Field(5, "apiVersion", Text),
    Field(6, "controller", Bool),
    Field(7, "blockOwnerDeletion", Bool),
];

const OBJECT_META: Message = &[
    Field(1, "name", Text),
    Field(2, "generateName", Text),
    Field(3, "namespace", Text),
    Field(5, "uid", Text),
    Field(6, "resourceVersion", Text),
    Field(8, "creationTimestamp", Time),
    Field(9, "deletionTimestamp", Time),
    Field(10, "deletionGracePeriodSeconds", Int),
    Field(11, "labels", TEXT_MAP),
    Field(12, "annotations", TEXT_MAP),
    Field(13, "ownerReferences", List(&Kind::Message(OWNER))),
    Field(14, "finalizers", TEXTS),
];

const META: Field = Field(1, "metadata", Kind::Message(OBJECT_META));

const OBJECT_REFERENCE: Message = &[
    Field(1, "kind", Text),
    Field(2, "namespace", Text),
    Field(3, "name", Text),
    Field(4, "uid", Text),
    Field(5, "apiVersion", Text),
    Field(6, "resourceVersion", Text),
    Field(7, "fieldPath", Text),
];

const RESOURCE_ATTRIBUTES: Message = &[
    Field(1, "namespace", Text),
    Field(2, "verb", Text),
    Field(3, "group", Text),
    Field(4, "version", Text),
    Field(5, "resource", Text),
    Field(6, "subresource", Text),
    Field(7, "name", Text),
    Field(
        8,
        "fieldSelector",
        Kind::Message(&[Field(1, "rawSelector", Text)]),
    ),
    Field(
        9,
        "labelSelector",
        Kind::Message(&[Field(1, "rawSelector", Text)]),
    ),
];

const ACCESS: [Field; 2] = [
    Field(1, "resourceAttributes", Kind::Message(RESOURCE_ATTRIBUTES)),
    Field(
        2,
        "nonResourceAttributes",
        Kind::Message(&[Field(1, "path", Text), Field(2, "verb", Text)]),
    ),
];

const ACCESS_REVIEW: Message = &[
    META,
    Field(
        2,
        "spec",
        Kind::Message(&[
            ACCESS[0],
            ACCESS[1],
            Field(3, "user", Text),
            Field(4, "groups", TEXTS),
            Field(5, "extra", Map(&Words)),
            Field(6, "uid", Text),
        ]),
    ),
];

const DELETE_OPTIONS: Message = &[
    Field(1, "gracePeriodSeconds", Int),
    Field(
        2,
        "preconditions",
        Kind::Message(&[Field(1, "uid", Text), Field(2, "resourceVersion", Text)]),
    ),
    Field(3, "orphanDependents", Bool),
    Field(4, "propagationPolicy", Text),
    Field(5, "dryRun", TEXTS),
];

const SIGNING_CONDITION: Message = &[
    Field(1, "type", Text),
    Field(2, "reason", Text),
    Field(3, "message", Text),
    Field(4, "lastUpdateTime", Time),
    Field(5, "lastTransitionTime", Time),
    Field(6, "status", Text),
];

const SERVICE_PORT: Message = &[
    Field(1, "name", Text),
    Field(2, "protocol", Text),
    Field(3, "port", Int),
    Field(4, "targetPort", IntOrText),
    Field(5, "nodePort", Int),
    Field(6, "appProtocol", Text),
];

const SERVICE_SPEC: Message = &[
    Field(1, "ports", List(&Kind::Message(SERVICE_PORT))),
    Field(2, "selector", TEXT_MAP),
    Field(3, "clusterIP", Text),
    Field(4, "type", Text),
    Field(5, "externalIPs", TEXTS),
    Field(7, "sessionAffinity", Text),
    Field(10, "externalName", Text),
    Field(11, "externalTrafficPolicy", Text),
    Field(17, "ipFamilyPolicy", Text),
    Field(18, "clusterIPs", TEXTS),
    Field(19, "ipFamilies", TEXTS),
    Field(22, "internalTrafficPolicy", Text),
];

const KINDS: &[(&str, &str, Message)] = &[
    (
        "v1",
        "ConfigMap",
        &[
            META,
            Field(2, "data", TEXT_MAP),
            Field(3, "binaryData", Map(&Bytes)),
            Field(4, "immutable", Bool),
        ],
    ),
    (
        "v1",
        "Secret",
        &[
            META,
            Field(2, "data", Map(&Bytes)),
            Field(3, "type", Text),
            Field(4, "stringData", TEXT_MAP),
            Field(5, "immutable", Bool),
        ],
    ),
    (
        "v1",
        "Namespace",
        &[
            META,
            Field(2, "spec", Kind::Message(&[Field(1, "finalizers", TEXTS)])),
            Field(3, "status", Kind::Message(&[Field(1, "phase", Text)])),
        ],
    ),
    (
        "v1",
        "ServiceAccount",
        &[
            META,
            Field(2, "secrets", List(&Kind::Message(OBJECT_REFERENCE))),
            Field(
                3,
                "imagePullSecrets",
                List(&Kind::Message(&[Field(1, "name", Text)])),
            ),
            Field(4, "automountServiceAccountToken", Bool),
        ],
    ),
    (
        "v1",
        "Service",
        &[META, Field(2, "spec", Kind::Message(SERVICE_SPEC))],
    ),
    (
        "v1",
        "Binding",
        &[META, Field(2, "target", Kind::Message(OBJECT_REFERENCE))],
    ),
    ("v1", "DeleteOptions", DELETE_OPTIONS),
    ("meta.k8s.io/v1", "DeleteOptions", DELETE_OPTIONS),
    (
        "policy/v1",
        "Eviction",
        &[
            META,
            Field(2, "deleteOptions", Kind::Message(DELETE_OPTIONS)),
        ],
    ),
    (
        "scheduling.k8s.io/v1",
        "PriorityClass",
        &[
            META,
            Field(2, "value", Int),
            Field(3, "globalDefault", Bool),
            Field(4, "description", Text),
            Field(5, "preemptionPolicy", Text),
        ],
    ),
    (
        "authorization.k8s.io/v1",
        "SelfSubjectAccessReview",
        ACCESS_REVIEW,
    ),
    (
        "authorization.k8s.io/v1",
        "SubjectAccessReview",
        ACCESS_REVIEW,
    ),
    (
        "authorization.k8s.io/v1",
        "LocalSubjectAccessReview",
        ACCESS_REVIEW,
    ),
    (
        "authorization.k8s.io/v1",
        "SelfSubjectRulesReview",
        &[
            META,
            Field(2, "spec", Kind::Message(&[Field(1, "namespace", Text)])),
        ],
    ),
    ("authentication.k8s.io/v1", "SelfSubjectReview", &[META]),
    (
        "authentication.k8s.io/v1",
        "TokenReview",
        &[
            META,
            Field(
                2,
                "spec",
                Kind::Message(&[Field(1, "token", Text), Field(2, "audiences", TEXTS)]),
            ),
        ],
    ),
    (
        "authentication.k8s.io/v1",
        "TokenRequest",
        &[
            META,
            Field(
                2,
                "spec",
                Kind::Message(&[
                    Field(1, "audiences", TEXTS),
                    Field(
                        3,
                        "boundObjectRef",
                        Kind::Message(&[
                            Field(1, "kind", Text),
                            Field(2, "apiVersion", Text),
                            Field(3, "name", Text),
                            Field(4, "uid", Text),
                        ]),
                    ),
                    Field(4, "expirationSeconds", Int),
                ]),
            ),
        ],
    ),
    (
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
        &[
            META,
            Field(
                2,
                "spec",
                Kind::Message(&[
                    Field(1, "request", Bytes),
                    Field(2, "username", Text),
                    Field(3, "uid", Text),
                    Field(4, "groups", TEXTS),
                    Field(5, "usages", TEXTS),
                    Field(6, "extra", Map(&Words)),
                    Field(7, "signerName", Text),
                    Field(8, "expirationSeconds", Int),
                ]),
            ),
            Field(
                3,
                "status",
                Kind::Message(&[
                    Field(1, "conditions", List(&Kind::Message(SIGNING_CONDITION))),
                    Field(2, "certificate", Bytes),
                ]),
            ),
        ],
    ),
];

/// The message of a kind.
pub(super) fn of(version: &str, kind: &str) -> Option<Message> {
    let mut kinds = KINDS.iter();
    let found = kinds.find(|(v, k, _)| *v == version && *k == kind);
    found.map(|(.., message)| *message)
}
