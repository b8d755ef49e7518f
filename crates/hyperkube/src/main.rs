//! (placeholder)
#![expect(dead_code, reason = "the wiring is not here yet")]
mod config_files;
mod flags;
mod logs;
fn main() {}
