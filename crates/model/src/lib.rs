//! Nouns of the node agent: typed values, no behaviour of their own.
//!
//! In:    –
//! Out:   the types that `decide` reasons with and every crate above passes on
//! Holds: no I/O, no clock
//! Upstream: none

pub mod config;
pub mod duration;
pub mod gates;
pub mod quantity;
