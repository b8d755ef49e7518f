//! Health and memory of a node, looked at while somebody floods it.
//!
//! In:    a running node
//! Out:   its memory, and how long health took at each port; the same of an idle server in this process, for the machine's own share
//! Calls: flood
//! Holds: each look is a new connection, as that of whoever restarts kubelets; a look that gets no answer counts as its whole patience
//! Upstream: none

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::bail;
use rig::clock;
use rig::http::{Credential, Http, Secure};
use rig::process;

use crate::target::{ADMIN, Target};

/// What is asked, and where.
pub(crate) const HEALTH: &str = "10248 /healthz";
pub(crate) const LIVE: &str = "6443 /livez";
pub(crate) const MAIN: &str = "10250 /healthz";
const IDLE: &str = "an idle server of this machine";

const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at one port.
const APART_MS: u64 = 25;

/// Looks at one port: seconds each, and how many had no right answer.
#[derive(Debug, Clone)]
pub(crate) struct Looks {
    pub(crate) what: &'static str,
    pub(crate) seconds: Vec<f64>,
    pub(crate) failed: usize,
}

impl Looks {
    /// The time that 99 of 100 looks kept.
    pub(crate) fn p99(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or(PATIENCE.as_secs_f64())
    }

    pub(crate) fn worst(&self) -> f64 {
        self.seconds.iter().copied().fold(0.0, f64::max)
    }
}

/// Threads that look.
#[derive(Debug)]
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    /// Kilobytes (10³).
    peak: Arc<AtomicU64>,
    lookers: Vec<JoinHandle<Looks>>,
    others: Vec<JoinHandle<()>>,
}

/// A server that does nothing else: what it takes is the machine's share.
fn idle_server(stop: Arc<AtomicBool>) -> anyhow::Result<(u16, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let serve = move || {
        while !stop.load(Ordering::Relaxed) {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            // A client that goes early is of no interest.
            let _set = stream.set_read_timeout(Some(PATIENCE));
            let _read = stream.read(&mut [0; 512]);
            let _sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    };
    Ok((port, thread::spawn(serve)))
}

fn look(what: &'static str, stop: &AtomicBool, open: impl Fn() -> Http, path: &str) -> Looks {
    let mut looks = Looks {
        what,
        seconds: Vec::new(),
        failed: 0,
    };
    while !stop.load(Ordering::Relaxed) {
        let begin = clock::now();
        let answer = open().ask("GET", path, None);
        let took = clock::now() - begin;
        if matches!(answer, Ok((200, _))) {
            looks.seconds.push(took);
        } else {
            looks.failed += 1;
            looks.seconds.push(took.max(PATIENCE.as_secs_f64()));
        }
        clock::pause_ms(APART_MS);
    }
    looks
}

impl Probe {
    pub(crate) fn begin(target: &Target<'_>) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let peak = Arc::new(AtomicU64::new(0));
        let (ports, pid) = (target.ports, target.pid()?);
        let (idle_port, idle) = idle_server(Arc::clone(&stop))?;
        let nobody = Secure::client(&Credential::Nobody, &[])?;
        let admin = Secure::client(&Credential::Token(ADMIN.to_owned()), &[])?;
        let looker = |what, port, secure: Option<Secure>, path: &'static str| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let open = || {
                    let http = match &secure {
                        None => Http::new(port),
                        Some(secure) => Http::secure(port, secure.clone()),
                    };
                    http.patient(PATIENCE)
                };
                look(what, &stop, open, path)
            })
        };
        let lookers = vec![
            looker(HEALTH, ports.health, None, "/healthz"),
            looker(LIVE, ports.api, Some(nobody), "/livez"),
            looker(MAIN, ports.main, Some(admin), "/healthz"),
            looker(IDLE, idle_port, None, "/"),
        ];
        let memory = {
            let (stop, peak) = (Arc::clone(&stop), Arc::clone(&peak));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(memory) = process::memory(pid) {
                        let kilobytes = (memory.resident * 1000.0) as u64;
                        peak.fetch_max(kilobytes, Ordering::Relaxed);
                    }
                    clock::pause_ms(10);
                }
            })
        };
        Ok(Self {
            stop,
            peak,
            lookers,
            others: vec![idle, memory],
        })
    }

    /// The highest memory so far, in megabytes.
    pub(crate) fn peak(&self) -> f64 {
        self.peak.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// What was seen; the machine's own share last.
    pub(crate) fn end(self) -> anyhow::Result<(Vec<Looks>, Looks)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for looker in self.lookers {
            match looker.join() {
                Ok(looks) => all.push(looks),
                Err(_) => bail!("a looker panicked"),
            }
        }
        let Some(idle) = all.pop() else {
            bail!("there are no looks");
        };
        drop(self.others);
        Ok((all, idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_a_hundred_is_left_out_and_no_look_at_all_is_no_health() {
        let looks = |seconds: Vec<f64>| Looks {
            what: HEALTH,
            seconds,
            failed: 0,
        };
        let mut seconds = vec![0.001; 99];
        seconds.push(2.0);
        assert!(looks(seconds.clone()).p99() < 0.01);
        seconds.extend([2.0, 2.0]);
        assert!(looks(seconds).p99() > 1.0);
        assert!(looks(Vec::new()).p99() > 1.0);
    }
}
