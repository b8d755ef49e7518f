//! One client reading one log: from its tail to its end, or on with the container through every rotation.
//!
//! In:    the place of the log, the options; while following: the file's events, the reported pods, the runtime's word
//! Out:   chunks of the answer, when the client takes them
//! Calls: `container_logs`
//! Holds: nothing runs unless the client waits for more, so a client that went stops everything; one block in memory; no timed
//!        looks, but two: a renamed file is left 1 s after its successor appeared, and the runtime is asked again after 10 s
//!        when it and the reported status disagree
//! Upstream: staging/src/k8s.io/cri-client/pkg/logs (logs.go, tail.go) (1.36); differences: the rest of a rotated file is read
//!           before its successor; the end of a container is told by events, not by asking each second

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use kubelet_cri::Client;
use kubelet_host::Blocking;
use kubelet_host::log_file::{LogFile, LogNotice, LogPlace, LogWatch};
use kubelet_model::reported::ReportedPods;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::log_lines::{Lines, Progress};
use crate::log_options::LogOptions;
use crate::targets::is_shown_running;

const BLOCK: usize = 64 << 10;
const DISK_DEADLINE: Duration = Duration::from_secs(10);
/// A rotated file whose writer did not close it is left this long after its successor appeared.
const WRITER_LINGERS: Duration = Duration::from_secs(1);
/// When the reported status and the runtime disagree about a container's life.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Where a log is.
#[derive(Debug, Clone)]
pub(crate) struct LogLocation {
    /// The node's directory of pod logs.
    pub(crate) logs: PathBuf,
    /// Below it.
    pub(crate) relative: PathBuf,
}

/// Whose log it is: how its container's end is learned.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) container: String,
    pub(crate) pods: watch::Receiver<ReportedPods>,
    pub(crate) runtime: Client,
}

/// One read.
pub(crate) struct LogStream {
    place: Arc<LogPlace>,
    file: Arc<LogFile>,
    blocking: Blocking,
    offset: u64,
    lines: Lines,
    following: Option<Following>,
    /// Set when the server stops.
    shutdown: CancellationToken,
    over: bool,
}

struct Following {
    followed: Followed,
    watch: Option<LogWatch>,
    /// The container has ended: what is there now is all.
    ended: bool,
    /// The file's name stands for another file.
    successor: Option<(Arc<LogFile>, Instant)>,
    /// The file's writer closed it.
    closed: bool,
}

