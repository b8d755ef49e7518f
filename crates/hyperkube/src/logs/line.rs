//! Formats one log line: klog's text with its quoting, or JSON.
//!
//! In:    the event's message and fields, its time and place
//! Out:   the line with its end
//! Calls: `logs.rs`
//! Holds: a text line stays on one line, unless a value has several lines; these are indented by a tab, as in klog
//! Upstream: k8s.io/klog/v2/internal/serialize, internal/buffer, go.uber.org/zap (JSON)

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use tracing::Level;

/// Parts of field names that mark their values as secret.
const SECRET: [&str; 5] = ["password", "token", "secret", "authorization", "header"];

/// A formatted value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A number or boolean, without quotes.
    Plain(String),
    /// Anything else, quoted.
    Text(String),
}

/// A field of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) name: &'static str,
    pub(super) shown: Shown,
}

impl Pair {
    pub(super) fn new(name: &'static str, shown: Shown) -> Self {
        // klog's name for the error field.
        let name = if name == "error" { "err" } else { name };
        let lower = name.to_ascii_lowercase();
        let secret = SECRET.iter().any(|part| lower.contains(part));
        let shown = if secret {
            Shown::Text("<masked>".to_owned())
        } else {
            shown
        };
        Self { name, shown }
    }
}

/// The content of a line.
pub(super) struct Line<'a> {
    pub(super) severity: Level,
    pub(super) level: u32,
    pub(super) time: Timestamp,
    pub(super) zone: &'a TimeZone,
    pub(super) pid: u32,
    pub(super) file: &'a str,
    pub(super) number: u32,
    pub(super) message: &'a str,
    pub(super) pairs: &'a [Pair],
}

impl Line<'_> {
    /// `I1123 21:02:03.000001    4711 file.rs:12] "Message" key="value"`
    pub(super) fn text(&self) -> String {
        let letter = match self.severity {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let time = self.zone.to_datetime(self.time);
        let file = self.file.rsplit('/').next().unwrap_or(self.file);
        let mut line = format!(
            "{letter}{:02}{:02} {:02}:{:02}:{:02}.{:06} {:7} {file}:{}] {}",
            time.month(),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.subsec_nanosecond() / 1000,
            self.pid,
            self.number,
            quoted(self.message)
        );
        for pair in self.pairs {
            line.push(' ');
            line.push_str(pair.name);
            match &pair.shown {
                Shown::Plain(value) => {
                    line.push('=');
                    line.push_str(value);
                }
                Shown::Text(text) if text.contains('\n') => {
                    line.push_str("=<");
                    for part in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                        line.push_str("\n\t");
                        line.push_str(part);
                    }
                    line.push_str("\n >");
                }
                Shown::Text(text) => {
                    line.push('=');
                    line.push_str(&quoted(text));
                }
            }
        }
        line.push('\n');
        line
    }

    /// `{"ts":…,"caller":"src/file.rs:12","msg":"Message","v":0,"key":"value"}`; errors have no `v`.
    pub(super) fn json(&self) -> String {
        let millis = self.time.as_nanosecond() as f64 / 1e6;
        let mut slashes = self.file.rmatch_indices('/').map(|(at, _)| at + 1);
        let caller = slashes
            .nth(1)
            .and_then(|at| self.file.get(at..))
            .unwrap_or(self.file);
        let caller = format!("{caller}:{}", self.number);
        let mut line = format!(
            "{{\"ts\":{millis},\"caller\":{},\"msg\":{}",
            json(&caller),
            json(self.message)
        );
        if self.severity != Level::ERROR {
            write!(line, ",\"v\":{}", self.level).expect("writing to a String does not fail");
        }
        for pair in self.pairs {
            let value = match &pair.shown {
                Shown::Plain(value) => value.clone(),
                Shown::Text(text) => json(text),
            };
            write!(line, ",{}:{value}", json(pair.name))
                .expect("writing to a String does not fail");
        }
        line.push_str("}\n");
        line
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                write!(out, "\\x{:02x}", u32::from(c)).expect("writing to a String does not fail");
            }
            c if c.is_control() || c == '\u{feff}' => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a String does not fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether a `--vmodule` pattern matches a source file: its name without extension, or its whole path if the pattern has a
/// slash. `*`, `?` and `[a-z]` match within a name, `\\` escapes the next character: Go's `filepath.Match`.
pub(super) fn file_matches(pattern: &str, file: &str) -> bool {
    let path = file.strip_suffix(".rs").unwrap_or(file);
    let name = path.rsplit('/').next().unwrap_or(path);
    let subject = if pattern.contains('/') { path } else { name };
    matches(pattern.as_bytes(), subject.as_bytes())
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => matches(rest, text),
        (Some((b'*', rest)), Some((byte, after))) => {
            matches(rest, text) || (*byte != b'/' && matches(pattern, after))
        }
        (Some((b'?', rest)), Some((byte, after))) => *byte != b'/' && matches(rest, after),
        (Some((b'[', rest)), Some((byte, after))) => {
            in_class(rest, *byte).is_some_and(|(hit, rest)| hit && matches(rest, after))
        }
        (Some((b'\\', rest)), Some((byte, after))) => rest
            .split_first()
            .is_some_and(|(want, rest)| want == byte && matches(rest, after)),
        (Some((want, rest)), Some((byte, after))) => want == byte && matches(rest, after),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether the byte is in the character class that starts after `[`, and the rest of the pattern. `None`: an invalid class,
/// which matches nothing.
fn in_class(class: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match class.split_first() {
        Some((b'^', rest)) => (true, rest),
        _ => (false, class),
    };
    let (mut hit, mut is_first) = (false, true);
    loop {
        if let (false, [b']', after @ ..]) = (is_first, rest) {
            return Some((hit != negated, after));
        }
        let (low, after) = class_byte(rest)?;
        let (high, after) = match after {
            [b'-', after @ ..] => class_byte(after)?,
            after => (low, after),
        };
        hit |= (low..=high).contains(&byte);
        (rest, is_first) = (after, false);
    }
}

fn class_byte(class: &[u8]) -> Option<(u8, &[u8])> {
    match class {
        [] | [b'-' | b']', ..] => None,
        [b'\\', byte, rest @ ..] | [byte, rest @ ..] => Some((*byte, rest)),
    }
}
