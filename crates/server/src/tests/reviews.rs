//! The main port under a flood of unknown tokens: few are reviewed at once (all of loopback is one address), and a review ends
//! with its caller's connection.
//!
//! In:    callers over real TLS, with tokens that nobody knows
//! Out:   responses; how many reviews are running
//! Upstream: none

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::secure::tls_client;
use super::*;

/// A review that never ends; counts while it lasts.
struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn bearer(token: &str) -> Request<Full<Bytes>> {
    let mut request = request("GET", "/pods");
    let value = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn four_callers_at_an_address_are_asked_after_the_next_is_sent_away_and_who_hangs_up_leaves_nothing()
 {
    let scratch = Scratch::new("reviews");
    let count = watch::Sender::new(0);
    let asked = Arc::new(AtomicUsize::new(0));
    let (counted, all) = (count.clone(), Arc::clone(&asked));
    let review = TokenReview(Arc::new(move |_| {
        all.fetch_add(1, Ordering::SeqCst);
        let lasts = UnderWay::new(&counted);
        Box::pin(async move {
            let _lasts = lasts;
            std::future::pending().await
        })
    }));
    let main = MainConfig {
        tokens: TokenAuthentication::Webhook {
            holds: Duration::from_secs(120),
            reviewer: Reviewer::Cluster(review),
        },
        ..main_config(&scratch.0)
    };
    let (state, _world) = state();
    let listeners = bind(config(Some(main)), state).await.unwrap();
    let at = address(listeners.main.as_ref());
    let crt = scratch.0.join("kubelet.crt");
    with(listeners.main, async {
        let mut under_way = count.subscribe();
        let mut callers = Vec::new();
        for number in 0..4 {
            let mut caller = tls_client(at, &crt, None).await;
            callers.push(tokio::task::spawn_local(async move {
                let _answer = send(&mut caller, bearer(&format!("t{number}"))).await;
            }));
        }
        under_way.wait_for(|count| *count == 4).await.unwrap();
        let mut next = tls_client(at, &crt, None).await;
        let (status, text, head) = send(&mut next, bearer("one-more")).await;
        assert_eq!(
            (status, &*text),
            (429, "Too many requests, please try again later.")
        );
        assert_eq!(head.headers().get("retry-after").unwrap(), "1");
        // Requests without a token are not affected.
        assert_eq!(get(&mut next, "/pods").await.0, 200);
        for caller in callers {
            caller.abort();
        }
        under_way.wait_for(|count| *count == 0).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    })
    .await;
}
