//! The verbs on objects and collections.
//!
//! In:    the user, the target, the verb, the query, the body
//! Out:   [`Reply`], or a [`Failure`]
//! Calls: `http`
//! Holds: nothing here is specific to a kind
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers (1.36); differences: no server-side apply

pub(crate) mod authentication;
pub(crate) mod discovery;
pub(crate) mod figures;
pub(crate) mod health;
pub(crate) mod heavy;
pub(crate) mod inflight;
pub(crate) mod kubelets;
pub(crate) mod proxy;
pub(crate) mod reviews;
pub(crate) mod state;
pub(crate) mod subresources;
mod token_request;
pub(crate) mod turns;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::base::body::Body;
use crate::base::bounds::{self, Excess, Unread};
use crate::base::failure::{self, Failure};
use crate::base::object;
use crate::base::user::User;
use crate::kinds::duplicates::duplicates;
use crate::kinds::patch;
use crate::kinds::protobuf;
use crate::kinds::typed;
use crate::kinds::warnings::{self, Warnings};
use crate::registry::{DeleteOptions, Deleted, ObjectPath, Through};
use crate::request::form::Form;
use crate::request::options::Run;
use crate::request::options::{self, FieldValidation, ListOptions, WriteOptions};
use crate::request::path::{Query, Target};
use crate::verbs::inflight::InFlightRequest;
use crate::verbs::state::Inner;

mod list;
mod watch;

pub(crate) use list::{ListStream, list};
pub(crate) use watch::{Watch, watch};

/// An authenticated, authorized request on a resource.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) user: &'a User,
    /// The last second at which the user's credential is valid, since 1970, if it expires.
    pub(crate) until: Option<i64>,
    pub(crate) target: &'a Target,
    pub(crate) verb: &'static str,
    pub(crate) query: &'a Query,
    pub(crate) accept: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: Bytes,
    pub(crate) method: Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) raw_query: &'a str,
    /// The warnings for the client.
    pub(crate) warnings: Warnings,
    /// The connection itself, for protocol upgrades.
    pub(crate) upgrade: Mutex<Option<OnUpgrade>>,
}

/// A response.
pub(crate) enum Reply {
    Json(u16, Bytes),
    /// A list, in parts.
    Listed(ListStream),
    Watch(Box<Watch>),
    /// A proxied response.
    Passed(Response<Body>),
    /// The connection was upgraded; the request's place goes to the task that carries the stream.
    Switched(Response<Body>, oneshot::Sender<Option<InFlightRequest>>),
}

