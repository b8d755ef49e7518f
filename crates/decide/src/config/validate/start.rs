//! What upstream refuses only where it is used, at the start of the part that uses it: eviction thresholds, placement policies.
//!
//! In:    the configuration
//! Out:   problems with upstream's words
//! Calls: `validate`
//! Holds: every wrong entry is named with its field, where upstream stops at the first; what needs the machine's NUMA nodes is not
//!        looked at here
//! Upstream: pkg/kubelet/eviction/helpers.go (ParseThresholdConfig), cm/cpumanager, cm/memorymanager, cm/topologymanager (NewManager)

use std::collections::BTreeMap;

use kubelet_model::config::truth;
use kubelet_model::duration::GoDuration;
use kubelet_model::quantity::Quantity;

use super::{Examination, quoted, text};

/// Signals that a threshold may name.
const SIGNALS: [&str; 9] = [
    "allocatableMemory.available",
    "containerfs.available",
    "containerfs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "pid.available",
];

/// Options of the static CPU policy and the gate that each needs.
const CPU_OPTIONS: [(&str, Option<(&str, &str)>); 6] = [
    ("align-by-socket", Some(ALPHA)),
    ("distribute-cpus-across-cores", Some(ALPHA)),
    ("distribute-cpus-across-numa", Some(BETA)),
    ("full-pcpus-only", None),
    ("prefer-align-cpus-by-uncorecache", None),
    ("strict-cpu-reservation", None),
];
const ALPHA: (&str, &str) = ("CPUManagerPolicyAlphaOptions", "Alpha");
const BETA: (&str, &str) = ("CPUManagerPolicyBetaOptions", "Beta");

/// Options of the CPU policy that exclude each other, in the order in which upstream looks.
const EXCLUSIVE: [(&str, &str); 4] = [
    ("full-pcpus-only", "distribute-cpus-across-cores"),
    (
        "distribute-cpus-across-numa",
        "distribute-cpus-across-cores",
    ),
    (
        "prefer-align-cpus-by-uncorecache",
        "distribute-cpus-across-cores",
    ),
    (
        "prefer-align-cpus-by-uncorecache",
        "distribute-cpus-across-numa",
    ),
];

/// The least `max-allowable-numa-nodes`.
const LEAST_NUMA_NODES: i64 = 8;

type Map = BTreeMap<String, String>;

/// `50%` as a share of 100.
fn percentage(value: &str) -> Option<Result<f32, String>> {
    let digits = value.strip_suffix('%')?;
    let digits = digits.trim_end_matches('%');
    Some(digits.parse().map_err(|_| {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            quoted(digits)
        )
    }))
}

fn threshold(signal: &str, value: &str) -> Result<(), String> {
    match percentage(value) {
        Some(percent) => match percent? {
            percent if percent < 0.0 => Err(format!(
                "eviction percentage threshold {signal} must be >= 0%: {value}"
            )),
            percent if percent > 100.0 => Err(format!(
                "eviction percentage threshold {signal} must be <= 100%: {value}"
            )),
            _ => Ok(()),
        },
        None => {
            let amount: Quantity = value.parse().map_err(|error| format!("{error}"))?;
            if amount.nanos() > 0 {
                Ok(())
            } else {
                Err(format!(
                    "eviction threshold {signal} must be positive: {amount}"
                ))
            }
        }
    }
}

fn minimum_reclaim(signal: &str, value: &str) -> Result<(), String> {
    match percentage(value) {
        Some(percent) => (percent? > 0.0).then_some(()).ok_or_else(|| {
            format!("eviction percentage minimum reclaim {signal} must be positive: {value}")
        }),
        None => {
            let amount: Quantity = value.parse().map_err(|error| format!("{error}"))?;
            (amount.nanos() >= 0)
                .then_some(())
                .ok_or_else(|| format!("negative eviction minimum reclaim specified for {signal}"))
        }
    }
}

fn grace(_: &str, value: &str) -> Result<(), String> {
    let grace: GoDuration = value.parse().map_err(|error| format!("{error}"))?;
    (grace.as_nanos() >= 0).then_some(()).ok_or_else(|| {
        format!("invalid eviction grace period specified: {value}, must be a positive value")
    })
}

/// Whether a threshold never acts: upstream drops these.
fn is_ignored(value: &str) -> bool {
    matches!(value, "0%" | "100%")
}

