//! One thing that is wrong with an object, and the collector of them.
//!
//! In:    a field's path, its value, what is wrong with it
//! Out:   [`FieldProblem`]s in upstream's words
//! Calls: every rule of this crate
//! Holds: problems keep the order in which they were found
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/validation/field/errors.go

use serde::Serialize;
use std::fmt;

/// One thing that is wrong with a pod. Prints as `path: message`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldProblem {
    /// The field, such as `spec.containers[0].image`.
    pub path: String,
    /// Upstream's message, such as `Required value`.
    pub message: String,
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Problems found so far; the methods are upstream's types of errors.
#[derive(Debug, Default)]
pub struct Problems(Vec<FieldProblem>);

impl Problems {
    /// All that was found, in the order in which it was looked for.
    pub fn found(self) -> Vec<FieldProblem> {
        self.0
    }

    pub(crate) fn push(&mut self, path: impl Into<String>, kind: &str, value: &str, detail: &str) {
        let mut message = kind.to_owned();
        for part in [value, detail] {
            if !part.is_empty() {
                message.push_str(": ");
                message.push_str(part);
            }
        }
        let path = path.into();
        self.0.push(FieldProblem { path, message });
    }

    pub(crate) fn required(&mut self, path: impl Into<String>, detail: &str) {
        self.push(path, "Required value", "", detail);
    }

    pub(crate) fn invalid(&mut self, path: impl Into<String>, value: impl Serialize, detail: &str) {
        self.push(path, "Invalid value", &shown(value), detail);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// One problem for each reason.
    pub(crate) fn reasons(
        &mut self,
        path: impl Into<String>,
        value: impl Serialize,
        reasons: Vec<String>,
    ) {
        let (path, value) = (path.into(), shown(value));
        for reason in reasons {
            self.push(path.as_str(), "Invalid value", &value, &reason);
        }
    }

    pub(crate) fn unsupported(&mut self, path: impl Into<String>, value: &str, known: &[&str]) {
        let known: Vec<String> = known.iter().map(shown).collect();
        let detail = format!("supported values: {}", known.join(", "));
        self.push(path, "Unsupported value", &shown(value), &detail);
    }

    /// Required when blank, unsupported when not known.
    pub(crate) fn one_of(&mut self, path: impl Into<String>, value: Option<&str>, known: &[&str]) {
        match value {
            None | Some("") => self.required(path, ""),
            Some(value) if !known.contains(&value) => self.unsupported(path, value, known),
            Some(_) => {}
        }
    }

    pub(crate) fn duplicate(&mut self, path: impl Into<String>, value: &str) {
        self.push(path, "Duplicate value", &shown(value), "");
    }

    pub(crate) fn not_found(&mut self, path: impl Into<String>, value: &str) {
        self.push(path, "Not found", &shown(value), "");
    }

    /// A value that may not be set here.
    pub fn forbidden(&mut self, path: impl Into<String>, detail: &str) {
        self.push(path, "Forbidden", "", detail);
    }

    pub(crate) fn too_long(&mut self, path: impl Into<String>, limit: usize) {
        let detail = format!("may not be more than {limit} bytes");
        self.push(path, "Too long", "", &detail);
    }
}

pub(crate) fn shown(value: impl Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}

pub(crate) fn text(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}