impl Call<'_> {
    pub(crate) fn place(&self) -> ObjectPath<'_> {
        ObjectPath {
            resource: self.target.resource,
            namespace: &self.target.namespace,
            name: &self.target.name,
        }
    }

    /// The connection. It can be taken only once.
    pub(crate) fn take_upgrade(&self) -> Option<OnUpgrade> {
        self.upgrade
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// How long the user's credential is still valid, if it expires; whatever the request began ends with it.
    pub(crate) fn time_left(&self, now: jiff::Timestamp) -> Option<Duration> {
        let left = self.until?.saturating_sub(now.as_second());
        let left = u64::try_from(left).unwrap_or(0).saturating_add(1);
        Some(Duration::from_secs(left))
    }

    /// The options of a write.
    pub(crate) fn write_options(&self) -> Result<WriteOptions, Failure> {
        WriteOptions::read(self.verb, self.query)
    }

    /// Whether the query asks for a dry run.
    pub(crate) fn run(&self) -> Result<Run, Failure> {
        self.write_options().map(|options| options.run)
    }

    fn form(&self) -> Result<Form, Failure> {
        Form::negotiate(self.accept, self.query)
    }

    /// The options of a list, a watch or a deletecollection.
    fn list_options(&self) -> Result<ListOptions, Failure> {
        ListOptions::read(self.target.resource, self.query)
    }

    /// The body as an object.
    pub(crate) fn object(&self) -> Result<Value, Failure> {
        let bare = self
            .content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        match bare {
            "" | "application/json" | "*/*" => self.json(),
            "application/vnd.kubernetes.protobuf" => {
                protobuf::decode(&self.body).map_err(Failure::bad_request)
            }
            other => Err(Failure::unsupported_media_type(
                other,
                "application/json, application/vnd.kubernetes.protobuf",
            )),
        }
    }

    fn json(&self) -> Result<Value, Failure> {
        let unread = |why: &dyn std::fmt::Display| {
            Failure::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: {why}",
                self.target.resource.kind
            ))
        };
        bounds::read(&self.body).map_err(|error| match error {
            Unread::Malformed(error) => unread(&error),
            Unread::Excess(Excess::Deep) => unread(&"exceeded max depth"),
            Unread::Excess(Excess::Large) => {
                Failure::too_large_because("the object has too many values")
            }
        })
    }

    /// The body as an object of the resource's kind.
    fn sent(&self) -> Result<Value, Failure> {
        let (resource, object) = (self.target.resource, self.object()?);
        // An object of another kind is reported as such.
        let kind = object::text(&object, "/kind");
        if kind.is_empty() || kind == resource.kind {
            typed::fits(&resource.api_version(), resource.kind, &object)?;
        }
        self.check_fields(&object, None)?;
        Ok(object)
    }

    /// Warns about unknown and duplicate fields or refuses them, as `fieldValidation` says.
    fn check_fields(&self, object: &Value, old: Option<&Value>) -> Result<(), Failure> {
        let validation = self.write_options()?.validation;
        if validation == FieldValidation::Ignore {
            return Ok(());
        }
        let resource = self.target.resource;
        let unknown = typed::unknown(resource, object, old).into_iter();
        let twice = match self.content_type.contains("json") {
            true => duplicates(&self.body),
            false => Vec::new(),
        };
        let unknown = unknown.map(|field| format!("unknown field {field:?}"));
        let twice = twice.into_iter();
        let wrong = unknown.chain(twice.map(|field| format!("duplicate field {field:?}")));
        let wrong: Vec<String> = wrong.collect();
        if validation == FieldValidation::Strict && !wrong.is_empty() {
            let (kind, version) = (resource.kind, resource.version);
            return Err(Failure::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
                wrong.join(", ")
            )));
        }
        wrong.into_iter().for_each(|text| self.warnings.add(text));
        Ok(())
    }

    /// Adds the kind's warnings.
    fn warn_of(&self, new: &Value, old: Option<&Value>) {
        if let Some(of) = warnings::of(self.target.resource) {
            of(new, old)
                .into_iter()
                .for_each(|text| self.warnings.add(text));
        }
    }

    /// The options of a deletion: from the body, or from the query if there is no body.
    fn delete_options(&self) -> Result<DeleteOptions, Failure> {
        if self.body.is_empty() {
            return DeleteOptions::of_query(self.query);
        }
        let body = self.object()?;
        if !["", "DeleteOptions"].contains(&object::text(&body, "/kind")) {
            let why = "decoded object cannot be converted to DeleteOptions";
            return Err(Failure::bad_request(why));
        }
        DeleteOptions::parse(&body)
    }
}

/// Carries out the request.
pub(crate) async fn serve(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let resource = call.target.resource;
    call.warnings.add(resource.deprecated.to_owned());
    if let Some(sub) = call.target.subresource {
        return subresources::serve(server, call, sub).await;
    }
    if !resource.verbs.contains(&call.verb) {
        return Err(Failure::method_not_allowed());
    }
    if ["create", "update", "patch"].contains(&call.verb) {
        // Before the body is read: errors in the request itself are reported first.
        call.write_options()?;
    }
    if resource.is_virtual() {
        return reviews::serve(server, call);
    }
    match call.verb {
        "get" => {
            let form = call.form()?;
            options::check_get(call.query, server.registry.store.version())?;
            let object = server.registry.get(call.place())?;
            let now = server.registry.now();
            Ok(Reply::Json(200, form.object(resource, &object, now)))
        }
        "list" => list(server, call),
        "watch" => watch(server, call),
        "create" if !call.target.name.is_empty() => Err(Failure::method_not_allowed()),
        "create" => create(server, call).await,
        "update" => change(server, call, Through::Object, Value::clone).await,
        "patch" => change(server, call, Through::Object, Value::clone).await,
        "delete" => delete(server, call).await,
        "deletecollection" => delete_collection(server, call).await,
        _ => Err(Failure::method_not_allowed()),
    }
}

async fn create(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let (resource, form) = (call.target.resource, call.form()?);
    let object = call.sent()?;
    server.event_room.admit(resource, call.body.len())?;
    let created = server
        .registry
        .create(
            resource,
            &call.target.namespace,
            object,
            call.user,
            call.run()?,
        )
        .await?;
    server.event_room.note(&created);
    if warnings::of(resource).is_some() {
        call.warn_of(&created.value(), None);
    }
    Ok(Reply::Json(
        201,
        form.object(resource, &created, server.registry.now()),
    ))
}

