//! Validates ConfigMaps and Secrets.
//!
//! In:    a ConfigMap or a Secret
//! Out:   problems
//! Calls: the API server
//! Holds: no problem shows the content of a secret; the size limit counts decoded bytes, not JSON or base64
//! Upstream: pkg/apis/core/validation/validation.go (ValidateConfigMap, ValidateSecret and their updates)

use crate::Checked;
use crate::names;
use crate::problem::{Problems, plain};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// The size limit of all values of one object.
const MAX_BYTES: usize = 1 << 20;
const IMMUTABLE: &str = "field is immutable when `immutable` is set";

impl Checked for ConfigMap {
    fn check(&self, problems: &mut Problems) {
        let mut size = 0;
        for (key, value) in self.data.iter().flatten() {
            let path = format!("data[{key}]");
            problems.reasons(path.as_str(), key, names::config_map_key(key));
            if self
                .binary_data
                .as_ref()
                .is_some_and(|all| all.contains_key(key))
            {
                problems.invalid(path, key, "duplicate of key present in binaryData");
            }
            size += value.len();
        }
        for (key, value) in self.binary_data.iter().flatten() {
            let reasons = names::config_map_key(key);
            problems.reasons(format!("binaryData[{key}]"), key, reasons);
            size += value.0.len();
        }
        if size > MAX_BYTES {
            // Upstream reports this at a path without a name.
            problems.too_long("[]", MAX_BYTES);
        }
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        if old.immutable != Some(true) {
            return;
        }
        for (field, changed) in [
            ("immutable", self.immutable != Some(true)),
            ("data", !same(self.data.as_ref(), old.data.as_ref())),
            (
                "binaryData",
                !same(self.binary_data.as_ref(), old.binary_data.as_ref()),
            ),
        ] {
            if changed {
                problems.forbidden(field, IMMUTABLE);
            }
        }
    }
}

/// An absent map equals an empty one.
fn same<T: PartialEq>(
    one: Option<&BTreeMap<String, T>>,
    other: Option<&BTreeMap<String, T>>,
) -> bool {
    let (mut one, mut other) = (one.into_iter().flatten(), other.into_iter().flatten());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (one, other) if one == other => {}
            _ => return false,
        }
    }
}

impl Checked for Secret {
    fn check(&self, problems: &mut Problems) {
        let mut size = 0;
        for (key, value) in self.data.iter().flatten() {
            problems.reasons(format!("data[{key}]"), key, names::config_map_key(key));
            size += value.0.len();
        }
        if size > MAX_BYTES {
            problems.too_long("data", MAX_BYTES);
        }
        check_type(self, problems);
    }

    fn check_change(&self, old: &Self, problems: &mut Problems) {
        problems.immutable("type", &self.type_, &old.type_);
        if old.immutable != Some(true) {
            return;
        }
        if self.immutable != Some(true) {
            problems.forbidden("immutable", IMMUTABLE);
        }
        if !same(self.data.as_ref(), old.data.as_ref()) {
            problems.forbidden("data", IMMUTABLE);
        }
    }
}

/// The keys that a type of secret requires.
fn check_type(secret: &Secret, problems: &mut Problems) {
    let get = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let mut need = |key: &str| {
        if get(key).is_none() {
            problems.required(format!("data[{key}]"), "");
        }
    };
    match plain(&secret.type_) {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            let annotations = secret.metadata.annotations.as_ref();
            let name = annotations.and_then(|all| all.get(key));
            if name.is_none_or(String::is_empty) {
                problems.required(format!("metadata.annotations[{key}]"), "");
            }
        }
        "kubernetes.io/dockercfg" => check_json(".dockercfg", get(".dockercfg"), problems),
        "kubernetes.io/dockerconfigjson" => {
            check_json(".dockerconfigjson", get(".dockerconfigjson"), problems);
        }
        "kubernetes.io/basic-auth" if get("username").is_none() && get("password").is_none() => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" if get("ssh-privatekey").is_none_or(|key| key.0.is_empty()) => {
            problems.required("data[ssh-privatekey]", "");
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}

fn check_json(key: &str, value: Option<&ByteString>, problems: &mut Problems) {
    let path = format!("data[{key}]");
    let Some(value) = value else {
        problems.required(path, "");
        return;
    };
    if let Err(error) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&value.0) {
        // The position of the error, not the content.
        let detail = format!(
            "is no JSON object (line {}, column {})",
            error.line(),
            error.column()
        );
        problems.invalid(path, "<secret contents redacted>", &detail);
    }
}
