//! What is set once, before the first pod: sysctls of the node, limits of the kubelet's process, the cgroup tree, reserved cgroups.
//!
//! In:    the configuration, the tree's parts
//! Out:   warnings, one line each, and events; an error where the kubelet must not go on
//! Calls: wiring, on a blocking thread, once
//! Holds: what the machine refuses for lack of a capability is a warning; what the configuration demands is an error
//! Upstream: pkg/kubelet/cm/container_manager_linux.go (setupNode), node_container_manager_linux.go
//!           (enforceNodeAllocatableCgroups), cmd/kubelet/app/server.go; differences: a tunable that cannot be set is a warning
//!           unless `protectKernelDefaults` asks for it

use std::collections::BTreeMap;

use kubelet_decide::report::events::{NodeEvent, limits_enforced, limits_failed};
use kubelet_decide::resources::milli_cpu_to_shares;
use kubelet_decide::shapes::work::Cgroup;
use kubelet_host::HostRoot;
use kubelet_host::cgroup::{CgroupError, Cgroups};
use kubelet_host::kernel::{TUNABLES, TunablePolicy, apply_tunables};
use kubelet_host::oom::{Applied, OomError, Process, raise_open_files, set_oom_score_adj};
use kubelet_model::config::Config;
use kubelet_model::quantity::Quantity;

use super::{CgroupTreeParts, limits_of, wanted_tree, without_shares, write_all};
use crate::frame::reconciler::RoundError;

/// The node cannot be made ready for pods.
#[derive(Debug, thiserror::Error)]
pub enum ContainerManagerError {
    /// `protectKernelDefaults`, and these differ.
    #[error("kernel settings differ and may not be changed: {}", .0.join("; "))]
    Tunables(Vec<String>),
    /// The cgroup of all pods, or a tier, does not stand.
    #[error("failed to initialize top level QOS containers: {0}")]
    Tree(String),
    /// `enforceNodeAllocatable` names it, but it is not there or takes no limits.
    #[error("Failed to enforce {what} Cgroup Limits on {path:?}: {why}")]
    Reserved {
        /// Whose.
        what: &'static str,
        /// Its cgroup.
        path: String,
        /// Why.
        why: String,
    },
}

/// A node that is ready for pods.
#[derive(Debug, Default)]
pub struct NodePrepared {
    /// For the log.
    pub warnings: Vec<String>,
    /// For people.
    pub events: Vec<NodeEvent>,
}

/// Makes the node ready. Blocking.
///
/// # Errors
/// A kernel setting that is protected, a tree that cannot be made, a reserved cgroup that is not there.
pub fn prepare_node(
    config: &Config,
    root: &HostRoot,
    parts: &CgroupTreeParts,
) -> Result<NodePrepared, ContainerManagerError> {
    let mut warnings = tunables(root, config.cgroups.protect_kernel_defaults)?;
    let wanted = i64::from(config.cgroups.oom_score_adj);
    warnings.extend(refusal(
        "oom_score_adj",
        set_oom_score_adj(root, Process::Own, wanted),
    ));
    if !root.is_stand_in() {
        let raised = raise_open_files(config.cgroups.max_open_files);
        warnings.extend(refusal("RLIMIT_NOFILE", raised));
    }
    let tree = wanted_tree(&[], &parts.node, &parts.allowance);
    let cgroups = parts.cgroups.as_ref();
    // Running pods of an earlier process keep their share of burstable until their pods are known.
    let tree: Vec<Cgroup> = tree
        .into_iter()
        .map(|cgroup| {
            if cgroups.exists(&cgroup.path) {
                without_shares(cgroup)
            } else {
                cgroup
            }
        })
        .collect();
    let failed = write_all(cgroups, &tree);
    for cgroup in &tree {
        let missing = cgroups.missing(&cgroup.path);
        if !missing.is_empty() {
            let why = failed.iter().map(|error| RoundError::of(error).0);
            let why: Vec<String> = missing.into_iter().chain(why).collect();
            return Err(ContainerManagerError::Tree(why.join("; ")));
        }
    }
    let failed: Vec<String> = failed.iter().map(|e| RoundError::of(e).0).collect();
    let mut events = Vec::new();
    events.extend(tree.first().map(|root| match failed.as_slice() {
        [] => limits_enforced("pods"),
        failed => limits_failed(&root.path, &failed.join("; ")),
    }));
    warnings.extend(failed);
    events.extend(enforce_reserved(config, cgroups)?);
    Ok(NodePrepared { warnings, events })
}

