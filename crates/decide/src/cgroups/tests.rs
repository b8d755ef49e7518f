//! Tests of cgroups.
