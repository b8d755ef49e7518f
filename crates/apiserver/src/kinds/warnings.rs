//! The `Warning` headers of a response.
//!
//! In:    texts, while a request is processed
//! Out:   the headers
//! Calls: `verbs` adds warnings, `http` writes them
//! Holds: each text appears once; all of them together stay within upstream's limit
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/warning.go, apimachinery/pkg/util/net (1.36); differences: none

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::HeaderValue;
use serde_json::Value;

use crate::kinds::resources::Resource;

mod kinds;
mod pod;
mod service;

/// Characters of all texts together; beyond them each text is shortened.
const ALL: usize = 4 * 1024;
/// Characters of a shortened text.
const ONE: usize = 256;

/// The warnings of one request; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds a warning, unless it was added before.
    pub(crate) fn add(&self, text: String) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !text.is_empty() && !text.contains(char::is_control) && !texts.contains(&text) {
            texts.push(text);
        }
    }

    /// The warnings as header values.
    pub(crate) fn headers(&self) -> Vec<HeaderValue> {
        let texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let letters: usize = texts.iter().map(|text| text.chars().count()).sum();
        let most = if letters > ALL { ONE } else { ALL };
        let mut left = ALL;
        let mut headers = Vec::new();
        for text in texts.iter() {
            let short: String = text.chars().take(most).collect();
            if left == 0 {
                break;
            }
            left = left.saturating_sub(short.chars().count());
            headers.extend(HeaderValue::from_bytes(header(&short).as_bytes()));
        }
        headers
    }
}

fn header(text: &str) -> String {
    let mut out = "299 - \"".to_owned();
    for letter in text.chars() {
        if ['"', '\\'].contains(&letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out.push('"');
    out
}

type Of = fn(&Value, Option<&Value>) -> Vec<String>;

/// The functions by storage name.
const KINDS: [(&str, Of); 10] = [
    ("csidrivers.storage.k8s.io", kinds::driver),
    ("endpoints", kinds::endpoints),
    ("nodes", kinds::node),
    ("persistentvolumeclaims", kinds::claim),
    ("persistentvolumes", kinds::volume),
    ("pods", pod::warnings),
    ("runtimeclasses.node.k8s.io", kinds::runtime_class),
    ("serviceaccounts", kinds::account),
    ("services", service::warnings),
    ("storageclasses.storage.k8s.io", kinds::storage_class),
];

/// The function that returns the warnings for a new or updated object of the kind; `None` if the kind never has any.
pub(crate) fn of(resource: &Resource) -> Option<Of> {
    let found = KINDS
        .iter()
        .find(|(storage, _)| *storage == resource.storage);
    found.map(|(_, of)| *of)
}

/// A field path: `path.name[index]`.
fn at(path: &str, name: &str, index: usize) -> String {
    let mut out = path.to_owned();
    let written = write!(out, ".{name}[{index}]");
    debug_assert!(written.is_ok(), "a string takes everything");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(warnings: &Warnings) -> Vec<String> {
        let headers = warnings.headers();
        let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        headers.iter().map(text).collect()
    }

    #[test]
    fn texts_are_quoted_told_once_and_bounded() {
        let warnings = Warnings::default();
        for text in [
            "unknown field \"a\\b\"",
            "",
            "unknown field \"a\\b\"",
            "ü",
            "two\nlines",
        ] {
            warnings.add(text.to_owned());
        }
        let expected = ["299 - \"unknown field \\\"a\\\\b\\\"\"", "299 - \"ü\""];
        assert_eq!(shown(&warnings), expected);
        for number in 0..100 {
            warnings.add(format!("{number:03}{}", "x".repeat(500)));
        }
        let all = shown(&warnings);
        let letters = |text: &String| text.chars().count();
        assert!(all.iter().all(|text| letters(text) < ONE + 20));
        assert!(all.iter().map(letters).sum::<usize>() < ALL + ONE + 20 * all.len());
        assert!(all.len() > 15);
    }
}
