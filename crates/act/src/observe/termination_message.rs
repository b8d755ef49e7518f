//! The termination message of a container: its file, or the end of its log.
//!
//! In:    whose container it was, host path of the file, whether the log may stand in, host path of the log
//! Out:   text of at most 4096 bytes (from logs: 80 lines or 2048 bytes)
//! Calls: look, once per exit
//! Holds: never more than the bound is read; a file that is gone is no message; the container could write both files and what
//!        they lie in: they are opened below this pod's own directories, without links, and only if they are files
//! Upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go (getTerminationMessage), pkg/kubelet/container/runtime.go,
//!           pkg/util/tail; differences: links are not followed, paths of other pods are not read

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use kubelet_host::blocking::{About, Blocking};
use kubelet_host::{HostRoot, beneath};
use kubelet_model::ids::PodUid;

use kubelet_decide::shapes::paths::owner_of_logs;

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
    /// `ROOT/pods`.
    pods_dir: PathBuf,
    logs_dir: PathBuf,
}

/// Where the files of one message may lie.
#[derive(Clone, Copy, Debug)]
pub struct MessagePlaces<'a> {
    /// Host path of the message's file.
    pub file: Option<&'a str>,
    /// Host path of the log, when it may stand in.
    pub log: Option<&'a str>,
}

impl MessageReader {
    /// A reader of files below the kubelet's root directory and the directory of pod logs.
    pub fn new(root: HostRoot, blocking: Blocking, root_dir: &str, pod_logs_dir: &str) -> Self {
        Self {
            pods_dir: Path::new(root_dir).join("pods"),
            logs_dir: PathBuf::from(pod_logs_dir),
            root,
            blocking,
        }
    }

    /// The message; `None` leaves the runtime's own.
    pub async fn read(&self, uid: &PodUid, places: MessagePlaces<'_>) -> Option<String> {
        let is_own = |directory: &str| directory == uid.as_str();
        let file = places
            .file
            .and_then(|path| below(&self.pods_dir, path, is_own));
        let is_of_logs = |directory: &str| owner_of_logs(directory).is_ok_and(|of| of.0 == *uid);
        let log = places
            .log
            .and_then(|path| below(&self.logs_dir, path, is_of_logs));
        if file.is_none() && log.is_none() {
            return None;
        }
        let pods_dir = self.root.join(&self.pods_dir);
        let logs_dir = self.root.join(&self.logs_dir);
        // While one of the pod's reads hangs, no other of its reads takes a thread.
        let about = About {
            key: format!("{uid}/message"),
            text: format!("pod {uid}"),
            mount: None,
        };
        let read = move || {
            let text = file
                .and_then(|file| end_of_file(&pods_dir, &file))
                .filter(|text| !text.is_empty());
            text.or_else(|| log.and_then(|log| end_of_log(&logs_dir, &log)))
        };
        let what = "read termination message";
        let read = self.blocking.run_about(about, DEADLINE, what, read);
        read.await.ok().flatten()
    }
}

/// What the runtime calls a file, as a path below the directory, if it lies in a directory there that is this pod's.
fn below(directory: &Path, path: &str, is_own: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let relative = Path::new(path).strip_prefix(directory).ok()?;
    let mut parts = relative.components();
    let owner = match parts.next()? {
        Component::Normal(name) => name.to_str()?,
        _ => return None,
    };
    let is_plain = parts.all(|part| matches!(part, Component::Normal(_)));
    (is_plain && is_own(owner)).then(|| relative.to_owned())
}

