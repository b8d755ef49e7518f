//! Checks of plain amounts and of what is reserved on the node.
//!
//! In:    the examination
//! Out:   problems in it
//! Calls: `validate`
//! Upstream: pkg/kubelet/apis/config/validation/validation.go, validation_linux.go, validation_reserved_memory.go

use super::{Examination, HostFacts, quoted, text};
use kubelet_api::duration::GoDuration;
use kubelet_model::gates::name;
use kubelet_model::quantity::Quantity;
use std::collections::{BTreeMap, BTreeSet};

/// Ids of a user namespace come in units of this.
const ID_UNIT: i64 = 65536;

const SYSTEM_RESERVED: [&str; 2] = ["system-reserved", "system-reserved-compressible"];
const KUBE_RESERVED: [&str; 2] = ["kube-reserved", "kube-reserved-compressible"];

impl Examination<'_> {
    pub(super) fn amounts(&mut self) {
        let c = self.config;
        if c.node_lease_duration_seconds.unwrap_or(0) <= 0 {
            self.invalid(
                "nodeLeaseDurationSeconds",
                "nodeLeaseDurationSeconds must be greater than 0",
            );
        }
        if !text(&c.system_cgroups).is_empty() && text(&c.cgroup_root).is_empty() {
            self.invalid(
                "systemCgroups",
                "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified",
            );
        }
        self.not_negative("eventBurst", "event-burst", c.event_burst);
        self.not_negative("eventRecordQPS", "event-qps", c.event_record_qps);
        self.port("healthzPort", "healthz-port", c.healthz_port, 0, 1);
        self.quota_period();
        self.image_collection();
        self.within(
            "iptablesDropBit",
            "iptables-drop-bit",
            c.iptables_drop_bit,
            (0, 31),
        );
        self.within(
            "iptablesMasqueradeBit",
            "iptables-masquerade-bit",
            c.iptables_masquerade_bit,
            (0, 31),
        );
        self.not_negative("kubeAPIBurst", "kube-api-burst", c.kube_api_burst);
        self.not_negative("kubeAPIQPS", "kube-api-qps", c.kube_api_qps);
        if let Some(images) = c.node_status_max_images.filter(|images| *images < -1) {
            self.invalid(
                "nodeStatusMaxImages",
                format!(
                    "nodeStatusMaxImages (--node-status-max-images) {images} must be -1 or greater"
                ),
            );
        }
        self.not_negative("maxOpenFiles", "max-open-files", c.max_open_files);
        self.not_negative("maxPods", "max-pods", c.max_pods);
        self.within(
            "oomScoreAdj",
            "oom-score-adj",
            c.oom_score_adj,
            (-1000, 1000),
        );
        self.not_negative("podsPerCore", "pods-per-core", c.pods_per_core);
        self.port("port", "port", c.port, 1, 1);
        self.port("readOnlyPort", "read-only-port", c.read_only_port, 0, 0);
    }

    fn not_negative(&mut self, field: &str, flag: &str, value: Option<impl Into<i64>>) {
        let value = value.map_or(0, Into::into);
        if value < 0 {
            self.invalid(
                field,
                format!("{field} (--{flag}) {value} must not be a negative number"),
            );
        }
    }

    fn within(&mut self, field: &str, flag: &str, value: Option<i32>, (low, high): (i32, i32)) {
        let value = value.unwrap_or(0);
        if !(low..=high).contains(&value) {
            let words =
                format!("{field} (--{flag}) {value} must be between {low} and {high}, inclusive");
            self.invalid(field, words);
        }
    }

    /// A port; `low` is the lowest that is right, `said` the lowest that upstream's message names.
    fn port(&mut self, field: &str, flag: &str, value: Option<i32>, low: i32, said: i32) {
        let value = value.unwrap_or(0);
        if !(low..=65535).contains(&value) {
            let words =
                format!("{field} (--{flag}) {value} must be between {said} and 65535, inclusive");
            self.invalid(field, words);
        }
    }

    fn quota_period(&mut self) {
        let default = GoDuration::from_millis(100);
        let period = self.config.cpu_cfs_quota_period.unwrap_or_default();
        let custom = self.is_enabled(name::CUSTOM_CPU_CFS_QUOTA_PERIOD);
        let begin = format!("cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {{{period}}}");
        if !custom && period != default {
            let words = format!("{begin} requires feature gate CustomCPUCFSQuotaPeriod");
            self.invalid("cpuCFSQuotaPeriod", words);
        }
        let range = GoDuration::from_millis(1)..=GoDuration::from_secs(1);
        if custom && !range.contains(&period) {
            let words = format!("{begin} must be between 1ms and 1sec, inclusive");
            self.invalid("cpuCFSQuotaPeriod", words);
        }
    }

    fn image_collection(&mut self) {
        let c = self.config;
        let (low, high) = (
            c.image_gc_low_threshold_percent,
            c.image_gc_high_threshold_percent,
        );
        self.within(
            "imageGCHighThresholdPercent",
            "image-gc-high-threshold",
            high,
            (0, 100),
        );
        self.within(
            "imageGCLowThresholdPercent",
            "image-gc-low-threshold",
            low,
            (0, 100),
        );
        let (low, high) = (low.unwrap_or(0), high.unwrap_or(0));
        if low >= high {
            self.invalid(
                "imageGCLowThresholdPercent",
                format!(
                    "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
                ),
            );
        }
        let (minimum, maximum) = (
            c.image_minimum_gc_age.unwrap_or_default(),
            c.image_maximum_gc_age.unwrap_or_default(),
        );
        if !maximum.is_zero() && !self.is_enabled(name::IMAGE_MAXIMUM_GC_AGE) {
            self.invalid(
                "imageMaximumGCAge",
                "ImageMaximumGCAge feature gate is required for Kubelet configuration option imageMaximumGCAge",
            );
        }
        if minimum < GoDuration::ZERO {
            self.invalid(
                "imageMinimumGCAge",
                format!("imageMinimumGCAge {minimum} must not be negative"),
            );
        }
        if maximum < GoDuration::ZERO {
            self.invalid(
                "imageMaximumGCAge",
                format!("imageMaximumGCAge {maximum} must not be negative"),
            );
        }
        if maximum > GoDuration::ZERO && maximum <= minimum {
            let words = format!(
                "imageMaximumGCAge {maximum} must be greater than imageMinimumGCAge {minimum}"
            );
            self.invalid("imageMaximumGCAge", words);
        }
    }

    pub(super) fn images(&mut self) {
        let c = self.config;
        self.not_negative("registryBurst", "registry-burst", c.registry_burst);
        self.not_negative("registryPullQPS", "registry-qps", c.registry_pull_qps);
        if let Some(pulls) = c.max_parallel_image_pulls {
            if pulls < 1 {
                let words = format!("maxParallelImagePulls {pulls} must be a positive number");
                self.invalid("maxParallelImagePulls", words);
            }
            if pulls > 1 && c.serialize_image_pulls == Some(true) {
                self.invalid(
                    "maxParallelImagePulls",
                    "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false",
                );
            }
        }
        if c.server_tls_bootstrap == Some(true)
            && !self.is_enabled(name::ROTATE_KUBELET_SERVER_CERTIFICATE)
        {
            self.invalid(
                "serverTLSBootstrap",
                "serverTLSBootstrap true requires feature gate RotateKubeletServerCertificate",
            );
        }
        if c.run_once == Some(true) {
            self.invalid(
                "runOnce",
                "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set",
            );
        }
    }

    pub(super) fn enforcement(&mut self) {
        const FIELD: &str = "enforceNodeAllocatable";
        const NAMED: &str = "enforceNodeAllocatable (--enforce-node-allocatable)";
        let c = self.config;
        let levels: Vec<&str> = c
            .enforce_node_allocatable
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        for [whole, compressible] in [SYSTEM_RESERVED, KUBE_RESERVED] {
            if levels.contains(&whole) && levels.contains(&compressible) {
                self.invalid(
                    FIELD,
                    format!("both {whole:?} and {compressible:?} cannot be specified together in {NAMED}"),
                );
            }
        }
        let mut seen = BTreeSet::new();
        for level in levels.iter().copied() {
            if !seen.insert(level) {
                self.invalid(
                    FIELD,
                    format!("duplicated enforcements {} in {NAMED}", quoted(level)),
                );
                continue;
            }
            match level {
                "pods" => {}
                _ if SYSTEM_RESERVED.contains(&level) => {
                    self.reserved_cgroup(
                        "systemReservedCgroup",
                        "system-reserved",
                        &c.system_reserved_cgroup,
                    );
                }
                _ if KUBE_RESERVED.contains(&level) => {
                    self.reserved_cgroup(
                        "kubeReservedCgroup",
                        "kube-reserved",
                        &c.kube_reserved_cgroup,
                    );
                }
                "none" => {
                    if levels.len() > 1 {
                        let words = format!(
                            "{NAMED} may not contain additional enforcements when \"none\" is specified"
                        );
                        self.invalid(FIELD, words);
                    }
                    continue;
                }
                _ => {
                    self.invalid(
                        FIELD,
                        format!(
                            "option {} specified for {NAMED}. Valid options are \"pods\", \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \"kube-reserved-compressible\" or \"none\"",
                            quoted(level)
                        ),
                    );
                    continue;
                }
            }
            if c.cgroups_per_qos != Some(true) {
                self.invalid(
                    "cgroupsPerQOS",
                    format!("cgroupsPerQOS (--cgroups-per-qos) must be set to true when {level:?} contained in {NAMED}"),
                );
            }
        }
        self.hairpin();
    }

    fn hairpin(&mut self) {
        let mode = text(&self.config.hairpin_mode);
        if !matches!(mode, "none" | "hairpin-veth" | "promiscuous-bridge") {
            self.invalid(
                "hairpinMode",
                format!(
                    "option {} specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \"hairpin-veth\" or \"promiscuous-bridge\"",
                    quoted(mode)
                ),
            );
        }
    }

    fn reserved_cgroup(&mut self, field: &str, flag: &str, cgroup: &Option<String>) {
        if text(cgroup).is_empty() {
            self.invalid(
                field,
                format!(
                    "{field} (--{flag}-cgroup) must be specified when \"{flag}\" or \"{flag}-compressible\" included in enforceNodeAllocatable (--enforce-node-allocatable)"
                ),
            );
        }
    }

    pub(super) fn reservations(&mut self) {
        let c = self.config;
        let cpus = text(&c.reserved_system_cpus);
        if !cpus.is_empty() {
            if !text(&c.system_reserved_cgroup).is_empty()
                || !text(&c.kube_reserved_cgroup).is_empty()
            {
                self.invalid(
                    "reservedSystemCPUs",
                    "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)",
                );
            }
            if let Err(error) = cpu_list(cpus) {
                let words = format!(
                    "unable to parse reservedSystemCPUs (--reserved-cpus) {cpus}, error: {error}"
                );
                self.invalid("reservedSystemCPUs", words);
            }
        }
        let mut seen: BTreeMap<i32, BTreeSet<&str>> = BTreeMap::new();
        for (index, reservation) in c.reserved_memory.iter().flatten().enumerate() {
            let node = reservation.numa_node;
            for (resource, amount) in &reservation.limits {
                let field = format!("reservedMemory[{index}].limits.{resource}");
                if resource != "memory" && !resource.starts_with("hugepages-") {
                    self.invalid(
                        &field,
                        format!(
                            "the limit type {} for NUMA node {node} is not supported, only [memory hugepages-<HugePageSize>] is accepted",
                            quoted(resource)
                        ),
                    );
                }
                if amount
                    .0
                    .parse::<Quantity>()
                    .is_ok_and(|amount| amount.is_zero())
                {
                    let words = format!(
                        "reserved memory may not be zero for NUMA node {node} and resource {}",
                        quoted(resource)
                    );
                    self.invalid(&field, words);
                }
                if !seen.entry(node).or_default().insert(resource) {
                    let words = format!(
                        "the reserved memory has a duplicate value for NUMA node {node} and resource {}",
                        quoted(resource)
                    );
                    self.invalid(&field, words);
                }
            }
        }
    }

    pub(super) fn host(&mut self, facts: HostFacts) {
        let c = self.config;
        if !facts.cgroup_v2 && c.fail_cgroup_v1 == Some(true) {
            self.say(
                "failCgroupV1",
                "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be removed in a future release",
            );
        }
        if !facts.cgroup_v2 && c.single_process_oom_kill == Some(false) {
            self.invalid(
                "singleProcessOOMKill",
                "singleProcessOOMKill must not be explicitly set to false when using cgroup v1",
            );
        }
        let users = c.user_namespaces.as_ref();
        if let Some(ids) = users.and_then(|users| users.ids_per_pod) {
            let wrong = if ids < ID_UNIT {
                Some(format!("must not be less than {ID_UNIT}"))
            } else if ids % ID_UNIT != 0 {
                Some(format!("must be a multiple of {ID_UNIT}"))
            } else if ids > i64::from(u32::MAX) {
                Some(format!("must not be more than {}", u32::MAX))
            } else {
                None
            };
            if let Some(wrong) = wrong {
                let field = "userNamespaces.idsPerPod";
                self.invalid(field, format!("{field} {wrong}"));
            }
        }
        self.hidden_metrics();
    }

    fn hidden_metrics(&mut self) {
        let version = text(&self.config.show_hidden_metrics_for_version);
        if !matches!(version, "" | "1.35") {
            self.say(
                "showHiddenMetricsForVersion",
                format!(
                    "invalid showHiddenMetricsForVersion: showHiddenMetricsForVersion: Invalid value: {}: must be omitted or have the value '1.35'; only the previous minor version is allowed",
                    quoted(version)
                ),
            );
        }
    }
}

/// Checks a list such as `0-3,7`; the words are Go's.
fn cpu_list(list: &str) -> Result<(), String> {
    let number = |text: &str| {
        let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
        let syntax = plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_digit());
        let fault = if syntax {
            "invalid syntax"
        } else {
            "value out of range"
        };
        text.parse::<i64>()
            .map_err(|_| format!("strconv.Atoi: parsing {}: {fault}", quoted(text)))
    };
    for range in list.split(',') {
        let Some((first, last)) = range.split_once('-') else {
            number(range)?;
            continue;
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!(
                "invalid range {} ({first} > {last})",
                quoted(range)
            ));
        }
    }
    Ok(())
}