/// PUT and PATCH. `fit` says which parts of the old object stay.
pub(crate) async fn change(
    server: &Inner,
    call: &Call<'_>,
    through: Through,
    fit: fn(&Value) -> Value,
) -> Result<Reply, Failure> {
    change_with(server, call, through, |new, old| {
        *new = fit(new);
        let _ = old;
        Ok(())
    })
    .await
}

/// As [`change`]; `fit` restores or refuses what may not change.
pub(crate) async fn change_with(
    server: &Inner,
    call: &Call<'_>,
    through: Through,
    fit: impl Fn(&mut Value, &Value) -> Result<(), Failure>,
) -> Result<Reply, Failure> {
    let (resource, form, run) = (call.target.resource, call.form()?, call.run()?);
    server.event_room.admit(resource, call.body.len())?;
    let is_patch = call.verb == "patch";
    let kind = is_patch.then(|| patch::Kind::of(call.content_type));
    let kind = kind.transpose()?;
    let sent = match kind {
        Some(_) => call.json()?,
        None => call.sent()?,
    };
    let mut before = None;
    let apply = |old: &Value| {
        let mut new = match kind {
            Some(kind) => {
                let new = patch::apply(resource, &call.target.name, kind, old, &sent)?;
                typed::fits(&resource.api_version(), resource.kind, &new)?;
                call.check_fields(&new, Some(old))?;
                new
            }
            None => sent.clone(),
        };
        fit(&mut new, old)?;
        if warnings::of(resource).is_some() {
            before = Some(old.clone());
        }
        Ok(new)
    };
    let changed = server
        .registry
        .change(call.place(), through, call.user, run, apply)
        .await?;
    if let (Some(old), Through::Object) = (before, through) {
        call.warn_of(&changed.value(), Some(&old));
    }
    server.event_room.note(&changed);
    Ok(Reply::Json(
        200,
        form.object(resource, &changed, server.registry.now()),
    ))
}

/// Kinds whose deletion returns the object.
const SHOWN_WHEN_GONE: [&str; 5] = [
    "pods",
    "services",
    "serviceaccounts",
    "persistentvolumes",
    "persistentvolumeclaims",
];

async fn delete(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let (resource, form) = (call.target.resource, call.form()?);
    let options = call.delete_options()?;
    crate::registry::admission::delete(&server.registry, call.place(), call.user)?;
    let now = server.registry.now();
    match server.registry.delete(call.place(), &options).await? {
        Deleted::Gone(object) if !SHOWN_WHEN_GONE.contains(&resource.storage) => {
            let uid = object::uid(&object.value()).to_owned();
            let status = failure::success(resource, &call.target.name, &uid);
            Ok(Reply::Json(200, crate::request::form::bytes(&status)))
        }
        Deleted::Gone(object) | Deleted::Marked(object) => {
            Ok(Reply::Json(200, form.object(resource, &object, now)))
        }
    }
}

async fn delete_collection(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let (resource, wanted) = (call.target.resource, call.list_options()?);
    let (options, form) = (call.delete_options()?, call.form()?);
    let namespace = Some(&*call.target.namespace).filter(|_| resource.namespaced);
    let found = server.registry.store.list(&resource.prefix(namespace));
    let mut deleted = Vec::new();
    let matching = found
        .objects
        .iter()
        .filter(|object| wanted.selection.matches(object));
    for object in matching.take(wanted.limit.unwrap_or(usize::MAX)) {
        let (namespace, name) = object.place();
        let place = ObjectPath {
            resource,
            namespace,
            name,
        };
        crate::registry::admission::delete(&server.registry, place, call.user)?;
        match server.registry.delete(place, &options).await {
            Ok(Deleted::Gone(object) | Deleted::Marked(object)) => deleted.push(object),
            // Another request has deleted it already.
            Err(failure) if failure.code == 404 => {}
            Err(failure) => return Err(failure),
        }
    }
    let version = server.registry.store.version().to_string();
    let metadata = json!({"resourceVersion": version});
    Ok(Reply::Json(
        200,
        form.list(resource, &deleted, metadata, server.registry.now()),
    ))
}
