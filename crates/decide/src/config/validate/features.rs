//! Checks of features: topology, shutdown, swap, back-off, image credentials, memory quality, logs of containers.
//!
//! In:    the examination
//! Out:   problems in it
//! Calls: `validate`
//! Upstream: pkg/kubelet/apis/config/validation/validation.go, pkg/kubelet/images/pullmanager/image_pull_policies.go

use super::labels::{label_value_problems, qualified_name_problems};
use super::{Examination, quoted, text};
use kubelet_api::duration::GoDuration;
use kubelet_model::gates::name;

const SECOND: GoDuration = GoDuration::from_secs(1);

impl Examination<'_> {
    pub(super) fn taints(&mut self) {
        for (index, taint) in self
            .config
            .register_with_taints
            .iter()
            .flatten()
            .enumerate()
        {
            let field = format!("registerWithTaints[{index}]");
            let value = text(&taint.value);
            let effects = ["", "NoSchedule", "PreferNoSchedule", "NoExecute"];
            let bad = !qualified_name_problems(&taint.key).is_empty()
                || !label_value_problems(value).is_empty()
                || !effects.contains(&taint.effect.as_str());
            if bad {
                let added = taint.time_added.as_deref().unwrap_or("<nil>");
                let words = format!(
                    "invalid taint: {{{} {value} {} {added}}}",
                    taint.key, taint.effect
                );
                self.say(&field, words);
            }
            if taint.time_added.is_some() {
                self.invalid(&field, "taint.TimeAdded is not nil");
            }
        }
    }

    pub(super) fn topology(&mut self) {
        let c = self.config;
        let policy = text(&c.topology_manager_policy);
        if !matches!(
            policy,
            "none" | "best-effort" | "restricted" | "single-numa-node"
        ) {
            self.invalid(
                "topologyManagerPolicy",
                format!(
                    "topologyManagerPolicy (--topology-manager-policy) {} must be one of: [\"none\" \"best-effort\" \"restricted\" \"single-numa-node\"]",
                    quoted(policy)
                ),
            );
        }
        let scope = text(&c.topology_manager_scope);
        if !matches!(scope, "container" | "pod") {
            self.invalid(
                "topologyManagerScope",
                format!(
                    "topologyManagerScope (--topology-manager-scope) {} must be one of: \"container\", or \"pod\"",
                    quoted(scope)
                ),
            );
        }
    }

    pub(super) fn shutdown(&mut self) {
        let c = self.config;
        let whole = c.shutdown_grace_period.unwrap_or_default();
        let critical = c.shutdown_grace_period_critical_pods.unwrap_or_default();
        let graceful = self.is_enabled(name::GRACEFUL_NODE_SHUTDOWN);
        let asked = whole > GoDuration::ZERO || critical > GoDuration::ZERO;
        if graceful {
            if critical > whole {
                let words = format!(
                    "shutdownGracePeriodCriticalPods {{{critical}}} must be <= shutdownGracePeriod {{{whole}}}"
                );
                self.invalid("shutdownGracePeriodCriticalPods", words);
            }
            for (field, period) in [
                ("shutdownGracePeriod", whole),
                ("shutdownGracePeriodCriticalPods", critical),
            ] {
                if !period.is_zero() && period < SECOND {
                    let words =
                        format!("{field} {{{period}}} must be either zero or otherwise >= 1 sec");
                    self.invalid(field, words);
                }
            }
        } else if asked {
            self.invalid(
                "shutdownGracePeriod",
                "specifying shutdownGracePeriod or shutdownGracePeriodCriticalPods requires feature gate GracefulNodeShutdown",
            );
        }
        let by_priority = c
            .shutdown_grace_period_by_pod_priority
            .iter()
            .flatten()
            .next()
            .is_some();
        let field = "shutdownGracePeriodByPodPriority";
        if !self.is_enabled(name::GRACEFUL_NODE_SHUTDOWN_BASED_ON_POD_PRIORITY) {
            if by_priority {
                self.invalid(
                    field,
                    "Specifying shutdownGracePeriodByPodPriority requires feature gate GracefulNodeShutdownBasedOnPodPriority",
                );
            }
        } else if by_priority && asked {
            self.invalid(
                field,
                "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time",
            );
        }
    }

    pub(super) fn swap(&mut self) {
        let behavior = text(&self.config.memory_swap.swap_behavior);
        let field = "memorySwap.swapBehavior";
        if !self.is_enabled(name::NODE_SWAP) {
            if !behavior.is_empty() {
                self.invalid(
                    field,
                    "memorySwap.swapBehavior cannot be set when NodeSwap feature flag is disabled",
                );
            }
        } else if !matches!(behavior, "" | "NoSwap" | "LimitedSwap") {
            let words = format!(
                "memorySwap.swapBehavior {} must be one of: \"\", \"LimitedSwap\" or \"NoSwap\"",
                quoted(behavior)
            );
            self.invalid(field, words);
        }
    }

    pub(super) fn crash_loop(&mut self) {
        let field = "crashLoopBackOff.maxContainerRestartPeriod";
        let period = self.config.crash_loop_back_off.max_container_restart_period;
        match (self.is_enabled(name::KUBELET_CRASH_LOOP_BACK_OFF_MAX), period) {
            (true, None) => self.invalid(
                field,
                "FeatureGate KubeletCrashLoopBackOffMax is enabled, CrashLoopBackOff.MaxContainerRestartPeriod must be set",
            ),
            (true, Some(period)) if !(1000..=300_000).contains(&period.as_millis()) => self.invalid(
                field,
                format!(
                    "CrashLoopBackOff.MaxContainerRestartPeriod (got: {} seconds) must be set between 1s and 300s",
                    period.as_secs_f64()
                ),
            ),
            (false, Some(_)) => self.invalid(
                field,
                "FeatureGate KubeletCrashLoopBackOffMax not enabled, CrashLoopBackOff.MaxContainerRestartPeriod must not be set",
            ),
            (true, Some(_)) | (false, None) => {}
        }
    }

    pub(super) fn image_credentials(&mut self) {
        let c = self.config;
        let policy = text(&c.image_pull_credentials_verification_policy);
        let patterns: Vec<&String> = c
            .preloaded_images_verification_allowlist
            .iter()
            .flatten()
            .collect();
        let policy_field = "imagePullCredentialsVerificationPolicy";
        let list_field = "preloadedImagesVerificationAllowlist";
        if !self.is_enabled(name::KUBELET_ENSURE_SECRET_PULLED_IMAGES) {
            for (field, set) in [
                (policy_field, !policy.is_empty()),
                (list_field, !patterns.is_empty()),
            ] {
                if set {
                    let words = format!(
                        "`{field}` must not be set if KubeletEnsureSecretPulledImages feature gate is not enabled"
                    );
                    self.invalid(field, words);
                }
            }
            return;
        }
        let known = [
            "NeverVerify",
            "NeverVerifyPreloadedImages",
            "NeverVerifyAllowlistedImages",
            "AlwaysVerify",
        ];
        if !known.contains(&policy) {
            self.invalid(
                policy_field,
                format!(
                    "option {} specified for imagePullCredentialsVerificationPolicy. Valid options are \"NeverVerify\", \"NeverVerifyPreloadedImages\", \"NeverVerifyAllowlistedImages\" or \"AlwaysVerify\"",
                    quoted(policy)
                ),
            );
        }
        if !patterns.is_empty() && policy != "NeverVerifyAllowlistedImages" {
            self.invalid(
                list_field,
                "can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not \"NeverVerifyAllowlistedImages\"",
            );
        } else if let Some(error) = patterns.iter().find_map(|pattern| pattern_problem(pattern)) {
            let words =
                format!("invalid image pattern in `preloadedImagesVerificationAllowlist`: {error}");
            self.invalid(list_field, words);
        }
    }

    pub(super) fn memory_qos(&mut self) {
        let c = self.config;
        let on = self.is_enabled(name::MEMORY_QOS);
        match c.memory_throttling_factor {
            None if on => self.invalid(
                "memoryThrottlingFactor",
                "memoryThrottlingFactor is required when MemoryQoS feature flag is enabled",
            ),
            Some(factor) if factor <= 0.0 || factor > 1.0 => self.invalid(
                "memoryThrottlingFactor",
                format!("memoryThrottlingFactor {factor} must be greater than 0 and less than or equal to 1.0"),
            ),
            None | Some(_) => {}
        }
        let policy = text(&c.memory_reservation_policy);
        if !on && policy == "TieredReservation" {
            self.invalid(
                "memoryReservationPolicy",
                "memoryReservationPolicy \"TieredReservation\" requires MemoryQoS feature gate to be enabled",
            );
        }
        if !matches!(policy, "None" | "TieredReservation") {
            self.invalid(
                "memoryReservationPolicy",
                format!(
                    "option {} specified for memoryReservationPolicy. Valid options are \"None\" or \"TieredReservation\"",
                    quoted(policy)
                ),
            );
        }
    }

    pub(super) fn logs_and_endpoints(&mut self) {
        let c = self.config;
        if text(&c.container_runtime_endpoint).is_empty() {
            self.invalid(
                "containerRuntimeEndpoint",
                "the containerRuntimeEndpoint was not specified or empty",
            );
        }
        if c.enable_system_log_query == Some(true) {
            if !self.is_enabled(name::NODE_LOG_QUERY) {
                self.invalid(
                    "enableSystemLogQuery",
                    "NodeLogQuery feature gate is required for enableSystemLogQuery",
                );
            }
            if c.enable_system_log_handler != Some(true) {
                self.invalid(
                    "enableSystemLogQuery",
                    "enableSystemLogHandler is required for enableSystemLogQuery",
                );
            }
        }
        if c.container_log_max_workers.unwrap_or(0) < 1 {
            self.invalid(
                "containerLogMaxWorkers",
                "containerLogMaxWorkers must be greater than or equal to 1",
            );
        }
        if c.container_log_monitor_interval.unwrap_or_default() < GoDuration::from_secs(3) {
            self.invalid(
                "containerLogMonitorInterval",
                "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s",
            );
        }
        if c.container_log_max_files.unwrap_or(0) <= 1 {
            self.invalid(
                "containerLogMaxFiles",
                "containerLogMaxFiles must be greater than 1",
            );
        }
        self.pod_logs_dir();
    }

    fn pod_logs_dir(&mut self) {
        let path = text(&self.config.pod_logs_dir);
        let field = "podLogsDir";
        if path.is_empty() {
            self.invalid(field, "podLogsDir was not specified");
        }
        if !path.starts_with('/') {
            self.invalid(
                field,
                format!("pod logs path {} must be absolute path", quoted(path)),
            );
        }
        let segments = path.strip_prefix('/').unwrap_or(path);
        let mut segments = segments.split('/');
        if !matches!(path, "" | "/") && segments.any(|segment| matches!(segment, "" | "." | "..")) {
            self.invalid(
                field,
                format!("pod logs path {} must be normalized", quoted(path)),
            );
        }
        if !path.is_ascii() {
            let words = format!(
                "pod logs path {} mut contains ASCII characters only",
                quoted(path)
            );
            self.invalid(field, words);
        }
    }
}

/// What is wrong with an image pattern: a name without tag or digest, or `registry/path/*`.
fn pattern_problem(pattern: &str) -> Option<String> {
    if pattern.trim() != pattern {
        return Some(format!(
            "leading/trailing spaces are not allowed: {pattern}"
        ));
    }
    let wildcard = pattern.ends_with("/*");
    let name = if wildcard {
        pattern.strip_suffix('*').unwrap_or(pattern)
    } else {
        pattern
    };
    if name.is_empty() {
        return Some(format!("the supplied pattern is too short: {pattern}"));
    }
    if name.contains('*') {
        return Some(format!(
            "not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"
        ));
    }
    if wildcard {
        return (name == "/").then(|| "at least registry hostname is required".to_owned());
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    let tagged = name.contains('@') || last.contains(':');
    tagged.then(|| format!("neither tag nor digest is accepted in an image reference: {pattern}"))
}
