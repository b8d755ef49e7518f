//! The seeded simulation of the pod path: the product's own tasks over a stand-in runtime, on virtual time.
//!
//! In:    a seed; a bug to plant
//! Out:   what was done, how many faults of each kind, and the first invariant that did not hold
//! Calls: the binary `world` (`make world SEEDS=n`), tests
//! Holds: one seed gives one trace, byte for byte; nothing waits on real time; each world is one thread
//! Upstream: none
//!
//! | Module | What |
//! |---|---|
//! | [`kubelet`] | the product's tasks as one process that can be killed |
//! | [`pods`] | which pods there are and how their containers behave |
//! | [`script`] | what happens, step by step |
//! | [`manifests`] | what the sources name |
//! | [`ledger`] | what was asked for, and when |
//! | [`lifecycles`] | hooks, sidecars, policies of containers |
//! | [`disk`] | what goes wrong with the journal's disk |
//! | [`hints`] | what goes wrong with hints of exits |
//! | [`watch`] | what was shown, checked as it is shown |
//! | [`ends`] | the end of a pod of the API, through a crash |
//! | [`invariants`] | what must hold after every step, and at rest |
//! | [`run`] | one world from its seed to its verdict |
//! | [`plant`] | bugs put back in |
//! | [`scene`] | what tests of single scenes begin with |

pub mod disk;
pub mod ends;
pub mod hints;
pub mod invariants;
pub mod kubelet;
pub mod ledger;
pub mod lifecycles;
pub mod manifests;
pub mod plant;
pub mod pods;
pub mod run;
pub mod scene;
pub mod script;
pub mod watch;
