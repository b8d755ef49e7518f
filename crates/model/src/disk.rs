//! What was found on disk for a pod: the evidence that its removal carries.
//!
//! In:    device and inode numbers from the file system
//! Out:   [`FileId`], [`SeenDir`], [`PodDirs`]
//! Holds: a path says where a directory is, an ID says which one it was; a removal needs both
//! Upstream: none

/// The identity of a file or directory, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId {
    /// The file system's device number.
    pub device: u64,
    /// The inode number.
    pub inode: u64,
}

/// An inspected directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenDir {
    /// The path.
    pub path: String,
    /// The identity.
    pub id: FileId,
}

/// The directories of a pod, as inspected when its removal was decided; `None` for one that did not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PodDirs {
    /// `ROOT/pods/<uid>`.
    pub pod: Option<FileId>,
    /// `<pod logs dir>/<namespace>_<name>_<uid>`.
    pub logs: Option<FileId>,
}
