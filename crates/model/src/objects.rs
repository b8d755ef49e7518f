//! API objects that a pod refers to, as far as the node knows them, and the files that volumes are made of.
//!
//! In:    filled by whoever watches the API server; empty on a node without one
//! Out:   `PodObjects`, part of every pod's view; `ObjectRefs`, what is to be watched for a pod; `Payload`, a volume's files
//! Calls: the cluster's objects and tokens; decide's env, projected and volumes; the writer of volumes
//! Holds: objects are shared, never copied; `Debug` shows names and sizes, never content, so that no secret reaches a log
//! Upstream: pkg/kubelet/{secret,configmap,token}, pkg/volume/util/atomic_writer.go (FileProjection)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;

/// What is known of one object.
#[derive(Clone, PartialEq)]
pub enum ObjectState<T> {
    /// This is it.
    Known(Arc<T>),
    /// The API server said that there is none.
    Absent {
        /// When it said so.
        at: Timestamp,
    },
    /// The first answer is on its way: what needs it waits, and nobody is told of a failure.
    Asked {
        /// The text that people read while they wait.
        why: String,
    },
    /// The server refused, or cannot be reached.
    Unknown {
        /// The text that people read, whole: upstream's for a watch that has not begun is
        /// `failed to sync secret cache: timed out waiting for the condition`.
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

/// Whether there is an API server to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ApiAccess {
    /// None: what needs one fails, in upstream's words for it.
    #[default]
    Standalone,
    /// The node belongs to a cluster.
    Cluster,
}

/// What is known of the cluster's Services.
#[derive(Clone, Debug, Default)]
pub enum Services {
    /// Nobody lists them: pods get no variables of services.
    #[default]
    NotListed,
    /// Not listed once yet: pods of the API wait for it.
    NotSynced,
    /// All of the pod's namespace and of `default`, at least.
    Known(Arc<[Arc<v1::Service>]>),
}

impl PartialEq for Services {
    /// By identity: a new list is a new value.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NotListed, Self::NotListed) | (Self::NotSynced, Self::NotSynced) => true,
            (Self::Known(one), Self::Known(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

/// What is known of the cluster's RuntimeClasses.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RuntimeClasses {
    /// Nobody lists them: there is no API server.
    #[default]
    NotListed,
    /// Not listed once yet.
    NotSynced,
    /// Handlers of all, by the name of the class.
    Known(Arc<BTreeMap<String, String>>),
}

/// A service account token of a pod, by what it is asked for with; account and pod are those of the pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenRef {
    /// Audience; empty is the API server's own.
    pub audience: String,
    /// Life asked for, seconds.
    pub expiration_seconds: i64,
}

/// A bundle of trust anchors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustBundleRef {
    /// One object.
    Name(String),
    /// All of a signer that the selector takes.
    Signer {
        /// The signer.
        signer: String,
        /// The label selector as JSON; `None` takes none.
        selector: Option<String>,
    },
}

/// What is known of the objects that one pod refers to. An object without an entry was never asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodObjects {
    /// Whether there is anyone to ask.
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
    /// Trust anchors as PEM, normalised as upstream does.
    pub trust_bundles: BTreeMap<TrustBundleRef, ObjectState<String>>,
}

impl PodObjects {
    /// Whether a first answer is on its way.
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

/// What a pod refers to, of its own namespace where the kind has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRefs {
    /// Names of ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Names of Secrets, those for pulling images among them.
    pub secrets: BTreeSet<String>,
    /// Tokens.
    pub tokens: BTreeSet<TokenRef>,
    /// Trust anchors.
    pub trust_bundles: BTreeSet<TrustBundleRef>,
}

/// One file of a volume that the kubelet writes.
#[derive(Clone, PartialEq, Eq)]
pub struct PayloadFile {
    /// Content.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// User that owns it and its link; `None` leaves it to the kubelet's user.
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
