//! What is known of a pod besides its object and its status: probes, waits, the stages of its start.
//!
//! In:    from the owners of these facts
//! Out:   [`Story`], which the node's own commands show
//! Calls: act fills it, the crate `story` carries and renders it
//! Holds: values of one moment; times are wall-clock times, which are only shown; texts are cut
//! Upstream: none

use jiff::Timestamp;
use serde::Serialize;

/// The longest text of one wait or one failure, in bytes.
pub const TEXT_BYTES: usize = 1024;

/// A text, cut to [`TEXT_BYTES`].
pub fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// What is known of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Story {
    /// Its probes, in the order of the spec.
    pub probes: Vec<Probe>,
    /// What it waits for.
    pub waits: Vec<Wait>,
    /// What its worker does now.
    pub doing: Vec<String>,
    /// The stages of its start, in the order in which they were reached.
    pub stages: Vec<Stage>,
}

/// One probe of the instance that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// The container.
    pub container: String,
    /// `Startup`, `Readiness` or `Liveness`.
    pub kind: String,
    /// What it says by its thresholds; `None` before it has said anything.
    pub verdict: Option<Verdict>,
    /// The last try that counted.
    pub last: Option<LastTry>,
    /// The last failure, also after a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When this instance answered well for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_success: Option<Timestamp>,
    /// What comes next.
    pub next: Next,
}

/// What a probe says by its thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// It has succeeded often enough.
    Success,
    /// It has failed often enough, or has not succeeded yet.
    Failure,
}

/// The last try of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastTry {
    /// When it ended.
    pub at: Timestamp,
    /// Whether the container answered well.
    pub succeeded: bool,
    /// How many tries in a row ended like this.
    pub in_a_row: u32,
}

/// A try that did not end well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// When it ended.
    pub at: Timestamp,
    /// What was wrong.
    pub text: String,
}

/// What comes next of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Next {
    /// It is tried at this time.
    At(Timestamp),
    /// A try is under way.
    UnderWay,
    /// It begins when the startup probe has succeeded.
    AfterStartup,
    /// It is not tried any more: it has spoken for this instance.
    Settled,
}

/// What a wait is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitOf {
    /// The pod as a whole.
    Pod,
    /// A container, by name.
    Container(String),
    /// A volume, by name.
    Volume(String),
    /// The stop of a container, by name.
    Stop(String),
}

/// One thing that is held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// What is held back.
    pub of: WaitOf,
    /// Why, as status shows it.
    pub reason: String,
    /// The text.
    pub message: String,
    /// When it is tried again; `None` when it waits for something to happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// One stage of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Its word.
    pub stage: String,
    /// When it was reached.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        let text = "ä".repeat(TEXT_BYTES);
        assert_eq!(cut(&text).len(), TEXT_BYTES);
        let odd = format!("a{text}");
        assert_eq!(cut(&odd).len(), TEXT_BYTES - 1);
        assert_eq!(cut("short"), "short");
    }
}
