//! `/debug/pprof/`, as far as it applies to a program that is not written in Go.
//!
//! In:    the path
//! Out:   the command line; for Go's runtime profiles, a text that there are none
//! Calls: `answer`
//! Holds: no profiling runs, so none can slow the node down
//! Upstream: Go net/http/pprof; differences: no profiles

use hyper::StatusCode;

use crate::body::Answer;
use crate::replies::{error, plain};

/// Go's profiles, by the names that clients use.
const GO_PROFILES: [&str; 9] = [
    "allocs",
    "block",
    "goroutine",
    "heap",
    "mutex",
    "profile",
    "symbol",
    "threadcreate",
    "trace",
];

pub(crate) fn profile(path: &str) -> Answer {
    let name = path
        .strip_prefix("/debug/pprof")
        .unwrap_or_default()
        .trim_matches('/');
    match name {
        "" => plain(
            StatusCode::OK,
            "/debug/pprof/\n\ncmdline\n\nThis program is not written in Go: it has no profiles of Go's runtime. \
             Use perf on the process; /debug/tasks shows what its tasks do.\n"
                .to_owned(),
        ),
        "cmdline" => match std::fs::read("/proc/self/cmdline") {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\0').to_owned();
                plain(StatusCode::OK, line)
            }
            Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
        },
        name if GO_PROFILES.contains(&name) => error(
            StatusCode::NOT_IMPLEMENTED,
            &format!("no profile {name:?}: this program is not written in Go"),
        ),
        _ => error(StatusCode::NOT_FOUND, "Unknown profile"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_command_line_and_honest_words_for_the_rest() {
        let status = |path: &str| profile(path).status().as_u16();
        assert_eq!(
            ["/debug/pprof", "/debug/pprof/", "/debug/pprof/cmdline"].map(status),
            [200; 3]
        );
        assert_eq!(
            ["/debug/pprof/heap", "/debug/pprof/profile"].map(status),
            [501; 2]
        );
        assert_eq!(status("/debug/pprof/x"), 404);
    }
}
