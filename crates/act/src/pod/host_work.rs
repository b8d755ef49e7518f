//! Carries out work on the node's disk, mounts and cgroups.
//!
//! In:    `HostWork` of a plan
//! Out:   done, or the first failure with its reason
//! Calls: execute
//! Holds: no decision; each kind may be repeated; each runs on a blocking thread under a deadline; a directory is removed only
//!        up to a mount point; host paths have a lane of their own, with one call for each pod and volume; while work on a pod's
//!        directory hangs, no other work on it starts
//! Upstream: pkg/kubelet/kubelet_pods.go (makePodDataDirs, makeMounts), pkg/volume/emptydir,
//!           pkg/kubelet/cm/pod_container_manager_linux.go

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kubelet_decide::container::env_file::{
    EnvFileProblem, EnvFileText, READ_LIMIT, env_file_value,
};
use kubelet_decide::shapes::env_files::{EnvFileRead, EnvFileValues};
use kubelet_decide::shapes::work::{HostWork, LogLink, Medium, PayloadWork};
use kubelet_host::HostRoot;
use kubelet_host::beneath::Mounts;
use kubelet_host::blocking::{About, Blocking, Lane};
use kubelet_host::cgroup::Cgroups;
use kubelet_host::files::{self, Durability};
use kubelet_host::ownership::{self, Access, ChangePolicy};
use kubelet_host::remove::{Kept, Turn};
use kubelet_host::{atomic_writer, empty_dir, host_path, links, mounts, remove, sub_path};
use kubelet_model::names::PathPart;
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;

use crate::frame::reconciler::RoundError;
use crate::resources::limits::limits_of;

mod removal;
#[cfg(test)]
mod tests;

pub use removal::kept;

/// Longest that work in the node's own root directory may take for one pod.
const DEADLINE: Duration = Duration::from_secs(120);
/// A pod's work gives its thread to others after so long.
const TURN: Duration = Duration::from_secs(5);
/// Longest that a path may take that a pod brings along. A dead file system is the usual cause of more; one that is only slow is
/// tried again.
const HOST_PATH_DEADLINE: Duration = Duration::from_secs(15);
/// Longest for one small look or file in directories of the node's own.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);
/// The mount table is read this fast, or it is not used.
const MOUNTS_DEADLINE: Duration = Duration::from_secs(5);

/// Directories of volumes that may lie in memory.
const IN_MEMORY: [&str; 4] = [
    "kubernetes.io~empty-dir",
    "kubernetes.io~secret",
    "kubernetes.io~downward-api",
    "kubernetes.io~projected",
];

/// Host work that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct HostWorkError {
    /// The reason status shows.
    pub reason: Reason,
    /// What, where, why.
    pub message: String,
}

impl HostWorkError {
    /// With the causes of an error: without them nobody learns why.
    fn new(reason: Reason, error: &dyn std::error::Error) -> Self {
        Self::said(reason, RoundError::of(error).0)
    }

    fn said(reason: Reason, message: String) -> Self {
        Self { reason, message }
    }
}

/// The node's host side. Clones share it.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where paths begin.
    pub root: HostRoot,
    /// Where blocking work runs.
    pub blocking: Blocking,
    /// The cgroup tree; `None` where there is none to use (simulation of the pod path alone).
    pub cgroups: Option<Arc<dyn Cgroups>>,
    /// Directory of links to container logs.
    pub container_logs_dir: PathBuf,
    /// What no removal may take.
    pub kept: Kept,
}

impl Host {
    /// Does all of it, in order. In the lane of removals for what takes a pod down, of pods' directories for the rest; host paths
    /// have their own.
    ///
    /// # Errors
    /// The first failure; what came before it stands and is harmless to do again.
    pub async fn work(
        &self,
        pod: &Pod,
        lane: Lane,
        work: Vec<HostWork>,
    ) -> Result<(), HostWorkError> {
        let mut own = Vec::new();
        for one in work {
            let there = match Elsewhere::of(&one) {
                Where::Own => {
                    own.push(one);
                    continue;
                }
                Where::Perhaps(there) => (there, true),
                Where::Elsewhere(there) => (there, false),
            };
            let before = std::mem::take(&mut own);
            self.own_work(pod, lane, before, TURN).await?;
            let (there, may_be_own) = there;
            if may_be_own && self.own_sub_path(pod, lane, one.clone()).await? {
                continue;
            }
            self.work_elsewhere(pod, &there, one).await?;
        }
        self.own_work(pod, lane, own, TURN).await
    }

