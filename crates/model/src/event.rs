//! The two types of events.
//!
//! In:    nothing
//! Out:   `EventType`
//! Calls: whoever decides on an event, and whoever sends it
//! Holds: the words are the API's
//! Upstream: k8s.io/api/core/v1 (EventTypeNormal, EventTypeWarning)

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// Things go their way.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    /// The word of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}
