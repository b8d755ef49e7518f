//! Names of things: each kind of id is a type of its own, so that a sandbox's id cannot stand where a container's is meant.
//!
//! In:    text from manifests, the API, the runtime, the disk and the journal
//! Out:   cheap clones (`Arc<str>`), ordered, printable
//! Holds: an id is never changed or parsed after it was made; a UID and names of pods and containers, which become parts of paths,
//!        are made through a check alone (`names`)
//! Upstream: pkg/kubelet/types/types.go, pkg/kubelet/container/runtime.go (ContainerID)

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::{BadName, check_joined, check_part};

/// Longest UID, in bytes: the names of directories and cgroups that hold one have a few letters more.
const LONGEST_UID: usize = 200;

/// What all id types have.
macro_rules! id_text {
    ($name:ident) => {
        impl $name {
            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
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

/// Declares the type of an id that only the runtime reads.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

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
        id_text! { $name }
    };
}

/// Declares the type of a name that becomes part of a path; `check` says which texts are none.
macro_rules! checked_id {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The one way to make it.
            ///
            /// # Errors
            /// What is wrong with the text.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                Self::parse(&text)
            }
        }
        id_text! { $name }
    };
}

checked_id! {
    /// The UID of a pod: for a static pod the hash of its manifest. One plain part of a path, and without `_`: names of log
    /// directories join it to others by that, and a slice of systemd shows `-` as `_`.
    PodUid, check_uid
}
id! {
    /// The runtime's id of a container, without the `containerd://` prefix.
    ContainerId
}
id! {
    /// The runtime's id of a pod sandbox.
    SandboxId
}
checked_id! {
    /// The name of a container inside its pod: one plain part of a path.
    ContainerName, check_part
}

fn check_uid(text: &str) -> Result<(), BadName> {
    check_joined(text)?;
    if text.len() > LONGEST_UID {
        return Err(BadName::new(text, "is longer than 200 bytes"));
    }
    Ok(())
}

/// Namespace and name of a pod: what people call it. Two UIDs may bear one full name after another, never together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub struct PodFullName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name, for a static pod with the node's suffix.
    pub name: Arc<str>,
}

impl PodFullName {
    /// A name of which both parts may stand in the name of a directory, joined by `_`.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, BadName> {
        check_joined(namespace)?;
        check_joined(name)?;
        Ok(Self {
            namespace: Arc::from(namespace),
            name: Arc::from(name),
        })
    }

    /// The name of a pod of which only the UID is known: in no namespace, so that it never stands in another pod's way.
    pub fn of_unnamed(uid: &PodUid) -> Self {
        Self {
            namespace: Arc::from(""),
            name: Arc::from(format!("orphan-{uid}")),
        }
    }
}

impl fmt::Display for PodFullName {
    /// `namespace/name`, as logs show pods.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_one_plain_part_of_a_path_without_underscore() {
        for good in [
            "u1",
            "7f3c8a52-01c2-4f9e-9d5f-0c8f3ad0a4f2",
            "0".repeat(200).as_str(),
        ] {
            assert_eq!(PodUid::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "a\0",
            "a_b",
            "0".repeat(201).as_str(),
        ] {
            assert!(PodUid::parse(bad).is_err(), "{bad:?}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<PodUid>(&json).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_full_name_has_two_plain_parts() {
        let named = PodFullName::parse("default", "web-node").unwrap();
        assert_eq!(named.to_string(), "default/web-node");
        for (namespace, name) in [
            ("", "a"),
            ("a", ""),
            ("..", "a"),
            ("a", "b/c"),
            ("a_b", "c"),
        ] {
            assert!(PodFullName::parse(namespace, name).is_err());
        }
        let unnamed = PodFullName::of_unnamed(&PodUid::parse("u1").unwrap());
        assert_eq!(unnamed.to_string(), "/orphan-u1");
    }
}
