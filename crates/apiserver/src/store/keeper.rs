//! Carries writes to the disk, and gets the disk back after it failed.
//!
//! In:    batches of writes; time
//! Out:   published changes, answers
//! Calls: `store` (its thread, or the caller's own time in simulations)
//! Holds: nothing is published that is not on the disk; a failed batch is settled by what the file then holds, where it can be read:
//!        done whole, or not done at all; while the disk is in trouble writes are refused at once and reads go on; it is tried again
//!        at a growing interval, and trusted again once it has taken a write; a version that somebody may have seen is never given
//!        again
//! Upstream: none (etcd raises an alarm when it has no space, and stays read-only until somebody disarms it)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::{Contents, Disk};
use super::{Event, Pending, Shared, State, Trouble, WriteError, decide, publish};
use kubelet_model::doubling::Doubling;

/// Before the disk is tried again: doubles up to the longest, and begins anew once a write has gone through.
const PAUSE: Doubling = Doubling::new(Duration::from_millis(250), Duration::from_secs(30));

/// The disk's only user.
pub(super) struct Keeper {
    disk: Disk,
    /// When it is tried again, while it is in trouble.
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

    /// When there is something to do without any write.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Decides each write against what the ones before it left, syncs all of them at once, publishes them, and answers.
    pub(super) fn take(&mut self, shared: &Shared, batch: Vec<Pending>) {
        let (mut events, mut answers) = (Vec::new(), Vec::new());
        {
            let state = shared.read();
            let mut version = state.version;
            let mut now: BTreeMap<Arc<str>, Option<Arc<super::Object>>> = BTreeMap::new();
            // Who does not wait any more was told that nothing is known, and may try again.
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
            // Who asked may have gone.
            drop(answer.send(result));
        }
    }

    /// Writes and publishes; or finds out what became of it.
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
                    "The store's disk failed, and what was written is there all the same"
                );
                take_over(&mut shared.write(), contents);
                return Ok(());
            }
            // Not done, and nobody will ever see it.
            Ok(_) => {}
            Err(unknown) => {
                let why = format!("{}; whether this write is kept is not known", trouble.why);
                tracing::warn!(error = %unknown, "The store cannot be opened again yet");
                trouble.is_settled = false;
                trouble.why = why.into();
            }
        }
        tracing::error!(error = &*trouble.why, again_in = ?self.pause(), "The store cannot write; it is tried again, and reads go on");
        self.failed_since = Some(Instant::now());
        self.wait(shared, trouble.clone());
        Err(trouble)
    }

    /// Tries whether the disk is well again: what it holds must be what was published, and it must take a write.
    pub(super) fn try_again(&mut self, shared: &Shared) {
        let Err(error) = self.reopen_and_probe(shared) else {
            self.again_at = None;
            let lasted = self.failed_since.take().map(|since| since.elapsed());
            tracing::info!(?lasted, "The store takes writes again");
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

    /// The library panicked: nobody knows what it holds in memory, so it lets go, and the file is opened anew.
    pub(super) fn panicked(&mut self, shared: &Shared) {
        let mut trouble = self.trouble(&redb::Error::PreviousIo);
        trouble.why = "the store's library panicked".into();
        tracing::error!("The store's library panicked; the file is opened anew");
        self.disk.close();
        self.failed_since = Some(Instant::now());
        self.wait(shared, trouble);
    }

    /// From now to the next try.
    fn pause(&self) -> Duration {
        PAUSE.after(self.failures.saturating_add(1))
    }

    /// Takes no write until it is tried again.
    fn wait(&mut self, shared: &Shared, mut trouble: Trouble) {
        self.again_at = Instant::now().checked_add(self.pause());
        trouble.again_in = self.pause();
        // Who comes later is told of the disk, not of somebody else's write.
        trouble.is_settled = true;
        shared.write().failed = Some(trouble);
        self.failures = self.failures.saturating_add(1);
    }

    /// What the medium said first, else what the library said.
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

/// Makes what the file holds beyond the published state known.
fn take_over(state: &mut State, contents: Contents) {
    let (version, compacted) = (contents.version, contents.compacted);
    if compacted > state.version {
        // Its own beginning is not kept: who follows lists anew.
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
