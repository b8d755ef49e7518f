//! API objects that a pod refers to, as far as the node knows them, and the files of volumes.
//!
//! In:    filled by the code that watches the API server; empty on a standalone node
//! Out:   `PodObjects`, part of every pod's view; `ObjectRefs`, the objects to watch for a pod; `Payload`, a volume's files
//! Calls: the cluster's objects and tokens; decide's env, projected and volumes; the writer of volumes
//! Holds: objects are shared, never copied; `Debug` shows names and sizes, never content, so that no secret reaches a log
//! Upstream: pkg/kubelet/{secret,configmap,token}, pkg/volume/util/atomic_writer.go (FileProjection)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;

/// The known state of an object.
#[derive(Clone, PartialEq)]
pub enum ObjectState<T> {
    /// The object.
    Known(Arc<T>),
    /// The API server answered that it does not exist.
    Absent {
        /// When it answered.
        at: Timestamp,
    },
    /// The first answer is outstanding: containers that need the object wait, and no failure is reported.
    Asked {
        /// The text that is shown meanwhile.
        why: String,
    },
    /// The API server refused, or cannot be reached.
    Unknown {
        /// The complete text that is shown: for a watch that has not begun upstream's `failed to sync secret cache: timed out
        /// waiting for the condition`.
        why: String,
    },
}

impl<T> fmt::Debug for ObjectState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(_) => f.write_str("Known"),
            Self::Absent { at } => write!(f, "Absent({at})"),
            Self::Asked { why } => write!(f, "Asked({why})"),
            Self::Unknown { why } => write!(f, "Unknown({why})"),
        }
    }
}

/// Whether there is an API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiAccess {
    /// None: an object that is needed fails in upstream's words.
    #[default]
    Standalone,
    /// The node belongs to a cluster.
    Cluster,
}

/// The known Services of the cluster.
#[derive(Clone, Debug, Default)]
pub enum Services {
    /// They are not listed: pods get no service variables.
    #[default]
    NotListed,
    /// Not yet listed: pods from the API server wait for it.
    NotSynced,
    /// At least all Services of the pod's namespace and of `default`.
    Known(Arc<[Arc<v1::Service>]>),
}

impl PartialEq for Services {
    /// By identity: a new list counts as a new value.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NotListed, Self::NotListed) | (Self::NotSynced, Self::NotSynced) => true,
            (Self::Known(one), Self::Known(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

/// The known RuntimeClasses of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RuntimeClasses {
    /// They are not listed: there is no API server.
    #[default]
    NotListed,
    /// Not yet listed.
    NotSynced,
    /// The handler of each class, by name.
    Known(Arc<BTreeMap<String, String>>),
}

/// A service account token of a pod, identified by its request parameters; account and pod are the pod's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRef {
    /// The audience; empty: the API server's own.
    pub audience: String,
    /// The requested lifetime in seconds.
    pub expiration_seconds: i64,
}

/// A bundle of trust anchors (ClusterTrustBundle).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustBundleRef {
    /// One object by name.
    Name(String),
    /// All objects of a signer that the selector matches.
    Signer {
        /// The signer.
        signer: String,
        /// The label selector as JSON; `None` matches nothing.
        selector: Option<String>,
    },
}

/// The known objects that one pod refers to. An object without an entry was never requested.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodObjects {
    /// Whether there is an API server.
    pub access: ApiAccess,
    /// ConfigMaps of the pod's namespace, by name.
    pub config_maps: BTreeMap<String, ObjectState<v1::ConfigMap>>,
    /// Secrets of the pod's namespace, by name.
    pub secrets: BTreeMap<String, ObjectState<v1::Secret>>,
    /// Services.
    pub services: Services,
    /// RuntimeClasses.
    pub runtime_classes: RuntimeClasses,
    /// Tokens of the pod's service account.
    pub tokens: BTreeMap<TokenRef, ObjectState<String>>,
    /// Trust anchors as PEM, normalized as upstream does.
    pub trust_bundles: BTreeMap<TrustBundleRef, ObjectState<String>>,
}

impl PodObjects {
    /// Whether a first answer is outstanding.
    pub fn is_asking(&self) -> bool {
        fn any<K, T>(of: &BTreeMap<K, ObjectState<T>>) -> bool {
            of.values().any(|s| matches!(s, ObjectState::Asked { .. }))
        }
        any(&self.config_maps)
            || any(&self.secrets)
            || any(&self.tokens)
            || any(&self.trust_bundles)
    }
}

/// The objects that a pod refers to, in its own namespace if the kind is namespaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRefs {
    /// Names of ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Names of Secrets, including image pull secrets.
    pub secrets: BTreeSet<String>,
    /// Tokens.
    pub tokens: BTreeSet<TokenRef>,
    /// Trust anchors.
    pub trust_bundles: BTreeSet<TrustBundleRef>,
}

/// A file of a volume that the kubelet writes.
#[derive(Clone, PartialEq, Eq)]
pub struct PayloadFile {
    /// Content.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The user that owns it and its link; `None`: the kubelet's user.
    pub owner: Option<u32>,
}

impl fmt::Debug for PayloadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes {:o}", self.data.len(), self.mode)?;
        self.owner.map_or(Ok(()), |owner| write!(f, " of {owner}"))
    }
}

/// The files of a volume, by path below it.
pub type Payload = BTreeMap<String, PayloadFile>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_has_no_content() {
        let secret = v1::Secret {
            string_data: Some([("k".to_owned(), "hush".to_owned())].into()),
            ..v1::Secret::default()
        };
        let objects = PodObjects {
            secrets: [("s".to_owned(), ObjectState::Known(Arc::new(secret)))].into(),
            tokens: [(
                TokenRef {
                    audience: String::new(),
                    expiration_seconds: 3600,
                },
                ObjectState::Known(Arc::new("hush".to_owned())),
            )]
            .into(),
            ..PodObjects::default()
        };
        let file = PayloadFile {
            data: b"hush".to_vec(),
            mode: 0o644,
            owner: Some(7),
        };
        assert!(!format!("{objects:?}").contains("hush"));
        assert_eq!(format!("{file:?}"), "4 bytes 644 of 7");
    }
}
