//! What goes wrong with hints of exits, shared with the kubelet's waits.
//!
//! In:    a seed, how often
//! Out:   an exit source of which some hints never come, come late, or come for nothing
//! Calls: run
//! Holds: what the runtime knows is never changed here, only who is told of it
//! Upstream: none

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kubelet_act::observe::exits::ExitSource;
use testkit::cri::StandInRuntime;
use testkit::prng::Prng;

/// Hints of one world.
#[derive(Debug)]
pub struct Hints {
    random: Prng,
    /// Hints with a fault, of 10,000.
    pub rate: u16,
    /// Faults made, by kind.
    pub made: BTreeMap<&'static str, u64>,
}

enum Hint {
    Good,
    Lost,
    Late(Duration),
    Early(Duration),
}

impl Hints {
    /// Hints that fail this often.
    pub fn new(seed: u64, rate: u16) -> Self {
        Self {
            random: Prng::stream(seed, "hints"),
            rate,
            made: BTreeMap::new(),
        }
    }

    fn draw(&mut self) -> Hint {
        if !self.random.chance(self.rate) {
            return Hint::Good;
        }
        let pause = self.random.duration(Duration::from_secs(20));
        let (kind, hint) = match self.random.below(3) {
            0 => ("hint lost", Hint::Lost),
            1 => ("hint late", Hint::Late(pause)),
            _ => ("hint for nothing", Hint::Early(pause)),
        };
        *self.made.entry(kind).or_default() += 1;
        hint
    }

    /// Exits of the runtime's processes, told as these hints want it.
    pub fn exits(hints: &Arc<Mutex<Self>>, runtime: &StandInRuntime) -> ExitSource {
        let (runtime, hints) = (runtime.clone(), Arc::clone(hints));
        ExitSource::Simulated(Arc::new(move |pid| {
            let exit = runtime.exit_of(pid);
            let hint = hints.lock().unwrap_or_else(PoisonError::into_inner).draw();
            Box::pin(async move {
                match hint {
                    Hint::Good => exit.await,
                    Hint::Lost => std::future::pending().await,
                    Hint::Late(pause) => {
                        exit.await;
                        tokio::time::sleep(pause).await;
                    }
                    Hint::Early(pause) => {
                        // Cancel: a hint that says nothing is harmless, and so is the wait that is dropped.
                        tokio::select! {
                            biased;
                            () = exit => {}
                            () = tokio::time::sleep(pause) => {}
                        }
                    }
                }
            })
        }))
    }
}
