//! Tests of sandbox_config.
