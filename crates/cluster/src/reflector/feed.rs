//! One list, one watch: the requests, the pages, the lines.
//!
//! In:    path and selectors; a resource version
//! Out:   a whole set with its version; events one by one
//! Calls: reflector
//! Holds: a line has at most 32 MiB; half a line is no event; a watch ends some time after the limit it asked for, even if the
//!        server does not end it; a set has limits in pages, objects, bytes and time, and an error beyond them names the set
//! Upstream: client-go/tools/cache (reflector.go), client-go/tools/pager; apimachinery/pkg/watch (StreamWatcher)

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Bytes;
use kubelet_model::error_text::error_text;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::client::{Call, Client, LaneKind, Opened};
use crate::error::{ClusterError, Refusal};
use crate::objects_api::{Object, collection, encoded};
use kubelet_model::dice::Dice;

use super::{Selection, Sets};

/// Objects per page.
const PAGE: u32 = 500;
/// One page, head and body.
const LIST_DEADLINE: Duration = Duration::from_secs(60);
/// Until a watch answers at all.
const WATCH_HEAD: Duration = Duration::from_secs(30);
/// A watch is asked for between this and twice this.
const WATCH: Duration = Duration::from_secs(300);
/// And given up when it is not ended this long after.
const WATCH_GRACE: Duration = Duration::from_secs(30);
/// Until a streamed set begins: one that does not is listed.
const STREAM_HEAD: Duration = Duration::from_secs(15);
/// While the first set streams in, something comes at least so often: a server that ignores the options never ends the first set.
const STREAM_STALL: Duration = Duration::from_secs(10);
/// And the whole of it comes within this: as long as one page may take.
const STREAM_WHOLE: Duration = Duration::from_secs(60);
/// All pages of a list together.
const LIST_WHOLE: Duration = Duration::from_secs(600);
const MAX_LINE: usize = 32 << 20;
/// One object: far above what any server stores.
const MAX_OBJECT: usize = MAX_LINE;
/// Pages of one list; the server chooses how long they are.
const MAX_PAGES: usize = 2000;
/// Objects of one set, and their bytes: far above what one node has to do with.
const MAX_OBJECTS: usize = 200_000;
const MAX_SET: usize = 256 << 20;
/// A bookmark with this annotation ends the first set.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A whole set.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) version: String,
    pub(super) objects: Vec<Box<RawValue>>,
}

/// What happened to one object; its text.
#[derive(Debug)]
pub(super) enum WatchChange {
    Applied(Box<RawValue>),
    Deleted(Box<RawValue>),
}

impl WatchChange {
    pub(super) fn object(&self) -> &RawValue {
        match self {
            Self::Applied(object) | Self::Deleted(object) => object,
        }
    }
}

/// One line.
#[derive(Debug)]
pub(super) enum Event {
    Changed(WatchChange),
    Bookmark(String),
}

/// Where lists and watches of one set go.
#[derive(Debug)]
pub(super) struct Feed {
    client: Client,
    kind: &'static str,
    path: String,
    selectors: String,
}

#[derive(Deserialize)]
struct ListPage {
    metadata: ListMetadata,
    #[serde(default)]
    items: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: Box<RawValue>,
}

