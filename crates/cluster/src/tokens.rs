//! Service account tokens for pods: requested once, cached, renewed before they expire.
//!
//! In:    which account, audience, lifetime and pod
//! Out:   tokens with the moment from which a newer one should be asked for
//! Calls: act/objects/pod_objects (projected tokens)
//! Holds: one request per token at a time; a token that is still valid is used while the server is unreachable; a pod's tokens
//!        are dropped with it; a clock that jumps costs one renewal, never a storm; tokens never show in `Debug`
//! Upstream: pkg/kubelet/token/token_manager.go; differences: lifetimes are counted from when a token came, so that a wrong clock
//!           does not make it old
//!
//! Renewal: at 80 % of the lifetime or after 24 h, up to 10 s sooner.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::client::{Client, LaneKind};
use crate::error::ClusterError;
use crate::objects_api::At;
use kubelet_model::dice::Dice;

const CALL: Duration = Duration::from_secs(30);
/// The oldest token handed out, however long it lives.
const OLDEST: Duration = Duration::from_secs(24 * 60 * 60);
/// And the longest life that is believed.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Renewals are spread by this much.
const JITTER: Duration = Duration::from_secs(10);

/// Which token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    /// Namespace of account and pod.
    pub namespace: String,
    /// The service account.
    pub account: String,
    /// For whom; empty is the API server.
    pub audiences: Vec<String>,
    /// How long it should live, seconds.
    pub seconds: i64,
    /// Name and UID of the pod it is bound to.
    pub pod: Option<(String, String)>,
}

/// A token.
#[derive(Clone)]
pub struct Token {
    /// The secret itself.
    pub token: Arc<str>,
    /// When the server says that it ends.
    pub expires: Option<Timestamp>,
    received: Received,
    lifetime: Duration,
    renew_after: Duration,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// When it came, by both clocks: one stands still while the machine sleeps, the other may jump.
#[derive(Clone, Copy, Debug)]
struct Received {
    moment: Instant,
    wall: Timestamp,
}

impl Received {
    fn age(self, wall: Timestamp) -> Duration {
        let by_wall = Duration::try_from(wall.duration_since(self.wall)).unwrap_or(Duration::ZERO);
        self.moment.elapsed().max(by_wall)
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The first one could not be had.
    #[error("failed to fetch token")]
    Fetch(#[source] ClusterError),
    /// The last one ended, and there is no newer one.
    #[error("token {namespace}/{account} expired and refresh failed")]
    Expired {
        /// Namespace.
        namespace: String,
        /// Account.
        account: String,
        /// Why.
        #[source]
        source: ClusterError,
    },
}

#[derive(Debug)]
struct Slot {
    turn: Semaphore,
    token: Mutex<Option<Token>>,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            turn: Semaphore::new(1),
            token: Mutex::new(None),
        }
    }
}

impl Slot {
    fn token(&self) -> Option<Token> {
        self.token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The tokens of all pods. Clones share them.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    slots: Mutex<BTreeMap<TokenKey, Arc<Slot>>>,
    dice: Mutex<Dice>,
}

impl Tokens {
    /// No token yet.
    pub fn new(client: Client, dice: Dice) -> Self {
        Self(Arc::new(Shared {
            client,
            slots: Mutex::default(),
            dice: Mutex::new(dice),
        }))
    }

    /// A token that is good now.
    ///
    /// # Errors
    /// When there is none and none can be had.
    pub async fn token(&self, key: &TokenKey) -> Result<Token, TokenError> {
        let slot = Arc::clone(self.slots().entry(key.clone()).or_default());
        if let Some(token) = self.fresh(&slot) {
            return Ok(token);
        }
        let _turn = slot.turn.acquire().await;
        // Somebody else may have asked meanwhile.
        if let Some(token) = self.fresh(&slot) {
            return Ok(token);
        }
        let error = match self.request(key).await {
            Ok(token) => {
                let mut kept = slot.token.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = Some(token.clone());
                return Ok(token);
            }
            Err(error) => error,
        };
        match slot.token() {
            Some(token) if self.age(&token) < token.lifetime => {
                tracing::warn!(%error, "Token cannot be renewed, the one before is still good");
                Ok(token)
            }
            Some(_) => Err(TokenError::Expired {
                namespace: key.namespace.clone(),
                account: key.account.clone(),
                source: error,
            }),
            None => Err(TokenError::Fetch(error)),
        }
    }

