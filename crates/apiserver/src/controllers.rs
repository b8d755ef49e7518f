//! The controllers that run beside the requests: namespaces, garbage collection, CSR signing, the binding of pods to the node,
//! event expiry.
//!
//! In:    every change of the store; a slow timer
//! Out:   objects that are created, changed and deleted
//! Calls: [`ApiServer::run`], one task
//! Holds: each pass reads the current state, so a lost or repeated change does no harm; a failed pass is retried
//! Upstream: pkg/controller/{namespace,serviceaccount,garbagecollector,certificates}, pkg/scheduler (1.36); differences: one
//!           loop

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

/// The interval between passes when nothing changes.
const SLOW: Duration = Duration::from_secs(30);
/// The delay after a failed pass.
const AGAIN: Duration = Duration::from_secs(1);

/// The user as whom the controllers write.
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

/// What the next pass has to look at.
#[derive(Default)]
struct Work {
    everything: bool,
    namespaces: BTreeSet<String>,
    /// UIDs of deleted objects.
    gone: BTreeSet<String>,
    /// Keys of objects that have owner references.
    owned: BTreeSet<String>,
    signing_requests: bool,
    pods_or_nodes: bool,
}

/// What a pass remembers for the next one.
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
                // A CSR for a serving certificate may wait for the Node's addresses.
                self.signing_requests = true;
            }
            // A pod that waits for a node, and a pod that frees resources; not every status update of a running pod.
            "pods" => {
                let ended = ["Succeeded", "Failed"].contains(&event.object.field("status.phase"));
                let waits = event.object.field("spec.nodeName").is_empty();
                self.pods_or_nodes |= waits || ended || event.removed;
            }
            storage if storage.starts_with("certificatesigningrequests") => {
                self.signing_requests = true;
            }
            // Leases are renewed all the time, and nothing depends on them.
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

/// Creates the objects that every cluster has, then runs the controllers until the future is dropped.
pub(crate) async fn run(server: &Arc<Inner>) {
    let mut memory = Memory::default();
    loop {
        // Start the watches first, then read everything, so that no change is missed.
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

/// Runs passes until a watcher falls behind.
async fn follow(server: &Arc<Inner>, mut changes: FuturesUnordered<Waiting>, memory: &mut Memory) {
    let mut work = Work {
        everything: true,
        ..Work::default()
    };
    // The time of the next pass, and of the next pass over everything, which changes do not postpone.
    let (mut next, mut whole) = (Instant::now(), Instant::now() + SLOW);
    loop {
        tokio::select! {
            // Changes first, so that one pass handles as many as there are.
            biased;
            Some((watcher, events)) = changes.next() => {
                let Ok(events) = events else { return };
                events.iter().for_each(|event| work.note(event));
                changes.push(wait(watcher));
                next = Instant::now();
            }
            // The limit for events is reached: delete the oldest now.
            () = server.event_room.is_short() => {
                if let Err(failure) = events::expire(server, &mut memory.ages).await {
                    tracing::warn!(why = failure.message, "Old events could not be deleted; retrying");
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
                    tracing::warn!(why = failure.message, "A controller's pass failed; retrying");
                    work.everything = true;
                    next = Instant::now() + AGAIN;
                }
            }
        }
    }
}

/// Every controller runs, even if another one fails; the first error is returned.
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
