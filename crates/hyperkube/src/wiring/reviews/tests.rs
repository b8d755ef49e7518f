//! Token and access reviews at this program's own API server, with the node's identity.
//!
//! Upstream: test/e2e/auth/node_authn.go (cases)

use std::time::Duration;

use k8s_openapi::api::core::v1::ServiceAccount;
use kubelet_apiserver::base::user::User as Caller;
use kubelet_cluster::tokens::{TokenKey, Tokens};
use kubelet_cluster::{At, LaneKind};

use super::*;
use crate::wiring::testing::World;

fn reviews(world: &World) -> Reviews {
    Reviews::new(Some(&world.client(Caller::node("n"))), 1)
}

async fn whose(reviews: &Reviews, token: &str) -> Result<Option<User>, String> {
    let Reviewer::Cluster(review) = reviews.tokens() else {
        panic!("there is a client");
    };
    let found = (review.0)(token.to_owned()).await;
    found.map_err(|error| error.to_string())
}

async fn may(reviews: &Reviews, user: User, subresource: &'static str) -> Result<bool, String> {
    let Reviewer::Cluster(review) = reviews.access() else {
        panic!("there is a client");
    };
    let access = Access {
        user,
        verb: "get",
        group: "",
        version: "v1",
        resource: "nodes",
        subresource,
        name: "n".to_owned(),
    };
    let allowed = (review.0)(access).await;
    allowed.map_err(|error| error.to_string())
}

/// A token of the default account, as the administrator gets one.
async fn account_token(world: &World) -> String {
    let admin = world.client(Caller::admin());
    let at = At {
        operation: "test",
        lane: LaneKind::General,
        namespace: Some("default"),
        name: "default",
        subresource: None,
        deadline: Duration::from_secs(10),
    };
    while admin.get::<ServiceAccount>(at).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let key = TokenKey {
        namespace: "default".to_owned(),
        account: "default".to_owned(),
        audiences: Vec::new(),
        seconds: 3600,
        pod: None,
    };
    let tokens = Tokens::new(admin, Dice::new(1));
    tokens.token(&key).await.unwrap().token.to_string()
}

#[tokio::test(start_paused = true)]
async fn the_node_learns_whose_a_token_is_and_what_its_user_may() {
    let world = World::new();
    let reviews = reviews(&world);
    let script = async {
        let admin = whose(&reviews, "admin-token").await.unwrap().unwrap();
        assert_eq!(admin.name, "kubernetes-admin");
        assert_eq!(may(&reviews, admin, "proxy").await, Ok(true));
        let bob = whose(&reviews, "bob-token").await.unwrap().unwrap();
        assert!(bob.groups.contains(&"users".to_owned()), "{bob:?}");
        assert_eq!(may(&reviews, bob, "metrics").await, Ok(false));
        assert!(whose(&reviews, "nobodys").await.is_err());

        let token = account_token(&world).await;
        let account = whose(&reviews, &token).await.unwrap().unwrap();
        assert_eq!(account.name, "system:serviceaccount:default:default");
        assert!(!account.uid.is_empty());
        let groups = ["system:serviceaccounts", "system:serviceaccounts:default"];
        assert!(
            groups
                .iter()
                .all(|group| account.groups.iter().any(|is| is == group))
        );
        assert_eq!(may(&reviews, account, "proxy").await, Ok(false));
    };
    tokio::select! {
        () = world.run() => panic!("the controllers ended"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_an_error_that_says_so_and_is_asked_again_later() {
    let world = World::new();
    let reviews = reviews(&world);
    world.set_away(true);
    for text in [
        whose(&reviews, "admin-token").await.unwrap_err(),
        may(&reviews, User::default(), "proxy").await.unwrap_err(),
    ] {
        assert!(text.contains("API server cannot be reached: "), "{text}");
        assert!(!text.contains("admin-token"));
    }
    world.set_away(false);
    let found = whose(&reviews, "admin-token").await.unwrap().unwrap();
    world.set_away(true);
    assert!(may(&reviews, found.clone(), "proxy").await.is_err());
    world.set_away(false);
    assert_eq!(may(&reviews, found, "proxy").await, Ok(true));
}

#[test]
fn a_question_that_is_not_sent_for_others_is_nobodys_failure() {
    let crowded = ClusterError::Crowded {
        operation: "test",
        wait: Duration::from_secs(20),
    };
    assert_eq!(said(crowded.into()), ReviewError::Busy);
    let fault = reviews::ReviewError::Said("junk".to_owned());
    assert_eq!(said(fault), ReviewError::Fault("junk".to_owned()));
}

#[test]
fn a_node_that_stands_alone_asks_nobody() {
    let alone = Reviews::new(None, 1);
    assert!(matches!(alone.tokens(), Reviewer::Standalone));
    assert!(matches!(alone.access(), Reviewer::Standalone));
}