fn tunables(root: &HostRoot, is_protected: bool) -> Result<Vec<String>, ContainerManagerError> {
    let policy = if is_protected {
        TunablePolicy::Refuse
    } else {
        TunablePolicy::Modify
    };
    let outcome = apply_tunables(&root.join("/"), &TUNABLES, policy);
    for (tunable, before) in &outcome.changed {
        tracing::info!(
            flag = tunable.name,
            before,
            value = tunable.value,
            "Updating kernel flag"
        );
    }
    let errors: Vec<String> = outcome
        .errors
        .iter()
        .map(|error| RoundError::of(error).0)
        .collect();
    if is_protected && !errors.is_empty() {
        return Err(ContainerManagerError::Tunables(errors));
    }
    Ok(errors)
}

fn refusal(what: &str, outcome: Result<Applied, OomError>) -> Option<String> {
    match outcome {
        Ok(Applied::Yes) => None,
        Ok(other) => Some(format!("{what} is left as it is: {other:?}")),
        Err(error) => Some(format!("{what}: {}", RoundError::of(&error))),
    }
}

/// Limits on the cgroups of the system's and of Kubernetes' own processes, which must stand already.
fn enforce_reserved(
    config: &Config,
    cgroups: &dyn Cgroups,
) -> Result<Vec<NodeEvent>, ContainerManagerError> {
    let mut events = Vec::new();
    let resources = &config.resources;
    let system = (
        &resources.system_reserved,
        &resources.system_reserved_cgroup,
    );
    let kube = (&resources.kube_reserved, &resources.kube_reserved_cgroup);
    let all = [
        ("system-reserved", "System Reserved", system, false),
        ("kube-reserved", "Kube Reserved", kube, false),
        (
            "system-reserved-compressible",
            "System Reserved Compressible",
            system,
            true,
        ),
        (
            "kube-reserved-compressible",
            "Kube Reserved Compressible",
            kube,
            true,
        ),
    ];
    for (key, what, (amounts, path), is_compressible) in all {
        let Some(path) = path.as_ref().filter(|_| resources.enforce.contains(key)) else {
            continue;
        };
        let wanted = reserved_cgroup(path, amounts, is_compressible);
        let missing = cgroups.missing(&wanted.path);
        let problems: Vec<String> = if missing.is_empty() {
            let unset: Vec<CgroupError> = cgroups.update(&wanted.path, &limits_of(&wanted));
            let why = unset.iter().map(|error| RoundError::of(error).0);
            why.collect()
        } else {
            vec![absent(&wanted.path, &missing)]
        };
        if !problems.is_empty() {
            return Err(ContainerManagerError::Reserved {
                what,
                path: path.clone(),
                why: problems.join("; "),
            });
        }
        let whose = what.to_lowercase();
        let whose = whose.trim_end_matches(" compressible");
        events.push(limits_enforced(&format!("{whose} cgroup {path}")));
    }
    Ok(events)
}

/// What of a cgroup is not there, in upstream's words: directories (v1), controllers or the whole of it (v2).
fn absent(path: &str, missing: &[String]) -> String {
    let name: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let what = missing.join(", ");
    if missing.iter().all(|one| one.starts_with('/')) {
        format!("cgroup {name:?} has some missing paths: {what}")
    } else if missing.iter().any(|one| one.contains(' ')) {
        format!("could not read controllers for cgroup {name:?}: {what}")
    } else {
        format!("cgroup {name:?} has some missing controllers: {what}")
    }
}

fn reserved_cgroup(
    path: &str,
    amounts: &BTreeMap<String, Quantity>,
    is_compressible: bool,
) -> Cgroup {
    let rest = |name: &str| {
        amounts
            .get(name)
            .filter(|_| !is_compressible)
            .map(Quantity::value)
    };
    Cgroup {
        path: format!("/{}", path.trim_matches('/')),
        cpu_shares: amounts
            .get("cpu")
            .and_then(|cpu| u64::try_from(milli_cpu_to_shares(cpu.milli_value())).ok()),
        memory_limit: rest("memory"),
        pids_limit: rest("pid"),
        ..Cgroup::default()
    }
}
