//! The set that is kept: replaced as a whole by a list, changed one object at a time by a watch.
//!
//! In:    listed objects and events as JSON texts
//! Out:   snapshots by `watch`, changes by a channel
//! Calls: reflector
//! Holds: an event that brings the object that is already there changes nothing; an object that cannot be decoded keeps its last
//!        good form
//! Upstream: client-go/tools/cache (store.go, delta_fifo.go: UndeltaStore)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, watch};

use crate::objects_api::Object;

use super::feed::{Listed, WatchChange};

/// Namespace and name; the namespace is empty for kinds that live in none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Called with each object before it is kept, and with the one it replaces.
pub type Prepare<T> = Box<dyn FnMut(&mut T, Option<&T>) + Send>;

/// All objects at one resource version.
#[derive(Clone, Debug)]
pub struct Snapshot<T> {
    /// The objects, without `managedFields`.
    pub objects: BTreeMap<ObjectKey, Arc<T>>,
    /// The server's version of the set.
    pub resource_version: String,
    /// Objects that cannot be read, with the reason; their last good form is kept, where there is one.
    pub unreadable: BTreeMap<ObjectKey, String>,
}

impl<T> Snapshot<T> {
    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        let key = ObjectKey {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.objects.get(&key)
    }
}

/// What differs from the snapshot before.
#[derive(Clone, Debug)]
pub enum Change<T> {
    /// New or changed.
    Applied(Arc<T>),
    /// Gone; its last form.
    Deleted(Arc<T>),
}

/// The sending side of a snapshot.
pub(super) struct Keeper<T> {
    snapshots: watch::Sender<Option<Arc<Snapshot<T>>>>,
    pub(super) changes: Option<mpsc::Sender<Change<T>>>,
    pub(super) prepare: Option<Prepare<T>>,
    version: String,
}

impl<T> fmt::Debug for Keeper<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: HeadMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeadMetadata {
    name: String,
    namespace: Option<String>,
    resource_version: Option<String>,
}

/// One object's text, read.
struct Read<T> {
    key: ObjectKey,
    version: Option<String>,
    object: Result<T, String>,
}

impl<T: Object + Clone> Keeper<T> {
    pub(super) fn new() -> (Self, watch::Receiver<Option<Arc<Snapshot<T>>>>) {
        let (snapshots, receiver) = watch::channel(None);
        let keeper = Self {
            snapshots,
            changes: None,
            prepare: None,
            version: String::new(),
        };
        (keeper, receiver)
    }

    /// How many objects it holds.
    pub(super) fn len(&self) -> usize {
        let snapshot = self.snapshots.borrow();
        snapshot.as_ref().map_or(0, |set| set.objects.len())
    }

