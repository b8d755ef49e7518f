//! Makes sure that an image is on the node: looks, pulls if the policy says so, within the node's limits, and keeps back-off.
//!
//! In:    `ImageWanted`
//! Out:   `ResolvedImage`, or why it cannot be had; how long each pod waited for pulls;
//!        `kubelet_image_manager_ensure_image_requests_total`
//! Calls: execute; one pull at a time by default, or `maxParallelImagePulls` at once
//! Holds: only the runtime receives credentials; a pull has no deadline, can be cancelled at any await, and shows at
//!        `/debug/tasks`; the kubelet sends at most `registryPullQPS` pulls a second; a pull that takes longer than [`PATIENCE`]
//!        gives its place to images of other registries, so a registry that hangs delays only its own images; the more
//!        registries wait, the sooner a pull gives its place
//! Upstream: pkg/kubelet/images/image_manager.go, puller.go (1.36)

pub mod image_list;
pub mod pull_credentials;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubelet_api::runtime::v1 as cri;
use kubelet_cri::Client;
use kubelet_decide::images::pull_credentials::full_repository;
use kubelet_decide::report::events::ImageMoment;
use kubelet_decide::shapes::outcome::ResolvedImage;
use kubelet_decide::shapes::plan::{ImageWanted, PullPolicy};
use kubelet_decide::shapes::secrets::Credential;
use kubelet_model::ids::PodUid;
use kubelet_model::reason::Reason;
use prometheus::{IntCounterVec, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::frame::metrics::Making;
use crate::images::pull_credentials::NodeCredentials;

/// A pull has the node's turn for so long; after that images of other registries may be pulled beside it.
const PATIENCE: Duration = Duration::from_secs(30);
/// However many registries wait, a pull that answers as usual is not overtaken.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);

/// Why an image cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ImageError {
    /// The waiting reason.
    pub reason: Reason,
    /// The text behind it.
    pub message: String,
    /// The pull itself failed: back-off applies.
    pub pull_failed: bool,
}

