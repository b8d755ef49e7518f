//! Stories as messages and back.
//!
//! In:    `model::story` values; messages
//! Out:   the other
//! Calls: `source`, `client`
//! Holds: what a newer kubelet says and this program does not know is read as nothing; times are nanoseconds, 0 is none
//! Upstream: none

use jiff::Timestamp;
use kubelet_model::story::{self, Story};

use crate::stubs::story::{self as wire, PodStory, probe, wait};

fn nanos(at: Option<Timestamp>) -> i64 {
    let nanos = at.map_or(0, Timestamp::as_nanosecond);
    i64::try_from(nanos).unwrap_or_default()
}

fn time(nanos: i64) -> Option<Timestamp> {
    (nanos != 0)
        .then(|| Timestamp::from_nanosecond(nanos.into()).ok())
        .flatten()
}

impl PodStory {
    /// A pod's JSON and what is told of it.
    pub(crate) fn of(pod: Vec<u8>, story: &Story) -> Self {
        Self {
            pod,
            probes: story.probes.iter().map(probe_message).collect(),
            waits: story.waits.iter().map(wait_message).collect(),
            doing: story.doing.clone(),
            stages: story
                .stages
                .iter()
                .map(|stage| wire::Stage {
                    stage: stage.stage.clone(),
                    at: nanos(Some(stage.at)),
                })
                .collect(),
        }
    }

    /// What is told of the pod.
    pub(crate) fn story(&self) -> Story {
        Story {
            probes: self.probes.iter().map(probe_of).collect(),
            waits: self.waits.iter().map(wait_of).collect(),
            doing: self.doing.clone(),
            stages: self
                .stages
                .iter()
                .filter_map(|stage| {
                    Some(story::Stage {
                        stage: stage.stage.clone(),
                        at: time(stage.at)?,
                    })
                })
                .collect(),
        }
    }
}

fn probe_message(probe: &story::Probe) -> wire::Probe {
    let last = probe.last.as_ref();
    let failure = probe.failure.as_ref();
    let (next, next_at) = match probe.next {
        story::Next::Settled => (probe::Next::Settled, None),
        story::Next::At(at) => (probe::Next::At, Some(at)),
        story::Next::UnderWay => (probe::Next::UnderWay, None),
        story::Next::AfterStartup => (probe::Next::AfterStartup, None),
    };
    wire::Probe {
        container: probe.container.clone(),
        kind: probe.kind.clone(),
        verdict: match probe.verdict {
            None => probe::Verdict::None,
            Some(story::Verdict::Success) => probe::Verdict::Success,
            Some(story::Verdict::Failure) => probe::Verdict::Failure,
        }
        .into(),
        last_at: nanos(last.map(|last| last.at)),
        last_succeeded: last.is_some_and(|last| last.succeeded),
        in_a_row: last.map_or(0, |last| last.in_a_row),
        failure_at: nanos(failure.map(|failure| failure.at)),
        failure: failure.map_or_else(String::new, |failure| failure.text.clone()),
        first_success: nanos(probe.first_success),
        next: next.into(),
        next_at: nanos(next_at),
    }
}

fn probe_of(probe: &wire::Probe) -> story::Probe {
    let last = time(probe.last_at).map(|at| story::LastTry {
        at,
        succeeded: probe.last_succeeded,
        in_a_row: probe.in_a_row,
    });
    let failure = time(probe.failure_at).map(|at| story::Failure {
        at,
        text: probe.failure.clone(),
    });
    story::Probe {
        container: probe.container.clone(),
        kind: probe.kind.clone(),
        verdict: match probe.verdict() {
            probe::Verdict::None => None,
            probe::Verdict::Success => Some(story::Verdict::Success),
            probe::Verdict::Failure => Some(story::Verdict::Failure),
        },
        last,
        failure,
        first_success: time(probe.first_success),
        next: match (probe.next(), time(probe.next_at)) {
            (probe::Next::At, Some(at)) => story::Next::At(at),
            (probe::Next::UnderWay, _) => story::Next::UnderWay,
            (probe::Next::AfterStartup, _) => story::Next::AfterStartup,
            (probe::Next::Settled | probe::Next::At, _) => story::Next::Settled,
        },
    }
}

fn wait_message(wait: &story::Wait) -> wire::Wait {
    let (of, name) = match &wait.of {
        story::WaitOf::Pod => (wait::Of::Pod, ""),
        story::WaitOf::Container(name) => (wait::Of::Container, name.as_str()),
        story::WaitOf::Volume(name) => (wait::Of::Volume, name.as_str()),
        story::WaitOf::Stop(name) => (wait::Of::Stop, name.as_str()),
    };
    wire::Wait {
        of: of.into(),
        name: name.to_owned(),
        reason: wait.reason.clone(),
        message: wait.message.clone(),
        until: nanos(wait.until),
    }
}

fn wait_of(wait: &wire::Wait) -> story::Wait {
    let name = wait.name.clone();
    story::Wait {
        of: match wait.of() {
            wait::Of::Pod => story::WaitOf::Pod,
            wait::Of::Container => story::WaitOf::Container(name),
            wait::Of::Volume => story::WaitOf::Volume(name),
            wait::Of::Stop => story::WaitOf::Stop(name),
        },
        reason: wait.reason.clone(),
        message: wait.message.clone(),
        until: time(wait.until),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_comes_back_as_it_was() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let probe = |next, verdict| story::Probe {
            container: "c".to_owned(),
            kind: "Readiness".to_owned(),
            verdict,
            last: Some(story::LastTry {
                at: at(3),
                succeeded: false,
                in_a_row: 7,
            }),
            failure: Some(story::Failure {
                at: at(3),
                text: "refused".to_owned(),
            }),
            first_success: Some(at(2)),
            next,
        };
        let wait = |of| story::Wait {
            of,
            reason: "R".to_owned(),
            message: "m".to_owned(),
            until: Some(at(9)),
        };
        let mut bare = probe(story::Next::Settled, None);
        (bare.last, bare.failure, bare.first_success) = (None, None, None);
        let whole = Story {
            probes: vec![
                probe(story::Next::At(at(8)), Some(story::Verdict::Failure)),
                probe(story::Next::UnderWay, Some(story::Verdict::Success)),
                probe(story::Next::AfterStartup, None),
                bare,
            ],
            waits: vec![
                wait(story::WaitOf::Pod),
                wait(story::WaitOf::Container("c".to_owned())),
                wait(story::WaitOf::Volume("v".to_owned())),
                wait(story::WaitOf::Stop("c".to_owned())),
            ],
            doing: vec!["starting container c".to_owned()],
            stages: vec![story::Stage {
                stage: "queued".to_owned(),
                at: at(1),
            }],
        };
        assert_eq!(PodStory::of(Vec::new(), &whole).story(), whole);
    }
}
