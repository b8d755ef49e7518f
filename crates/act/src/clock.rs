//! The one clock: wall time for what people and the API see, a monotonic moment for ordering.
//!
//! In:    the system, or tokio's (paused) clock with a start date in simulation
//! Out:   `Timestamp`, `Moment`
//! Holds: nothing else in the workspace asks the system for the time
//! Upstream: k8s.io/utils/clock

use std::time::Duration;

use jiff::Timestamp;
use kubelet_model::observed::Moment;
use tokio::time::Instant;

/// A clock, copied to whoever needs the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    wall: Wall,
}

#[derive(Clone, Copy, Debug)]
enum Wall {
    System,
    Virtual(Timestamp),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self {
            started: Instant::now(),
            wall: Wall::System,
        }
    }

    /// Wall time that runs with tokio's clock from a date on.
    pub fn simulated(from: Timestamp) -> Self {
        Self {
            started: Instant::now(),
            wall: Wall::Virtual(from),
        }
    }

    /// Wall time.
    pub fn now(&self) -> Timestamp {
        match self.wall {
            Wall::System => system_now(),
            Wall::Virtual(from) => from.saturating_add(self.started.elapsed()).unwrap_or(from),
        }
    }

    /// The monotonic moment.
    pub fn moment(&self) -> Moment {
        Moment(self.started.elapsed())
    }

    /// Time until a wall time; zero when it has passed.
    pub fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.now())).unwrap_or(Duration::ZERO)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn system_now() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}
