//! Binds pods without a node to the node, if they fit.
//!
//! In:    pods, nodes
//! Out:   a binding and a `Scheduled` event, or an unschedulable condition and a `FailedScheduling` event with the reason
//! Calls: `controllers`
//! Holds: a pod is never bound to a node that is not Ready, that is cordoned, that lacks the resources or a free host port, or
//!        whose kubelet is known to refuse the pod; waiting pods are checked again at every change; a pod with another
//!        scheduler is not touched
//! Upstream: pkg/scheduler (1.36): NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit;
//!           differences: the first node that fits is used, since one node is the usual case; no spreading, no inter-pod
//!           affinity, no preemption

use std::collections::BTreeMap;

use kubelet_model::quantity::Quantity;
use serde_json::{Value, json};

use crate::base::failure::Failure;
use crate::base::object::{self, is_deleting, list, map_mut, number, text};
use crate::controllers::{change, controller};
use crate::kinds::resources::by_storage;
use crate::kinds::strategy::pod::is_finished;
use crate::registry::{ObjectPath, Through};
use crate::request::options::Run;
use crate::verbs::state::Inner;

mod fit;

const SCHEDULER: &str = "default-scheduler";

pub(crate) async fn run(server: &Inner) -> Result<(), Failure> {
    let store = &server.registry.store;
    let all = store.list("pods/").objects;
    // Nothing is parsed unless a pod waits.
    if all.iter().all(|pod| !pod.field("spec.nodeName").is_empty()) {
        return Ok(());
    }
    let mut pods: Vec<Value> = all.iter().map(|o| o.value()).collect();
    let waits = |pod: &Value| {
        text(pod, "/spec/nodeName").is_empty()
            && text(pod, "/spec/schedulerName") == SCHEDULER
            && !is_deleting(pod)
            && !is_finished(pod)
            && list(pod, "/spec/schedulingGates").is_empty()
    };
    if !pods.iter().any(waits) {
        return Ok(());
    }
    let nodes: Vec<Value> = store
        .list("nodes/")
        .objects
        .iter()
        .map(|o| o.value())
        .collect();
    // Higher priority first, then the older pod.
    let mut order: Vec<usize> = (0..pods.len())
        .filter(|i| pods.get(*i).is_some_and(waits))
        .collect();
    order.sort_by_key(|i| {
        let pod = pods.get(*i);
        let priority = pod
            .and_then(|pod| number(pod, "/spec/priority"))
            .unwrap_or(0);
        let made = pod.map(|pod| text(pod, "/metadata/creationTimestamp").to_owned());
        (std::cmp::Reverse(priority), made)
    });
    for index in order {
        let Some(pod) = pods.get(index).cloned() else {
            continue;
        };
        let mut problems = Vec::new();
        let mut chosen = None;
        for node in &nodes {
            let found = fit::problems(&pod, node, &pods);
            if found.is_empty() {
                chosen = Some(object::name(node).to_owned());
                break;
            }
            problems.extend(found);
        }
        match chosen {
            Some(node) => {
                bind(server, &pod, &node).await?;
                if let Some(pod) = pods.get_mut(index) {
                    map_mut(pod, "spec").insert("nodeName".to_owned(), node.into());
                }
            }
            None => refuse(server, &pod, nodes.len(), &problems).await?,
        }
    }
    Ok(())
}

fn place(pod: &Value) -> Option<ObjectPath<'_>> {
    Some(ObjectPath {
        resource: by_storage("pods")?,
        namespace: object::namespace(pod),
        name: object::name(pod),
    })
}

async fn bind(server: &Inner, pod: &Value, node: &str) -> Result<(), Failure> {
    let Some(place) = place(pod) else {
        return Ok(());
    };
    let now = object::time(server.registry.now());
    let set = |old: &Value| {
        if !text(old, "/spec/nodeName").is_empty() || object::uid(old) != object::uid(pod) {
            return Ok(old.clone());
        }
        Ok(crate::verbs::subresources::bound(
            old,
            &json!({}),
            node,
            &now,
        ))
    };
    change(&server.registry, place, Through::Sub, set).await?;
    let message = format!(
        "Successfully assigned {}/{} to {node}",
        place.namespace, place.name
    );
    tell(server, pod, ("Normal", "Scheduled", "Binding"), &message).await
}

/// Reports in the pod's conditions and in an event why it waits, once for each reason.
async fn refuse(
    server: &Inner,
    pod: &Value,
    nodes: usize,
    problems: &[String],
) -> Result<(), Failure> {
    let Some(place) = place(pod) else {
        return Ok(());
    };
    let message = if nodes == 0 {
        "no nodes available to schedule pods".to_owned()
    } else {
        let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
        for problem in problems {
            *counted.entry(problem).or_default() += 1;
        }
        let mut parts: Vec<String> = counted
            .iter()
            .map(|(problem, count)| format!("{count} {problem}"))
            .collect();
        parts.sort();
        format!("0/{nodes} nodes are available: {}.", parts.join(", "))
    };
    let conditions = list(pod, "/status/conditions");
    if conditions
        .iter()
        .any(|c| text(c, "/type") == "PodScheduled" && text(c, "/message") == message)
    {
        return Ok(());
    }
    let now = object::time(server.registry.now());
    let set = |old: &Value| {
        let mut new = old.clone();
        let mut conditions = list(old, "/status/conditions").to_vec();
        conditions.retain(|c| text(c, "/type") != "PodScheduled");
        conditions.push(json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastProbeTime": null, "lastTransitionTime": now,
            "observedGeneration": number(old, "/metadata/generation").unwrap_or(1),
        }));
        map_mut(&mut new, "status").insert("conditions".to_owned(), conditions.into());
        Ok(new)
    };
    change(&server.registry, place, Through::Status, set).await?;
    tell(
        server,
        pod,
        ("Warning", "FailedScheduling", "Scheduling"),
        &message,
    )
    .await
}

async fn tell(
    server: &Inner,
    pod: &Value,
    (kind, reason, action): (&str, &str, &str),
    message: &str,
) -> Result<(), Failure> {
    let Some(resource) = by_storage("events") else {
        return Ok(());
    };
    let namespace = object::namespace(pod);
    let suffix = format!("{:016x}", server.registry.chance.bits());
    let event = json!({
        "metadata": {"name": format!("{}.{suffix}", object::name(pod)), "namespace": namespace},
        "involvedObject": {
            "kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": object::name(pod),
            "uid": object::uid(pod), "resourceVersion": text(pod, "/metadata/resourceVersion"),
        },
        "type": kind, "reason": reason, "action": action, "message": message,
        "eventTime": object::micro_time(server.registry.now()),
        "firstTimestamp": null, "lastTimestamp": null, "source": {},
        "reportingComponent": SCHEDULER, "reportingInstance": SCHEDULER,
    });
    let who = controller();
    let made = server
        .registry
        .create(resource, namespace, event, &who, Run::Real);
    match made.await {
        // A terminating namespace accepts no events.
        Err(failure) if [403, 404].contains(&failure.code) => Ok(()),
        made => made.map(drop),
    }
}

/// A quantity of an object; zero if there is none.
fn quantity(value: Option<&Value>) -> Quantity {
    value
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}
