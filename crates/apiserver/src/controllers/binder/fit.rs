//! Whether a pod fits a node.
//!
//! In:    the pod, the node, all pods
//! Out:   nothing, or the reasons in upstream's words
//! Calls: `binder`
//! Holds: pure
//! Upstream: pkg/scheduler/framework/plugins/{nodeunschedulable,nodename,tainttoleration,nodeaffinity,nodeports,noderesources}
//!           (1.36); differences: a pod that the kubelet's admission is known to refuse is not bound

use std::collections::BTreeMap;

use kubelet_model::quantity::Quantity;
use serde_json::Value;

use super::quantity;
use crate::base::object::{list, number, text};
use crate::kinds::strategy::pod::is_finished;

/// Why the pod does not fit: all reasons of the first rule that fails.
pub(super) fn problems(pod: &Value, node: &Value, pods: &[Value]) -> Vec<String> {
    let rules = [
        cordon, name, taint, readiness, selection, system, groups, ports,
    ];
    let first = rules.into_iter().find_map(|rule| rule(pod, node, pods));
    match first {
        Some(reason) => vec![reason.to_owned()],
        None => resources(pod, node, pods),
    }
}

type Reason = Option<&'static str>;

fn is_tolerated(pod: &Value, taint: &Value) -> bool {
    let tolerations = list(pod, "/spec/tolerations");
    tolerations.iter().any(|t| tolerates(t, taint))
}

fn cordon(pod: &Value, node: &Value, _: &[Value]) -> Reason {
    let cordon =
        serde_json::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    let is_cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    (is_cordoned && !is_tolerated(pod, &cordon)).then_some("node(s) were unschedulable")
}

fn name(pod: &Value, node: &Value, _: &[Value]) -> Reason {
    let wanted = text(pod, "/spec/nodeName");
    let is_other = !wanted.is_empty() && wanted != text(node, "/metadata/name");
    is_other.then_some("node(s) didn't match the requested node name")
}

fn taint(pod: &Value, node: &Value, _: &[Value]) -> Reason {
    let mut hard = list(node, "/spec/taints")
        .iter()
        .filter(|taint| ["NoSchedule", "NoExecute"].contains(&text(taint, "/effect")));
    let is_kept_off = hard.any(|taint| !is_tolerated(pod, taint));
    is_kept_off.then_some("node(s) had untolerated taint(s)")
}

fn readiness(_: &Value, node: &Value, _: &[Value]) -> Reason {
    let ready = list(node, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True");
    (!ready).then_some("node(s) were not ready")
}

fn selection(pod: &Value, node: &Value, _: &[Value]) -> Reason {
    (!selected(pod, node)).then_some("node(s) didn't match Pod's node affinity/selector")
}

/// The kubelet refuses such a pod. Upstream's scheduler binds it nevertheless.
fn system(pod: &Value, node: &Value, _: &[Value]) -> Reason {
    let of_node = text(node, "/status/nodeInfo/operatingSystem");
    let label = pod.pointer("/metadata/labels/kubernetes.io~1os");
    let label = label.and_then(Value::as_str).unwrap_or_default();
    let wanted = [text(pod, "/spec/os/name"), label];
    let is_other = |wanted: &&str| !wanted.is_empty() && *wanted != of_node;
    let is_refused = !of_node.is_empty() && wanted.iter().any(is_other);
    is_refused.then_some("node(s) didn't match the pod's operating system")
}

/// As [`system`].
fn groups(pod: &Value, node: &Value, _: &[Value]) -> Reason {
    let policy = text(pod, "/spec/securityContext/supplementalGroupsPolicy");
    let is_offered = node.pointer("/status/features/supplementalGroupsPolicy");
    let is_refused = policy == "Strict" && is_offered != Some(&Value::Bool(true));
    is_refused.then_some("node(s) didn't support SupplementalGroupsPolicy=Strict")
}

/// Address, protocol and port number; an empty address stands for every address.
type HostPort<'a> = (&'a str, &'a str, i64);

/// The host ports that a pod uses while it runs.
fn host_ports(pod: &Value) -> Vec<HostPort<'_>> {
    let init = list(pod, "/spec/initContainers").iter();
    let sidecars = init.filter(|one| text(one, "/restartPolicy") == "Always");
    let containers = sidecars.chain(list(pod, "/spec/containers"));
    let ports = containers.flat_map(|container| list(container, "/ports"));
    ports
        .filter_map(|port| {
            let wanted = number(port, "/hostPort").filter(|wanted| *wanted > 0)?;
            let protocol = match text(port, "/protocol") {
                "" => "TCP",
                protocol => protocol,
            };
            let ip = match text(port, "/hostIP") {
                "0.0.0.0" => "",
                ip => ip,
            };
            Some((ip, protocol, wanted))
        })
        .collect()
}

