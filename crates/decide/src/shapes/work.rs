//! Work on the host: directories, volumes, cgroups, log links.
//!
//! In:    nothing
//! Out:   [`HostWork`] and what it is made of
//! Calls: volumes, resources, pod; act/pod/host_work carries it out
//! Holds: a step names all that it needs
//! Upstream: pkg/volume, pkg/kubelet/cm

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubelet_model::disk::SeenDir;
use kubelet_model::objects::Payload;

/// Work on the node's own disk, mounts and cgroups. Every kind may be done twice without harm.
#[derive(Clone, Debug, PartialEq)]
pub enum HostWork {
    /// Make a directory with its parents; the mode is of the last one.
    MakeDir {
        /// Path.
        path: String,
        /// Mode.
        mode: u32,
    },
    /// Write a small file, whole.
    WriteFile {
        /// Path.
        path: String,
        /// Mode.
        mode: u32,
        /// Content.
        content: String,
    },
    /// Write the hosts file of a pod on the node's network: a head, the node's own file, a tail.
    WriteHostsFromNode {
        /// Path.
        path: String,
        /// What comes before the node's own lines.
        head: String,
        /// What comes behind them.
        tail: String,
    },
    /// Set up an emptyDir, unless it stands.
    EmptyDir {
        /// Path.
        path: String,
        /// Directory of its marker.
        marker: String,
        /// What it is made of.
        medium: Medium,
        /// Group that may write it.
        group: Option<u32>,
    },
    /// Put the files of a volume in place, unless they are there.
    WritePayload(PayloadWork),
    /// Mount part of a volume by itself, for one mount of one container.
    SubPath {
        /// Volume's name, for the message.
        volume: String,
        /// Container's name, for the message.
        container: String,
        /// Where the volume lies.
        volume_path: String,
        /// The part.
        part: String,
        /// Where it is mounted.
        target: String,
    },
    /// Check, and for some types make, a host path.
    HostPath {
        /// Volume's name, for the message.
        volume: String,
        /// Path.
        path: String,
        /// `hostPath.type`.
        kind: String,
    },
    /// Make or update the pod's cgroup.
    MakeCgroup(Cgroup),
    /// Kill what is left in the pod's cgroup and remove it.
    RemoveCgroup {
        /// Path below the controllers' roots.
        path: String,
    },
    /// Unmount parts of volumes, and volumes in memory.
    UnmountVolumes {
        /// The pod's directory.
        pod_dir: String,
    },
    /// Remove a tree of ours, if it is still in the directory that was seen; stops at any mount point.
    RemoveTree {
        /// The pod's directory, or that of its logs.
        top: SeenDir,
        /// What goes of it; empty for all of it.
        below: String,
    },
    /// Remove the files of one instance's log, and the link to it.
    RemoveInstanceLogs {
        /// Directory of the logs of all pods.
        logs: String,
        /// Directory of the container's logs, below it.
        below: String,
        /// Its attempt: `<attempt>.log` and what begins with that goes.
        attempt: u32,
        /// `<pod>_<namespace>_<container>-<id>.log`
        link: String,
    },
    /// Remove links of the container log directory that begin with this.
    RemoveLogLinks {
        /// `<pod>_<namespace>_`.
        stem: String,
        /// Only those that point below this directory.
        log_dir: String,
    },
}

/// What a directory of ours is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// The node's disk.
    Disk,
    /// Memory, with this limit in bytes; `None` is the kernel's default.
    Memory(Option<u64>),
}

/// Files of a volume.
#[derive(Clone, Debug, PartialEq)]
pub struct PayloadWork {
    /// Volume's name, for the message.
    pub volume: String,
    /// Where it lies.
    pub path: String,
    /// Its files.
    pub payload: Payload,
    /// Group that may read them.
    pub group: Option<u32>,
    /// Directories to make below it, on which other volumes are mounted.
    pub nested: Vec<String>,
    /// When it was decided: part of a name on disk.
    pub at: Timestamp,
}

/// The legacy link to a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLink {
    /// `<pod>_<namespace>_<container>`; `-<id>.log` is put behind it once the id is known.
    pub stem: String,
    /// Host path of the log.
    pub target: String,
}

/// Tells one content of a volume from another, within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub(crate) u64);

/// What sets one volume up, or writes its files anew.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeWork {
    /// The volume's name.
    pub volume: String,
    /// What to do, in order.
    pub work: Vec<HostWork>,
    /// What the volume is once that is done.
    pub makes: SetUp,
}

/// What this process made of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUp {
    /// A directory that belongs to the containers.
    Directory,
    /// Files of objects or fields, with this content.
    Files(Mark),
}

/// Whether the pod itself goes, or only what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Its source does not name it any more.
    Yes,
    /// It ended and stays to be looked at.
    No,
}

/// One cgroup as it should be. `None` leaves a limit as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Path below the hierarchy's mount, `/kubepods/burstable/pod<uid>`.
    pub path: String,
    /// CPU shares (v2: converted to a weight by the writer).
    pub cpu_shares: Option<u64>,
    /// CFS quota, microseconds; -1 is no limit.
    pub cpu_quota_us: Option<i64>,
    /// CFS period, microseconds.
    pub cpu_period_us: Option<u64>,
    /// Memory, bytes.
    pub memory_limit: Option<i64>,
    /// Processes.
    pub pids_limit: Option<i64>,
    /// Huge pages, bytes by size name (`2MB`).
    pub hugetlb: Option<BTreeMap<String, u64>>,
}

/// The cgroup of a pod.
pub type PodCgroup = Cgroup;
