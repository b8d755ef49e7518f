//! Token and access reviews of the main port, sent by the API server's client.
//!
//! In:    the client, or none on a standalone node
//! Out:   [`Reviewer`]s
//! Calls: wiring/serving
//! Holds: without a client every review is negative; nothing is cached here, the server caches and limits
//! Upstream: cmd/kubelet/app/auth.go (BuildAuth)

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec};
use kubelet_cluster::reviews::{self, access_review, token_review};
use kubelet_cluster::{Client, ClusterError};
use kubelet_model::dice::Dice;
use kubelet_server::{Access, AccessReview, ReviewError, Reviewer, TokenReview, User};

/// Who answers reviews.
#[derive(Clone, Debug)]
pub(crate) struct Reviews {
    client: Option<Client>,
    dice: Arc<Mutex<Dice>>,
}

impl Reviews {
    pub(crate) fn new(client: Option<&Client>, seed: u64) -> Self {
        Self {
            client: client.cloned(),
            dice: Arc::new(Mutex::new(Dice::new(seed))),
        }
    }

    /// The random generator of one review.
    fn dice(&self) -> Dice {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        dice.split()
    }

    /// Token reviews.
    pub(crate) fn tokens(&self) -> Reviewer<TokenReview> {
        let Some(client) = self.client.clone() else {
            return Reviewer::Standalone;
        };
        let this = self.clone();
        Reviewer::Cluster(TokenReview(Arc::new(move |token| {
            let (client, mut dice) = (client.clone(), this.dice());
            Box::pin(async move {
                let found = token_review(&client, token, &mut dice).await;
                let found = found.map_err(said)?;
                Ok(found.map(user))
            })
        })))
    }

    /// Access reviews.
    pub(crate) fn access(&self) -> Reviewer<AccessReview> {
        let Some(client) = self.client.clone() else {
            return Reviewer::Standalone;
        };
        let this = self.clone();
        Reviewer::Cluster(AccessReview(Arc::new(move |access| {
            let (client, mut dice) = (client.clone(), this.dice());
            Box::pin(async move {
                let allowed = access_review(&client, question(access), &mut dice).await;
                allowed.map_err(|error| match said(error) {
                    ReviewError::Fault(why) => ReviewError::Failed(why),
                    other => other,
                })
            })
        })))
    }
}

fn said(error: reviews::ReviewError) -> ReviewError {
    match error {
        reviews::ReviewError::Call(ClusterError::Crowded { .. }) => ReviewError::Busy,
        reviews::ReviewError::Call(error) => ReviewError::Failed(error.to_string()),
        reviews::ReviewError::Said(why) => ReviewError::Fault(why),
    }
}

fn user(found: UserInfo) -> User {
    User {
        name: found.username.unwrap_or_default(),
        uid: found.uid.unwrap_or_default(),
        groups: found.groups.unwrap_or_default(),
        extra: found.extra.unwrap_or_default(),
    }
}

fn question(access: Access) -> SubjectAccessReviewSpec {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let user = access.user;
    SubjectAccessReviewSpec {
        user: some(&user.name),
        uid: some(&user.uid),
        groups: (!user.groups.is_empty()).then_some(user.groups),
        extra: (!user.extra.is_empty()).then_some(user.extra),
        resource_attributes: Some(ResourceAttributes {
            verb: some(access.verb),
            group: some(access.group),
            version: some(access.version),
            resource: some(access.resource),
            subresource: some(access.subresource),
            name: some(&access.name),
            ..ResourceAttributes::default()
        }),
        ..SubjectAccessReviewSpec::default()
    }
}

#[cfg(test)]
mod tests;
