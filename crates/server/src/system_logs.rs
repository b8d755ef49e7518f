//! `/logs/`: serves the files of the node's log directory as a plain file server.
//!
//! In:    the path below `/logs/`
//! Out:   a file as a body that is read while it is sent, a directory as a list of links, or a redirect
//! Calls: `answer`
//! Holds: no symbolic link leads out of the log directory; only regular files are read; one block and at most 10,000 names of a
//!        directory are in memory
//! Upstream: pkg/kubelet/kubelet.go ServeLogs, Go net/http FileServer (1.36); differences: no ranges, links out of the
//!           directory are 404, the journal query (`enableSystemLogQuery`) is not built

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};
use kubelet_host::Blocking;
use kubelet_host::files::open_within;

use kubelet_ports::escapes;

use crate::body::{Answer, coming, full};
use crate::query::decode;
use crate::replies::error;

const DISK_DEADLINE: Duration = Duration::from_secs(10);
const BLOCK: u64 = 64 << 10;
const NAMES: usize = 10_000;

/// What a path refers to.
enum Found {
    Directory(Vec<String>),
    /// With its size, and its first bytes, which determine the media type.
    File(File, u64, Vec<u8>),
}

/// Handles one request; `path` is the request's full path.
pub(crate) async fn system_logs(directory: &Path, blocking: &Blocking, path: &str) -> Answer {
    let not_found = || error(StatusCode::NOT_FOUND, "404 page not found");
    let below = path.strip_prefix("/logs").unwrap_or_default();
    let Some(below) = decode(below) else {
        return error(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let (directory, relative) = (directory.to_owned(), PathBuf::from(below.trim_matches('/')));
    let look = move || look(&directory, &relative);
    let found = match blocking.run(DISK_DEADLINE, "open a system log", look).await {
        Ok(Ok(found)) => found,
        Ok(Err(refused)) if refused.kind() == io::ErrorKind::PermissionDenied => {
            return error(StatusCode::FORBIDDEN, "403 Forbidden");
        }
        Ok(Err(_)) => return not_found(),
        Err(overdue) => return error(StatusCode::SERVICE_UNAVAILABLE, &overdue.to_string()),
    };
    let slash = below.ends_with('/');
    let last = below
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    match found {
        Found::Directory(_) if !slash && !below.is_empty() => {
            redirect(&format!("{}/", escaped(last)))
        }
        Found::Directory(_) if below.is_empty() => redirect("logs/"),
        Found::Directory(names) => listing(&names),
        Found::File(..) if slash => redirect(&format!("../{}", escaped(last))),
        Found::File(file, size, begin) => content(file, size, &begin, blocking.clone()),
    }
}

fn look(directory: &Path, relative: &Path) -> io::Result<Found> {
    let file = open_within(directory, relative)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        let mut names = Vec::new();
        // The kernel's link to the open file: the path is not resolved again.
        let opened = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        for entry in std::fs::read_dir(opened)?.take(NAMES) {
            let entry = entry?;
            let mut name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                name.push('/');
            }
            names.push(name);
        }
        names.sort();
        return Ok(Found::Directory(names));
    }
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut begin = vec![0; 512];
    let read = file.read_at(&mut begin, 0)?;
    begin.truncate(read);
    Ok(Found::File(file, metadata.len(), begin))
}

fn redirect(to: &str) -> Answer {
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(to) {
        answer.headers_mut().insert(LOCATION, to);
    }
    answer
}

fn typed(body: crate::body::Content, media_type: &'static str) -> Answer {
    let mut answer = Response::new(body);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

fn listing(names: &[String]) -> Answer {
    let mut page =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n"
            .to_owned();
    for name in names {
        let text = name
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&#34;")
            .replace('\'', "&#39;");
        page += &format!("<a href=\"{}\">{text}</a>\n", escaped(name));
    }
    page += "</pre>\n";
    typed(full(page), "text/html; charset=utf-8")
}

/// A name as part of a link.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    // A colon before the first slash would be parsed as a scheme.
    if name.contains(':') {
        out += "./";
    }
    out + &escapes::encoded_path(name)
}

