//! Feature gates: the list, and a set of them with its changes from the defaults.
//!
//! In:    `featureGates` of the configuration file, `--feature-gates`
//! Out:   `Gates`, a plain value that views carry
//! Calls: hyperkube/config_files.rs creates it; `decide` and the wiring read it
//! Holds: an unknown gate, a change of a locked gate, and a gate without its dependencies are errors in upstream's words; all
//!        are reported at once
//! Upstream: staging/src/k8s.io/component-base/featuregate/feature_gate.go

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod list;

/// Names of the gates that this program reads.
pub mod name {
    /// `crashLoopBackOff` in the configuration.
    pub const KUBELET_CRASH_LOOP_BACK_OFF_MAX: &str = "KubeletCrashLoopBackOffMax";
    /// `imagePullCredentialsVerificationPolicy` in the configuration.
    pub const KUBELET_ENSURE_SECRET_PULLED_IMAGES: &str = "KubeletEnsureSecretPulledImages";
    /// A CPU quota period other than 100 ms.
    pub const CUSTOM_CPU_CFS_QUOTA_PERIOD: &str = "CustomCPUCFSQuotaPeriod";
    /// Environment variables from files.
    pub const ENV_FILES: &str = "EnvFiles";
    /// `imageMaximumGCAge` in the configuration.
    pub const IMAGE_MAXIMUM_GC_AGE: &str = "ImageMaximumGCAge";
    /// Serving certificates from the cluster.
    pub const ROTATE_KUBELET_SERVER_CERTIFICATE: &str = "RotateKubeletServerCertificate";
    /// Graceful node shutdown.
    pub const GRACEFUL_NODE_SHUTDOWN: &str = "GracefulNodeShutdown";
    /// Graceful node shutdown by pod priority.
    pub const GRACEFUL_NODE_SHUTDOWN_BASED_ON_POD_PRIORITY: &str =
        "GracefulNodeShutdownBasedOnPodPriority";
    /// Swap for pods.
    pub const NODE_SWAP: &str = "NodeSwap";
    /// Memory protection and throttling on cgroup v2.
    pub const MEMORY_QOS: &str = "MemoryQoS";
    /// `/logs/?query=`.
    pub const NODE_LOG_QUERY: &str = "NodeLogQuery";
    /// Alpha options of the log formats.
    pub const LOGGING_ALPHA_OPTIONS: &str = "LoggingAlphaOptions";
    /// Beta options of the log formats, `json` among them.
    pub const LOGGING_BETA_OPTIONS: &str = "LoggingBetaOptions";
    /// The local pods API on a unix socket.
    pub const PODS_API: &str = "PodsAPI";
    /// The Node names what this kubelet can do beyond its version.
    pub const NODE_DECLARED_FEATURES: &str = "NodeDeclaredFeatures";
    /// The restart of all containers of a pod when one of them exits.
    pub const RESTART_ALL_CONTAINERS: &str = "RestartAllContainersOnContainerExits";
    /// Policies and rules of single containers.
    pub const CONTAINER_RESTART_RULES: &str = "ContainerRestartRules";
    /// `lifecycle.stopSignal`.
    pub const CONTAINER_STOP_SIGNALS: &str = "ContainerStopSignals";
    /// Restart back-off from 1 s to 60 s.
    pub const REDUCE_DEFAULT_CRASH_LOOP_BACK_OFF_DECAY: &str = "ReduceDefaultCrashLoopBackOffDecay";
}

const ALL_ALPHA: &str = "AllAlpha";
const ALL_BETA: &str = "AllBeta";

/// The maturity of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Off by default.
    Alpha,
    /// Mostly on by default.
    Beta,
    /// Generally available; the gate will be removed.
    Ga,
    /// Kept for users who still need it.
    Deprecated,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alpha => "ALPHA",
            Self::Beta => "BETA",
            Self::Ga => "",
            Self::Deprecated => "DEPRECATED",
        })
    }
}

