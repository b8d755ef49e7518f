//! The only clock: wall-clock time for people and the API, a monotonic moment for ordering, steady time for waiting, and the machine's
//! own count for what must survive a restart.
//!
//! In:    the system, or tokio's (paused) clock with a start date in simulation
//! Out:   `Timestamp`, `Moment`
//! Holds: nothing else in the workspace asks the system for the time; steady time never jumps, whatever is done to the wall
//!        clock
//! Upstream: k8s.io/utils/clock

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kubelet_decide::shapes::record::BootMoment;
use kubelet_host::kernel::{boot_id, since_boot};
use kubelet_model::observed::Moment;
use tokio::time::Instant;

/// A clock, copied to whoever needs the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    /// Wall time at `started`.
    base: Timestamp,
    wall: Wall,
    /// Which boot of the machine this is; `None` where the kernel does not say.
    boot: Option<u128>,
}

#[derive(Clone, Copy, Debug)]
enum Wall {
    System,
    Virtual {
        from: Timestamp,
        began: Instant,
        /// Nanoseconds that somebody has set it on, or back.
        set_by: Option<&'static AtomicI64>,
    },
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self {
            started: Instant::now(),
            base: system_now(),
            wall: Wall::System,
            boot: boot_id(),
        }
    }

    /// Wall time that runs with tokio's clock from a date on.
    pub fn simulated(from: Timestamp) -> Self {
        Self {
            started: Instant::now(),
            base: from,
            wall: Wall::Virtual {
                from,
                began: Instant::now(),
                set_by: None,
            },
            boot: Some(0),
        }
    }

    /// The same, and the wall clock can be set on and back by so many nanoseconds at any time.
    pub fn simulated_and_set(from: Timestamp, nanoseconds: &'static AtomicI64) -> Self {
        Self {
            started: Instant::now(),
            base: from,
            wall: Wall::Virtual {
                from,
                began: Instant::now(),
                set_by: Some(nanoseconds),
            },
            boot: Some(0),
        }
    }

    /// The clock of a process that starts now: its steady time begins at the wall time of this moment.
    #[must_use]
    pub fn of_new_process(self) -> Self {
        Self {
            started: Instant::now(),
            base: self.now(),
            wall: self.wall,
            boot: self.boot,
        }
    }

    /// Wall time.
    pub fn now(&self) -> Timestamp {
        match self.wall {
            Wall::System => system_now(),
            Wall::Virtual {
                from,
                began,
                set_by,
            } => {
                let set = set_by.map_or(0, |by| by.load(Ordering::Relaxed));
                from.saturating_add(began.elapsed())
                    .and_then(|at| at.saturating_add(jiff::SignedDuration::from_nanos(set)))
                    .unwrap_or(from)
            }
        }
    }

    /// Time to decide by: wall time at the start of the process, and from there on the monotonic clock. What waits by it waits as
    /// long as it should, even when the wall clock is set meanwhile; it is not shown to anybody.
    pub fn steady(&self) -> Timestamp {
        self.base
            .saturating_add(self.started.elapsed())
            .unwrap_or(self.base)
    }

    /// The moment by the machine's own count, for records: a later process of the same boot can tell how long ago it was.
    pub fn boot_moment(&self) -> Option<BootMoment> {
        let boot = self.boot?;
        let since = match self.wall {
            Wall::System => since_boot(),
            Wall::Virtual { began, .. } => began.elapsed(),
        };
        Some(BootMoment {
            boot: format!("{boot:032x}"),
            milliseconds: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Steady time of a recorded moment, never later than now; `None` when it is of another boot.
    pub fn steady_of_boot(&self, moment: &BootMoment) -> Option<Timestamp> {
        let now = self.boot_moment().filter(|now| now.boot == moment.boot)?;
        let ago = now.milliseconds.saturating_sub(moment.milliseconds);
        self.steady().checked_sub(Duration::from_millis(ago)).ok()
    }

    /// The monotonic moment.
    pub fn moment(&self) -> Moment {
        Moment(self.started.elapsed())
    }
}

/// For a pause that may have no end.
pub(crate) async fn sleep_or_forever(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn system_now() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn steady_time_does_not_see_the_wall_clock_being_set() {
        static SET_BY: AtomicI64 = AtomicI64::new(0);
        let from = Timestamp::from_second(1_000_000).unwrap();
        let clock = Clock::simulated_and_set(from, &SET_BY);
        for hours in [-24 * 365, 24 * 365] {
            SET_BY.store(hours * 3_600_000_000_000, Ordering::Relaxed);
            assert_eq!(clock.now().as_second(), 1_000_000 + hours * 3600);
            assert_eq!(clock.steady(), from);
        }
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(clock.steady().as_second(), 1_000_011);
        let next = clock.of_new_process();
        assert_eq!(next.steady(), clock.now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_recorded_moment_means_the_same_to_the_next_process_of_the_boot() {
        static SET_BY: AtomicI64 = AtomicI64::new(0);
        let clock = Clock::simulated_and_set(Timestamp::from_second(1_000_000).unwrap(), &SET_BY);
        let moment = clock.boot_moment().unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        SET_BY.store(-90_000_000_000_000, Ordering::Relaxed);
        let next = clock.of_new_process();
        let age = next
            .steady()
            .duration_since(next.steady_of_boot(&moment).unwrap());
        assert_eq!(age.as_secs(), 20);
        let other = BootMoment {
            boot: "other".to_owned(),
            ..moment
        };
        assert_eq!(next.steady_of_boot(&other), None);
    }

    #[tokio::test]
    async fn the_systems_boot_has_a_name_and_an_age() {
        let clock = Clock::system();
        let moment = clock.boot_moment().unwrap();
        assert_eq!(moment.boot.len(), 32);
        assert!(moment.milliseconds > 0);
        let steady = clock.steady_of_boot(&moment).unwrap();
        assert!(clock.steady().duration_since(steady).as_secs() < 60);
    }
}
