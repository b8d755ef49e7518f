//! Authentication (client certificates, tokens, the anonymous user) and authorization of requests on the main port.
//!
//! In:    the configuration, the client certificate of the connection (the client has proven that it holds the key), the head
//!        of the request; handles for token and access reviews at the API server, or none
//! Out:   [`User`], or the 401, 403, 429 or 500 to answer with
//! Calls: `answer`, per request on the main port
//! Holds: a mode without its backend refuses every request; tokens are kept as keyed digests only; every review ends after 30
//!        s; few reviews run at a time, a quarter of them for one address, beyond them the answer is 429; text that cannot be a
//!        token is refused without a review
//! Upstream: pkg/kubelet/server/{server.go InstallAuthFilter,auth.go}, cmd/kubelet/app/auth.go, staging/src/k8s.io/apiserver
//!           pkg/authentication (1.36); differences: a certificate's UID extension is not read; a token that the API server
//!           rejects with an error is not reviewed again for 10 s

mod asking;
mod memory;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::NO_PAD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use futures_util::future::BoxFuture;
use hyper::header::{AUTHORIZATION, HeaderMap, SEC_WEBSOCKET_PROTOCOL};
use kubelet_tls::is_good;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;

use crate::endpoints::{subresources, verb};
use asking::{Asking, Bounds, Holds};

/// The time limit of a review, with its retries.
const REVIEW_DEADLINE: Duration = Duration::from_secs(30);
/// Limits of token reviews.
const TOKENS: Bounds = Bounds {
    answers: (4096, 1024),
    slots: (16, 4),
};
/// Limits of access reviews.
const DECISIONS: Bounds = Bounds {
    answers: (4096, 4096),
    slots: (32, 8),
};
/// How long a token that the API server rejected with an error stays rejected.
const FAULT_HOLDS: Duration = Duration::from_secs(10);
/// `Retry-After` when too many reviews are running.
const COME_BACK: Duration = Duration::from_secs(1);
/// The longest token.
const TOKEN_BYTES: usize = 16 << 10;
/// Upstream does not cache answers to longer questions.
const QUESTION_BYTES: usize = 10_000;
/// Browsers cannot set headers, so a token may be sent as a WebSocket protocol.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// How a request without credentials is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Its user is `system:anonymous` in group `system:unauthenticated`.
    Allowed,
    /// It gets 401.
    Refused,
}

/// Why a review gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The API server could not be reached, or failed.
    #[error("{0}")]
    Failed(String),
    /// The API server rejected the token with an error.
    #[error("{0}")]
    Fault(String),
    /// Too many reviews are running.
    #[error("too many reviews at the API server are in flight")]
    Busy,
    /// The API server did not answer in time.
    #[error("the API server did not answer within 30 s")]
    Late,
}

type Reviewed<T> = BoxFuture<'static, Result<T, ReviewError>>;

/// Reviews a token at the API server (TokenReview); `None` if it is not valid.
#[derive(Clone)]
pub struct TokenReview(pub Arc<dyn Fn(String) -> Reviewed<Option<User>> + Send + Sync>);

impl std::fmt::Debug for TokenReview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenReview")
    }
}

/// Asks the API server whether a user may do something (SubjectAccessReview).
#[derive(Clone)]
pub struct AccessReview(pub Arc<dyn Fn(Access) -> Reviewed<bool> + Send + Sync>);

impl std::fmt::Debug for AccessReview {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccessReview")
    }
}

/// Who does the reviews of one kind.
#[derive(Debug, Clone)]
pub enum Reviewer<R> {
    /// Nobody: the node is standalone, and the mode refuses every request.
    Standalone,
    /// The API server.
    Cluster(R),
}

/// How bearer tokens are authenticated.
#[derive(Debug, Clone)]
pub enum TokenAuthentication {
    /// They are ignored, as in upstream with the webhook off.
    Ignored,
    /// By a token review at the API server.
    Webhook {
        /// How long an answer is cached, whether positive or negative.
        holds: Duration,
        /// Who does the reviews.
        reviewer: Reviewer<TokenReview>,
    },
}

