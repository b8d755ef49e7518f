//! (placeholder)
pub mod identity;
