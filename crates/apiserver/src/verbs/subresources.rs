//! Subresources: status, binding, eviction, token, logs and streams.
//!
//! In:    a request on a subresource
//! Out:   [`Reply`]
//! Calls: `verbs`
//! Holds: a subresource changes only what it is for
//! Upstream: pkg/registry/core/pod/{storage,rest}, pkg/registry/core/serviceaccount/storage/token.go, pkg/registry/certificates
//!           (1.36); differences: no disruption budgets, so an eviction is a deletion

use k8s_openapi::api::core::v1::Binding;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::base::failure::{Cause, Failure};
use crate::base::object::{self, is_deleting, keep, list, map_mut, text};
use crate::kinds::resources::Subresource;
use crate::kinds::strategy::{checked, pod};
use crate::registry::admission::{self, Operation};
use crate::registry::{DeleteOptions, Through};
use crate::request::form::bytes;
use crate::verbs::state::Inner;
use crate::verbs::{Call, Reply, change_with};

/// Subresources that the kubelet answers.
const PASSED_ON: [&str; 5] = ["attach", "exec", "portforward", "proxy", "log"];

pub(crate) async fn serve(
    server: &Inner,
    call: &Call<'_>,
    sub: &Subresource,
) -> Result<Reply, Failure> {
    if !sub.verbs.contains(&call.verb) {
        return Err(Failure::method_not_allowed());
    }
    let resource = call.target.resource;
    let is_passed_on = PASSED_ON.contains(&sub.name);
    if ["create", "update", "patch"].contains(&call.verb) && !is_passed_on {
        call.write_options()?;
    }
    if call.verb == "get" && !is_passed_on {
        let form = crate::request::form::Form::negotiate(call.accept, call.query)?;
        crate::request::options::check_get(call.query, server.registry.store.version())?;
        let object = server.registry.get(call.place())?;
        return Ok(Reply::Json(
            200,
            form.object(resource, &object, server.registry.now()),
        ));
    }
    admit(server, call, sub)?;
    match sub.name {
        "status" => change_with(server, call, Through::Status, |_, _| Ok(())).await,
        "ephemeralcontainers" => {
            change_with(server, call, Through::Sub, |new, old| {
                pod::only_ephemeral_containers(new, old);
                (resource.strategy.default)(new);
                let check = kubelet_validate::pod_ephemeral_containers;
                refuse(call, &checked::sub(new, old, check))
            })
            .await
        }
        "resize" => {
            change_with(server, call, Through::Sub, |new, old| {
                pod::only_resources(new, old);
                let qos = text(old, "/status/qosClass");
                (resource.strategy.default)(new);
                let mut causes = checked::sub(new, old, kubelet_validate::pod_resize);
                if pod::qos_class(new) != qos {
                    let qos_now = pod::qos_class(new).into();
                    causes.push(Cause::invalid(
                        "spec",
                        &qos_now,
                        "Pod QOS Class may not change as a result of resizing",
                    ));
                }
                refuse(call, &causes)
            })
            .await
        }
        "approval" => {
            let now = object::time(server.registry.now());
            change_with(server, call, Through::Sub, |new, old| {
                let mut conditions = list(new, "/status/conditions").to_vec();
                for condition in &mut conditions {
                    for field in ["lastUpdateTime", "lastTransitionTime"] {
                        object::fill_text(object::as_map(condition), field, &now);
                    }
                }
                keep(new, old, "spec");
                keep(new, old, "status");
                map_mut(new, "status").insert("conditions".to_owned(), conditions.into());
                refuse(call, &(resource.strategy.validate)(new, Some(old)))
            })
            .await
        }
        "finalize" => {
            change_with(server, call, Through::Sub, |new, old| {
                keep(new, old, "status");
                Ok(())
            })
            .await
        }
        "binding" => binding(server, call).await,
        "eviction" => eviction(server, call).await,
        "token" => server.token_request(call),
        _ => server.proxy(call, sub).await,
    }
}

