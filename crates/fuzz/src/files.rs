//! The product's own reader of configuration files, which lies in a binary and is built in here.
//!
//! In:    a text
//! Out:   what it says, as JSON and typed
//! Calls: `targets`
//! Holds: the same source file as in `hyperkube`
//! Upstream: none

use kubelet_api::config::KubeletConfiguration;
use serde_json::Value;

#[expect(dead_code, reason = "reading from the disk is the binary's")]
#[path = "../../hyperkube/src/config_files/document.rs"]
mod document;

/// One file; nothing for one that is no configuration.
pub(crate) fn read(text: &str) -> Option<(Value, KubeletConfiguration)> {
    let document = document::Document::parse(text.to_owned()).ok()?;
    drop(document.expect_configuration());
    let (config, _) = document.configuration().ok()?;
    assert!(document.duplicate().is_none_or(|twice| !twice.is_empty()));
    Some((document.value().clone(), config))
}
