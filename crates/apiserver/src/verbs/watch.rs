//! Watches: the existing objects, then every change, then bookmarks.
//!
//! In:    selectors, `resourceVersion`, `allowWatchBookmarks`, `sendInitialEvents`, `timeoutSeconds`
//! Out:   [`Watch`], whose `next` returns the lines of the stream
//! Calls: `verbs`; `http` streams it
//! Holds: lines are made only when they are read, so an unread watch holds one line, or 64 KiB of objects that have to be
//!        converted (on a thread if that takes long); each change is sent once, in the order of versions, and in terms of the
//!        selector: an object that starts to match is ADDED, one that stops to match is DELETED; a client that is too slow gets
//!        410 as the last event; a watch ends when its caller's credential expires
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/watch.go, pkg/storage/cacher/cache_watcher.go (1.36);
//!           differences: see `store`

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Call, Reply};
use crate::base::clock::Now;
use crate::base::failure::Failure;
use crate::base::pace::SLICE;
use crate::kinds::resources::Resource;
use crate::kinds::selectors::Selection;
use crate::request::form::{Form, bytes};
use crate::request::options::watch_version;
use crate::store::{Event, Object, TooOld, Watcher};
use crate::verbs::heavy;
use crate::verbs::state::Inner;

/// The interval of bookmarks when nothing else is sent.
const BOOKMARK: Duration = Duration::from_secs(60);
/// The shortest life of a watch without a timeout. It lasts up to twice as long, so that watches do not end all at once.
const SHORTEST_SECONDS: u64 = 1800;
/// The longest timeout that is accepted; no connection lives that long.
const LONGEST_SECONDS: u64 = 365 * 24 * 3600;

/// Objects and changes that are scanned without a pause.
const SCANNED: usize = 512;

/// A running watch.
pub(crate) struct Watch {
    resource: &'static Resource,
    prefix: String,
    selection: Selection,
    form: Form,
    bookmarks: bool,
    /// Objects of the beginning that have not been sent.
    initial: std::vec::IntoIter<Arc<Object>>,
    /// Whether the bookmark after them is due.
    initial_end: bool,
    pending: VecDeque<Event>,
    /// The lines that are being rendered.
    showing: Option<BoxFuture<'static, Option<Vec<Bytes>>>>,
    turns: Arc<Semaphore>,
    /// The rendered lines.
    ready: VecDeque<Bytes>,
    watcher: Watcher,
    /// True until the table columns have been sent.
    headers: bool,
    ends: Instant,
    next_bookmark: Instant,
    ended: bool,
    now: Now,
}

/// What there is to send.
enum Next {
    /// Rendering has started.
    Told,
    /// No match among the scanned events, and there are more.
    More,
    Nothing,
}

pub(crate) fn watch(server: &Inner, call: &Call<'_>) -> Result<Reply, Failure> {
    let resource = call.target.resource;
    let store = &server.registry.store;
    let namespace = Some(&*call.target.namespace).filter(|namespace| !namespace.is_empty());
    let prefix = resource.prefix(namespace);
    let (form, options) = (call.form()?, call.list_options()?);
    let wanted = watch_version(resource, &options.version)?;
    if wanted > store.version() {
        return Err(Failure::too_large_version(wanted, store.version()));
    }
    let initial = options.initial.unwrap_or(false);
    let snapshot = store.list(&prefix);
    let from = if initial { snapshot.version } else { wanted };
    let from = if from == 0 { snapshot.version } else { from };
    let watcher = store
        .watch(resource.storage, from)
        .map_err(|TooOld { oldest }| Failure::too_old(from, oldest))?;
    let now = Instant::now();
    let seconds = match options.seconds {
        0 => SHORTEST_SECONDS + server.registry.chance.bits() % SHORTEST_SECONDS,
        seconds => seconds.min(LONGEST_SECONDS),
    };
    let left = call.time_left(server.registry.now());
    let seconds = left.map_or(seconds, |left| left.as_secs().min(seconds));
    let objects = if initial {
        snapshot.objects
    } else {
        Vec::new()
    };
    let watch = Watch {
        resource,
        prefix,
        selection: options.selection,
        form,
        bookmarks: options.bookmarks,
        initial: objects.into_iter(),
        initial_end: initial && options.bookmarks,
        pending: VecDeque::new(),
        showing: None,
        turns: Arc::clone(server.turns.of("watch")),
        ready: VecDeque::new(),
        watcher,
        headers: matches!(form, Form::Table(_)),
        ends: now + Duration::from_secs(seconds),
        next_bookmark: now + BOOKMARK,
        ended: false,
        now: Arc::clone(&server.registry.now),
    };
    Ok(Reply::Watch(Box::new(watch)))
}

