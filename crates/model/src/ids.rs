//! Names of things: each kind of id is a type of its own, so that a sandbox's id can not stand where a container's is meant.
//!
//! In:    text from manifests, the API and the runtime
//! Out:   cheap clones (`Arc<str>`), ordered, printable
//! Holds: an id is never changed or parsed after it was made
//! Upstream: pkg/kubelet/types/types.go, pkg/kubelet/container/runtime.go (ContainerID)

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Declares one id type; four types would otherwise repeat the same sixty lines.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id! {
    /// The UID of a pod: for a static pod the hash of its manifest.
    PodUid
}
id! {
    /// The runtime's id of a container, without the `containerd://` prefix.
    ContainerId
}
id! {
    /// The runtime's id of a pod sandbox.
    SandboxId
}
id! {
    /// The name of a container inside its pod.
    ContainerName
}

/// Namespace and name of a pod: what people call it. Two UIDs may bear one full name after another, never together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PodFullName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name, for a static pod with the node's suffix.
    pub name: Arc<str>,
}

impl fmt::Display for PodFullName {
    /// `namespace/name`, as logs show pods.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
