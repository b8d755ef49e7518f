//! Samples and the table they end in.
//!
//! In:    measured values
//! Out:   the table on stdout and as markdown
//! Calls: all phases
//! Holds: a verdict only ever on a median or a percentile of stated samples; a miss is printed as plainly as a hit
//! Upstream: none

use std::fmt::Write as _;

/// Measured values, in the order they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Each value by the other's of the same round.
    pub(crate) fn by(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    fn sorted(&self) -> Vec<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The middle value, or the mean of the two in the middle; 0 without samples.
    pub(crate) fn median(&self) -> f64 {
        let values = self.sorted();
        let half = values.len() / 2;
        match (values.get(half), values.len() % 2) {
            (Some(middle), 1) => *middle,
            (Some(above), _) => {
                f64::midpoint(values.get(half - 1).copied().unwrap_or(*above), *above)
            }
            (None, _) => 0.0,
        }
    }

    /// The smallest value that is not exceeded by `share` (0 to 1) of all (nearest rank).
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among a few hundred samples"
    )]
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let values = self.sorted();
        let rank = (share * values.len() as f64).ceil().max(1.0) as usize;
        values.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn min(&self) -> f64 {
        self.percentile(0.0)
    }

    pub(crate) fn max(&self) -> f64 {
        self.percentile(1.0)
    }

    /// The same of ratios, in hundredths.
    pub(crate) fn times(&self, what: &str) -> String {
        format!(
            "{:.2} x {what} ({:.2} … {:.2})",
            self.median(),
            self.min(),
            self.max()
        )
    }

    /// `median (min … max, n=…)` in the given unit.
    pub(crate) fn spread(&self, unit: &str) -> String {
        format!(
            "{:.1} {unit} ({:.1} … {:.1}, n={})",
            self.median(),
            self.min(),
            self.max(),
            self.len()
        )
    }
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    figure: String,
    value: String,
    floor: String,
    target: String,
    met: Option<bool>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// A figure without a target.
    pub(crate) fn note(
        &mut self,
        figure: &str,
        value: impl Into<String>,
        floor: impl Into<String>,
    ) {
        self.rows.push(Row {
            figure: figure.to_owned(),
            value: value.into(),
            floor: floor.into(),
            target: "–".to_owned(),
            met: None,
        });
    }

    /// A figure with a target.
    pub(crate) fn judge(
        &mut self,
        figure: &str,
        value: impl Into<String>,
        floor: impl Into<String>,
        (target, met): (&str, bool),
    ) {
        self.rows.push(Row {
            figure: figure.to_owned(),
            value: value.into(),
            floor: floor.into(),
            target: target.to_owned(),
            met: Some(met),
        });
    }

    /// A time beside its floor, judged by how much it is over that; milliseconds.
    pub(crate) fn over_floor(&mut self, figure: &str, of: &Samples, floor: &Samples, most: f64) {
        let over = of.median() - floor.median();
        self.judge(
            figure,
            format!("{}; floor {over:+.1} ms", of.spread("ms")),
            floor.spread("ms"),
            (&format!("<= floor + {most} ms"), over <= most),
        );
    }

    pub(crate) fn misses(&self) -> usize {
        self.rows
            .iter()
            .filter(|row| row.met == Some(false))
            .count()
    }

    /// The table as markdown, columns aligned so that it also reads well as text.
    pub(crate) fn markdown(&self) -> String {
        let head = ["figure", "value", "floor", "target", "met"].map(str::to_owned);
        let lines: Vec<[String; 5]> = std::iter::once(head)
            .chain(self.rows.iter().map(|row| {
                let met = match row.met {
                    Some(true) => "yes",
                    Some(false) => "MISS",
                    None => "–",
                };
                [&row.figure, &row.value, &row.floor, &row.target]
                    .map(Clone::clone)
                    .into_iter()
                    .chain(std::iter::once(met.to_owned()))
                    .collect::<Vec<_>>()
                    .try_into()
                    .unwrap_or_default()
            }))
            .collect();
        let mut widths = [0; 5];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            for (width, cell) in widths.iter().zip(line) {
                // Writing to a String cannot fail.
                let _written = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
            if number == 0 {
                for width in widths {
                    let _written = write!(text, "|{}", "-".repeat(width + 2));
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples(values.to_vec())
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(samples(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(samples(&[9.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(samples(&[]).median(), 0.0);
    }

    #[test]
    fn p99_of_200_is_the_198th() {
        let all = Samples((1..=200).map(f64::from).collect());
        assert_eq!(all.percentile(0.99), 198.0);
        assert_eq!((all.min(), all.max()), (1.0, 200.0));
    }

    #[test]
    fn a_miss_is_counted_and_shown() {
        let mut table = Table::default();
        table.judge("a", "2", "1", ("<= 1", false));
        table.note("b", "3", "");
        assert_eq!(table.misses(), 1);
        assert!(table.markdown().contains("MISS"));
    }
}