impl Watch {
    /// The next line; `None` at the end. Cancel: loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            if let Some(showing) = &mut self.showing {
                match showing.await {
                    Some(lines) => self.ready.extend(lines),
                    // Rendering panicked: nothing after the missing lines may be sent.
                    None => self.ended = true,
                }
                self.showing = None;
                continue;
            }
            match self.tell_next() {
                Next::Told => continue,
                Next::More => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::Nothing => {}
            }
            let bookmark = self.next_bookmark.min(self.ends);
            tokio::select! {
                // Changes first, the timer only if there are none.
                biased;
                events = self.watcher.next() => match events {
                    Ok(events) => self.pending = events.into(),
                    Err(TooOld { oldest }) => {
                        let failure = Failure::too_old(self.watcher.seen(), oldest);
                        self.ready
                            .push_back(line("ERROR", &bytes(&failure.status())));
                        self.ended = true;
                    }
                },
                () = tokio::time::sleep_until(bookmark) => self.on_time(),
            }
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if now >= self.ends {
            self.ended = true;
        }
        if self.bookmarks {
            // Reports how far the watch has come, so that the client can resume from there.
            self.bookmark(false);
        }
        self.next_bookmark = now + BOOKMARK;
    }

    /// Starts to render the next lines, if there are any.
    fn tell_next(&mut self) -> Next {
        let (mut due, mut size) = (Vec::new(), 0);
        for _ in 0..SCANNED {
            let told = if let Some(object) = self.initial.next() {
                let matches = self.selection.matches(&object);
                matches.then_some(("ADDED", object))
            } else if self.initial_end {
                break;
            } else if let Some(event) = self.pending.pop_front() {
                self.kind_of(&event).map(|kind| (kind, event.object))
            } else {
                break;
            };
            if let Some((kind, object)) = told {
                size += object.bytes.len();
                due.push((kind, object));
                // Objects that are sent as they are stored go one by one.
                if !self.form.reads(self.resource) || size >= SLICE {
                    break;
                }
            }
        }
        if !due.is_empty() {
            self.show(due, size);
            return Next::Told;
        }
        if self.initial.len() > 0 {
            return Next::More;
        }
        if std::mem::take(&mut self.initial_end) {
            self.bookmark(true);
            return Next::Told;
        }
        match self.pending.is_empty() {
            true => Next::Nothing,
            false => Next::More,
        }
    }

    /// The event type of a change in terms of the selector.
    fn kind_of(&self, event: &Event) -> Option<&'static str> {
        if !event.object.key.starts_with(&self.prefix) {
            return None;
        }
        let matched = event
            .before
            .as_ref()
            .is_some_and(|b| self.selection.matches(b));
        let matches = !event.removed && self.selection.matches(&event.object);
        match (matched, matches) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        }
    }

    fn show(&mut self, due: Vec<(&'static str, Arc<Object>)>, size: usize) {
        let (form, resource): (_, &'static Resource) = (self.form, self.resource);
        let now: Timestamp = (self.now)();
        let mut headers = std::mem::take(&mut self.headers);
        let turns = Arc::clone(&self.turns);
        let size = if form.reads(resource) { size } else { 0 };
        let show = move || {
            let lines = due.into_iter().map(|(kind, object)| {
                let mut shown = form.object(resource, &object, now);
                if let Form::Table(_) = form
                    && !std::mem::take(&mut headers)
                    && let Ok(mut table) = crate::base::bounds::read_kept(&shown)
                {
                    table["columnDefinitions"] = Value::Null;
                    shown = bytes(&table);
                }
                line(kind, &shown)
            });
            lines.collect()
        };
        let showing = async move { heavy::shown(&turns, size, show).await };
        self.showing = Some(Box::pin(showing));
    }

    fn bookmark(&mut self, initial_end: bool) {
        let version = self.watcher.seen();
        let shown = self.form.bookmark(self.resource, version, initial_end);
        self.ready.push_back(line("BOOKMARK", &shown));
    }
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
