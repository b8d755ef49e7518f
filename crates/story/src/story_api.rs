//! Our service: pods with their stories, in pages, and as they change.
//!
//! In:    requests of `hyperkube.story.v1alpha1.Stories`
//! Out:   pods as JSON with probes, waits and stages
//! Calls: `server`
//! Holds: a page ends after 64 pods or a megabyte; where it ended says the UID of its last pod, so that nothing is kept between pages
//! Upstream: none

use std::ops::Bound;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use kubelet_model::ids::PodUid;
use kubelet_model::reported::ReportedPods;
use kubelet_model::story::Story;
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::changes::{Change, Changes};
use crate::source::{Source, who};
use crate::stubs::story::stories_server::Stories;
use crate::stubs::story::story_event::Type;
use crate::stubs::story::{
    ListStoriesRequest, ListStoriesResponse, PodStory, StoryEvent, WatchStoriesRequest,
};

/// Pods of a page.
const PAGE_PODS: usize = 64;
/// Bytes after which a page ends.
const PAGE_BYTES: usize = 1 << 20;

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct StoryApi {
    pub(crate) source: Source,
}

#[tonic::async_trait]
impl Stories for StoryApi {
    type WatchStoriesStream = BoxStream<'static, Result<StoryEvent, Status>>;

    async fn list_stories(
        &self,
        request: Request<ListStoriesRequest>,
    ) -> Result<Response<ListStoriesResponse>, Status> {
        let after = request.into_inner().r#continue;
        let after = match after.as_str() {
            "" => None,
            uid => {
                let uid = PodUid::parse(uid);
                Some(uid.map_err(|_| Status::invalid_argument("continue is not of this list"))?)
            }
        };
        let pods = self.source.snapshot();
        let render = move |source: &Source| page(source, &pods, after.as_ref());
        self.source.render(render).await.map(Response::new)
    }

    async fn watch_stories(
        &self,
        _request: Request<WatchStoriesRequest>,
    ) -> Result<Response<Self::WatchStoriesStream>, Status> {
        let source = self.source.clone();
        let changes = Changes::new(source.watched());
        let events = stream::unfold((source, changes), async |(source, mut changes)| {
            let change = changes.next().await?;
            let event = source.render(move |source| event(source, &change)).await;
            Some((event, (source, changes)))
        });
        Ok(Response::new(events.boxed()))
    }
}

fn page(
    source: &Source,
    pods: &ReportedPods,
    after: Option<&PodUid>,
) -> Result<ListStoriesResponse, Status> {
    let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = pods
        .range::<PodUid, _>((begin, Bound::Unbounded))
        .peekable();
    let (mut page, mut bytes, mut last) = (ListStoriesResponse::default(), 0, "");
    while page.pods.len() < PAGE_PODS && bytes < PAGE_BYTES {
        let Some((uid, pod)) = rest.next() else {
            break;
        };
        let story = source.story(pod)?;
        bytes += story.encoded_len();
        page.pods.push(story);
        last = uid.as_str();
    }
    if rest.peek().is_some() {
        last.clone_into(&mut page.r#continue);
    }
    Ok(page)
}

fn event(source: &Source, change: &Change) -> Result<StoryEvent, Status> {
    let (type_, pod) = match change {
        Change::Added(pod) | Change::Modified(pod) => (Type::Changed, Some(source.story(pod)?)),
        Change::Gone(pod) => {
            let json = serde_json::to_vec(&who(pod));
            let json = json.map_err(|error| Status::internal(error.to_string()))?;
            (Type::Gone, Some(PodStory::of(json, &Story::default())))
        }
        Change::Complete => (Type::Complete, None),
    };
    Ok(StoryEvent {
        r#type: type_.into(),
        pod,
    })
}