/// How users are authorized.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// Every authenticated user may do everything.
    AlwaysAllow,
    /// By an access review at the API server.
    Webhook {
        /// How long an allowed answer is cached.
        yes_holds: Duration,
        /// How long a denied answer is cached.
        no_holds: Duration,
        /// Who does the reviews.
        reviewer: Reviewer<AccessReview>,
    },
}

/// An authenticated user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The certificate's common name, or the token's user.
    pub name: String,
    /// Empty unless the token review returned one.
    pub uid: String,
    /// The certificate's organizations or the token's groups, with `system:authenticated`.
    pub groups: Vec<String>,
    /// Extra attributes by key.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The attributes of one SubjectAccessReview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The user.
    pub user: User,
    /// `get` and so on; empty for a method without a verb, which no rule allows.
    pub verb: &'static str,
    /// Empty: the core group.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `nodes`.
    pub resource: &'static str,
    /// `proxy`, `metrics` and so on.
    pub subresource: &'static str,
    /// The name of this node.
    pub name: String,
}

/// The attributes for a request. Any one of them suffices; they are reviewed in this order.
pub fn attributes(user: &User, node: &str, method: &str, path: &str) -> Vec<Access> {
    let one = |subresource: &&'static str| Access {
        user: user.clone(),
        verb: verb(method),
        group: "",
        version: "v1",
        resource: "nodes",
        subresource,
        name: node.to_owned(),
    };
    subresources(path).iter().map(one).collect()
}

/// What a connection's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// None was sent, or it names no user.
    Absent,
    /// Not signed by a configured CA, or not valid at this time.
    Invalid,
    /// A verified one.
    Of(User),
}

/// A response that ends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) text: String,
    /// `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: u16, text: String) -> Self {
        Self {
            status,
            text,
            retry_after: None,
        }
    }

    /// In the words of the API server's own filter.
    fn too_many() -> Self {
        Self {
            retry_after: Some(COME_BACK),
            ..Self::new(429, "Too many requests, please try again later.".to_owned())
        }
    }
}

