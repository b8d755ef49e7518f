//! A watch on pods, held open in a thread of its own: what the API server tells, with the time at which it came.
//!
//! In:    a connection to the API server
//! Out:   for named pods the first event of a kind, and when it was there to be read
//! Calls: api_pods, api_burst, api_exits, api_memory
//! Holds: an event's time is taken before it is parsed; a watch that ended is an error for whoever waits
//! Upstream: none

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::bail;
use serde_json::Value;

use crate::clock;
use crate::http::{Http, Lines};
use crate::kubelet::{is_ready, text_at};

const PODS: &str = "/api/v1/namespaces/default/pods?watch=true";

/// What was told.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// When it had come, in seconds since 1970.
    pub(crate) at: f64,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(crate) kind: String,
    pub(crate) pod: Value,
}

impl Event {
    /// Whether the pod is there and Ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.kind != "DELETED" && is_ready(&self.pod)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.kind == "DELETED"
    }

    pub(crate) fn has_failed(&self) -> bool {
        text_at(&self.pod, "/status/phase") == "Failed"
    }

    /// Failed, and its sandbox is down.
    pub(crate) fn is_torn_down(&self) -> bool {
        let conditions = self.pod.pointer("/status/conditions");
        let mut conditions = conditions.and_then(Value::as_array).into_iter().flatten();
        let is_down = |condition: &Value| {
            text_at(condition, "/type") == "PodReadyToStartContainers"
                && text_at(condition, "/status") == "False"
        };
        self.has_failed() && conditions.any(is_down)
    }
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    /// Why there will be no more.
    ended: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    news: Condvar,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, lines: &mut Lines) {
        let ended = loop {
            let line = lines.line();
            let at = clock::now();
            match line.map(|line| line.map(|line| serde_json::from_slice::<Value>(&line))) {
                Ok(Some(Ok(mut told))) => {
                    let kind = text_at(&told, "/type");
                    let pod = told.get_mut("object").map(Value::take);
                    let pod = pod.unwrap_or_default();
                    self.seen().events.push(Event { at, kind, pod });
                    self.news.notify_all();
                }
                Ok(Some(Err(error))) => break error.to_string(),
                Ok(None) => break "the watch was closed".to_owned(),
                Err(error) => break format!("{error:#}"),
            }
        };
        self.seen().ended = Some(ended);
        self.news.notify_all();
    }
}

/// An open watch; it is closed with this value.
#[derive(Debug)]
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    socket: TcpStream,
}

impl Watcher {
    /// Opens a watch on the pods of `default`; what is there already is told first.
    pub(crate) fn open(http: &Http) -> anyhow::Result<Self> {
        let mut lines = http.watch(PODS)?;
        let watcher = Self {
            shared: Arc::default(),
            socket: lines.socket()?,
        };
        let shared = Arc::clone(&watcher.shared);
        std::thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || shared.read(&mut lines))?;
        Ok(watcher)
    }

    /// Forgets what was told so far.
    pub(crate) fn forget(&self) {
        self.shared.seen().events.clear();
    }

    /// Waits until every one of these pods had an event as wanted: the first such event of each.
    pub(crate) fn wait(
        &self,
        what: &str,
        names: &[String],
        limit_s: f64,
        wanted: impl Fn(&Event) -> bool,
    ) -> anyhow::Result<BTreeMap<String, Event>> {
        let begin = clock::now();
        let (mut found, mut looked) = (BTreeMap::new(), 0);
        let mut seen = self.shared.seen();
        loop {
            for event in seen.events.get(looked..).unwrap_or_default() {
                let name = text_at(&event.pod, "/metadata/name");
                if names.contains(&name) && !found.contains_key(&name) && wanted(event) {
                    found.insert(name, event.clone());
                }
            }
            looked = seen.events.len();
            let left = begin + limit_s - clock::now();
            match &seen.ended {
                _ if found.len() == names.len() => return Ok(found),
                Some(why) => bail!("{why}; waited for: {what}"),
                None if left <= 0.0 => bail!(
                    "not within {limit_s} s: {what}; {} of {} came",
                    found.len(),
                    names.len()
                ),
                None => {}
            }
            let rested = self
                .shared
                .news
                .wait_timeout(seen, Duration::from_secs_f64(left));
            seen = rested.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The thread reads the end and ends itself; a socket that is closed already needs nothing.
        let _closed = self.socket.shutdown(Shutdown::Both);
    }
}
