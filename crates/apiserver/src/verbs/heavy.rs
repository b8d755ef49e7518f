//! Runs requests with much computation on threads of their own, so that other requests are answered meanwhile.
//!
//! In:    a request whose body has been read
//! Out:   its response
//! Calls: `http`, for every request on objects; `verbs`, for objects of a watch or a list that have to be converted
//! Holds: the computation of one request is limited by `bounds` and `patch`; only a few long lists and a few long writes
//!        compute at a time; a request that waits for the disk holds neither turn nor thread; waiting for a turn counts against
//!        the request's time limit; a short request never leaves the server's thread, so that simulations stay deterministic
//! Upstream: none; Go's goroutines are preempted

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore};

use crate::base::failure::Failure;
use crate::base::pace::SLICE;
use crate::verbs::state::Inner;
use crate::verbs::{self, Call, Reply};

/// Bytes of a body, or of the object that it changes, that take at most a millisecond.
const LIGHT: usize = 16 << 10;
/// Objects of a list that are rendered quickly in any form.
const FEW: usize = 200;

/// Whether a request may compute for long.
fn is_heavy(server: &Inner, call: &Call<'_>) -> bool {
    let store = &server.registry.store;
    let resource = call.target.resource;
    // Returned in another form than it is stored in.
    let is_read = || call.accept.contains("as=") || resource.strategy.convert.is_some();
    match call.verb {
        // A watch renders only a few objects at a time. A proxied request takes no time here, and its connection stays in this
        // task.
        "watch" => false,
        "get" if !is_read() => false,
        "get" => {
            let found = store.get(&call.place().key());
            let is_own = call
                .target
                .subresource
                .is_none_or(|sub| sub.name == "status");
            is_own && found.is_some_and(|found| found.bytes.len() > LIGHT)
        }
        "list" if !is_read() => false,
        "list" => {
            let namespace = Some(&*call.target.namespace).filter(|namespace| !namespace.is_empty());
            let objects = store.list(&resource.prefix(namespace)).objects;
            let mut bytes = objects.iter().map(|object| object.bytes.len());
            objects.len() > FEW
                || bytes
                    .try_fold(SLICE, |left, size| left.checked_sub(size))
                    .is_none()
        }
        _ if call
            .target
            .subresource
            .is_some_and(|sub| sub.name == "proxy") =>
        {
            false
        }
        // A few bytes of a JSON patch can create megabytes.
        "patch" if call.content_type.starts_with("application/json-patch") => true,
        "patch" | "update" => {
            let found = store.get(&call.place().key());
            call.body
                .len()
                .max(found.map_or(0, |found| found.bytes.len()))
                > LIGHT
        }
        _ => call.body.len() > LIGHT,
    }
}

/// Carries out the request, here or on a thread.
pub(crate) async fn serve(server: &Arc<Inner>, call: Call<'_>) -> Result<Reply, Failure> {
    if !is_heavy(server, &call) {
        return verbs::serve(server, &call).await;
    }
    let turns = Arc::clone(server.turns.of(call.verb));
    let server = Arc::clone(server);
    let (user, target, query) = (call.user.clone(), call.target.clone(), call.query.clone());
    let (accept, content_type) = (call.accept.to_owned(), call.content_type.to_owned());
    let (headers, raw_query) = (call.headers.clone(), call.raw_query.to_owned());
    let (verb, body, method) = (call.verb, call.body.clone(), call.method.clone());
    let (upgrade, until) = (call.take_upgrade(), call.until);
    let warnings = call.warnings.clone();
    let work = async move {
        let call = Call {
            user: &user,
            until,
            target: &target,
            verb,
            query: &query,
            accept: &accept,
            content_type: &content_type,
            body,
            method,
            headers: &headers,
            raw_query: &raw_query,
            warnings,
            upgrade: Mutex::new(upgrade),
        };
        verbs::serve(&server, &call).await
    };
    in_turns(&turns, Box::pin(work)).await?
}

/// Renders objects of so many bytes: here if they are few, otherwise in a turn on a thread. `None` after a panic.
pub(crate) async fn shown<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    bytes: usize,
    show: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if bytes <= LIGHT {
        return Some(show());
    }
    let turn = Arc::clone(turns).acquire_owned().await.ok()?;
    let show = move || {
        let _turn = turn;
        show()
    };
    tokio::task::spawn_blocking(show).await.ok()
}

/// A wake-up; one that arrives before the wait counts, too.
#[derive(Default)]
struct Woken(Notify);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

/// Polls a future on threads, in turns: it holds a turn and a thread while it computes, and neither while it waits, as a write
/// does for its disk. Cancel: the running computation ends, nothing further starts.
async fn in_turns<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    mut work: BoxFuture<'static, T>,
) -> Result<T, Failure> {
    let woken = Arc::new(Woken::default());
    loop {
        let turn = Arc::clone(turns).acquire_owned().await;
        let turn = turn.map_err(Failure::internal)?;
        let waker = Waker::from(Arc::clone(&woken));
        let compute = move || {
            let _turn = turn;
            let computed = work.as_mut().poll(&mut Context::from_waker(&waker));
            (computed, work)
        };
        let computed = tokio::task::spawn_blocking(compute).await;
        match computed.map_err(Failure::internal)? {
            (Poll::Ready(done), _) => return Ok(done),
            (Poll::Pending, waits) => work = waits,
        }
        woken.0.notified().await;
    }
}
