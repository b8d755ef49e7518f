//! The options of `/containerLogs`, parsed and validated.
//!
//! In:    the query, whether separate streams are enabled, the current time
//! Out:   [`LogOptions`], or an error in upstream's words
//! Calls: `container_logs`
//! Holds: upstream's statuses: 400 for a value that cannot be parsed, 422 for an invalid one
//! Upstream: pkg/kubelet/server/server.go getContainerLogs, pkg/apis/core/v1/validation ValidatePodLogOptions, apimachinery
//!           conversion of url.Values (1.36)

use jiff::{SignedDuration, Timestamp};

use crate::query::Query;

/// Whether `stream` may name stdout or stderr: gate `PodLogsQuerySplitStreams`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStreams {
    /// Both streams together only.
    Together,
    /// Each stream separately, too.
    Apart,
}

/// The requested stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    All,
    Stdout,
    Stderr,
}

/// The validated options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    /// The number of lines from the end.
    pub(crate) tail: Option<u64>,
    /// The number of bytes of the response.
    pub(crate) limit: Option<u64>,
    /// Older lines are skipped.
    pub(crate) since: Option<Timestamp>,
    pub(crate) streams: Wanted,
}

/// A response that ends a request.
pub(crate) type Refusal = (u16, String);

impl LogOptions {
    pub(crate) fn read(
        query: &Query,
        streams: LogStreams,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let undecodable = |()| (400, r#"{"message": "Unable to decode query."}"#.to_owned());
        // An older name of the same option.
        let tail = match query.first("tail").filter(|tail| !tail.is_empty()) {
            Some("all") => None,
            Some(tail) => Some(tail),
            None => query.first("tailLines"),
        };
        let tail = tail.map(integer).transpose().map_err(undecodable)?;
        let number = |key| {
            query
                .first(key)
                .map(integer)
                .transpose()
                .map_err(undecodable)
        };
        let (limit, seconds) = (number("limitBytes")?, number("sinceSeconds")?);
        let time = query
            .first("sinceTime")
            .map(instant)
            .transpose()
            .map_err(undecodable)?;
        let stream = query.first("stream");
        let problems = problems(tail, limit, (seconds, time.is_some()), stream);
        if !problems.is_empty() {
            tracing::debug!(?problems, "log options refused");
            return Err((422, r#"{"message": "Invalid request."}"#.to_owned()));
        }
        let since = seconds.map(|seconds| now.saturating_sub(SignedDuration::from_secs(seconds)));
        Ok(Self {
            follow: boolean(query.first("follow")),
            previous: boolean(query.first("previous")),
            timestamps: boolean(query.first("timestamps")),
            tail: tail.and_then(|lines| lines.try_into().ok()),
            limit: limit.and_then(|bytes| bytes.try_into().ok()),
            since: since.and_then(Result::ok).or(time.flatten()),
            streams: wanted(stream, streams)?,
        })
    }
}

/// A single stream needs the gate.
fn wanted(stream: Option<&str>, streams: LogStreams) -> Result<Wanted, Refusal> {
    match (stream, streams) {
        (None | Some("All"), _) => Ok(Wanted::All),
        (Some("Stdout"), LogStreams::Apart) => Ok(Wanted::Stdout),
        (Some("Stderr"), LogStreams::Apart) => Ok(Wanted::Stderr),
        (Some(other), _) => Err((
            400,
            format!(
                "unable to return the given log stream: {other:?}. Please enable PodLogsQuerySplitStreams feature gate in kubelet"
            ),
        )),
    }
}

/// The problems that upstream's validation finds. Clients see only that there are some.
fn problems(
    tail: Option<i64>,
    limit: Option<i64>,
    (seconds, has_time): (Option<i64>, bool),
    stream: Option<&str>,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |bad: bool, text: String| {
        if bad {
            found.push(text);
        }
    };
    let shown = |value: Option<i64>| value.unwrap_or_default();
    check(
        tail.is_some_and(|lines| lines < 0),
        format!(
            "tailLines: Invalid value: {}: must be greater than or equal to 0",
            shown(tail)
        ),
    );
    check(
        limit.is_some_and(|bytes| bytes < 1),
        format!(
            "limitBytes: Invalid value: {}: must be greater than 0",
            shown(limit)
        ),
    );
    check(
        seconds.is_some() && has_time,
        "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned(),
    );
    check(
        !has_time && seconds.is_some_and(|seconds| seconds < 1),
        format!(
            "sinceSeconds: Invalid value: {}: must be greater than 0",
            shown(seconds)
        ),
    );
    if let Some(stream) = stream {
        check(
            !["All", "Stderr", "Stdout"].contains(&stream),
            format!(
                "stream: Unsupported value: {stream:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
            ),
        );
        check(
            stream != "All" && tail.is_some(),
            "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now"
                .to_owned(),
        );
    }
    found
}

/// A present option is true, unless its value is `false` or `0`.
fn boolean(value: Option<&str>) -> bool {
    value.is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
}

fn integer(text: &str) -> Result<i64, ()> {
    text.parse().map_err(|_| ())
}

/// RFC 3339; an empty text and `null` mean Go's zero time.
fn instant(text: &str) -> Result<Option<Timestamp>, ()> {
    if text.is_empty() || text == "null" {
        return Ok(None);
    }
    // The library also accepts forms that Go's RFC 3339 does not: a blank for the T, no dashes, lower case.
    let form = b"dddd-dd-ddTdd:dd:dd";
    let begin = text.as_bytes().get(..form.len()).ok_or(())?;
    let fits = |(byte, part): (&u8, &u8)| match part {
        b'd' => byte.is_ascii_digit(),
        part => byte == part,
    };
    let is_utc = text.ends_with('Z');
    let has_offset = text.len() > 6 && text.as_bytes().get(text.len() - 3) == Some(&b':');
    if !begin.iter().zip(form).all(fits) || !(is_utc || has_offset) || text.contains('[') {
        return Err(());
    }
    text.parse().map(Some).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, streams: LogStreams) -> Result<LogOptions, Refusal> {
        LogOptions::read(
            &Query::parse(query),
            streams,
            Timestamp::from_second(1000).unwrap(),
        )
    }

    fn together(query: &str) -> Result<LogOptions, Refusal> {
        read(query, LogStreams::Together)
    }

    #[test]
    fn options_are_read_as_upstream_reads_them() {
        let none = together("").unwrap();
        assert_eq!(
            none,
            LogOptions {
                follow: false,
                previous: false,
                timestamps: false,
                tail: None,
                limit: None,
                since: None,
                streams: Wanted::All
            }
        );
        let all = together(
            "follow=true&previous&timestamps=1&tailLines=0&limitBytes=1&sinceSeconds=60&stream=All",
        )
        .unwrap();
        assert_eq!(
            all,
            LogOptions {
                follow: true,
                previous: true,
                timestamps: true,
                tail: Some(0),
                limit: Some(1),
                since: Some(Timestamp::from_second(940).unwrap()),
                streams: Wanted::All,
            }
        );
        assert!(!together("follow=False&previous=0").unwrap().follow);
        let since = |query: &str| together(query).unwrap().since.map(Timestamp::as_second);
        assert_eq!(since("sinceTime=1970-01-01T01:00:30.5%2B01:00"), Some(30));
        assert_eq!(since("sinceTime="), None);
        assert_eq!(together("tail=5&tailLines=7").unwrap().tail, Some(5));
        assert_eq!(together("tail=all&tailLines=7").unwrap().tail, None);
        assert_eq!(
            read("stream=Stderr", LogStreams::Apart).unwrap().streams,
            Wanted::Stderr
        );
    }

    #[test]
    fn what_upstream_refuses_is_refused_with_its_status_and_words() {
        let (unreadable, senseless) = (
            r#"{"message": "Unable to decode query."}"#,
            r#"{"message": "Invalid request."}"#,
        );
        for (query, status, text) in [
            ("tailLines=x", 400, unreadable),
            ("limitBytes=", 400, unreadable),
            ("sinceTime=yesterday", 400, unreadable),
            ("sinceTime=2026-01-01+00:00:00Z", 400, unreadable),
            ("sinceTime=20260101T000000Z", 400, unreadable),
            ("sinceTime=2026-01-01t00:00:00Z", 400, unreadable),
            ("sinceTime=2026-01-01T00:00:00z", 400, unreadable),
            ("sinceTime=2026-01-01T00:00Z", 400, unreadable),
            ("tailLines=-1", 422, senseless),
            ("limitBytes=0", 422, senseless),
            ("sinceSeconds=0", 422, senseless),
            (
                "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
                422,
                senseless,
            ),
            ("stream=stdout", 422, senseless),
            ("stream=Stdout&tailLines=1", 422, senseless),
        ] {
            for streams in [LogStreams::Together, LogStreams::Apart] {
                assert_eq!(
                    read(query, streams).unwrap_err(),
                    (status, text.to_owned()),
                    "{query}"
                );
            }
        }
        let (status, text) = together("stream=Stdout").unwrap_err();
        assert_eq!(
            (status, &*text),
            (
                400,
                "unable to return the given log stream: \"Stdout\". Please enable PodLogsQuerySplitStreams feature gate in kubelet"
            )
        );
        assert_eq!(
            problems(Some(-1), Some(0), (Some(0), false), Some("x")),
            [
                "tailLines: Invalid value: -1: must be greater than or equal to 0",
                "limitBytes: Invalid value: 0: must be greater than 0",
                "sinceSeconds: Invalid value: 0: must be greater than 0",
                "stream: Unsupported value: \"x\": supported values: \"All\", \"Stderr\", \"Stdout\"",
                "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
            ]
        );
    }
}