/// Hears how far the making sure of an image has come.
pub type Tell<'a> = &'a (dyn Fn(ImageMoment<'_>) + Send + Sync);

/// Limits on pulls.
#[derive(Clone, Copy, Debug)]
pub struct PullLimits {
    /// Pulls at once; `None` is no limit.
    pub parallel: Option<usize>,
    /// Pulls a second on average; 0 is no limit.
    pub qps: i32,
    /// Pulls at once out of the average.
    pub burst: i32,
}

/// The image side. Clones share the limits.
#[derive(Clone, Debug)]
pub struct Images {
    cri: Client,
    node: NodeCredentials,
    slots: Option<Arc<Turns>>,
    rate: Arc<Mutex<TokenBucket>>,
    under_way: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Time of pulls by pod, until the pod is forgotten.
    pulling: Arc<Mutex<BTreeMap<PodUid, Duration>>>,
    requests: IntCounterVec,
}

impl Images {
    /// With these limits.
    ///
    /// # Errors
    /// When the metric's name is taken.
    pub fn new(
        cri: Client,
        node: NodeCredentials,
        limits: PullLimits,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            cri,
            node,
            slots: limits.parallel.map(|n| Arc::new(Turns::new(n.max(1)))),
            rate: Arc::new(Mutex::new(TokenBucket::new(limits.qps, limits.burst))),
            under_way: Arc::default(),
            pulling: Arc::default(),
            requests: Making(registry).counters(
                "image_manager_ensure_image_requests_total",
                "Number of ensure-image requests processed by the kubelet.",
                &["pull_policy", "present_locally", "pull_required"],
            )?,
        })
    }

    /// How long pulls for this pod took, waiting for their turn included, failed ones too.
    pub fn pulling_time(&self, uid: &PodUid) -> Duration {
        let pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
        pulling.get(uid).copied().unwrap_or_default()
    }

    /// The pod is gone.
    pub fn forget(&self, uid: &PodUid) {
        self.pulling
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    /// Pulls that run now: image → how many wait for it.
    pub fn under_way(&self) -> BTreeMap<String, usize> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Makes sure of an image; `tell` hears how far that has come.
    ///
    /// # Errors
    /// With the reason and text that status shows.
    pub async fn resolve(
        &self,
        wanted: &ImageWanted,
        tell: Tell<'_>,
    ) -> Result<ResolvedImage, ImageError> {
        let mut answers = Answers::default();
        // Boxed: every worker would carry the room for a pull.
        let resolved = Box::pin(self.resolved(wanted, &mut answers, tell)).await;
        let policy = match wanted.policy {
            PullPolicy::Always => "always",
            PullPolicy::IfNotPresent => "ifnotpresent",
            PullPolicy::Never => "never",
        };
        let labels = [policy, word(answers.present), word(answers.pull_required)];
        self.requests.with_label_values(&labels).inc();
        resolved
    }

    async fn resolved(
        &self,
        wanted: &ImageWanted,
        answers: &mut Answers,
        tell: Tell<'_>,
    ) -> Result<ResolvedImage, ImageError> {
        let name = with_default_tag(&wanted.image).map_err(|message| {
            let image = &wanted.image;
            let message = format!("Failed to apply default image tag \"{image}\": {message}");
            tell(ImageMoment::BadName(&message));
            unpulled(Reason::InvalidImageName, message)
        })?;
        let present = match wanted.policy {
            PullPolicy::Always => None,
            PullPolicy::IfNotPresent | PullPolicy::Never => {
                self.present(&name, wanted).await.map_err(|error| {
                    // Quirk: upstream names the reference that it did not get (imagePullPrecheck).
                    let message = format!("Failed to inspect image \"\": {}", error.message());
                    tell(ImageMoment::NotInspected(&message));
                    unpulled(Reason::ImageInspectError, message)
                })?
            }
        };
        if wanted.policy != PullPolicy::Always {
            answers.present = Some(present.is_some());
        }
        match (present, wanted.policy) {
            (Some((image, _)), _) => {
                answers.pull_required = Some(false);
                tell(ImageMoment::Present);
                return Ok(image);
            }
            (None, PullPolicy::Never) => {
                tell(ImageMoment::NeverPulled);
                let image = &wanted.image;
                return Err(unpulled(
                    Reason::ErrImageNeverPull,
                    format!("Container image \"{image}\" is not present with pull policy of Never"),
                ));
            }
            (None, PullPolicy::Always | PullPolicy::IfNotPresent) => {}
        }
        if wanted.pull_held_until.is_some() {
            tell(ImageMoment::HeldBack);
            return Err(unpulled(
                Reason::ImagePullBackOff,
                format!("Back-off pulling image \"{}\"", wanted.image),
            ));
        }
        answers.pull_required = Some(true);
        if let Some(warning) = wanted.pull_secrets.warning() {
            tell(ImageMoment::SecretsMissing(&warning));
        }
        tell(ImageMoment::Pulling);
        let began = Instant::now();
        let pulled = self.pull(&name, wanted).await;
        let with_waiting = began.elapsed();
        self.add_pulling(wanted, with_waiting);
        match pulled {
            Ok(Pulled { image, took, size }) => {
                tell(ImageMoment::Pulled {
                    took,
                    with_waiting,
                    size,
                });
                Ok(image)
            }
            Err(message) => {
                tell(ImageMoment::PullFailed(&message));
                Err(ImageError {
                    reason: Reason::ErrImagePull,
                    message,
                    pull_failed: true,
                })
            }
        }
    }

    fn add_pulling(&self, wanted: &ImageWanted, took: Duration) {
        let metadata = wanted.sandbox_config.metadata.as_ref();
        if let Some(uid) = metadata.and_then(|metadata| PodUid::parse(&metadata.uid).ok()) {
            let mut pulling = self.pulling.lock().unwrap_or_else(PoisonError::into_inner);
            *pulling.entry(uid).or_default() += took;
        }
    }

    async fn pull(&self, name: &str, wanted: &ImageWanted) -> Result<Pulled, String> {
        if !self
            .rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            return Err("pull QPS exceeded".to_owned());
        }
        let _shown = UnderWay::enter(&self.under_way, name);
        // Before a turn is taken: the disk may not answer.
        let keyring = self.node.keyring().await;
        let repository = full_repository(&wanted.image);
        let registry = repository.split('/').next().unwrap_or_default();
        let mut turn = match &self.slots {
            Some(turns) => Some(turns.next(registry).await),
            None => None,
        };
        if let Some(error) = wanted.pull_secrets.unreadable {
            return Err(error.to_string());
        }
        let mut credentials = wanted.pull_secrets.credentials.clone();
        credentials.extend(keyring.for_image(&repository));
        // Boxed: both ways of waiting for it would carry the room for it.
        let pull = Box::pin(self.pull_with_any(name, wanted, credentials));
        match &mut turn {
            Some(turn) => turn.during(pull).await,
            None => pull.await,
        }
    }

    /// Pulls, and looks at what came.
    async fn pull_with_any(
        &self,
        name: &str,
        wanted: &ImageWanted,
        credentials: Vec<Credential>,
    ) -> Result<Pulled, String> {
        let began = Instant::now();
        let reference = self.pulled_reference(name, wanted, credentials).await?;
        let took = began.elapsed();
        let unseen = || ResolvedImage {
            env_files: None,
            wanted: wanted.image.clone(),
            id: reference.clone(),
            uid: None,
            username: String::new(),
        };
        let seen = self.present(&reference, wanted).await;
        let seen =
            seen.map_err(|error| format!("image was pulled but cannot be inspected: {error}"))?;
        let (image, size) = seen.unwrap_or_else(|| (unseen(), 0));
        Ok(Pulled { image, took, size })
    }

    /// Tries one credential after the other, the pod's before the node's; without any it pulls as nobody.
    async fn pulled_reference(
        &self,
        name: &str,
        wanted: &ImageWanted,
        credentials: Vec<Credential>,
    ) -> Result<String, String> {
        let count = credentials.len();
        tracing::info!(
            image = name,
            container = wanted.container,
            credentials = count,
            "Pulling image"
        );
        let as_auth = |credential: Credential| cri::AuthConfig {
            username: credential.username,
            password: credential.password,
            ..cri::AuthConfig::default()
        };
        let mut tries: Vec<Option<cri::AuthConfig>> =
            credentials.into_iter().map(as_auth).map(Some).collect();
        if tries.is_empty() {
            tries.push(None);
        }
        let mut errors: Vec<String> = Vec::new();
        for auth in tries {
            let config = (*wanted.sandbox_config).clone();
            match self.cri.pull_image(name, auth, config).await {
                Ok(reference) => return Ok(reference),
                Err(error) => {
                    let message = error.message();
                    if !errors.contains(&message) {
                        errors.push(message);
                    }
                }
            }
        }
        // As Go prints an aggregate: each different text once.
        Err(match errors.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        })
    }

    /// An image that is on the node, and its size.
    async fn present(
        &self,
        name: &str,
        wanted: &ImageWanted,
    ) -> Result<Option<(ResolvedImage, u64)>, kubelet_cri::CriError> {
        Ok(self
            .cri
            .image_status(name)
            .await?
            .map(|image| (resolved(&image, wanted), image.size)))
    }
}

