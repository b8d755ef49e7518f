//! The tasks of the kubelet: observe, call `decide`, carry out. Who runs, what wakes it, what it owns, what it publishes:
//!
//! | task | kind | woken by | owns | publishes |
//! |---|---|---|---|---|
//! | sources | core | inotify, clock, orders | last good manifests | whole sets to the sync loop |
//! | sync_loop | core | sets, ends of workers, wake-ups | desired pods | orders |
//! | pod_worker | one per pod | orders, wake-ups, timers | lifecycle, record | status |
//! | pleg | core | looks asked for, exits, slow clock | observed pods | snapshots, wake-ups |
//! | status | (handle) | workers | reported pods | `/pods` |
//! | cluster_source | core, in a cluster | sets of the API | – | whole sets to the sync loop |
//! | pod_objects | core, in a cluster | pods of the API, watches, tokens | what each pod's objects are | values for the workers' views, wake-ups |
//! | prober | reconciler | what is probed of each pod, timers, answers | timetables, results | values for the workers' views, wake-ups |
//! | status_write | reconciler, in a cluster | statuses, sets of the API, answers | what was answered last | status at the API; deletions |
//! | node_status (and its lease) | reconciler, in a cluster | clock, the runtime's state | when it reported last | the Node object, its lease; the node's UID |
//! | pod_cidr | reconciler | the own Node, clock | what the runtime was told | CRI `UpdateRuntimeConfig` |
//! | mirror_pods | reconciler, in a cluster | static pods, mirrors, the node | – | mirror pods |
//! | events | reconciler, in a cluster | recorded events | the queue of events | Events at the API |
//! | iptables_chains | reconciler | clock | what it made | KUBE-IPTABLES-HINT, KUBE-FIREWALL |
//! | reconcilers | reconciler | clock | – | figures, warnings |
//!
//! Holds: modules meet only as handles made in `wiring`; `sync_loop → pod_worker → {execute, status}` is the one chain
//! Upstream: pkg/kubelet

pub mod frame;
pub mod images;
pub mod node;
pub mod objects;
pub mod observe;
pub mod pod;
pub mod probes;
pub mod report;
pub mod resources;
pub mod sources;
#[cfg(test)]
mod testing;
pub mod volumes;
