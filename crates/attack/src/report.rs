//! The table of a run.
//!
//! In:    figures with their bounds, as scenarios find them
//! Out:   a table in Markdown; how many bounds were missed
//! Calls: all scenarios
//! Holds: a figure is said when it is found, so that a run that is cut short has told what it knew
//! Upstream: none

use std::fmt::Write as _;

use rig::say;

#[derive(Debug, Clone)]
struct Row {
    scenario: String,
    figure: String,
    value: String,
    bound: String,
    ok: Option<bool>,
}

/// Rows, in the order of their finding.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    scenario: String,
    rows: Vec<Row>,
}

impl Report {
    /// What follows belongs to this scenario.
    pub(crate) fn begin(&mut self, scenario: &str) {
        scenario.clone_into(&mut self.scenario);
    }

    fn add(&mut self, figure: &str, value: String, bound: &str, ok: Option<bool>) {
        let verdict = verdict(ok);
        say(&format!("   {figure}: {value} ({bound}) {verdict}"));
        self.rows.push(Row {
            scenario: self.scenario.clone(),
            figure: figure.to_owned(),
            value,
            bound: bound.to_owned(),
            ok,
        });
    }

    /// A figure and whether it keeps its bound.
    pub(crate) fn judge(&mut self, figure: &str, value: impl Into<String>, bound: &str, ok: bool) {
        self.add(figure, value.into(), bound, Some(ok));
    }

    /// A bound that was missed.
    pub(crate) fn miss(&mut self, figure: &str, value: impl Into<String>, bound: &str) {
        self.add(figure, value.into(), bound, Some(false));
    }

    /// Findings that must be none: one row, with the first of them.
    pub(crate) fn none(&mut self, figure: &str, found: &[String]) {
        let shown: Vec<&str> = found.iter().take(12).map(String::as_str).collect();
        let value = match found.len() {
            0 => "0".to_owned(),
            many => format!("{many}: {}", shown.join("; ")),
        };
        self.judge(figure, value, "0", found.is_empty());
    }

    /// A figure without a bound.
    pub(crate) fn note(&mut self, figure: &str, value: impl Into<String>) {
        self.add(figure, value.into(), "", None);
    }

    pub(crate) fn misses(&self) -> usize {
        self.rows.iter().filter(|row| row.ok == Some(false)).count()
    }

    /// Forgets what the present scenario has found: it is done once more.
    pub(crate) fn again(&mut self) {
        let scenario = self.scenario.clone();
        self.rows.retain(|row| row.scenario != scenario);
    }

    /// Whether the present scenario has missed a bound.
    pub(crate) fn missed(&self) -> bool {
        let ours = |row: &&Row| row.scenario == self.scenario;
        self.rows
            .iter()
            .filter(ours)
            .any(|row| row.ok == Some(false))
    }

    /// What was missed, one a line; nothing when all bounds were kept.
    pub(crate) fn missed_list(&self) -> String {
        let missed = self.rows.iter().filter(|row| row.ok == Some(false));
        let lines = missed.map(|row| {
            let Row {
                scenario,
                figure,
                value,
                bound,
                ..
            } = row;
            format!("MISS {scenario}: {figure}: {value} (bound: {bound})\n")
        });
        lines.collect()
    }

    pub(crate) fn bounds(&self) -> usize {
        self.rows.iter().filter(|row| row.ok.is_some()).count()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text =
            "| scenario | figure | value | bound | |\n|---|---|---|---|---|\n".to_owned();
        for row in &self.rows {
            let clean = |cell: &str| cell.replace('|', "\\|").replace('\n', " ");
            let (scenario, figure) = (clean(&row.scenario), clean(&row.figure));
            let (value, bound) = (clean(&row.value), clean(&row.bound));
            // Writing to a String cannot fail.
            let _written = writeln!(
                text,
                "| {scenario} | {figure} | {value} | {bound} | {} |",
                verdict(row.ok)
            );
        }
        text
    }
}

fn verdict(ok: Option<bool>) -> &'static str {
    match ok {
        Some(true) => "ok",
        Some(false) => "MISS",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_miss_is_in_the_table_in_the_list_and_in_the_count() {
        let mut report = Report::default();
        report.begin("one");
        report.judge("memory", "1 MB", "2 MB", true);
        report.note("what was done", "much");
        report.begin("two");
        report.none("lost", &["a|b".to_owned()]);
        assert_eq!((report.misses(), report.bounds()), (1, 2));
        assert_eq!(report.missed_list(), "MISS two: lost: 1: a|b (bound: 0)\n");
        let table = report.markdown();
        assert!(
            table.contains("| one | memory | 1 MB | 2 MB | ok |"),
            "{table}"
        );
        assert!(
            table.contains("| two | lost | 1: a\\|b | 0 | MISS |"),
            "{table}"
        );
        // Done once more, a scenario is judged by its second time alone.
        assert!(report.missed());
        report.again();
        report.none("lost", &[]);
        assert_eq!((report.misses(), report.missed_list()), (0, String::new()));
    }
}