    /// A part of a volume in the pod's own directory; `false` when another file system is on the way, which is not entered here.
    async fn own_sub_path(
        &self,
        pod: &Pod,
        lane: Lane,
        work: HostWork,
    ) -> Result<bool, HostWorkError> {
        let this = self.clone();
        let call = move || this.sub_path(&work, Mounts::Refused);
        let blocking = self.blocking.lane(lane);
        let done = blocking.run_about(about(pod), DEADLINE, "host side of a pod", call);
        done.await
            .map_err(|overdue| HostWorkError::new(Reason::FailedMount, &overdue))?
    }

    /// In as many calls as it takes: after each the lane's other calls have their turn, and large trees show that they get on.
    async fn own_work(
        &self,
        pod: &Pod,
        lane: Lane,
        work: Vec<HostWork>,
        turn: Duration,
    ) -> Result<(), HostWorkError> {
        let work: Arc<[HostWork]> = work.into();
        let blocking = self.blocking.lane(lane);
        let mut begin = 0;
        while begin < work.len() {
            let (this, work) = (self.clone(), Arc::clone(&work));
            let call = move || this.in_one_turn(&work, begin, Turn::of(turn));
            let done = blocking.run_about(about(pod), DEADLINE, "host side of a pod", call);
            begin = done
                .await
                .map_err(|overdue| HostWorkError::new(Reason::FailedMount, &overdue))??;
        }
        Ok(())
    }

    /// Where the next turn begins.
    fn in_one_turn(
        &self,
        work: &[HostWork],
        begin: usize,
        turn: Turn,
    ) -> Result<usize, HostWorkError> {
        for (at, one) in work.iter().enumerate().skip(begin) {
            match one {
                HostWork::RemoveTree { top, below } => {
                    if !self.remove_seen(top, below, turn)? {
                        return Ok(at);
                    }
                }
                one => self.one(one)?,
            }
            if turn.is_over() {
                return Ok(at + 1);
            }
        }
        Ok(work.len())
    }

    async fn work_elsewhere(
        &self,
        pod: &Pod,
        there: &Elsewhere,
        work: HostWork,
    ) -> Result<(), HostWorkError> {
        let about = About {
            key: match &work {
                // It ends in the pod's directory: nothing else is done there while it hangs.
                HostWork::SubPath { .. } => pod.uid.to_string(),
                _ => format!("{}/{}", pod.uid, there.volume),
            },
            text: format!(
                "volume \"{}\" at {} of pod {}",
                there.volume, there.path, pod.full_name
            ),
            // What a path on the root's file system leads to is not known by its name: it counts by itself.
            mount: Some(
                self.mount_of(&there.path)
                    .await
                    .unwrap_or_else(|| there.path.clone()),
            ),
        };
        let this = self.clone();
        let blocking = self.blocking.lane(Lane::HostPaths);
        let call = move || this.one(&work);
        let done = blocking.run_about(about, HOST_PATH_DEADLINE, "look at a host path", call);
        done.await
            .map_err(|overdue| set_up_failed(&there.volume, &overdue))?
    }

    /// Where the file system is mounted that a path lies on, as far as its name tells.
    async fn mount_of(&self, path: &str) -> Option<String> {
        let (root, path) = (self.root.clone(), path.to_owned());
        let blocking = self.blocking.lane(Lane::Pods);
        let look = move || host_path::mount_of(&root, &path);
        let found = blocking.run(MOUNTS_DEADLINE, "read the mount table", look);
        let found = found.await.ok().flatten();
        found.map(|at| at.to_string_lossy().into_owned())
    }

