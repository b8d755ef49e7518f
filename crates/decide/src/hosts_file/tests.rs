//! Tests of hosts_file.
