//! Errors of CRI calls, and whether a failed call may have taken effect.
//!
//! In:    a gRPC status or a deadline
//! Out:   `CriError`
//! Holds: in case of doubt a call may have taken effect; the caller then inspects the pod before it plans again
//! Upstream: none (there a lost answer counts as a failure)

use std::error::Error as _;
use std::time::Duration;

use kubelet_model::error_text::with_causes;
use tonic::{Code, Status};

/// Whether a failed call may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It did not: the runtime answered with an error.
    No,
    /// Unknown: no answer arrived.
    Maybe,
}

/// A failed call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CriError {
    /// The runtime answered with an error.
    #[error("{operation}: {message}")]
    Refused {
        /// The operation, as metrics name it.
        operation: &'static str,
        /// The gRPC code.
        code: Code,
        /// The runtime's message.
        message: String,
    },
    /// The connection failed.
    #[error("{operation}: runtime does not answer: {message}")]
    Lost {
        /// Operation.
        operation: &'static str,
        /// The gRPC code, the runtime's or the library's.
        code: Code,
        /// The error.
        message: String,
    },
    /// No answer within the deadline.
    #[error("{operation}: no answer within {after:?}")]
    Deadline {
        /// Operation.
        operation: &'static str,
        /// The deadline.
        after: Duration,
    },
}

/// What the gRPC library says, by its first words, when an answer came that is none: too long, cut, no message, no status. It carries
/// no cause, as if it were the runtime's word, but the call may well have had its effect.
const NO_ANSWER: [&str; 7] = [
    "Error, decoded message length too large",
    "Error decompressing",
    "Missing response message.",
    "Unexpected EOF decoding stream.",
    "failed to decode Protobuf message",
    "grpc-status header missing",
    "protocol error: ",
];

impl CriError {
    pub(crate) fn of_status(operation: &'static str, status: &Status) -> Self {
        // A status that was made on the client side has a source; one from the runtime has none.
        let made_here = status.source().is_some()
            || NO_ANSWER
                .iter()
                .any(|words| status.message().starts_with(words));
        match status.code() {
            code @ (Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable) => Self::Lost {
                operation,
                code,
                message: status_text(status),
            },
            code if made_here => Self::Lost {
                operation,
                code,
                message: status_text(status),
            },
            code => Self::Refused {
                operation,
                code,
                message: status.message().to_owned(),
            },
        }
    }

    /// Whether the call may have taken effect.
    pub fn happened(&self) -> Happened {
        match self {
            Self::Refused { .. } => Happened::No,
            Self::Lost { .. } | Self::Deadline { .. } => Happened::Maybe,
        }
    }

    /// Whether the runtime answered that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Refused {
                code: Code::NotFound,
                ..
            } => true,
            // containerd returns some of its not-found errors with code Unknown.
            Self::Refused {
                code: Code::Unknown,
                message,
                ..
            } => message.ends_with("not found"),
            Self::Refused { .. } | Self::Lost { .. } | Self::Deadline { .. } => false,
        }
    }

    /// The runtime's code, if it answered.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Lost { .. } | Self::Deadline { .. } => None,
        }
    }

    /// Whether the runtime, or what lies between, says that the time for it was over.
    pub fn says_too_late(&self) -> bool {
        match self {
            Self::Deadline { .. } => false,
            Self::Lost { code, .. } | Self::Refused { code, .. } => *code == Code::DeadlineExceeded,
        }
    }

    /// Whether the runtime does not implement the call.
    pub fn is_unimplemented(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: Code::Unimplemented,
                ..
            }
        )
    }

    /// The message for status and events.
    pub fn message(&self) -> String {
        match self {
            Self::Refused { code, message, .. } => {
                format!("rpc error: code = {} desc = {message}", code_word(*code))
            }
            Self::Lost { message, .. } => message.clone(),
            Self::Deadline { .. } => {
                "rpc error: code = DeadlineExceeded desc = context deadline exceeded".to_owned()
            }
        }
    }

    /// The runtime's message without the gRPC prefix.
    pub fn description(&self) -> String {
        match self {
            Self::Refused { message, .. } => message.clone(),
            Self::Lost { .. } | Self::Deadline { .. } => self.message(),
        }
    }
}

fn status_text(status: &Status) -> String {
    with_causes(status.message().to_owned(), status.source())
}

/// The name of a code in Go's gRPC library.
fn code_word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
