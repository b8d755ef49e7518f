//! TokenReviews and SubjectAccessReviews.
//!
//! In:    a token; the attributes of a request to this node
//! Out:   the server's answer, or why there is none
//! Calls: server, through handles that wiring makes
//! Holds: they use a lane of their own, because strangers can cause them; a try ends after 10 s; only errors that may pass by
//!        themselves are retried, five tries in all; a token never shows in an error
//! Upstream: staging/src/k8s.io/apiserver plugin/pkg/{authenticator/token,authorizer}/webhook, pkg/util/webhook, pkg/server/options
//!           (DefaultAuthWebhookRetryBackoff) (1.36); differences: none

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};

use crate::client::{Client, LaneKind};
use crate::error::ClusterError;
use crate::objects_api::{At, Object};
use kubelet_model::dice::Dice;

const CALL: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;
/// Between two tries: at first, how much longer each time, and by how much they are spread.
const WAIT: Duration = Duration::from_millis(500);
const GROWTH: f64 = 1.5;
const SPREAD: f64 = 0.2;

/// Why a review says nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReviewError {
    /// The API server could not be asked.
    #[error(transparent)]
    Call(#[from] ClusterError),
    /// It answered that it cannot say, in these words.
    #[error("{0}")]
    Said(String),
}

/// Whose a token is; nobody's is `None`.
///
/// # Errors
/// When the server cannot be asked, or finds a fault with the token that it names.
pub async fn token_review(
    client: &Client,
    token: String,
    dice: &mut Dice,
) -> Result<Option<UserInfo>, ReviewError> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token,
            audiences: None,
        },
        ..TokenReview::default()
    };
    let status = asked(client, "create token review", &review, dice)
        .await?
        .status;
    let status = status.unwrap_or_default();
    if status.authenticated == Some(true) {
        return Ok(status.user);
    }
    match status.error.filter(|error| !error.is_empty()) {
        Some(error) => Err(ReviewError::Said(error)),
        None => Ok(None),
    }
}

/// Whether somebody may do something.
///
/// # Errors
/// When the server cannot be asked, or says both yes and no.
pub async fn access_review(
    client: &Client,
    spec: SubjectAccessReviewSpec,
    dice: &mut Dice,
) -> Result<bool, ReviewError> {
    let review = SubjectAccessReview {
        spec,
        ..SubjectAccessReview::default()
    };
    let status = asked(client, "create subject access review", &review, dice)
        .await?
        .status;
    let status = status.unwrap_or_default();
    match (status.allowed, status.denied == Some(true)) {
        (true, true) => Err(ReviewError::Said(
            "webhook subject access review returned both allow and deny response".to_owned(),
        )),
        (allowed, _) => Ok(allowed),
    }
}

async fn asked<T: Object>(
    client: &Client,
    operation: &'static str,
    review: &T,
    dice: &mut Dice,
) -> Result<T, ClusterError> {
    let mut wait = WAIT;
    let mut tries = 1;
    loop {
        let at = At {
            operation,
            lane: LaneKind::Reviews,
            namespace: None,
            name: "",
            subresource: None,
            deadline: CALL,
        };
        match client.create(at, review).await {
            Err(error) if tries < TRIES && may_pass(&error) => {
                tracing::debug!(%error, tries, "A review is asked for again");
            }
            answer => return answer,
        }
        tokio::time::sleep(dice.jitter(wait, SPREAD)).await;
        wait = wait.mul_f64(GROWTH);
        tries += 1;
    }
}

