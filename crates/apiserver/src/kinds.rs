//! The served kinds: one row each, with validation, table columns, field types, patches and warnings.
//!
//! In:    objects as JSON
//! Out:   which changes are valid, how objects are shown and patched
//! Calls: request, access, registry, verbs, controllers
//! Holds: nothing here reads the store, except to resolve references between objects
//! Upstream: pkg/registry, pkg/printers

pub(crate) mod duplicates;
pub(crate) mod patch;
pub mod protobuf;
pub mod resources;
pub(crate) mod schema;
pub(crate) mod selectors;
pub(crate) mod strategy;
pub(crate) mod table;
pub(crate) mod typed;
pub(crate) mod warnings;
