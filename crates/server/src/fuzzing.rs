//! The readers of input from clients and containers, one function each, for the fuzz targets.
//!
//! In:    any bytes
//! Out:   nothing; a panic if a promise does not hold
//! Calls: crate fuzz, no product code
//! Holds: requests go through the same functions
//! Upstream: none

use hyper::Uri;
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::log_lines::Lines;
use crate::log_options::{LogOptions, LogStreams};
use crate::query::Query;
use crate::upgrade;

/// A line of options, then a log. The output does not depend on how the log is cut into pieces.
pub fn log_lines(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (options, log) = bytes.split_at(end.unwrap_or(bytes.len()));
    let query = Query::parse(&String::from_utf8_lossy(options));
    let Ok(options) = LogOptions::read(&query, LogStreams::Apart, Timestamp::UNIX_EPOCH) else {
        return;
    };
    let shown = |part: usize| {
        let (mut lines, mut out) = (Lines::new(&options), Vec::new());
        let mut parts = log.chunks(part.max(1));
        let fed = parts.try_for_each(|part| lines.feed(part, &mut out).map(drop));
        let ended = fed.and_then(|()| lines.end());
        (ended.is_ok(), out)
    };
    let whole = shown(log.len());
    assert!(whole.1.len() <= log.len() + 64 * (1 + log.len() / 32));
    for part in [1, 7] {
        assert_eq!(shown(part), whole, "cut into parts of {part}");
    }
}

/// The head of a request as lines: method and target, then headers.
pub fn upgrade_head(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ').skip(1);
    let target: Option<Uri> = words.next().and_then(|target| target.parse().ok());
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.trim().as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let has_connection = headers.contains_key(CONNECTION);
    assert!(has_connection || !upgrade::is_upgrade(&headers));
    if let Some(target) = target {
        let query = Query::parse(target.query().unwrap_or_default());
        drop(LogOptions::read(
            &query,
            LogStreams::Apart,
            Timestamp::UNIX_EPOCH,
        ));
        assert!(!crate::endpoints::subresources(target.path()).is_empty());
    }
}
