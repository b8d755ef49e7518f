//! The two types of events.
//!
//! In:    nothing
//! Out:   `EventType`
//! Calls: code that decides on events, and code that sends them
//! Holds: the texts are the API's
//! Upstream: k8s.io/api/core/v1 (EventTypeNormal, EventTypeWarning)

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Normal operation.
    Normal,
    /// Something needs attention.
    Warning,
}

impl EventType {
    /// The value of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}