/// Turns of pulls: so many at once on the node, and so many from each registry, however long they take.
#[derive(Debug)]
struct Turns {
    width: usize,
    node: Arc<Semaphore>,
    registries: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    /// Since when each registry waits that waits for a turn of the node, in the order of their turns.
    waiting: watch::Sender<Vec<Instant>>,
}

/// One registry that waits for a turn of the node, for as long as it does.
struct Waits<'a>(&'a watch::Sender<Vec<Instant>>, Instant);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a watch::Sender<Vec<Instant>>) -> Self {
        let now = Instant::now();
        waiting.send_modify(|all| all.push(now));
        Self(waiting, now)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|all| {
            // Any of the same moment is as good.
            let own = all.iter().position(|since| *since == self.1);
            own.map(|own| all.remove(own));
        });
    }
}

/// A turn, until it is dropped.
struct Turn<'a> {
    turns: &'a Turns,
    registry: String,
    at_registry: Option<OwnedSemaphorePermit>,
    at_node: Option<OwnedSemaphorePermit>,
}

impl Turns {
    fn new(width: usize) -> Self {
        Self {
            width,
            node: Arc::new(Semaphore::new(width)),
            registries: Mutex::default(),
            waiting: watch::Sender::new(Vec::new()),
        }
    }

    /// Waits for the registry's turn first: whoever waits behind a registry that hangs has nothing that others wait for.
    async fn next(&self, registry: &str) -> Turn<'_> {
        let mut turn = Turn {
            turns: self,
            registry: registry.to_owned(),
            at_registry: None,
            at_node: None,
        };
        let at_registry = {
            let mut all = self.registries();
            let of_registry = all.entry(registry.to_owned());
            Arc::clone(of_registry.or_insert_with(|| Arc::new(Semaphore::new(self.width))))
        };
        // Semaphores hand out in the order of asking; they are never closed.
        turn.at_registry = at_registry.acquire_owned().await.ok();
        let waits = Waits::begin(&self.waiting);
        turn.at_node = Arc::clone(&self.node).acquire_owned().await.ok();
        drop(waits);
        turn
    }

    /// Until when a pull that began then keeps its turn: the last of those that wait is to have one when the first has waited as long
    /// as a pull may take, as far as each has the least time.
    fn until(&self, began: Instant, waiting: &[Instant]) -> Instant {
        let rounds = waiting.len().div_ceil(self.width).max(1);
        let first = waiting.first().copied().unwrap_or(began);
        let left = (first + PATIENCE).saturating_duration_since(began);
        let share = left / u32::try_from(rounds).unwrap_or(u32::MAX);
        began + share.clamp(LEAST_PATIENCE, PATIENCE)
    }

    fn registries(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Semaphore>>> {
        self.registries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Waits for the pull, and leaves the node's turn when that takes too long. The pull goes on. Cancel: as the pull.
    async fn during<T>(&mut self, pull: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let mut waiting = self.turns.waiting.subscribe();
        let mut pull = std::pin::pin!(pull);
        while self.at_node.is_some() {
            let until = self.turns.until(began, &waiting.borrow_and_update());
            tokio::select! {
                // An answer first: it is what is waited for.
                biased;
                done = &mut pull => return done,
                () = tokio::time::sleep_until(until) => self.at_node = None,
                // How long it may take depends on who waits; the sender lives as long as the turn.
                _ = waiting.changed() => {}
            }
        }
        pull.await
    }
}

impl Drop for Turn<'_> {
    /// A registry of which nothing is pulled is forgotten.
    fn drop(&mut self) {
        self.at_registry = None;
        let mut all = self.turns.registries();
        let is_idle = |semaphore: &Arc<Semaphore>| Arc::strong_count(semaphore) == 1;
        if all.get(&self.registry).is_some_and(is_idle) {
            all.remove(&self.registry);
        }
    }
}