    /// Whether something of the pod lies on the disk. What cannot be looked at counts as something.
    pub async fn is_there(&self, pod: &Pod, path: &str) -> bool {
        let path = self.root.join(path);
        let blocking = self.blocking.lane(Lane::Pods);
        let look = move || remove::identity(&path).map_or(true, |found| found.is_some());
        let found = blocking.run_about(
            about(pod),
            LOOK_DEADLINE,
            "look for a pod's directory",
            look,
        );
        found.await.unwrap_or(true)
    }

    /// Looks up what variables come from in files of volumes, which containers may write meanwhile.
    ///
    /// # Errors
    /// The first variable that cannot be had.
    pub async fn read_env_files(
        &self,
        pod: &Pod,
        reads: Vec<EnvFileRead>,
    ) -> Result<EnvFileValues, EnvFileProblem> {
        let root = self.root.clone();
        let about = About {
            key: format!("{}/", pod.uid),
            ..about(pod)
        };
        let blocking = self.blocking.lane(Lane::Reads);
        let read = blocking.run_about(about, LOOK_DEADLINE, "files of variables", move || {
            let mut values = EnvFileValues::default();
            for read in &reads {
                let volume = root.join(&read.volume_path);
                let file = files::read_as_root(&volume, Path::new(&read.path), READ_LIMIT);
                let file = file.map(|(content, is_cut)| EnvFileText { content, is_cut });
                let value = env_file_value(read, file.map_err(|error| RoundError::of(&error).0))?;
                values.insert(read.index, value);
            }
            Ok(values)
        });
        read.await.map_err(|overdue| EnvFileProblem {
            message: overdue.to_string(),
            detail: overdue.to_string(),
        })?
    }

    /// Makes the link to a container's log.
    ///
    /// # Errors
    /// The disk's, or that it does not answer.
    pub async fn link_log(&self, pod: &Pod, link: &LogLink, id: &str) -> std::io::Result<()> {
        let name = PathPart::parse(LogLink::name(&link.stem, id))
            .map_err(|why| std::io::Error::new(std::io::ErrorKind::InvalidInput, why))?;
        let directory = self.root.join(&self.container_logs_dir);
        let target = link.target.clone();
        let about = About {
            key: format!("{}/log", pod.uid),
            ..about(pod)
        };
        let blocking = self.blocking.lane(Lane::Pods);
        let make = move || links::make(&directory, &name, &target);
        let made = blocking.run_about(about, LOOK_DEADLINE, "link to a log", make);
        made.await.map_err(std::io::Error::other)?
    }

    fn one(&self, work: &HostWork) -> Result<(), HostWorkError> {
        let failed = |error: &dyn std::error::Error| HostWorkError::new(Reason::FailedMount, error);
        match work {
            HostWork::MakeDir { path, mode } => {
                files::create_dir_all(&self.root.join(path), *mode).map_err(|e| failed(&e))
            }
            HostWork::WriteFile {
                path,
                mode,
                content,
            } => files::write_atomically(
                &self.root.join(path),
                content.as_bytes(),
                *mode,
                Durability::Process,
            )
            .map_err(|e| failed(&e)),
            HostWork::WriteHostsFromNode { path, head, tail } => {
                let hosts = files::read_text_bounded(&self.root.join("/etc/hosts"), 1 << 20)
                    .map_err(|e| failed(&e))?;
                let content = format!("{head}{hosts}{tail}");
                files::write_atomically(
                    &self.root.join(path),
                    content.as_bytes(),
                    0o644,
                    Durability::Process,
                )
                .map_err(|e| failed(&e))
            }
            HostWork::EmptyDir {
                path,
                marker,
                medium,
                group,
            } => self
                .empty_dir(path, marker, *medium, *group)
                .map_err(|error| set_up_failed(volume_of(path), &error)),
            HostWork::WritePayload(payload) => self.write_payload(payload),
            HostWork::SubPath { .. } => self.sub_path(work, Mounts::Passed).map(drop),
            HostWork::HostPath { volume, path, kind } => self.host_path(volume, path, kind),
            HostWork::MakeCgroup(pod) => self.make_cgroup(pod),
            HostWork::RemoveCgroup { path } => match &self.cgroups {
                Some(cgroups) => cgroups.remove(path).map_err(|e| failed(&e)),
                None => Ok(()),
            },
            HostWork::UnmountVolumes { pod_dir } => self.unmount_below(&self.root.join(pod_dir)),
            HostWork::RemoveTree { top, below } => {
                self.remove_seen(top, below, Turn::whole()).map(drop)
            }
            HostWork::RemoveInstanceLogs {
                logs,
                below,
                attempt,
                link,
            } => self
                .remove_instance_logs((logs, below), *attempt, link)
                .map_err(|e| failed(&e)),
            HostWork::RemoveLogLinks { stem, log_dir } => {
                self.remove_links(stem, log_dir).map_err(|e| failed(&e))
            }
        }
    }

