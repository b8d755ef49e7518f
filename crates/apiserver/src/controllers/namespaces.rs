//! The contents of each namespace, and the deletion of namespaces.
//!
//! In:    the names of changed namespaces, or all
//! Out:   the `default` service account and `kube-root-ca.crt` of active namespaces; terminating namespaces are emptied and
//!        deleted
//! Calls: `controllers`
//! Holds: a namespace is deleted once it is empty; until then its conditions say what it waits for
//! Upstream: pkg/controller/{namespace,serviceaccount}, pkg/controller/certificates/rootcacertpublisher (1.36); differences:
//!           none known

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{bootstrap, controller};
use crate::base::failure::Failure;
use crate::base::object::{self, is_deleting, list, map_mut, text};
use crate::kinds::resources::{RESOURCES, by_storage};
use crate::registry::{DeleteOptions, ObjectPath, Registry, Through};
use crate::request::options::Run;
use crate::verbs::state::Inner;

const ROOT_CA: &str = "kube-root-ca.crt";

pub(super) async fn run(server: &Inner, names: Option<&BTreeSet<String>>) -> Result<(), Failure> {
    let all = server.registry.store.list("namespaces/").objects;
    for namespace in all {
        let name = namespace.place().1.to_owned();
        if names.is_some_and(|names| !names.contains(&name)) {
            continue;
        }
        let value = namespace.value();
        if is_deleting(&value) {
            end(server, &name, &value).await?;
        } else {
            furnish(server, &name).await?;
        }
    }
    Ok(())
}

async fn furnish(server: &Inner, namespace: &str) -> Result<(), Failure> {
    let account = json!({"metadata": {"name": "default"}});
    bootstrap::make(server, "serviceaccounts", namespace, account).await?;
    let data = json!({"ca.crt": server.authority.certificate()});
    match server.registry.value("configmaps", namespace, ROOT_CA) {
        None => {
            let config_map = json!({
                "metadata": {"name": ROOT_CA, "annotations": {"kubernetes.io/description":
                    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."}},
                "data": data,
            });
            bootstrap::make(server, "configmaps", namespace, config_map).await
        }
        Some(found) if found["data"] != data => {
            let Some(resource) = by_storage("configmaps") else {
                return Ok(());
            };
            let place = ObjectPath {
                resource,
                namespace,
                name: ROOT_CA,
            };
            let set = |old: &Value| {
                let mut new = old.clone();
                object::as_map(&mut new).insert("data".to_owned(), data.clone());
                Ok(new)
            };
            change(&server.registry, place, Through::Object, set).await
        }
        Some(_) => Ok(()),
    }
}

/// An update by the controllers; an object that has been deleted meanwhile is not an error.
pub(crate) async fn change(
    registry: &Registry,
    place: ObjectPath<'_>,
    through: Through,
    change: impl FnMut(&Value) -> Result<Value, Failure>,
) -> Result<(), Failure> {
    let who = controller();
    let changed = registry.change(place, through, &who, Run::Real, change);
    match changed.await {
        Err(failure) if failure.code == 404 => Ok(()),
        changed => changed.map(drop),
    }
}

/// Deletes the contents. Once nothing is left, the namespace's finalizer is removed and with it the namespace.
async fn end(server: &Inner, name: &str, namespace: &Value) -> Result<(), Failure> {
    let mut left = Vec::new();
    for resource in RESOURCES
        .iter()
        .filter(|row| row.namespaced && !row.is_virtual())
    {
        let objects = server
            .registry
            .store
            .list(&resource.prefix(Some(name)))
            .objects;
        for object in &objects {
            let value = object.value();
            let place = ObjectPath {
                resource,
                namespace: name,
                name: object.place().1,
            };
            // Terminating pods keep their grace period.
            if !is_deleting(&value) {
                let deleted = server
                    .registry
                    .delete(place, &DeleteOptions::default())
                    .await;
                if let Err(failure) = deleted
                    && failure.code != 404
                {
                    return Err(failure);
                }
            }
        }
        let count = server
            .registry
            .store
            .list(&resource.prefix(Some(name)))
            .objects
            .len();
        if count > 0 && left.iter().all(|(known, _)| *known != resource.qualified()) {
            left.push((resource.qualified(), count));
        }
    }
    let Some(resource) = by_storage("namespaces") else {
        return Ok(());
    };
    let place = ObjectPath {
        resource,
        namespace: "",
        name,
    };
    if left.is_empty() {
        let set = |old: &Value| {
            let mut new = old.clone();
            map_mut(&mut new, "spec").remove("finalizers");
            Ok(new)
        };
        return change(&server.registry, place, Through::Sub, set).await;
    }
    let waits: Vec<String> = left
        .iter()
        .map(|(kind, count)| format!("{kind} has {count} resource instances"))
        .collect();
    let message = format!("Some resources are remaining: {}", waits.join(", "));
    let told = list(namespace, "/status/conditions")
        .iter()
        .any(|c| text(c, "/message") == message);
    if told {
        return Ok(());
    }
    let now = object::time(server.registry.now());
    let set = |old: &Value| {
        let mut new = old.clone();
        let conditions = json!([{
            "type": "NamespaceContentRemaining", "status": "True", "reason": "SomeResourcesRemain",
            "message": message, "lastTransitionTime": now,
        }]);
        map_mut(&mut new, "status").insert("conditions".to_owned(), conditions);
        Ok(new)
    };
    change(&server.registry, place, Through::Status, set).await
}