/// Verifies a client's certificate chain and reads its user.
pub(crate) fn read_certificate(
    chain: &[CertificateDer<'_>],
    authorities: Option<&Arc<dyn ClientCertVerifier>>,
    second: i64,
) -> Certificate {
    let ([leaf, rest @ ..], Some(authorities)) = (chain, authorities) else {
        return Certificate::Absent;
    };
    if !is_good(authorities, (leaf, rest), second) {
        return Certificate::Invalid;
    }
    let Ok(read) = kubelet_tls::Certificate::from_der(leaf) else {
        return Certificate::Invalid;
    };
    let name = read.subject.common_name().to_owned();
    if name.is_empty() {
        return Certificate::Absent;
    }
    let groups = read.subject.organizations().chain(["system:authenticated"]);
    let groups = groups.map(str::to_owned).collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    let digest: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let extra = BTreeMap::from([(
        "authentication.kubernetes.io/credential-id".to_owned(),
        vec![format!("X509SHA256={digest}")],
    )]);
    Certificate::Of(User {
        name,
        uid: String::new(),
        groups,
        extra,
    })
}

/// Both kinds of reviews with their caches.
pub(crate) struct Auth {
    node: String,
    anonymous: Anonymous,
    tokens: TokenAuthentication,
    authorization: Authorization,
    known_tokens: Asking<Whose>,
    decisions: Asking<bool>,
}

impl Auth {
    pub(crate) fn new(
        node: &str,
        anonymous: Anonymous,
        tokens: TokenAuthentication,
        authorization: Authorization,
    ) -> Self {
        Self {
            node: node.to_owned(),
            anonymous,
            tokens,
            authorization,
            known_tokens: Asking::new(TOKENS),
            decisions: Asking::new(DECISIONS),
        }
    }

    /// The user, or 401. An invalid credential is never treated as anonymous.
    pub(crate) async fn authenticate(
        &self,
        certificate: &Certificate,
        headers: &HeaderMap,
        source: IpAddr,
    ) -> Result<User, Refusal> {
        let unauthorized = || Err(Refusal::new(401, "Unauthorized".to_owned()));
        if let Certificate::Of(user) = certificate {
            return Ok(user.clone());
        }
        let token = match &self.tokens {
            TokenAuthentication::Ignored => Presented::Nothing,
            TokenAuthentication::Webhook { .. } => presented(headers),
        };
        match token {
            Presented::Junk => unauthorized(),
            Presented::Token(token) => match self.user_of(&token, source).await? {
                Some(user) => Ok(user),
                None => unauthorized(),
            },
            Presented::Nothing if *certificate == Certificate::Invalid => unauthorized(),
            Presented::Nothing if self.anonymous == Anonymous::Refused => unauthorized(),
            Presented::Nothing => Ok(User {
                name: "system:anonymous".to_owned(),
                groups: vec!["system:unauthenticated".to_owned()],
                ..User::default()
            }),
        }
    }

    /// The user of a token.
    async fn user_of(&self, token: &str, source: IpAddr) -> Result<Option<User>, Refusal> {
        let TokenAuthentication::Webhook {
            holds,
            reviewer: Reviewer::Cluster(review),
        } = &self.tokens
        else {
            return Ok(None);
        };
        let holds = *holds;
        let ask = || asked_whose((review.0)(token.to_owned()));
        let believed = move |found: &Whose| match found {
            Whose::User(_) => Holds {
                is_yes: true,
                holds,
            },
            Whose::Nobody => Holds {
                is_yes: false,
                holds,
            },
            Whose::Faulty => Holds {
                is_yes: false,
                holds: holds.min(FAULT_HOLDS),
            },
        };
        let question = (token.as_bytes(), source);
        match self.known_tokens.ask(question, ask, believed).await {
            Ok(Whose::User(user)) => Ok(Some(*user)),
            Ok(Whose::Nobody | Whose::Faulty) => Ok(None),
            Err(ReviewError::Busy) => Err(Refusal::too_many()),
            Err(error) => {
                tracing::warn!(%error, "a token could not be reviewed");
                Ok(None)
            }
        }
    }

    /// 403 if the user may not, 500 if that cannot be found out.
    pub(crate) async fn authorize(
        &self,
        (user, source): (&User, IpAddr),
        method: &str,
        path: &str,
    ) -> Result<(), Refusal> {
        let Authorization::Webhook {
            yes_holds,
            no_holds,
            reviewer,
        } = &self.authorization
        else {
            return Ok(());
        };
        let wanted = attributes(user, &self.node, method, path);
        if let Reviewer::Cluster(review) = reviewer {
            for access in &wanted {
                let holds = (*yes_holds, *no_holds);
                if self.may(review, (access, source), holds).await? {
                    return Ok(());
                }
            }
        }
        Err(Refusal::new(
            403,
            format!(
                "Forbidden (user={}, verb={}, resource=nodes, subresource(s)=[{}])\n",
                user.name,
                verb(method),
                subresources(path).join(" ")
            ),
        ))
    }

    async fn may(
        &self,
        review: &AccessReview,
        (access, source): (&Access, IpAddr),
        (yes_holds, no_holds): (Duration, Duration),
    ) -> Result<bool, Refusal> {
        let question = format!("{access:?}");
        let is_kept = question.len() < QUESTION_BYTES;
        let believed = move |allowed: &bool| Holds {
            is_yes: *allowed,
            holds: match (is_kept, *allowed) {
                (false, _) => Duration::ZERO,
                (true, true) => yes_holds,
                (true, false) => no_holds,
            },
        };
        let ask = || (review.0)(access.clone());
        let asked = self
            .decisions
            .ask((question.as_bytes(), source), ask, believed);
        let why = match asked.await {
            Ok(allowed) => return Ok(allowed),
            Err(ReviewError::Busy) => return Err(Refusal::too_many()),
            Err(error) => error.to_string(),
        };
        let Access {
            verb,
            resource,
            subresource,
            ..
        } = access;
        let name = &access.user.name;
        tracing::warn!(user = %name, verb, resource, subresource, error = %why, "Authorization error");
        Err(Refusal::new(
            500,
            format!(
                "Authorization error (user={name}, verb={verb}, resource={resource}, subresource={subresource})"
            ),
        ))
    }
}

/// The result of a token review.
#[derive(Clone)]
enum Whose {
    User(Box<User>),
    Nobody,
    /// Rejected with an error that may be temporary.
    Faulty,
}

fn asked_whose(review: Reviewed<Option<User>>) -> BoxFuture<'static, Result<Whose, ReviewError>> {
    Box::pin(async move {
        let mut user = match review.await {
            Ok(Some(user)) => user,
            Ok(None) => return Ok(Whose::Nobody),
            Err(ReviewError::Fault(why)) => {
                tracing::debug!(why, "a token is faulty");
                return Ok(Whose::Faulty);
            }
            Err(error) => return Err(error),
        };
        let everybody = "system:authenticated";
        if !user.groups.iter().any(|group| group == everybody) {
            user.groups.push(everybody.to_owned());
        }
        Ok(Whose::User(Box::new(user)))
    })
}

