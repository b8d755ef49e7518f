//! Which sysctls a pod may set: the safe ones of this kernel, and those that the configuration allows.
//!
//! In:    the kernel's version, `allowedUnsafeSysctls`; a pod
//! Out:   the list, or what is wrong with a pattern; the rejection of a pod that asks for another
//! Calls: wiring at start, `admission`
//! Holds: only sysctls of a namespace that a pod has of its own are listed; one of a namespace that the pod shares with the node is
//!        refused
//! Upstream: pkg/kubelet/sysctl/{allowlist,safe_sysctls}.go, component-helpers/node/util/sysctl; 1.36; differences: of several
//!           patterns that fit, the first by name decides, there any

use std::collections::BTreeMap;

use kubelet_model::pod::Pod;

use super::Rejection;
use crate::container::downward::quoted;
use crate::container::sandbox_config::dotted;

/// Safe sysctls, and the first kernel in which each belongs to the network namespace; without one every kernel has it so.
const SAFE: [(&str, (u32, u32)); 12] = [
    ("kernel.shm_rmid_forced", (0, 0)),
    ("net.ipv4.ip_local_port_range", (0, 0)),
    ("net.ipv4.tcp_syncookies", (0, 0)),
    ("net.ipv4.ping_group_range", (0, 0)),
    ("net.ipv4.ip_unprivileged_port_start", (0, 0)),
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

/// Sysctls of the IPC namespace, beside those below `fs.mqueue.`.
const OF_IPC: [&str; 10] = [
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.msg",
];

/// What a pattern has to look like, as upstream's error quotes it.
const PATTERN: &str = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]";
const LONGEST: usize = 253;

/// A namespace of the kernel that sysctls belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

impl Namespace {
    fn of(name: &str) -> Option<Self> {
        if OF_IPC.contains(&name) || name.starts_with("fs.mqueue.") {
            Some(Self::Ipc)
        } else if name.starts_with("net.") {
            Some(Self::Net)
        } else {
            None
        }
    }

    /// As messages have it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Ipc => "IPC",
            Self::Net => "Net",
        }
    }
}

/// Sysctls that pods may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysctlAllowlist {
    names: BTreeMap<String, Namespace>,
    prefixes: BTreeMap<String, Namespace>,
}

impl SysctlAllowlist {
    /// The list for a kernel (`uname -r`) and what the configuration adds to it: names, or patterns that end in `*`.
    ///
    /// # Errors
    /// The first pattern that is none, or that is of no namespace; upstream's words.
    pub fn new(kernel: &str, allowed_unsafe: &[String]) -> Result<Self, String> {
        let version = version(kernel);
        let is_safe_here =
            |least: (u32, u32)| least == (0, 0) || version.is_some_and(|v| v >= least);
        let safe = SAFE.iter().filter(|(_, least)| is_safe_here(*least));
        let mut list = Self {
            names: BTreeMap::new(),
            prefixes: BTreeMap::new(),
        };
        for pattern in safe
            .map(|(name, _)| *name)
            .chain(allowed_unsafe.iter().map(String::as_str))
        {
            list.add(pattern)?;
        }
        Ok(list)
    }

    fn add(&mut self, pattern: &str) -> Result<(), String> {
        if !is_pattern(pattern) {
            return Err(format!(
                "sysctl {} must have at most {LONGEST} characters and match regex {PATTERN}",
                quoted(pattern)
            ));
        }
        let name = dotted(pattern);
        let (name, is_prefix) = match name.split_once('*') {
            Some((before, _)) => (before.to_owned(), true),
            None => (name, false),
        };
        let Some(namespace) = Namespace::of(&name) else {
            let name = quoted(&name);
            return Err(format!("the sysctls {name} are not known to be namespaced"));
        };
        if is_prefix {
            self.prefixes.insert(name, namespace);
        } else {
            self.names.insert(name, namespace);
        }
        Ok(())
    }

    /// The first of a pod's sysctls that it may not set.
    pub(super) fn rejection(&self, pod: &Pod) -> Option<Rejection> {
        let context = pod.spec().security_context.as_ref()?;
        let mut asked = context.sysctls.iter().flatten();
        let why = asked.find_map(|sysctl| self.problem(&dotted(&sysctl.name), pod))?;
        let message = format!("forbidden sysctl: {why}");
        Some(Rejection::new("SysctlForbidden", message))
    }

