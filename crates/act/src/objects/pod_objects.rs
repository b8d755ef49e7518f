//! The API objects that pods refer to: watched while a pod needs them, and handed to the pod's worker, which wakes when one changes.
//!
//! In:    pods of the API; watches of their ConfigMaps and Secrets, their tokens, all Services and RuntimeClasses
//! Out:   `PodObjects` per pod; wake-ups
//! Calls: wiring, where a cluster was joined; workers read through [`ObjectsHandle`]
//! Holds: one watch per name, however many pods name it; only names that pods of this node use are requested; a token is renewed
//!        while its pod lives; an object that cannot be read is unknown, with a text, and changes nothing that runs
//! Upstream: pkg/kubelet/util/manager, pkg/kubelet/{secret,configmap,token}, kubelet_pods.go (getServiceEnvVarMap)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll, unfold};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::node::v1::RuntimeClass;
use kubelet_cluster::objects::{Known, NamedObjects, Use};
use kubelet_cluster::pods::PodSet;
use kubelet_cluster::reflector::Snapshots;
use kubelet_cluster::tokens::{Token, TokenError, TokenKey, Tokens};
use kubelet_decide::volumes::references::referenced_objects;
use kubelet_model::doubling::Doubling;
use kubelet_model::ids::PodUid;
use kubelet_model::objects::{
    ApiAccess, ObjectState, PodObjects, RuntimeClasses, Services, TokenRef,
};
use kubelet_model::pod::Pod;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::frame::clock::Clock;
use crate::frame::reconciler::RoundError;
use crate::frame::signal::Signal;

/// How often it is looked whether a token has to be renewed.
const TOKEN_CHECK: Duration = Duration::from_secs(60);
/// Between tries for a token that could not be had. The first is short: a control plane may learn a moment after us that the pod is this node's.
const TOKEN_RETRY: Doubling = Doubling::new(Duration::from_millis(100), Duration::from_secs(20));

/// What workers read. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ObjectsHandle(Option<Signal<Published>>);

#[derive(Debug, Default)]
struct Published {
    services: Option<Arc<[Arc<Service>]>>,
    /// Handlers by class.
    runtime_classes: Option<Arc<BTreeMap<String, String>>>,
    pods: BTreeMap<PodUid, Arc<PodObjects>>,
}

impl ObjectsHandle {
    /// What is known for a pod; of a pod that refers to nothing, or was not looked at yet, only that there is a cluster.
    pub fn current(&self, uid: &PodUid) -> PodObjects {
        let Some(published) = &self.0 else {
            return PodObjects::default();
        };
        published.look(|all| {
            let known = all.pods.get(uid).map(|known| (**known).clone());
            let services = all
                .services
                .clone()
                .map_or(Services::NotSynced, Services::Known);
            let runtime_classes = all
                .runtime_classes
                .clone()
                .map_or(RuntimeClasses::NotSynced, RuntimeClasses::Known);
            PodObjects {
                access: ApiAccess::Cluster,
                services,
                runtime_classes,
                ..known.unwrap_or_default()
            }
        })
    }
}

/// What the keeper works with.
#[derive(Debug)]
pub struct PodObjectsParts {
    /// Secrets by name.
    pub secrets: NamedObjects<Secret>,
    /// ConfigMaps by name.
    pub config_maps: NamedObjects<ConfigMap>,
    /// Tokens.
    pub tokens: Tokens,
    /// All Services.
    pub services: Snapshots<Service>,
    /// All RuntimeClasses.
    pub runtime_classes: Snapshots<RuntimeClass>,
    /// Pods of the API.
    pub pods: watch::Receiver<Option<Arc<PodSet>>>,
    /// The clock.
    pub clock: Clock,
}

/// The keeper, before it runs.
#[derive(Debug)]
pub struct PodObjectsKeeper {
    parts: PodObjectsParts,
    published: Signal<Published>,
}

/// The keeper at work.
struct Keeper {
    parts: PodObjectsParts,
    published: Signal<Published>,
    pods: BTreeMap<PodUid, Needs>,
    set: Arc<PodSet>,
    wakes: mpsc::UnboundedSender<PodUid>,
}