    /// Forgets what was bound to a pod.
    pub fn remove_pod(&self, uid: &str) {
        let is_of = |key: &TokenKey| key.pod.as_ref().is_some_and(|(_, bound)| bound == uid);
        self.slots().retain(|key, _| !is_of(key));
    }

    /// Forgets tokens that ended, and those that never came.
    pub fn remove_expired(&self) {
        let mut slots = self.slots();
        slots.retain(|_, slot| {
            let is_good = slot
                .token()
                .is_some_and(|token| self.age(&token) < token.lifetime);
            // Somebody is asking for it just now.
            is_good || slot.turn.available_permits() == 0
        });
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, BTreeMap<TokenKey, Arc<Slot>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn age(&self, token: &Token) -> Duration {
        token.received.age(self.0.client.clock().now())
    }

    fn fresh(&self, slot: &Slot) -> Option<Token> {
        slot.token()
            .filter(|token| self.age(token) < token.renew_after)
    }

    async fn request(&self, key: &TokenKey) -> Result<Token, ClusterError> {
        let operation = "request token";
        let received = Received {
            moment: Instant::now(),
            wall: self.0.client.clock().now(),
        };
        let at = At {
            operation,
            lane: LaneKind::General,
            namespace: Some(&key.namespace),
            name: &key.account,
            subresource: Some("token"),
            deadline: CALL,
        };
        let answer = self
            .0
            .client
            .create_below::<ServiceAccount>(at, &request(key))
            .await?;
        let unreadable = |message: &str| ClusterError::Unreadable {
            operation,
            message: message.to_owned(),
        };
        // The parser's own words could repeat parts of the secret.
        let answer: TokenRequest =
            serde_json::from_value(answer).map_err(|_| unreadable("no TokenRequest"))?;
        let status = answer.status.unwrap_or_default();
        let token = status.token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| unreadable("no token in it"))?;
        // The server may give another lifetime than was asked for.
        let given = answer.spec.and_then(|spec| spec.expiration_seconds);
        let seconds = given.unwrap_or(key.seconds);
        let lifetime = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(LONGEST);
        let fraction = self
            .0
            .dice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fraction();
        let renew_after = lifetime.mul_f64(0.8).min(OLDEST);
        Ok(Token {
            token: Arc::from(token),
            expires: status.expiration_timestamp.map(|time| time.0),
            received,
            lifetime,
            renew_after: renew_after.saturating_sub(JITTER.mul_f64(fraction)),
        })
    }
}

fn request(key: &TokenKey) -> Value {
    let bound = key.pod.as_ref().map(|(name, uid)| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name.clone()),
        uid: Some(uid.clone()),
    });
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(key.audiences.clone()),
            bound_object_ref: bound,
            expiration_seconds: Some(key.seconds),
        }),
        ..TokenRequest::default()
    };
    serde_json::json!(request)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::testing::{Server, answer, status};

    fn key(pod: &str) -> TokenKey {
        TokenKey {
            namespace: "n".to_owned(),
            account: "default".to_owned(),
            audiences: vec!["a".to_owned()],
            seconds: 3600,
            pod: Some((pod.to_owned(), format!("uid-{pod}"))),
        }
    }

    fn server(asked: &Arc<AtomicUsize>) -> Server {
        let asked = Arc::clone(asked);
        Server::new(move |seen| {
            let count = asked.fetch_add(1, Ordering::SeqCst);
            async move {
                assert_eq!(
                    seen.line(),
                    "POST /api/v1/namespaces/n/serviceaccounts/default/token"
                );
                let mut body = seen.json();
                assert_eq!(body["spec"]["boundObjectRef"]["kind"], "Pod");
                body["status"] = json!({ "token": format!("geheim-{count}"), "expirationTimestamp": "2026-11-25T13:00:00Z" });
                tokio::time::sleep(Duration::from_millis(100)).await;
                answer(201, &body)
            }
        })
    }

    #[tokio::test(start_paused = true)]
    async fn many_ask_once_and_a_token_is_renewed_at_four_fifths_of_its_life() {
        let asked = Arc::default();
        let server = server(&asked);
        let tokens = Tokens::new(server.client(), Dice::new(1));
        let wanted = key("a");
        let all = futures_util::future::join_all((0..50).map(|_| tokens.token(&wanted))).await;
        assert!(
            all.iter()
                .all(|token| &*token.as_ref().unwrap().token == "geheim-0")
        );
        assert!(!format!("{all:?}").contains("geheim"));
        tokio::time::advance(Duration::from_secs(2865)).await;
        assert_eq!(&*tokens.token(&wanted).await.unwrap().token, "geheim-0");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(&*tokens.token(&wanted).await.unwrap().token, "geheim-1");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_token_that_cannot_be_had_is_an_error_and_asked_for_again() {
        let asked = Arc::default();
        let server = server(&asked);
        let tokens = Tokens::new(server.client(), Dice::new(1));
        server.is_down.store(true, Ordering::SeqCst);
        let error = tokens.token(&key("a")).await.unwrap_err();
        assert_eq!(error.to_string(), "failed to fetch token");
        server.is_down.store(false, Ordering::SeqCst);
        tokens.token(&key("a")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_renewal_keeps_the_token_to_its_end() {
        let count = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&count);
        let server = Server::new(move |seen| {
            let count = asked.fetch_add(1, Ordering::SeqCst);
            async move {
                if count > 0 {
                    return status(500, "InternalError");
                }
                let mut body = seen.json();
                body["status"] = json!({ "token": "geheim", "expirationTimestamp": null });
                answer(201, &body)
            }
        });
        let tokens = Tokens::new(server.client(), Dice::new(1));
        tokens.token(&key("a")).await.unwrap();
        tokio::time::advance(Duration::from_secs(3500)).await;
        tokens.token(&key("a")).await.unwrap();
        tokio::time::advance(Duration::from_secs(101)).await;
        let error = tokens.token(&key("a")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "token n/default expired and refresh failed"
        );
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lifetime_that_makes_no_sense_breaks_nothing() {
        for (seconds, renewed) in [(i64::MAX, 1), (0, 2), (-5, 2), (i64::MIN, 2)] {
            let asked = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&asked);
            let server = Server::new(move |seen| {
                count.fetch_add(1, Ordering::SeqCst);
                let mut body = seen.json();
                body["spec"]["expirationSeconds"] = json!(seconds);
                body["status"] =
                    json!({ "token": "geheim", "expirationTimestamp": "9998-12-31T23:59:59Z" });
                async move { answer(201, &body) }
            });
            let tokens = Tokens::new(server.client(), Dice::new(1));
            for _ in 0..2 {
                tokens.token(&key("a")).await.unwrap();
                tokio::time::advance(Duration::from_secs(3600)).await;
            }
            assert_eq!(asked.load(Ordering::SeqCst), renewed, "{seconds}");
            tokens.remove_expired();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_go_with_their_pod_and_with_their_end() {
        let asked = Arc::default();
        let server = server(&asked);
        let tokens = Tokens::new(server.client(), Dice::new(1));
        tokens.token(&key("a")).await.unwrap();
        tokens.token(&key("b")).await.unwrap();
        tokens.remove_pod("uid-a");
        assert_eq!(tokens.slots().len(), 1);
        tokens.remove_expired();
        assert_eq!(tokens.slots().len(), 1);
        tokio::time::advance(Duration::from_secs(3601)).await;
        tokens.remove_expired();
        assert_eq!(tokens.slots().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_a_year_costs_one_renewal() {
        let asked = Arc::default();
        let server = server(&asked);
        let jump = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let hours = Arc::clone(&jump);
        let clock = crate::clock::WallClock::new(move || {
            let start: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
            start + jiff::SignedDuration::from_hours(hours.load(Ordering::SeqCst))
        });
        let client = Client::in_process(server.pipe(), &crate::testing::config(), clock);
        let tokens = Tokens::new(client, Dice::new(1));
        for hours in [0, 8760, 8760, -8760, -8760] {
            jump.store(hours, Ordering::SeqCst);
            tokens.token(&key("a")).await.unwrap();
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
