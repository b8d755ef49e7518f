//! The served kinds: one row each, with rules, table, field types, patches and warnings.
//!
//! In:    objects as JSON
//! Out:   what may be written, how it is shown and changed
//! Calls: request, access, registry, verbs, controllers
//! Holds: nothing here reads the store but for what ties objects together
//! Upstream: pkg/registry, pkg/printers

pub(crate) mod duplicates;
pub(crate) mod patch;
pub(crate) mod protobuf;
pub mod resources;
pub(crate) mod schema;
pub(crate) mod selectors;
pub(crate) mod strategy;
pub(crate) mod table;
pub(crate) mod typed;
pub(crate) mod warnings;
