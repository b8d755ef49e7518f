//! Tests of container_config.
