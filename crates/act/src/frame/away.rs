//! Shared back-off while the API server is unreachable: one probing call for all writers, growing intervals, few log lines.
//!
//! In:    errors and answers of calls
//! Out:   until when no call is worth its while
//! Calls: status_write, mirror_pods
//! Holds: only an error of the server as a whole counts as unreachable, never the refusal of one object; `Retry-After` is
//!        honoured; writers resume within [`MOST`] of the server's return
//! Upstream: none; differences: upstream's managers ask for each pod every 10 s, and log each failure

use std::time::Duration;

use kubelet_cluster::{ClusterError, Happened};
use kubelet_model::doubling::Doubling;
use tokio::time::Instant;

/// After the first failure; doubles up to the longest.
const WAITS: Doubling = Doubling::new(Duration::from_secs(1), MOST);
/// The longest, when the server does not ask for more.
pub(crate) const MOST: Duration = Duration::from_secs(10);
/// While it lasts, it is said this often.
const SAY_AGAIN: Duration = Duration::from_secs(300);

/// Whether the server is there, as far as one task knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Away {
    failures: u32,
    /// Since when, until when, and when it was said.
    now: Option<(Instant, Instant, Instant)>,
}

/// Whether the failure is the server's as a whole: there is no connection, or it is too busy.
pub(crate) fn is_of_server(error: &ClusterError) -> bool {
    match error {
        ClusterError::Unreachable { .. }
        | ClusterError::Credentials { .. }
        | ClusterError::Crowded { .. }
        | ClusterError::Lost { .. } => true,
        // One that was sent may hang on its own.
        ClusterError::Deadline { happened, .. } => *happened == Happened::No,
        ClusterError::Refused { refusal, .. } => matches!(refusal.code, 429 | 503),
        _ => false,
    }
}

impl Away {
    /// A call failed, and [`is_of_server`].
    pub(crate) fn failed(&mut self, what: &'static str, error: &ClusterError) {
        let now = Instant::now();
        self.failures = self.failures.saturating_add(1);
        let pause = WAITS.after(self.failures);
        let asked = error.retry_after().unwrap_or_default();
        let (since, mut said) = match self.now {
            Some((since, _, said)) => (since, Some(said)),
            None => (now, None),
        };
        if said.is_none_or(|said| now.duration_since(said) >= SAY_AGAIN) {
            tracing::warn!(what, error = %error, lasts = ?now.duration_since(since), "API server is away; tried again");
            said = Some(now);
        }
        let until = now + pause.max(asked);
        self.now = Some((since, until, said.unwrap_or(now)));
    }

    /// The server answered something.
    pub(crate) fn answered(&mut self, what: &'static str) {
        self.failures = 0;
        if let Some((since, ..)) = self.now.take() {
            tracing::info!(what, lasted = ?since.elapsed(), "API server answers again");
        }
    }

    /// It was away when it was last asked.
    pub(crate) fn is_away(&self) -> bool {
        self.now.is_some()
    }

    /// Until when it is not asked; `None` when it may be asked now.
    pub(crate) fn until(&self) -> Option<Instant> {
        let (_, until, _) = self.now?;
        Some(until).filter(|until| *until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use kubelet_cluster::Refusal;

    use super::*;

    fn unreachable() -> ClusterError {
        ClusterError::Unreachable {
            operation: "test",
            message: "refused".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_to_ten_seconds_and_end_with_an_answer() {
        let mut away = Away::default();
        let mut waits = Vec::new();
        for _ in 0..6 {
            away.failed("test", &unreachable());
            let until = away.until().unwrap();
            waits.push(until.duration_since(Instant::now()).as_secs());
            tokio::time::sleep_until(until).await;
            assert!(away.until().is_none() && away.is_away());
        }
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        away.answered("test");
        assert!(!away.is_away());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_an_eternity_is_asked_again_within_five_minutes() {
        let mut away = Away::default();
        let refusal = Refusal {
            code: 429,
            retry_after: Some(Duration::from_secs(u64::MAX)),
            ..Refusal::default()
        };
        away.failed(
            "test",
            &ClusterError::Refused {
                operation: "test",
                refusal: Box::new(refusal),
            },
        );
        let wait = away.until().unwrap().duration_since(Instant::now());
        assert_eq!(wait, Duration::from_secs(300));
    }

    #[test]
    fn only_what_concerns_all_calls_is_of_the_server() {
        let deadline = |happened| ClusterError::Deadline {
            operation: "test",
            after: MOST,
            happened,
        };
        assert!(is_of_server(&unreachable()));
        assert!(is_of_server(&deadline(Happened::No)));
        assert!(!is_of_server(&deadline(Happened::Maybe)));
    }
}