/// Uses by name, in order. Nearly every pod has one, and a map takes room for eleven.
type Uses<T> = Box<[(String, Use<T>)]>;

/// What one pod needs. Its watches and its renewals end with it.
struct Needs {
    pod: Arc<Pod>,
    config_maps: Uses<ConfigMap>,
    secrets: Uses<Secret>,
    tokens: BTreeMap<TokenRef, ObjectState<String>>,
    gone: CancellationToken,
}

impl Drop for Needs {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

/// What became known.
enum News {
    /// Something that the pod names has changed.
    Changed(PodUid),
    /// A token was had, or not.
    Token(PodUid, TokenRef, Result<Token, TokenError>),
}

type Streams = SelectAll<BoxStream<'static, News>>;

impl PodObjectsKeeper {
    /// A keeper that knows nothing yet, and what workers read.
    pub fn new(parts: PodObjectsParts) -> (Self, ObjectsHandle) {
        let published = Signal::new(Published::default());
        let handle = ObjectsHandle(Some(published.clone()));
        (Self { parts, published }, handle)
    }

    /// Runs until it is dropped; `wakes` takes pods to look at again.
    pub async fn run(self, wakes: mpsc::UnboundedSender<PodUid>) {
        let keeper = Keeper {
            parts: self.parts,
            published: self.published,
            pods: BTreeMap::new(),
            set: Arc::default(),
            wakes,
        };
        keeper.run().await;
    }
}

impl Keeper {
    async fn run(mut self) {
        let mut streams = Streams::new();
        self.apply_services();
        self.apply_runtime_classes();
        self.apply_pods(&mut streams);
        loop {
            tokio::select! {
                // News first: they concern pods that wait. Every arm looks at the present, so none loses anything.
                biased;
                Some(news) = streams.next(), if !streams.is_empty() => self.hear(news),
                Ok(()) = self.parts.pods.changed() => self.apply_pods(&mut streams),
                Ok(()) = self.parts.services.changed() => self.apply_services(),
                Ok(()) = self.parts.runtime_classes.changed() => self.apply_runtime_classes(),
                else => return,
            }
        }
    }

    fn apply_services(&mut self) {
        let Some(snapshot) = self.parts.services.borrow_and_update().clone() else {
            return;
        };
        let services: Arc<[Arc<Service>]> = snapshot.objects.values().cloned().collect();
        let was_waited_for = self.published.look(|all| all.services.is_none());
        self.published.change(|all| all.services = Some(services));
        if was_waited_for {
            for uid in self.pods.keys() {
                self.wake(uid);
            }
        }
    }

    /// Pods that name a class may have waited for it.
    fn apply_runtime_classes(&mut self) {
        let Some(snapshot) = self.parts.runtime_classes.borrow_and_update().clone() else {
            return;
        };
        let classes = snapshot.objects.values();
        let handlers: BTreeMap<String, String> = classes
            .filter_map(|class| Some((class.metadata.name.clone()?, class.handler.clone())))
            .collect();
        self.published
            .change(|all| all.runtime_classes = Some(Arc::new(handlers)));
        for (uid, needs) in &self.pods {
            if needs.pod.spec().runtime_class_name.is_some() {
                self.wake(uid);
            }
        }
    }

    fn apply_pods(&mut self, streams: &mut Streams) {
        let Some(set) = self.parts.pods.borrow_and_update().clone() else {
            return;
        };
        // Nearly always one pod of many has another object than before.
        let before = std::mem::replace(&mut self.set, Arc::clone(&set));
        if let Some(changed) = set.changed_since(&before) {
            for pod in changed {
                self.apply_pod(pod, streams);
            }
            return;
        }
        let named: BTreeSet<&PodUid> = set.pods.iter().map(|pod| &pod.uid).collect();
        let gone: Vec<PodUid> = self
            .pods
            .keys()
            .filter(|uid| !named.contains(uid))
            .cloned()
            .collect();
        for uid in gone {
            self.pods.remove(&uid);
            self.parts.tokens.remove_pod(uid.as_str());
            self.published.change(|all| drop(all.pods.remove(&uid)));
        }
        for pod in &set.pods {
            self.apply_pod(pod, streams);
        }
    }

