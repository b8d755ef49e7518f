//! Times and durations in a query, parsed as Go does.
//!
//! In:    `sinceTime`, `timeout`
//! Out:   the value, or Go's error text
//! Calls: `options`
//! Holds: pure
//! Upstream: Go's time.ParseDuration; apimachinery pkg/apis/meta/v1 UnmarshalQueryParameter (1.36)

use std::time::Duration;

use crate::base::failure::Failure;
use crate::base::rfc3339;
use crate::request::path::Query;

/// Go's zero time, which an empty text means.
const ZERO: &str = "0001-01-01T00:00:00Z";

/// A time, in the form in which it is passed on.
pub(crate) fn instant(text: &str) -> Result<String, Failure> {
    if text.is_empty() || text == "null" {
        return Ok(ZERO.to_owned());
    }
    let at = rfc3339::read(text).map_err(Failure::bad_request)?;
    Ok(crate::base::object::time(at))
}

/// The client's timeout; absent and 0 mean the server's own limit.
pub(crate) fn timeout(query: &Query) -> Result<Option<Duration>, Failure> {
    let Some(text) = query.get("timeout") else {
        return Ok(None);
    };
    let nanoseconds = duration(text).map_err(|why| {
        Failure::bad_request(format!(
            "invalid timeout specified in the request URL - {why}"
        ))
    })?;
    // A negative value counts as none.
    let wanted = u64::try_from(nanoseconds).ok().filter(|wanted| *wanted > 0);
    Ok(wanted.map(Duration::from_nanos))
}

/// Parses a duration, in nanoseconds.
fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut sum = 0.0_f64;
    while !rest.is_empty() {
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let number = number.parse::<f64>().map_err(|_| invalid())?;
        let end = after
            .find(|letter: char| letter == '.' || letter.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        sum += number
            * match unit {
                "" => return Err(format!("time: missing unit in duration {text:?}")),
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
            };
        rest = after;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what does not fit is refused before"
    )]
    match sum < 9.2e18 {
        true => Ok(if negative { -sum } else { sum } as i64),
        false => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_passed_on_in_utc_and_none_is_the_first_of_all() {
        let refused = instant("yesterday").unwrap_err();
        assert_eq!(refused.code, 400);
        assert_eq!(
            instant("2026-01-01T01:00:00.5+01:00").unwrap(),
            "2026-01-01T00:00:00Z"
        );
        assert_eq!(instant("").unwrap(), ZERO);
    }

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [
            ("5s", Some(5.0)),
            ("1m30.5s", Some(90.5)),
            ("0", None),
            ("-1s", None),
        ] {
            let query = Query::parse(&format!("timeout={text}"));
            assert_eq!(
                timeout(&query).unwrap().map(|d| d.as_secs_f64()),
                seconds,
                "{text}"
            );
        }
        for (text, why) in [
            ("5", "missing unit in duration \"5\""),
            ("x", "invalid duration \"x\""),
            ("5y", "unknown unit \"y\" in duration \"5y\""),
        ] {
            let query = Query::parse(&format!("timeout={text}"));
            let refused = timeout(&query).unwrap_err().message;
            assert_eq!(
                refused,
                format!("invalid timeout specified in the request URL - time: {why}")
            );
        }
    }
}
