//! `/healthz` and the checks below it.
//!
//! In:    the times at which the loops last ran, the check's name or the query
//! Out:   ok, or which check failed
//! Calls: `answer`
//! Holds: the health port has no check but ping
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/healthz (1.36)

use hyper::StatusCode;
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use tokio::time::Instant;

use crate::Port;
use crate::body::Answer;
use crate::replies::{error, plain};
use crate::shared::Shared;

/// `/healthz` (all checks, or all but the excluded ones) and `/healthz/<name>`.
pub(crate) fn health(shared: &Shared, only: Option<&str>, query: &str) -> Answer {
    let now = Instant::now();
    let loops: &[_] = if shared.port == Port::Healthz {
        &[]
    } else {
        &shared.state.health
    };
    let failure = |name: &str| {
        let check = loops.iter().find(|check| check.name == name)?;
        let last = *check.last_turn.borrow();
        last.is_some_and(|last| now.duration_since(last) > check.max_age)
            .then_some(check.failure)
    };
    if let Some(name) = only {
        return match failure(name) {
            Some(failure) => error(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("internal server error: {failure}"),
            ),
            None => plain(StatusCode::OK, "ok".to_owned()),
        };
    }
    let pairs = || {
        query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    };
    let mut excluded: Vec<&str> = pairs()
        .filter(|(key, _)| *key == "exclude")
        .map(|(_, name)| name)
        .collect();
    let builtin: &[&str] = if shared.port == Port::Healthz {
        &["ping"]
    } else {
        &["ping", "log"]
    };
    let (mut lines, mut failed) = (String::new(), false);
    for name in builtin
        .iter()
        .copied()
        .chain(loops.iter().map(|check| check.name))
    {
        if excluded.contains(&name) {
            excluded.retain(|other| *other != name);
            lines += &format!("[+]{name} excluded: ok\n");
            continue;
        }
        let failure = failure(name);
        shared.metrics.observe_health(name, failure.is_none());
        if let Some(failure) = failure {
            tracing::warn!(check = name, failure, "health check failed");
            lines += &format!("[-]{name} failed: reason withheld\n");
            failed = true;
        } else {
            lines += &format!("[+]{name} ok\n");
        }
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        lines += &format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            names.join(",")
        );
    }
    if failed {
        return error(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("{lines}healthz check failed"),
        );
    }
    let verbose = pairs().any(|(key, _)| key == "verbose");
    let mut answer = plain(
        StatusCode::OK,
        if verbose {
            format!("{lines}healthz check passed\n")
        } else {
            "ok".to_owned()
        },
    );
    answer
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
