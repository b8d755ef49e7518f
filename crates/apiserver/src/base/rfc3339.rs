//! Reads times as Go does: RFC 3339 only, without the other forms that common readers accept.
//!
//! In:    text
//! Out:   the time, or Go's error text
//! Calls: `options` for queries, `schema` for objects
//! Holds: pure
//! Upstream: Go's time.Parse with RFC3339

use jiff::Timestamp;

/// RFC 3339 in Go's layout notation.
const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
/// The parts of the layout: Go's name, number of digits, largest number, Go's name in range errors.
const PARTS: [(&str, usize, u32, &str); 6] = [
    ("2006", 4, 9999, "year"),
    ("01", 2, 12, "month"),
    ("02", 2, 31, "day"),
    ("15", 2, 23, "hour"),
    ("04", 2, 59, "minute"),
    ("05", 2, 59, "second"),
];
/// The separator before each part.
const BEFORE: [&str; 6] = ["", "-", "-", "T", ":", ":"];
/// Reads a time.
pub(crate) fn read(text: &str) -> Result<Timestamp, String> {
    let bad = |why: String| format!("parsing time {text:?}{why}");
    let expected =
        |rest: &str, part: &str| bad(format!(" as {LAYOUT:?}: cannot parse {rest:?} as {part:?}"));
    let mut rest = text;
    for ((part, digits, most, name), before) in PARTS.into_iter().zip(BEFORE) {
        rest = rest
            .strip_prefix(before)
            .ok_or_else(|| expected(rest, before))?;
        let number = rest
            .get(..digits)
            .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        let number = number.ok_or_else(|| expected(rest, part))?;
        let value = number.parse::<u32>().unwrap_or(u32::MAX);
        if value > most || (value == 0 && ["month", "day"].contains(&name)) {
            return Err(bad(format!(": {name} out of range")));
        }
        rest = rest.get(digits..).unwrap_or_default();
    }
    // Go accepts a fraction although the layout has none.
    if let Some(fraction) = rest.strip_prefix('.') {
        let zone = fraction.trim_start_matches(|letter: char| letter.is_ascii_digit());
        if zone.len() < fraction.len() {
            rest = zone;
        }
    }
    let is_zone = rest == "Z" || (rest.len() == 6 && rest.starts_with(['+', '-']));
    match text.parse() {
        Ok(at) if is_zone => Ok(at),
        _ if is_zone => Err(bad(": day out of range".to_owned())),
        _ => Err(expected(rest, "Z07:00")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_refused_in_gos_words() {
        let layout = "as \"2006-01-02T15:04:05Z07:00\": cannot parse";
        for (text, why) in [
            ("yesterday", format!("{layout} \"yesterday\" as \"2006\"")),
            (
                "2026-1-01T00:00:00Z",
                format!("{layout} \"1-01T00:00:00Z\" as \"01\""),
            ),
            ("2026-01-01", format!("{layout} \"\" as \"T\"")),
            (
                "2026-01-01 00:00:00Z",
                format!("{layout} \" 00:00:00Z\" as \"T\""),
            ),
            (
                "2026-01-01T00:00:00",
                format!("{layout} \"\" as \"Z07:00\""),
            ),
        ] {
            assert_eq!(read(text), Err(format!("parsing time {text:?} {why}")));
        }
        for (text, what) in [
            ("2026-13-01T00:00:00Z", "month"),
            ("2026-02-30T00:00:00Z", "day"),
        ] {
            let why = format!("parsing time {text:?}: {what} out of range");
            assert_eq!(read(text), Err(why));
        }
        let at = read("2026-01-01T01:00:00.5+01:00").unwrap();
        assert_eq!(at.to_string(), "2026-01-01T00:00:00.5Z");
    }
}