    /// `false` when another file system is on the way that is not to be entered.
    fn sub_path(&self, work: &HostWork, mounts: Mounts) -> Result<bool, HostWorkError> {
        let HostWork::SubPath {
            volume,
            container,
            volume_path,
            part,
            target,
        } = work
        else {
            return Ok(true);
        };
        let at = |path: &str| self.root.join(path);
        let (volume_path, target) = (at(volume_path), at(target));
        match sub_path::prepare(&self.root, &volume_path, Path::new(part), &target, mounts) {
            Ok(()) => Ok(true),
            Err(error) if error.is_foreign() => Ok(false),
            Err(error) => Err(sub_path_failed(volume, container, &error)),
        }
    }

    fn host_path(&self, volume: &str, path: &str, kind: &str) -> Result<(), HostWorkError> {
        let text = |error: &dyn std::error::Error| set_up_failed(volume, error);
        let kind = kind
            .parse::<host_path::HostPathType>()
            .map_err(|e| text(&e))?;
        host_path::check_host_path(&self.root, path, kind).map_err(|e| text(&e))
    }

    fn make_cgroup(&self, pod: &kubelet_decide::shapes::work::Cgroup) -> Result<(), HostWorkError> {
        let Some(cgroups) = &self.cgroups else {
            return Ok(());
        };
        let limits = limits_of(pod);
        let unset = cgroups.create(&pod.path, &limits).map_err(|error| {
            let why = RoundError::of(&error);
            HostWorkError::said(
                Reason::FailedToCreatePodContainer,
                format!("unable to ensure pod container exists: {why}"),
            )
        })?;
        for error in unset {
            let why = RoundError::of(&error);
            tracing::warn!(cgroup = pod.path, error = %why, "A limit of the pod's cgroup could not be set");
        }
        Ok(())
    }

    fn empty_dir(
        &self,
        path: &str,
        marker: &str,
        medium: Medium,
        group: Option<u32>,
    ) -> Result<(), empty_dir::EmptyDirError> {
        let medium = match medium {
            Medium::Disk => empty_dir::Medium::Disk,
            Medium::Memory(size) => empty_dir::Medium::Memory(size),
        };
        let (path, marker) = (self.root.join(path), self.root.join(marker));
        let unchanged = empty_dir::set_up(&self.root, &path, &marker, medium, group)?;
        warn_unchanged(unchanged);
        Ok(())
    }

    fn write_payload(&self, work: &PayloadWork) -> Result<(), HostWorkError> {
        let failed = |error: &dyn std::error::Error| set_up_failed(&work.volume, error);
        let path = self.root.join(&work.path);
        for nested in &work.nested {
            files::create_dir_all(&path.join(nested), 0o755).map_err(|error| {
                let why = RoundError::of(&error);
                let why = format!("unable to create nested volume mountpoints: {why}");
                failed(&RoundError(why))
            })?;
        }
        let set_group = || {
            let Some(group) = work.group else {
                return Ok(());
            };
            // The links are made in the directory, too: all of it belongs to the group.
            let (access, policy) = (Access::ReadOnly, ChangePolicy::Always);
            ownership::set_group(&path, group, access, policy).map(warn_unchanged)
        };
        atomic_writer::write_payload(&path, &work.payload, work.at, set_group)
            .map(drop)
            .map_err(|error| failed(&error))
    }