    fn apply_pod(&mut self, pod: &Arc<Pod>, streams: &mut Streams) {
        match self.pods.get_mut(&pod.uid) {
            // The newest object of a pod is held by many; an older one would be held by this alone.
            Some(needs)
                if Arc::ptr_eq(&needs.pod, pod) || needs.pod.object.spec == pod.object.spec =>
            {
                needs.pod = Arc::clone(pod);
            }
            Some(_) | None => self.begin(pod, streams),
        }
    }

    /// Takes part in all watches that a pod needs; those it needed before go on, for the new ones are begun first.
    fn begin(&mut self, pod: &Arc<Pod>, streams: &mut Streams) {
        let refs = referenced_objects(pod);
        let namespace = &*pod.full_name.namespace;
        let gone = CancellationToken::new();
        let config_maps: Uses<ConfigMap> = refs
            .config_maps
            .iter()
            .map(|name| (name.clone(), self.parts.config_maps.watch(namespace, name)))
            .collect();
        let secrets: Uses<Secret> = refs
            .secrets
            .iter()
            .map(|name| (name.clone(), self.parts.secrets.watch(namespace, name)))
            .collect();
        for (_, used) in &config_maps {
            streams.push(changes(&pod.uid, &gone, used.subscribe()));
        }
        for (_, used) in &secrets {
            streams.push(changes(&pod.uid, &gone, used.subscribe()));
        }
        let why = "waiting for the API server's answer".to_owned();
        let unknown = ObjectState::Asked { why };
        let before = self.pods.get(&pod.uid).map(|needs| &needs.tokens);
        let had = |token: &TokenRef| {
            let state = before.and_then(|tokens| tokens.get(token));
            state.filter(|state| matches!(state, ObjectState::Known(_)))
        };
        let state = |token: &TokenRef| had(token).unwrap_or(&unknown).clone();
        let tokens = refs
            .tokens
            .iter()
            .map(|token| (token.clone(), state(token)));
        let needs = Needs {
            pod: Arc::clone(pod),
            config_maps,
            secrets,
            tokens: tokens.collect(),
            gone: gone.clone(),
        };
        self.pods.insert(pod.uid.clone(), needs);
        for token in refs.tokens {
            let tokens = self.parts.tokens.clone();
            streams.push(renewals(tokens, pod, token, &gone));
        }
        self.publish(&pod.uid);
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Changed(uid) => self.publish(&uid),
            News::Token(uid, token, result) => {
                let Some(needs) = self.pods.get_mut(&uid) else {
                    return;
                };
                match result {
                    Ok(had) => {
                        let had = ObjectState::Known(Arc::new(had.token.to_string()));
                        needs.tokens.insert(token, had);
                    }
                    Err(error) => {
                        let why = RoundError::of(&error).0;
                        let before = needs.tokens.get(&token);
                        let unknown = ObjectState::Unknown { why: why.clone() };
                        // Said once, not at each try.
                        if before != Some(&unknown) {
                            tracing::warn!(uid = %uid, error = why, "Token could not be had; asked for again");
                        }
                        // One that was had stays in its file until there is a newer one.
                        if !matches!(before, Some(ObjectState::Known(_))) {
                            needs.tokens.insert(token, unknown);
                        }
                    }
                }
                self.publish(&uid);
            }
        }
    }

    /// Shows what is known for a pod, and wakes it when that is something else than before.
    fn publish(&self, uid: &PodUid) {
        let Some(needs) = self.pods.get(uid) else {
            return;
        };
        let objects = PodObjects {
            access: ApiAccess::Cluster,
            config_maps: states(&needs.config_maps, "configmap", self.parts.clock),
            secrets: states(&needs.secrets, "secret", self.parts.clock),
            tokens: needs.tokens.clone(),
            ..PodObjects::default()
        };
        let is_same = |all: &Published| all.pods.get(uid).is_some_and(|old| is_same(old, &objects));
        if !self.published.look(is_same) {
            let objects = Arc::new(objects);
            self.published
                .change(|all| drop(all.pods.insert(uid.clone(), objects)));
            self.wake(uid);
        }
    }