#[derive(Deserialize)]
struct BookmarkObject {
    metadata: BookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

impl Feed {
    pub(super) fn new<T: Object>(client: Client, selection: Selection) -> Self {
        let mut selectors = String::new();
        for (name, value) in [
            ("fieldSelector", &selection.fields),
            ("labelSelector", &selection.labels),
        ] {
            if let Some(value) = value {
                selectors.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        Self {
            client,
            kind: T::KIND,
            path: collection::<T>(selection.namespace.as_deref()),
            selectors,
        }
    }

    pub(super) fn sets(&self) -> &Sets {
        self.client.sets()
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// The whole set by pages, all of one version; in one piece when that version ages away between pages, or the server does not do
    /// pages.
    pub(super) async fn pages(&self) -> Result<Listed, ClusterError> {
        let listed = tokio::time::timeout(LIST_WHOLE, async {
            match self.list(Some(PAGE)).await {
                Err(error) if error.is_expired() || matches!(error.code(), Some(400 | 422)) => {
                    self.list(None).await
                }
                listed => listed,
            }
        });
        listed.await.unwrap_or_else(|_| {
            let took = format!("it took more than {LIST_WHOLE:?}");
            Err(self.beyond("list", &took))
        })
    }

    async fn list(&self, limit: Option<u32>) -> Result<Listed, ClusterError> {
        let mut objects = Vec::new();
        let mut bounds = Bounds::default();
        let mut next: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let limit = limit
                .map(|limit| format!("&limit={limit}"))
                .unwrap_or_default();
            let from = next.map(|token| format!("&continue={}", encoded(&token)));
            let query = format!("{limit}{}{}", self.selectors, from.unwrap_or_default());
            let call = self.call("list", query.trim_start_matches('&'), LIST_DEADLINE);
            let answer = self.client.call(call).await?;
            let page: ListPage =
                serde_json::from_slice(&answer).map_err(|error| unreadable("list", &error))?;
            for object in page.items.unwrap_or_default() {
                let within = bounds.take(object.get().len());
                within.map_err(|why| self.beyond("list", &why))?;
                objects.push(object);
            }
            next = page.metadata.next.filter(|token| !token.is_empty());
            if next.is_none() {
                let version = page.metadata.resource_version;
                return Ok(Listed { version, objects });
            }
        }
        Err(self.beyond("list", &format!("it has more than {MAX_PAGES} pages")))
    }

    /// Whether a set may be so large.
    pub(super) fn may_hold(&self, objects: usize) -> Result<(), ClusterError> {
        if objects <= MAX_OBJECTS {
            return Ok(());
        }
        let many = format!("it has more than {MAX_OBJECTS} objects");
        Err(self.beyond("watch", &many))
    }

    fn beyond(&self, operation: &'static str, why: &str) -> ClusterError {
        ClusterError::Unreadable {
            operation,
            message: format!("the set of {} {}: {why}", self.kind, self.path),
        }
    }

    /// A watch of what happens after a version.
    pub(super) async fn watch(
        &self,
        version: &str,
        dice: &mut Dice,
    ) -> Result<Watching, ClusterError> {
        let from = format!("resourceVersion={}", encoded(version));
        self.open(&from, WATCH_HEAD, dice).await
    }

    /// The whole set as the beginning of a watch, and the watch. Without the feature the options are refused, or to an older server
    /// unknown: then it never ends.
    pub(super) async fn stream(&self, dice: &mut Dice) -> Result<(Listed, Watching), ClusterError> {
        let first = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=";
        let mut watching = self.open(first, STREAM_HEAD, dice).await?;
        let streamed = tokio::time::timeout(STREAM_WHOLE, self.first_set(&mut watching)).await;
        let listed = streamed.unwrap_or_else(|_| {
            let took = format!("it has no end after {STREAM_WHOLE:?}");
            Err(self.beyond("watch", &took))
        })?;
        Ok((listed, watching))
    }

    async fn first_set(&self, watching: &mut Watching) -> Result<Listed, ClusterError> {
        let mut objects = std::collections::BTreeMap::new();
        let mut bounds = Bounds::default();
        loop {
            let line = tokio::time::timeout(STREAM_STALL, watching.line()).await;
            let line = line.map_err(|_| {
                let stalls = format!("nothing came for {STREAM_STALL:?}, and no end of it before");
                self.beyond("watch", &stalls)
            })??;
            let Some(line) = line else {
                return Err(ClusterError::Lost {
                    operation: "watch",
                    message: "the watch ended within the first set".to_owned(),
                });
            };
            let within = bounds.take(line.object.get().len());
            within.map_err(|why| self.beyond("watch", &why))?;
            match line.kind.as_str() {
                "BOOKMARK" => {
                    let bookmark = bookmark(&line)?;
                    let annotations = bookmark.annotations.unwrap_or_default();
                    if annotations
                        .get(INITIAL_EVENTS_END)
                        .is_some_and(|end| end == "true")
                    {
                        return Ok(Listed {
                            version: bookmark.resource_version,
                            objects: objects.into_values().collect(),
                        });
                    }
                }
                "DELETED" => drop(objects.remove(&identity(&line.object))),
                "ADDED" | "MODIFIED" => {
                    drop(objects.insert(identity(&line.object), line.object));
                }
                _ => {}
            }
        }
    }

    async fn open(
        &self,
        from: &str,
        head: Duration,
        dice: &mut Dice,
    ) -> Result<Watching, ClusterError> {
        let limit = dice.jitter(WATCH, 1.0);
        let query = format!(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={}&{from}{}",
            limit.as_secs(),
            self.selectors
        );
        let call = self.call("watch", &query, head);
        Ok(Watching {
            opened: self.client.open(&call).await?,
            lines: Lines::default(),
            ends: Instant::now() + limit + WATCH_GRACE,
        })
    }

    fn call(&self, operation: &'static str, query: &str, deadline: Duration) -> Call {
        Call {
            operation,
            lane: LaneKind::Watches,
            method: Method::GET,
            path: format!("{}?{query}", self.path),
            content_type: "application/json",
            body: Bytes::new(),
            deadline,
        }
    }
}

/// An open watch.
#[derive(Debug)]
pub(super) struct Watching {
    opened: Opened,
    lines: Lines,
    ends: Instant,
}

impl Watching {
    /// The next event; `None` when the server ended the watch, or it has to begin anew with another certificate.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, ClusterError> {
        loop {
            let Some(line) = self.line().await? else {
                return Ok(None);
            };
            return Ok(Some(match line.kind.as_str() {
                "BOOKMARK" => Event::Bookmark(bookmark(&line)?.resource_version),
                "DELETED" => Event::Changed(WatchChange::Deleted(line.object)),
                "ADDED" | "MODIFIED" => Event::Changed(WatchChange::Applied(line.object)),
                other => {
                    tracing::debug!(other, "An event of a watch is of no known type");
                    continue;
                }
            }));
        }
    }

    async fn line(&mut self) -> Result<Option<Line>, ClusterError> {
        loop {
            if let Some(text) = self.lines.next() {
                return line(&text).map(Some);
            }
            let frame = tokio::select! {
                biased;
                // Cancel: what is half read of a line is dropped with the watch, which is resumed after its last whole line.
                () = self.opened.left.cancelled() => return Ok(None),
                () = tokio::time::sleep_until(self.ends) => return Ok(None),
                frame = self.opened.body.frame() => frame,
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(ClusterError::Lost {
                        operation: "watch",
                        message: error_text(&error),
                    });
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.add(&data)?;
                    }
                }
            }
        }
    }
}

