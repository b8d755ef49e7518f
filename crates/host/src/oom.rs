//! The OOM score of processes, and the limit of open files.
//!
//! In:    an adjustment from -1000 to 1000; a number of open files
//! Out:   [`Applied`], where "not permitted" is a warning to log, since the kubelet continues without
//! Calls: start-up (self -999, 1,000,000 open files), the container manager (the runtime's process)
//! Holds: root without CAP_SYS_RESOURCE is an expected case
//! Upstream: pkg/util/oom, cmd/kubelet/app/server.go (rlimit.SetNumFiles)

use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::HostRoot;
use crate::files::read_bounded;

/// The process to adjust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// This process.
    Own,
    /// Another one.
    Pid(u32),
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Set as requested.
    Yes,
    /// Not permitted (EPERM, EACCES), since CAP_SYS_RESOURCE is missing. The value stays `current`.
    Refused {
        /// The current value.
        current: i64,
        /// The requested value.
        wanted: i64,
    },
    /// Set up to the hard limit.
    Partly {
        /// The current value.
        current: u64,
        /// The requested value.
        wanted: u64,
    },
}

/// It could not be set, for another reason than a missing capability.
#[derive(Debug, thiserror::Error)]
pub enum OomError {
    /// The process has ended.
    #[error("cannot set oom_score_adj: process {0} is gone")]
    Gone(u32),
    /// Any other failure.
    #[error("cannot {operation}")]
    Io {
        /// The operation.
        operation: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Sets `oom_score_adj` of a process.
///
/// # Errors
/// EINVAL from the kernel for a value outside -1000..=1000.
pub fn set_oom_score_adj(
    root: &HostRoot,
    process: Process,
    wanted: i64,
) -> Result<Applied, OomError> {
    let path = match process {
        Process::Own => root.join("/proc/self/oom_score_adj"),
        Process::Pid(pid) => root.join(format!("/proc/{pid}/oom_score_adj")),
    };
    match std::fs::write(&path, wanted.to_string()) {
        Ok(()) => Ok(Applied::Yes),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Applied::Refused {
            current: read_score(&path)?,
            wanted,
        }),
        Err(error) => match process {
            Process::Pid(pid) if crate::pidfd::is_gone(&error) => Err(OomError::Gone(pid)),
            Process::Pid(_) | Process::Own => Err(OomError::Io {
                operation: format!("write {}", path.display()),
                source: error,
            }),
        },
    }
}

fn read_score(path: &Path) -> Result<i64, OomError> {
    let failed = |source| OomError::Io {
        operation: format!("read {}", path.display()),
        source,
    };
    let bytes = read_bounded(path, 64).map_err(|error| failed(io::Error::other(error)))?;
    String::from_utf8_lossy(&bytes)
        .trim()
        .parse()
        .map_err(|error| failed(io::Error::new(ErrorKind::InvalidData, error)))
}

/// Raises the limit of open files of this process; never lowers it.
///
/// # Errors
/// The system call failed, for another reason than a missing capability.
pub fn raise_open_files(wanted: u64) -> Result<Applied, OomError> {
    let have = getrlimit(Resource::Nofile);
    let (soft, hard) = (
        have.current.unwrap_or(u64::MAX),
        have.maximum.unwrap_or(u64::MAX),
    );
    if soft >= wanted {
        return Ok(Applied::Yes);
    }
    let set = |current: u64, maximum: u64| {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(current),
                maximum: Some(maximum),
            },
        )
    };
    let failed = |errno: rustix::io::Errno| OomError::Io {
        operation: format!("raise RLIMIT_NOFILE to {wanted}"),
        source: errno.into(),
    };
    if hard >= wanted {
        let kept = have.maximum;
        return setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum: kept,
            },
        )
        .map(|()| Applied::Yes)
        .map_err(failed);
    }
    match set(wanted, wanted) {
        Ok(()) => Ok(Applied::Yes),
        Err(rustix::io::Errno::PERM) => {
            set(hard, hard).map_err(failed)?;
            Ok(Applied::Partly {
                current: hard,
                wanted,
            })
        }
        Err(errno) => Err(failed(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestDir;

    #[test]
    fn a_higher_score_is_allowed_and_going_back_may_be_refused() {
        let root = HostRoot::real();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let process = Process::Pid(child.id());
        assert_eq!(
            set_oom_score_adj(&root, process, 1000).unwrap(),
            Applied::Yes
        );
        let lowered = set_oom_score_adj(&root, process, -999).unwrap();
        // It works with the capability; without it, the result is a warning with both values.
        assert!(
            [
                Applied::Yes,
                Applied::Refused {
                    current: 1000,
                    wanted: -999
                }
            ]
            .contains(&lowered),
            "{lowered:?}"
        );
        assert!(matches!(
            set_oom_score_adj(&root, process, 1001),
            Err(OomError::Io { .. })
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(
            set_oom_score_adj(&root, process, 0),
            Err(OomError::Gone(_))
        ));
    }

    #[test]
    fn a_stand_in_is_written_instead_of_the_process() {
        let dir = TestDir::new();
        let root = HostRoot::at(dir.path());
        std::fs::create_dir_all(root.join("/proc/self")).unwrap();
        set_oom_score_adj(&root, Process::Own, -999).unwrap();
        assert_eq!(
            std::fs::read_to_string(root.join("/proc/self/oom_score_adj")).unwrap(),
            "-999"
        );
    }

    #[test]
    fn open_files_are_raised_to_the_hard_limit_at_least() {
        let before = getrlimit(Resource::Nofile);
        let applied = raise_open_files(u64::from(u32::MAX)).unwrap();
        let after = getrlimit(Resource::Nofile);
        assert!(after.current >= before.current);
        if let Applied::Partly { current, .. } = applied {
            assert_eq!(
                (after.current, after.maximum),
                (Some(current), before.maximum)
            );
        }
        assert_eq!(raise_open_files(1).unwrap(), Applied::Yes);
        assert_eq!(getrlimit(Resource::Nofile), after);
    }
}
