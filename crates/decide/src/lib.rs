//! Decisions without deeds: pure functions from what is known to what should happen.
//!
//! In:    values of `model` and messages of `api`
//! Out:   plans, statuses, lists of problems; each carries its reasons
//! Holds: no clock, no I/O, no threads, no logs
//! Upstream: none

pub mod defaults;
pub mod effective;
pub mod validate;
