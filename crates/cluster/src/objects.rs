//! Objects that pods refer to: Secrets and ConfigMaps watched one by one while a pod needs them, and sets that all pods read.
//!
//! In:    which names are needed
//! Out:   the object, or why there is none, kept current
//! Calls: act (volumes, env, pull secrets), decide's views by snapshots
//! Holds: one watch per name, however many pods need it, stopped with the last of them; an immutable object is not watched; a
//!        node may read only what its pods name, so sets of Secrets are never listed
//! Upstream: pkg/kubelet/util/manager (watch_based_manager.go), pkg/kubelet/{secret,configmap,runtimeclass}; differences: the
//!           watch of an object nobody read for five minutes is kept, because it is held by pods that run
//!
//! | Set | How |
//! |---|---|
//! | Services, RuntimeClasses, own Node | [`Informer`]s, one each |
//! | Secrets, ConfigMaps | [`NamedObjects`] |

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Secret, Service};
use k8s_openapi::api::node::v1::RuntimeClass;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, LaneKind};
use crate::error::ClusterError;
use crate::objects_api::{At, Object};
use crate::reflector::{FirstSet, Phase, Reflector, Selection, Snapshot, Snapshots};
use kubelet_model::dice::Dice;

/// One read of one object.
const CALL: Duration = Duration::from_secs(30);

/// A kind that may say that it never changes.
pub trait MaybeImmutable: Object + Clone {
    /// Whether it says so.
    fn is_immutable(&self) -> bool;
}

impl MaybeImmutable for Secret {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

impl MaybeImmutable for ConfigMap {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

/// What is known of one name.
#[derive(Clone, Debug)]
pub enum Known<T> {
    /// Nothing yet; why, when something went wrong.
    Unknown(Option<String>),
    /// The server has none of that name.
    Absent,
    /// This one.
    Present(Arc<T>),
}

impl<T> Known<T> {
    /// The object, when it is known and there.
    pub fn present(&self) -> Option<&Arc<T>> {
        match self {
            Self::Present(object) => Some(object),
            Self::Unknown(_) | Self::Absent => None,
        }
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Entry<T> {
    users: usize,
    known: watch::Receiver<Known<T>>,
    stop: CancellationToken,
}

struct Shared<T> {
    entries: Mutex<BTreeMap<(String, String), Entry<T>>>,
    tasks: mpsc::UnboundedSender<Task>,
    client: Client,
    dice: Mutex<Dice>,
}

/// Watches by name, shared by all pods. Clones share them.
pub struct NamedObjects<T>(Arc<Shared<T>>);

impl<T> Clone for NamedObjects<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for NamedObjects<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self
            .0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("NamedObjects")
            .field("names", &entries.len())
            .finish_non_exhaustive()
    }
}

/// The watches' own task, to be run by their owner.
#[derive(Debug)]
pub struct NamedObjectsTask {
    tasks: mpsc::UnboundedReceiver<Task>,
}

impl NamedObjectsTask {
    /// Runs all watches until it is dropped.
    pub async fn run(mut self) {
        let mut running: FuturesUnordered<Task> = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                // Cancel: a task that was not received stays in the channel.
                task = self.tasks.recv() => match task {
                    Some(task) => running.push(task),
                    None => return,
                },
                // Cancel: polling resumes where it was.
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        }
    }
}

/// One pod's need of one object. The watch lasts as long as somebody holds one.
pub struct Use<T: MaybeImmutable> {
    objects: NamedObjects<T>,
    key: (String, String),
    known: watch::Receiver<Known<T>>,
}

impl<T: MaybeImmutable> fmt::Debug for Use<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Use({} {}/{})", T::KIND, self.key.0, self.key.1)
    }
}

impl<T: MaybeImmutable> Use<T> {
    /// What is known now.
    pub fn known(&self) -> Known<T> {
        self.known.borrow().clone()
    }

    /// Receives what becomes known.
    pub fn subscribe(&self) -> watch::Receiver<Known<T>> {
        self.known.clone()
    }

    /// Waits until the server said something, at most so long.
    pub async fn known_within(&mut self, deadline: Duration) -> Known<T> {
        let is_known = |known: &Known<T>| !matches!(known, Known::Unknown(_));
        let waited = tokio::time::timeout(deadline, self.known.wait_for(is_known)).await;
        // At the deadline: what went wrong so far.
        drop(waited);
        self.known()
    }
}

impl<T: MaybeImmutable> Drop for Use<T> {
    fn drop(&mut self) {
        let mut entries = self.objects.lock();
        let Some(entry) = entries.get_mut(&self.key) else {
            return;
        };
        entry.users -= 1;
        if entry.users == 0 {
            entry.stop.cancel();
            entries.remove(&self.key);
        }
    }
}

