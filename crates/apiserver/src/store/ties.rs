//! An index of references between objects.
//!
//! In:    the ties of each object as it is published or deleted
//! Out:   whether one thing refers to another, and to how many of a kind
//! Calls: `store`; `references` says what the ties of an object are
//! Holds: contains exactly the ties of the published objects, so a question costs one lookup, whatever the objects are; rebuilt
//!        when the file is opened
//! Upstream: plugin/pkg/auth/authorizer/node/graph.go (1.36); differences: names and counts instead of a graph with vertices

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Object;

/// The start or end of a tie; it need not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Thing {
    kind: &'static str,
    namespace: Arc<str>,
    name: Arc<str>,
}

impl Thing {
    pub(crate) fn new(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Its key in a storage.
    pub(super) fn key(&self, storage: &str) -> String {
        format!("{storage}/{}/{}", self.namespace, self.name)
    }
}

/// A reference from one thing to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tie {
    pub(crate) from: Thing,
    pub(crate) to: Thing,
}

/// Each tie of the published objects, and how many objects create it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ties(BTreeMap<Tie, usize>);

impl Ties {
    /// The index of all these objects.
    pub(super) fn of<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) -> Self {
        let mut ties = Self::default();
        for object in objects {
            ties.add(object);
        }
        ties
    }

    pub(super) fn add(&mut self, object: &Object) {
        for tie in &object.ties {
            match self.0.get_mut(tie) {
                Some(count) => *count += 1,
                None => drop(self.0.insert(tie.clone(), 1)),
            }
        }
    }

    pub(super) fn remove(&mut self, object: &Object) {
        for tie in &object.ties {
            match self.0.get_mut(tie) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.0.remove(tie)),
            }
        }
    }

    pub(super) fn has(&self, tie: &Tie) -> bool {
        self.0.contains_key(tie)
    }

    /// The things of a kind that a thing refers to.
    pub(super) fn after<'a>(
        &'a self,
        from: &'a Thing,
        kind: &'static str,
    ) -> impl Iterator<Item = &'a Thing> {
        let first = Tie {
            from: from.clone(),
            to: Thing::new(kind, "", ""),
        };
        self.0
            .range(first..)
            .map(|(tie, _)| tie)
            .take_while(move |tie| tie.from == *from && tie.to.kind == kind)
            .map(|tie| &tie.to)
    }
}