    fn wake(&self, uid: &PodUid) {
        // When nobody listens the process is stopping.
        let _sent = self.wakes.send(uid.clone());
    }
}

/// Equal but for the time at which something was seen to be absent.
fn is_same(old: &PodObjects, new: &PodObjects) -> bool {
    fn all<T: PartialEq>(
        old: &BTreeMap<String, ObjectState<T>>,
        new: &BTreeMap<String, ObjectState<T>>,
    ) -> bool {
        old.len() == new.len()
            && old.iter().zip(new).all(|((a, old), (b, new))| {
                a == b
                    && match (old, new) {
                        (ObjectState::Known(old), ObjectState::Known(new)) => Arc::ptr_eq(old, new),
                        (ObjectState::Absent { .. }, ObjectState::Absent { .. }) => true,
                        (old, new) => old == new,
                    }
            })
    }
    all(&old.config_maps, &new.config_maps)
        && all(&old.secrets, &new.secrets)
        && old.tokens == new.tokens
}

fn states<T: kubelet_cluster::objects::MaybeImmutable>(
    uses: &[(String, Use<T>)],
    word: &str,
    clock: Clock,
) -> BTreeMap<String, ObjectState<T>> {
    let state = |used: &Use<T>| match used.known() {
        Known::Present(object) => ObjectState::Known(object),
        Known::Absent => ObjectState::Absent { at: clock.now() },
        Known::Unknown(failed) => {
            let why = format!("failed to sync {word} cache: timed out waiting for the condition");
            match failed {
                None => ObjectState::Asked { why },
                Some(_) => ObjectState::Unknown { why },
            }
        }
    };
    uses.iter()
        .map(|(name, used)| (name.clone(), state(used)))
        .collect()
}

fn token_key(pod: &Pod, token: &TokenRef) -> TokenKey {
    let account = pod.spec().service_account_name.clone();
    TokenKey {
        namespace: pod.full_name.namespace.to_string(),
        account: account
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        audiences: Some(token.audience.clone())
            .filter(|a| !a.is_empty())
            .into_iter()
            .collect(),
        seconds: token.expiration_seconds,
        pod: Some((pod.full_name.name.to_string(), pod.uid.to_string())),
    }
}

/// Tells of each change of one object that a pod names, until the pod does not need it any more.
fn changes<T: Send + Sync + 'static>(
    uid: &PodUid,
    gone: &CancellationToken,
    known: watch::Receiver<Known<T>>,
) -> BoxStream<'static, News> {
    let uid = uid.clone();
    let changes = unfold(known, |mut known| async move {
        known.changed().await.ok().map(|()| ((), known))
    });
    changes
        .map(move |()| News::Changed(uid.clone()))
        .take_until(gone.clone().cancelled_owned())
        .boxed()
}

/// Asks for a token at once and then from time to time: it is another one when the last has grown old.
fn renewals(
    tokens: Tokens,
    pod: &Pod,
    token: TokenRef,
    gone: &CancellationToken,
) -> BoxStream<'static, News> {
    let (uid, key) = (pod.uid.clone(), token_key(pod, &token));
    let asked = unfold((Duration::ZERO, 0), move |(after, failures)| {
        let (tokens, key) = (tokens.clone(), key.clone());
        async move {
            tokio::time::sleep(after).await;
            // Boxed: a call is many times as large as the wait, which is what every pod is nearly all the time.
            let result = Box::pin(tokens.token(&key)).await;
            let next = if result.is_ok() {
                (TOKEN_CHECK, 0)
            } else {
                let failures = failures + 1_u32;
                (TOKEN_RETRY.after(failures), failures)
            };
            Some((result, next))
        }
    });
    asked
        .map(move |result| News::Token(uid.clone(), token.clone(), result))
        .take_until(gone.clone().cancelled_owned())
        .boxed()
}
