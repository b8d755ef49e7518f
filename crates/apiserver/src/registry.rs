//! Creates, updates and deletes objects by the rules of their kinds.
//!
//! In:    the object in a request, the user, the preconditions
//! Out:   the stored object, or a [`Failure`]
//! Calls: `verbs`, `subresources`, `controllers`, `binder`
//! Holds: each change reads the object, decides, and writes only if the object is unchanged; after a conflict it starts over;
//!        only the server sets system fields; a dry run does everything except the write; empty values that upstream's types
//!        would not write (nulls, empty lists and maps) are not stored, and a change of nothing else is no change
//! Upstream: staging/src/k8s.io/apiserver/pkg/registry/generic/registry/store.go, registry/rest/*.go (1.36); differences: an
//!           update does not create an object; managed fields are not stored

pub(crate) mod admission;
pub(crate) mod event_room;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kubelet_model::emptiness::{drop_empty, plain};
use serde_json::Value;

use crate::base::clock::{Chance, Now};
use crate::base::failure::{Cause, Failure};
use crate::base::object::{self, as_map, finalizers, is_deleting, metadata, name, text};
use crate::base::user::User;
use crate::kinds::resources::Resource;
use crate::kinds::strategy::{Generation, checked};
use crate::kinds::typed;
use crate::request::options::Run;
use crate::store::{Change, Expected, Object, Store, Write, WriteError};

mod deletion;

pub(crate) use deletion::{DeleteOptions, Deleted};

/// Conflicts with other writers after which one change gives up.
const ATTEMPTS: usize = 10;
/// Names that are tried for one `generateName`.
const NAMES: usize = 8;
/// The longest prefix of a generated name.
const GENERATED_PREFIX: usize = 58;

/// The way through which an object is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// The object itself.
    Object,
    /// The status subresource.
    Status,
    /// A subresource that has already restricted the change itself.
    Sub,
}

/// The resource, namespace and name of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectPath<'a> {
    pub(crate) resource: &'static Resource,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl ObjectPath<'_> {
    pub(crate) fn key(&self) -> String {
        self.resource.key(self.namespace, self.name)
    }

    pub(crate) fn not_found(&self) -> Failure {
        Failure::not_found(self.resource, self.name)
    }
}

/// The stored objects and their rules.
pub(crate) struct Registry {
    pub(crate) store: Store,
    pub(crate) now: Now,
    pub(crate) chance: Chance,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Registry {
    pub(crate) fn now(&self) -> Timestamp {
        (self.now)()
    }

    /// The object, if it exists.
    pub(crate) fn find(&self, place: ObjectPath<'_>) -> Option<Arc<Object>> {
        self.store.get(&place.key())
    }

    /// The object, or 404.
    pub(crate) fn get(&self, place: ObjectPath<'_>) -> Result<Arc<Object>, Failure> {
        self.find(place).ok_or_else(|| place.not_found())
    }

    /// The parsed object, by storage name.
    pub(crate) fn value(&self, storage: &str, namespace: &str, name: &str) -> Option<Value> {
        let object = self.store.get(&format!("{storage}/{namespace}/{name}"));
        object.map(|object| object.value())
    }

    /// Creates an object.
    pub(crate) async fn create(
        &self,
        resource: &'static Resource,
        namespace: &str,
        mut object: Value,
        who: &User,
        run: Run,
    ) -> Result<Arc<Object>, Failure> {
        check_kind(resource, &mut object)?;
        place_in(resource, namespace, &mut object)?;
        self.namespace_accepts(resource, namespace)?;
        let given = name(&object).to_owned();
        let version = text(&object, "/metadata/resourceVersion");
        // Checked after validation, as upstream's store does. A dry run does not get here.
        let has_version =
            run == Run::Real && version.parse::<u64>().is_ok_and(|version| version > 0);
        let prefix = text(&object, "/metadata/generateName").to_owned();
        for attempt in 1.. {
            let mut object = object.clone();
            if given.is_empty() && !prefix.is_empty() {
                let cut: String = prefix.chars().take(GENERATED_PREFIX).collect();
                let generated = format!("{cut}{}", self.chance.suffix());
                metadata(&mut object).insert("name".to_owned(), generated.into());
            }
            self.birth(resource, &mut object);
            (resource.strategy.create)(&mut object);
            (resource.strategy.default)(&mut object);
            admission::create(self, resource, namespace, &mut object, who)?;
            (resource.strategy.default)(&mut object);
            drop_empty(&mut object);
            typed::conform(resource, &mut object)?;
            let mut causes = checked::metadata(resource.naming(), &object, None);
            causes.extend((resource.strategy.validate)(&object, None));
            if !causes.is_empty() {
                return Err(Failure::invalid(resource, name(&object), &causes));
            }
            if has_version {
                return Err(Failure::version_at_creation());
            }
            let called = name(&object).to_owned();
            match self
                .put(resource, namespace, object, Expected::Absent, run)
                .await
            {
                Err(WriteError::Unexpected(_)) if given.is_empty() && attempt < NAMES => {}
                Err(WriteError::Unexpected(_)) => {
                    return Err(Failure::already_exists(resource, &called));
                }
                Err(error) => return Err(Failure::store(resource, &called, &error)),
                Ok(object) => return Ok(object),
            }
        }
        Err(Failure::internal("no free name was found"))
    }

    /// Sets the system fields of a new object.
    fn birth(&self, resource: &Resource, object: &mut Value) {
        let (uid, now) = (self.chance.uid(), object::time(self.now()));
        let metadata = metadata(object);
        for field in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "managedFields",
            "generation",
        ] {
            metadata.remove(field);
        }
        metadata.insert("uid".to_owned(), uid.into());
        metadata.insert("creationTimestamp".to_owned(), now.into());
        if resource.strategy.generation == Generation::OfSpec {
            metadata.insert("generation".to_owned(), 1.into());
        }
    }

