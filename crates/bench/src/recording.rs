//! What the proxy heard, made into requests that can be sent again for a pod of another name.
//!
//! In:    the calls of one pod's start and end
//! Out:   [`Recording`]: its requests as bytes; [`Reads`]: how often the runtime was asked, and how widely
//! Calls: phases record and floor
//! Holds: name and UID are replaced by others of the same length in the encoded bytes, so every field of the kubelet's requests is sent
//!        again as it was
//! Upstream: none

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kubelet_api::runtime::v1 as cri;
use prost::Message;

use crate::proxy::Call;

/// Reads of the runtime, counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads {
    /// Of one sandbox or container, or of the lists of one pod.
    pub(crate) scoped: usize,
    /// Lists of everything on the node.
    pub(crate) node_wide: usize,
    /// All calls by method.
    pub(crate) methods: BTreeMap<String, usize>,
}

fn names_a_pod(id: bool, labels: usize) -> bool {
    id || labels > 0
}

/// Whether a list asks for everything; nothing if the call is no list.
fn is_node_wide(call: &Call) -> Option<bool> {
    let bytes = call.request.as_slice();
    let scoped = match call.method.as_str() {
        "ListPodSandbox" => {
            let filter = cri::ListPodSandboxRequest::decode(bytes).ok()?.filter;
            filter.is_some_and(|filter| {
                names_a_pod(!filter.id.is_empty(), filter.label_selector.len())
            })
        }
        "ListContainers" => {
            let filter = cri::ListContainersRequest::decode(bytes).ok()?.filter;
            filter.is_some_and(|filter| {
                let id = !filter.id.is_empty() || !filter.pod_sandbox_id.is_empty();
                names_a_pod(id, filter.label_selector.len())
            })
        }
        "ListPodSandboxStats" | "ListContainerStats" | "ListPodSandboxMetrics" => false,
        _ => return None,
    };
    Some(!scoped)
}

/// Counts calls.
pub(crate) fn count(calls: &[Call]) -> Reads {
    let mut reads = Reads::default();
    for call in calls {
        let node_wide = is_node_wide(call);
        let status = matches!(call.method.as_str(), "PodSandboxStatus" | "ContainerStatus");
        reads.scoped += usize::from(status || node_wide == Some(false));
        reads.node_wide += usize::from(node_wide == Some(true));
        let suffix = if node_wide == Some(true) {
            " (all)"
        } else {
            ""
        };
        *reads
            .methods
            .entry(format!("{}{suffix}", call.method))
            .or_default() += 1;
    }
    reads
}

/// How the kubelet ended the pod.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End {
    /// The grace period of its stop, in seconds.
    pub(crate) grace: i64,
    /// Whether containers were removed by themselves, not only with their sandbox.
    pub(crate) removes_containers: bool,
}

/// The requests that started one pod.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    name: String,
    uid: String,
    sandbox: Vec<u8>,
    container: Vec<u8>,
    /// How many containers the replayed pod has, all like the recorded one.
    containers: usize,
    /// The end as it was recorded.
    pub(crate) end: End,
    /// The host's side of the container's mounts: the path, and its content if it is a file.
    mounts: Vec<(PathBuf, Option<Vec<u8>>)>,
}

/// Requests for a pod that never was.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) sandbox: cri::RunPodSandboxRequest,
    /// Without the sandbox's id.
    pub(crate) containers: Vec<cri::CreateContainerRequest>,
    /// Files (with content) and directories that must be there.
    pub(crate) mounts: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// The pod's own directory, in which they lie.
    pub(crate) folder: Option<PathBuf>,
}

fn find<'a>(calls: &'a [Call], method: &str, text: &str) -> anyhow::Result<&'a [u8]> {
    let mut found = calls
        .iter()
        .filter(|call| call.method == method && holds(&call.request, text));
    let first = found
        .next()
        .with_context(|| format!("no {method} of {text} was recorded"))?;
    if found.next().is_some() {
        bail!("more than one {method} of {text} was recorded");
    }
    Ok(&first.request)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(window) = bytes.get_mut(at..at + old.len()) {
        if window == old.as_bytes() {
            window.copy_from_slice(new.as_bytes());
        }
        at += 1;
    }
    bytes
}

