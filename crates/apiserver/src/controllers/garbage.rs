//! Garbage collection: deletes objects whose owners are gone.
//!
//! In:    UIDs of deleted objects; objects with owner references
//! Out:   dependents are deleted; the `foregroundDeletion` and `orphan` finalizers are removed when their work is done
//! Calls: `controllers`
//! Holds: an object is deleted only after each of its owners was looked up by kind, name and UID and none exists
//! Upstream: pkg/controller/garbagecollector (1.36); differences: an owner of a kind that is not served counts as existing

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::namespaces::change;
use crate::base::failure::Failure;
use crate::base::object::{self, finalizers, is_deleting, list, metadata, text};
use crate::kinds::resources::{by_kind, by_storage};
use crate::registry::{DeleteOptions, ObjectPath, Through};
use crate::store::Object;
use crate::verbs::state::Inner;

pub(super) async fn run(
    server: &Inner,
    everything: bool,
    gone: &BTreeSet<String>,
    owned: &BTreeSet<String>,
) -> Result<(), Failure> {
    let store = &server.registry.store;
    let mut suspects: Vec<Arc<Object>> = owned.iter().filter_map(|key| store.get(key)).collect();
    if everything || !gone.is_empty() {
        let names_gone = |object: &Object| {
            let mut owners = object.owners.iter();
            owners.any(|uid| everything || gone.contains(uid))
        };
        let all = store.list("").objects;
        suspects.extend(all.into_iter().filter(|o| names_gone(o) || is_held(o)));
    }
    for suspect in suspects {
        let Some(resource) = by_storage(suspect.storage()) else {
            continue;
        };
        let (namespace, name) = suspect.place();
        let place = ObjectPath {
            resource,
            namespace,
            name,
        };
        let value = suspect.value();
        if is_deleting(&value) {
            propagate(server, place, &value).await?;
        } else if has_lost_all_owners(server, &value) {
            let options = DeleteOptions {
                uid: Some(object::uid(&value).to_owned()),
                propagation: Some("Background".to_owned()),
                ..DeleteOptions::default()
            };
            match server.registry.delete(place, &options).await {
                Err(failure) if ![404, 409].contains(&failure.code) => return Err(failure),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether the object's deletion waits for its dependents.
pub(super) fn is_held(object: &Object) -> bool {
    let mut finalizers = object.finalizers.iter();
    finalizers.any(|one| one == "foregroundDeletion" || one == "orphan")
}

fn has_lost_all_owners(server: &Inner, value: &Value) -> bool {
    let owners = list(value, "/metadata/ownerReferences");
    let namespace = object::namespace(value);
    !owners.is_empty() && owners.iter().all(|owner| is_gone(server, namespace, owner))
}

fn is_gone(server: &Inner, namespace: &str, owner: &Value) -> bool {
    let Some(row) = by_kind(text(owner, "/apiVersion"), text(owner, "/kind")) else {
        return false;
    };
    let namespace = if row.namespaced { namespace } else { "" };
    let found = server
        .registry
        .value(row.storage, namespace, text(owner, "/name"));
    found.is_none_or(|found| object::uid(&found) != text(owner, "/uid"))
}

/// Handles the dependents of an owner that has one of the two finalizers.
async fn propagate(server: &Inner, place: ObjectPath<'_>, owner: &Value) -> Result<(), Failure> {
    let has = |name: &str| finalizers(owner).iter().any(|one| one == name);
    let (foreground, orphan) = (has("foregroundDeletion"), has("orphan"));
    if !foreground && !orphan {
        return Ok(());
    }
    let uid = object::uid(owner);
    let mut waits = false;
    for dependent in server.registry.store.list("").objects {
        let Some(resource) = by_storage(dependent.storage()) else {
            continue;
        };
        if !dependent.owners.iter().any(|owner| owner == uid) {
            continue;
        }
        let value = dependent.value();
        let owners = list(&value, "/metadata/ownerReferences");
        let Some(reference) = owners.iter().find(|one| text(one, "/uid") == uid) else {
            continue;
        };
        let (namespace, name) = dependent.place();
        let at = ObjectPath {
            resource,
            namespace,
            name,
        };
        if orphan {
            let forget = |old: &Value| {
                let mut new = old.clone();
                if let Some(Value::Array(owners)) = metadata(&mut new).get_mut("ownerReferences") {
                    owners.retain(|one| text(one, "/uid") != uid);
                }
                Ok(new)
            };
            change(&server.registry, at, Through::Object, forget).await?;
        } else {
            waits |= reference["blockOwnerDeletion"] == Value::Bool(true);
            if !is_deleting(&value) {
                let options = DeleteOptions {
                    propagation: Some("Foreground".to_owned()),
                    ..DeleteOptions::default()
                };
                match server.registry.delete(at, &options).await {
                    Err(failure) if failure.code != 404 => return Err(failure),
                    _ => {}
                }
            }
        }
    }
    if waits {
        // The owner is handled again when they are gone.
        let still = server.registry.store.list("").objects;
        if still
            .iter()
            .any(|o| o.owners.iter().any(|owner| owner == uid))
        {
            return Ok(());
        }
    }
    let release = |old: &Value| {
        let mut new = old.clone();
        if let Some(Value::Array(all)) = metadata(&mut new).get_mut("finalizers") {
            all.retain(|one| one != "foregroundDeletion" && one != "orphan");
        }
        Ok(new)
    };
    change(&server.registry, place, Through::Object, release).await
}
