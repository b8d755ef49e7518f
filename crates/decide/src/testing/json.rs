//! CRI messages as protobuf JSON: original field names, zero values absent, 64-bit numbers and bytes as text.
//!
//! In:    finished messages; recorded requests
//! Out:   JSON trees that compare field by field
//! Calls: parity tests
//! Holds: every field of a message is named here
//! Upstream: none

use std::collections::BTreeMap;

use kubelet_api::runtime::v1::*;
use serde_json::{Map, Value, json};

/// Recorded requests of one method for a pod (and container), in order.
pub(crate) fn recorded(method: &str, pod: &str) -> Vec<Value> {
    include_str!("../../../../parity/cri-requests.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"))
        .filter(|entry| entry["method"] == method && entry["pod"] == pod)
        .map(|entry| entry["config"].clone())
        .collect()
}

#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.into(), value);
        self
    }
    fn text(self, key: &str, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.put(key, json!(value))
        }
    }
    fn small(self, key: &str, value: i64) -> Self {
        if value == 0 {
            self
        } else {
            self.put(key, json!(value))
        }
    }
    fn big(self, key: &str, value: i64) -> Self {
        if value == 0 {
            self
        } else {
            self.put(key, json!(value.to_string()))
        }
    }
    fn flag(self, key: &str, value: bool) -> Self {
        if value {
            self.put(key, json!(true))
        } else {
            self
        }
    }
    fn word(self, key: &str, value: i32, name: &str) -> Self {
        if value == 0 {
            self
        } else {
            self.put(key, json!(name))
        }
    }
    fn message(self, key: &str, value: Option<Value>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }
    fn list(self, key: &str, value: Vec<Value>) -> Self {
        if value.is_empty() {
            self
        } else {
            self.put(key, Value::Array(value))
        }
    }
    fn texts(self, key: &str, value: &[String]) -> Self {
        self.list(key, value.iter().map(|text| json!(text)).collect())
    }
    fn map(self, key: &str, value: &BTreeMap<String, String>) -> Self {
        if value.is_empty() {
            self
        } else {
            self.put(key, json!(value))
        }
    }
    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

pub(crate) fn sandbox(config: &PodSandboxConfig) -> Value {
    let PodSandboxConfig {
        metadata,
        hostname,
        log_directory,
        dns_config,
        port_mappings,
        labels,
        annotations,
        linux,
    } = config;
    Object::default()
        .message("metadata", metadata.as_ref().map(sandbox_metadata))
        .text("hostname", hostname)
        .text("log_directory", log_directory)
        .message("dns_config", dns_config.as_ref().map(dns))
        .list("port_mappings", port_mappings.iter().map(port).collect())
        .map("labels", labels)
        .map("annotations", annotations)
        .message("linux", linux.as_ref().map(sandbox_linux))
        .done()
}

fn sandbox_metadata(metadata: &PodSandboxMetadata) -> Value {
    let PodSandboxMetadata {
        name,
        uid,
        namespace,
        attempt,
    } = metadata;
    Object::default()
        .text("name", name)
        .text("uid", uid)
        .text("namespace", namespace)
        .small("attempt", i64::from(*attempt))
        .done()
}

fn dns(config: &DnsConfig) -> Value {
    let DnsConfig {
        servers,
        searches,
        options,
    } = config;
    Object::default()
        .texts("servers", servers)
        .texts("searches", searches)
        .texts("options", options)
        .done()
}

fn port(mapping: &PortMapping) -> Value {
    let PortMapping {
        protocol,
        container_port,
        host_port,
        host_ip,
    } = mapping;
    Object::default()
        .word("protocol", *protocol, mapping.protocol().as_str_name())
        .small("container_port", i64::from(*container_port))
        .small("host_port", i64::from(*host_port))
        .text("host_ip", host_ip)
        .done()
}

fn sandbox_linux(config: &LinuxPodSandboxConfig) -> Value {
    let LinuxPodSandboxConfig {
        cgroup_parent,
        security_context,
        sysctls,
        overhead,
        resources: all,
    } = config;
    Object::default()
        .text("cgroup_parent", cgroup_parent)
        .message(
            "security_context",
            security_context.as_ref().map(sandbox_security),
        )
        .map("sysctls", sysctls)
        .message("overhead", overhead.as_ref().map(resources))
        .message("resources", all.as_ref().map(resources))
        .done()
}