    /// The version to go on from.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Puts a whole set in the place of the one before.
    pub(super) async fn replace(&mut self, listed: Listed) {
        let before = self.snapshots.borrow().clone();
        let old = |key: &ObjectKey| {
            before
                .as_ref()
                .and_then(|set| set.objects.get(key).cloned())
        };
        let (mut objects, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        let mut changes = Vec::new();
        for text in &listed.objects {
            let Some(read) = read::<T>(text) else {
                continue;
            };
            match read.object {
                Ok(object) => {
                    let kept = self.prepared(object, old(&read.key), &mut changes);
                    objects.insert(read.key, kept);
                }
                Err(why) => {
                    objects.extend(old(&read.key).map(|kept| (read.key.clone(), kept)));
                    unreadable.insert(read.key, why);
                }
            }
        }
        if let Some(before) = &before {
            let gone = before
                .objects
                .iter()
                .filter(|(key, _)| !objects.contains_key(*key));
            changes.extend(gone.map(|(_, object)| Change::Deleted(Arc::clone(object))));
        }
        warn_of::<T>(
            &unreadable,
            before.as_ref().map(|set| set.unreadable.keys().collect()),
        );
        drop(before);
        self.version.clone_from(&listed.version);
        self.snapshots.send_replace(Some(Arc::new(Snapshot {
            objects,
            resource_version: listed.version,
            unreadable,
        })));
        self.tell(changes).await;
    }

    /// Applies one event.
    pub(super) async fn apply(&mut self, change: WatchChange) {
        let Some(read) = read::<T>(change.object()) else {
            return;
        };
        let Read {
            key,
            version,
            object,
        } = read;
        let old = self
            .snapshots
            .borrow()
            .as_ref()
            .and_then(|set| set.objects.get(&key).cloned());
        let mut changes = Vec::new();
        let kept = match (&change, object) {
            (WatchChange::Deleted(_), _) => {
                changes.extend(old.map(Change::Deleted));
                None
            }
            (WatchChange::Applied(_), Ok(object)) => {
                Some(Ok(self.prepared(object, old, &mut changes)))
            }
            (WatchChange::Applied(_), Err(why)) => Some(Err(why)),
        };
        if let Some(Err(why)) = &kept {
            tracing::warn!(kind = T::KIND, key = ?key, why, "Object cannot be read, its last good form is kept");
        }
        if let Some(version) = version {
            self.version = version;
        }
        let version = &self.version;
        self.snapshots.send_modify(|snapshot| {
            // Copies the map only while somebody still reads the one before.
            let Some(set) = snapshot.as_mut().map(Arc::make_mut) else {
                return;
            };
            set.resource_version.clone_from(version);
            set.unreadable.remove(&key);
            match kept {
                None => drop(set.objects.remove(&key)),
                Some(Ok(object)) => drop(set.objects.insert(key, object)),
                Some(Err(why)) => drop(set.unreadable.insert(key, why)),
            }
        });
        self.tell(changes).await;
    }

    /// The server says that nothing changed up to here.
    pub(super) fn bookmark(&mut self, version: String) {
        self.snapshots.send_if_modified(|snapshot| {
            if let Some(set) = snapshot.as_mut().map(Arc::make_mut) {
                set.resource_version.clone_from(&version);
            }
            false
        });
        self.version = version;
    }

    /// The object to keep: the old one when the new one is the same version of it.
    fn prepared(
        &mut self,
        mut object: T,
        old: Option<Arc<T>>,
        changes: &mut Vec<Change<T>>,
    ) -> Arc<T> {
        let metadata = object.metadata_mut();
        metadata.managed_fields = None;
        if let Some(old) = &old {
            let (had, has) = (old.metadata(), object.metadata());
            if had.uid == has.uid
                && had.resource_version == has.resource_version
                && has.resource_version.is_some()
            {
                return Arc::clone(old);
            }
        }
        if let Some(prepare) = &mut self.prepare {
            prepare(&mut object, old.as_deref());
        }
        // A copy is exactly as large as what is in it; lists that were read item by item have room for more, at once half of
        // what a pod takes.
        let object = Arc::new(object.clone());
        changes.push(Change::Applied(Arc::clone(&object)));
        object
    }

    async fn tell(&mut self, changes: Vec<Change<T>>) {
        let Some(sender) = &self.changes else {
            return;
        };
        for change in changes {
            if sender.send(change).await.is_err() {
                self.changes = None;
                return;
            }
        }
    }
}

/// `None` when the text has no name: then it is no object.
fn read<T: Object>(text: &RawValue) -> Option<Read<T>> {
    let head: Head = serde_json::from_str(text.get()).ok()?;
    if head.metadata.name.is_empty() {
        return None;
    }
    Some(Read {
        key: ObjectKey {
            namespace: head.metadata.namespace.unwrap_or_default(),
            name: head.metadata.name,
        },
        version: head.metadata.resource_version,
        object: serde_json::from_str(text.get()).map_err(|error| error.to_string()),
    })
}

/// Says once of each object that it cannot be read.
fn warn_of<T: Object>(
    unreadable: &BTreeMap<ObjectKey, String>,
    before: Option<BTreeSet<&ObjectKey>>,
) {
    let before = before.unwrap_or_default();
    for (key, why) in unreadable.iter().filter(|(key, _)| !before.contains(key)) {
        tracing::warn!(kind = T::KIND, key = ?key, why, "Object cannot be read, its last good form is kept");
    }
}
