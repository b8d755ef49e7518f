//! The pull secrets of a pod.
//!
//! In:    nothing
//! Out:   [`PullSecrets`]
//! Calls: images, pod; act/images
//! Holds: passwords are not shown
//! Upstream: pkg/credentialprovider

use std::fmt;

/// User and password for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

/// A text that is no docker configuration. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerConfigError {
    /// It is not JSON, or of another shape.
    #[error("docker configuration cannot be read")]
    Unreadable,
    /// An `auth` is not the base64 of a user and a password.
    #[error("unable to parse auth field, must be formatted as base64(username:password)")]
    Auth,
}

/// What a pod brings along for its pulls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PullSecrets {
    /// For this image, in the order in which they are tried; before those of the node.
    pub credentials: Vec<Credential>,
    /// Names of pull secrets that could not be had; the pull goes on without them.
    pub missing: Vec<String>,
    /// One of them is no docker configuration: the pull fails with this.
    pub unreadable: Option<DockerConfigError>,
}

impl PullSecrets {
    /// The text of the event `FailedToRetrieveImagePullSecret`, where some are missing.
    pub fn warning(&self) -> Option<String> {
        (!self.missing.is_empty()).then(|| {
            format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                self.missing.join(", ")
            )
        })
    }
}