impl Examination<'_> {
    pub(super) fn eviction(&mut self) {
        let c = self.config;
        let empty = Map::new();
        let of = |field: &'_ Option<Map>| field.clone().unwrap_or_else(|| empty.clone());
        let (hard, soft) = (of(&c.eviction_hard), of(&c.eviction_soft));
        let graces = of(&c.eviction_soft_grace_period);
        self.signals("evictionHard", &hard, threshold);
        self.signals("evictionSoft", &soft, threshold);
        self.signals("evictionSoftGracePeriod", &graces, grace);
        let reclaim = of(&c.eviction_minimum_reclaim);
        self.signals("evictionMinimumReclaim", &reclaim, minimum_reclaim);
        for (signal, value) in &soft {
            let counts = SIGNALS.contains(&signal.as_str()) && !is_ignored(value);
            if counts && !graces.contains_key(signal) {
                self.say(
                    &format!("evictionSoft.{signal}"),
                    format!(
                        "grace period must be specified for the soft eviction threshold {signal}"
                    ),
                );
            }
        }
    }

    fn signals(&mut self, field: &str, map: &Map, check: fn(&str, &str) -> Result<(), String>) {
        for (signal, value) in map {
            let problem = if SIGNALS.contains(&signal.as_str()) {
                check(signal, value).err()
            } else {
                Some(format!("unsupported eviction signal {signal}"))
            };
            if let Some(problem) = problem {
                self.say(&format!("{field}.{signal}"), problem);
            }
        }
    }

    pub(super) fn placement(&mut self) {
        let c = self.config;
        let options = c.cpu_manager_policy_options.clone().unwrap_or_default();
        match text(&c.cpu_manager_policy) {
            "" => {}
            "none" if options.is_empty() => {}
            "none" => self.say(
                "cpuManagerPolicyOptions",
                format!(
                    "new none policy error: None policy: received unsupported options=map[{}]",
                    options
                        .iter()
                        .map(|(name, value)| format!("{name}:{value}"))
                        .collect::<Vec<_>>()
                        .join(" ")
                ),
            ),
            "static" => self.static_cpu_policy(&options),
            other => self.say(
                "cpuManagerPolicy",
                format!("unknown policy: {}", quoted(other)),
            ),
        }
        match text(&c.memory_manager_policy) {
            "" | "None" | "Static" => {}
            "BestEffort" => self.say(
                "memoryManagerPolicy",
                "policy \"BestEffort\" is not available for platform \"linux\"",
            ),
            other => self.say(
                "memoryManagerPolicy",
                format!("unknown policy: {}", quoted(other)),
            ),
        }
        if text(&c.topology_manager_policy) != "none" {
            self.topology_options();
        }
    }

    fn static_cpu_policy(&mut self, options: &Map) {
        let c = self.config;
        let reserved = |map: &Option<Map>| {
            let cpu = map.as_ref().and_then(|map| map.get("cpu"));
            cpu.and_then(|cpu| cpu.parse::<Quantity>().ok())
                .is_some_and(|cpu| cpu.nanos() > 0)
        };
        let has_list = !text(&c.reserved_system_cpus).is_empty();
        if !has_list && !reserved(&c.system_reserved) && !reserved(&c.kube_reserved) {
            self.say(
                "cpuManagerPolicy",
                "[cpumanager] the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero",
            );
        }
        const FIELD: &str = "cpuManagerPolicyOptions";
        for (name, value) in options {
            let Some((_, gate)) = CPU_OPTIONS.iter().find(|(known, _)| known == name) else {
                let message = format!("unknown CPU Manager Policy option: {}", quoted(name));
                self.static_problem(&format!("{FIELD}.{name}"), &message);
                continue;
            };
            if let Some((_, level)) = gate.filter(|(gate, _)| !self.is_enabled(gate)) {
                let message = format!(
                    "CPU Manager Policy {level}-level Options not enabled, but option {} provided",
                    quoted(name)
                );
                self.static_problem(&format!("{FIELD}.{name}"), &message);
            } else if truth(value).is_none() {
                self.static_problem(&format!("{FIELD}.{name}"), &bad_truth(name, value));
            }
        }
        let is_on = |name: &str| options.get(name).and_then(|value| truth(value)) == Some(true);
        for (one, other) in EXCLUSIVE {
            if is_on(one) && is_on(other) {
                let message = format!(
                    "static policy options {one} and {other} can not be used at the same time"
                );
                self.static_problem(FIELD, &message);
            }
        }
    }

    fn static_problem(&mut self, field: &str, message: &str) {
        self.say(field, format!("new static policy error: {message}"));
    }

    fn topology_options(&mut self) {
        let options = self.config.topology_manager_policy_options.clone();
        for (name, value) in options.iter().flatten() {
            let problem = match name.as_str() {
                "prefer-closest-numa-nodes" => {
                    truth(value).is_none().then(|| bad_truth(name, value))
                }
                "max-allowable-numa-nodes" => match value.parse::<i64>() {
                    Ok(nodes) if nodes >= LEAST_NUMA_NODES => None,
                    Ok(_) => Some(format!(
                        "the minimum value of {} should not be less than {LEAST_NUMA_NODES}",
                        quoted(name)
                    )),
                    Err(_) => Some(format!(
                        "unable to convert policy option to integer {}: strconv.Atoi: parsing {}: invalid syntax",
                        quoted(name),
                        quoted(value)
                    )),
                },
                _ => Some(format!(
                    "unknown Topology Manager Policy option: {}",
                    quoted(name)
                )),
            };
            if let Some(problem) = problem {
                self.say(&format!("topologyManagerPolicyOptions.{name}"), problem);
            }
        }
    }
}

fn bad_truth(name: &str, value: &str) -> String {
    format!(
        "bad value for option {}: strconv.ParseBool: parsing {}: invalid syntax",
        quoted(name),
        quoted(value)
    )
}
