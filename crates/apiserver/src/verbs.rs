//! The verbs on objects and collections.
//!
//! In:    who, the target, the verb, the query, the body
//! Out:   [`Reply`], or a [`Failure`]
//! Calls: `http`
//! Holds: no word about any kind stands here
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers (1.36); differences: no server-side apply

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::HeaderMap;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::bounds::{self, Excess, Unread};
use crate::failure::{self, Failure};
use crate::form::Form;
use crate::http::Body;
use crate::inflight::Place as InFlightPlace;
use crate::object;
use crate::patch;
use crate::path::{Query, Target};
use crate::protobuf;
use crate::registry::{DeleteOptions, Deleted, Place, Run, Through};
use crate::selectors::Selection;
use crate::server::Inner;
use crate::subresources;
use crate::typed;
use crate::user::User;

mod list;
mod watch;

pub(crate) use list::{Parts, list};
pub(crate) use watch::{Watch, watch};

/// An authenticated, authorized request on a resource.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) user: &'a User,
    /// The last second at which the user's credential counts, since 1970, if it ends.
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
    /// The connection itself, for who speaks something else on it.
    pub(crate) upgrade: Mutex<Option<OnUpgrade>>,
}

/// An answer.
pub(crate) enum Reply {
    Json(u16, Bytes),
    /// A list, in parts.
    Listed(Parts),
    Watch(Box<Watch>),
    /// Somebody else's answer.
    Passed(Response<Body>),
    /// The connection speaks something else from now on; the request's place goes to who carries it.
    Switched(Response<Body>, oneshot::Sender<Option<InFlightPlace>>),
}