/// A pull that succeeded.
struct Pulled {
    image: ResolvedImage,
    took: Duration,
    size: u64,
}

/// No pull was tried.
fn unpulled(reason: Reason, message: String) -> ImageError {
    ImageError {
        reason,
        message,
        pull_failed: false,
    }
}

/// What was found out on the way, for the metric.
#[derive(Default)]
struct Answers {
    present: Option<bool>,
    pull_required: Option<bool>,
}

fn word(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "true",
        Some(false) => "false",
        None => "unknown",
    }
}

fn resolved(image: &cri::Image, wanted: &ImageWanted) -> ResolvedImage {
    ResolvedImage {
        env_files: None,
        wanted: wanted.image.clone(),
        id: image.id.clone(),
        uid: image.uid.as_ref().map(|u| u.value),
        username: image.username.clone(),
    }
}

/// Adds `:latest` where the name has neither tag nor digest.
fn with_default_tag(image: &str) -> Result<String, String> {
    let bad = image.is_empty() || image.chars().any(|c| c.is_whitespace() || c.is_control());
    let (path, digest) = image
        .split_once('@')
        .map_or((image, None), |(path, digest)| (path, Some(digest)));
    let last = path.rsplit('/').next().unwrap_or_default();
    let (repository, tag) = last
        .split_once(':')
        .map_or((last, None), |(repository, tag)| (repository, Some(tag)));
    let parts_bad = repository.is_empty()
        || tag.is_some_and(str::is_empty)
        || digest.is_some_and(|d| !d.contains(':'));
    let case_bad = repository.chars().any(|c| c.is_ascii_uppercase());
    if bad || parts_bad || path.starts_with('/') || path.ends_with('/') {
        return Err(format!(
            "couldn't parse image name \"{image}\": invalid reference format"
        ));
    }
    if case_bad {
        return Err(format!(
            "couldn't parse image name \"{image}\": invalid reference format: repository name must be lowercase"
        ));
    }
    Ok(if tag.is_none() && digest.is_none() {
        format!("{image}:latest")
    } else {
        image.to_owned()
    })
}

