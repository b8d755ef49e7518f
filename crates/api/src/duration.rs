//! Go's duration syntax in configuration files and on the command line: `1h2m3.5s`.
//!
//! In:    text as `time.ParseDuration` takes it; JSON strings
//! Out:   nanoseconds (`i64`, so about 292 years either way) and Go's own spelling of them
//! Calls: `config.rs` here; re-exported as `model::duration`
//! Holds: `parse(print(d)) == d` for every `d`; error text equals Go's
//! Upstream: time.ParseDuration and Duration.String of Go; metav1.Duration

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const NANOSECOND: u64 = 1;
const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The largest magnitude: that of the smallest `i64`.
const LIMIT: u64 = 1 << 63;

/// A signed span of time in nanoseconds with Go's syntax. The default is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// Why a text is not a duration, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurationParseError {
    /// Not digits with units, or out of range. Holds the quoted text.
    Invalid(String),
    /// A number without its unit. Holds the quoted text.
    MissingUnit(String),
    /// A unit that Go does not know: the quoted unit, the quoted text.
    UnknownUnit(String, String),
}

impl fmt::Display for DurationParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "time: invalid duration {text}"),
            Self::MissingUnit(text) => write!(f, "time: missing unit in duration {text}"),
            Self::UnknownUnit(unit, text) => {
                write!(f, "time: unknown unit {unit} in duration {text}")
            }
        }
    }
}

impl std::error::Error for DurationParseError {}

impl GoDuration {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(MILLISECOND as i64))
    }

    /// From seconds, saturating.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND as i64))
    }

    /// Nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds, toward zero.
    pub const fn as_millis(self) -> i64 {
        self.0 / MILLISECOND as i64
    }

    /// Seconds as Go's `Seconds()` gives them.
    pub fn as_secs_f64(self) -> f64 {
        let second = SECOND as i64;
        (self.0 / second) as f64 + (self.0 % second) as f64 / 1e9
    }

    /// Whether it is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// As the standard type; negative values become zero.
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl FromStr for GoDuration {
    type Err = DurationParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || DurationParseError::Invalid(quote(text));
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (part, after) = part(text, rest)?;
            total = total
                .checked_add(part)
                .filter(|sum| *sum <= LIMIT)
                .ok_or_else(invalid)?;
            rest = after;
        }
        match (negative, i64::try_from(total)) {
            (true, Ok(nanos)) => Ok(Self(-nanos)),
            (true, Err(_)) => Ok(Self(i64::MIN)),
            (false, Ok(nanos)) => Ok(Self(nanos)),
            (false, Err(_)) => Err(invalid()),
        }
    }
}

/// One number with its unit from the front of `rest`: its nanoseconds and what follows.
fn part<'a>(text: &str, rest: &'a str) -> Result<(u64, &'a str), DurationParseError> {
    let invalid = || DurationParseError::Invalid(quote(text));
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let unit_end = rest
        .bytes()
        .position(|byte| byte == b'.' || byte.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    if unit.is_empty() {
        return Err(DurationParseError::MissingUnit(quote(text)));
    }
    let scale = match unit {
        "ns" => NANOSECOND,
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return Err(DurationParseError::UnknownUnit(quote(unit), quote(text))),
    };
    let mut nanos = match whole {
        "" => 0,
        _ => whole.parse::<u64>().map_err(|_| invalid())?,
    }
    .checked_mul(scale)
    .filter(|nanos| *nanos <= LIMIT)
    .ok_or_else(invalid)?;
    // Quirk: Go keeps as many fraction digits as fit and computes the rest in floating point.
    let (numerator, denominator) = fraction_of(fraction);
    if numerator > 0 {
        nanos += (numerator as f64 * (scale as f64 / denominator)) as u64;
    }
    if nanos > LIMIT {
        return Err(invalid());
    }
    Ok((nanos, rest))
}

/// Leading digits of a fraction that fit in 63 bits, and the power of ten under them.
fn fraction_of(digits: &str) -> (u64, f64) {
    let (mut numerator, mut denominator) = (0u64, 1f64);
    for byte in digits.bytes() {
        if numerator > (LIMIT - 1) / 10 {
            break;
        }
        let next = numerator * 10 + u64::from(byte - b'0');
        if next > LIMIT {
            break;
        }
        numerator = next;
        denominator *= 10.0;
    }
    (numerator, denominator)
}

/// Go's quoting in duration errors: other than printable ASCII as `\xNN`.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' '..=b'~' | 0x7f => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < SECOND {
            let (scale, unit) = match nanos {
                0..MICROSECOND => (NANOSECOND, "ns"),
                MICROSECOND..MILLISECOND => (MICROSECOND, "\u{b5}s"),
                _ => (MILLISECOND, "ms"),
            };
            return write!(f, "{sign}{}{unit}", decimal(nanos, scale));
        }
        let (hours, minutes) = (nanos / HOUR, nanos % HOUR / MINUTE);
        f.write_str(sign)?;
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(nanos % MINUTE, SECOND))
    }
}

