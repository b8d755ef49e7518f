//! Upstream's table of configurations and what is wrong with each, and our own rows beside it.
//!
//! Upstream: pkg/kubelet/apis/config/validation/validation_test.go, validation_reserved_memory_test.go

use super::*;
use kubelet_model::config::Flags;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A configuration in which nothing is wrong; not the defaults.
fn good() -> Value {
    let text = r#"{
        "cgroupsPerQOS": true, "enforceNodeAllocatable": ["pods", "system-reserved", "kube-reserved"],
        "systemReservedCgroup": "/system.slice", "kubeReservedCgroup": "/kubelet.service",
        "podLogsDir": "/logs", "eventBurst": 10, "eventRecordQPS": 5, "healthzPort": 10248,
        "imageGCHighThresholdPercent": 85, "imageGCLowThresholdPercent": 80, "imageMinimumGCAge": "2m",
        "imagePullCredentialsVerificationPolicy": "NeverVerifyPreloadedImages",
        "iptablesDropBit": 15, "iptablesMasqueradeBit": 14, "kubeAPIBurst": 10, "kubeAPIQPS": 5,
        "maxOpenFiles": 1000000, "maxPods": 110, "oomScoreAdj": -999, "podsPerCore": 100, "port": 65535,
        "readOnlyPort": 0, "registryBurst": 10, "registryPullQPS": 5, "hairpinMode": "promiscuous-bridge",
        "nodeLeaseDurationSeconds": 1, "cpuCFSQuotaPeriod": "25ms", "topologyManagerScope": "pod",
        "topologyManagerPolicy": "single-numa-node", "shutdownGracePeriod": "30s",
        "shutdownGracePeriodCriticalPods": "10s", "memoryThrottlingFactor": 0.9,
        "memoryReservationPolicy": "None", "logging": {"format": "text", "flushFrequency": "5s"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock", "containerLogMaxWorkers": 1,
        "containerLogMaxFiles": 5, "containerLogMonitorInterval": "10s", "singleProcessOOMKill": true,
        "featureGates": {"GracefulNodeShutdown": true, "MemoryQoS": true, "KubeletCrashLoopBackOffMax": true},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "3s"}
    }"#;
    serde_json::from_str(text).unwrap()
}

/// Field by field; `null` takes a field away, gates are replaced as a whole.
fn merged(base: &mut Value, change: &Value) {
    let (Some(base), Some(change)) = (base.as_object_mut(), change.as_object()) else {
        return;
    };
    for (name, value) in change {
        match base.get_mut(name) {
            Some(inner) if inner.is_object() && value.is_object() && name != "featureGates" => {
                merged(inner, value);
            }
            _ if value.is_null() => drop(base.remove(name)),
            _ => drop(base.insert(name.clone(), value.clone())),
        }
    }
}

fn problems(change: &Value, facts: HostFacts) -> Vec<FieldProblem> {
    let mut config = good();
    merged(&mut config, change);
    let config: KubeletConfiguration = serde_json::from_value(config).unwrap();
    let gates = config.feature_gates.clone().unwrap_or_default();
    match Gates::with(&gates) {
        Ok(gates) => validate(&config, &gates, facts),
        Err(problems) => problems.into_iter().map(FieldProblem::from).collect(),
    }
}

/// Each row: what is changed, the field that is named, its whole message after the usual beginning.
fn check(rows: &[(Value, &str, &str)]) {
    for (change, field, message) in rows {
        let found = problems(change, HostFacts { cgroup_v2: true });
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|problem| (problem.field.as_str(), problem.message.as_str()))
            .map(|(field, message)| {
                (
                    field,
                    message
                        .strip_prefix("invalid configuration: ")
                        .unwrap_or(message),
                )
            })
            .collect();
        if message.is_empty() {
            assert_eq!(found, [], "{change}");
        } else {
            assert!(found.contains(&(*field, *message)), "{change}: {found:#?}");
        }
    }
}

const NO_SHUTDOWN: fn() -> Value = || {
    json!({"GracefulNodeShutdown": false, "GracefulNodeShutdownBasedOnPodPriority": false,
        "WindowsGracefulNodeShutdown": false})
};

