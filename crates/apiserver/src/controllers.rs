//! What runs beside the requests: namespaces get what belongs to them, what lost its owner goes, certificates are signed, pods get
//! the node.
//!
//! In:    every change of the store; a slow clock
//! Out:   objects made, marked and removed
//! Calls: [`ApiServer::run`], one task
//! Holds: every pass looks at what is there, so a lost or doubled change is harmless; a failed pass is tried again
//! Upstream: pkg/controller/{namespace,serviceaccount,garbagecollector,certificates}, pkg/scheduler (1.36); differences: one loop

pub(crate) mod binder;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::base::failure::Failure;
use crate::base::object;
use crate::base::user::User;
use crate::kinds::resources::RESOURCES;
use crate::store::{Event, TooOld, Watcher};
use crate::verbs::state::Inner;

mod bootstrap;
mod certificates;
mod events;
mod garbage;
mod namespaces;

pub(crate) use namespaces::change;

/// Between passes that no change asks for.
const SLOW: Duration = Duration::from_secs(30);
/// After a pass that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Who the controllers are.
pub(crate) fn controller() -> User {
    User::new("system:kube-controller-manager", &["system:masters"])
}

type Waiting = BoxFuture<'static, (Watcher, Result<Vec<Event>, TooOld>)>;

fn wait(mut watcher: Watcher) -> Waiting {
    Box::pin(async move {
        let events = watcher.next().await;
        (watcher, events)
    })
}

/// What is to be looked at.
#[derive(Default)]
struct Work {
    everything: bool,
    namespaces: BTreeSet<String>,
    /// UIDs of objects that went.
    gone: BTreeSet<String>,
    /// Keys of objects that name owners.
    owned: BTreeSet<String>,
    signing_requests: bool,
    pods_or_nodes: bool,
}

/// What passes know of the ones before.
#[derive(Default)]
struct Memory {
    ages: events::Ages,
    verdicts: certificates::Verdicts,
}

impl Work {
    fn note(&mut self, event: &Event) {
        let (namespace, name) = event.object.place();
        match event.object.storage() {
            "namespaces" => drop(self.namespaces.insert(name.to_owned())),
            "serviceaccounts" | "configmaps" => drop(self.namespaces.insert(namespace.to_owned())),
            "nodes" => {
                self.pods_or_nodes = true;
                // A serving certificate waits for the addresses.
                self.signing_requests = true;
            }
            // One that waits, and one that makes room; not each report of a running one.
            "pods" => {
                let ended = ["Succeeded", "Failed"].contains(&event.object.field("status.phase"));
                let waits = event.object.field("spec.nodeName").is_empty();
                self.pods_or_nodes |= waits || ended || event.removed;
            }
            storage if storage.starts_with("certificatesigningrequests") => {
                self.signing_requests = true;
            }
            // Renewed all the time, and nothing hangs on them.
            storage if storage.starts_with("leases") && !event.removed => return,
            "events" => return,
            _ => {}
        }
        if event.removed {
            self.gone
                .insert(object::uid(&event.object.value()).to_owned());
            if !namespace.is_empty() {
                self.namespaces.insert(namespace.to_owned());
            }
        } else if !event.object.owners.is_empty() || garbage::is_held(&event.object) {
            self.owned.insert(event.object.key.to_string());
        }
    }
}

/// Makes what every cluster has, then keeps order until it is dropped.
pub(crate) async fn run(server: &Arc<Inner>) {
    let mut memory = Memory::default();
    loop {
        // First where changes begin, then everything there is, so that nothing falls between.
        let store = &server.registry.store;
        let version = store.version();
        let mut storages: Vec<&str> = RESOURCES.iter().map(|row| row.storage).collect();
        storages.sort_unstable();
        storages.dedup();
        let watchers = storages.iter().filter(|storage| !storage.is_empty());
        let watchers: Result<Vec<Watcher>, TooOld> = watchers
            .map(|storage| store.watch(storage, version))
            .collect();
        let Ok(watchers) = watchers else { continue };
        let watchers = watchers.into_iter().map(wait).collect();
        follow(server, watchers, &mut memory).await;
    }
}

/// Runs until a watcher falls behind.
async fn follow(server: &Arc<Inner>, mut changes: FuturesUnordered<Waiting>, memory: &mut Memory) {
    let mut work = Work {
        everything: true,
        ..Work::default()
    };
    // Of the next pass, and of the next one over everything, which no change puts off.
    let (mut next, mut whole) = (Instant::now(), Instant::now() + SLOW);
    loop {
        tokio::select! {
            // Changes first, so that one pass sees as many as there are.
            biased;
            Some((watcher, events)) = changes.next() => {
                let Ok(events) = events else { return };
                events.iter().for_each(|event| work.note(event));
                changes.push(wait(watcher));
                next = Instant::now();
            }
            // There is no room for events: the oldest go now.
            () = server.event_room.is_short() => {
                if let Err(failure) = events::expire(server, &mut memory.ages).await {
                    tracing::warn!(why = failure.message, "Old events could not be removed, it is tried again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            () = tokio::time::sleep_until(next) => {
                work.everything |= Instant::now() >= whole;
                let now = std::mem::take(&mut work);
                if now.everything {
                    whole = Instant::now() + SLOW;
                }
                next = whole;
                if let Err(failure) = pass(server, &now, memory).await {
                    tracing::warn!(why = failure.message, "A controller's pass failed, it is tried again");
                    work.everything = true;
                    next = Instant::now() + AGAIN;
                }
            }
        }
    }
}

/// Every part gets its turn, whatever became of the others; the first failure is told.
async fn pass(server: &Arc<Inner>, work: &Work, memory: &mut Memory) -> Result<(), Failure> {
    let mut done = Ok(());
    if work.everything {
        done = bootstrap::run(server).await;
        if done.is_ok() {
            server.begun.store(true, Ordering::Relaxed);
        }
        done = done.and(events::expire(server, &mut memory.ages).await);
    }
    let names = (!work.everything).then_some(&work.namespaces);
    done = done.and(namespaces::run(server, names).await);
    done = done.and(garbage::run(server, work.everything, &work.gone, &work.owned).await);
    if work.everything || work.signing_requests {
        done = done.and(certificates::run(server, &mut memory.verdicts).await);
    }
    if work.everything || work.pods_or_nodes {
        done = done.and(binder::run(server).await);
    }
    done
}
