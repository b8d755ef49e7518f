//! Asks the kubelet of this node.
//!
//! In:    the path of its socket
//! Out:   pods with their stories; errors that say what to do
//! Calls: `run`
//! Holds: every call ends within its deadline, but a watch; what cannot be read is an error and never a panic
//! Upstream: none

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1;
use kubelet_host::sockets::reached;
use kubelet_model::story::Story;
use serde_json::Value;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::stubs::story::stories_client::StoriesClient;
use crate::stubs::story::story_event::Type;
use crate::stubs::story::{ListStoriesRequest, PodStory, StoryEvent, WatchStoriesRequest};

/// How long one answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer; a page is about a megabyte.
const ANSWER_BYTES: usize = 16 << 20;
/// Pages of one list; a node has a few.
const PAGES: usize = 1000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "no kubelet of hyperkube serves {}: there is no such socket. Does one run on this node? --root-dir names another kubelet's \
         directory, --socket another socket",
        .0.display()
    )]
    Absent(PathBuf),
    #[error("no kubelet listens on {} any more: it does not run, or runs with another root directory (--root-dir)", .0.display())]
    Left(PathBuf),
    #[error("{} may be used by root only", .0.display())]
    NotRoot(PathBuf),
    #[error("the kubelet at {} is too old for this command: it does not know {}", .0.display(), .1)]
    TooOld(PathBuf, &'static str),
    #[error("the kubelet at {} does not answer within {} s", .0.display(), DEADLINE.as_secs())]
    Late(PathBuf),
    #[error("the kubelet at {} has closed the connection: {}", .0.display(), .1)]
    Closed(PathBuf, String),
    #[error("{}: {}", .0.display(), .1)]
    Other(PathBuf, String),
}

/// A pod, and what is told of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// As it was sent.
    pub(crate) json: Value,
    pub(crate) pod: v1::Pod,
    pub(crate) story: Story,
}

impl Told {
    pub(crate) fn of(json: Value, story: Story) -> Result<Self, serde_json::Error> {
        let pod = serde::Deserialize::deserialize(&json)?;
        Ok(Self { json, pod, story })
    }

    fn read(message: &PodStory) -> Result<Self, serde_json::Error> {
        Self::of(serde_json::from_slice(&message.pod)?, message.story())
    }

    pub(crate) fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }
}

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Event {
    Changed(Box<Told>),
    /// The pod with this UID is gone.
    Gone(String),
    Complete,
}

/// A connection to a kubelet. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    stories: StoriesClient<Channel>,
}

impl Client {
    pub(crate) async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let of = |error: &std::io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => ClientError::Absent(socket.into()),
            ErrorKind::ConnectionRefused => ClientError::Left(socket.into()),
            ErrorKind::PermissionDenied => ClientError::NotRoot(socket.into()),
            _ => ClientError::Other(socket.into(), error.to_string()),
        };
        let path = reached(socket).map_err(|error| of(&error))?;
        let connecting = tokio::time::timeout(DEADLINE, UnixStream::connect(&path.path));
        let stream = connecting.await;
        let stream = stream.map_err(|_elapsed| ClientError::Late(socket.into()))?;
        // One connection: a kubelet that ends is told, and not waited for.
        let stream = Mutex::new(Some(stream.map_err(|error| of(&error))?));
        let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
            let stream = stream.lock().ok().and_then(|mut stream| stream.take());
            let stream = stream.ok_or_else(|| std::io::Error::from(ErrorKind::ConnectionReset));
            async move { stream.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://kubelet.invalid");
        let channel = channel.connect_with_connector(connector).await;
        let channel =
            channel.map_err(|error| ClientError::Closed(socket.into(), error.to_string()))?;
        Ok(Self {
            socket: socket.to_owned(),
            stories: StoriesClient::new(channel).max_decoding_message_size(ANSWER_BYTES),
        })
    }

    fn failed(&self, status: &Status, method: &'static str) -> ClientError {
        let socket = self.socket.clone();
        let text = || status.message().to_owned();
        match status.code() {
            Code::Unimplemented => ClientError::TooOld(socket, method),
            Code::Unavailable | Code::Cancelled | Code::Unknown => {
                ClientError::Closed(socket, text())
            }
            Code::DeadlineExceeded => ClientError::Late(socket),
            _ => ClientError::Other(socket, text()),
        }
    }

    fn read(&self, message: &PodStory) -> Result<Told, ClientError> {
        let told = Told::read(message);
        told.map_err(|error| {
            ClientError::Other(
                self.socket.clone(),
                format!("a pod cannot be read: {error}"),
            )
        })
    }

    /// All pods, by namespace and name.
    pub(crate) async fn list(&mut self) -> Result<Vec<Told>, ClientError> {
        let (mut all, mut request) = (Vec::new(), ListStoriesRequest::default());
        for _ in 0..PAGES {
            let answer = self.stories.list_stories(request.clone());
            let answer = tokio::time::timeout(DEADLINE, answer).await;
            let answer = answer.map_err(|_elapsed| ClientError::Late(self.socket.clone()))?;
            let page = answer.map_err(|status| self.failed(&status, "ListStories"))?;
            let page = page.into_inner();
            for message in &page.pods {
                all.push(self.read(message)?);
            }
            request.r#continue = page.r#continue;
            if request.r#continue.is_empty() {
                break;
            }
        }
        all.sort_by_key(Told::full_name);
        Ok(all)
    }

    /// All pods, and then what changes.
    pub(crate) async fn watch(&mut self) -> Result<Watch<'_>, ClientError> {
        let answer = self.stories.watch_stories(WatchStoriesRequest {});
        let answer = tokio::time::timeout(DEADLINE, answer).await;
        let answer = answer.map_err(|_elapsed| ClientError::Late(self.socket.clone()))?;
        let events = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => return Err(self.failed(&status, "WatchStories")),
        };
        Ok(Watch {
            client: self,
            events,
        })
    }
}

/// A watch.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    client: &'a Client,
    events: Streaming<StoryEvent>,
}

impl Watch<'_> {
    /// What is told next.
    pub(crate) async fn next(&mut self) -> Result<Event, ClientError> {
        let event = self.events.message().await;
        let event = event.map_err(|status| self.client.failed(&status, "WatchStories"))?;
        let closed = || ClientError::Closed(self.client.socket.clone(), "it stops".to_owned());
        let event = event.ok_or_else(closed)?;
        let told = || self.client.read(&event.pod.clone().unwrap_or_default());
        match event.r#type() {
            Type::Changed => Ok(Event::Changed(Box::new(told()?))),
            Type::Gone => Ok(Event::Gone(told()?.uid().to_owned())),
            Type::Complete | Type::Unspecified => Ok(Event::Complete),
        }
    }
}
