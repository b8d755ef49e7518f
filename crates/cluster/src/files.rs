//! Files that a configuration names, read up to a bound.
//!
//! In:    a path, a limit
//! Out:   its bytes
//! Calls: kubeconfig, tls
//! Holds: a pipe is not waited for, and a device is not read without end
//! Upstream: none

use std::path::Path;

use tokio::io::AsyncReadExt as _;

/// A regular file, however long it says that it is: a pipe would be waited for, and a device has no end.
pub(crate) async fn read_bounded(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let wrong = |why: String| std::io::Error::new(std::io::ErrorKind::InvalidData, why);
    let kind = tokio::fs::metadata(path).await?.file_type();
    // The kernel itself says that a directory is one.
    if !kind.is_file() && !kind.is_dir() {
        return Err(wrong("is not a regular file".to_owned()));
    }
    let file = tokio::fs::File::open(path).await?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > limit {
        return Err(wrong(format!("has more than {limit} bytes")));
    }
    Ok(bytes)
}
