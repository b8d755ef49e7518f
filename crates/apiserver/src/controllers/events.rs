//! Deletes events an hour after their last write, and earlier if there are too many.
//!
//! In:    the events in the store; when each version was written
//! Out:   old events are deleted; writes of events are refused while there is no room
//! Calls: `controllers`; `verbs` before and after an event is written
//! Holds: only the server knows when an event was written: timestamps in an event do not extend its life, steps of the wall
//!        clock do not change it; all events together are limited in number and bytes, whoever sends them
//! Upstream: `--event-ttl`, an etcd lease that each write of an event renews (1.36); differences: upstream limits the number
//!           only by the admission plugin EventRateLimit

use std::collections::VecDeque;
use std::sync::Arc;

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::base::failure::Failure;
use crate::base::object::{parse_time, text};
use crate::kinds::resources::{Resource, by_storage};
use crate::registry::event_room::{MOST, MOST_BYTES};
use crate::registry::{DeleteOptions, ObjectPath};
use crate::store::Object;
use crate::verbs::state::Inner;

/// Upstream's `--event-ttl`.
const LIFE: Duration = Duration::from_secs(3600);
/// Deletions at a time; they share the store's syncs.
const REMOVALS: usize = 64;

/// The state of the store at one time.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// On the steady clock, by which events age.
    at: Instant,
    /// On the wall clock, which the timestamps in events refer to.
    wall: Timestamp,
    /// The store's version at that time.
    version: u64,
}

/// Upper bounds for the write times of versions: a version was written before the first look that contains it.
#[derive(Debug, Default)]
pub(super) struct Ages(VecDeque<Look>);

impl Ages {
    fn look(&mut self, now: Look) {
        if self.0.back().is_none_or(|last| last.version < now.version) {
            self.0.push_back(now);
        }
        // A look that is older than the life of an event makes all looks before it unnecessary.
        let is_old = |look: &Look| now.at.saturating_duration_since(look.at) > LIFE;
        while self.0.get(1).is_some_and(is_old) {
            self.0.pop_front();
        }
    }

    /// The minimum age of an event.
    fn age(&self, event: &Object, now: Instant) -> Duration {
        let after = self.0.partition_point(|look| look.version < event.version);
        let Some(look) = self.0.get(after) else {
            return Duration::ZERO;
        };
        let since = now.saturating_duration_since(look.at);
        if after > 0 {
            return since;
        }
        // Written before the first look: its timestamps count, unless they were in the future then.
        let value = event.value();
        let times = [
            "/metadata/creationTimestamp",
            "/lastTimestamp",
            "/series/lastObservedTime",
        ];
        let said = times.iter().filter_map(|p| parse_time(text(&value, p)));
        let past = said.filter(|at| *at <= look.wall).max();
        let before = past.map_or(Duration::ZERO, |at| {
            Duration::try_from(look.wall.duration_since(at)).unwrap_or_default()
        });
        since.saturating_add(before)
    }
}

/// Deletes old events, and the oldest ones beyond the limits.
pub(super) async fn expire(server: &Inner, ages: &mut Ages) -> Result<(), Failure> {
    let Some(resource) = by_storage("events") else {
        return Ok(());
    };
    let snapshot = server.registry.store.list("events/");
    let now = Instant::now();
    ages.look(Look {
        at: now,
        wall: server.registry.now(),
        version: snapshot.version,
    });
    let mut events = snapshot.objects;
    server.event_room.counted(&events);
    events.sort_unstable_by_key(|event| event.version);
    let (mut held, mut bytes) = (
        events.len(),
        events.iter().map(|event| event.bytes.len()).sum::<usize>(),
    );
    let is_short = held > MOST / 8 * 7 || bytes > MOST_BYTES / 8 * 7;
    let mut leaving = Vec::new();
    for event in &events {
        let is_too_many = is_short && (held > MOST / 4 * 3 || bytes > MOST_BYTES / 4 * 3);
        if is_too_many || ages.age(event, now) > LIFE {
            held -= 1;
            bytes -= event.bytes.len();
            leaving.push(event);
        }
    }
    let leaving: Vec<Arc<Object>> = leaving.into_iter().cloned().collect();
    let removals: Vec<BoxFuture<'_, _>> = leaving
        .into_iter()
        .map(|event| remove(server, resource, event).boxed())
        .collect();
    let done: Vec<_> = stream::iter(removals)
        .buffer_unordered(REMOVALS)
        .collect()
        .await;
    server
        .event_room
        .counted(&server.registry.store.list("events/").objects);
    done.into_iter().collect()
}

async fn remove(
    server: &Inner,
    resource: &'static Resource,
    event: Arc<Object>,
) -> Result<(), Failure> {
    let (namespace, name) = event.place();
    let place = ObjectPath {
        resource,
        namespace,
        name,
    };
    let options = DeleteOptions::default();
    match server.registry.delete(place, &options).await {
        Err(failure) if failure.code != 404 => Err(failure),
        _ => Ok(()),
    }
}
