//! A probe as the spec has it, with upstream's defaults.
//!
//! In:    `Container`
//! Out:   [`ProbeSpec`]: its numbers
//! Calls: timetable, readiness, pod_plan; act/probes/prober
//! Holds: numbers that validation lets through; anything else counts as its default
//! Upstream: pkg/apis/core/v1/defaults.go (SetDefaults_Probe)

use std::time::Duration;

use k8s_openapi::api::core::v1;

use crate::shapes::probe::ProbeKind;

/// The numbers of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// After the container's start nothing is asked for so long.
    pub initial_delay: Duration,
    /// From one try to the next.
    pub period: Duration,
    /// Of one try.
    pub timeout: Duration,
    /// Successes in a row before it says success.
    pub success_threshold: u32,
    /// Failures in a row before it says failure.
    pub failure_threshold: u32,
}

/// One of a container's probes as the API has it.
pub fn probe_of(container: &v1::Container, kind: ProbeKind) -> Option<&v1::Probe> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
    }
}

/// Whether any of them is there.
pub fn has_probes(container: &v1::Container) -> bool {
    let mut kinds = ProbeKind::ALL.into_iter();
    kinds.any(|kind| probe_of(container, kind).is_some())
}

impl ProbeSpec {
    /// Of a probe.
    pub fn of(probe: &v1::Probe) -> Self {
        let number = |field: Option<i32>, default: u32| {
            let given = field.and_then(|given| u32::try_from(given).ok());
            given.filter(|given| *given > 0).unwrap_or(default)
        };
        let seconds = |field, default| Duration::from_secs(number(field, default).into());
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: number(probe.success_threshold, 1),
            failure_threshold: number(probe.failure_threshold, 3),
        }
    }
}