/// The token of a request.
#[derive(Debug, PartialEq, Eq)]
enum Presented {
    Nothing,
    /// Text that cannot be a token: refused without a review.
    Junk,
    Token(String),
}

fn presented(headers: &HeaderMap) -> Presented {
    let token = bearer(headers).or_else(|| protocol_token(headers).map(String::into_bytes));
    let Some(token) = token else {
        return Presented::Nothing;
    };
    let is_token = token.len() <= TOKEN_BYTES && token.iter().all(u8::is_ascii_graphic);
    match String::from_utf8(token) {
        Ok(token) if is_token => Presented::Token(token),
        Ok(_) | Err(_) => Presented::Junk,
    }
}

/// The token of an `Authorization` header, as bytes.
fn bearer(headers: &HeaderMap) -> Option<Vec<u8>> {
    let header = headers.get(AUTHORIZATION)?.as_bytes().trim_ascii();
    let blank = header.iter().position(|byte| *byte == b' ')?;
    let (scheme, token) = header.split_at(blank);
    // Text after a second blank does not belong to the token.
    let token = token.trim_ascii().split(|byte| *byte == b' ').next()?;
    (scheme.eq_ignore_ascii_case(b"bearer") && !token.is_empty()).then(|| token.to_vec())
}

/// Whether a WebSocket protocol carries a token. It is not passed on.
pub(crate) fn is_token_protocol(protocol: &str) -> bool {
    protocol.starts_with(TOKEN_PROTOCOL)
}

/// The token among the WebSocket protocols. There must be another protocol, otherwise the handshake would have none.
fn protocol_token(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let protocols = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let (tokens, others): (Vec<&str>, Vec<&str>) = protocols
        .map(str::trim)
        .partition(|protocol| is_token_protocol(protocol));
    match (tokens.as_slice(), others.is_empty()) {
        ([token], false) => {
            let token = token.strip_prefix(TOKEN_PROTOCOL)?;
            let token = String::from_utf8(base64url(token)?).ok()?;
            (!token.is_empty()).then_some(token)
        }
        _ => None,
    }
}

/// URL-safe base64 without padding, as Go decodes it: unused bits of the last character are ignored.
fn base64url(text: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig = NO_PAD.with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&URL_SAFE, CONFIG).decode(text).ok()
}