fn content(file: File, size: u64, begin: &[u8], blocking: Blocking) -> Answer {
    let media_type = if begin.starts_with(&[0x1f, 0x8b]) {
        "application/x-gzip"
    } else if begin
        .iter()
        .any(|byte| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f))
    {
        "application/octet-stream"
    } else {
        "text/plain; charset=utf-8"
    };
    let file = Arc::new(file);
    // Only the length at the start: it was announced in the header.
    let blocks = futures_util::stream::unfold(0_u64, move |offset| {
        let (file, blocking) = (Arc::clone(&file), blocking.clone());
        async move {
            let wanted = usize::try_from(BLOCK.min(size.checked_sub(offset)?)).ok()?;
            if wanted == 0 {
                return None;
            }
            let block = blocking.run(DISK_DEADLINE, "read a system log", move || {
                let mut block = vec![0; wanted];
                let read = file.read_at(&mut block, offset)?;
                block.truncate(read);
                Ok::<_, io::Error>(Bytes::from(block))
            });
            let block = match block.await {
                Ok(Ok(block)) if block.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(block) => block,
                Err(overdue) => Err(io::Error::other(overdue)),
            };
            let next = offset + block.as_ref().map_or(0, |block| block.len() as u64);
            Some((block, next))
        }
    });
    let mut answer = typed(coming(blocks), media_type);
    answer.headers_mut().insert(CONTENT_LENGTH, size.into());
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn get(directory: &Path, path: &str) -> (u16, String, String) {
        let answer = system_logs(directory, &Blocking::Inline, path).await;
        let header = |name| {
            answer
                .headers()
                .get(name)
                .map_or("", |value: &HeaderValue| value.to_str().unwrap())
        };
        let head = format!("{}{}", header(CONTENT_TYPE), header(LOCATION));
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, head, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn files_and_directories_are_shown_and_no_link_leads_out() {
        let base =
            std::env::temp_dir().join(format!("hyperkube-system-logs-{}", std::process::id()));
        let logs = base.join("log");
        std::fs::create_dir_all(logs.join("pods/a b")).unwrap();
        std::fs::write(logs.join("syslog"), "x".repeat(200_000)).unwrap();
        std::fs::write(logs.join("old.gz"), [0x1f, 0x8b, 0]).unwrap();
        std::fs::write(logs.join("pods/a b/0.log"), "line\n").unwrap();
        std::fs::write(base.join("secret"), "s").unwrap();
        let link = |to: &Path, at: &str| std::os::unix::fs::symlink(to, logs.join(at)).unwrap();
        link(&logs.join("pods/a b/0.log"), "inside.log");
        link(&base.join("secret"), "outside.log");
        // It has no writer, so waiting for one would never end.
        let made = std::process::Command::new("mkfifo")
            .arg(logs.join("pipe"))
            .status();
        assert!(made.unwrap().success());
        link(&logs.join("pipe"), "a-pipe.log");
        let text = "text/plain; charset=utf-8".to_owned();
        let (status, kind, body) = get(&logs, "/logs/syslog").await;
        assert_eq!((status, kind, body.len()), (200, text.clone(), 200_000));
        assert_eq!(
            get(&logs, "/logs/pods/a%20b/0.log").await,
            (200, text.clone(), "line\n".to_owned())
        );
        assert_eq!(
            get(&logs, "/logs/inside.log").await,
            (200, text, "line\n".to_owned())
        );
        assert_eq!(get(&logs, "/logs/old.gz").await.1, "application/x-gzip");
        let (status, kind, page) = get(&logs, "/logs/").await;
        assert_eq!((status, &*kind), (200, "text/html; charset=utf-8"));
        assert!(
            page.contains("<a href=\"pods/\">pods/</a>\n<a href=\"syslog\">syslog</a>\n</pre>\n"),
            "{page}"
        );
        assert!(
            get(&logs, "/logs/pods/")
                .await
                .2
                .contains("<a href=\"a%20b/\">a b/</a>")
        );
        assert_eq!(get(&logs, "/logs/pods").await.1, "pods/");
        assert_eq!(get(&logs, "/logs").await.1, "logs/");
        assert_eq!(get(&logs, "/logs/syslog/").await.1, "../syslog");
        for gone in [
            "/logs/outside.log",
            "/logs/pipe",
            "/logs/a-pipe.log",
            "/logs/none",
            "/logs/../secret",
            "/logs/%2e%2e/secret",
            "/logs/syslog/x",
        ] {
            assert_eq!(get(&logs, gone).await.0, 404, "{gone}");
        }
        assert_eq!(get(&logs, "/logs/%zz").await.0, 400);
        std::fs::remove_dir_all(&base).unwrap();
    }
}