    /// Refuses objects in a namespace that does not exist or that is terminating.
    fn namespace_accepts(&self, resource: &Resource, namespace: &str) -> Result<(), Failure> {
        if !resource.namespaced {
            return Ok(());
        }
        let rows = crate::kinds::resources::find("", "v1", "namespaces");
        match (self.value("namespaces", "", namespace), rows) {
            (None, Some(namespaces)) => Err(Failure::not_found(namespaces, namespace)),
            (Some(found), _) if is_deleting(&found) => {
                let why = format!(
                    "unable to create new content in namespace {namespace} because it is being terminated"
                );
                let mut failure = Failure::forbidden(resource, "", &why);
                failure.details["causes"] = serde_json::json!([{
                    "reason": "NamespaceTerminating",
                    "message": format!("namespace {namespace} is being terminated"),
                    "field": "metadata.namespace",
                }]);
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    /// Writes the object. In a dry run nothing is written, and the result is returned.
    async fn put(
        &self,
        resource: &Resource,
        namespace: &str,
        object: Value,
        expected: Expected,
        run: Run,
    ) -> Result<Arc<Object>, WriteError> {
        let key = resource.key(namespace, name(&object));
        if run == Run::Dry {
            let found = self.store.get(&key);
            let as_expected = match (expected, &found) {
                (Expected::Absent, None) => true,
                (Expected::At(version), Some(found)) => found.version == version,
                _ => false,
            };
            if !as_expected {
                return Err(WriteError::Unexpected(found));
            }
            return Ok(self.store.preview(key, object));
        }
        let change = Change::Put(Box::new(object));
        let write = Write {
            key,
            expected,
            change,
        };
        self.store.write(write).await
    }

    /// Updates an object: `change` makes the new state from the stored one, again after each conflict.
    pub(crate) async fn change(
        &self,
        place: ObjectPath<'_>,
        through: Through,
        who: &User,
        run: Run,
        mut change: impl FnMut(&Value) -> Result<Value, Failure>,
    ) -> Result<Arc<Object>, Failure> {
        let resource = place.resource;
        for _ in 0..ATTEMPTS {
            let current = self.get(place)?;
            let old = current.value();
            let mut shown = old.clone();
            if let Some(convert) = resource.strategy.convert {
                (convert.shown)(&mut shown);
            }
            let mut new = change(&shown)?;
            check_kind(resource, &mut new)?;
            check_identity(place, &new, &old)?;
            self.settle(place, through, &mut new, &old, who)?;
            if object::same_content(&new, &old) {
                return Ok(current);
            }
            let expected = Expected::At(current.version);
            let written = if may_go(&new) && is_deleting(&old) && run == Run::Real {
                // The change removed the last finalizer.
                self.remove(place, current.version).await
            } else {
                self.put(resource, place.namespace, new, expected, run)
                    .await
            };
            match written {
                Err(WriteError::Unexpected(Some(_))) => {}
                Err(error) => return Err(Failure::store(resource, place.name, &error)),
                Ok(object) => return Ok(object),
            }
        }
        Err(Failure::modified(resource, place.name))
    }

    /// Applies the rules of an update.
    fn settle(
        &self,
        place: ObjectPath<'_>,
        through: Through,
        new: &mut Value,
        old: &Value,
        who: &User,
    ) -> Result<(), Failure> {
        let resource = place.resource;
        keep_system_fields(new, old);
        match through {
            Through::Object => (resource.strategy.update)(new, old),
            Through::Status => (resource.strategy.update_status)(new, old),
            Through::Sub => {}
        }
        (resource.strategy.default)(new);
        drop_empty(new);
        if resource.strategy.generation == Generation::OfSpec && wants_differ(new, old) {
            let next = object::number(old, "/metadata/generation")
                .unwrap_or(0)
                .saturating_add(1);
            metadata(new).insert("generation".to_owned(), next.into());
        }
        admission::update(self, place, through, new, old, who)?;
        typed::conform(resource, new)?;
        // Every way of writing an object may change its metadata.
        let mut causes = checked::metadata(resource.naming(), new, Some(old));
        match through {
            Through::Object => causes.extend((resource.strategy.validate)(new, Some(old))),
            Through::Status => causes.extend((resource.strategy.validate_status)(new, old)),
            Through::Sub => {}
        }
        if is_deleting(old) {
            let before: BTreeSet<&str> = finalizers(old).iter().filter_map(Value::as_str).collect();
            let added = finalizers(new)
                .iter()
                .find(|one| !one.as_str().is_some_and(|one| before.contains(one)));
            if let Some(added) = added {
                let detail = format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{added}}}"
                );
                causes.push(Cause::forbidden("metadata.finalizers", &detail));
            }
        }
        if causes.is_empty() {
            Ok(())
        } else {
            Err(Failure::invalid(resource, place.name, &causes))
        }
    }

