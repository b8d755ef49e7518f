//! Lists: consistent over their pages.
//!
//! In:    selectors, `limit`, `continue`, `resourceVersion`, `resourceVersionMatch`
//! Out:   one page
//! Calls: `verbs`
//! Holds: all pages of a list show one version, or the client is told that it is gone; a long one is written as it is taken
//! Upstream: staging/src/k8s.io/apiserver/pkg/storage/continue.go, endpoints/handlers/get.go ListResource (1.36); differences: a
//!           version that may be old is answered with the newest state, which is in memory anyway

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use hyper::body::Bytes;
use serde_json::json;

use super::{Call, Reply};
use crate::encoding::{base64_url, from_base64_url};
use crate::failure::Failure;
use crate::form::Form;
use crate::heavy;
use crate::object::text;
use crate::server::Inner;
use crate::store::{Object, Snapshot, TooOld};

/// A shorter list is sent whole.
const SHORT: usize = 64 << 10;
/// `]}`.
const TAIL: usize = 2;

/// The parts of a list, each made when it is asked for.
pub(crate) type Parts = BoxStream<'static, Bytes>;

/// Which version to show.
enum At {
    Newest,
    Exactly(u64),
}

pub(crate) fn list(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let (resource, selection) = (call.target.resource, call.selection()?);
    let form = call.form()?;
    let store = &server.registry.store;
    let namespace = Some(&*call.target.namespace).filter(|namespace| !namespace.is_empty());
    let prefix = resource.prefix(namespace);
    let after = call.query.get("continue").map(read_continue).transpose()?;
    let at = match &after {
        Some((version, _)) if *version > store.version() => {
            return Err(Failure::too_large_version(*version, store.version()));
        }
        Some((version, _)) => At::Exactly(*version),
        None => version_wanted(call, store.version())?,
    };
    let Snapshot { version, objects } = match at {
        At::Newest => store.list(&prefix),
        At::Exactly(version) => store
            .list_at(&prefix, version)
            .map_err(|TooOld { .. }| expired(after.is_some()))?,
    };
    let start = after.as_ref().map_or("", |(_, key)| key);
    let mut matching = objects
        .into_iter()
        .filter(|object| &*object.key > start && selection.matches(object));
    let limit = Some(call.count("limit")?).filter(|limit| *limit > 0);
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let page: Vec<_> = match limit {
        None => matching.collect(),
        Some(limit) => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let page: Vec<_> = matching.by_ref().take(limit).collect();
            let left = matching.count();
            if let Some(last) = page.last().filter(|_| left > 0) {
                metadata["continue"] = write_continue(version, &last.key).into();
                if selection.is_all() {
                    metadata["remainingItemCount"] = left.into();
                }
            }
            page
        }
    };
    let now = server.registry.now();
    let size: usize = page.iter().map(|object| object.bytes.len()).sum();
    // A table's rows are short; its columns are told once, for all of them.
    if size < SHORT || matches!(form, Form::Table(_)) {
        return Ok(Reply::Json(200, form.list(resource, &page, metadata, now)));
    }
    // What is there without objects ends where they go.
    let around = form.list(resource, &[], metadata, now);
    let (head, tail) = around.split_at(around.len().saturating_sub(TAIL));
    let (head, tail) = (Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail));
    let turns = Arc::clone(server.turns.of("list"));
    let show = move |(index, object): (usize, Arc<Object>)| {
        let turns = Arc::clone(&turns);
        let size = if form.reads(resource) {
            object.bytes.len()
        } else {
            0
        };
        async move {
            let show = move || form.object(resource, &object, now);
            let shown = heavy::shown(&turns, size, show).await;
            let comma = Bytes::from_static(if index > 0 { b"," } else { b"" });
            // After a panic the client finds a broken list.
            stream::iter([comma, shown.unwrap_or_default()])
        }
    };
    let objects = stream::iter(page.into_iter().enumerate()).then(show);
    let parts = stream::iter([head])
        .chain(objects.flatten())
        .chain(stream::iter([tail]));
    Ok(Reply::Listed(parts.boxed()))
}

fn version_wanted(call: &Call<'_>, current: u64) -> Result<At, Failure> {
    let wanted = call.query.get("resourceVersion");
    let matching = call.query.get("resourceVersionMatch");
    let bad = |why: &str| Failure::bad_request(why.to_owned());
    let version: u64 = match wanted {
        None if matching.is_some() => {
            return Err(bad(
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        None => return Ok(At::Newest),
        Some(text) => text
            .parse()
            .map_err(|_| bad("resourceVersion: Invalid value"))?,
    };
    if version > current {
        return Err(Failure::too_large_version(version, current));
    }
    match matching {
        Some("Exact") if version == 0 => Err(bad(
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        )),
        Some("Exact") => Ok(At::Exactly(version)),
        Some("NotOlderThan") | None => Ok(At::Newest),
        Some(_) => Err(bad("resourceVersionMatch: Unsupported value")),
    }
}

fn expired(paging: bool) -> Failure {
    Failure::expired(if paging {
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter."
    } else {
        "The resourceVersion for the provided list is too old."
    })
}

fn write_continue(version: u64, key: &str) -> String {
    let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": key});
    base64_url(token.to_string().as_bytes())
}

fn read_continue(token: &str) -> Result<(u64, String), Failure> {
    let bytes = from_base64_url(token);
    let value = bytes.and_then(|bytes| crate::bounds::read(&bytes).ok());
    let read =
        value.and_then(|value| Some((value["rv"].as_u64()?, text(&value, "/start").to_owned())));
    read.ok_or_else(|| Failure::bad_request("continue key is not valid"))
}
