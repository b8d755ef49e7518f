//! Reads the machine once at start: what plans need to know of the node.
//!
//! In:    the configuration, the machine, files of the host (`/proc`, `/sys`, resolv.conf, `/etc/hosts`)
//! Out:   `NodeView` with the problems met on the way; what all pods may use together
//! Calls: wiring, on a blocking thread
//! Holds: nothing is asked over the network; a node without an address still starts; only what would make every pod wrong is an
//!        error
//! Upstream: pkg/kubelet/kubelet.go, pkg/kubelet/nodestatus/setters.go, pkg/kubelet/cm/container_manager_linux.go; differences:
//!           the host name is looked up in `/etc/hosts` only

mod addresses;
mod capacity;
mod cluster;
#[cfg(test)]
mod tests;

use std::path::Path;

use kubelet_decide::container::dns::{ResolvConfError, parse_resolv_conf};
use kubelet_decide::pod::admission::{AdmissionRules, AppArmor, SysctlAllowlist};
use kubelet_host::HostRoot;
use kubelet_host::cgroup::CgroupVersion;
use kubelet_host::files::{FileError, filesystem_figures, read_text_bounded};
use kubelet_host::machine::Machine;
use kubelet_model::config::Config;
use kubelet_model::gates;
use kubelet_model::node::{CgroupView, DnsView, HostResolver, NodeView};

pub use addresses::NodeIpError;
pub use capacity::{cpu_list, pods_allowance};
pub use cluster::{ClusterFacts, cluster_facts};

