//! What is added to objects, or refused, for reasons outside of the object.
//!
//! In:    the object, who sends it, the other objects
//! Out:   the object with what belongs to it, or 403
//! Calls: `registry`, between defaulting and validation
//! Holds: the same object is admitted in the same way twice
//! Upstream: plugin/pkg/admission/{serviceaccount,priority,noderestriction,runtimeclass,defaulttolerationseconds}, pkg/kubeapiserver/admission,
//!           plugin/pkg/admission/certificates (1.36); differences: the plugins whose kinds are served, and no others

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::object::{self, as_map, fill, list, map_mut, text};
use crate::registry::{Place, Registry, Through};
use crate::resources::Resource;
use crate::strategy::pod;
use crate::user::User;

mod node_restriction;
mod runtime_class;
mod service_account;

/// Before an object is made.
pub(crate) fn create(
    registry: &Registry,
    resource: &'static Resource,
    namespace: &str,
    object: &mut Value,
    who: &User,
) -> Result<(), Failure> {
    match resource.storage {
        "pods" => {
            service_account::admit(registry, resource, namespace, object)?;
            priority(registry, resource, object)?;
            tolerations(object);
            runtime_class::admit(registry, resource, object)?;
        }
        "services" => service_address(registry, object),
        storage if storage.starts_with("certificatesigningrequests") => requester(object, who),
        _ => {}
    }
    let place = Place {
        resource,
        namespace,
        name: object::name(object),
    };
    node_restriction::create(registry, place, object, who)
}

/// Before an object is changed.
pub(crate) fn update(
    _registry: &Registry,
    place: Place<'_>,
    through: Through,
    new: &mut Value,
    old: &Value,
    who: &User,
) -> Result<(), Failure> {
    node_restriction::update(place, through, new, old, who)
}

/// A pod's priority is its class's.
fn priority(registry: &Registry, resource: &Resource, pod: &mut Value) -> Result<(), Failure> {
    let class = text(pod, "/spec/priorityClassName").to_owned();
    let storage = "priorityclasses.scheduling.k8s.io";
    let refuse = |why: String| Failure::forbidden(resource, object::name(pod), &why);
    let found = match &*class {
        "system-node-critical" => Some((class, json!({"value": 2_000_001_000}))),
        "system-cluster-critical" => Some((class, json!({"value": 2_000_000_000}))),
        "" => {
            let all = registry.store.list(&format!("{storage}/"));
            let values = all.objects.iter().map(|object| object.value());
            let default = values
                .filter(|class| class["globalDefault"] == Value::Bool(true))
                .min_by_key(|class| object::number(class, "/value"));
            default.map(|class| (object::name(&class).to_owned(), class))
        }
        name => {
            let found = registry.value(storage, "", name);
            let found = found
                .ok_or_else(|| refuse(format!("no PriorityClass with name {name} was found")))?;
            Some((class, found))
        }
    };
    let (value, policy) = match &found {
        Some((_, class)) => (
            object::number(class, "/value").unwrap_or(0),
            text(class, "/preemptionPolicy"),
        ),
        None => (0, ""),
    };
    let policy = if policy.is_empty() {
        "PreemptLowerPriority"
    } else {
        policy
    };
    let given = object::number(pod, "/spec/priority");
    if given.is_some_and(|given| given != value) && !pod::is_mirror(pod) {
        return Err(refuse(format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
            given.unwrap_or_default()
        )));
    }
    let policy = policy.to_owned();
    let spec = map_mut(pod, "spec");
    if let Some((name, _)) = found {
        spec.insert("priorityClassName".to_owned(), name.into());
    }
    spec.insert("priority".to_owned(), value.into());
    fill(spec, "preemptionPolicy", policy);
    Ok(())
}

/// A node that fails is tolerated for five minutes.
fn tolerations(pod: &mut Value) {
    for key in [
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ] {
        let covers = |one: &Value| {
            let effect = text(one, "/effect");
            let same_key = text(one, "/key") == key
                || (text(one, "/key").is_empty() && text(one, "/operator") == "Exists");
            same_key && (effect.is_empty() || effect == "NoExecute")
        };
        if list(pod, "/spec/tolerations").iter().any(covers) {
            continue;
        }
        let toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let all = map_mut(pod, "spec")
            .entry("tolerations")
            .or_insert_with(|| json!([]));
        if let Some(all) = all.as_array_mut() {
            all.push(toleration);
        }
    }
}

/// Who sent a signing request is written into it, and nothing that the sender says of it counts.
fn requester(request: &mut Value, who: &User) {
    let spec = map_mut(request, "spec");
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    for (field, value) in as_map(&mut who.shown()) {
        spec.insert(field.clone(), value.clone());
    }
}

/// The first address of 10.96.0.0/16 that no other service has; nothing routes it.
fn service_address(registry: &Registry, service: &mut Value) {
    let external = text(service, "/spec/type") == "ExternalName";
    let given = text(service, "/spec/clusterIP");
    if external || !given.is_empty() {
        return;
    }
    let services = registry.store.list("services/").objects;
    let taken: Vec<String> = services
        .iter()
        .map(|one| text(&one.value(), "/spec/clusterIP").to_owned())
        .collect();
    let mut free = (10..=u16::MAX).map(|n| format!("10.96.{}.{}", n >> 8, n & 0xff));
    if let Some(ip) = free.find(|ip| !taken.contains(ip)) {
        let spec = map_mut(service, "spec");
        spec.insert("clusterIP".to_owned(), ip.clone().into());
        spec.insert("clusterIPs".to_owned(), json!([ip]));
    }
}
