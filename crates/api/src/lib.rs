//! Message types of the CRI and of configuration files. No transport, no behaviour.
//!
//! In:    `proto/cri.proto` (compiled by build.rs); upstream's field names of `KubeletConfiguration`
//! Out:   message types for every crate above
//! Holds: enum and oneof values stay open (prost keeps enums as `i32`), so a newer or older runtime never breaks decoding
//! Upstream: staging/src/k8s.io/cri-api, staging/src/k8s.io/kubelet/config/v1beta1

pub mod config;
pub mod duration;

/// The Container Runtime Interface.
pub mod runtime {
    /// Version 1, as of Kubernetes 1.36.
    #[expect(missing_docs, reason = "generated from proto/cri.proto")]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
    }
}