/// Whether the same question may have an answer soon: the connection broke, or the server is busy with itself.
fn may_pass(error: &ClusterError) -> bool {
    match error {
        ClusterError::Lost { .. } => true,
        ClusterError::Refused { refusal, .. } => {
            matches!(refusal.code, 429 | 500 | 504) || refusal.retry_after.is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::rt::Executor as _;
    use hyper_util::rt::TokioExecutor;
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;
    use crate::testing::{Server, answer, status};
    use crate::tokens::{TokenKey, Tokens};

    /// A server that answers the n-th question with the n-th of these, and the last again and again.
    fn scripted(answers: Vec<(u16, Value)>) -> (Server, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let server = Server::new(move |seen| {
            let turn = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let (code, given) = answers[turn].clone();
            async move {
                if code == 0 {
                    return std::future::pending().await;
                }
                if code != 201 {
                    return status(code, "Scripted");
                }
                let mut review = seen.json();
                review["status"] = given;
                answer(201, &review)
            }
        });
        (server, asked)
    }

    async fn token(answers: Vec<(u16, Value)>) -> (Result<Option<String>, String>, usize, u64) {
        let (server, asked) = scripted(answers);
        let began = Instant::now();
        let found = token_review(&server.client(), "secret".to_owned(), &mut Dice::new(1)).await;
        let found = found.map(|user| user.and_then(|user| user.username));
        let found = found.map_err(|error| error.to_string());
        (
            found,
            asked.load(Ordering::SeqCst),
            began.elapsed().as_secs(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_somebodys_nobodys_or_faulty() {
        let yes = json!({"authenticated": true, "user": {"username": "u"}});
        assert_eq!(
            token(vec![(201, yes.clone())]).await.0,
            Ok(Some("u".to_owned()))
        );
        let no = token(vec![(201, json!({"authenticated": false}))]).await;
        assert_eq!(no, (Ok(None), 1, 0));
        let fault = token(vec![(
            201,
            json!({"user": {}, "error": "token has expired"}),
        )])
        .await;
        assert_eq!(fault, (Err("token has expired".to_owned()), 1, 0));
        // A trouble that passes is not seen.
        let passes = vec![(500, Value::Null), (429, Value::Null), (201, yes)];
        let (found, asked, _) = token(passes).await;
        assert_eq!((found, asked), (Ok(Some("u".to_owned())), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_that_stays_ends_after_five_tries_and_a_refusal_or_silence_after_one() {
        let (error, asked, seconds) = token(vec![(500, Value::Null)]).await;
        assert_eq!((asked, seconds), (5, 4), "{error:?}");
        let text = error.unwrap_err();
        assert_eq!(text, "create token review: 500 Scripted: Scripted");
        let (error, asked, _) = token(vec![(403, Value::Null)]).await;
        assert!(error.is_err());
        assert_eq!(asked, 1);
        let (error, asked, seconds) = token(vec![(0, Value::Null)]).await;
        assert_eq!((asked, seconds), (1, 10));
        assert_eq!(
            error.unwrap_err(),
            "create token review: no answer within 10s"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_callers_who_hang_up_keeps_no_pod_from_its_token_and_leaves_nothing_behind()
    {
        let server = Server::new(async |seen| {
            let mut review = seen.json();
            if seen.path.ends_with("/token") {
                review["status"] = json!({ "token": "geheim", "expirationTimestamp": null });
            } else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                review["status"] = json!({ "authenticated": false, "error": "junk" });
            }
            answer(201, &review)
        });
        let client = server.client();
        let began = Instant::now();
        let flood = async {
            for number in 0..15_000_u32 {
                let client = client.clone();
                TokioExecutor::new().execute(async move {
                    let mut dice = Dice::new(1);
                    let asked = token_review(&client, format!("junk-{number}"), &mut dice);
                    let _hung_up = tokio::time::timeout(Duration::from_millis(100), asked).await;
                });
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let tokens = Tokens::new(client.clone(), Dice::new(2));
        let pods = async {
            for pod in 0..14 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let key = TokenKey {
                    namespace: "n".to_owned(),
                    account: "default".to_owned(),
                    audiences: Vec::new(),
                    seconds: 3600,
                    pod: Some((format!("p{pod}"), format!("u{pod}"))),
                };
                let asked = Instant::now();
                tokens.token(&key).await.unwrap();
                assert!(
                    asked.elapsed() < Duration::from_millis(100),
                    "{:?}",
                    asked.elapsed()
                );
            }
        };
        tokio::join!(flood, pods);
        assert!(began.elapsed() < Duration::from_secs(20));
        let asked = Instant::now();
        let mut dice = Dice::new(1);
        let late = token_review(&client, "junk".to_owned(), &mut dice).await;
        assert!(late.is_err_and(|error| error.to_string() == "junk"));
        assert!(
            asked.elapsed() < Duration::from_millis(100),
            "{:?}",
            asked.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn access_is_allowed_refused_or_contradicts_itself() {
        let ask = async |given: Value| {
            let (server, _) = scripted(vec![(201, given)]);
            let spec = SubjectAccessReviewSpec::default();
            let allowed = access_review(&server.client(), spec, &mut Dice::new(1)).await;
            allowed.map_err(|error| error.to_string())
        };
        assert_eq!(ask(json!({"allowed": true})).await, Ok(true));
        assert_eq!(
            ask(json!({"allowed": false, "reason": "no"})).await,
            Ok(false)
        );
        assert_eq!(
            ask(json!({"allowed": false, "denied": true})).await,
            Ok(false)
        );
        let both = ask(json!({"allowed": true, "denied": true})).await;
        assert_eq!(
            both.unwrap_err(),
            "webhook subject access review returned both allow and deny response"
        );
    }
}
