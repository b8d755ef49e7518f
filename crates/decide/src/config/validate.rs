//! Validation of `KubeletConfiguration` and of the command line.
//!
//! In:    a defaulted configuration, the gates it runs with, facts of the host
//! Out:   every problem at once, each with its field and upstream's words; empty when all is well
//! Calls: hyperkube/config_files.rs, once, before anything starts
//! Holds: problems are reported in upstream's order; nothing is changed
//! Upstream: pkg/kubelet/apis/config/validation/validation.go (and _linux, _reserved_memory), options.go
//!           (ValidateKubeletFlags), and what its parts refuse at their start; differences: the cgroup check does not hide the checks after it

use kubelet_api::config::KubeletConfiguration;
use kubelet_model::gates::{GateProblem, Gates};
use std::fmt;

mod features;
mod labels;
mod logging;
mod nodes;
mod start;

pub use labels::flags;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// Path of the field, as `authentication.webhook.cacheTTL`; for a flag its name with dashes.
    pub field: String,
    /// What is wrong with it, in upstream's words.
    pub message: String,
}

impl FieldProblem {
    /// A problem of a field.
    pub fn new(field: &str, message: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            message: message.into(),
        }
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FieldProblem {}

impl From<GateProblem> for FieldProblem {
    fn from(problem: GateProblem) -> Self {
        let name = match &problem {
            GateProblem::Unknown(name) | GateProblem::Locked(name, _) => name.as_str(),
            GateProblem::Dependency(name, _) => name,
        };
        Self::new(&format!("featureGates.{name}"), problem.to_string())
    }
}

/// What validation must know of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Whether `/sys/fs/cgroup` is the unified hierarchy.
    pub cgroup_v2: bool,
}

/// The configuration under examination and what was found so far.
struct Examination<'a> {
    config: &'a KubeletConfiguration,
    gates: &'a Gates,
    problems: Vec<FieldProblem>,
}

impl Examination<'_> {
    /// A problem with upstream's usual beginning.
    fn invalid(&mut self, field: &str, message: impl fmt::Display) {
        self.say(field, format!("invalid configuration: {message}"));
    }

    fn say(&mut self, field: &str, message: impl Into<String>) {
        self.problems.push(FieldProblem::new(field, message));
    }

    fn is_enabled(&self, gate: &str) -> bool {
        self.gates.is_enabled(gate)
    }
}

/// Everything that is wrong with a configuration.
pub fn validate(
    config: &KubeletConfiguration,
    gates: &Gates,
    facts: HostFacts,
) -> Vec<FieldProblem> {
    let mut examination = Examination {
        config,
        gates,
        problems: Vec::new(),
    };
    examination.amounts();
    examination.images();
    examination.taints();
    examination.topology();
    examination.shutdown();
    examination.swap();
    examination.crash_loop();
    examination.enforcement();
    examination.image_credentials();
    examination.reservations();
    examination.host(facts);
    examination.logging();
    examination.tracing();
    examination.memory_qos();
    examination.logs_and_endpoints();
    examination.eviction();
    examination.placement();
    examination.problems
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or("")
}

/// Go's `%q` for the texts that occur here.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
