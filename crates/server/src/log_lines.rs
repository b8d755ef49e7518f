//! Converts the runtime's log format to a client's output: one pass over the bytes, without holding a whole line.
//!
//! In:    bytes of a log in order, the options
//! Out:   the bytes of the response
//! Calls: `log_stream`
//! Holds: memory is the head of one line (time, stream, tags: 256 bytes), however long the line is; the output does not depend
//!        on how the input is cut into pieces
//! Upstream: staging/src/k8s.io/cri-client/pkg/logs/logs.go (parseCRILog, logWriter) (1.36); differences: no Docker JSON; an
//!           unfinished line of a followed log is shown as it arrives

use jiff::Timestamp;

use crate::log_options::{LogOptions, Wanted};

/// The longest head (time, stream, tags) of a log line. A line with a longer one is not a log line.
const HEAD_BYTES: usize = 256;

/// Whether there may be more to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
}

/// The position within a line.
#[derive(Debug)]
enum At {
    Head(Vec<u8>),
    Content {
        shown: bool,
        partial: bool,
    },
    /// In a line that is not shown.
    Skipped,
}

/// The parsed head of a line.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    time: Timestamp,
    /// The time, with nine digits of a second.
    stamp: String,
    stdout: bool,
    partial: bool,
}

/// The state of one pass.
#[derive(Debug)]
pub(crate) struct Lines {
    timestamps: bool,
    since: Option<Timestamp>,
    streams: Wanted,
    /// The bytes that may still be shown.
    bytes: u64,
    /// The lines of the log that may still be read.
    lines: Option<u64>,
    at: At,
    /// The next log line starts a new line of the container's output.
    fresh: bool,
    /// A line could be parsed.
    understood: bool,
}

impl Lines {
    pub(crate) fn new(options: &LogOptions) -> Self {
        Self {
            timestamps: options.timestamps,
            since: options.since,
            streams: options.streams,
            bytes: options.limit.unwrap_or(u64::MAX),
            lines: options.tail.filter(|_| !options.follow),
            at: At::Head(Vec::new()),
            fresh: true,
            understood: false,
        }
    }

    /// Whether nothing more will be shown.
    pub(crate) fn is_done(&self) -> bool {
        self.bytes == 0 || self.lines == Some(0)
    }

    /// Reads the next bytes, and appends the output.
    ///
    /// # Errors
    /// The first line is not a log line: upstream's text.
    pub(crate) fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<Progress, String> {
        while !input.is_empty() && !self.is_done() {
            let (line, ends) = match input.iter().position(|byte| *byte == b'\n') {
                Some(end) => (input.get(..end).unwrap_or_default(), true),
                None => (input, false),
            };
            let used = self.part(line, ends, out)?;
            input = input.get(used..).unwrap_or_default();
        }
        Ok(if self.is_done() {
            Progress::Done
        } else {
            Progress::More
        })
    }

    /// The log ends here, possibly in the middle of a line.
    ///
    /// # Errors
    /// As [`Self::feed`].
    pub(crate) fn end(&mut self) -> Result<(), String> {
        match &self.at {
            At::Head(head) if !head.is_empty() => {
                let head = head.clone();
                self.not_understood(&head)
            }
            _ => Ok(()),
        }
    }

    /// Reads a part of one line, without its newline, which follows if `ends`. Returns how many bytes were used.
    fn part(&mut self, line: &[u8], ends: bool, out: &mut Vec<u8>) -> Result<usize, String> {
        match &mut self.at {
            At::Head(head) => {
                let before = head.len();
                for (at, byte) in line.iter().enumerate() {
                    head.push(*byte);
                    if *byte == b' ' && head.iter().filter(|byte| **byte == b' ').count() == 3 {
                        let head = std::mem::take(head);
                        self.begin(&head, out)?;
                        return Ok(at + 1);
                    }
                    if head.len() > HEAD_BYTES {
                        let head = std::mem::take(head);
                        self.at = At::Skipped;
                        self.not_understood(&head)?;
                        return Ok(at + 1);
                    }
                }
                debug_assert_eq!(head.len(), before + line.len());
                if ends {
                    let mut head = std::mem::take(head);
                    head.push(b'\n');
                    self.not_understood(&head)?;
                }
            }
            At::Content { shown, partial } => {
                let (shown, partial) = (*shown, *partial);
                if shown {
                    self.show(line, out);
                }
                if !line.is_empty() {
                    self.fresh = false;
                }
                if ends {
                    if !partial {
                        if shown {
                            self.show(b"\n", out);
                        }
                        self.fresh = true;
                    }
                    self.lines = self.lines.map(|lines| lines.saturating_sub(1));
                    self.at = At::Head(Vec::new());
                }
            }
            At::Skipped if ends => self.at = At::Head(Vec::new()),
            At::Skipped => {}
        }
        Ok(line.len() + usize::from(ends))
    }

    /// The head of a line is complete.
    fn begin(&mut self, head: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let Some(found) = Head::parse(head) else {
            self.at = At::Skipped;
            return self.not_understood(head);
        };
        self.understood = true;
        let shown = self.since.is_none_or(|since| found.time >= since)
            && match self.streams {
                Wanted::All => true,
                Wanted::Stdout => found.stdout,
                Wanted::Stderr => !found.stdout,
            };
        if shown && self.timestamps && self.fresh {
            self.show(found.stamp.as_bytes(), out);
            self.show(b" ", out);
        }
        // A line without content counts as complete, as upstream.
        self.fresh = true;
        self.at = At::Content {
            shown,
            partial: found.partial,
        };
        Ok(())
    }

    fn not_understood(&mut self, line: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(line);
        if !self.understood {
            return Err(format!(
                "failed to get parse function: unsupported log format: {text:?}"
            ));
        }
        tracing::debug!(line = %text, "a log line cannot be parsed");
        Ok(())
    }

    fn show(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let room = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let taken = bytes.get(..room).unwrap_or(bytes);
        out.extend_from_slice(taken);
        self.bytes -= u64::try_from(taken.len())
            .unwrap_or(u64::MAX)
            .min(self.bytes);
    }
}

impl Head {
    /// Parses `<time> <stream> <tags> `, with the three blanks.
    fn parse(head: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?;
        let mut words = text.split(' ');
        let (time, stream, tags) = (words.next()?, words.next()?, words.next()?);
        let stdout = match stream {
            "stdout" => true,
            "stderr" => false,
            _ => return None,
        };
        Some(Self {
            time: time.parse().ok()?,
            stamp: nine_digits(time)?,
            stdout,
            partial: tags.split(':').next() == Some("P"),
        })
    }
}

/// The runtime's timestamp with exactly nine digits of a second, and `Z` for UTC.
fn nine_digits(time: &str) -> Option<String> {
    let (date, rest) = time.split_at_checked("2006-01-02T15:04:05".len())?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let digits = fraction.strip_prefix('.').unwrap_or_default();
    let zone = if ["+00:00", "-00:00"].contains(&zone) {
        "Z"
    } else {
        zone
    };
    Some(format!("{date}.{digits:0<9.9}{zone}"))
}

#[cfg(test)]
mod tests;