/// As upstream: of a longer file the end.
fn end_of_file(directory: &Path, file: &Path) -> Option<String> {
    let file = beneath::open_file(directory, file).ok()?;
    let (bytes, _) = beneath::tail_of(file, FILE_BYTES).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The content of the last lines of a CRI log (`time stream tag content`).
fn end_of_log(directory: &Path, log: &Path) -> Option<String> {
    let log = beneath::open_file(directory, log).ok()?;
    let (bytes, is_cut) = beneath::tail_of(log, LOG_WINDOW).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if is_cut && !lines.is_empty() {
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
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::Scratch;

    const MESSAGE: &str = "/kubelet/pods/u1/containers/c/0a0b0c0d";
    const LOG: &str = "/logs/default_web_u1/c/0.log";

    fn make_fifo(path: &Path) {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    }

    async fn read(scratch: &Scratch, file: Option<&str>, log: Option<&str>) -> Option<String> {
        let root = HostRoot::at(scratch.path());
        // A thread of its own, so that a read that waits is seen to.
        let reader = MessageReader::new(root, Blocking::threads(1), "/kubelet", "/logs");
        let uid = PodUid::parse("u1").unwrap();
        let read = reader.read(&uid, MessagePlaces { file, log });
        let read = tokio::time::timeout(DEADLINE / 2, read);
        read.await.expect("nothing is waited for")
    }

    #[test]
    fn the_end_of_a_log_is_its_content_without_prefixes() {
        assert_eq!(
            content_of("2026-11-23T08:43:26.1Z stdout F hello there"),
            "hello there\n"
        );
        assert_eq!(content_of("2026-11-23T08:43:26.1Z stderr P part"), "part");
        assert_eq!(content_of("garbage"), "");
    }

    #[tokio::test]
    async fn the_file_goes_before_the_log_and_of_both_the_end_is_read() {
        let scratch = Scratch::new();
        assert_eq!(read(&scratch, Some(MESSAGE), Some(LOG)).await, None);
        scratch.write(LOG, "2026-11-23T08:43:26.1Z stdout F of the log\n");
        assert_eq!(
            read(&scratch, Some(MESSAGE), Some(LOG)).await.unwrap(),
            "of the log\n"
        );
        scratch.write(MESSAGE, "");
        assert_eq!(
            read(&scratch, Some(MESSAGE), Some(LOG)).await.unwrap(),
            "of the log\n"
        );
        scratch.write(MESSAGE, &format!("{}end", "x".repeat(8192)));
        let text = read(&scratch, Some(MESSAGE), Some(LOG)).await.unwrap();
        assert!(text.len() == 4096 && text.ends_with("xend"));
        scratch.write(
            LOG,
            &"2026-11-23T08:43:26.1Z stdout F line\n".repeat(100_000),
        );
        let text = read(&scratch, None, Some(LOG)).await.unwrap();
        assert_eq!(text, "line\n".repeat(LOG_LINES));
    }

    #[tokio::test]
    async fn neither_a_link_nor_a_pipe_nor_a_directory_is_a_message() {
        for place in [MESSAGE, LOG] {
            let scratch = Scratch::new();
            let at = |path: &str| scratch.path().join(path.trim_start_matches('/'));
            scratch.write(place, "");
            scratch.write("/secret", "2026-11-23T08:43:26.1Z stdout F the key\n");
            std::fs::remove_file(at(place)).unwrap();
            symlink(at("/secret"), at(place)).unwrap();
            assert_eq!(
                read(&scratch, Some(MESSAGE), Some(LOG)).await,
                None,
                "link at {place}"
            );
            std::fs::remove_file(at(place)).unwrap();
            make_fifo(&at(place));
            assert_eq!(
                read(&scratch, Some(MESSAGE), Some(LOG)).await,
                None,
                "pipe at {place}"
            );
            std::fs::remove_file(at(place)).unwrap();
            std::fs::create_dir(at(place)).unwrap();
            assert_eq!(
                read(&scratch, Some(MESSAGE), Some(LOG)).await,
                None,
                "directory at {place}"
            );
            std::fs::remove_dir(at(place)).unwrap();
            // The same with a directory on the way.
            scratch.write(
                "/elsewhere/c/0.log",
                "2026-11-23T08:43:26.1Z stdout F the key\n",
            );
            scratch.write("/elsewhere/c/0a0b0c0d", "the key");
            let directory = at(place).parent().unwrap().to_owned();
            std::fs::remove_dir(&directory).unwrap();
            symlink(at("/elsewhere/c"), &directory).unwrap();
            assert_eq!(
                read(&scratch, Some(MESSAGE), Some(LOG)).await,
                None,
                "link above {place}"
            );
        }
    }

    #[tokio::test]
    async fn files_of_others_are_no_message() {
        let scratch = Scratch::new();
        for path in [
            "/etc/shadow",
            "/kubelet/pods/u2/containers/c/m",
            "/kubelet/pods/u1/../u2/containers/c/m",
            "/kubelet/pki/key",
            "/logs/default_web_u2/c/0.log",
            "/logs/default_web_u12/c/0.log",
            "/logs/u1/c/0.log",
        ] {
            scratch.write(path, "2026-11-23T08:43:26.1Z stdout F the key\n");
            assert_eq!(read(&scratch, Some(path), Some(path)).await, None, "{path}");
        }
    }

    #[tokio::test]
    async fn while_a_read_of_the_pod_hangs_no_other_takes_a_thread() {
        let scratch = Scratch::new();
        scratch.write(MESSAGE, "bye");
        let blocking = Blocking::threads(2);
        let root = HostRoot::at(scratch.path());
        let reader = MessageReader::new(root, blocking.clone(), "/kubelet", "/logs");
        let places = MessagePlaces {
            file: Some(MESSAGE),
            log: None,
        };
        let uid = PodUid::parse("u1").unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let about = About {
            key: "u1/message".to_owned(),
            ..About::default()
        };
        let call = move || {
            held.recv().unwrap_err();
        };
        let hangs = blocking.run_about(about, Duration::from_millis(500), "read", call);
        assert!(hangs.await.is_err());
        assert_eq!(reader.read(&uid, places).await, None);
        assert_eq!(blocking.counts().threads, 1);
        drop(release);
        while blocking.counts().abandoned > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(reader.read(&uid, places).await.as_deref(), Some("bye"));
    }
}
