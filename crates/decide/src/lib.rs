//! (placeholder)

pub mod manifest;