impl LogStream {
    /// Opens the log and finds where to begin.
    ///
    /// # Errors
    /// Upstream's text.
    pub(crate) async fn open(
        location: LogLocation,
        options: &LogOptions,
        followed: Option<Followed>,
        (blocking, shutdown): (Blocking, CancellationToken),
    ) -> Result<Self, String> {
        let shown = location.logs.join(&location.relative).display().to_string();
        let found = blocking.run(DISK_DEADLINE, "open a container's log", move || {
            let place = LogPlace::find(&location.logs, &location.relative)?;
            place.open().map(|file| (place, file))
        });
        let (place, file) = match found.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(format!("failed to open log file {shown:?}: {error}")),
            Err(overdue) => return Err(format!("failed to open log file {shown:?}: {overdue}")),
        };
        let mut stream = Self {
            place: Arc::new(place),
            file: Arc::new(file),
            blocking,
            offset: 0,
            lines: Lines::new(options),
            following: followed.filter(|_| options.follow).map(Following::new),
            shutdown,
            over: false,
        };
        if let Some(tail) = options.tail {
            stream.offset = stream.tail_start(tail).await.map_err(|error| {
                format!("failed to tail {tail} lines of log file {shown:?}: {error}")
            })?;
        }
        Ok(stream)
    }

    /// The next chunk; nothing at the end. `Err` breaks the connection.
    ///
    /// Cancel: the stream must be dropped with this future.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        if self.over {
            return Ok(None);
        }
        let shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(std::io::Error::other("the server stops")),
            chunk = self.chunk() => Ok(match chunk {
                Ok(chunk) => chunk,
                // As upstream: the answer has begun, so the text becomes its end.
                Err(text) => {
                    self.over = true;
                    Some(text.into())
                }
            }),
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            if self.lines.is_done() {
                return Ok(None);
            }
            let block = self.read(self.offset, BLOCK).await?;
            if block.is_empty() {
                if self.at_the_end().await? {
                    return Ok(None);
                }
                continue;
            }
            self.offset += block.len() as u64;
            let mut out = Vec::new();
            let progress = self.lines.feed(&block, &mut out)?;
            self.over = progress == Progress::Done;
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
    }

    async fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, String> {
        let file = Arc::clone(&self.file);
        let read = self
            .blocking
            .run(DISK_DEADLINE, "read a container's log", move || {
                let mut block = vec![0; size];
                let read = file.read_at(&mut block, offset)?;
                block.truncate(read);
                Ok::<_, std::io::Error>(block)
            });
        let result = read.await.map_err(|overdue| overdue.to_string());
        result
            .and_then(|read| read.map_err(|error| error.to_string()))
            .map_err(|error| format!("failed to read log file: {error}"))
    }

    /// Where the last `tail` lines begin: counts newlines from the end, block by block.
    async fn tail_start(&self, tail: u64) -> Result<u64, String> {
        let mut right = self.file.size().map_err(|error| error.to_string())?;
        let mut newlines: u64 = 0;
        while right > 0 {
            let size = right.min(BLOCK as u64);
            let left = right - size;
            let block = self
                .read(left, usize::try_from(size).unwrap_or(BLOCK))
                .await?;
            for (at, _) in block
                .iter()
                .enumerate()
                .rev()
                .filter(|(_, byte)| **byte == b'\n')
            {
                newlines += 1;
                // The newline before the first wanted line: the one that is too many.
                if newlines > tail {
                    return Ok(left + at as u64 + 1);
                }
            }
            right = left;
        }
        Ok(0)
    }

    /// Nothing more to read now: whether that is for good. Waits for more when it is not.
    async fn at_the_end(&mut self) -> Result<bool, String> {
        let Some(following) = &mut self.following else {
            self.lines.end()?;
            return Ok(true);
        };
        let Some(watch) = &mut following.watch else {
            let watch = self.place.watch(&self.file);
            following.watch =
                Some(watch.map_err(|error| format!("failed to watch log file: {error}"))?);
            // What came before the watch is seen by reading again.
            return Ok(false);
        };
        match following.successor.take() {
            Some((successor, leave)) => {
                if following.closed || following.ended || leave <= Instant::now() {
                    watch
                        .follow(&successor)
                        .map_err(|error| format!("failed to watch log file: {error}"))?;
                    (self.file, self.offset, following.closed) = (successor, 0, false);
                    return Ok(false);
                }
                following.successor = Some((successor, leave));
            }
            None => {
                if let Some(successor) = self.successor().await? {
                    let leave = Instant::now() + WRITER_LINGERS;
                    if let Some(following) = &mut self.following {
                        following.successor = Some((successor, leave));
                    }
                    return Ok(false);
                }
            }
        }
        match &mut self.following {
            Some(following) if !following.ended => following.wait().await.map(|()| false),
            _ => Ok(true),
        }
    }

    /// What bears the log's name now, if it is another file.
    async fn successor(&self) -> Result<Option<Arc<LogFile>>, String> {
        let place = Arc::clone(&self.place);
        let opened = self
            .blocking
            .run(DISK_DEADLINE, "open a container's log", move || {
                place.open()
            });
        match opened.await {
            Ok(Ok(file)) => Ok((!file.is(&self.file)).then(|| Arc::new(file))),
            // Between the two halves of a rotation, or removed with its pod: the container's end will tell.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Ok(Err(error)) => Err(format!("failed to open log file: {error}")),
            Err(overdue) => Err(format!("failed to open log file: {overdue}")),
        }
    }
}

impl Following {
    fn new(followed: Followed) -> Self {
        Self {
            followed,
            watch: None,
            ended: false,
            successor: None,
            closed: false,
        }
    }

    /// Waits until there may be more to read, or the container has ended.
    async fn wait(&mut self) -> Result<(), String> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        loop {
            // Marked as seen before the look, so that no later change is missed.
            self.followed.pods.mark_unchanged();
            let shown = is_shown_running(&self.followed.pods.borrow(), &self.followed.container);
            if !shown && is_over(&self.followed).await {
                self.ended = true;
                return Ok(());
            }
            let again = (!shown).then(|| Instant::now() + ASK_AGAIN);
            let leave = self.successor.as_ref().map(|(_, leave)| *leave);
            tokio::select! {
                // The log first; nothing is lost when an arm is dropped.
                biased;
                notice = watch.changed() => {
                    let notice = notice.map_err(|error| format!("failed to watch log file: {error}"))?;
                    self.closed = notice == LogNotice::Closed;
                    return Ok(());
                }
                () = until(leave) => return Ok(()),
                () = until(again) => {}
                changed = self.followed.pods.changed() => if changed.is_err() {
                    return Err("the kubelet stops".to_owned());
                },
            }
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// Whether the runtime says that the container does not run, or is no more. A runtime that does not answer has said nothing.
async fn is_over(followed: &Followed) -> bool {
    match followed.runtime.container_status(&followed.container).await {
        Ok(answer) => answer.status.is_none_or(|status| {
            status.state() != kubelet_api::runtime::v1::ContainerState::ContainerRunning
        }),
        Err(error) => error.is_not_found(),
    }
}
