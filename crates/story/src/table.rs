//! Tables for people.
//!
//! In:    cells
//! Out:   lines in columns
//! Calls: `run`, `timeline`, `describe`
//! Holds: pure; a column is as wide as its widest cell, and three spaces part it from the next
//! Upstream: staging/src/k8s.io/cli-runtime/pkg/printers/tableprinter.go

use jiff::Timestamp;

use crate::client::Told;
use crate::paint::{Paint, Tone};
use crate::row::{probes, row, source, tone};
use crate::words::printable;

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        let (text, tone) = (printable(&text), Tone::Plain);
        Self { text, tone }
    }
}

/// Which columns a list of pods has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) namespace: bool,
    pub(crate) wide: bool,
}

/// The head of a list of pods.
pub(crate) fn head(columns: Columns) -> Vec<Cell> {
    let namespace = columns.namespace.then_some("NAMESPACE");
    let names = ["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    let wide = ["IP", "NODE", "SOURCE", "PROBES"].into_iter();
    let wide = wide.filter(|_| columns.wide);
    let all = namespace.into_iter().chain(names).chain(wide);
    all.map(Cell::from).collect()
}

/// The row of a pod.
pub(crate) fn cells(told: &Told, columns: Columns, now: Timestamp) -> Vec<Cell> {
    let row = row(&told.pod, now);
    let mut cells: Vec<Cell> = Vec::new();
    if columns.namespace {
        cells.push(told.namespace().into());
    }
    let tone = tone(&told.pod, &row.status);
    cells.push(told.name().into());
    cells.push(row.ready.into());
    cells.push(Cell {
        tone,
        ..row.status.into()
    });
    cells.push(row.restarts.into());
    cells.push(row.age.into());
    if columns.wide {
        let status = told.pod.status.as_ref();
        let ip = status.and_then(|status| status.pod_ip.as_deref());
        let node = told
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref());
        cells.push(ip.unwrap_or("<none>").into());
        cells.push(node.unwrap_or("<none>").into());
        cells.push(source(&told.pod).into());
        cells.push(probes(told).into());
    }
    cells
}

/// The widths of columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Widths(Vec<usize>);

impl Widths {
    /// At least as wide as these rows need.
    pub(crate) fn fit(&mut self, rows: &[Vec<Cell>]) {
        for row in rows {
            for (index, cell) in row.iter().enumerate() {
                let width = cell.text.chars().count();
                match self.0.get_mut(index) {
                    Some(old) => *old = (*old).max(width),
                    None => self.0.push(width),
                }
            }
        }
    }

    /// One line for each row.
    pub(crate) fn lines(&self, rows: &[Vec<Cell>], paint: Paint) -> String {
        let mut text = String::new();
        for row in rows {
            for (index, cell) in row.iter().enumerate() {
                text.push_str(&paint.tint(cell.tone, &cell.text));
                if index + 1 < row.len() {
                    let width = self.0.get(index).copied().unwrap_or_default();
                    let missing = width.saturating_sub(cell.text.chars().count());
                    text.push_str(&" ".repeat(missing + 3));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// A whole table.
pub(crate) fn table(rows: &[Vec<Cell>], paint: Paint) -> String {
    let mut widths = Widths::default();
    widths.fit(rows);
    widths.lines(rows, paint)
}
