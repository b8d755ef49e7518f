//! The message a container left behind: its file, or the end of its log.
//!
//! In:    host path of the file, whether the log may stand in, host path of the log
//! Out:   text of at most 4096 bytes (from logs: 80 lines or 2048 bytes)
//! Calls: look, once per exit
//! Holds: never more than the bound is read; a file that is gone is no message
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go (getTerminationMessage), pkg/kubelet/container/runtime.go

use std::path::Path;
use std::time::Duration;

use kubelet_host::HostRoot;
use kubelet_host::blocking::Blocking;

const FILE_BYTES: u64 = 4096;
const LOG_BYTES: usize = 2048;
const LOG_LINES: usize = 80;
/// Enough of a log's end to hold its last lines with their prefixes.
const LOG_WINDOW: u64 = 64 << 10;
const DEADLINE: Duration = Duration::from_secs(5);

/// Reads messages.
#[derive(Clone, Debug)]
pub struct MessageReader {
    root: HostRoot,
    blocking: Blocking,
}

impl MessageReader {
    /// A reader below this root.
    pub fn new(root: HostRoot, blocking: Blocking) -> Self {
        Self { root, blocking }
    }

    /// The message; `None` leaves the runtime's own.
    pub async fn read(&self, file: Option<&str>, from_logs: bool, log: &str) -> Option<String> {
        let file = file.map(|path| self.root.join(path));
        let log = (from_logs && !log.is_empty()).then(|| self.root.join(log));
        if file.is_none() && log.is_none() {
            return None;
        }
        let read = self
            .blocking
            .run(DEADLINE, "read termination message", move || {
                let text = file
                    .and_then(|path| head_of_file(&path, FILE_BYTES))
                    .filter(|text| !text.is_empty());
                text.or_else(|| log.and_then(|path| tail_of_log(&path)))
            });
        read.await.ok().flatten()
    }
}

fn head_of_file(path: &Path, limit: u64) -> Option<String> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The content of the last lines of a CRI log (`time stream tag content`).
fn tail_of_log(path: &Path) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_WINDOW)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_WINDOW).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if length > LOG_WINDOW && !lines.is_empty() {
        lines.remove(0);
    }
    let kept = lines
        .get(lines.len().saturating_sub(LOG_LINES)..)
        .unwrap_or_default();
    let content: String = kept.iter().map(|line| content_of(line)).collect();
    let start = content.len().saturating_sub(LOG_BYTES);
    let start = (start..content.len())
        .find(|at| content.is_char_boundary(*at))
        .unwrap_or(content.len());
    content.get(start..).map(str::to_owned)
}

fn content_of(line: &str) -> String {
    let mut fields = line.splitn(4, ' ').skip(2);
    match (fields.next(), fields.next()) {
        (Some("P"), Some(content)) => content.to_owned(),
        (Some(_), Some(content)) => format!("{content}\n"),
        (_, None) | (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_its_content_without_prefixes() {
        assert_eq!(
            content_of("2026-11-23T08:43:26.1Z stdout F hello there"),
            "hello there\n"
        );
        assert_eq!(content_of("2026-11-23T08:43:26.1Z stderr P part"), "part");
        assert_eq!(content_of("garbage"), "");
    }
}
