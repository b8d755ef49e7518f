//! Writes batches to the disk, and recovers the disk after a failure.
//!
//! In:    batches of writes; time
//! Out:   published changes, answers
//! Calls: `store` (its thread, or the caller's own time in simulations)
//! Holds: only changes that are on the disk are published; after a failed batch the file, if it can be read, shows whether the
//!        batch was done completely or not at all; while the disk is failing, writes are refused at once and reads continue;
//!        the disk is tried again at growing intervals, and used again after it has accepted a write; a version that a client
//!        may have seen is never assigned again
//! Upstream: none (etcd raises an alarm when it has no space, and stays read-only until an administrator disarms it)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::{Contents, Disk};
use super::{Event, Pending, Shared, State, Trouble, WriteError, decide, publish};
use kubelet_model::doubling::Doubling;

/// The pauses before the disk is tried again. They start over after a successful write.
const PAUSE: Doubling = Doubling::new(Duration::from_millis(250), Duration::from_secs(30));

/// The only user of the disk.
pub(super) struct Keeper {
    disk: Disk,
    /// When the disk is tried again, while it is failing.
    again_at: Option<Instant>,
    failures: u32,
    failed_since: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            again_at: None,
            failures: 0,
            failed_since: None,
        }
    }

    /// When there is work without a write.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Checks each write against the result of the earlier ones, syncs all of them together, publishes them, and answers.
    pub(super) fn take(&mut self, shared: &Shared, batch: Vec<Pending>) {
        let (mut events, mut answers) = (Vec::new(), Vec::new());
        {
            let state = shared.read();
            let mut version = state.version;
            let mut now: BTreeMap<Arc<str>, Option<Arc<super::Object>>> = BTreeMap::new();
            // Callers that no longer wait were told that the outcome is unknown, and may try again.
            let batch = batch.into_iter().filter(|one| !one.answer.is_closed());
            for Pending { write, answer } in batch {
                if let Some(trouble) = &state.failed {
                    answers.push((answer, Err(WriteError::Failed(trouble.clone()))));
                    continue;
                }
                let before = match now.get(&*write.key) {
                    Some(object) => object.clone(),
                    None => state.objects.get(&*write.key).cloned(),
                };
                let decided = decide(shared.fields, write, before, version + 1);
                if let Ok(event) = &decided {
                    version += 1;
                    let left = (!event.removed).then(|| Arc::clone(&event.object));
                    now.insert(Arc::clone(&event.object.key), left);
                    events.push(event.clone());
                }
                answers.push((answer, decided.map(|event| event.object)));
            }
        }
        if !events.is_empty()
            && let Err(trouble) = self.write(shared, events)
        {
            for (_, result) in answers.iter_mut().filter(|(_, result)| result.is_ok()) {
                *result = Err(WriteError::Failed(trouble.clone()));
            }
        }
        for (answer, result) in answers {
            // The caller may be gone.
            drop(answer.send(result));
        }
    }

    /// Writes and publishes; after a failure, finds out whether the batch was done.
    fn write(&mut self, shared: &Shared, events: Vec<Event>) -> Result<(), Trouble> {
        let committed = self.disk.commit(&events);
        let error = match committed {
            Ok(compacted) => {
                self.failures = 0;
                publish(&mut shared.write(), events, compacted);
                return Ok(());
            }
            Err(error) => error,
        };
        let mut trouble = self.trouble(&error);
        let last = events.last().map_or(0, |event| event.version);
        let known = self.disk.reopen(shared.fields, &shared.known());
        match known {
            Ok(contents) if contents.version >= last => {
                tracing::warn!(
                    error = &*trouble.why,
                    "The store's disk reported an error, but the write is on the disk"
                );
                take_over(&mut shared.write(), contents);
                return Ok(());
            }
            // The batch was not done, and will never become visible.
            Ok(_) => {}
            Err(unknown) => {
                let why = format!(
                    "{}; it is not known whether this write was done",
                    trouble.why
                );
                tracing::warn!(error = %unknown, "The store cannot be reopened yet");
                trouble.is_settled = false;
                trouble.why = why.into();
            }
        }
        tracing::error!(error = &*trouble.why, again_in = ?self.pause(), "The store cannot write; retrying, reads continue");
        self.failed_since = Some(Instant::now());
        self.wait(shared, trouble.clone());
        Err(trouble)
    }

    /// Tests whether the disk has recovered: it must hold the published state, and it must accept a write.
    pub(super) fn try_again(&mut self, shared: &Shared) {
        let Err(error) = self.reopen_and_probe(shared) else {
            self.again_at = None;
            let lasted = self.failed_since.take().map(|since| since.elapsed());
            tracing::info!(?lasted, "The store accepts writes again");
            shared.write().failed = None;
            return;
        };
        let trouble = self.trouble(&*error);
        self.disk.close();
        tracing::warn!(error = &*trouble.why, again_in = ?self.pause(), "The store still cannot write");
        self.wait(shared, trouble);
    }

    fn reopen_and_probe(&mut self, shared: &Shared) -> Result<(), Box<dyn std::error::Error>> {
        if !self.disk.is_open() {
            let contents = self.disk.reopen(shared.fields, &shared.known())?;
            take_over(&mut shared.write(), contents);
        }
        Ok(self.disk.probe()?)
    }

    /// The library panicked: its state in memory is unknown, so its handle is dropped and the file is opened again.
    pub(super) fn panicked(&mut self, shared: &Shared) {
        let mut trouble = self.trouble(&redb::Error::PreviousIo);
        trouble.why = "the store's library panicked".into();
        tracing::error!("The store's library panicked; reopening the file");
        self.disk.close();
        self.failed_since = Some(Instant::now());
        self.wait(shared, trouble);
    }

    /// From now to the next attempt.
    fn pause(&self) -> Duration {
        PAUSE.after(self.failures.saturating_add(1))
    }

    /// Accepts no writes until the next attempt.
    fn wait(&mut self, shared: &Shared, mut trouble: Trouble) {
        self.again_at = Instant::now().checked_add(self.pause());
        trouble.again_in = self.pause();
        // Later callers are told about the disk, not about another caller's write.
        trouble.is_settled = true;
        shared.write().failed = Some(trouble);
        self.failures = self.failures.saturating_add(1);
    }

    /// The medium's first error, else the library's.
    fn trouble(&self, error: &dyn std::error::Error) -> Trouble {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let fault = self.disk.take_fault();
        let kind = fault.as_ref().map(|(kind, _)| *kind);
        let why = fault.map_or_else(|| error.to_string(), |(_, why)| why);
        Trouble {
            why: why.into(),
            is_full: matches!(kind, Some(StorageFull | QuotaExceeded | FileTooLarge)),
            is_settled: true,
            is_hung: false,
            again_in: self.pause(),
        }
    }
}

/// Publishes what the file holds beyond the published state.
fn take_over(state: &mut State, contents: Contents) {
    let (version, compacted) = (contents.version, contents.compacted);
    if compacted > state.version {
        // The beginning of these changes is not kept: watchers have to list again.
        let logs = std::mem::take(&mut state.logs);
        *state = contents.into_state();
        for (storage, mut log) in logs {
            log.forget(version);
            state.logs.insert(storage, log);
        }
    } else if !contents.events.is_empty() {
        publish(state, contents.events, compacted);
    }
}
