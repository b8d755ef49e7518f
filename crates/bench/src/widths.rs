//! The floor of many pods at once: its best width, and its samples there.
//!
//! In:    the floor, a recording, the process that must not run meanwhile
//! Out:   the width with the lowest median, with its starts and ends, a sample a round; rows of the table
//! Calls: pods, api_pods
//! Holds: every width is tried once, only to choose: the best goes on, and the second too when one run each is not enough to choose
//!        between them. A machine grows slower while pods come and go (cgroups linger), so each run is held against the floor's run
//!        of the same round, and who goes first alternates
//! Upstream: none

use crate::figures::{Samples, Table};
use crate::floor::Floor;
use crate::program::Program;
use crate::recording::Recording;

/// Widths of the floor for many pods.
const WIDTHS: [usize; 5] = [1, 2, 4, 8, 16];

/// Widths this close to the best one are measured on.
const CLOSE: f64 = 1.05;

/// Samples of one width, in seconds.
#[derive(Debug, Default)]
pub(crate) struct Width {
    pub(crate) width: usize,
    pub(crate) start: Samples,
    pub(crate) end: Samples,
}

/// The widths that are measured on.
#[derive(Debug)]
pub(crate) struct Widths {
    /// What one run of each width said.
    scouted: String,
    count: u32,
    going_on: Vec<Width>,
}

impl Widths {
    /// Tries all.
    pub(crate) fn scout(
        floor: &mut Floor,
        recording: &Recording,
        program: &Program,
        count: u32,
    ) -> anyhow::Result<Self> {
        let going_on = WIDTHS.map(|width| Width {
            width,
            ..Width::default()
        });
        let mut widths = Self {
            scouted: String::new(),
            count,
            going_on: going_on.into(),
        };
        widths.again(floor, recording, program)?;
        let scouted: Vec<String> = widths
            .going_on
            .iter()
            .map(|one| format!("{}: {:.2}", one.width, one.start.median()))
            .collect();
        widths.scouted = scouted.join(", ");
        let best = widths.best().map_or(0.0, |best| best.start.median());
        widths
            .going_on
            .retain(|one| one.start.median() <= best * CLOSE);
        widths
            .going_on
            .sort_by(|a, b| a.start.median().total_cmp(&b.start.median()));
        widths.going_on.truncate(2);
        for one in &mut widths.going_on {
            (one.start, one.end) = (Samples::default(), Samples::default());
        }
        Ok(widths)
    }

    /// One more round.
    pub(crate) fn again(
        &mut self,
        floor: &mut Floor,
        recording: &Recording,
        program: &Program,
    ) -> anyhow::Result<()> {
        for one in &mut self.going_on {
            let times = program.frozen(|| floor.run(recording, self.count, one.width))?;
            crate::say(&format!(
                "  floor of {} pods, width {}: {:.2} s, end {:.2} s",
                self.count, one.width, times.start, times.end
            ));
            one.start.push(times.start);
            one.end.push(times.end);
        }
        Ok(())
    }

    /// The width with the lowest median.
    fn best(&self) -> Option<&Width> {
        let medians =
            |one: &&Width, other: &&Width| one.start.median().total_cmp(&other.start.median());
        self.going_on.iter().min_by(medians)
    }

    /// Rows of the table: starts against the floor with the pods that each makes in a second, how the width was chosen, ends.
    pub(crate) fn report(
        &self,
        table: &mut Table,
        title: &str,
        (start, end): (&str, &str),
        (started, ended): (&Samples, &Samples),
        (target, limit): (&str, f64),
    ) {
        let Some(best) = self.best() else {
            return;
        };
        let ratios = started.by(&best.start);
        let pace = |samples: &Samples| f64::from(self.count) / samples.median();
        table.judge(
            &format!("{title}: {start}"),
            format!(
                "{}; {}; {:.1} pods/s",
                started.spread("s"),
                ratios.times("floor"),
                pace(started)
            ),
            format!(
                "{} at width {}; {:.1} pods/s",
                best.start.spread("s"),
                best.width,
                pace(&best.start)
            ),
            (target, ratios.median() <= limit),
        );
        table.note(
            &format!("{title}: floor by width, one run each (s)"),
            "",
            self.scouted.clone(),
        );
        table.note(
            &format!("{title}: {end}"),
            ended.spread("s"),
            best.end.spread("s"),
        );
    }
}