/// Admission of subresources. Those that change an object are admitted later, when the old and the new object are known.
fn admit(server: &Inner, call: &Call<'_>, sub: &Subresource) -> Result<(), Failure> {
    let operation = match call.verb {
        "create" => Operation::Create,
        "update" | "patch" => Operation::Update,
        "delete" => Operation::Delete,
        _ => return Ok(()),
    };
    if PASSED_ON.contains(&sub.name) || (sub.name == "status" && operation == Operation::Update) {
        return Ok(());
    }
    let sent = match sub.name {
        "token" | "eviction" | "binding" => call.object()?,
        _ => Value::Null,
    };
    let version = match sub.group_version {
        Some((group, version)) => format!("{group}/{version}"),
        None => call.target.resource.api_version(),
    };
    crate::kinds::typed::fits(&version, sub.kind, &sent)?;
    let (place, what) = (call.place(), (operation, sub.name));
    admission::subresource(&server.registry, place, what, &sent, call.user)
}

fn refuse(call: &Call<'_>, causes: &[Cause]) -> Result<(), Failure> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Failure::invalid(
        call.target.resource,
        &call.target.name,
        causes,
    ))
}

fn done() -> Reply {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Reply::Json(201, bytes(&status))
}

/// Binds a pod to a node, once.
async fn binding(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let binding = call.object()?;
    let node = text(&binding, "/target/name").to_owned();
    let binding_of = Binding::deserialize(&binding);
    let problems = binding_of.map(|binding| kubelet_validate::binding(&binding));
    let problems = problems.map_err(|why| Failure::bad_request(why.to_string()))?;
    let causes: Vec<Cause> = problems.into_iter().map(Cause::from).collect();
    refuse(call, &causes)?;
    let now = object::time(server.registry.now());
    let (resource, place) = (call.target.resource, call.place());
    let bind = |old: &Value| {
        let assigned = text(old, "/spec/nodeName");
        if is_deleting(old) {
            let why = format!(
                "pod {} is being deleted, cannot be assigned to a host",
                place.name
            );
            return Err(Failure::conflict(resource, place.name, &why));
        }
        if !assigned.is_empty() {
            let why = format!(
                "pod {} is already assigned to node {assigned:?}",
                place.name
            );
            return Err(Failure::conflict(resource, place.name, &why));
        }
        if !list(old, "/spec/schedulingGates").is_empty() {
            let why = format!("pod {} has non-empty .spec.schedulingGates", place.name);
            return Err(Failure::conflict(resource, place.name, &why));
        }
        Ok(bound(old, &binding, &node, &now))
    };
    let run = call.run()?;
    server
        .registry
        .change(place, Through::Sub, call.user, run, bind)
        .await?;
    Ok(done())
}

/// The pod with its node.
pub(crate) fn bound(old: &Value, binding: &Value, node: &str, now: &str) -> Value {
    let mut new = old.clone();
    map_mut(&mut new, "spec").insert("nodeName".to_owned(), node.into());
    let annotations = binding
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        let all = object::metadata(&mut new)
            .entry("annotations")
            .or_insert_with(|| json!({}));
        object::as_map(all).insert(key.clone(), value.clone());
    }
    let mut conditions = list(old, "/status/conditions").to_vec();
    conditions.retain(|c| text(c, "/type") != "PodScheduled");
    let generation = object::number(old, "/metadata/generation").unwrap_or(1);
    conditions.push(json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        "observedGeneration": generation,
    }));
    map_mut(&mut new, "status").insert("conditions".to_owned(), conditions.into());
    new
}

/// No disruption budget exists here, so an eviction deletes the pod with its own grace period.
async fn eviction(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let eviction = call.object()?;
    let given = object::name(&eviction);
    if !given.is_empty() && given != call.target.name {
        return Err(Failure::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut options = DeleteOptions::parse(&eviction["deleteOptions"])?;
    options.dry |= call.run()? == crate::request::options::Run::Dry;
    server.registry.delete(call.place(), &options).await?;
    Ok(done())
}
