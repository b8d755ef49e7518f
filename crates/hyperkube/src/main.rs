//! (placeholder)
#![expect(dead_code, reason = "the wiring is not here yet")]
mod flags;
fn main() {}