impl Call<'_> {
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            resource: self.target.resource,
            namespace: &self.target.namespace,
            name: &self.target.name,
        }
    }

    /// The connection, once.
    pub(crate) fn take_upgrade(&self) -> Option<OnUpgrade> {
        self.upgrade
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// How long the user's credential still counts, if it ends; what it began ends with it.
    pub(crate) fn time_left(&self, now: jiff::Timestamp) -> Option<Duration> {
        let left = self.until?.saturating_sub(now.as_second());
        let left = u64::try_from(left).unwrap_or(0).saturating_add(1);
        Some(Duration::from_secs(left))
    }

    /// Whether `dryRun` is asked for in the query.
    pub(crate) fn run(&self) -> Result<Run, Failure> {
        let mut asked = self.query.all("dryRun");
        match asked.find(|value| !value.is_empty()) {
            None => Ok(Run::Real),
            Some("All") => Ok(Run::Dry),
            Some(other) => Err(Failure::bad_request(format!(
                "invalid dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }

    fn form(&self) -> Result<Form, Failure> {
        Form::negotiate(self.accept, self.query)
    }

    /// A whole number of the query, as upstream reads it.
    fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let Some(text) = self.query.get(name) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|error: std::num::ParseIntError| {
                let why = match error.kind() {
                    PosOverflow | NegOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                Failure::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
            })
    }

    /// The same; what is negative counts as nothing.
    fn count(&self, name: &str) -> Result<u64, Failure> {
        let number = self.integer(name)?.unwrap_or(0);
        Ok(u64::try_from(number).unwrap_or(0))
    }

    fn selection(&self) -> Result<Selection, Failure> {
        Selection::parse(
            self.target.resource,
            self.query.get("labelSelector"),
            self.query.get("fieldSelector"),
        )
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

    /// Refuses unknown fields where the client asks for that.
    fn check_strictly(&self, object: &Value, old: Option<&Value>) -> Result<(), Failure> {
        if self.query.get("fieldValidation") != Some("Strict") {
            return Ok(());
        }
        let mut object = object.clone();
        // Kind and version may be left out, and are checked elsewhere.
        let resource = self.target.resource;
        object::fill_text(object::as_map(&mut object), "kind", resource.kind);
        object::fill_text(
            object::as_map(&mut object),
            "apiVersion",
            &resource.api_version(),
        );
        typed::check_strictly(resource, &object, old)
    }

    /// The options of a deletion: body first, then query.
    fn delete_options(&self) -> Result<DeleteOptions, Failure> {
        let body = if self.body.is_empty() {
            json!({})
        } else {
            self.object()?
        };
        let mut options = DeleteOptions::parse(&body)?;
        if let Some(seconds) = self.integer("gracePeriodSeconds")? {
            let asked = json!({"gracePeriodSeconds": seconds});
            let asked = DeleteOptions::parse(&asked)?.grace_seconds;
            options.grace_seconds = options.grace_seconds.or(asked);
        }
        if options.propagation.is_none() {
            options.propagation = self.query.get("propagationPolicy").map(str::to_owned);
        }
        options.dry |= self.run()? == Run::Dry;
        Ok(options)
    }
}

/// Does what is asked.
pub(crate) async fn serve(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let resource = call.target.resource;
    if let Some(sub) = call.target.subresource {
        return subresources::serve(server, call, sub).await;
    }
    if !resource.verbs.contains(&call.verb) {
        return Err(Failure::method_not_allowed());
    }
    if resource.is_virtual() {
        return crate::reviews::serve(server, call);
    }
    match call.verb {
        "get" => {
            let object = server.registry.get(call.place())?;
            Ok(Reply::Json(
                200,
                call.form()?
                    .object(resource, &object, server.registry.now()),
            ))
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
    let object = call.object()?;
    call.check_strictly(&object, None)?;
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
    Ok(Reply::Json(
        201,
        form.object(resource, &created, server.registry.now()),
    ))
}

/// PUT and PATCH; `fit` says what of the old object the new one is laid over.
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

/// As [`change`]; `fit` sets right what may not change, or refuses.
pub(crate) async fn change_with(
    server: &Inner,
    call: &Call<'_>,
    through: Through,
    fit: impl Fn(&mut Value, &Value) -> Result<(), Failure>,
) -> Result<Reply, Failure> {
    let (resource, form, run) = (call.target.resource, call.form()?, call.run()?);
    server.event_room.admit(resource, call.body.len())?;
    let changed = if call.verb == "patch" {
        let kind = patch::Kind::of(call.content_type)?;
        let patch = call.json()?;
        let apply = |old: &Value| {
            let mut new = patch::apply(resource, &call.target.name, kind, old, &patch)?;
            call.check_strictly(&new, Some(old))?;
            fit(&mut new, old)?;
            Ok(new)
        };
        server
            .registry
            .change(call.place(), through, call.user, run, apply)
            .await?
    } else {
        let sent = call.object()?;
        call.check_strictly(&sent, None)?;
        let replace = |old: &Value| {
            let mut new = sent.clone();
            fit(&mut new, old)?;
            Ok(new)
        };
        server
            .registry
            .change(call.place(), through, call.user, run, replace)
            .await?
    };
    server.event_room.note(&changed);
    Ok(Reply::Json(
        200,
        form.object(resource, &changed, server.registry.now()),
    ))
}

/// Kinds whose deletion answers with the object.
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
    crate::admission::delete(&server.registry, call.place(), call.user)?;
    let now = server.registry.now();
    match server.registry.delete(call.place(), &options).await? {
        Deleted::Gone(object) if !SHOWN_WHEN_GONE.contains(&resource.storage) => {
            let uid = object::uid(&object.value()).to_owned();
            let status = failure::success(resource, &call.target.name, &uid);
            Ok(Reply::Json(200, crate::form::bytes(&status)))
        }
        Deleted::Gone(object) | Deleted::Marked(object) => {
            Ok(Reply::Json(200, form.object(resource, &object, now)))
        }
    }
}

async fn delete_collection(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let (resource, selection) = (call.target.resource, call.selection()?);
    let (options, form) = (call.delete_options()?, call.form()?);
    let namespace = Some(&*call.target.namespace).filter(|_| resource.namespaced);
    let found = server.registry.store.list(&resource.prefix(namespace));
    let mut deleted = Vec::new();
    for object in found
        .objects
        .iter()
        .filter(|object| selection.matches(object))
    {
        let (namespace, name) = object.place();
        let place = Place {
            resource,
            namespace,
            name,
        };
        crate::admission::delete(&server.registry, place, call.user)?;
        match server.registry.delete(place, &options).await {
            Ok(Deleted::Gone(object) | Deleted::Marked(object)) => deleted.push(object),
            // Somebody else was quicker.
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
