//! What is told of probes to those who ask the node: the last try, the last failure, the next try.
//!
//! In:    answers of tries, timetables
//! Out:   `story::Probe`s
//! Calls: prober, which keeps one [`Told`] for each probe of an instance that runs
//! Holds: nothing decides on it; nothing of an instance is told of the next; one failure's text is kept, and it is cut; what an early try said counts as soon as it is a success
//! Upstream: none

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubelet_decide::probes::spec::probe_of;
use kubelet_decide::probes::timetable::{Outlook, Timetable, Try};
use kubelet_decide::shapes::probe::{ProbeKind, ProbeResult};
use kubelet_model::ids::ContainerId;
use kubelet_model::pod::Pod;
use kubelet_model::story::{self, cut};
use kubelet_probe::Answer;

/// What one probe of an instance said.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The instance.
    of: Option<ContainerId>,
    /// The last try that counted, and whether it went well.
    last: Option<(Timestamp, bool)>,
    failure: Option<(Timestamp, String)>,
    first_success: Option<Timestamp>,
}

impl Told {
    /// An answer of this instance.
    pub(crate) fn hear(&mut self, of: &ContainerId, answer: &Answer, as_: Try, at: Timestamp) {
        if self.of.as_ref() != Some(of) {
            *self = Self {
                of: Some(of.clone()),
                ..Self::default()
            };
        }
        let said = match answer {
            Answer::Success(_) | Answer::Warning(_) => {
                self.first_success.get_or_insert(at);
                self.last = Some((at, true));
                return;
            }
            Answer::Failure(said) => said,
            Answer::Error { message, .. } => message,
        };
        // An early one is told as well: it says what is missing. It counts as no failure.
        self.failure = Some((at, cut(said)));
        if as_ == Try::Regular {
            self.last = Some((at, false));
        }
    }
}

/// The probes of a pod's containers that run; `shown` makes wall time of steady time.
pub(crate) fn probes(
    pod: &Pod,
    tables: &BTreeMap<String, Timetable>,
    told: &BTreeMap<(String, ProbeKind), Told>,
    shown: impl Fn(Timestamp) -> Timestamp,
) -> Vec<story::Probe> {
    let mut probes = Vec::new();
    for spec in pod.all_containers() {
        let Some(table) = tables.get(&spec.name) else {
            continue;
        };
        for kind in ProbeKind::ALL {
            let Some((outlook, in_a_row)) = table.outlook(kind) else {
                continue;
            };
            if probe_of(spec, kind).is_none() {
                continue;
            }
            let told = told.get(&(spec.name.clone(), kind));
            let told = told.filter(|told| told.of.as_ref() == Some(&table.results().id));
            let last = told.and_then(|told| told.last);
            let failure = told.and_then(|told| told.failure.clone());
            let verdict = table.results().of(kind).map(|result| match result {
                ProbeResult::Success => story::Verdict::Success,
                ProbeResult::Failure => story::Verdict::Failure,
            });
            probes.push(story::Probe {
                container: spec.name.clone(),
                kind: kind.as_str().to_owned(),
                verdict,
                last: last.map(|(at, succeeded)| story::LastTry {
                    at,
                    succeeded,
                    in_a_row,
                }),
                failure: failure.map(|(at, text)| story::Failure { at, text }),
                first_success: told.and_then(|told| told.first_success),
                next: match outlook {
                    Outlook::At(at) => story::Next::At(shown(at)),
                    Outlook::UnderWay => story::Next::UnderWay,
                    Outlook::AfterStartup => story::Next::AfterStartup,
                    Outlook::Settled => story::Next::Settled,
                },
            });
        }
    }
    probes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn refused() -> Answer {
        Answer::Failure("connection refused".to_owned())
    }

    #[test]
    fn an_early_failure_is_told_and_does_not_count() {
        let (mut told, id) = (Told::default(), ContainerId::from("1".to_owned()));
        let failure = |seconds| Some((at(seconds), "connection refused".to_owned()));
        told.hear(&id, &refused(), Try::Early, at(1));
        assert_eq!((told.last, told.failure.clone()), (None, failure(1)));
        told.hear(&id, &refused(), Try::Regular, at(2));
        assert_eq!(told.last, Some((at(2), false)));
        told.hear(&id, &Answer::Success(String::new()), Try::Early, at(3));
        told.hear(&id, &Answer::Warning(String::new()), Try::Regular, at(4));
        let success = (told.last, told.first_success);
        assert_eq!(success, (Some((at(4), true)), Some(at(3))));
        assert_eq!(told.failure, failure(2));
    }

    #[test]
    fn nothing_of_an_instance_is_told_of_the_next() {
        let mut told = Told::default();
        let [one, two] = ["1", "2"].map(|id| ContainerId::from(id.to_owned()));
        told.hear(&one, &Answer::Success(String::new()), Try::Regular, at(1));
        told.hear(&two, &refused(), Try::Regular, at(2));
        assert_eq!(
            (told.first_success, told.last),
            (None, Some((at(2), false)))
        );
    }

    #[test]
    fn a_long_text_is_cut() {
        let mut told = Told::default();
        let message = "x".repeat(1 << 20);
        let state = "unknown";
        let answer = Answer::Error { state, message };
        told.hear(
            &ContainerId::from("1".to_owned()),
            &answer,
            Try::Regular,
            at(1),
        );
        let (_, text) = told.failure.unwrap();
        assert_eq!(text.len(), story::TEXT_BYTES);
    }
}
