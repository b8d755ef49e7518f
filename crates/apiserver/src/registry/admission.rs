//! Admission: completes or refuses objects depending on the user and on other objects.
//!
//! In:    the object, the user, the other objects
//! Out:   the completed object, or 403
//! Calls: `registry`, between defaulting and validation; `verbs` and `subresources` before operations that store no new object
//! Holds: admitting the same object twice gives the same result
//! Upstream: plugin/pkg/admission/{serviceaccount,priority,noderestriction,runtimeclass,defaulttolerationseconds}, pkg/kubeapiserver/admission,
//!           plugin/pkg/admission/certificates (1.36); differences: the plugins whose kinds are served, and no others

use serde_json::{Value, json};

use crate::base::failure::{Cause, Failure};
use crate::base::object::{self, as_map, fill, list, map_mut, text};
use crate::base::pod::is_mirror;
use crate::base::user::User;
use crate::kinds::resources::Resource;
use crate::registry::{ObjectPath, Registry, Through};
use crate::store::references;

mod audiences;
mod node_restriction;
mod runtime_class;
mod service;
mod service_account;

#[cfg(test)]
pub(crate) use node_restriction::{MIRROR_BYTES, MIRROR_PODS};

/// The annotation of a mirror pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The operation on the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    /// Upstream's name of the operation.
    fn word(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// An operation on an object by a user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) operation: Operation,
    pub(crate) place: ObjectPath<'a>,
    /// The subresource; empty for the object itself.
    pub(crate) sub: &'a str,
    /// Null for a deletion.
    pub(crate) new: &'a Value,
    /// Null for a creation.
    pub(crate) old: &'a Value,
    pub(crate) who: &'a User,
}

/// The limit of stored CSRs per user, administrators excepted. A kubelet whose CSRs nobody answers creates a hundred within the
/// day that they are kept.
const SIGNING_REQUESTS: usize = 500;
/// The limit of their bytes.
const SIGNING_BYTES: usize = 16 << 20;

/// Before an object is created.
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
        "services" => service::admit(registry, resource, object)?,
        references::SIGNING_REQUESTS => {
            requester(object, who);
            requests_have_room(registry, who)?;
        }
        _ => {}
    }
    let place = ObjectPath {
        resource,
        namespace,
        name: object::name(object),
    };
    let change = Change {
        operation: Operation::Create,
        place,
        sub: "",
        new: object,
        old: &Value::Null,
        who,
    };
    node_restriction::admit(registry, &change)?;
    match resource.storage {
        "pods" => mirror_has_node(resource, object),
        _ => Ok(()),
    }
}

/// Before an object is updated.
pub(crate) fn update(
    registry: &Registry,
    place: ObjectPath<'_>,
    through: Through,
    new: &mut Value,
    old: &Value,
    who: &User,
) -> Result<(), Failure> {
    match place.resource.storage {
        "pods" => keep_mirror(place, new, old)?,
        "services" if through == Through::Object => {
            service::admit(registry, place.resource, new)?;
        }
        _ => {}
    }
    let sub = match through {
        Through::Object => "",
        Through::Status => "status",
        // `subresource` has checked it under the path's own name.
        Through::Sub => return Ok(()),
    };
    let change = Change {
        operation: Operation::Update,
        place,
        sub,
        new,
        old,
        who,
    };
    node_restriction::admit(registry, &change)
}

/// Before an object is deleted, or its deletion goes a step further.
pub(crate) fn delete(
    registry: &Registry,
    place: ObjectPath<'_>,
    who: &User,
) -> Result<(), Failure> {
    let change = Change {
        operation: Operation::Delete,
        place,
        sub: "",
        new: &Value::Null,
        old: &Value::Null,
        who,
    };
    node_restriction::admit(registry, &change)
}

/// Before a subresource that is not stored as an object. `sent` is the request body, null for a patch.
pub(crate) fn subresource(
    registry: &Registry,
    place: ObjectPath<'_>,
    (operation, sub): (Operation, &str),
    sent: &Value,
    who: &User,
) -> Result<(), Failure> {
    let change = Change {
        operation,
        place,
        sub,
        new: sent,
        old: &Value::Null,
        who,
    };
    node_restriction::admit(registry, &change)
}

/// The node restriction, for any operation.
#[cfg(test)]
pub(crate) fn node_restricted(registry: &Registry, change: &Change<'_>) -> Result<(), Failure> {
    node_restriction::admit(registry, change)
}

/// A mirror pod must name its node, so that it is never scheduled.
fn mirror_has_node(resource: &Resource, object: &Value) -> Result<(), Failure> {
    if !is_mirror(object) || !text(object, "/spec/nodeName").is_empty() {
        return Ok(());
    }
    let value = object::annotation(object, MIRROR).unwrap_or_default();
    let field = format!("metadata.annotations[{MIRROR}]");
    let detail = "must set spec.nodeName if mirror pod annotation is set";
    let cause = Cause::invalid(field, &value.into(), detail);
    Err(Failure::invalid(resource, object::name(object), &[cause]))
}

/// The mirror annotation cannot change after creation: what a kubelet may read depends on it.
fn keep_mirror(place: ObjectPath<'_>, new: &Value, old: &Value) -> Result<(), Failure> {
    let word = |pod| object::annotation(pod, MIRROR);
    let detail = match (word(old), word(new)) {
        (before, after) if before == after => return Ok(()),
        (None, _) => "may not add mirror pod annotation",
        _ => "may not remove or update mirror pod annotation",
    };
    let field = format!("metadata.annotations[{MIRROR}]");
    let cause = Cause::forbidden(field, detail);
    Err(Failure::invalid(place.resource, place.name, &[cause]))
}

/// Sets a pod's priority from its PriorityClass.
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
    if given.is_some_and(|given| given != value) && !is_mirror(pod) {
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

/// Adds tolerations for a node that is not ready or unreachable, for five minutes.
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

/// Writes the requester into a CSR, whatever the CSR says about it.
fn requester(request: &mut Value, who: &User) {
    let spec = map_mut(request, "spec");
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    for (field, value) in as_map(&mut who.shown()) {
        spec.insert(field.clone(), value.clone());
    }
}

/// Limits the CSRs of one user, who could otherwise fill the store. Upstream leaves that to etcd's quota.
fn requests_have_room(registry: &Registry, who: &User) -> Result<(), Failure> {
    let (user, kind) = (references::user(&who.name), references::SIGNING_REQUESTS);
    let (count, bytes) = registry.store.tied_size(&user, kind, kind);
    if who.is_in("system:masters") || (count < SIGNING_REQUESTS && bytes < SIGNING_BYTES) {
        return Ok(());
    }
    let why = format!(
        "{:?} has {count} certificate signing requests of {bytes} bytes, and cannot create more than {SIGNING_REQUESTS} or {SIGNING_BYTES} bytes of them; they go an hour after they were answered",
        who.name
    );
    Err(Failure::too_many_requests(why, 10))
}