    /// Unmounts parts of volumes and the volumes in memory of a pod, and nothing else.
    fn unmount_below(&self, pod_dir: &Path) -> Result<(), HostWorkError> {
        let failed = |error: &dyn std::error::Error| HostWorkError::new(Reason::FailedMount, error);
        sub_path::unmount_parts(&self.root, pod_dir).map_err(|e| failed(&e))?;
        for kind in IN_MEMORY {
            let volumes = pod_dir.join("volumes").join(kind);
            let mounted =
                mounts::mounts_at_or_below(&self.root, &volumes).map_err(|e| failed(&e))?;
            for path in mounted
                .iter()
                .filter(|path| path.parent() == Some(volumes.as_path()))
            {
                mounts::unmount(&self.root, path, mounts::Unmount::Plain)
                    .map_err(|e| failed(&e))?;
            }
        }
        Ok(())
    }
}

/// Work that leaves the node's own directories: any file system may be behind the path.
struct Elsewhere {
    volume: String,
    path: String,
}

/// Where work is done.
enum Where {
    /// In the node's own directories.
    Own,
    /// There, unless a container mounted another file system on the way.
    Perhaps(Elsewhere),
    /// Anywhere.
    Elsewhere(Elsewhere),
}

impl Elsewhere {
    /// A host path that is not looked at is done nowhere.
    fn of(work: &HostWork) -> Where {
        match work {
            HostWork::HostPath { volume, path, kind } if !kind.is_empty() => {
                Where::Elsewhere(Self {
                    volume: volume.clone(),
                    path: path.clone(),
                })
            }
            HostWork::SubPath {
                volume,
                volume_path,
                part,
                target,
                ..
            } => {
                let there = Self {
                    volume: volume.clone(),
                    path: format!("{volume_path}/{part}"),
                };
                if is_in_pod_dir(volume_path, target) {
                    Where::Perhaps(there)
                } else {
                    Where::Elsewhere(there)
                }
            }
            _ => Where::Own,
        }
    }
}

/// Whether a volume lies in the directory of the pod whose sub path's target this is.
fn is_in_pod_dir(volume_path: &str, target: &str) -> bool {
    let pod_dir = target.split_once("/volume-subpaths/").map(|(dir, _)| dir);
    pod_dir.is_some_and(|dir| Path::new(volume_path).starts_with(dir))
}

/// A pod's own directory: what hangs there keeps everything else from it.
fn about(pod: &Pod) -> About {
    About {
        key: pod.uid.to_string(),
        text: format!("pod {}", pod.full_name),
        mount: None,
    }
}

/// Upstream's event for a volume that cannot be set up.
fn set_up_failed(volume: &str, error: &dyn std::error::Error) -> HostWorkError {
    HostWorkError::said(
        Reason::FailedMount,
        format!(
            "MountVolume.SetUp failed for volume \"{volume}\" : {}",
            RoundError::of(error)
        ),
    )
}

/// A volume's directory bears its name.
fn volume_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// People are told what was tried; what the host's files are stays in the log.
fn sub_path_failed(volume: &str, container: &str, error: &sub_path::SubPathError) -> HostWorkError {
    let why = RoundError::of(error).0;
    tracing::error!(volume, container, why, "Sub path failed");
    let what = match error {
        sub_path::SubPathError::Create(_) => "create subPath directory",
        sub_path::SubPathError::Prepare(_) => "prepare subPath",
    };
    let message =
        format!("failed to {what} for volumeMount \"{volume}\" of container \"{container}\"");
    HostWorkError::said(Reason::CreateContainerConfigError, message)
}

fn warn_unchanged(unchanged: Option<files::FileError>) {
    if let Some(error) = unchanged {
        let why = RoundError::of(&error);
        tracing::warn!(error = %why, "Owner or mode of a file in a volume could not be changed");
    }
}
