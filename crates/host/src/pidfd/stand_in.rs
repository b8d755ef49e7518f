//! Processes of a simulated host: the simulation starts and ends them.
//!
//! In:    [`StandInProcesses::start`] and [`StandInProcesses::end`], called by the stand-in runtime
//! Out:   the same [`super::ProcessExit`] as for real processes
//! Calls: the simulation, through [`super::Processes::StandIn`]
//! Holds: no system calls; waits end in the order in which the processes ended
//! Upstream: none

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The table of simulated processes.
#[derive(Debug, Default)]
pub struct StandInProcesses {
    running: Mutex<BTreeMap<u32, watch::Sender<bool>>>,
}

impl StandInProcesses {
    fn running(&self) -> MutexGuard<'_, BTreeMap<u32, watch::Sender<bool>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process with this PID; an earlier one with the same PID has ended.
    pub fn start(&self, pid: u32) {
        self.end(pid);
        self.running().insert(pid, watch::Sender::new(false));
    }

    /// Ends a process and all waits for it. False if there was none.
    pub fn end(&self, pid: u32) -> bool {
        self.running()
            .remove(&pid)
            .is_some_and(|ended| !ended.send_replace(true))
    }

    pub(super) fn open(&self, pid: u32) -> io::Result<watch::Receiver<bool>> {
        let gone = || io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error());
        self.running()
            .get(&pid)
            .map(watch::Sender::subscribe)
            .ok_or_else(gone)
    }
}
