//! Reads one log for one client: from its tail to its end, or following the container through every log rotation.
//!
//! In:    the location of the log, the options; when following: file events, the reported pods, the runtime's answer
//! Out:   chunks of the response, as the client reads them
//! Calls: `container_logs`
//! Holds: nothing runs unless the client waits for more, so a client that disconnects stops everything; one block is in memory;
//!        there is no polling, except: a renamed file is left 1 s after its successor appeared, and the runtime is asked again
//!        after 10 s if it and the reported status disagree
//! Upstream: staging/src/k8s.io/cri-client/pkg/logs (logs.go, tail.go) (1.36); differences: the rest of a rotated file is read
//!           before its successor; the end of a container is learned from events, not by asking each second

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
/// How long a rotated file is read after its successor appeared, if its writer did not close it.
const WRITER_LINGERS: Duration = Duration::from_secs(1);
/// The interval between questions to the runtime, when it and the reported status disagree about a container.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The location of a log.
#[derive(Debug, Clone)]
pub(crate) struct LogLocation {
    /// The node's directory of pod logs.
    pub(crate) logs: PathBuf,
    /// The path below it.
    pub(crate) relative: PathBuf,
}

/// The container whose log is followed, and how its end is learned.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) container: String,
    pub(crate) pods: watch::Receiver<ReportedPods>,
    pub(crate) runtime: Client,
}

/// One client's read of a log.
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
    /// The container has ended: the log does not grow any more.
    ended: bool,
    /// The file that has the log's name now, after a rotation.
    successor: Option<(Arc<LogFile>, Instant)>,
    /// The writer has closed the file.
    closed: bool,
}

impl LogStream {
    /// Opens the log and finds the start position.
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

    /// The next chunk; `None` at the end. `Err` breaks the connection.
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
                // As upstream: the response has begun, so the error text becomes its end.
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

    /// The position of the last `tail` lines: counts newlines from the end, block by block.
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
                // The newline before the first wanted line.
                if newlines > tail {
                    return Ok(left + at as u64 + 1);
                }
            }
            right = left;
        }
        Ok(0)
    }

    /// Nothing more to read at the moment. Returns whether that is final, after waiting for more if it is not.
    async fn at_the_end(&mut self) -> Result<bool, String> {
        let Some(following) = &mut self.following else {
            self.lines.end()?;
            return Ok(true);
        };
        let Some(watch) = &mut following.watch else {
            let watch = self.place.watch(&self.file);
            following.watch =
                Some(watch.map_err(|error| format!("failed to watch log file: {error}"))?);
            // Lines that were written before the watch began are found by reading again.
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

    /// The file with the log's name, if it is another file now.
    async fn successor(&self) -> Result<Option<Arc<LogFile>>, String> {
        let place = Arc::clone(&self.place);
        let opened = self
            .blocking
            .run(DISK_DEADLINE, "open a container's log", move || {
                place.open()
            });
        match opened.await {
            Ok(Ok(file)) => Ok((!file.is(&self.file)).then(|| Arc::new(file))),
            // Between the two steps of a rotation, or deleted with its pod: the container's end decides.
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

    /// Waits until there may be more to read, or until the container has ended.
    async fn wait(&mut self) -> Result<(), String> {
        let Some(watch) = &mut self.watch else {
            return Ok(());
        };
        loop {
            // Marked as seen before the check, so that no later change is missed.
            self.followed.pods.mark_unchanged();
            let shown = is_shown_running(&self.followed.pods.borrow(), &self.followed.container);
            if !shown && is_over(&self.followed).await {
                self.ended = true;
                return Ok(());
            }
            let again = (!shown).then(|| Instant::now() + ASK_AGAIN);
            let leave = self.successor.as_ref().map(|(_, leave)| *leave);
            tokio::select! {
                // The log first. Dropping a branch loses nothing.
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

/// Whether the runtime reports that the container does not run or does not exist. A runtime that does not answer counts as no.
async fn is_over(followed: &Followed) -> bool {
    match followed.runtime.container_status(&followed.container).await {
        Ok(answer) => answer.status.is_none_or(|status| {
            status.state() != kubelet_api::runtime::v1::ContainerState::ContainerRunning
        }),
        Err(error) => error.is_not_found(),
    }
}
