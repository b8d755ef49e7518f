//! Deletion in its steps: graceful for pods, held by finalizers, or at once.
//!
//! In:    delete options, the object
//! Out:   [`Deleted`]: gone, or marked with a deletion timestamp
//! Calls: `verbs`, `subresources` (eviction), `controllers`
//! Holds: an object with a finalizer is never removed; a deletion deadline is only ever shortened
//! Upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/delete.go, registry/generic/registry/store.go Delete,
//!           pkg/registry/core/pod/strategy.go CheckGracefulDelete (1.36); differences: none known

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ATTEMPTS, ObjectPath, Registry, may_go};
use crate::base::failure::{Cause, Failure};
use crate::base::object::{
    self, finalizers, is_deleting, map_mut, metadata, number, parse_time, text,
};
use crate::kinds::schema;
use crate::kinds::strategy::pod;
use crate::request::options::Run;
use crate::request::options::{integer, wrong_dry_run};
use crate::request::path::Query;
use crate::store::{Expected, Object, WriteError};

/// The longest stored grace period, about 68 years: added to a date, it must give a valid date.
const LONGEST_GRACE: i64 = i32::MAX as i64;

/// Delete options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) propagation: Option<String>,
    pub(crate) dry: bool,
}

impl DeleteOptions {
    /// Reads them from a body, or from a part of one.
    pub(crate) fn parse(body: &Value) -> Result<Self, Failure> {
        let word = |pointer: &str| {
            let found = body.pointer(pointer).and_then(Value::as_str);
            found.map(str::to_owned)
        };
        let message = schema::message("meta.DeleteOptions");
        if let Some(why) = message.and_then(|message| schema::mismatch(message, body)) {
            return Err(Failure::bad_request(why));
        }
        let dry = object::list(body, "/dryRun").iter().map(Value::as_str);
        let dry: Vec<&str> = dry.map(Option::unwrap_or_default).collect();
        let orphan = body.get("orphanDependents").and_then(Value::as_bool);
        let options = Self {
            grace_seconds: number(body, "/gracePeriodSeconds"),
            uid: word("/preconditions/uid"),
            version: word("/preconditions/resourceVersion"),
            propagation: word("/propagationPolicy"),
            dry: false,
        };
        options.checked(orphan, &dry)
    }

    /// Reads them from a query.
    pub(crate) fn of_query(query: &Query) -> Result<Self, Failure> {
        let word = |name: &str| query.first(name).map(str::to_owned);
        let precondition = |name: &str| query.get(name).map(str::to_owned);
        let orphan = query.first("orphanDependents");
        let orphan = orphan.map(|_| query.is_set("orphanDependents"));
        let dry: Vec<&str> = query.all("dryRun").collect();
        let options = Self {
            grace_seconds: integer(query, "gracePeriodSeconds")?,
            uid: precondition("uid"),
            version: precondition("resourceVersion"),
            propagation: word("propagationPolicy"),
            dry: false,
        };
        options.checked(orphan, &dry)
    }

    /// Validates the options, and merges `orphanDependents` into the propagation policy.
    fn checked(mut self, orphan: Option<bool>, dry: &[&str]) -> Result<Self, Failure> {
        let mut causes = Vec::new();
        let field = "propagationPolicy";
        if let Some(policy) = &self.propagation {
            if orphan.is_some() {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                causes.push(Cause::invalid(field, &policy.clone().into(), detail));
            }
            if !["Foreground", "Background", "Orphan"].contains(&&**policy) {
                let allowed = ["Foreground", "Background", "Orphan", "nil"];
                let policy = policy.clone().into();
                causes.push(Cause::unsupported(field, &policy, &allowed));
            }
        }
        causes.extend(wrong_dry_run(dry));
        if !causes.is_empty() {
            return Err(Failure::invalid_options("DeleteOptions", &causes));
        }
        if let Some(orphan) = orphan {
            let policy = if orphan { "Orphan" } else { "Background" };
            self.propagation = Some(policy.to_owned());
        }
        self.dry = !dry.is_empty();
        // Quirk: staging/src/k8s.io/apiserver/pkg/registry/rest/delete.go BeforeDelete treats a negative period as one second.
        let grace = |seconds: i64| if seconds < 0 { 1 } else { seconds };
        self.grace_seconds = self.grace_seconds.map(|s| grace(s).min(LONGEST_GRACE));
        Ok(self)
    }

    fn holds_for(&self, place: ObjectPath<'_>, object: &Value) -> Result<(), Failure> {
        let check = |what: &str, wanted: &Option<String>, found: &str, since: &str| match wanted {
            Some(wanted) if wanted != found => {
                let why = format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {since}"
                );
                Err(Failure::precondition(place.resource, place.name, &why))
            }
            _ => Ok(()),
        };
        let uid = object::uid(object);
        check("UID", &self.uid, uid, "deleted and then recreated")?;
        let version = text(object, "/metadata/resourceVersion");
        check("ResourceVersion", &self.version, version, "modified")
    }
}

/// The result of a deletion.
#[derive(Clone, Debug)]
pub(crate) enum Deleted {
    /// The object is removed; its last state.
    Gone(Arc<Object>),
    /// The object is marked and still exists.
    Marked(Arc<Object>),
}

