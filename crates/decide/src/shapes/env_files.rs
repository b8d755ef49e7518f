//! Files of variables that a start reads, and what was found in them.
//!
//! In:    nothing
//! Out:   [`EnvFileRead`], [`EnvFileValues`]
//! Calls: container, pod; act/pod/execute reads them
//! Holds: values are not shown: they may be secret
//! Upstream: KEP-3721

use std::collections::BTreeMap;
use std::fmt;

/// A file to look into before a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFileRead {
    /// Place of the variable in the container's `env`.
    pub index: usize,
    /// Where its volume lies on the host.
    pub volume_path: String,
    /// The file below it.
    pub path: String,
    /// The key looked for.
    pub key: String,
    /// Whether it may be missing.
    pub optional: bool,
}

/// Values by place in `env`; `None` is an optional one that is not there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EnvFileValues(BTreeMap<usize, Option<Vec<u8>>>);

impl fmt::Debug for EnvFileValues {
    /// Places alone: values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl EnvFileValues {
    /// Takes in what was found.
    pub fn insert(&mut self, index: usize, value: Option<Vec<u8>>) {
        self.0.insert(index, value);
    }

    /// What was found for a variable; `None` when it was not looked for.
    pub(crate) fn get(&self, index: usize) -> Option<Option<&[u8]>> {
        self.0.get(&index).map(|value| value.as_deref())
    }
}