impl Recording {
    /// Picks a running pod's requests out of the calls of its start.
    pub(crate) fn of(calls: &[Call], name: &str, uid: &str) -> anyhow::Result<Self> {
        let sandbox = find(calls, "RunPodSandbox", uid)?.to_vec();
        let container = find(calls, "CreateContainer", uid)?.to_vec();
        let decoded = cri::CreateContainerRequest::decode(container.as_slice())?;
        let config = decoded.config.context("a container has a configuration")?;
        let mounts = config
            .mounts
            .iter()
            // What is not the pod's own stays where it is and is not touched.
            .filter(|mount| mount.host_path.contains(uid))
            .map(|mount| {
                let path = PathBuf::from(&mount.host_path);
                let content = if path.is_file() {
                    Some(fs::read(&path)?)
                } else {
                    None
                };
                Ok((path, content))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            name: name.to_owned(),
            uid: uid.to_owned(),
            sandbox,
            container,
            containers: 1,
            end: End::default(),
            mounts,
        })
    }

    /// Takes the calls of the pod's end.
    pub(crate) fn with_end(mut self, calls: &[Call]) -> anyhow::Result<Self> {
        let stop = calls.iter().find(|call| call.method == "StopContainer");
        let stop = stop.context("no StopContainer was recorded")?;
        self.end = End {
            grace: cri::StopContainerRequest::decode(stop.request.as_slice())?.timeout,
            removes_containers: calls.iter().any(|call| call.method == "RemoveContainer"),
        };
        Ok(self)
    }

    /// The same for a pod of so many containers.
    pub(crate) fn with_containers(&self, containers: usize) -> Self {
        Self {
            containers,
            ..self.clone()
        }
    }

    /// The same requests for the pod of this number.
    pub(crate) fn replay(&self, number: u32) -> anyhow::Result<Replay> {
        let (name_width, uid_width) = (self.name.len() - 1, self.uid.len() - 8);
        let name = format!("f{number:0name_width$}");
        let uid = format!("{number:08x}{:f>uid_width$}", "");
        let fresh = |bytes: &[u8]| replaced(&replaced(bytes, &self.uid, &uid), &self.name, &name);
        let renamed = |path: &Path| {
            let text = path.to_string_lossy().replace(&self.uid, &uid);
            PathBuf::from(text.replace(&self.name, &name))
        };
        let mounts: Vec<_> = self
            .mounts
            .iter()
            .map(|(path, content)| (renamed(path), content.clone()))
            .collect();
        let folder = mounts
            .first()
            .and_then(|(path, _)| path.ancestors().find(|folder| folder.ends_with(&uid)));
        let container = cri::CreateContainerRequest::decode(fresh(&self.container).as_slice())?;
        let of_number = |number: usize| {
            let mut request = container.clone();
            if let Some(config) = request.config.as_mut() {
                config.log_path = format!("c{number}/0.log");
                if let Some(metadata) = config.metadata.as_mut() {
                    metadata.name = format!("c{number}");
                }
            }
            request
        };
        Ok(Replay {
            sandbox: cri::RunPodSandboxRequest::decode(fresh(&self.sandbox).as_slice())?,
            containers: (0..self.containers).map(of_number).collect(),
            folder: folder.map(Path::to_owned),
            mounts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, request: Vec<u8>) -> Call {
        Call {
            at: 0.0,
            method: method.to_owned(),
            request,
        }
    }

    #[test]
    fn replaced_bytes_keep_their_length_and_every_occurrence_is_replaced() {
        assert_eq!(replaced(b"p-01/p-01x", "p-01", "f000"), b"f000/f000x");
    }

    #[test]
    fn a_list_without_filter_is_node_wide_and_one_with_a_label_is_not() {
        let all = cri::ListContainersRequest::default();
        let filter = cri::ContainerFilter {
            label_selector: [("io.kubernetes.pod.uid".to_owned(), "u".to_owned())].into(),
            ..Default::default()
        };
        let one = cri::ListContainersRequest {
            filter: Some(filter),
        };
        let state_only = cri::ListContainersRequest {
            filter: Some(cri::ContainerFilter {
                state: Some(cri::ContainerStateValue { state: 1 }),
                ..Default::default()
            }),
        };
        let reads = count(&[
            call("ListContainers", all.encode_to_vec()),
            call("ListContainers", one.encode_to_vec()),
            call("ListContainers", state_only.encode_to_vec()),
            call("ContainerStatus", Vec::new()),
            call("RunPodSandbox", Vec::new()),
        ]);
        assert_eq!((reads.scoped, reads.node_wide), (2, 2));
    }
}
