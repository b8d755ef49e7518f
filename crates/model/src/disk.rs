//! What the disk was seen to hold of a pod: the evidence that its removal carries.
//!
//! In:    device and inode numbers, as the file system told them
//! Out:   [`FileId`], [`SeenDir`], [`PodDirs`]
//! Holds: a name says where something lies, an id says which thing it was; only both together say what may be removed
//! Upstream: none

/// Which file or directory this is, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId {
    /// The file system's device number.
    pub device: u64,
    /// The number in it.
    pub inode: u64,
}

/// A directory as it was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenDir {
    /// Where.
    pub path: String,
    /// Which.
    pub id: FileId,
}

/// The directories of a pod, as they were seen when its removal was decided; `None` for one that was not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PodDirs {
    /// `ROOT/pods/<uid>`.
    pub pod: Option<FileId>,
    /// `<pod logs dir>/<namespace>_<name>_<uid>`.
    pub logs: Option<FileId>,
}