fn ports(pod: &Value, node: &Value, pods: &[Value]) -> Reason {
    let wanted = host_ports(pod);
    if wanted.is_empty() {
        return None;
    }
    let name = text(node, "/metadata/name");
    let clashes = |(ip, protocol, port): &HostPort<'_>, other: &HostPort<'_>| {
        let same_place = *ip == other.0 || ip.is_empty() || other.0.is_empty();
        (*protocol, *port) == (other.1, other.2) && same_place
    };
    let is_taken = there(name, pods).any(|other| {
        let taken = host_ports(other);
        wanted
            .iter()
            .any(|one| taken.iter().any(|t| clashes(one, t)))
    });
    is_taken.then_some("node(s) didn't have free ports for the requested pod ports")
}

/// The pods on a node that are not terminal.
fn there<'a>(node: &'a str, pods: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    let on_it = move |pod: &&Value| text(pod, "/spec/nodeName") == node && !is_finished(pod);
    pods.iter().filter(on_it)
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let (effect, key) = (text(toleration, "/effect"), text(toleration, "/key"));
    let effect_fits = effect.is_empty() || effect == text(taint, "/effect");
    let key_fits = key.is_empty() || key == text(taint, "/key");
    let value_fits = match text(toleration, "/operator") {
        "Exists" => true,
        _ => !key.is_empty() && text(toleration, "/value") == text(taint, "/value"),
    };
    effect_fits && key_fits && value_fits
}

fn selected(pod: &Value, node: &Value) -> bool {
    let label = |key: &str| {
        let labels = node.pointer("/metadata/labels");
        labels
            .and_then(|labels| labels.get(key))
            .and_then(Value::as_str)
    };
    let selector = pod.pointer("/spec/nodeSelector").and_then(Value::as_object);
    let by_selector = selector
        .into_iter()
        .flatten()
        .all(|(key, value)| label(key) == value.as_str());
    let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let by_affinity = pod.pointer(terms).is_none()
        || list(pod, terms).iter().any(|term| {
            let expressions = list(term, "/matchExpressions");
            let fields = list(term, "/matchFields");
            let is_empty = expressions.is_empty() && fields.is_empty();
            !is_empty
                && expressions
                    .iter()
                    .all(|e| matches(e, label(text(e, "/key"))))
                && fields
                    .iter()
                    .all(|e| matches(e, Some(text(node, "/metadata/name"))))
        });
    by_selector && by_affinity
}

fn matches(expression: &Value, found: Option<&str>) -> bool {
    let values = list(expression, "/values");
    let among = found.is_some_and(|found| values.iter().any(|value| value == found));
    let first = || {
        values
            .first()
            .and_then(Value::as_str)
            .and_then(|v| v.parse::<i64>().ok())
    };
    let number = || found.and_then(|found| found.parse::<i64>().ok());
    match text(expression, "/operator") {
        "In" => among,
        "NotIn" => !among,
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => number().zip(first()).is_some_and(|(n, than)| n > than),
        "Lt" => number().zip(first()).is_some_and(|(n, than)| n < than),
        _ => false,
    }
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(value: &Value, pointer: &str) -> Amounts {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(name, amount)| (name.clone(), quantity(Some(amount))))
        .collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to
            .get(name)
            .map_or_else(|| amount.clone(), |old| old.plus(amount));
        to.insert(name.clone(), sum);
    }
}

/// The pod's requests: the sum of containers and sidecars, or the largest init container with the sidecars before it.
fn requests(pod: &Value) -> Amounts {
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in list(pod, "/spec/initContainers") {
        let mut own = amounts(container, "/resources/requests");
        if text(container, "/restartPolicy") == "Always" {
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut most, &own);
    }
    let mut running = sidecars;
    for container in list(pod, "/spec/containers") {
        add(&mut running, &amounts(container, "/resources/requests"));
    }
    raise(&mut running, &most);
    // Pod-level requests replace the sum.
    running.extend(amounts(pod, "/spec/resources/requests"));
    add(&mut running, &amounts(pod, "/spec/overhead"));
    running
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|old| old < amount) {
            to.insert(name.clone(), amount.clone());
        }
    }
}

fn resources(pod: &Value, node: &Value, pods: &[Value]) -> Vec<String> {
    let there: Vec<&Value> = there(text(node, "/metadata/name"), pods).collect();
    let allocatable = amounts(node, "/status/allocatable");
    let room = allocatable.get("pods").map_or(110, Quantity::value);
    let mut short = Vec::new();
    if i64::try_from(there.len()).unwrap_or(i64::MAX) >= room {
        short.push("Too many pods".to_owned());
    }
    let mut used = Amounts::new();
    there
        .iter()
        .for_each(|other| add(&mut used, &requests(other)));
    let missing = requests(pod)
        .into_iter()
        .filter(|(_, amount)| !amount.is_zero())
        .filter(|(resource, amount)| {
            let total = used
                .get(resource)
                .map_or_else(|| amount.clone(), |used| used.plus(amount));
            allocatable.get(resource).is_none_or(|all| total > *all)
        });
    short.extend(missing.map(|(resource, _)| format!("Insufficient {resource}")));
    short
}
