//! A component of hyperkube as a process: started, watched and stopped from outside, as a person would.
//!
//! In:    the release binary, its words, a log file
//! Out:   its pid, its last log lines
//! Calls: bench (kubelet, cluster), attack (target)
//! Holds: only processes started here are ended; one that ended by itself is an error with its last log lines
//! Upstream: none

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock;
use crate::node::{Node, binary};

/// One life of a component.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
    /// When the process was started, in seconds since 1970.
    pub started: f64,
}

impl Program {
    /// Starts the release binary, without waiting.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        node: &Node,
        words: impl IntoIterator<Item = impl AsRef<OsStr>>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(binary(node.repository()));
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(Self {
            started: clock::now(),
            child: command.spawn().context("start hyperkube")?,
            log: log.to_owned(),
        })
    }

    /// Of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Looks whether it runs.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("hyperkube ended: {status}\n{}", self.log_tail());
        }
        Ok(())
    }

    /// The log's last lines.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Stops the process where it is while something else is measured on the same runtime.
    ///
    /// # Errors
    /// What the work said, or that there is no such process.
    pub fn frozen<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.signal(Signal::STOP)?;
        let result = work();
        self.signal(Signal::CONT)?;
        clock::pause_ms(300);
        result
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .context("the pid of hyperkube")?;
        Ok(kill_process(pid, signal)?)
    }

    /// As a crash ends it; the process is gone when this returns.
    ///
    /// # Errors
    /// There is no such process.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM and wait; pods keep running.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        clock::poll("hyperkube ends", 5, 15.0, || Ok(self.child.try_wait()?)).map(drop)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing to do for one that has ended.
        if let Ok(None) = self.child.try_wait() {
            let _killed = self.child.kill();
            let _ended = self.child.wait();
        }
    }
}