impl<T: MaybeImmutable> NamedObjects<T> {
    /// No watch yet, and the task that will run them.
    pub fn new(client: Client, dice: Dice) -> (Self, NamedObjectsTask) {
        let (sender, tasks) = mpsc::unbounded_channel();
        let shared = Shared {
            entries: Mutex::default(),
            tasks: sender,
            client,
            dice: Mutex::new(dice),
        };
        (Self(Arc::new(shared)), NamedObjectsTask { tasks })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Entry<T>>> {
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes part in the watch of a name.
    pub fn watch(&self, namespace: &str, name: &str) -> Use<T> {
        let key = (namespace.to_owned(), name.to_owned());
        let mut entries = self.lock();
        let entry = entries
            .entry(key.clone())
            .or_insert_with(|| self.begin(namespace, name));
        entry.users += 1;
        Use {
            objects: self.clone(),
            known: entry.known.clone(),
            key,
        }
    }

    /// Reads an object once, without a watch.
    ///
    /// # Errors
    /// As every call.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<Arc<T>, ClusterError> {
        let at = At {
            operation: "get object",
            lane: LaneKind::General,
            namespace: Some(namespace),
            name,
            subresource: None,
            deadline: CALL,
        };
        self.0.client.get::<T>(at).await.map(Arc::new)
    }

    fn begin(&self, namespace: &str, name: &str) -> Entry<T> {
        let selection = Selection {
            namespace: Some(namespace.to_owned()),
            fields: Some(format!("metadata.name={name}")),
            labels: None,
        };
        let dice = self
            .0
            .dice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .split();
        let client = self.0.client.clone();
        // One object: a page is as good as a stream, and every server has it.
        let (reflector, snapshots) = Reflector::<T>::new(client, selection, FirstSet::Paged, dice);
        let (known, receiver) = watch::channel(Known::Unknown(None));
        let stop = CancellationToken::new();
        let phase = reflector.phase();
        let name = name.to_owned();
        let following = follow(snapshots, phase, known, name);
        let stopped = stop.clone();
        let task = async move {
            tokio::select! {
                biased;
                // Cancel: nobody needs it any more; or it is immutable and needs no watch.
                () = stopped.cancelled() => {}
                () = following => {}
                () = reflector.run() => {}
            }
        };
        // Without a receiver the process ends.
        let _sent = self.0.tasks.send(Box::pin(task));
        Entry {
            users: 0,
            known: receiver,
            stop,
        }
    }
}

/// Turns sets of at most one object into what is known; ends with an object that never changes.
async fn follow<T: MaybeImmutable>(
    mut snapshots: Snapshots<T>,
    mut phase: watch::Receiver<Phase>,
    known: watch::Sender<Known<T>>,
    name: String,
) {
    loop {
        tokio::select! {
            biased;
            // Cancel: changes are seen at the next turn.
            changed = snapshots.changed() => if changed.is_err() { return },
            changed = phase.changed() => if changed.is_err() { return },
        }
        let snapshot = snapshots.borrow_and_update().clone();
        let now = match (&snapshot, &*phase.borrow_and_update()) {
            (Some(set), _) => known_of(set, &name),
            (None, Phase::Waiting { why, .. }) => Known::Unknown(Some(why.clone())),
            (None, Phase::Listing | Phase::Watching) => continue,
        };
        let is_last = now.present().is_some_and(|object| object.is_immutable());
        known.send_if_modified(|before| {
            let is_same = match (&*before, &now) {
                (Known::Present(before), Known::Present(now)) => Arc::ptr_eq(before, now),
                (Known::Absent, Known::Absent) => true,
                _ => false,
            };
            if !is_same {
                *before = now;
            }
            !is_same
        });
        if is_last {
            return;
        }
    }
}

fn known_of<T: Object + Clone>(set: &Snapshot<T>, name: &str) -> Known<T> {
    let found = set.objects.iter().find(|(key, _)| key.name == name);
    match found {
        Some((_, object)) => Known::Present(Arc::clone(object)),
        None => match set.unreadable.iter().find(|(key, _)| key.name == name) {
            Some((_, why)) => Known::Unknown(Some(why.clone())),
            None => Known::Absent,
        },
    }
}

/// A set of a whole kind, as reflector and snapshots.
pub type Informer<T> = (Reflector<T>, Snapshots<T>);

/// All Services, for the environment of containers.
pub fn services(client: Client, dice: Dice) -> Informer<Service> {
    informer(client, Selection::default(), dice, "services")
}

/// All RuntimeClasses.
pub fn runtime_classes(client: Client, dice: Dice) -> Informer<RuntimeClass> {
    informer(client, Selection::default(), dice, "runtimeclasses")
}

/// This node's own object.
pub fn own_node(client: Client, name: &str, dice: Dice) -> Informer<Node> {
    let selection = Selection {
        fields: Some(format!("metadata.name={name}")),
        ..Selection::default()
    };
    informer(client, selection, dice, "nodes")
}

fn informer<T: Object + Clone>(
    client: Client,
    selection: Selection,
    dice: Dice,
    name: &'static str,
) -> Informer<T> {
    let (reflector, snapshots) = Reflector::new(client, selection, FirstSet::Streamed, dice);
    (reflector.reported(name), snapshots)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::body::Bytes;
    use serde_json::json;

    use super::*;
    use crate::testing::{Server, answer, status, streamed};

    /// A server of one namespace of Secrets that counts open watches.
    fn server(open: &Arc<AtomicUsize>, lists: &Arc<AtomicUsize>) -> Server {
        let (open, lists) = (Arc::clone(open), Arc::clone(lists));
        Server::new(move |seen| {
            let (open, lists) = (Arc::clone(&open), Arc::clone(&lists));
            async move {
                let selector = seen.parameter("fieldSelector").unwrap_or_default();
                let name = selector.trim_start_matches("metadata.name%3D").to_owned();
                assert_eq!(
                    seen.path, "/api/v1/namespaces/n/secrets",
                    "one namespace at a time"
                );
                if name == "denied" {
                    return status(403, "Forbidden");
                }
                if seen.parameter("watch").is_none() {
                    lists.fetch_add(1, Ordering::SeqCst);
                    let metadata =
                        json!({ "name": name, "namespace": "n", "resourceVersion": "1" });
                    let items = match name.as_str() {
                        "absent" => json!([]),
                        _ => json!([{ "metadata": metadata, "immutable": name == "fixed" }]),
                    };
                    return answer(
                        200,
                        &json!({ "metadata": { "resourceVersion": "1" }, "items": items }),
                    );
                }
                let (sender, response) = streamed();
                open.fetch_add(1, Ordering::SeqCst);
                hyper::rt::Executor::execute(&hyper_util::rt::TokioExecutor::new(), async move {
                    if name == "absent" {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                        let metadata =
                            json!({ "name": name, "namespace": "n", "resourceVersion": "2" });
                        let event = json!({ "type": "ADDED", "object": { "metadata": metadata } });
                        let _sent = sender.send(Ok(Bytes::from(format!("{event}\n")))).await;
                    }
                    sender.closed().await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
                response
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn many_users_share_one_watch_which_ends_with_the_last() {
        let (open, lists) = (Arc::default(), Arc::default());
        let server = server(&open, &lists);
        let (secrets, task) = NamedObjects::<Secret>::new(server.client(), Dice::new(1));
        let script = async {
            let mut first = secrets.watch("n", "a");
            let known = first.known_within(Duration::from_secs(5)).await;
            assert!(known.present().is_some());
            let others: Vec<_> = (0..50).map(|_| secrets.watch("n", "a")).collect();
            assert!(others.iter().all(|other| other.known().present().is_some()));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(
                (lists.load(Ordering::SeqCst), open.load(Ordering::SeqCst)),
                (1, 1)
            );
            drop(first);
            drop(others);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(open.load(Ordering::SeqCst), 0);
            assert_eq!(secrets.lock().len(), 0);
        };
        tokio::select! {
            () = task.run() => unreachable!("the watches do not end"),
            () = script => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_immutable_object_is_not_watched_and_an_absent_one_is_until_it_comes() {
        let (open, lists) = (Arc::default(), Arc::default());
        let server = server(&open, &lists);
        let (secrets, task) = NamedObjects::<Secret>::new(server.client(), Dice::new(1));
        let script = async {
            let mut fixed = secrets.watch("n", "fixed");
            assert!(
                fixed
                    .known_within(Duration::from_secs(5))
                    .await
                    .present()
                    .is_some()
            );
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(open.load(Ordering::SeqCst), 0);
            let mut absent = secrets.watch("n", "absent");
            let known = absent.known_within(Duration::from_secs(2)).await;
            assert!(matches!(known, Known::Absent), "{known:?}");
            let mut coming = absent.subscribe();
            coming
                .wait_for(|known| known.present().is_some())
                .await
                .unwrap();
            let mut denied = secrets.watch("n", "denied");
            let known = denied.known_within(Duration::from_secs(20)).await;
            assert!(
                matches!(&known, Known::Unknown(Some(why)) if why.contains("Forbidden")),
                "{known:?}"
            );
        };
        tokio::select! {
            () = task.run() => unreachable!("the watches do not end"),
            () = script => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_own_node_is_selected_by_its_name() {
        let asked = Arc::new(Mutex::new(BTreeMap::new()));
        let seen_asked = Arc::clone(&asked);
        let server = Server::new(move |seen| {
            let key = seen
                .parameter("fieldSelector")
                .unwrap_or_default()
                .to_owned();
            seen_asked.lock().unwrap().insert(seen.path.clone(), key);
            async { status(500, "InternalError") }
        });
        let client = server.client();
        let (node, _shown) = own_node(client.clone(), "one", Dice::new(1));
        let (services, _shown) = services(client.clone(), Dice::new(2));
        let (classes, _shown) = runtime_classes(client, Dice::new(3));
        let all = async { tokio::join!(node.run(), services.run(), classes.run()) };
        let _over = tokio::time::timeout(Duration::from_secs(1), all).await;
        let asked = asked.lock().unwrap().clone();
        let wanted = [
            ("/api/v1/nodes", "metadata.name%3Done"),
            ("/api/v1/services", ""),
            ("/apis/node.k8s.io/v1/runtimeclasses", ""),
        ];
        let wanted = wanted.map(|(path, selector)| (path.to_owned(), selector.to_owned()));
        assert_eq!(asked, BTreeMap::from(wanted));
    }
}