/// Shows a pull while it lives.
struct UnderWay<'a> {
    all: &'a Mutex<BTreeMap<String, usize>>,
    name: String,
}

impl<'a> UnderWay<'a> {
    fn enter(all: &'a Mutex<BTreeMap<String, usize>>, name: &str) -> Self {
        *all.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name.to_owned())
            .or_default() += 1;
        Self {
            all,
            name: name.to_owned(),
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.name);
            }
        }
    }
}

/// Pulls a second, with a burst.
#[derive(Debug)]
struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Option<Instant>,
}

impl TokenBucket {
    fn new(qps: i32, burst: i32) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            per_second: f64::from(qps.max(0)),
            burst,
            tokens: burst,
            filled: None,
        }
    }

    fn take(&mut self) -> bool {
        if self.per_second == 0.0 {
            return true;
        }
        let now = Instant::now();
        let passed = self.filled.map_or(Duration::ZERO, |at| now - at);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        self.filled = Some(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use kubelet_decide::shapes::secrets::PullSecrets;
    use kubelet_host::HostRoot;
    use kubelet_host::blocking::Blocking;
    use testkit::cri::{StandInConfig, StandInRuntime};

    use super::*;

    #[test]
    fn names_get_a_tag_or_a_clear_refusal() {
        let rows = [
            ("busybox", Ok("busybox:latest")),
            ("host:5000/a/b", Ok("host:5000/a/b:latest")),
            ("a/b:1", Ok("a/b:1")),
            ("a@sha256:00", Ok("a@sha256:00")),
            ("", Err(())),
            ("a b", Err(())),
            ("a:", Err(())),
            ("/a", Err(())),
            ("Busy", Err(())),
        ];
        for (image, expected) in rows {
            let got = with_default_tag(image);
            assert_eq!(got.as_deref().map_err(|_| ()), expected, "{image}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_lets_a_burst_through_and_refills() {
        let mut bucket = TokenBucket::new(5, 10);
        assert_eq!((0..20).filter(|_| bucket.take()).count(), 10);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..20).filter(|_| bucket.take()).count(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_hangs_holds_up_its_own_images_alone() {
        let turns = Turns::new(1);
        let pull = |registry: &'static str, seconds: u64| {
            let turns = &turns;
            async move {
                let mut turn = turns.next(registry).await;
                let began = Instant::now();
                let takes = Duration::from_secs(seconds);
                turn.during(tokio::time::sleep(takes)).await;
                (began, began + takes)
            }
        };
        let start = Instant::now();
        let (hung, behind, other, last) = tokio::join!(
            biased;
            pull("dead.io", 600),
            pull("dead.io", 1),
            pull("well.io", 5),
            pull("well.io", 5)
        );
        assert_eq!(hung.0, start);
        assert_eq!(other.0, start + PATIENCE, "one at a time until then");
        assert_eq!(last.0, other.1, "and one at a time of the others");
        assert_eq!(
            behind.0, hung.1,
            "what waits for the same registry waits on"
        );
        assert!(turns.registries().is_empty());
    }

    /// Ten pods name a dead registry each; the eleventh pod's is well.
    #[tokio::test(start_paused = true)]
    async fn however_many_registries_hang_an_image_waits_no_longer_than_for_one() {
        for (width, longest) in [(1, 31), (2, 31)] {
            let turns = Turns::new(width);
            let start = Instant::now();
            let dead = (0..10).map(|number| {
                let turns = &turns;
                async move {
                    let mut turn = turns.next(&format!("dead{number}.io")).await;
                    turn.during(tokio::time::sleep(Duration::from_secs(600)))
                        .await;
                }
            });
            let well = async {
                let mut turn = turns.next("well.io").await;
                let waited = start.elapsed();
                turn.during(tokio::time::sleep(Duration::from_secs(2)))
                    .await;
                assert!(turn.at_node.is_some(), "nobody waits for it any more");
                waited
            };
            let (_, waited) = tokio::join!(biased; futures_util::future::join_all(dead), well);
            assert!(
                waited <= Duration::from_secs(longest),
                "{width}: {waited:?}"
            );
            assert!(turns.registries().is_empty());
            assert!(turns.waiting.borrow().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_tried_one_after_the_other_the_pods_before_the_nodes() {
        let scratch = crate::testing::Scratch::new();
        let config = "{\"auths\": {\"r.io\": {\"username\": \"node\", \"password\": \"p\"}}}";
        scratch.write("var/lib/kubelet/config.json", config);
        let runtime = StandInRuntime::new(StandInConfig::default());
        let timeouts = kubelet_cri::Timeouts {
            request: Duration::from_secs(2),
        };
        let metrics = kubelet_cri::Metrics::new(&Registry::new()).unwrap();
        let cri = Client::from_channels(runtime.connect(), runtime.connect(), timeouts, metrics);
        let node = NodeCredentials::new(
            HostRoot::at(scratch.path()),
            Blocking::Inline,
            "/var/lib/kubelet",
            None,
            None,
        );
        let limits = PullLimits {
            parallel: None,
            qps: 0,
            burst: 1,
        };
        let images = Images::new(cri, node, limits, &Registry::new()).unwrap();
        let credential = |user: &str| Credential {
            username: user.to_owned(),
            password: "p".to_owned(),
        };
        let wanted = ImageWanted {
            container: "c".to_owned(),
            image: "r.io/a:1".to_owned(),
            policy: PullPolicy::IfNotPresent,
            pull_held_until: None,
            pull_secrets: PullSecrets {
                credentials: vec![credential("one"), credential("two")],
                ..PullSecrets::default()
            },
            sandbox_config: Box::default(),
        };
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let allowed = |user: &'static str| {
            let seen = Arc::clone(&seen);
            runtime.set_scripts(|scripts| {
                scripts.registry = Arc::new(move |_, name, password| {
                    seen.lock().unwrap().push(name.to_owned());
                    name == user && password == "p"
                });
            });
        };
        allowed("nobody");
        let error = images.resolve(&wanted, &|_| ()).await.unwrap_err();
        assert_eq!(error.reason, Reason::ErrImagePull);
        let denied = |user| format!("pull access denied for r.io/a:1 as \"{user}\"");
        for user in ["one", "two", "node"] {
            assert!(error.message.contains(&denied(user)), "{}", error.message);
        }
        assert_eq!(*seen.lock().unwrap(), ["one", "two", "node"]);
        allowed("two");
        seen.lock().unwrap().clear();
        images.resolve(&wanted, &|_| ()).await.unwrap();
        assert_eq!(
            *seen.lock().unwrap(),
            ["one", "two"],
            "the first that is let in ends it"
        );
        let mut other = wanted.clone();
        other.image = "public.io/a:1".to_owned();
        other.pull_secrets = PullSecrets::default();
        allowed("");
        seen.lock().unwrap().clear();
        let _refused = images.resolve(&other, &|_| ()).await.unwrap_err();
        assert_eq!(*seen.lock().unwrap(), [""], "as nobody");
    }
}
