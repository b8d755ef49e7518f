//! Lists the images on the node every five minutes.
//!
//! In:    CRI `ListImages`
//! Out:   the list, biggest first, for node status and image collection later; two gauges
//! Calls: wiring
//! Holds: if the runtime does not answer, the last list remains
//! Upstream: pkg/kubelet/images/image_gc_manager.go (Start); differences: one look in five minutes, where upstream also keeps
//!           a second list that it renews each 30 s

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubelet_api::runtime::v1 as wire;
use kubelet_cri::Client;
use prometheus::{IntGauge, Registry};
use tokio::sync::watch;

use crate::frame::reconciler::{Pace, Reconciler, RoundError, WakeReason};

const PERIOD: Duration = Duration::from_secs(300);
/// The first list fails when the runtime is not up yet; then it is soon tried again.
const RETRY: Duration = Duration::from_secs(5);

/// One image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageOnNode {
    /// The runtime's id.
    pub id: String,
    /// Digests first, then tags, as node status shows them.
    pub names: Vec<String>,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// The runtime itself needs it (the sandbox image).
    pub is_pinned: bool,
}

/// All images, biggest first, and when they were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSet {
    /// When.
    pub at: Timestamp,
    /// The images.
    pub images: Arc<[ImageOnNode]>,
}

impl fmt::Display for ImageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images", self.images.len())
    }
}

/// The looker.
#[derive(Clone, Debug)]
pub struct ImageList {
    cri: Client,
    set: watch::Sender<Option<ImageSet>>,
    count: IntGauge,
    bytes: IntGauge,
}

impl ImageList {
    /// Nothing is listed yet.
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub fn new(cri: Client, registry: &Registry) -> Result<Self, prometheus::Error> {
        let count = IntGauge::new("hyperkube_images", "Images on the node")?;
        let bytes = IntGauge::new(
            "hyperkube_images_bytes",
            "Bytes that images take on the node",
        )?;
        registry.register(Box::new(count.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        Ok(Self {
            cri,
            set: watch::Sender::new(None),
            count,
            bytes,
        })
    }

    /// How often it looks.
    pub fn pace() -> Pace {
        Pace {
            retry: RETRY,
            ..Pace::every(PERIOD)
        }
    }

    /// The last list; `None` before the first.
    pub fn subscribe(&self) -> watch::Receiver<Option<ImageSet>> {
        self.set.subscribe()
    }
}

impl Reconciler for ImageList {
    const NAME: &'static str = "image_list";
    type Seen = Vec<wire::Image>;
    type Plan = ImageSet;

    async fn observe(&mut self, _why: WakeReason) -> Result<Self::Seen, RoundError> {
        self.cri
            .list_images()
            .await
            .map_err(|error| RoundError::of(&error))
    }

    fn decide(&self, seen: Self::Seen, now: Timestamp) -> ImageSet {
        let mut images: Vec<ImageOnNode> = seen
            .into_iter()
            .map(|image| ImageOnNode {
                id: image.id,
                names: image
                    .repo_digests
                    .into_iter()
                    .chain(image.repo_tags)
                    .collect(),
                size_bytes: image.size,
                is_pinned: image.pinned,
            })
            .collect();
        images.sort_by(|a, b| {
            b.size_bytes
                .cmp(&a.size_bytes)
                .then_with(|| a.id.cmp(&b.id))
        });
        ImageSet {
            at: now,
            images: images.into(),
        }
    }

    async fn act(&mut self, plan: ImageSet) -> Result<(), RoundError> {
        let bytes: u64 = plan.images.iter().map(|image| image.size_bytes).sum();
        self.count
            .set(i64::try_from(plan.images.len()).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.set.send_replace(Some(plan));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kubelet_cri::{Metrics, Timeouts};
    use testkit::cri::{CrashScope, StandInConfig, StandInRuntime};

    use super::*;
    use crate::frame::clock::Clock;
    use crate::frame::reconciler::Reconcilers;
    use crate::frame::supervisor::Supervisor;

    #[tokio::test(start_paused = true)]
    async fn images_are_listed_at_once_then_each_five_minutes_and_kept_over_an_outage() {
        let runtime = StandInRuntime::new(StandInConfig::default());
        runtime.add_image("registry.example/small:1", 10);
        runtime.add_image("registry.example/big:1", 70);
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let request = Duration::from_secs(2);
        let cri = Client::from_channels(
            runtime.connect(),
            runtime.connect(),
            Timeouts { request },
            metrics,
        );
        let clock = Clock::simulated(Timestamp::UNIX_EPOCH);
        let reconcilers =
            Reconcilers::new(Supervisor::new(clock), clock, 1, &Registry::new()).unwrap();
        let registry = Registry::new();
        let list = ImageList::new(cri, &registry).unwrap();
        let set = list.subscribe();
        reconcilers.spawn(list, ImageList::pace());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let first = set.borrow().clone().unwrap();
        let sizes: Vec<u64> = first.images.iter().map(|image| image.size_bytes).collect();
        assert_eq!(sizes, [70, 10]);
        assert!(
            first.images[0]
                .names
                .contains(&"registry.example/big:1".to_owned())
        );
        runtime.add_image("registry.example/more:1", 20);
        tokio::time::sleep(Duration::from_secs(290)).await;
        assert_eq!(set.borrow().clone().unwrap(), first);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(set.borrow().as_ref().unwrap().images.len(), 3);
        runtime.crash(Duration::from_secs(3600), CrashScope::Runtime);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(set.borrow().as_ref().unwrap().images.len(), 3);
    }
}
