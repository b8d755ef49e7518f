//! Lists the pods that have something on the disk, apart from the loop: a directory that does not answer delays no order.
//!
//! In:    the directory of pods, that of their logs
//! Out:   UIDs and names, as the directories' names tell them
//! Calls: sync_loop, once every source has spoken
//! Holds: an entry that bears no pod's name is left alone; a listing that does not return is retried without end
//! Upstream: pkg/kubelet/kubelet_volumes.go (cleanupOrphanedPodDirs), kuberuntime/kuberuntime_gc.go (evictPodLogsDirectories)

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kubelet_host::blocking::{About, Blocking, Lane};
use kubelet_model::ids::{PodFullName, PodUid};

use kubelet_decide::shapes::paths::owner_of_logs;

/// Longest that both directories may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(10);
/// Most names of one directory that are looked at: a start must not take as long as somebody likes.
const MOST_NAMES: usize = 1 << 16;

/// Pods that have a directory of their own (true) or of logs; the name of the latter tells namespace and name, too.
pub(super) type PodsOnDisk = BTreeMap<PodUid, (bool, PodFullName)>;

/// Lists until the disk answers. Cancel: safe.
pub(super) fn find(
    blocking: &Blocking,
    (pods_dir, logs_dir): (&Path, &Path),
) -> impl Future<Output = PodsOnDisk> + Send + 'static {
    let blocking = blocking.lane(Lane::Pods);
    let dirs: (PathBuf, PathBuf) = (pods_dir.to_owned(), logs_dir.to_owned());
    async move {
        loop {
            let (pods_dir, logs_dir) = dirs.clone();
            let list = move || on_disk(&pods_dir, &logs_dir);
            let about = About::the("directories of pods");
            match blocking.run_about(about, DEADLINE, "list", list).await {
                Ok(found) => return found,
                Err(overdue) => {
                    tracing::warn!(error = %overdue, "Pod directories could not be listed yet; orphan cleanup waits");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn on_disk(pods_dir: &Path, logs_dir: &Path) -> PodsOnDisk {
    let mut on_disk = BTreeMap::new();
    let refused = |dir: &Path, why| tracing::warn!(directory = %dir.display(), %why, "Ignoring a directory entry that is not a valid pod name");
    for name in names_in(pods_dir) {
        match PodUid::parse(&name) {
            Ok(uid) => {
                let unnamed = PodFullName::of_unnamed(&uid);
                on_disk.insert(uid, (true, unnamed));
            }
            Err(why) => refused(pods_dir, why),
        }
    }
    for name in names_in(logs_dir) {
        match owner_of_logs(&name) {
            Ok((uid, full_name)) => {
                let has_directory = on_disk.get(&uid).is_some_and(|(has, _)| *has);
                on_disk.insert(uid, (has_directory, full_name));
            }
            Err(why) => refused(logs_dir, why),
        }
    }
    on_disk
}

/// Names of what is in a directory, in order; nothing where it cannot be read.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .take(MOST_NAMES)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    /// A disk that does not answer is waited for by this listing alone.
    #[tokio::test]
    async fn a_listing_waits_for_its_thread_away_from_the_loop() {
        let scratch = Scratch::new();
        scratch.write("/pods/u1/x", "");
        scratch.write("/logs/default_a_u1/x", "");
        scratch.write("/logs/default_b_u2/x", "");
        scratch.write("/logs/default_x_/x", "");
        let blocking = Blocking::threads(1);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let lane = blocking.lane(Lane::Pods);
        let hang = move || held.recv().is_ok();
        let hung = lane.run(Duration::from_secs(600), "hang", hang);
        let (pods, logs) = (scratch.path().join("pods"), scratch.path().join("logs"));
        let mut found = std::pin::pin!(find(&blocking, (&pods, &logs)));
        let look = async {
            // The hung call has the only thread.
            tokio::task::yield_now().await;
            let is_there = futures_util::poll!(&mut found).is_ready();
            drop(release);
            is_there
        };
        let (_, was_there) = tokio::join!(biased; hung, look);
        assert!(!was_there);
        let found: Vec<String> = found
            .await
            .iter()
            .map(|(uid, (has_directory, name))| format!("{uid} {has_directory} {name}"))
            .collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("u1 true") && found[1].starts_with("u2 false"));
    }
}
