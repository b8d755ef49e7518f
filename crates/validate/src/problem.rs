//! A validation problem of an object, and the collector of problems.
//!
//! In:    a field's path, its value, the problem
//! Out:   [`FieldProblem`]s in upstream's words
//! Calls: every rule of this crate
//! Holds: problems keep the order in which they were found; at most [`MAX_PROBLEMS`] are kept, so that answering a hostile
//!        object costs no more than reading it
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/validation/field/errors.go; differences: upstream keeps every problem

use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// The most problems that are reported per object. A hundred thousand invalid labels do not need a hundred thousand lines.
pub const MAX_PROBLEMS: usize = 500;

/// Upstream's error types. [`ProblemKind::reason`] is the cause's reason in a `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// The value refers to nothing that exists.
    NotFound,
    /// A required value is missing.
    Required,
    /// The value must be unique.
    Duplicate,
    /// The value is malformed or out of range.
    Invalid,
    /// The value is not one of the supported ones.
    NotSupported,
    /// The value may not be set here.
    Forbidden,
    /// The value is too large.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// An internal error, not a problem of the object.
    Internal,
}

impl ProblemKind {
    /// The reason of a cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
        }
    }

    /// The first words of the message.
    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One problem of an object. Prints as `path: message`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldProblem {
    /// The field, such as `spec.containers[0].image`.
    pub path: String,
    /// Upstream's message, such as `Required value`.
    pub message: String,
    /// Upstream's error type.
    pub kind: ProblemKind,
}

impl FieldProblem {
    /// A problem with the caller's own message.
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            kind: ProblemKind::Invalid,
        }
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The problems found so far; the methods are upstream's error types.
#[derive(Debug, Default)]
pub struct Problems(Vec<FieldProblem>);

impl Problems {
    /// All problems, in the order in which they were found.
    pub fn found(self) -> Vec<FieldProblem> {
        self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the limit is reached, so that further checks are pointless.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX_PROBLEMS
    }

    pub(crate) fn append(&mut self, others: Self) {
        let room = MAX_PROBLEMS.saturating_sub(self.0.len());
        self.0.extend(others.0.into_iter().take(room));
    }

    /// Appends the problems that are not in `known`.
    pub(crate) fn append_but(&mut self, others: Self, known: &BTreeSet<FieldProblem>) {
        let mut others = others;
        others.0.retain(|problem| !known.contains(problem));
        self.append(others);
    }

    fn push(&mut self, kind: ProblemKind, path: impl Into<String>, value: &str, detail: &str) {
        if self.is_full() {
            return;
        }
        let mut message = kind.words().to_owned();
        for part in [value, detail] {
            if !part.is_empty() {
                message.push_str(": ");
                message.push_str(part);
            }
        }
        self.0.push(FieldProblem {
            path: path.into(),
            message,
            kind,
        });
    }

    pub(crate) fn required(&mut self, path: impl Into<String>, detail: &str) {
        self.push(ProblemKind::Required, path, "", detail);
    }

    pub(crate) fn invalid(&mut self, path: impl Into<String>, value: impl Serialize, detail: &str) {
        self.push(ProblemKind::Invalid, path, &shown(value), detail);
    }

    /// One problem per reason.
    pub(crate) fn reasons(
        &mut self,
        path: impl Into<String>,
        value: impl Serialize,
        reasons: Vec<String>,
    ) {
        if reasons.is_empty() || self.is_full() {
            return;
        }
        let (path, value) = (path.into(), shown(value));
        for reason in reasons {
            self.push(ProblemKind::Invalid, path.as_str(), &value, &reason);
        }
    }

    pub(crate) fn unsupported(&mut self, path: impl Into<String>, value: &str, known: &[&str]) {
        let known: Vec<String> = known.iter().map(shown).collect();
        let detail = format!("supported values: {}", known.join(", "));
        self.push(ProblemKind::NotSupported, path, &shown(value), &detail);
    }

    /// Required if empty, unsupported if unknown.
    pub(crate) fn one_of(&mut self, path: impl Into<String>, value: Option<&str>, known: &[&str]) {
        match value {
            None | Some("") => self.required(path, ""),
            Some(value) if !known.contains(&value) => self.unsupported(path, value, known),
            Some(_) => {}
        }
    }

    /// Unsupported if set and unknown.
    pub(crate) fn known(&mut self, path: impl Into<String>, value: Option<&str>, known: &[&str]) {
        if let Some(value) = value
            && !known.contains(&value)
        {
            self.unsupported(path, value, known);
        }
    }

    pub(crate) fn duplicate(&mut self, path: impl Into<String>, value: impl Serialize) {
        self.push(ProblemKind::Duplicate, path, &shown(value), "");
    }

    pub(crate) fn duplicate_because(
        &mut self,
        path: impl Into<String>,
        value: impl Serialize,
        detail: &str,
    ) {
        self.push(ProblemKind::Duplicate, path, &shown(value), detail);
    }

    pub(crate) fn not_found(&mut self, path: impl Into<String>, value: &str, detail: &str) {
        self.push(ProblemKind::NotFound, path, &shown(value), detail);
    }

    /// The value may not be set here.
    pub fn forbidden(&mut self, path: impl Into<String>, detail: &str) {
        self.push(ProblemKind::Forbidden, path, "", detail);
    }

    pub(crate) fn too_long(&mut self, path: impl Into<String>, limit: usize) {
        let detail = format!("may not be more than {limit} bytes");
        self.push(ProblemKind::TooLong, path, "", &detail);
    }

    pub(crate) fn too_many(&mut self, path: impl Into<String>, count: usize, limit: usize) {
        let detail = format!("must have at most {limit} items");
        self.push(ProblemKind::TooMany, path, &count.to_string(), &detail);
    }

    /// Required if empty, otherwise a problem for each reason of `check`.
    pub(crate) fn required_name(
        &mut self,
        path: impl Into<String>,
        value: &str,
        check: fn(&str) -> Vec<String>,
    ) {
        if value.is_empty() {
            self.required(path, "");
        } else {
            self.reasons(path, value, check(value));
        }
    }

    /// Must not be negative.
    pub(crate) fn not_negative(&mut self, path: impl Into<String>, value: i64) {
        if value < 0 {
            self.invalid(path, value, "must be greater than or equal to 0");
        }
    }

    /// Must be greater than zero.
    pub(crate) fn positive(&mut self, path: impl Into<String>, value: i64) {
        if value <= 0 {
            self.invalid(path, value, "must be greater than zero");
        }
    }

    /// Must not change.
    pub(crate) fn immutable<T: Serialize + PartialEq>(
        &mut self,
        path: impl Into<String>,
        new: &T,
        old: &T,
    ) {
        if new != old {
            self.invalid(path, new, "field is immutable");
        }
    }
}

pub(crate) fn shown(value: impl Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_default()
}

pub(crate) fn text(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

/// The text, empty if absent.
pub(crate) fn plain(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// The list, empty if absent.
pub(crate) fn list<T>(value: &Option<Vec<T>>) -> &[T] {
    value.as_deref().unwrap_or_default()
}
