//! One look at the manifest path: what is there, and what every manifest says. Blocking.
//!
//! In:    the configured path, fingerprints of what was judged, whether a watch is wanted
//! Out:   [`Scan`]: readings by path, skipped names, a watch that was put up before the look
//! Calls: file, in a blocking thread
//! Holds: links are followed; a name that cannot be read is bad, not gone; what is gone was seen to be gone
//! Upstream: pkg/kubelet/config/file.go (listConfig, extractFromDir, extractFromFile)

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kubelet_decide::sources::manifest::{MAX_MANIFEST_BYTES, is_skipped_name};
use kubelet_host::HostRoot;
use kubelet_host::files::{self, FileError};
use kubelet_host::watch::DirectoryWatch;
use kubelet_model::error_text::error_text;
use kubelet_model::pod::SourceKind;

use super::Taker;
use super::reading::{FirstSeen, Origin, Reading, read_manifest};
use super::report::Problem;

/// What to look at.
#[derive(Debug)]
pub(super) struct ScanRequest {
    pub(super) root: HostRoot,
    /// As configured, without slashes at its end.
    pub(super) path: String,
    pub(super) taker: Taker,
    /// Fingerprints by path.
    pub(super) judged: BTreeMap<String, u64>,
    pub(super) seen: FirstSeen,
    /// Whether to put up a watch first. Needs the runtime's handle in the calling thread.
    pub(super) wants_watch: bool,
}

/// A watch and what it watches.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) events: DirectoryWatch,
    /// The one name of interest, when it is the path's parent that is watched.
    pub(super) only: Option<OsString>,
    /// The directory that is watched: device and inode.
    pub(super) identity: Option<(u64, u64)>,
}

/// What the path is.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Missing {
        /// Whether the directory around it is there.
        has_parent: bool,
    },
    /// A directory.
    Directory {
        /// Device and inode.
        identity: (u64, u64),
        /// Manifests by path.
        files: BTreeMap<String, Reading>,
        /// Names that are left alone, and why.
        skipped: BTreeMap<String, String>,
    },
    /// A file.
    File(Reading),
    /// It could not be looked at.
    Failed(String),
}

/// The look's outcome.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) found: Found,
    /// When one was wanted.
    pub(super) watching: Option<io::Result<Watching>>,
}

/// Looks.
pub(super) fn scan(request: &ScanRequest) -> Scan {
    let path = host_path(&request.root, &request.path);
    let watching = request.wants_watch.then(|| watch(&path));
    let found = match std::fs::metadata(&path) {
        Ok(there) if there.is_dir() => directory(request, &path, (there.dev(), there.ino())),
        Ok(there) if there.is_file() => Found::File(read(request, &path, &request.path)),
        Ok(_) => Found::Failed("is neither a directory nor a file".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Missing {
            has_parent: path.parent().is_some_and(Path::is_dir),
        },
        Err(error) => Found::Failed(format!("cannot be looked at: {error}")),
    };
    Scan { found, watching }
}

/// Where a configured path is on this machine; a relative one starts at the process's directory, as upstream's does.
fn host_path(root: &HostRoot, path: &str) -> PathBuf {
    if root.is_stand_in() || path.starts_with('/') {
        root.join(path)
    } else {
        PathBuf::from(path)
    }
}

/// Watches the directory, or the one around what is not a directory (yet).
fn watch(path: &Path) -> io::Result<Watching> {
    match DirectoryWatch::new(path) {
        Ok(events) => {
            let there = std::fs::metadata(path).ok();
            return Ok(Watching {
                events,
                only: None,
                identity: there.map(|there| (there.dev(), there.ino())),
            });
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(error) => return Err(error),
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    Ok(Watching {
        events: DirectoryWatch::new(parent.unwrap_or(Path::new(".")))?,
        only: path.file_name().map(ToOwned::to_owned),
        identity: None,
    })
}

fn directory(request: &ScanRequest, path: &Path, identity: (u64, u64)) -> Found {
    let names = std::fs::read_dir(path).and_then(|entries| {
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        names.collect::<io::Result<Vec<OsString>>>()
    });
    let names = match names {
        Ok(names) => names,
        Err(error) => return Found::Failed(format!("cannot be listed: {error}")),
    };
    let (mut files, mut skipped) = (BTreeMap::new(), BTreeMap::new());
    for os_name in names {
        let on_host = path.join(&os_name);
        let Ok(name) = os_name.into_string() else {
            let shown = on_host.file_name().unwrap_or_default().to_string_lossy();
            skipped.insert(shown.into_owned(), "the name is not UTF-8".to_owned());
            continue;
        };
        if let Some(reason) = is_skipped_name(&name) {
            skipped.insert(name, reason.to_string());
            continue;
        }
        let at = joined(&request.path, &name);
        match std::fs::metadata(&on_host) {
            Ok(there) if there.is_file() => {
                files.insert(at.clone(), read(request, &on_host, &at));
            }
            Ok(there) => {
                let what = if there.is_dir() {
                    "a directory; those below the manifest directory are not read"
                } else {
                    "not a regular file"
                };
                skipped.insert(name, what.to_owned());
            }
            // Removed since the list was read, unless it is a link that leads nowhere.
            Err(error) if is_gone(&on_host, &error) => {}
            Err(error) => {
                let problem = Problem::at(&at, format!("cannot be looked at: {error}"));
                let problems = vec![problem];
                let fingerprint = None;
                files.insert(
                    at,
                    Reading::Bad {
                        fingerprint,
                        problems,
                    },
                );
            }
        }
    }
    files.retain(|_, reading| !is_vanished(reading));
    Found::Directory {
        identity,
        files,
        skipped,
    }
}

fn is_gone(path: &Path, error: &io::Error) -> bool {
    let gone = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    gone(error) && std::fs::symlink_metadata(path).is_err_and(|error| gone(&error))
}

/// A file that went between the look at it and its reading leaves a bad reading without a problem.
fn is_vanished(reading: &Reading) -> bool {
    matches!(reading, Reading::Bad { problems, .. } if problems.is_empty())
}

fn read(request: &ScanRequest, on_host: &Path, at: &str) -> Reading {
    let place = Origin {
        kind: SourceKind::File,
        at,
        taker: &request.taker,
    };
    let bad = |problems| Reading::Bad {
        fingerprint: None,
        problems,
    };
    match files::read_bounded(on_host, MAX_MANIFEST_BYTES as u64) {
        Ok(bytes) => {
            let judged = request.judged.get(at).copied();
            read_manifest(bytes, judged, place, &request.seen)
        }
        Err(FileError::TooLarge { limit, .. }) => {
            let size = std::fs::metadata(on_host).map_or(0, |there| there.len());
            let message = format!("has {size} bytes, and a manifest may have {limit}");
            bad(vec![Problem::at(at, message)])
        }
        Err(error) if error.is_not_found() && std::fs::symlink_metadata(on_host).is_err() => {
            bad(Vec::new())
        }
        Err(error) => bad(vec![Problem::at(at, error_text(&error))]),
    }
}

/// A directory and a name in it as Go joins them: the name is part of the pod's UID.
pub(super) fn joined(directory: &str, name: &str) -> String {
    let is_absolute = directory.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain([name]) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if is_absolute {
        format!("/{joined}")
    } else {
        joined
    }
}