fn sandbox_security(context: &LinuxSandboxSecurityContext) -> Value {
    let LinuxSandboxSecurityContext {
        namespace_options,
        selinux_options,
        run_as_user,
        run_as_group,
        readonly_rootfs,
        supplemental_groups,
        supplemental_groups_policy,
        privileged,
        seccomp,
        apparmor,
        seccomp_profile_path,
    } = context;
    let policy = context.supplemental_groups_policy().as_str_name();
    Object::default()
        .message(
            "namespace_options",
            namespace_options.as_ref().map(namespaces),
        )
        .message("selinux_options", selinux_options.as_ref().map(selinux))
        .message("run_as_user", run_as_user.as_ref().map(number))
        .message("run_as_group", run_as_group.as_ref().map(number))
        .flag("readonly_rootfs", *readonly_rootfs)
        .list("supplemental_groups", numbers(supplemental_groups))
        .word(
            "supplemental_groups_policy",
            *supplemental_groups_policy,
            policy,
        )
        .flag("privileged", *privileged)
        .message("seccomp", seccomp.as_ref().map(profile))
        .message("apparmor", apparmor.as_ref().map(profile))
        .text("seccomp_profile_path", seccomp_profile_path)
        .done()
}

fn number(value: &Int64Value) -> Value {
    Object::default().big("value", value.value).done()
}

fn numbers(values: &[i64]) -> Vec<Value> {
    values
        .iter()
        .map(|value| json!(value.to_string()))
        .collect()
}