/// What one set may still bring.
#[derive(Debug, Default)]
struct Bounds {
    objects: usize,
    bytes: usize,
}

impl Bounds {
    /// Counts one object; says what it is too much of.
    fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if bytes > MAX_OBJECT {
            return Err(format!("an object has more than {MAX_OBJECT} bytes"));
        }
        if self.objects > MAX_OBJECTS {
            return Err(format!("it has more than {MAX_OBJECTS} objects"));
        }
        if self.bytes > MAX_SET {
            return Err(format!("it has more than {MAX_SET} bytes"));
        }
        Ok(())
    }
}

/// Cuts a stream of bytes at its line ends.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    /// How far there is surely no line end.
    searched: usize,
}

impl Lines {
    fn add(&mut self, data: &[u8]) -> Result<(), ClusterError> {
        if self.bytes.len() + data.len() > MAX_LINE {
            return Err(ClusterError::TooLong {
                operation: "watch",
                limit: MAX_LINE,
            });
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let rest = self.bytes.get(self.searched..)?;
        let Some(at) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return None;
        };
        let tail = self.bytes.split_off(self.searched + at + 1);
        let line = std::mem::replace(&mut self.bytes, tail);
        self.searched = 0;
        Some(line)
    }
}

fn line(text: &[u8]) -> Result<Line, ClusterError> {
    let line: Line = serde_json::from_slice(text).map_err(|error| unreadable("watch", &error))?;
    if line.kind == "ERROR" {
        let refusal = Refusal::of_body(0, None, line.object.get().as_bytes());
        return Err(ClusterError::Refused {
            operation: "watch",
            refusal: Box::new(refusal),
        });
    }
    Ok(line)
}

fn bookmark(line: &Line) -> Result<BookmarkMetadata, ClusterError> {
    let object: BookmarkObject =
        serde_json::from_str(line.object.get()).map_err(|error| unreadable("watch", &error))?;
    Ok(object.metadata)
}

/// Namespace and name, to let a later event of the first set replace an earlier one.
fn identity(object: &RawValue) -> (String, String) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Head {
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Metadata {
        namespace: String,
        name: String,
    }
    let head: Head = serde_json::from_str(object.get()).unwrap_or_default();
    (head.metadata.namespace, head.metadata.name)
}

fn unreadable(operation: &'static str, error: &serde_json::Error) -> ClusterError {
    ClusterError::Unreadable {
        operation,
        message: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_bounds_in_objects_bytes_and_bytes_of_one_object() {
        let mut bounds = Bounds::default();
        assert!((0..MAX_OBJECTS).all(|_| bounds.take(100).is_ok()));
        let why = bounds.take(100).unwrap_err();
        assert_eq!(why, "it has more than 200000 objects");
        let mut bounds = Bounds::default();
        assert!((0..8).all(|_| bounds.take(MAX_OBJECT).is_ok()));
        assert_eq!(
            bounds.take(1).unwrap_err(),
            "it has more than 268435456 bytes"
        );
        let why = Bounds::default().take(MAX_OBJECT + 1).unwrap_err();
        assert_eq!(why, "an object has more than 33554432 bytes");
    }
}
