//! Secrets, ConfigMaps, tokens and claims that pods name.
//!
//! In:    pods of the API, watches
//! Out:   what each pod's objects are now
//! Calls: pod, wiring
//! Holds: an object that cannot be had changes nothing that runs
//! Upstream: pkg/kubelet/util/manager

pub mod pod_objects;
