//! Credentials for a pull.
//!
//! In:    pull secrets, the node's own configuration
//! Out:   who may ask for an image
//! Calls: pod, act/images
//! Holds: secrets are not shown
//! Upstream: pkg/credentialprovider

pub mod pull_credentials;
