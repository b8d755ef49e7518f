//! Which of several pods of one full name may run now: never two at once, and whoever runs already goes before whoever does not.
//!
//! In:    the pods that want the name in order of their arrival, what runs of each; pods of the name that nobody wants
//! Out:   one `Turn` per pod
//! Calls: act/pod/sync_loop.rs whenever a pod of the name comes, goes, ends or changes in the runtime
//! Holds: a pod that has the name keeps it until it ends or goes; no pod gets it while another of the name runs; what is wanted
//!        and does not get it waits, and is told for whom
//! Upstream: pkg/kubelet/pod_workers.go (allowStaticPodStart, 1.36); differences: there only static pods of this process count, so
//!        that after a restart two of them may run at once, in the order in which the sources spoke

use kubelet_model::ids::PodUid;

/// Whether something of a pod runs, as far as the runtime was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Seen running: an earlier process started it.
    Yes,
    /// Seen not running.
    No,
    /// It could not be looked at yet. Others wait for it, and nobody is stopped for it.
    Unknown,
}

/// How a pod that wants the name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// It has the name.
    Has,
    /// It was told to wait.
    Waits {
        /// Whether something of it runs all the same.
        runs: Runs,
    },
    /// It is being stopped, by whatever cause, and does not want the name any more.
    Leaves,
    /// Its containers are done for good: it needs no name.
    Ended,
}

/// One pod that wants the name, or had it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The pod.
    pub uid: &'a PodUid,
    /// How it stands.
    pub state: ClaimState,
}

/// What a pod may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may run.
    Has,
    /// It waits for the end of this one.
    Waits(PodUid),
    /// It runs though this one goes first: it is stopped, and waits after that.
    Yields(PodUid),
    /// Nothing changes for it.
    AsItIs,
}

/// The turn of each claim, in the order of the claims. Strangers are pods of the name in the runtime that make no claim.
pub fn turns(claims: &[Claim<'_>], strangers: &[PodUid]) -> Vec<Turn> {
    claims
        .iter()
        .map(|claim| match claim.state {
            ClaimState::Has | ClaimState::Leaves | ClaimState::Ended => Turn::AsItIs,
            ClaimState::Waits { runs } => turn(claim.uid, runs, claims, strangers),
        })
        .collect()
}

fn turn(uid: &PodUid, runs: Runs, claims: &[Claim<'_>], strangers: &[PodUid]) -> Turn {
    let first = |state: &dyn Fn(ClaimState) -> bool| {
        let mut found = claims.iter().filter(|claim| state(claim.state));
        found.next().map(|claim| claim.uid)
    };
    let is_running = |state| state == ClaimState::Waits { runs: Runs::Yes };
    let may_run = |state| {
        is_running(state)
            || state
                == ClaimState::Waits {
                    runs: Runs::Unknown,
                }
    };
    let ahead = first(&|state| state == ClaimState::Has).or_else(|| first(&is_running));
    match ahead.filter(|other| *other != uid) {
        Some(other) if runs == Runs::Yes => return Turn::Yields(other.clone()),
        Some(other) => return Turn::Waits(other.clone()),
        None => {}
    }
    let others = claims
        .iter()
        .filter(|claim| claim.uid != uid)
        .filter(|claim| may_run(claim.state) || claim.state == ClaimState::Leaves)
        .map(|claim| claim.uid)
        .chain(strangers);
    if let Some(other) = others.into_iter().next() {
        return Turn::Waits(other.clone());
    }
    match first(&|state| matches!(state, ClaimState::Waits { .. })) {
        Some(other) if other != uid && runs == Runs::No => Turn::Waits(other.clone()),
        Some(_) | None => Turn::Has,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAS: ClaimState = ClaimState::Has;
    const IDLE: ClaimState = ClaimState::Waits { runs: Runs::No };
    const RUNS: ClaimState = ClaimState::Waits { runs: Runs::Yes };
    const UNSEEN: ClaimState = ClaimState::Waits {
        runs: Runs::Unknown,
    };
    const LEAVES: ClaimState = ClaimState::Leaves;
    const ENDED: ClaimState = ClaimState::Ended;

    fn check(states: &[ClaimState], strangers: &[&str], expected: &str) {
        let uids: Vec<PodUid> = (0..states.len())
            .map(|n| PodUid::parse(&n.to_string()).unwrap())
            .collect();
        let claims: Vec<Claim<'_>> = uids
            .iter()
            .zip(states)
            .map(|(uid, state)| Claim { uid, state: *state })
            .collect();
        let strangers: Vec<PodUid> = strangers
            .iter()
            .map(|uid| PodUid::parse(uid).unwrap())
            .collect();
        let words: Vec<String> = turns(&claims, &strangers)
            .into_iter()
            .map(|turn| match turn {
                Turn::Has => "has".to_owned(),
                Turn::Waits(uid) => format!("waits for {uid}"),
                Turn::Yields(uid) => format!("yields to {uid}"),
                Turn::AsItIs => "-".to_owned(),
            })
            .collect();
        assert_eq!(words.join(", "), expected, "{states:?} {strangers:?}");
    }

    #[test]
    fn one_has_the_name_and_the_others_wait_for_it() {
        check(&[IDLE], &[], "has");
        check(&[IDLE, IDLE, IDLE], &[], "has, waits for 0, waits for 0");
        check(&[HAS, IDLE], &[], "-, waits for 0");
        check(&[IDLE, HAS], &[], "waits for 1, -");
        check(&[LEAVES, IDLE], &[], "-, waits for 0");
        check(&[ENDED, IDLE, IDLE], &[], "-, has, waits for 1");
    }

    #[test]
    fn whoever_runs_already_goes_first() {
        check(&[IDLE, RUNS], &[], "waits for 1, has");
        check(&[RUNS, IDLE], &[], "has, waits for 0");
    }

    #[test]
    fn of_two_that_run_the_later_yields_and_the_first_waits_for_its_end() {
        check(&[RUNS, RUNS], &[], "waits for 1, yields to 0");
        check(&[RUNS, LEAVES], &[], "waits for 1, -");
        check(&[RUNS], &[], "has");
        check(&[HAS, RUNS], &[], "-, yields to 0");
    }

    #[test]
    fn what_could_not_be_looked_at_is_waited_for_and_nobody_is_stopped_for_it() {
        check(&[UNSEEN, RUNS], &[], "waits for 1, waits for 0");
        check(&[UNSEEN, IDLE], &[], "has, waits for 0");
        check(&[UNSEEN, UNSEEN], &[], "waits for 1, waits for 0");
        check(&[HAS, UNSEEN], &[], "-, waits for 0");
    }

    #[test]
    fn what_nobody_wants_any_more_is_waited_for() {
        check(&[IDLE], &["x"], "waits for x");
        check(&[IDLE, RUNS], &["x"], "waits for 1, waits for x");
    }
}
