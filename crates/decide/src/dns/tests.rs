//! Tests of dns.
