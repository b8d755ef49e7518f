//! Times and durations as people read them.
//!
//! In:    moments
//! Out:   `2m10s`, `1.234s`, `17:04:05.678`
//! Calls: `row`, `why`, `describe`, `timeline`
//! Holds: pure; ages are kubectl's
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/duration/duration.go

use jiff::Timestamp;

/// Whole seconds from one moment to another.
pub(crate) fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs()
}

/// Go's short form of an age in seconds.
pub(crate) fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let with_rest = |whole: i64, unit: &str, rest: i64, rest_unit: &str| match rest {
        0 => format!("{whole}{unit}"),
        _ => format!("{whole}{unit}{rest}{rest_unit}"),
    };
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => with_rest(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => with_rest(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => with_rest(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => with_rest(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// The age at `now` of what was at `at`.
pub(crate) fn since(at: Timestamp, now: Timestamp) -> String {
    age(seconds(at, now))
}

/// How long something took, to the millisecond while that says something.
pub(crate) fn took(from: Timestamp, to: Timestamp) -> String {
    let millis = to.duration_since(from).as_millis().max(0);
    match i64::try_from(millis).unwrap_or(i64::MAX) {
        millis @ ..1000 => format!("{millis}ms"),
        millis @ ..60_000 => format!("{}.{:03}s", millis / 1000, millis % 1000),
        millis => age(millis / 1000),
    }
}

/// A moment of the day, to the millisecond.
pub(crate) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S%.3f").to_string()
}

/// A date and a time, to the second.
pub(crate) fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_at_a_glance() {
        let begin = Timestamp::from_second(1_000_000).unwrap();
        let after = |millis: i64| begin + jiff::SignedDuration::from_millis(millis);
        for (millis, text, aged) in [
            (0, "0ms", "0s"),
            (-5, "0ms", "0s"),
            (999, "999ms", "0s"),
            (1234, "1.234s", "1s"),
            (59_999, "59.999s", "59s"),
            (119_000, "119s", "119s"),
            (130_000, "2m10s", "2m10s"),
            (3_600_000, "60m", "60m"),
            (4 * 3_600_000, "4h", "4h"),
            (50 * 3_600_000, "2d2h", "2d2h"),
            (800 * 24 * 3_600_000, "2y70d", "2y70d"),
        ] {
            assert_eq!(took(begin, after(millis)), text);
            assert_eq!(since(begin, after(millis)), aged);
        }
        assert_eq!(clock(after(17)), "13:46:40.017");
        assert_eq!(date(begin), "1970-01-12T13:46:40Z");
    }
}
