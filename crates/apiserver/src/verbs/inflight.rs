//! Limits requests in flight, separately for reads, writes and streams.
//!
//! In:    the user, and whether the request reads, changes or streams
//! Out:   a place, held until the response is sent; or none
//! Calls: `http`, per request on a resource
//! Holds: administrators always get a place; no other user gets more than three quarters of the long-running ones
//! Upstream: staging/src/k8s.io/apiserver/pkg/server/filters/maxinflight.go (1.36),
//!           genericfilters.BasicLongRunningRequestCheck; differences: long-running requests have a limit, too

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::user::User;
use crate::request::path::Target;

/// The limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `--max-requests-inflight`: requests that change nothing; 0 means no limit.
    pub reading: usize,
    /// `--max-mutating-requests-inflight`: requests that change something; 0 means no limit.
    pub changing: usize,
    /// Watches, logs, and streams to containers.
    pub staying: usize,
    /// Those of them that are proxied to a kubelet.
    pub proxied: usize,
    /// `--http2-max-streams-per-connection`.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reading: 400,
            changing: 200,
            staying: 4096,
            proxied: 512,
            streams: 100,
        }
    }
}

/// The class of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Reading,
    Changing,
    Staying,
}

impl Class {
    pub(crate) fn of(target: &Target, verb: &str) -> Self {
        let sub = target.subresource.map_or("", |sub| sub.name);
        let stays = ["attach", "exec", "log", "portforward", "proxy"].contains(&sub);
        match verb {
            "watch" => Self::Staying,
            _ if stays => Self::Staying,
            "get" | "list" => Self::Reading,
            _ => Self::Changing,
        }
    }
}

/// The running requests.
#[derive(Debug)]
pub(crate) struct InFlight {
    limits: Limits,
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    reading: usize,
    changing: usize,
    staying: usize,
    staying_of: BTreeMap<String, usize>,
}

/// Counts until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightRequest {
    class: Class,
    user: String,
    running: Arc<Mutex<Running>>,
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InFlight {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            running: Arc::default(),
        }
    }

    /// The number of running reads and of running writes.
    pub(crate) fn running(&self) -> (usize, usize) {
        let running = lock(&self.running);
        (running.reading, running.changing)
    }

    /// The number of running streams.
    #[cfg(test)]
    pub(crate) fn staying(&self) -> usize {
        lock(&self.running).staying
    }

    /// A place, or `None` if all are taken. In that case an administrator gets one that is not counted.
    pub(crate) fn begin(&self, class: Class, user: &User) -> Option<Option<InFlightRequest>> {
        let mut running = lock(&self.running);
        let limits = &self.limits;
        let is_free = |count: usize, limit: usize| limit == 0 || count < limit;
        let own = running.staying_of.get(&user.name).copied().unwrap_or(0);
        let is_free = match class {
            Class::Reading => is_free(running.reading, limits.reading),
            Class::Changing => is_free(running.changing, limits.changing),
            Class::Staying => {
                is_free(running.staying, limits.staying) && is_free(own, limits.staying * 3 / 4)
            }
        };
        if !is_free {
            return user.is_in("system:masters").then_some(None);
        }
        match class {
            Class::Reading => running.reading += 1,
            Class::Changing => running.changing += 1,
            Class::Staying => {
                running.staying += 1;
                *running.staying_of.entry(user.name.clone()).or_default() += 1;
            }
        }
        Some(Some(InFlightRequest {
            class,
            user: user.name.clone(),
            running: Arc::clone(&self.running),
        }))
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        match self.class {
            Class::Reading => running.reading -= 1,
            Class::Changing => running.changing -= 1,
            Class::Staying => {
                running.staying -= 1;
                if let Some(own) = running.staying_of.get_mut(&self.user) {
                    *own -= 1;
                    if *own == 0 {
                        running.staying_of.remove(&self.user);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_class_and_administrators_always_find_one() {
        let limits = Limits {
            reading: 2,
            changing: 1,
            staying: 4,
            proxied: 4,
            streams: 100,
        };
        let flight = InFlight::new(limits);
        let (jane, node) = (User::new("jane", &[]), User::node("n"));
        for (class, own, others) in [
            (Class::Reading, 2, 0),
            (Class::Changing, 1, 0),
            (Class::Staying, 3, 1),
        ] {
            let mut held: Vec<Option<InFlightRequest>> = Vec::new();
            for _ in 0..own {
                held.push(flight.begin(class, &jane).unwrap());
            }
            assert!(flight.begin(class, &jane).is_none(), "{class:?}");
            for _ in 0..others {
                held.push(flight.begin(class, &node).unwrap());
            }
            assert!(flight.begin(class, &node).is_none(), "{class:?}");
            assert!(flight.begin(class, &User::admin()).unwrap().is_none());
            held.pop();
            assert!(flight.begin(class, &node).unwrap().is_some(), "{class:?}");
        }
        assert!(lock(&flight.running).staying_of.is_empty());
    }
}