/// The next step.
enum Step {
    Remove,
    Mark(Box<Value>),
    Nothing,
}

impl Registry {
    /// Deletes an object, or takes the next step of its deletion.
    pub(crate) async fn delete(
        &self,
        place: ObjectPath<'_>,
        options: &DeleteOptions,
    ) -> Result<Deleted, Failure> {
        let run = if options.dry { Run::Dry } else { Run::Real };
        for _ in 0..ATTEMPTS {
            let current = self.get(place)?;
            let object = current.value();
            options.holds_for(place, &object)?;
            refuse_what_must_stay(place)?;
            let written = match self.deletion_step(place, &object, options) {
                Step::Nothing => return Ok(Deleted::Marked(current)),
                Step::Remove if run == Run::Dry => return Ok(Deleted::Gone(current)),
                Step::Remove => self.remove(place, current.version).await.map(Deleted::Gone),
                Step::Mark(marked) => {
                    let expected = Expected::At(current.version);
                    let put = self.put(place.resource, place.namespace, *marked, expected, run);
                    put.await.map(Deleted::Marked)
                }
            };
            match written {
                Err(WriteError::Unexpected(Some(_))) => {}
                Err(error) => return Err(Failure::store(place.resource, place.name, &error)),
                Ok(deleted) => return Ok(deleted),
            }
        }
        Err(Failure::modified(place.resource, place.name))
    }

    fn deletion_step(
        &self,
        place: ObjectPath<'_>,
        object: &Value,
        options: &DeleteOptions,
    ) -> Step {
        let mut marked = object.clone();
        hold_for_propagation(&mut marked, options);
        let is_namespace = place.resource.storage == "namespaces";
        let grace = if place.resource.storage == "pods" {
            pod_grace(object, options)
        } else {
            0
        };
        if is_deleting(object) {
            // The deadline is only shortened, and only if the request says so.
            let before = number(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
            if grace == 0 && options.grace_seconds == Some(0) {
                metadata(&mut marked).insert("deletionGracePeriodSeconds".to_owned(), 0.into());
            } else if options.grace_seconds.is_none() || before <= grace {
                return if may_go(object) {
                    Step::Remove
                } else {
                    Step::Nothing
                };
            } else {
                let began =
                    parse_time(text(object, "/metadata/deletionTimestamp")).and_then(|at| {
                        at.checked_sub(Duration::from_secs(before.unsigned_abs()))
                            .ok()
                    });
                self.mark(&mut marked, began.unwrap_or_else(|| self.now()), grace);
            }
        } else {
            self.mark(&mut marked, self.now(), grace);
        }
        if is_namespace {
            map_mut(&mut marked, "status").insert("phase".to_owned(), "Terminating".into());
        }
        let held = !finalizers(&marked).is_empty()
            || !object::list(&marked, "/spec/finalizers").is_empty();
        match (held, grace) {
            (false, 0) => Step::Remove,
            (true, 0) if object::same_content(&marked, object) => Step::Nothing,
            _ => Step::Mark(Box::new(marked)),
        }
    }

    /// Sets the deletion timestamp and the grace period.
    fn mark(&self, object: &mut Value, began: jiff::Timestamp, grace: i64) {
        let at = began
            .checked_add(Duration::from_secs(grace.unsigned_abs()))
            .unwrap_or(began);
        let was_marked = is_deleting(object);
        let generation = number(object, "/metadata/generation");
        let metadata = metadata(object);
        metadata.insert("deletionTimestamp".to_owned(), object::time(at).into());
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        if let Some(generation) = generation.filter(|_| !was_marked) {
            metadata.insert("generation".to_owned(), generation.saturating_add(1).into());
        }
    }
}

/// A pod's grace period: the requested one, else the pod's own; 0 for a pod that has no node or is terminal.
fn pod_grace(object: &Value, options: &DeleteOptions) -> i64 {
    let asked = options
        .grace_seconds
        .or_else(|| number(object, "/spec/terminationGracePeriodSeconds"))
        .map(|seconds| seconds.min(LONGEST_GRACE));
    let unbound = text(object, "/spec/nodeName").is_empty();
    if unbound || pod::is_finished(object) {
        return 0;
    }
    match asked.unwrap_or(30) {
        // Quirk: pkg/registry/core/pod/strategy.go CheckGracefulDelete treats a negative period as one second.
        negative @ ..0 => i64::from(negative < 0),
        seconds => seconds,
    }
}

/// Adds the finalizer for foreground deletion or orphaning, which `controllers` remove.
fn hold_for_propagation(object: &mut Value, options: &DeleteOptions) {
    let wanted = match options.propagation.as_deref() {
        Some("Foreground") => "foregroundDeletion",
        Some("Orphan") => "orphan",
        _ => return,
    };
    let metadata = metadata(object);
    let list = metadata.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|one| one == wanted)
    {
        list.push(wanted.into());
    }
}

fn refuse_what_must_stay(place: ObjectPath<'_>) -> Result<(), Failure> {
    let stays = ["default", "kube-system", "kube-public"];
    if place.resource.storage == "namespaces" && stays.contains(&place.name) {
        let why = "this namespace may not be deleted";
        return Err(Failure::forbidden(place.resource, place.name, why));
    }
    Ok(())
}
