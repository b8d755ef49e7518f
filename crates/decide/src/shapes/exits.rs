//! How a container ended, in the form in which exits are kept.
//!
//! In:    an observed container
//! Out:   [`RecordedExit`]
//! Calls: pod/memory, pod/adopt, report
//! Holds: a container whose end nobody saw gets upstream's exit code and message for that
//! Upstream: pkg/kubelet/kubelet_pods.go (convertToAPIContainerStatuses)

use kubelet_model::observed::{ContainerState, Exit, ObservedContainer};
use kubelet_model::reason::Reason;

use crate::shapes::record::RecordedExit;

/// An observed exit in the form in which exits are kept.
pub fn exit_of(container: &ObservedContainer, exit: &Exit) -> RecordedExit {
    RecordedExit {
        id: container.id.to_string(),
        sandbox: container.sandbox.to_string(),
        code: exit.code,
        reason: exit.reason.clone(),
        message: exit.message.clone(),
        started_at: exit.started_at,
        finished_at: exit.finished_at,
        image: container.image.clone(),
        image_ref: container.image_ref.clone(),
        attempt: container.attempt,
        counts_from: None,
        is_reset: false,
    }
}

/// What is said of a container that was seen to run, should it never be seen again: upstream's words and code.
pub fn exit_of_lost(container: &ObservedContainer) -> Option<RecordedExit> {
    let ContainerState::Running { started_at } = container.state else {
        return None;
    };
    let unknown = Exit {
        code: LOST_CODE,
        reason: Reason::ContainerStatusUnknown.to_string(),
        message: LOST_MESSAGE.to_owned(),
        started_at,
        finished_at: started_at,
    };
    Some(exit_of(container, &unknown))
}

/// Of a container that ended unseen.
pub(crate) const LOST_CODE: i32 = 137;

pub(crate) const LOST_MESSAGE: &str =
    "The container could not be located when the pod was terminated";
