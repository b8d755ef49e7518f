//! Request bodies: whether they were read, and the memory of all bodies that are being received.
//!
//! In:    bodies as they arrive
//! Out:   their bytes within a budget ([`Uploads::read`]), or a [`Refusal`]
//! Calls: `serve` wraps every request; the API server reads its bodies here
//! Holds: one user has at most a quarter of the budget; a body that has not arrived within 30 s is refused; bytes are counted
//!        until the request is done with them
//! Upstream: net/http MaxBytesReader; differences: one budget for all bodies together

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The timeout for a whole body.
const RECEIVE: Duration = Duration::from_secs(30);
/// The bytes that every body counts at least.
const LEAST: usize = 16 << 10;
/// One user may have this fraction of the budget.
const SHARE: usize = 4;
/// How much of an oversized body is read and discarded before it is refused, and for how long. An HTTP/2 client that is still
/// sending when the response arrives would take it for a broken stream.
const SPARE: usize = 4 << 20;
const SPARE_TIME: Duration = Duration::from_secs(5);

/// A request body that reports whether it was read to its end.
#[derive(Debug)]
pub struct Received {
    body: Incoming,
    is_read: Arc<AtomicBool>,
}

impl Received {
    pub(crate) fn new(body: Incoming) -> (Self, Arc<AtomicBool>) {
        let is_read = Arc::new(AtomicBool::new(body.is_end_stream()));
        let received = Self {
            body,
            is_read: Arc::clone(&is_read),
        };
        (received, is_read)
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why a body was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than allowed.
    TooLarge,
    /// The budget is used up.
    Busy,
    /// It did not arrive in time.
    Slow,
    /// The connection failed, with this error.
    Broken(String),
}

/// The bodies of one port that are being received or processed; clones share them.
#[derive(Debug, Clone)]
pub struct Uploads {
    budget: usize,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_user: BTreeMap<String, usize>,
}

/// The bytes of a body; counted until it is dropped.
#[derive(Debug)]
pub struct Upload {
    /// The body.
    pub bytes: Bytes,
    _counted: Counted,
}

#[derive(Debug)]
struct Counted {
    uploads: Uploads,
    user: String,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut held = self.uploads.lock();
        held.all = held.all.saturating_sub(self.bytes);
        if let Some(own) = held.by_user.get_mut(&self.user) {
            *own = own.saturating_sub(self.bytes);
            if *own == 0 {
                held.by_user.remove(&self.user);
            }
        }
    }
}

impl Counted {
    fn grow(&mut self, to: usize) -> Result<(), Refusal> {
        let more = to.saturating_sub(self.bytes);
        let mut held = self.uploads.lock();
        let own = held.by_user.get(&self.user).copied().unwrap_or(0);
        let budget = self.uploads.budget;
        if held.all + more > budget || own + more > budget / SHARE {
            return Err(Refusal::Busy);
        }
        held.all += more;
        *held.by_user.entry(self.user.clone()).or_default() += more;
        drop(held);
        self.bytes = self.bytes.max(to);
        Ok(())
    }
}

impl Uploads {
    /// With a budget of so many bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            held: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a body of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Refusal`]. The rest of a slightly oversized body is discarded; the rest of any other one is not read.
    pub async fn read<B>(&self, body: B, user: &str, limit: usize) -> Result<Upload, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let mut counted = Counted {
            uploads: self.clone(),
            user: user.to_owned(),
            bytes: 0,
        };
        if body.is_end_stream() {
            return Ok(Upload {
                bytes: Bytes::new(),
                _counted: counted,
            });
        }
        let mut body = std::pin::pin!(body);
        let told = body.size_hint().lower();
        if told > limit as u64 {
            if told <= (limit + SPARE) as u64 {
                throw_away(body, limit + SPARE).await;
            }
            return Err(Refusal::TooLarge);
        }
        counted.grow(LEAST)?;
        let reading = collect(body.as_mut(), &mut counted, limit);
        let read = tokio::time::timeout(RECEIVE, reading).await;
        match read.unwrap_or(Err(Refusal::Slow)) {
            Ok(bytes) => Ok(Upload {
                bytes,
                _counted: counted,
            }),
            Err(Refusal::TooLarge) => {
                throw_away(body, SPARE).await;
                Err(Refusal::TooLarge)
            }
            Err(refusal) => Err(refusal),
        }
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.lock().all
    }
}

/// Collects the body into one piece: a body in a million pieces must not cost more than its bytes.
async fn collect<B>(
    mut body: Pin<&mut B>,
    counted: &mut Counted,
    limit: usize,
) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut all: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Broken(error.into().to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = all.len() + data.len();
        if length > limit {
            return Err(Refusal::TooLarge);
        }
        if length > all.capacity() {
            let wanted = length.max(all.capacity() * 2).min(limit);
            counted.grow(wanted)?;
            all.reserve_exact(wanted - all.len());
        }
        all.extend_from_slice(&data);
    }
    Ok(all.into())
}

/// Reads and discards, within limits.
async fn throw_away<B: Body<Data = Bytes>>(mut body: Pin<&mut B>, most: usize) {
    let mut left = most;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(length);
            if left == 0 {
                return;
            }
        }
    };
    // If the time is over, it is refused anyway.
    let _in_time = tokio::time::timeout(SPARE_TIME, reading).await;
}
