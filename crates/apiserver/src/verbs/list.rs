//! Lists, consistent across pages.
//!
//! In:    selectors, `limit`, `continue`, `resourceVersion`, `resourceVersionMatch`
//! Out:   one page
//! Calls: `verbs`
//! Holds: all pages of a list show one version, or the client gets 410; a long list is written while the client reads it
//! Upstream: staging/src/k8s.io/apiserver/pkg/storage/continue.go, endpoints/handlers/get.go ListResource (1.36); differences:
//!           a request that accepts an old version gets the newest state, which is in memory anyway

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{Call, Reply};
use crate::base::encoding::{base64_url, from_base64_url};
use crate::base::failure::Failure;
use crate::base::object::text;
use crate::request::form::Form;
use crate::request::options::{ListOptions, Match, version};
use crate::store::{Object, Snapshot, TooOld};
use crate::verbs::heavy;
use crate::verbs::state::Inner;

/// A shorter list is sent in one piece.
const SHORT: usize = 64 << 10;
/// `]}`.
const TAIL: usize = 2;

/// The parts of a list, each made when it is needed.
pub(crate) type ListStream = BoxStream<'static, Bytes>;

/// The version to list.
#[derive(Clone, Copy)]
enum At {
    Newest,
    NotOlderThan(u64),
    Exactly(u64),
}

/// The objects behind `start` that are selected, no more than the limit, and the metadata of their list.
fn page_of(
    snapshot: Snapshot,
    start: &str,
    options: &ListOptions,
    prefix: &str,
) -> (Vec<Arc<Object>>, Value) {
    let Snapshot { version, objects } = snapshot;
    let selection = &options.selection;
    let mut matching = objects
        .into_iter()
        .filter(|object| &*object.key > start && selection.matches(object));
    let mut metadata = json!({"resourceVersion": version.to_string()});
    let Some(limit) = options.limit else {
        return (matching.collect(), metadata);
    };
    let page: Vec<_> = matching.by_ref().take(limit).collect();
    let left = matching.count();
    if let Some(last) = page.last().filter(|_| left > 0) {
        let version = i64::try_from(version).unwrap_or(-1);
        metadata["continue"] = write_continue(version, prefix, &last.key).into();
        if selection.is_all() {
            metadata["remainingItemCount"] = left.into();
        }
    }
    (page, metadata)
}

pub(crate) fn list(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let resource = call.target.resource;
    let (form, options) = (call.form()?, call.list_options()?);
    let store = &server.registry.store;
    let namespace = Some(&*call.target.namespace).filter(|namespace| !namespace.is_empty());
    let prefix = resource.prefix(namespace);
    let after = match &*options.continues {
        "" => None,
        token => Some(Page::read(token, &prefix)?),
    };
    let at = match &after {
        Some(_) if !["", "0"].contains(&&*options.version) => {
            let why = "specifying resource version is not allowed when using continue";
            return Err(Failure::bad_request(why));
        }
        Some(page) => page.at,
        None => version_wanted(&options)?,
    };
    if let At::Exactly(version) = at
        && version > store.version()
    {
        return Err(Failure::too_large_version(version, store.version()));
    }
    let snapshot = match at {
        At::Newest => store.list(&prefix),
        At::NotOlderThan(oldest) => {
            let found = store.list(&prefix);
            if oldest > found.version {
                return Err(Failure::too_large_version(oldest, found.version));
            }
            found
        }
        At::Exactly(version) => store.list_at(&prefix, version).map_err(|TooOld { .. }| {
            match &after {
                // The client can continue the list at the current version.
                Some(page) => Failure::expired_page(write_continue(-1, &prefix, &page.start)),
                None => Failure::expired("The resourceVersion for the provided list is too old."),
            }
        })?,
    };
    let start = after.as_ref().map_or("", |page| &*page.start);
    let (page, metadata) = page_of(snapshot, start, &options, &prefix);
    let now = server.registry.now();
    let size: usize = page.iter().map(|object| object.bytes.len()).sum();
    // Table rows are short, and the columns appear only once.
    if size < SHORT || matches!(form, Form::Table(_)) {
        return Ok(Reply::Json(200, form.list(resource, &page, metadata, now)));
    }
    // The list without objects ends where the objects go.
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
            // After a panic the client receives an incomplete list.
            stream::iter([comma, shown.unwrap_or_default()])
        }
    };
    let objects = stream::iter(page.into_iter().enumerate()).then(show);
    let parts = stream::iter([head])
        .chain(objects.flatten())
        .chain(stream::iter([tail]));
    Ok(Reply::Listed(parts.boxed()))
}

fn version_wanted(options: &ListOptions) -> Result<At, Failure> {
    let version = version(&options.version)?;
    Ok(match options.matching {
        Match::Exact => At::Exactly(version),
        // Quirk: storage/interfaces.go ValidateListOptions lists exactly the named version if there is a limit.
        Match::Unset if version > 0 && options.limit.is_some() => At::Exactly(version),
        Match::Unset | Match::NotOlderThan if version > 0 => At::NotOlderThan(version),
        Match::Unset | Match::NotOlderThan => At::Newest,
    })
}

/// The start of a page.
struct Page {
    at: At,
    /// The last key of the previous page.
    start: String,
}

fn write_continue(version: i64, prefix: &str, key: &str) -> String {
    let start = key.strip_prefix(prefix).unwrap_or(key);
    let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": start});
    base64_url(token.to_string().as_bytes())
}

impl Page {
    /// Parses a token. The start is always below the prefix of this list, whatever the token says.
    fn read(token: &str, prefix: &str) -> Result<Self, Failure> {
        let bad = |why: &str| {
            let key = "continue key is not valid";
            Failure::bad_request(format!("invalid continue token: {key}: {why}"))
        };
        let bytes = from_base64_url(token).ok_or_else(|| bad("illegal base64 data"))?;
        let value = crate::base::bounds::read(&bytes).map_err(|_| bad("it is no JSON object"))?;
        let version = text(&value, "/v");
        if version != "meta.k8s.io/v1" {
            let why = format!("server does not recognize this encoded version {version}");
            return Err(bad(&why));
        }
        // A negative version means the newest: the token of a list whose version had expired.
        let at = match value["rv"].as_i64() {
            Some(version @ 1..) => At::Exactly(version.unsigned_abs()),
            Some(..=-1) => At::Newest,
            Some(0) | None => {
                let why = "incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
                return Err(bad(why));
            }
        };
        let start = text(&value, "/start");
        if start.is_empty() {
            return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
        }
        let start = format!("{prefix}{start}");
        Ok(Self { at, start })
    }
}