#[test]
fn amounts_out_of_their_range_are_named() {
    check(&[
        (json!({}), "", ""),
        (
            json!({"nodeLeaseDurationSeconds": 0}),
            "nodeLeaseDurationSeconds",
            "nodeLeaseDurationSeconds must be greater than 0",
        ),
        (
            json!({"eventBurst": -1}),
            "eventBurst",
            "eventBurst (--event-burst) -1 must not be a negative number",
        ),
        (
            json!({"eventRecordQPS": -1}),
            "eventRecordQPS",
            "eventRecordQPS (--event-qps) -1 must not be a negative number",
        ),
        (
            json!({"healthzPort": 65536}),
            "healthzPort",
            "healthzPort (--healthz-port) 65536 must be between 1 and 65535, inclusive",
        ),
        (json!({"healthzPort": 0}), "", ""),
        (
            json!({"featureGates": {"CustomCPUCFSQuotaPeriod": false}, "cpuCFSQuotaPeriod": "200ms"}),
            "cpuCFSQuotaPeriod",
            "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {200ms} requires feature gate CustomCPUCFSQuotaPeriod",
        ),
        (
            json!({"cpuCFSQuotaPeriod": "2s"}),
            "cpuCFSQuotaPeriod",
            "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {2s} must be between 1ms and 1sec, inclusive",
        ),
        (
            json!({"imageGCHighThresholdPercent": 101}),
            "imageGCHighThresholdPercent",
            "imageGCHighThresholdPercent (--image-gc-high-threshold) 101 must be between 0 and 100, inclusive",
        ),
        (
            json!({"imageGCLowThresholdPercent": -1}),
            "imageGCLowThresholdPercent",
            "imageGCLowThresholdPercent (--image-gc-low-threshold) -1 must be between 0 and 100, inclusive",
        ),
        (
            json!({"imageGCHighThresholdPercent": 0, "imageGCLowThresholdPercent": 0}),
            "imageGCLowThresholdPercent",
            "imageGCLowThresholdPercent (--image-gc-low-threshold) 0 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 0",
        ),
        (
            json!({"imageGCHighThresholdPercent": 0, "imageGCLowThresholdPercent": 1}),
            "imageGCLowThresholdPercent",
            "imageGCLowThresholdPercent (--image-gc-low-threshold) 1 must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) 0",
        ),
        (
            json!({"imageMaximumGCAge": "-1ns"}),
            "imageMaximumGCAge",
            "imageMaximumGCAge -1ns must not be negative",
        ),
        (
            json!({"imageMaximumGCAge": "1ns", "imageMinimumGCAge": "2ns"}),
            "imageMaximumGCAge",
            "imageMaximumGCAge 1ns must be greater than imageMinimumGCAge 2ns",
        ),
        (
            json!({"imageMinimumGCAge": "-1ns"}),
            "imageMinimumGCAge",
            "imageMinimumGCAge -1ns must not be negative",
        ),
        (json!({"imageMinimumGCAge": "1ns"}), "", ""),
        (
            json!({"iptablesDropBit": 32}),
            "iptablesDropBit",
            "iptablesDropBit (--iptables-drop-bit) 32 must be between 0 and 31, inclusive",
        ),
        (
            json!({"iptablesMasqueradeBit": 32}),
            "iptablesMasqueradeBit",
            "iptablesMasqueradeBit (--iptables-masquerade-bit) 32 must be between 0 and 31, inclusive",
        ),
        (
            json!({"kubeAPIBurst": -1}),
            "kubeAPIBurst",
            "kubeAPIBurst (--kube-api-burst) -1 must not be a negative number",
        ),
        (
            json!({"kubeAPIQPS": -1}),
            "kubeAPIQPS",
            "kubeAPIQPS (--kube-api-qps) -1 must not be a negative number",
        ),
        (
            json!({"nodeStatusMaxImages": -2}),
            "nodeStatusMaxImages",
            "nodeStatusMaxImages (--node-status-max-images) -2 must be -1 or greater",
        ),
        (
            json!({"maxOpenFiles": -1}),
            "maxOpenFiles",
            "maxOpenFiles (--max-open-files) -1 must not be a negative number",
        ),
        (
            json!({"maxPods": -1}),
            "maxPods",
            "maxPods (--max-pods) -1 must not be a negative number",
        ),
        (
            json!({"oomScoreAdj": 1001}),
            "oomScoreAdj",
            "oomScoreAdj (--oom-score-adj) 1001 must be between -1000 and 1000, inclusive",
        ),
        (
            json!({"podsPerCore": -1}),
            "podsPerCore",
            "podsPerCore (--pods-per-core) -1 must not be a negative number",
        ),
        (
            json!({"port": 65536}),
            "port",
            "port (--port) 65536 must be between 1 and 65535, inclusive",
        ),
        (
            json!({"readOnlyPort": 65536}),
            "readOnlyPort",
            "readOnlyPort (--read-only-port) 65536 must be between 0 and 65535, inclusive",
        ),
        (
            json!({"registryBurst": -1}),
            "registryBurst",
            "registryBurst (--registry-burst) -1 must not be a negative number",
        ),
        (
            json!({"registryPullQPS": -1}),
            "registryPullQPS",
            "registryPullQPS (--registry-qps) -1 must not be a negative number",
        ),
        (
            json!({"maxParallelImagePulls": 0}),
            "maxParallelImagePulls",
            "maxParallelImagePulls 0 must be a positive number",
        ),
        (
            json!({"maxParallelImagePulls": 3, "serializeImagePulls": true}),
            "maxParallelImagePulls",
            "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to false",
        ),
        (
            json!({"maxParallelImagePulls": 1, "serializeImagePulls": true}),
            "",
            "",
        ),
    ]);
}

