//! Every metric that is kept in a field is moved somewhere in its crate.
//!
//! In:    all product files
//! Out:   one line per finding
//! Calls: tidy
//! Holds: a finding is certain: nothing in the crate calls what moves a metric on a field of this name. Names that several structs share
//!        count for each of them
//! Upstream: none

use std::collections::{BTreeMap, BTreeSet};

use super::{is_test, product};

/// Types of metrics, as fields have them.
const TYPES: [&str; 10] = [
    "Counter",
    "CounterVec",
    "Gauge",
    "GaugeVec",
    "Histogram",
    "HistogramVec",
    "IntCounter",
    "IntCounterVec",
    "IntGauge",
    "IntGaugeVec",
];

/// Calls that move a metric, or pick the one that is moved.
const MOVES: [&str; 9] = [
    "inc",
    "inc_by",
    "dec",
    "add",
    "sub",
    "set",
    "observe",
    "start_timer",
    "with_label_values",
];

/// Goes through the files.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Crate and field, and the files that have such a field.
    fields: BTreeMap<(String, String), BTreeSet<String>>,
    /// Crate and field.
    moved: BTreeSet<(String, String)>,
}

impl Metrics {
    /// Takes in one file.
    pub(super) fn look(&mut self, file: &str, text: &str) {
        let Some(owner) = file
            .strip_prefix("crates/")
            .and_then(|rest| rest.split_once("/src/"))
            .map(|(owner, _)| owner)
            .filter(|_| !is_test(file))
        else {
            return;
        };
        let text = product(text);
        for line in text.lines() {
            let Some((field, kind)) = line.trim().trim_end_matches(',').split_once(": ") else {
                continue;
            };
            let field = field.rsplit(' ').next().unwrap_or_default();
            if line.ends_with(',') && line.starts_with(' ') && TYPES.contains(&kind) {
                let key = (owner.to_owned(), field.to_owned());
                self.fields.entry(key).or_default().insert(file.to_owned());
            }
        }
        for (field, call) in calls(text) {
            if MOVES.contains(&call) {
                self.moved.insert((owner.to_owned(), field.to_owned()));
            }
        }
    }

    /// What is wrong, once all files were taken in.
    pub(super) fn findings(&self) -> Vec<String> {
        let unmoved = |(owner, field): &(String, String)| {
            !self.moved.contains(&(owner.clone(), field.clone()))
        };
        let fields = self.fields.iter().filter(|(key, _)| unmoved(key));
        fields
            .flat_map(|((_, field), files)| {
                files
                    .iter()
                    .map(move |file| format!("{file}: the metric {field} is moved nowhere"))
            })
            .collect()
    }
}

/// `a` and `b` of each `a.b(`, across the ends of lines; a local name counts as a field does.
fn calls(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices('.').filter_map(move |(at, _)| {
        let before = text.get(..at)?.trim_end();
        let field = before.get(before.rfind(|c| !is_word(c)).map_or(0, |end| end + 1)..)?;
        let after = text.get(at + 1..)?;
        let end = after.find(|c| !is_word(c))?;
        let (call, rest) = after.split_at_checked(end)?;
        (rest.starts_with('(') && !field.is_empty()).then_some((field, call))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_that_nothing_moves_is_found() {
        let mut metrics = Metrics::default();
        let text = "struct M {\n    kept: IntCounter,\n    pub(crate) lost: HistogramVec,\n}\n\
                    fn f(m: &M) {\n    m.kept\n        .inc();\n    drop(m.lost.clone());\n}\n";
        metrics.look("crates/act/src/m.rs", text);
        assert_eq!(
            metrics.findings(),
            ["crates/act/src/m.rs: the metric lost is moved nowhere"]
        );
        metrics.look(
            "crates/server/src/n.rs",
            "fn g(m: &M) { m.lost.observe(1.0); }",
        );
        assert_eq!(metrics.findings().len(), 1, "another crate's");
        metrics.look(
            "crates/act/src/n.rs",
            "fn g(m: &M) { m.lost.with_label_values(&[]); }",
        );
        assert!(metrics.findings().is_empty());
    }
}