/// `nanos / scale` without trailing zeros.
fn decimal(nanos: u64, scale: u64) -> String {
    let (whole, fraction) = (nanos / scale, nanos % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A duration that Go writes back in the form it was read in: text, or a bare number of nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOrDuration {
    /// `"5s"`
    Text(GoDuration),
    /// `5000000000`
    Nanoseconds(GoDuration),
}

impl TimeOrDuration {
    /// The span, whichever form it had.
    pub const fn duration(self) -> GoDuration {
        match self {
            Self::Text(duration) | Self::Nanoseconds(duration) => duration,
        }
    }

    /// The same form with another span.
    pub const fn with(self, duration: GoDuration) -> Self {
        match self {
            Self::Text(_) => Self::Text(duration),
            Self::Nanoseconds(_) => Self::Nanoseconds(duration),
        }
    }
}

impl Serialize for TimeOrDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(duration) => duration.serialize(serializer),
            Self::Nanoseconds(duration) => serializer.serialize_i64(duration.as_nanos()),
        }
    }
}

impl<'de> Deserialize<'de> for TimeOrDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherForm;
        impl de::Visitor<'_> for EitherForm {
            type Value = TimeOrDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration as text or as a number of nanoseconds")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map(TimeOrDuration::Text).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, nanos: i64) -> Result<Self::Value, E> {
                Ok(TimeOrDuration::Nanoseconds(GoDuration(nanos)))
            }
            fn visit_u64<E: de::Error>(self, nanos: u64) -> Result<Self::Value, E> {
                let nanos = i64::try_from(nanos).map_err(E::custom)?;
                self.visit_i64(nanos)
            }
        }
        deserializer.deserialize_any(EitherForm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn go_texts_give_gos_nanoseconds() {
        let rows: &[(&str, i64)] = &[
            ("0", 0),
            ("+0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("-5s", -5_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+.5s", 500_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("3h30m", 12_600_000_000_000),
            ("1m0s", 60_000_000_000),
            ("4h0m0s", 14_400_000_000_000),
            ("10.5s4m", 250_500_000_000),
            ("-2m3.4s", -123_400_000_000),
            ("39h9m14.425s", 140_954_425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9007199254740993ns", 9_007_199_254_740_993),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("-2562047h47m16.854775808s", i64::MIN),
            ("0.100000000000000000000h", 360_000_000_000),
            ("0.830103483285477580700h", 2_988_372_539_827),
        ];
        for (text, nanos) in rows {
            assert_eq!(text.parse(), Ok(GoDuration(*nanos)), "{text}");
        }
    }

    #[test]
    fn bad_texts_give_gos_words() {
        let rows = [
            ("", r#"time: invalid duration """#),
            ("3", r#"time: missing unit in duration "3""#),
            ("-", r#"time: invalid duration "-""#),
            ("s", r#"time: invalid duration "s""#),
            (".", r#"time: invalid duration ".""#),
            ("-.s", r#"time: invalid duration "-.s""#),
            ("3000000h", r#"time: invalid duration "3000000h""#),
            (
                "9223372036854775808ns",
                r#"time: invalid duration "9223372036854775808ns""#,
            ),
            ("1d", r#"time: unknown unit "d" in duration "1d""#),
            ("1h 2m", r#"time: unknown unit "h " in duration "1h 2m""#),
            ("\u{b5}", r#"time: invalid duration "\xc2\xb5""#),
        ];
        for (text, words) in rows {
            let error = text.parse::<GoDuration>().expect_err(text);
            assert_eq!(error.to_string(), words, "{text}");
        }
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        let rows = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (60_000_000_000, "1m0s"),
            (14_400_000_000_000, "4h0m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanos, text) in rows {
            assert_eq!(GoDuration(nanos).to_string(), text);
        }
    }

    #[test]
    fn either_form_is_written_back_as_it_was_read() {
        for json in [r#""5s""#, "5000000000"] {
            let read: TimeOrDuration = serde_json::from_str(json).unwrap();
            assert_eq!(read.duration(), GoDuration::from_secs(5));
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }
        assert!(serde_json::from_str::<GoDuration>("5").is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back_to_itself(nanos: i64) {
            let duration = GoDuration(nanos);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parser_stumble(text in "[-+.0-9hmsnuµ\\PC]{0,24}") {
            if let Ok(duration) = text.parse::<GoDuration>() {
                prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            }
        }
    }
}