#[test]
fn settings_that_need_others_are_named() {
    check(&[
        (
            json!({"cgroupsPerQOS": false, "enforceNodeAllocatable": ["pods"]}),
            "cgroupsPerQOS",
            "cgroupsPerQOS (--cgroups-per-qos) must be set to true when \"pods\" contained in enforceNodeAllocatable (--enforce-node-allocatable)",
        ),
        (
            json!({"systemCgroups": "/"}),
            "systemCgroups",
            "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified",
        ),
        (
            json!({"featureGates": {"RotateKubeletServerCertificate": false}, "serverTLSBootstrap": true}),
            "serverTLSBootstrap",
            "serverTLSBootstrap true requires feature gate RotateKubeletServerCertificate",
        ),
        (
            json!({"runOnce": true}),
            "runOnce",
            "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set",
        ),
        (
            json!({"topologyManagerPolicy": "invalid-policy"}),
            "topologyManagerPolicy",
            "topologyManagerPolicy (--topology-manager-policy) \"invalid-policy\" must be one of: [\"none\" \"best-effort\" \"restricted\" \"single-numa-node\"]",
        ),
        (
            json!({"topologyManagerScope": "invalid-scope"}),
            "topologyManagerScope",
            "topologyManagerScope (--topology-manager-scope) \"invalid-scope\" must be one of: \"container\", or \"pod\"",
        ),
        (
            json!({"hairpinMode": "invalid-hair-pin-mode"}),
            "hairpinMode",
            "option \"invalid-hair-pin-mode\" specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \"hairpin-veth\" or \"promiscuous-bridge\"",
        ),
        (
            json!({"memorySwap": {"swapBehavior": "invalid-behavior"}}),
            "memorySwap.swapBehavior",
            "memorySwap.swapBehavior \"invalid-behavior\" must be one of: \"\", \"LimitedSwap\" or \"NoSwap\"",
        ),
        (
            json!({"memoryThrottlingFactor": null}),
            "memoryThrottlingFactor",
            "memoryThrottlingFactor is required when MemoryQoS feature flag is enabled",
        ),
        (
            json!({"memoryThrottlingFactor": 1.1}),
            "memoryThrottlingFactor",
            "memoryThrottlingFactor 1.1 must be greater than 0 and less than or equal to 1.0",
        ),
        (
            json!({"featureGates": {"MemoryQoS": false}, "memoryReservationPolicy": "TieredReservation"}),
            "memoryReservationPolicy",
            "memoryReservationPolicy \"TieredReservation\" requires MemoryQoS feature gate to be enabled",
        ),
        (
            json!({"memoryReservationPolicy": "invalid"}),
            "memoryReservationPolicy",
            "option \"invalid\" specified for memoryReservationPolicy. Valid options are \"None\" or \"TieredReservation\"",
        ),
        (
            json!({"registerWithTaints": [{"timeAdded": "2026-01-01T00:00:00Z"}]}),
            "registerWithTaints[0]",
            "taint.TimeAdded is not nil",
        ),
        (
            json!({"registerWithTaints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]}),
            "",
            "",
        ),
        (
            json!({"registerWithTaints": [{"key": "a", "effect": "Sometimes"}]}),
            "registerWithTaints[0]",
            "invalid taint: {a  Sometimes <nil>}",
        ),
        (
            json!({"enableSystemLogHandler": true, "enableSystemLogQuery": true, "featureGates": {"NodeLogQuery": true}}),
            "",
            "",
        ),
        (
            json!({"featureGates": {"NodeLogQuery": false}, "enableSystemLogQuery": true}),
            "featureGates.NodeLogQuery",
            "cannot set feature gate NodeLogQuery to false, feature is locked to true",
        ),
        (
            json!({"enableSystemLogHandler": false, "enableSystemLogQuery": true}),
            "enableSystemLogQuery",
            "enableSystemLogHandler is required for enableSystemLogQuery",
        ),
        (
            json!({"featureGates": {"invalid": true}}),
            "featureGates.invalid",
            "unrecognized feature gate: invalid",
        ),
        (
            json!({"showHiddenMetricsForVersion": "1.2"}),
            "showHiddenMetricsForVersion",
            "invalid showHiddenMetricsForVersion: showHiddenMetricsForVersion: Invalid value: \"1.2\": must be omitted or have the value '1.35'; only the previous minor version is allowed",
        ),
    ]);
}

#[test]
fn shutdown_and_back_off_periods_are_checked() {
    let needs = "specifying shutdownGracePeriod or shutdownGracePeriodCriticalPods requires feature gate GracefulNodeShutdown";
    check(&[
        (
            json!({"shutdownGracePeriodCriticalPods": "2s", "shutdownGracePeriod": "1s"}),
            "shutdownGracePeriodCriticalPods",
            "shutdownGracePeriodCriticalPods {2s} must be <= shutdownGracePeriod {1s}",
        ),
        (
            json!({"shutdownGracePeriod": "1ms"}),
            "shutdownGracePeriod",
            "shutdownGracePeriod {1ms} must be either zero or otherwise >= 1 sec",
        ),
        (
            json!({"shutdownGracePeriodCriticalPods": "1ms"}),
            "shutdownGracePeriodCriticalPods",
            "shutdownGracePeriodCriticalPods {1ms} must be either zero or otherwise >= 1 sec",
        ),
        (
            json!({"featureGates": NO_SHUTDOWN(), "shutdownGracePeriod": "1s"}),
            "shutdownGracePeriod",
            needs,
        ),
        (
            json!({"featureGates": NO_SHUTDOWN(), "shutdownGracePeriodCriticalPods": "1s"}),
            "shutdownGracePeriod",
            needs,
        ),
        (
            json!({"shutdownGracePeriodByPodPriority": [{"priority": 0, "shutdownGracePeriodSeconds": 0}]}),
            "shutdownGracePeriodByPodPriority",
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time",
        ),
        (
            json!({"featureGates": {"GracefulNodeShutdownBasedOnPodPriority": false},
                "shutdownGracePeriodByPodPriority": [{"priority": 0, "shutdownGracePeriodSeconds": 0}]}),
            "shutdownGracePeriodByPodPriority",
            "Specifying shutdownGracePeriodByPodPriority requires feature gate GracefulNodeShutdownBasedOnPodPriority",
        ),
    ]);
    let field = "crashLoopBackOff.maxContainerRestartPeriod";
    for (period, seconds) in [
        ("0s", "0"),
        ("301s", "301"),
        ("300.9s", "300.9"),
        ("999ms", "0.999"),
    ] {
        let words = format!(
            "CrashLoopBackOff.MaxContainerRestartPeriod (got: {seconds} seconds) must be set between 1s and 300s"
        );
        check(&[(
            json!({"crashLoopBackOff": {"maxContainerRestartPeriod": period}}),
            field,
            &words,
        )]);
    }
    check(&[
        (
            json!({"crashLoopBackOff": {"maxContainerRestartPeriod": null}}),
            field,
            "FeatureGate KubeletCrashLoopBackOffMax is enabled, CrashLoopBackOff.MaxContainerRestartPeriod must be set",
        ),
        (
            json!({"featureGates": {"KubeletCrashLoopBackOffMax": false}}),
            field,
            "FeatureGate KubeletCrashLoopBackOffMax not enabled, CrashLoopBackOff.MaxContainerRestartPeriod must not be set",
        ),
    ]);
}

#[test]
fn reservations_are_checked_together() {
    let system = "systemReservedCgroup (--system-reserved-cgroup) must be specified when \"system-reserved\" or \"system-reserved-compressible\" included in enforceNodeAllocatable (--enforce-node-allocatable)";
    let kube = "kubeReservedCgroup (--kube-reserved-cgroup) must be specified when \"kube-reserved\" or \"kube-reserved-compressible\" included in enforceNodeAllocatable (--enforce-node-allocatable)";
    let cgroups = "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or kubeReservedCgroup (--kube-reserved-cgroup)";
    let enforce = "enforceNodeAllocatable";
    check(&[
        (
            json!({"enforceNodeAllocatable": ["system-reserved"], "systemReservedCgroup": ""}),
            "systemReservedCgroup",
            system,
        ),
        (
            json!({"enforceNodeAllocatable": ["system-reserved-compressible"], "systemReservedCgroup": ""}),
            "systemReservedCgroup",
            system,
        ),
        (
            json!({"enforceNodeAllocatable": ["system-reserved-compressible", "system-reserved"]}),
            enforce,
            "both \"system-reserved\" and \"system-reserved-compressible\" cannot be specified together in enforceNodeAllocatable (--enforce-node-allocatable)",
        ),
        (
            json!({"enforceNodeAllocatable": ["kube-reserved"], "kubeReservedCgroup": ""}),
            "kubeReservedCgroup",
            kube,
        ),
        (
            json!({"enforceNodeAllocatable": ["kube-reserved-compressible"], "kubeReservedCgroup": ""}),
            "kubeReservedCgroup",
            kube,
        ),
        (
            json!({"enforceNodeAllocatable": ["kube-reserved-compressible", "kube-reserved"]}),
            enforce,
            "both \"kube-reserved\" and \"kube-reserved-compressible\" cannot be specified together in enforceNodeAllocatable (--enforce-node-allocatable)",
        ),
        (
            json!({"enforceNodeAllocatable": ["none", "kube-reserved"]}),
            enforce,
            "enforceNodeAllocatable (--enforce-node-allocatable) may not contain additional enforcements when \"none\" is specified",
        ),
        (
            json!({"enforceNodeAllocatable": ["none", "none"]}),
            enforce,
            "duplicated enforcements \"none\" in enforceNodeAllocatable (--enforce-node-allocatable)",
        ),
        (
            json!({"enforceNodeAllocatable": ["other"]}),
            enforce,
            "option \"other\" specified for enforceNodeAllocatable (--enforce-node-allocatable). Valid options are \"pods\", \"system-reserved\", \"system-reserved-compressible\", \"kube-reserved\", \"kube-reserved-compressible\" or \"none\"",
        ),
        (
            json!({"reservedSystemCPUs": "0-3", "kubeReservedCgroup": ""}),
            "reservedSystemCPUs",
            cgroups,
        ),
        (
            json!({"reservedSystemCPUs": "0-3", "systemReservedCgroup": ""}),
            "reservedSystemCPUs",
            cgroups,
        ),
        (
            json!({"reservedSystemCPUs": "cpus"}),
            "reservedSystemCPUs",
            "unable to parse reservedSystemCPUs (--reserved-cpus) cpus, error: strconv.Atoi: parsing \"cpus\": invalid syntax",
        ),
        (
            json!({"reservedSystemCPUs": "3-1"}),
            "reservedSystemCPUs",
            "unable to parse reservedSystemCPUs (--reserved-cpus) 3-1, error: invalid range \"3-1\" (3 > 1)",
        ),
        (
            json!({"reservedMemory": [{"numaNode": 0, "limits": {"memory": "128", "hugepages-2Mi": "64"}}]}),
            "",
            "",
        ),
        (
            json!({"reservedMemory": [{"numaNode": 0, "limits": {"memory": "128"}}, {"numaNode": 0, "limits": {"memory": "64"}}]}),
            "reservedMemory[1].limits.memory",
            "the reserved memory has a duplicate value for NUMA node 0 and resource \"memory\"",
        ),
        (
            json!({"reservedMemory": [{"numaNode": 0, "limits": {"blabla": "128"}}]}),
            "reservedMemory[0].limits.blabla",
            "the limit type \"blabla\" for NUMA node 0 is not supported, only [memory hugepages-<HugePageSize>] is accepted",
        ),
        (
            json!({"reservedMemory": [{"numaNode": 0, "limits": {"memory": "0"}}]}),
            "reservedMemory[0].limits.memory",
            "reserved memory may not be zero for NUMA node 0 and resource \"memory\"",
        ),
    ]);
}

#[test]
fn logs_traces_and_image_credentials_are_checked() {
    let interval =
        "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s";
    let off = || json!({"KubeletEnsureSecretPulledImages": false});
    check(&[
        (
            json!({"containerLogMaxWorkers": 0}),
            "containerLogMaxWorkers",
            "containerLogMaxWorkers must be greater than or equal to 1",
        ),
        (
            json!({"containerLogMonitorInterval": "-1s"}),
            "containerLogMonitorInterval",
            interval,
        ),
        (
            json!({"containerLogMonitorInterval": "2s"}),
            "containerLogMonitorInterval",
            interval,
        ),
        (
            json!({"containerLogMaxFiles": 1}),
            "containerLogMaxFiles",
            "containerLogMaxFiles must be greater than 1",
        ),
        (
            json!({"podLogsDir": ""}),
            "podLogsDir",
            "podLogsDir was not specified",
        ),
        (
            json!({"podLogsDir": "./test"}),
            "podLogsDir",
            "pod logs path \"./test\" must be absolute path",
        ),
        (
            json!({"podLogsDir": "./test"}),
            "podLogsDir",
            "pod logs path \"./test\" must be normalized",
        ),
        (
            json!({"podLogsDir": "/path/../"}),
            "podLogsDir",
            "pod logs path \"/path/../\" must be normalized",
        ),
        (
            json!({"podLogsDir": "/\u{1f9ea}"}),
            "podLogsDir",
            "pod logs path \"/\u{1f9ea}\" mut contains ASCII characters only",
        ),
        (
            json!({"containerRuntimeEndpoint": ""}),
            "containerRuntimeEndpoint",
            "the containerRuntimeEndpoint was not specified or empty",
        ),
        (
            json!({"logging": {"format": "invalid"}}),
            "logging.format",
            "logging.format: Invalid value: \"invalid\": Unsupported log format",
        ),
        (json!({"logging": {"format": "json"}}), "", ""),
        (
            json!({"logging": {"format": "json", "vmodule": [{"filePattern": "a", "verbosity": 1}]}}),
            "logging.vmodule",
            "logging.vmodule: Forbidden: Only supported for text log format",
        ),
        (
            json!({"logging": {"options": {"text": {"splitStream": true}}}}),
            "logging.options.text.splitStream",
            "logging.options.text.splitStream: Forbidden: Feature LoggingAlphaOptions is disabled",
        ),
        (
            json!({"tracing": {"samplingRatePerMillion": -1}}),
            "tracing.samplingRatePerMillion",
            "tracing.samplingRatePerMillion: Invalid value: -1: sampling rate must be positive",
        ),
        (
            json!({"tracing": {"endpoint": "dn%2s://localhost:4317"}}),
            "tracing.endpoint",
            "tracing.endpoint: Invalid value: \"dn%2s://localhost:4317\": parse \"dn%2s://localhost:4317\": first path segment in URL cannot contain colon",
        ),
        (json!({"tracing": {"endpoint": "localhost:4317"}}), "", ""),
        (
            json!({"imagePullCredentialsVerificationPolicy": "invalid"}),
            "imagePullCredentialsVerificationPolicy",
            "option \"invalid\" specified for imagePullCredentialsVerificationPolicy. Valid options are \"NeverVerify\", \"NeverVerifyPreloadedImages\", \"NeverVerifyAllowlistedImages\" or \"AlwaysVerify\"",
        ),
        (
            json!({"imagePullCredentialsVerificationPolicy": "NeverVerify", "preloadedImagesVerificationAllowlist": ["test.test/repo"]}),
            "preloadedImagesVerificationAllowlist",
            "can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not \"NeverVerifyAllowlistedImages\"",
        ),
        (
            json!({"imagePullCredentialsVerificationPolicy": "NeverVerifyAllowlistedImages", "preloadedImagesVerificationAllowlist": ["a/b:c"]}),
            "preloadedImagesVerificationAllowlist",
            "invalid image pattern in `preloadedImagesVerificationAllowlist`: neither tag nor digest is accepted in an image reference: a/b:c",
        ),
        (
            json!({"featureGates": off(), "crashLoopBackOff": {"maxContainerRestartPeriod": "3s"}}),
            "imagePullCredentialsVerificationPolicy",
            "`imagePullCredentialsVerificationPolicy` must not be set if KubeletEnsureSecretPulledImages feature gate is not enabled",
        ),
        (
            json!({"featureGates": off(), "preloadedImagesVerificationAllowlist": ["test.test/repo"]}),
            "preloadedImagesVerificationAllowlist",
            "`preloadedImagesVerificationAllowlist` must not be set if KubeletEnsureSecretPulledImages feature gate is not enabled",
        ),
    ]);
}

#[test]
fn the_machine_is_asked_for_its_cgroup_version() {
    let refusal = "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be removed in a future release";
    let rows = [
        (json!({"failCgroupV1": true}), true, None),
        (
            json!({"failCgroupV1": true}),
            false,
            Some(("failCgroupV1", refusal)),
        ),
        (json!({"failCgroupV1": false}), false, None),
        (
            json!({"singleProcessOOMKill": false}),
            false,
            Some((
                "singleProcessOOMKill",
                "invalid configuration: singleProcessOOMKill must not be explicitly set to false when using cgroup v1",
            )),
        ),
        (json!({"singleProcessOOMKill": false}), true, None),
        (
            json!({"userNamespaces": {"idsPerPod": 65537}}),
            true,
            Some((
                "userNamespaces.idsPerPod",
                "invalid configuration: userNamespaces.idsPerPod must be a multiple of 65536",
            )),
        ),
        (
            json!({"userNamespaces": {"idsPerPod": 1}}),
            true,
            Some((
                "userNamespaces.idsPerPod",
                "invalid configuration: userNamespaces.idsPerPod must not be less than 65536",
            )),
        ),
    ];
    for (change, cgroup_v2, expected) in rows {
        let found = problems(&change, HostFacts { cgroup_v2 });
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(field, words)| FieldProblem::new(field, words))
            .collect();
        assert_eq!(found, expected, "{change}");
    }
}

#[test]
fn all_problems_come_at_once() {
    let change = json!({"port": 0, "maxPods": -1, "hairpinMode": "x", "podLogsDir": ""});
    let found = problems(&change, HostFacts { cgroup_v2: true });
    let fields: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(
        fields,
        ["maxPods", "port", "hairpinMode", "podLogsDir", "podLogsDir"]
    );
    // One problem of the machine's part does not hide the next.
    for ids in [1, 65537, 1_i64 << 33] {
        let change =
            json!({"userNamespaces": {"idsPerPod": ids}, "showHiddenMetricsForVersion": "1.2"});
        let found = problems(&change, HostFacts { cgroup_v2: true });
        let fields: Vec<&str> = found.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(
            fields,
            ["userNamespaces.idsPerPod", "showHiddenMetricsForVersion"],
            "{ids}"
        );
    }
}

#[test]
fn node_labels_must_be_the_nodes_to_set() {
    let rows = [
        ("app", "web", ""),
        ("node.kubernetes.io/pool", "a", ""),
        ("sub.kubelet.kubernetes.io/pool", "a", ""),
        ("kubernetes.io/hostname", "a", ""),
        (
            "kubernetes.io/other",
            "a",
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [kubernetes.io/other]",
        ),
        (
            "example.k8s.io/x",
            "a",
            "unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [example.k8s.io/x]",
        ),
        (
            "app",
            "-web",
            "invalid node labels: '-web' - a valid label must be an empty string",
        ),
        (
            "a//b",
            "",
            "invalid node labels: 'a//b' - a qualified name must consist of",
        ),
    ];
    for (key, value, begin) in rows {
        let given = Flags {
            node_labels: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            ..Flags::default()
        };
        let found = flags(&given);
        match found.first() {
            None => assert_eq!(begin, "", "{key}"),
            Some(problem) => assert!(
                !begin.is_empty() && problem.message.starts_with(begin),
                "{key}: {problem}"
            ),
        }
    }
}

/// `TestParseThresholdConfig`, its refused rows and the accepted ones that are near them.
#[test]
fn thresholds_that_upstream_cannot_parse_are_refused() {
    let hard = |signal: &str, value: &str| json!({"evictionHard": {signal: value}});
    let soft = |value: &str, grace: &str| json!({"evictionSoft": {"memory.available": value}, "evictionSoftGracePeriod": {"memory.available": grace}});
    check(&[
        (hard("memory.available", "150Mi"), "", ""),
        (hard("pid.available", "0%"), "", ""),
        (hard("nodefs.available", "100%"), "", ""),
        (hard("allocatableMemory.available", "10%"), "", ""),
        (json!({"evictionSoft": {"memory.available": "0%"}}), "", ""),
        (
            json!({"evictionMinimumReclaim": {"memory.available": "0", "nodefs.available": "1Gi"}}),
            "",
            "",
        ),
        (
            hard("mem.available", "150Mi"),
            "evictionHard.mem.available",
            "unsupported eviction signal mem.available",
        ),
        (
            hard("memory.available", "-150Mi"),
            "evictionHard.memory.available",
            "eviction threshold memory.available must be positive: -150Mi",
        ),
        (
            hard("memory.available", "0"),
            "evictionHard.memory.available",
            "eviction threshold memory.available must be positive: 0",
        ),
        (
            hard("memory.available", "-15%"),
            "evictionHard.memory.available",
            "eviction percentage threshold memory.available must be >= 0%: -15%",
        ),
        (
            hard("memory.available", "120%"),
            "evictionHard.memory.available",
            "eviction percentage threshold memory.available must be <= 100%: 120%",
        ),
        (
            hard("memory.available", "x%"),
            "evictionHard.memory.available",
            "strconv.ParseFloat: parsing \"x\": invalid syntax",
        ),
        (
            json!({"evictionSoft": {"memory.available": "150Mi"}}),
            "evictionSoft.memory.available",
            "grace period must be specified for the soft eviction threshold memory.available",
        ),
        (soft("150Mi", "30s"), "", ""),
        (
            soft("150Mi", "-30s"),
            "evictionSoftGracePeriod.memory.available",
            "invalid eviction grace period specified: -30s, must be a positive value",
        ),
        (
            json!({"evictionMinimumReclaim": {"memory.available": "-300Mi"}}),
            "evictionMinimumReclaim.memory.available",
            "negative eviction minimum reclaim specified for memory.available",
        ),
        (
            json!({"evictionMinimumReclaim": {"memory.available": "0%"}}),
            "evictionMinimumReclaim.memory.available",
            "eviction percentage minimum reclaim memory.available must be positive: 0%",
        ),
        (
            json!({"evictionMinimumReclaim": {"memory.availble": "1Mi"}}),
            "evictionMinimumReclaim.memory.availble",
            "unsupported eviction signal memory.availble",
        ),
    ]);
}

/// `NewManager` of the three managers, as far as no NUMA node is needed.
#[test]
fn policies_that_upstream_does_not_start_with_are_refused() {
    let cpu = |options: Value| json!({"cpuManagerPolicy": "static", "cpuManagerPolicyOptions": options, "systemReserved": {"cpu": "1"}});
    let topology = |options: Value| json!({"topologyManagerPolicyOptions": options});
    check(&[
        (cpu(json!({"full-pcpus-only": "true"})), "", ""),
        (
            json!({"cpuManagerPolicy": "static", "reservedSystemCPUs": "0", "systemReservedCgroup": null,
                "kubeReservedCgroup": null, "enforceNodeAllocatable": ["pods"]}),
            "",
            "",
        ),
        (
            json!({"cpuManagerPolicy": "static"}),
            "cpuManagerPolicy",
            "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero",
        ),
        (
            json!({"cpuManagerPolicy": "Static"}),
            "cpuManagerPolicy",
            "unknown policy: \"Static\"",
        ),
        (
            json!({"cpuManagerPolicy": "none", "cpuManagerPolicyOptions": {"full-pcpus-only": "true"}}),
            "cpuManagerPolicyOptions",
            "new none policy error: None policy: received unsupported options=map[full-pcpus-only:true]",
        ),
        (
            cpu(json!({"x": "true"})),
            "cpuManagerPolicyOptions.x",
            "new static policy error: unknown CPU Manager Policy option: \"x\"",
        ),
        (
            cpu(json!({"align-by-socket": "true"})),
            "cpuManagerPolicyOptions.align-by-socket",
            "new static policy error: CPU Manager Policy Alpha-level Options not enabled, but option \"align-by-socket\" provided",
        ),
        (
            cpu(json!({"full-pcpus-only": "maybe"})),
            "cpuManagerPolicyOptions.full-pcpus-only",
            "new static policy error: bad value for option \"full-pcpus-only\": strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        (
            cpu(
                json!({"distribute-cpus-across-numa": "true", "prefer-align-cpus-by-uncorecache": "true"}),
            ),
            "cpuManagerPolicyOptions",
            "new static policy error: static policy options prefer-align-cpus-by-uncorecache and distribute-cpus-across-numa can not be used at the same time",
        ),
        (
            json!({"memoryManagerPolicy": "static"}),
            "memoryManagerPolicy",
            "unknown policy: \"static\"",
        ),
        (
            json!({"memoryManagerPolicy": "BestEffort"}),
            "memoryManagerPolicy",
            "policy \"BestEffort\" is not available for platform \"linux\"",
        ),
        (topology(json!({"max-allowable-numa-nodes": "8"})), "", ""),
        (
            topology(json!({"max-allowable-numa-nodes": "7"})),
            "topologyManagerPolicyOptions.max-allowable-numa-nodes",
            "the minimum value of \"max-allowable-numa-nodes\" should not be less than 8",
        ),
        (
            topology(json!({"x": "true"})),
            "topologyManagerPolicyOptions.x",
            "unknown Topology Manager Policy option: \"x\"",
        ),
    ]);
}
