//! The kubelet's conditions of the node: memory, disk and process ids, then Ready.
//!
//! In:    the status before, pressure, reasons for not being ready
//! Out:   the conditions in place, events of those that changed
//! Calls: node_status
//! Holds: a condition keeps its place in the list; conditions of others stay
//! Upstream: pkg/kubelet/nodestatus/setters.go (MemoryPressureCondition, DiskPressureCondition, PIDPressureCondition,
//!           ReadyCondition), apimachinery/pkg/util/errors (how several reasons are written)

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{NodeStatusView, node_event};
use crate::report::events::NodeEvent;

/// Without one of these in its capacity a node is not ready.
const REQUIRED: [&str; 4] = ["cpu", "memory", "pods", "ephemeral-storage"];

/// Words of one condition and its events.
struct Words {
    reason: &'static str,
    message: &'static str,
    event: &'static str,
}

struct Pressure {
    type_: &'static str,
    yes: Words,
    no: Words,
}

const MEMORY: Pressure = Pressure {
    type_: "MemoryPressure",
    yes: Words {
        reason: "KubeletHasInsufficientMemory",
        message: "kubelet has insufficient memory available",
        event: "NodeHasInsufficientMemory",
    },
    no: Words {
        reason: "KubeletHasSufficientMemory",
        message: "kubelet has sufficient memory available",
        event: "NodeHasSufficientMemory",
    },
};
const DISK: Pressure = Pressure {
    type_: "DiskPressure",
    yes: Words {
        reason: "KubeletHasDiskPressure",
        message: "kubelet has disk pressure",
        event: "NodeHasDiskPressure",
    },
    no: Words {
        reason: "KubeletHasNoDiskPressure",
        message: "kubelet has no disk pressure",
        event: "NodeHasNoDiskPressure",
    },
};
const PID: Pressure = Pressure {
    type_: "PIDPressure",
    yes: Words {
        reason: "KubeletHasInsufficientPID",
        message: "kubelet has insufficient PID available",
        event: "NodeHasInsufficientPID",
    },
    no: Words {
        reason: "KubeletHasSufficientPID",
        message: "kubelet has sufficient PID available",
        event: "NodeHasSufficientPID",
    },
};

/// Sets all four; events of what changed, in their order.
pub(super) fn set(
    status: &mut NodeStatus,
    view: &NodeStatusView<'_>,
    name: &str,
) -> Vec<NodeEvent> {
    let mut events = Vec::new();
    let pressures = [
        (&MEMORY, view.pressure.memory),
        (&DISK, view.pressure.disk),
        (&PID, view.pressure.pid),
    ];
    for (pressure, is_on) in pressures {
        let words = if is_on { &pressure.yes } else { &pressure.no };
        let wanted = condition(
            pressure.type_,
            is_on,
            words.reason,
            words.message.to_owned(),
        );
        // A condition that is new counts as changed here.
        if put(status, wanted, view.now) != Put::Same {
            events.push(node_event(words.event, name));
        }
    }
    let wanted = ready(status, view);
    let event = if wanted.status == "True" {
        "NodeReady"
    } else {
        "NodeNotReady"
    };
    if put(status, wanted, view.now) == Put::Changed {
        events.push(node_event(event, name));
    }
    events
}

fn ready(status: &NodeStatus, view: &NodeStatusView<'_>) -> NodeCondition {
    let mut why: Vec<String> = view.not_ready.to_vec();
    let capacity = status.capacity.as_ref();
    let is_missing = |name: &&str| !capacity.is_some_and(|capacity| capacity.contains_key(*name));
    let missing: Vec<&str> = REQUIRED.into_iter().filter(is_missing).collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        why.push(format!("missing node capacity for resources: {missing}"));
    }
    let mut condition = if why.is_empty() {
        condition(
            "Ready",
            true,
            "KubeletReady",
            "kubelet is posting ready status".to_owned(),
        )
    } else {
        condition("Ready", false, "KubeletNotReady", joined(&why))
    };
    if let Some(warning) = view.warning {
        let message = condition.message.unwrap_or_default();
        condition.message = Some(format!("{message}. WARNING: {warning}"));
    }
    condition
}

/// One as it is, several in brackets, each once.
fn joined(errors: &[String]) -> String {
    let mut once: Vec<&str> = Vec::new();
    for error in errors {
        if !once.contains(&error.as_str()) {
            once.push(error);
        }
    }
    match once.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("[{}]", several.join(", ")),
    }
}

fn condition(type_: &str, is_true: bool, reason: &str, message: String) -> NodeCondition {
    NodeCondition {
        type_: type_.to_owned(),
        status: if is_true { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_heartbeat_time: None,
        last_transition_time: None,
    }
}

#[derive(PartialEq, Eq)]
enum Put {
    Same,
    Changed,
    New,
}

fn put(status: &mut NodeStatus, mut wanted: NodeCondition, now: Timestamp) -> Put {
    // The API keeps whole seconds.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    wanted.last_heartbeat_time = Some(Time(now));
    wanted.last_transition_time = Some(Time(now));
    let conditions = status.conditions.get_or_insert_default();
    let there = conditions
        .iter_mut()
        .find(|condition| condition.type_ == wanted.type_);
    let Some(there) = there else {
        conditions.push(wanted);
        return Put::New;
    };
    if there.status == wanted.status {
        // Quirk: of the pressures upstream renews reason and message only with the status; the words belong to the status here, too.
        wanted.last_transition_time = there.last_transition_time.clone();
        *there = wanted;
        return Put::Same;
    }
    *there = wanted;
    Put::Changed
}
