//! The CRI client: every call to the container runtime, with a deadline and metrics.
//!
//! In:    finished CRI messages; an endpoint (`unix://…`) or a ready channel (simulation)
//! Out:   answers, or `CriError`, which says whether the call may have taken effect; observed sandboxes and containers
//! Calls: act/pod/execute, act/observe/pleg, act/images
//! Holds: every call has a deadline, except an image pull, which its caller cancels; no retries here
//! Upstream: staging/src/k8s.io/cri-client/pkg, pkg/kubelet/kuberuntime/instrumented_services.go

mod client;
mod error;
mod metrics;
mod observe;

pub use client::{Client, ConnectError, Timeouts};
pub use error::{CriError, Happened};
pub use metrics::Metrics;
pub use observe::{ContainerDetail, container_of_status, sandbox_of_status};
pub use tonic::Code;

/// Generated client stubs over the messages of `kubelet-api`.
mod stubs {
    #![expect(
        unreachable_pub,
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        reason = "generated from proto/cri.proto"
    )]
    tonic::include_proto!("runtime.v1");
}