    async fn remove(&self, place: ObjectPath<'_>, version: u64) -> Result<Arc<Object>, WriteError> {
        let write = Write {
            key: place.key(),
            expected: Expected::At(version),
            change: Change::Remove,
        };
        self.store.write(write).await
    }
}

/// Whether the spec changed; binding a pod to its node does not count.
fn wants_differ(new: &Value, old: &Value) -> bool {
    let wanted = |value: &Value| {
        let mut spec = value.get("spec").cloned().unwrap_or_default();
        as_map(&mut spec).remove("nodeName");
        spec
    };
    plain(wanted(new)) != plain(wanted(old))
}

/// Whether nothing holds back an object with a deletion timestamp.
fn may_go(object: &Value) -> bool {
    let grace = object::number(object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0);
    let held = finalizers(object).is_empty() && object::list(object, "/spec/finalizers").is_empty();
    held && grace == 0
}

/// apiVersion and kind must equal the path's, or be absent.
pub(crate) fn check_kind(resource: &Resource, object: &mut Value) -> Result<(), Failure> {
    if !object.is_object() {
        return Err(Failure::bad_request(
            "couldn't get version/kind; json parse error: the body is not a JSON object",
        ));
    }
    let (version, kind) = (resource.api_version(), resource.kind);
    let (given_version, given_kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    if !given_kind.is_empty() && given_kind != kind {
        return Err(Failure::bad_request(format!(
            "{given_kind} in version {:?} cannot be handled as a {kind}: converting is not possible",
            given_version
        )));
    }
    if !given_version.is_empty() && given_version != version {
        return Err(Failure::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({version})"
        )));
    }
    let map = as_map(object);
    map.insert("apiVersion".to_owned(), version.into());
    map.insert("kind".to_owned(), kind.into());
    metadata(object);
    if let Some(convert) = resource.strategy.convert {
        (convert.stored)(object);
    }
    Ok(())
}

/// The namespace must equal the path's, or be absent.
fn place_in(resource: &Resource, namespace: &str, object: &mut Value) -> Result<(), Failure> {
    let given = object::namespace(object);
    if !resource.namespaced {
        metadata(object).remove("namespace");
        return Ok(());
    }
    if namespace.is_empty() {
        return Err(Failure::bad_request(
            "an empty namespace may not be set during creation",
        ));
    }
    if !given.is_empty() && given != namespace {
        return Err(Failure::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request: {given} != {namespace}"
        )));
    }
    metadata(object).insert("namespace".to_owned(), namespace.into());
    Ok(())
}

/// The name, namespace, UID and resourceVersion in an update must equal the object's.
fn check_identity(place: ObjectPath<'_>, new: &Value, old: &Value) -> Result<(), Failure> {
    let resource = place.resource;
    let same = |given: &str, expected: &str| given.is_empty() || given == expected;
    if !same(name(new), place.name) {
        return Err(Failure::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            name(new),
            place.name
        )));
    }
    if !same(object::namespace(new), place.namespace) {
        return Err(Failure::bad_request(
            "the namespace of the object does not match the namespace on the URL",
        ));
    }
    if !same(object::uid(new), object::uid(old)) {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            object::uid(new),
            object::uid(old)
        );
        return Err(Failure::conflict(resource, place.name, &why));
    }
    let version = |value| text(value, "/metadata/resourceVersion").to_owned();
    if !same(&version(new), &version(old)) {
        return Err(Failure::modified(resource, place.name));
    }
    if version(new).is_empty() && resource.kind == "Lease" {
        let cause = Cause::invalid(
            "metadata.resourceVersion",
            &0.into(),
            "must be specified for an update",
        );
        return Err(Failure::invalid(resource, place.name, &[cause]));
    }
    Ok(())
}

fn keep_system_fields(new: &mut Value, old: &Value) {
    let before = old.get("metadata").cloned().unwrap_or_default();
    let metadata = metadata(new);
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generateName",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match before.get(field) {
            Some(value) => drop(metadata.insert(field.to_owned(), value.clone())),
            None => drop(metadata.remove(field)),
        }
    }
    metadata.remove("managedFields");
    metadata.remove("selfLink");
}
