//! What the removal of a pod deletes from the disk: inspected first, then removed if it is still the same.
//!
//! In:    a pod, the directories that were seen
//! Out:   `PodDirs`; trees and links that are gone
//! Calls: pod_worker (the look), the work of a release
//! Holds: what bears a pod's name but is not what was inspected is kept, and named in the log
//! Upstream: pkg/kubelet/kubelet_volumes.go (cleanupOrphanedPodDirs), pkg/kubelet/kuberuntime/kuberuntime_gc.go (evictPodLogsDirectories)

use std::collections::BTreeMap;
use std::path::Path;

use kubelet_decide::shapes::paths::{log_dir, log_dir_name, pod_dir};
use kubelet_host::blocking::Lane;
use kubelet_host::remove::{self, Kept, Removed, Turn};
use kubelet_host::{instance_logs, links};
use kubelet_model::disk::{PodDirs, SeenDir};
use kubelet_model::names::PathPart;
use kubelet_model::node::NodeView;
use kubelet_model::pod::Pod;
use kubelet_model::reason::Reason;

use super::{DEADLINE, Host, HostWorkError, LOOK_DEADLINE, about};

impl Host {
    /// Which directories the pod has now.
    ///
    /// # Errors
    /// One cannot be looked at: nobody knows, and nothing may be removed or given up for removed.
    pub async fn see_pod_dirs(&self, pod: &Pod, node: &NodeView) -> Result<PodDirs, HostWorkError> {
        let own = self.root.join(pod_dir(pod, node));
        let logs = self.root.join(log_dir(pod, node));
        let look = move || {
            Ok(PodDirs {
                pod: remove::identity(&own)?,
                logs: remove::identity(&logs)?,
            })
        };
        let blocking = self.blocking.lane(Lane::Removals);
        let looked = blocking.run_about(about(pod), DEADLINE, "directories of a pod", look);
        let failed = |error: &dyn std::error::Error| HostWorkError::new(Reason::FailedMount, error);
        let looked: Result<_, kubelet_host::files::FileError> =
            looked.await.map_err(|overdue| failed(&overdue))?;
        looked.map_err(|error| failed(&error))
    }

    /// Whether all of it is gone that is to go.
    pub(super) fn remove_seen(
        &self,
        top: &SeenDir,
        below: &str,
        turn: Turn,
    ) -> Result<bool, HostWorkError> {
        let path = self.root.join(&top.path);
        let at = (path.as_path(), top.id);
        let removed = remove::remove_seen(&self.root, &self.kept, at, Path::new(below), turn)
            .map_err(|error| HostWorkError::new(Reason::FailedMount, &error))?;
        if removed == Removed::Replaced {
            tracing::warn!(directory = %path.display(), below, "A directory was replaced since it was inspected; it is not removed");
        }
        Ok(removed != Removed::More)
    }

    pub(super) fn remove_instance_logs(
        &self,
        (logs, below): (&str, &str),
        attempt: u32,
        link: &str,
    ) -> std::io::Result<()> {
        instance_logs::remove(&self.root.join(logs), Path::new(below), attempt)?;
        let link = PathPart::parse(link.to_owned())
            .map_err(|why| std::io::Error::new(std::io::ErrorKind::InvalidInput, why))?;
        links::remove(&self.root.join(&self.container_logs_dir), &link)
    }

    /// The highest attempt of each container that has left a log; none where that cannot be looked at.
    pub async fn logged_attempts(&self, pod: &Pod, node: &NodeView) -> BTreeMap<String, u32> {
        let logs = self.root.join(&node.pod_logs_dir);
        let names = pod.all_containers().map(|spec| spec.name.clone());
        let places: Vec<(String, String)> = names
            .map(|name| (format!("{}/{name}", log_dir_name(pod)), name))
            .collect();
        let look = move || {
            let attempt = |(below, name): (String, String)| {
                let highest = instance_logs::highest_attempt(&logs, Path::new(&below));
                Some((name, highest.ok().flatten()?))
            };
            places.into_iter().filter_map(attempt).collect()
        };
        let blocking = self.blocking.lane(Lane::Pods);
        let looked = blocking.run_about(about(pod), LOOK_DEADLINE, "logs of a pod", look);
        looked.await.unwrap_or_default()
    }

    pub(super) fn remove_links(&self, stem: &str, log_dir: &str) -> std::io::Result<()> {
        let directory = self.root.join(&self.container_logs_dir);
        links::remove_into(&directory, stem, Path::new(log_dir))
    }
}

/// Directories of this node that hold more than one pod's files.
pub fn kept(root: &kubelet_host::HostRoot, node: &NodeView, container_logs: &Path) -> Kept {
    let below = |part: &str| root.join(format!("{}/{part}", node.root_dir));
    Kept::new([
        root.join(&node.root_dir),
        below("pods"),
        below("plugins"),
        below("plugins_registry"),
        below("pod-resources"),
        below("device-plugins"),
        below("hyperkube"),
        root.join(&node.pod_logs_dir),
        root.join(container_logs),
    ])
}