/// Why there is no node to speak of.
#[derive(Debug, thiserror::Error)]
pub enum NodeFactsError {
    /// The host's name cannot be read.
    #[error("couldn't determine hostname")]
    Hostname(#[source] FileError),
    /// The host has no name and none was given.
    #[error("empty hostname is invalid")]
    EmptyHostname,
    /// `--node-ip` makes no sense.
    #[error(transparent)]
    NodeIp(#[from] NodeIpError),
    /// The node's resolver file cannot be understood.
    #[error("cannot use resolvConf {path}")]
    ResolvConf {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: ResolvConfError,
    },
    /// More is reserved than there is; each resource in upstream's words.
    #[error("invalid Node Allocatable configuration. {}", .0.join(" "))]
    OverReserved(Vec<String>),
    /// `allowedUnsafeSysctls` names what no pod can have; upstream's words.
    #[error("{0}")]
    Sysctls(String),
}

/// The node as plans need it, and what could not be found out (one line each, for the log). Blocking.
///
/// # Errors
/// No name, an address that is none, a resolver file with a line that means nothing, or too much reserved.
pub fn node_view(
    config: &Config,
    machine: &Machine,
    root: &HostRoot,
    version: CgroupVersion,
    runtime_name: &str,
) -> Result<(NodeView, Vec<String>), NodeFactsError> {
    let mut problems = Vec::new();
    let hostname = host_name(config, root)?;
    let name = node_name(config, &hostname)?;
    let ips = addresses::node_ips(config, &name, root, &mut problems)?;
    let node_disk = config
        .resources
        .local_storage_isolation
        .then(|| disk_capacity(root, &config.paths.root_dir, &mut problems))
        .flatten();
    let amounts = capacity::Amounts::of(config, machine, node_disk);
    let over = amounts.over_reserved();
    if !over.is_empty() {
        return Err(NodeFactsError::OverReserved(over));
    }
    let view = NodeView {
        name,
        hostname,
        ips,
        capacity_milli_cpu: amounts.capacity_of("cpu"),
        capacity_memory_bytes: amounts.capacity_of("memory"),
        allocatable: amounts.allocatable(),
        hugepage_sizes: capacity::page_sizes(machine),
        root_dir: config.paths.root_dir.display().to_string(),
        pod_logs_dir: config.paths.pod_logs_dir.display().to_string(),
        cgroups: cgroup_view(config, root, version),
        dns: dns_view(config, root, &mut problems)?,
        seccomp_default: config.runtime.seccomp_default,
        extra_masked_paths: thermal_throttle_paths(root),
        max_backoff_seconds: max_backoff_seconds(config),
        first_backoff_seconds: first_backoff_seconds(config),
        env_files: config.gates.is_enabled(gates::name::ENV_FILES),
        selinux_enabled: root.join("/sys/fs/selinux/enforce").exists(),
        runtime_name: runtime_name.to_owned(),
    };
    Ok((view, problems))
}

/// What pods are allowed here: sysctls of this kernel and of the configuration, AppArmor where the kernel has it. Blocking.
///
/// # Errors
/// A sysctl in the configuration that no pod can have.
pub fn admission_rules(
    config: &Config,
    root: &HostRoot,
    kernel: &str,
) -> Result<AdmissionRules, NodeFactsError> {
    let allowed = &config.runtime.allowed_unsafe_sysctls;
    let enabled = root.join("/sys/module/apparmor/parameters/enabled");
    let is_enabled = root.join("/sys/kernel/security/apparmor").exists()
        && read_text_bounded(&enabled, 16).is_ok_and(|word| word.starts_with('Y'));
    Ok(AdmissionRules {
        sysctls: SysctlAllowlist::new(kernel, allowed).map_err(NodeFactsError::Sysctls)?,
        app_armor: if is_enabled {
            AppArmor::Enabled
        } else {
            AppArmor::Absent
        },
    })
}

/// The kernel's name of the host, trimmed; it does not matter when the name was given.
fn host_name(config: &Config, root: &HostRoot) -> Result<String, NodeFactsError> {
    match read_text_bounded(&root.join("/proc/sys/kernel/hostname"), 4096) {
        Ok(name) => Ok(name.trim().to_owned()),
        Err(_) if config.node.hostname_override.is_some() => Ok(String::new()),
        Err(error) => Err(NodeFactsError::Hostname(error)),
    }
}

fn node_name(config: &Config, hostname: &str) -> Result<String, NodeFactsError> {
    let name = config.node.hostname_override.as_deref().unwrap_or(hostname);
    let name = name.trim().to_lowercase();
    if name.is_empty() {
        return Err(NodeFactsError::EmptyHostname);
    }
    Ok(name)
}

/// Size of the filesystem that holds the root directory, or will.
fn disk_capacity(root: &HostRoot, root_dir: &Path, problems: &mut Vec<String>) -> Option<u64> {
    let directory = root.join(root_dir);
    let existing = directory.ancestors().find(|path| path.exists())?;
    match filesystem_figures(existing) {
        Ok(figures) => Some(figures.capacity_bytes),
        Err(error) => {
            problems.push(format!("size of the root directory's filesystem: {error}"));
            None
        }
    }
}

fn cgroup_view(config: &Config, root: &HostRoot, version: CgroupVersion) -> CgroupView {
    let settings = &config.cgroups;
    CgroupView {
        root: if settings.root.is_empty() {
            "/".to_owned()
        } else {
            settings.root.clone()
        },
        per_qos: settings.per_qos,
        v2: version == CgroupVersion::V2,
        oom_group: settings.single_process_oom_kill != Some(true),
        has_swap: has_swap(root, version),
        cfs_quota: settings.cpu_quota,
        cfs_period_us: i64::try_from(settings.cpu_quota_period.as_micros()).unwrap_or(i64::MAX),
        pod_pids_limit: config
            .resources
            .pod_pids_limit
            .and_then(|limit| i64::try_from(limit).ok())
            .filter(|limit| *limit > 0),
    }
}

/// Whether the kernel accounts swap: v1 at the top of the memory tree, v2 in this process's own cgroup (the top has no such file).
fn has_swap(root: &HostRoot, version: CgroupVersion) -> bool {
    let file = match version {
        CgroupVersion::V1 => "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes".to_owned(),
        CgroupVersion::V2 => {
            let text =
                read_text_bounded(&root.join("/proc/self/cgroup"), 1 << 16).unwrap_or_default();
            let own = text.lines().find_map(|line| line.strip_prefix("0::"));
            format!(
                "/sys/fs/cgroup/{}/memory.swap.max",
                own.unwrap_or_default().trim_matches('/')
            )
        }
    };
    root.join(file).exists()
}

fn dns_view(
    config: &Config,
    root: &HostRoot,
    problems: &mut Vec<String>,
) -> Result<DnsView, NodeFactsError> {
    let given = config.node.node_ip.as_deref().unwrap_or_default();
    let given_node_ips = given.split(',').filter(|ip| !ip.is_empty());
    let config = &config.dns;
    let host = match &config.resolv_conf {
        None => None,
        Some(path) => match read_text_bounded(&root.join(path), 1 << 20) {
            Ok(text) => {
                Some(
                    parse_resolv_conf(&text).map_err(|source| NodeFactsError::ResolvConf {
                        path: path.display().to_string(),
                        source,
                    })?,
                )
            }
            Err(error) => {
                // The runtime then copies the host's own settings, which is the nearest to what was asked for.
                problems.push(format!(
                    "resolvConf {}: {error}; pods get the runtime's default",
                    path.display()
                ));
                Some(HostResolver::default())
            }
        },
    };
    Ok(DnsView {
        cluster_servers: config.cluster_dns.iter().map(ToString::to_string).collect(),
        cluster_domain: config.cluster_domain.clone(),
        given_node_ips: given_node_ips.map(|ip| ip.trim().to_owned()).collect(),
        host,
    })
}

/// Directories with counters of heat, of processors that the machine may have; they tell a container about its neighbours.
fn thermal_throttle_paths(root: &HostRoot) -> Vec<String> {
    let possible = read_text_bounded(&root.join("/sys/devices/system/cpu/possible"), 1 << 16);
    cpu_list(possible.unwrap_or_default().trim())
        .into_iter()
        .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
        .filter(|path| root.join(path).exists())
        .collect()
}

fn first_backoff_seconds(config: &Config) -> i64 {
    match config
        .gates
        .is_enabled(gates::name::REDUCE_DEFAULT_CRASH_LOOP_BACK_OFF_DECAY)
    {
        true => 1,
        false => 10,
    }
}

fn max_backoff_seconds(config: &Config) -> i64 {
    let is_on = |gate| config.gates.is_enabled(gate);
    let configured = config
        .runtime
        .max_container_restart_period
        .filter(|_| is_on(gates::name::KUBELET_CRASH_LOOP_BACK_OFF_MAX));
    match configured {
        Some(period) => i64::try_from(period.as_secs()).unwrap_or(300),
        None if is_on(gates::name::REDUCE_DEFAULT_CRASH_LOOP_BACK_OFF_DECAY) => 60,
        None => 300,
    }
}