    fn problem(&self, name: &str, pod: &Pod) -> Option<String> {
        let by_prefix = || {
            let mut fitting = self.prefixes.iter();
            fitting.find(|(prefix, _)| name.starts_with(prefix.as_str()))
        };
        let listed = self.names.get_key_value(name).or_else(by_prefix);
        let Some((_, namespace)) = listed else {
            return Some(format!("{} not allowlisted", quoted(name)));
        };
        let is_shared = match namespace {
            Namespace::Ipc => pod.spec().host_ipc == Some(true),
            Namespace::Net => pod.is_host_network(),
        };
        let (name, namespace) = (quoted(name), namespace.as_str());
        is_shared.then(|| format!("{name} not allowed with host {namespace} enabled"))
    }
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

/// [`PATTERN`]: names between dots or slashes, the last of which may be, or end in, a star.
fn is_pattern(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_inner = |byte: &u8| is_plain(*byte) || matches!(byte, b'-' | b'_');
    let (path, last) = text.rsplit_once(['.', '/']).unwrap_or(("", text));
    let starts_plain = |part: &str| part.bytes().next().is_some_and(is_plain);
    let is_segment = |part: &str| {
        starts_plain(part)
            && part.bytes().last().is_some_and(is_plain)
            && part.as_bytes().iter().all(is_inner)
    };
    let is_last = match last.as_bytes().split_last() {
        Some((end, before)) => {
            (is_plain(*end) || *end == b'*')
                && before.iter().all(is_inner)
                && (before.is_empty() || starts_plain(last))
        }
        None => false,
    };
    let has_path = path.len() < text.len() - last.len();
    text.len() <= LONGEST && is_last && (!has_path || path.split(['.', '/']).all(is_segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_of;

    const KERNEL: &str = "6.1.0-13-cloud-amd64";

    fn list(kernel: &str, patterns: &[&str]) -> Result<SysctlAllowlist, String> {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        SysctlAllowlist::new(kernel, &patterns)
    }

    #[test]
    fn safe_ones_follow_the_kernel() {
        let count = |kernel: &str| list(kernel, &[]).unwrap().names.len();
        let rows = [
            (KERNEL, 12),
            ("4.15.0", 12),
            ("4.14.99", 10),
            ("4.6", 10),
            ("4.5.1", 9),
            ("4.4.0", 6),
            ("3.16", 6),
            ("3.10.0-1160.el7.x86_64", 5),
            ("?", 5),
        ];
        for (kernel, expected) in rows {
            assert_eq!(count(kernel), expected, "{kernel}");
        }
    }

    #[test]
    fn a_pattern_is_checked_as_upstream_does() {
        let rule = format!("must have at most 253 characters and match regex {PATTERN}");
        let unknown = |name: &str| {
            Err(format!(
                "the sysctls \"{name}\" are not known to be namespaced"
            ))
        };
        let long = format!("net.{}", "a".repeat(250));
        let rows = [
            ("kernel.shm*", Ok(())),
            ("kernel.msg*", Ok(())),
            ("kernel.sem", Ok(())),
            ("fs.mqueue.*", Ok(())),
            ("net.*", Ok(())),
            ("net/ipv4/conf/eno2.100/rp_filter", Ok(())),
            ("net.ipv4.conf.eno2/100.*", Ok(())),
            ("kernel.shm_*", unknown("kernel.shm_")),
            ("fs.mqueue", unknown("fs.mqueue")),
            ("net*", unknown("net")),
            ("vm.overcommit_memory", unknown("vm.overcommit_memory")),
            ("*", unknown("")),
            ("net.*.b", Err(format!("sysctl \"net.*.b\" {rule}"))),
            ("", Err(format!("sysctl \"\" {rule}"))),
            ("Net.a", Err(format!("sysctl \"Net.a\" {rule}"))),
            (".a", Err(format!("sysctl \".a\" {rule}"))),
            ("net.-*", Err(format!("sysctl \"net.-*\" {rule}"))),
            ("net.a-.b", Err(format!("sysctl \"net.a-.b\" {rule}"))),
            ("net.a_*", Ok(())),
            (&long, Err(format!("sysctl \"{long}\" {rule}"))),
        ];
        for (pattern, expected) in rows {
            assert_eq!(list(KERNEL, &[pattern]).map(drop), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pod_may_set_what_is_listed_and_its_own() {
        let listed = list(KERNEL, &["kernel.msg*", "net.core.somaxconn"]).unwrap();
        let rows = [
            ("kernel.shm_rmid_forced", "", None),
            ("kernel/shm_rmid_forced", "", None),
            ("net.core.somaxconn", "", None),
            ("kernel.msgmax", "", None),
            ("kernel.msgfoo", "", None),
            ("kernel.sem", "", Some("\"kernel.sem\" not allowlisted")),
            (
                "net/core/rmem",
                "",
                Some("\"net.core.rmem\" not allowlisted"),
            ),
            (
                "net.ipv4.tcp_syncookies",
                "hostNetwork: true",
                Some("\"net.ipv4.tcp_syncookies\" not allowed with host Net enabled"),
            ),
            ("net.ipv4.tcp_syncookies", "hostIPC: true", None),
            (
                "kernel.msgmax",
                "hostIPC: true",
                Some("\"kernel.msgmax\" not allowed with host IPC enabled"),
            ),
        ];
        for (name, extra, expected) in rows {
            let pod = pod_of(&format!(
                "{{containers: [{{name: c, image: i}}], securityContext: {{sysctls: [{{name: {name}, value: '1'}}]}}, {extra}}}"
            ));
            let expected = expected
                .map(|why| Rejection::new("SysctlForbidden", format!("forbidden sysctl: {why}")));
            assert_eq!(listed.rejection(&pod), expected, "{name} {extra}");
        }
        let plain = pod_of("{containers: [{name: c, image: i}]}");
        assert_eq!(listed.rejection(&plain), None);
    }
}