fn selinux(option: &SeLinuxOption) -> Value {
    let SeLinuxOption {
        user,
        role,
        r#type,
        level,
    } = option;
    Object::default()
        .text("user", user)
        .text("role", role)
        .text("type", r#type)
        .text("level", level)
        .done()
}

fn profile(profile: &SecurityProfile) -> Value {
    let SecurityProfile {
        profile_type,
        localhost_ref,
    } = profile;
    Object::default()
        .word(
            "profile_type",
            *profile_type,
            profile.profile_type().as_str_name(),
        )
        .text("localhost_ref", localhost_ref)
        .done()
}

fn namespaces(options: &NamespaceOption) -> Value {
    let NamespaceOption {
        network,
        pid,
        ipc,
        target_id,
        userns_options,
    } = options;
    Object::default()
        .word("network", *network, options.network().as_str_name())
        .word("pid", *pid, options.pid().as_str_name())
        .word("ipc", *ipc, options.ipc().as_str_name())
        .text("target_id", target_id)
        .message(
            "userns_options",
            userns_options.as_ref().map(user_namespace),
        )
        .done()
}

fn user_namespace(options: &UserNamespace) -> Value {
    let UserNamespace { mode, uids, gids } = options;
    assert!(uids.is_empty() && gids.is_empty(), "no test maps ids");
    Object::default()
        .word("mode", *mode, options.mode().as_str_name())
        .done()
}

fn resources(resources: &LinuxContainerResources) -> Value {
    let LinuxContainerResources {
        cpu_period,
        cpu_quota,
        cpu_shares,
        memory_limit_in_bytes,
        oom_score_adj,
        cpuset_cpus,
        cpuset_mems,
        hugepage_limits,
        unified,
        memory_swap_limit_in_bytes,
    } = resources;
    let pages = |limit: &HugepageLimit| {
        let HugepageLimit { page_size, limit } = limit;
        let limit = i64::try_from(*limit).expect("no test has more");
        Object::default()
            .text("page_size", page_size)
            .big("limit", limit)
            .done()
    };
    Object::default()
        .big("cpu_period", *cpu_period)
        .big("cpu_quota", *cpu_quota)
        .big("cpu_shares", *cpu_shares)
        .big("memory_limit_in_bytes", *memory_limit_in_bytes)
        .big("oom_score_adj", *oom_score_adj)
        .text("cpuset_cpus", cpuset_cpus)
        .text("cpuset_mems", cpuset_mems)
        .list(
            "hugepage_limits",
            hugepage_limits.iter().map(pages).collect(),
        )
        .map("unified", unified)
        .big("memory_swap_limit_in_bytes", *memory_swap_limit_in_bytes)
        .done()
}

pub(crate) fn container(config: &ContainerConfig) -> Value {
    let ContainerConfig {
        metadata,
        image: from,
        command,
        args,
        working_dir,
        envs,
        mounts,
        devices,
        labels,
        annotations,
        log_path,
        stdin,
        stdin_once,
        tty,
        linux,
        cdi_devices,
        stop_signal,
    } = config;
    assert!(
        devices.is_empty() && cdi_devices.is_empty(),
        "no test has devices"
    );
    let named = |metadata: &ContainerMetadata| {
        let ContainerMetadata { name, attempt } = metadata;
        Object::default()
            .text("name", name)
            .small("attempt", i64::from(*attempt))
            .done()
    };
    let variable = |variable: &KeyValue| {
        let KeyValue { key, value } = variable;
        Object::default()
            .text("key", key)
            .text("value", &base64(value))
            .done()
    };
    Object::default()
        .message("metadata", metadata.as_ref().map(named))
        .message("image", from.as_ref().map(image))
        .texts("command", command)
        .texts("args", args)
        .text("working_dir", working_dir)
        .list("envs", envs.iter().map(variable).collect())
        .list("mounts", mounts.iter().map(mount).collect())
        .map("labels", labels)
        .map("annotations", annotations)
        .text("log_path", log_path)
        .flag("stdin", *stdin)
        .flag("stdin_once", *stdin_once)
        .flag("tty", *tty)
        .message("linux", linux.as_ref().map(container_linux))
        .word(
            "stop_signal",
            *stop_signal,
            config.stop_signal().as_str_name(),
        )
        .done()
}

fn image(spec: &ImageSpec) -> Value {
    let ImageSpec {
        image,
        annotations,
        user_specified_image,
        runtime_handler,
        image_ref,
    } = spec;
    Object::default()
        .text("image", image)
        .map("annotations", annotations)
        .text("user_specified_image", user_specified_image)
        .text("runtime_handler", runtime_handler)
        .text("image_ref", image_ref)
        .done()
}

fn mount(mount: &Mount) -> Value {
    let Mount {
        container_path,
        host_path,
        readonly,
        selinux_relabel,
        propagation,
        uid_mappings,
        gid_mappings,
        recursive_read_only,
        image: from,
        image_sub_path,
    } = mount;
    assert!(
        uid_mappings.is_empty() && gid_mappings.is_empty(),
        "no test maps ids"
    );
    Object::default()
        .text("container_path", container_path)
        .text("host_path", host_path)
        .flag("readonly", *readonly)
        .flag("selinux_relabel", *selinux_relabel)
        .word(
            "propagation",
            *propagation,
            mount.propagation().as_str_name(),
        )
        .flag("recursive_read_only", *recursive_read_only)
        .message("image", from.as_ref().map(image))
        .text("image_sub_path", image_sub_path)
        .done()
}

fn container_linux(config: &LinuxContainerConfig) -> Value {
    let LinuxContainerConfig {
        resources: all,
        security_context,
    } = config;
    Object::default()
        .message("resources", all.as_ref().map(resources))
        .message(
            "security_context",
            security_context.as_ref().map(container_security),
        )
        .done()
}

fn container_security(context: &LinuxContainerSecurityContext) -> Value {
    let LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options,
        selinux_options,
        run_as_user,
        run_as_group,
        run_as_username,
        readonly_rootfs,
        supplemental_groups,
        supplemental_groups_policy,
        no_new_privs,
        masked_paths,
        readonly_paths,
        seccomp,
        apparmor,
        apparmor_profile,
        seccomp_profile_path,
    } = context;
    let capability = |capability: &Capability| {
        let Capability {
            add_capabilities,
            drop_capabilities,
            add_ambient_capabilities,
        } = capability;
        Object::default()
            .texts("add_capabilities", add_capabilities)
            .texts("drop_capabilities", drop_capabilities)
            .texts("add_ambient_capabilities", add_ambient_capabilities)
            .done()
    };
    let policy = context.supplemental_groups_policy().as_str_name();
    Object::default()
        .message("capabilities", capabilities.as_ref().map(capability))
        .flag("privileged", *privileged)
        .message(
            "namespace_options",
            namespace_options.as_ref().map(namespaces),
        )
        .message("selinux_options", selinux_options.as_ref().map(selinux))
        .message("run_as_user", run_as_user.as_ref().map(number))
        .message("run_as_group", run_as_group.as_ref().map(number))
        .text("run_as_username", run_as_username)
        .flag("readonly_rootfs", *readonly_rootfs)
        .list("supplemental_groups", numbers(supplemental_groups))
        .word(
            "supplemental_groups_policy",
            *supplemental_groups_policy,
            policy,
        )
        .flag("no_new_privs", *no_new_privs)
        .texts("masked_paths", masked_paths)
        .texts("readonly_paths", readonly_paths)
        .message("seccomp", seccomp.as_ref().map(profile))
        .message("apparmor", apparmor.as_ref().map(profile))
        .text("apparmor_profile", apparmor_profile)
        .text("seccomp_profile_path", seccomp_profile_path)
        .done()
}