/// A feature gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// Its stage at 1.36.
    pub stage: Stage,
    /// The minor version of 1.x in which it reached that stage.
    pub since: u8,
    /// Its default.
    pub default: bool,
    /// Whether it is locked to its default.
    pub locked: bool,
}

/// Why a set of gates is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateProblem {
    /// Unknown gate.
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    /// A locked gate: its name, the requested value.
    #[error("cannot set feature gate {0} to {1}, feature is locked to {not}", not = !.1)]
    Locked(String, bool),
    /// Enabled without gates that it depends on.
    #[error("{0} is enabled, but depends on features that are disabled: [{needs}]", needs = .1.join(" "))]
    Dependency(&'static str, Vec<&'static str>),
}

/// The values of all gates. The default is upstream's defaults at 1.36.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    changed: BTreeMap<String, bool>,
}

impl Gates {
    /// Every known gate, sorted by name, without `AllAlpha` and `AllBeta`.
    pub fn known() -> &'static [Gate] {
        list::GATES
    }

    /// The gate with that name.
    pub fn find(name: &str) -> Option<&'static Gate> {
        let index = list::GATES.binary_search_by(|gate| gate.name.cmp(name));
        index.ok().and_then(|index| list::GATES.get(index))
    }

    /// The defaults with `changes` applied; otherwise all problems.
    pub fn with(changes: &BTreeMap<String, bool>) -> Result<Self, Vec<GateProblem>> {
        let mut gates = Self::default();
        let mut problems = Vec::new();
        for (name, on) in changes {
            if name == ALL_ALPHA || name == ALL_BETA {
                gates.changed.insert(name.clone(), *on);
                continue;
            }
            match Self::find(name) {
                None => problems.push(GateProblem::Unknown(name.clone())),
                Some(gate) if gate.locked && gate.default != *on => {
                    problems.push(GateProblem::Locked(name.clone(), *on));
                }
                Some(_) => {
                    gates.changed.insert(name.clone(), *on);
                }
            }
        }
        if problems.is_empty() {
            problems = gates.missing_dependencies();
        }
        if problems.is_empty() {
            Ok(gates)
        } else {
            Err(problems)
        }
    }

    fn missing_dependencies(&self) -> Vec<GateProblem> {
        let rows = list::DEPENDENCIES.iter();
        rows.filter(|(name, _)| self.is_enabled(name))
            .filter_map(|(name, needs)| {
                let off = needs.iter().filter(|need| !self.is_enabled(need));
                let off: Vec<_> = off.copied().collect();
                (!off.is_empty()).then_some(GateProblem::Dependency(name, off))
            })
            .collect()
    }

    /// Whether the gate is on. An unknown gate is off.
    pub fn is_enabled(&self, name: &str) -> bool {
        if let Some(on) = self.changed.get(name) {
            return *on;
        }
        let Some(gate) = Self::find(name) else {
            return false;
        };
        let all = match gate.stage {
            Stage::Alpha => ALL_ALPHA,
            Stage::Beta => ALL_BETA,
            Stage::Ga | Stage::Deprecated => return gate.default,
        };
        self.changed.get(all).copied().unwrap_or(gate.default)
    }

    /// Gates that differ from their defaults.
    pub fn changed(&self) -> impl Iterator<Item = &'static str> {
        let set = self.changed.iter();
        set.filter_map(|(name, on)| Self::find(name).filter(|gate| gate.default != *on))
            .map(|gate| gate.name)
    }

    /// `AllAlpha` or `AllBeta` where it is set, and the gates that differ from their defaults by it.
    pub fn changed_by_all(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let of = |all: &'static str, stage: Stage| {
            let on = *self.changed.get(all)?;
            let gates = list::GATES.iter();
            let switched = gates.filter(|gate| gate.stage == stage && gate.default != on);
            let switched = switched.filter(|gate| !self.changed.contains_key(gate.name));
            let names: Vec<_> = switched.map(|gate| gate.name).collect();
            (!names.is_empty()).then_some((all, names))
        };
        let both = [of(ALL_ALPHA, Stage::Alpha), of(ALL_BETA, Stage::Beta)];
        both.into_iter().flatten().collect()
    }

    /// Gates that were set although they are GA or deprecated; each gives a warning.
    pub fn outdated(&self) -> BTreeSet<&'static str> {
        let set = self.changed.keys().filter_map(|name| Self::find(name));
        set.filter(|gate| matches!(gate.stage, Stage::Ga | Stage::Deprecated))
            .map(|gate| gate.name)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(text: &str) -> Result<Gates, Vec<String>> {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        let changes = pairs
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, on)| (name.to_owned(), on == "true"))
            .collect();
        Gates::with(&changes).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_list_is_sorted_and_names_only_what_it_holds() {
        assert!(list::GATES.is_sorted_by(|one, next| one.name < next.name));
        for (name, needs) in list::DEPENDENCIES {
            for name in needs.iter().chain([name]) {
                assert!(Gates::find(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn the_list_is_upstreams() {
        let upstream = include_str!("../../../parity/gates.tsv");
        let upstream = upstream.lines().filter(|line| !line.starts_with('#'));
        let upstream: Vec<&str> = upstream.map(str::trim_end).collect();
        let stage = |stage| match stage {
            Stage::Alpha => "Alpha",
            Stage::Beta => "Beta",
            Stage::Ga => "GA",
            Stage::Deprecated => "Deprecated",
        };
        let ours = list::GATES.iter().map(|gate| {
            let (stage, since, default) = (stage(gate.stage), gate.since, gate.default);
            let locked = if gate.locked { "\tlocked" } else { "" };
            format!("{}\t{stage}\t{since}\t{default}{locked}", gate.name)
        });
        assert_eq!(ours.collect::<Vec<_>>(), upstream);
    }

    #[test]
    fn the_defaults_hold_together() {
        assert_eq!(Gates::default().missing_dependencies(), []);
    }

    #[test]
    fn a_gate_is_on_by_default_by_choice_or_by_stage() {
        let rows = [
            ("", "MemoryQoS", false),
            ("MemoryQoS=true", "MemoryQoS", true),
            ("", "KubeletCrashLoopBackOffMax", true),
            (
                "KubeletCrashLoopBackOffMax=false",
                "KubeletCrashLoopBackOffMax",
                false,
            ),
            ("AllAlpha=true", "QOSReserved", true),
            ("AllAlpha=true,QOSReserved=false", "QOSReserved", false),
            ("AllAlpha=true", "SELinuxMount", false),
            ("", "NodeSwap", true),
            ("NodeSwap=true", "NodeSwap", true),
            ("", "NoSuchGate", false),
        ];
        for (set, name, on) in rows {
            assert_eq!(gates(set).unwrap().is_enabled(name), on, "{set} {name}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_upstreams_words() {
        let rows: &[(&str, &[&str])] = &[
            ("Nonsense=true", &["unrecognized feature gate: Nonsense"]),
            (
                "NodeSwap=false,Nonsense=false",
                &[
                    "cannot set feature gate NodeSwap to false, feature is locked to true",
                    "unrecognized feature gate: Nonsense",
                ],
            ),
            (
                "GracefulNodeShutdown=false,WindowsGracefulNodeShutdown=false",
                &[
                    "GracefulNodeShutdownBasedOnPodPriority is enabled, but depends on features that are disabled: [GracefulNodeShutdown]",
                ],
            ),
        ];
        for (set, words) in rows {
            assert_eq!(gates(set).unwrap_err(), *words, "{set}");
        }
    }

    #[test]
    fn gates_past_their_time_are_named() {
        let gates = gates("NodeSwap=true,MemoryQoS=true").unwrap();
        assert_eq!(gates.outdated(), BTreeSet::from(["NodeSwap"]));
    }
}
