//! Identifiers, each kind with a type of its own, so that a sandbox ID cannot be passed for a container ID.
//!
//! In:    text from manifests, the API, the runtime, the disk and the journal
//! Out:   cheap clones (`Arc<str>`), ordered, printable
//! Holds: an ID is never changed or parsed after it was created; a UID and the names of pods and containers, which become parts
//!        of paths, are created only through a check (`names`)
//! Upstream: pkg/kubelet/types/types.go, pkg/kubelet/container/runtime.go (ContainerID)

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::{BadName, check_joined, check_part};

/// The longest UID, in bytes: names of directories and cgroups with a UID have a few more characters.
const LONGEST_UID: usize = 200;

/// Common to all ID types.
macro_rules! id_text {
    ($name:ident) => {
        impl $name {
            /// The text of the ID.
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

/// Declares the type of an ID that only the runtime interprets.
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

/// Declares the type of a name that becomes part of a path; `check` refuses invalid texts.
macro_rules! checked_id {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The only way to create it.
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
    /// The UID of a pod: for a static pod the hash of its manifest. One plain path component without `_`, since names of log
    /// directories join it to others with that character, and since a systemd slice shows `-` as `_`.
    PodUid, check_uid
}
id! {
    /// The runtime's ID of a container, without the `containerd://` prefix.
    ContainerId
}
id! {
    /// The runtime's ID of a pod sandbox.
    SandboxId
}
checked_id! {
    /// The name of a container inside its pod: one plain path component.
    ContainerName, check_part
}

fn check_uid(text: &str) -> Result<(), BadName> {
    check_joined(text)?;
    if text.len() > LONGEST_UID {
        return Err(BadName::new(text, "is longer than 200 bytes"));
    }
    Ok(())
}

/// Namespace and name of a pod. Two UIDs may use the same full name one after the other, never at the same time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub struct PodFullName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name; for a static pod with the node's suffix.
    pub name: Arc<str>,
}

impl PodFullName {
    /// A full name whose parts can both appear in a directory name, joined by `_`.
    ///
    /// # Errors
    /// What is wrong with either part.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, BadName> {
        check_joined(namespace)?;
        check_joined(name)?;
        Ok(Self {
            namespace: Arc::from(namespace),
            name: Arc::from(name),
        })
    }

    /// The name of a pod of which only the UID is known: in no namespace, so that it never conflicts with another pod's name.
    pub fn of_unnamed(uid: &PodUid) -> Self {
        Self {
            namespace: Arc::from(""),
            name: Arc::from(format!("orphan-{uid}")),
        }
    }
}

impl fmt::Display for PodFullName {
    /// `namespace/name`, as in logs.
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
