//! Tables of credentials and modes, the attributes of every path, and the number of reviews.
//!
//! Upstream: pkg/kubelet/server/auth_test.go (cases)

use std::sync::Mutex;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use hyper::header::HeaderValue;

use super::*;

/// The source address of callers, unless it matters.
const HERE: IpAddr = from(1);

const fn from(number: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, number))
}

fn auth(anonymous: Anonymous, tokens: TokenAuthentication, authorization: Authorization) -> Auth {
    Auth::new("node1", anonymous, tokens, authorization)
}

fn named(name: &str) -> User {
    User {
        name: name.to_owned(),
        ..User::default()
    }
}

fn standalone() -> TokenAuthentication {
    TokenAuthentication::Webhook {
        holds: Duration::from_secs(120),
        reviewer: Reviewer::Standalone,
    }
}

fn header(value: Option<&str>) -> HeaderMap {
    let value = value.map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap()));
    value.into_iter().collect()
}

async fn check(certificate: &Certificate, value: Option<&str>) -> Vec<String> {
    let mut answers = Vec::new();
    for anonymous in [Anonymous::Allowed, Anonymous::Refused] {
        for tokens in [TokenAuthentication::Ignored, standalone()] {
            let auth = auth(anonymous, tokens, Authorization::AlwaysAllow);
            let found = auth.authenticate(certificate, &header(value), HERE).await;
            answers.push(found.map_or_else(|no| no.text, |user| user.name));
        }
    }
    answers
}

#[tokio::test]
async fn the_user_follows_from_certificate_token_and_modes() {
    let (anonymous, no) = ("system:anonymous", "Unauthorized");
    let absent = &Certificate::Absent;
    assert_eq!(check(absent, None).await, [anonymous, anonymous, no, no]);
    assert_eq!(
        check(absent, Some("Bearer x")).await,
        [anonymous, no, no, no]
    );
    assert_eq!(
        check(absent, Some("bearer  x")).await,
        [anonymous, no, no, no]
    );
    assert_eq!(
        check(absent, Some("Bearer ")).await,
        [anonymous, anonymous, no, no]
    );
    assert_eq!(
        check(absent, Some("Basic x")).await,
        [anonymous, anonymous, no, no]
    );
    assert_eq!(check(&Certificate::Invalid, None).await, [no; 4]);
    let admin = Certificate::Of(named("admin"));
    assert_eq!(check(&admin, Some("Bearer x")).await, ["admin"; 4]);
}

/// The questions to a stand-in API server, which knows the token `good` and allows `u` proxy.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn tokens(&self) -> TokenAuthentication {
        let asked = self.clone();
        let review = move |token: String| {
            asked.0.lock().unwrap().push(token.clone());
            let answer: Reviewed<Option<User>> = Box::pin(async move {
                match token.as_str() {
                    "good" => Ok(Some(User {
                        groups: vec!["g".to_owned()],
                        ..named("u")
                    })),
                    "broken" => Err(ReviewError::Failed("no connection".to_owned())),
                    "faulty" => Err(ReviewError::Fault("invalid bearer token".to_owned())),
                    slow if slow.starts_with("slow") => std::future::pending().await,
                    _ => Ok(None),
                }
            });
            answer
        };
        TokenAuthentication::Webhook {
            holds: Duration::from_secs(120),
            reviewer: Reviewer::Cluster(TokenReview(Arc::new(review))),
        }
    }

    fn access(&self) -> Authorization {
        let asked = self.clone();
        let review = move |access: Access| {
            asked.0.lock().unwrap().push(format!(
                "{} {} {}/{}",
                access.user.name, access.verb, access.resource, access.subresource
            ));
            let answer: Reviewed<bool> = Box::pin(async move {
                match access.user.name.as_str() {
                    "broken" => Err(ReviewError::Failed("no connection".to_owned())),
                    name => {
                        Ok(name == "u" && access.verb == "get" && access.subresource == "proxy")
                    }
                }
            });
            answer
        };
        Authorization::Webhook {
            yes_holds: Duration::from_secs(300),
            no_holds: Duration::from_secs(30),
            reviewer: Reviewer::Cluster(AccessReview(Arc::new(review))),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_asked_for_once_in_two_minutes_and_failures_are_not_kept() {
    let asked = Asked::default();
    let auth = auth(
        Anonymous::Allowed,
        asked.tokens(),
        Authorization::AlwaysAllow,
    );
    let user = async |certificate: &Certificate, token: &str| {
        let headers = header(Some(&format!("Bearer {token}")));
        auth.authenticate(certificate, &headers, HERE)
            .await
            .map_err(|no| no.status)
    };
    let absent = &Certificate::Absent;
    let good = user(absent, "good").await.unwrap();
    assert_eq!(
        (&*good.name, good.groups),
        ("u", vec!["g".to_owned(), "system:authenticated".to_owned()])
    );
    assert_eq!(user(absent, "bad").await, Err(401));
    assert_eq!(asked.take(), ["good", "bad"]);
    // Also with an invalid certificate.
    assert!(user(&Certificate::Invalid, "good").await.is_ok());
    assert_eq!(user(absent, "bad").await, Err(401));
    assert_eq!(asked.take(), [""; 0]);
    tokio::time::advance(Duration::from_secs(121)).await;
    assert!(user(absent, "good").await.is_ok());
    assert_eq!(user(absent, "broken").await, Err(401));
    assert_eq!(user(absent, "broken").await, Err(401));
    assert_eq!(user(absent, "slow").await, Err(401));
    assert_eq!(asked.take(), ["good", "broken", "broken", "slow"]);
}

#[tokio::test(start_paused = true)]
async fn few_reviews_are_under_way_and_who_comes_beyond_them_is_sent_away_at_once() {
    let asked = Asked::default();
    let auth = auth(
        Anonymous::Allowed,
        asked.tokens(),
        Authorization::AlwaysAllow,
    );
    let user_at = async |token: String, source: IpAddr| {
        let headers = header(Some(&format!("Bearer {token}")));
        auth.authenticate(&Certificate::Absent, &headers, source)
            .await
    };
    let user = async |token: String| user_at(token, HERE).await;
    let began = tokio::time::Instant::now();
    assert!(user("good".to_owned()).await.is_ok());
    tokio::time::advance(Duration::from_secs(121)).await;
    {
        let mut junk: Vec<_> = (0..500)
            .map(|number| {
                let source = from(u8::try_from(number % 4).unwrap());
                Box::pin(user_at(format!("slow-{number}"), source))
            })
            .collect();
        let answered: Vec<_> = junk
            .iter_mut()
            .filter_map(|one| one.now_or_never())
            .collect();
        assert_eq!(answered.len(), 484, "16 are under way");
        for refusal in answered {
            let refusal = refusal.unwrap_err();
            assert_eq!(
                (refusal.status, refusal.retry_after),
                (429, Some(Duration::from_secs(1)))
            );
        }
        // A cached answer needs no review, and a recently valid token still gets one.
        assert!(user("good".to_owned()).now_or_never().unwrap().is_ok());
        let other = user("bad".to_owned()).now_or_never().unwrap();
        assert_eq!(other.unwrap_err().status, 429);
    }
    // All callers hung up: no review is left.
    let again = user("bad".to_owned()).now_or_never().unwrap();
    assert_eq!(again.unwrap_err().status, 401);
    assert!(began.elapsed() < Duration::from_secs(122));
    assert_eq!(asked.take().len(), 1 + 16 + 1 + 1);
}

#[tokio::test(start_paused = true)]
async fn junk_from_some_addresses_does_not_send_an_honest_caller_at_another_away() {
    let asked = Asked::default();
    let auth = auth(Anonymous::Allowed, asked.tokens(), asked.access());
    let user = async |token: String, source: u8| {
        let headers = header(Some(&format!("Bearer {token}")));
        auth.authenticate(&Certificate::Absent, &headers, from(source))
            .await
            .map(|user| user.name)
            .map_err(|no| no.status)
    };
    // One address has a quarter of the turns, however much it sends.
    let mut junk: Vec<_> = (0..100)
        .map(|number| Box::pin(user(format!("slow-{number}"), 1)))
        .collect();
    junk.retain_mut(|one| one.now_or_never().is_none());
    assert_eq!(junk.len(), 4);
    let honest = user("good".to_owned(), 2).now_or_never();
    assert_eq!(honest, Some(Ok("u".to_owned())), "was never seen before");
    tokio::time::advance(Duration::from_secs(4000)).await;
    asked.take();
    // Three more addresses have all turns: the next free one goes to the source without a turn.
    let others = (2..5).flat_map(|source| (0..100).map(move |number| (source, number)));
    let mut more: Vec<_> = others
        .map(|(source, number)| Box::pin(user(format!("slow-{source}-{number}"), source)))
        .collect();
    more.retain_mut(|one| one.now_or_never().is_none());
    assert_eq!(junk.len() + more.len(), 16);
    let mut honest = Box::pin(user("good".to_owned(), 5));
    assert_eq!((&mut honest).now_or_never(), None, "stands in the line");
    drop(junk.pop());
    assert_eq!(honest.await, Ok("u".to_owned()));
    // It waits for two seconds and no longer.
    let mut again = Box::pin(user("slow-again".to_owned(), 1));
    assert!(
        (&mut again).now_or_never().is_none(),
        "the turn is free again"
    );
    let began = tokio::time::Instant::now();
    assert_eq!(user("bad".to_owned(), 6).await, Err(429));
    assert_eq!(began.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn equal_questions_of_one_moment_are_asked_once_and_a_fault_is_known_for_ten_seconds() {
    let asked = Asked::default();
    let auth = auth(Anonymous::Allowed, asked.tokens(), asked.access());
    let user = async |token: &str| {
        let headers = header(Some(&format!("Bearer {token}")));
        let found = auth
            .authenticate(&Certificate::Absent, &headers, HERE)
            .await;
        found.map_err(|no| no.status)
    };
    let slow = join_all((0..100).map(|_| user("slow"))).await;
    assert!(
        slow.iter().all(|one| *one == Err(401)),
        "nobody said whose it is"
    );
    assert_eq!(asked.take(), ["slow"]);
    for wait in [0, 9, 2] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        assert_eq!(user("faulty").await, Err(401));
    }
    assert_eq!(asked.take(), ["faulty", "faulty"]);
}

#[tokio::test(start_paused = true)]
async fn junk_does_not_drive_out_what_is_known() {
    let asked = Asked::default();
    let auth = auth(
        Anonymous::Allowed,
        asked.tokens(),
        Authorization::AlwaysAllow,
    );
    let user = async |token: &str| {
        let headers = header(Some(&format!("Bearer {token}")));
        auth.authenticate(&Certificate::Absent, &headers, HERE)
            .await
    };
    assert!(user("good").await.is_ok());
    for number in 0..6000 {
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(user(&format!("junk-{number}")).await.is_err());
    }
    asked.take();
    assert!(user("good").await.is_ok());
    assert_eq!(asked.take(), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_a_token_is_refused_without_a_question() {
    let asked = Asked::default();
    let auth = auth(
        Anonymous::Allowed,
        asked.tokens(),
        Authorization::AlwaysAllow,
    );
    let long = format!("Bearer {}", "x".repeat((16 << 10) + 1));
    for value in [
        long.as_bytes(),
        "Bearer s\u{f6}".as_bytes(),
        b"Bearer a\tb",
        b"bearer \xff\xfe",
    ] {
        let value = HeaderValue::from_bytes(value).unwrap();
        let headers = [(AUTHORIZATION, value)].into_iter().collect();
        let refused = auth
            .authenticate(&Certificate::Absent, &headers, HERE)
            .await;
        assert_eq!(refused.unwrap_err().status, 401);
    }
    // "a b" as a protocol.
    let value = "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YSBi";
    let value = HeaderValue::from_static(value);
    let headers = [(SEC_WEBSOCKET_PROTOCOL, value)].into_iter().collect();
    let refused = auth
        .authenticate(&Certificate::Absent, &headers, HERE)
        .await;
    assert_eq!(refused.unwrap_err().status, 401);
    assert_eq!(asked.take(), [""; 0]);
}

#[tokio::test]
async fn a_token_may_come_as_a_protocol_of_a_websocket() {
    let asked = Asked::default();
    let auth = auth(
        Anonymous::Refused,
        asked.tokens(),
        Authorization::AlwaysAllow,
    );
    let with = async |protocols: &str| {
        let value = HeaderValue::from_str(protocols).unwrap();
        let headers = [(SEC_WEBSOCKET_PROTOCOL, value)].into_iter().collect();
        auth.authenticate(&Certificate::Absent, &headers, HERE)
            .await
            .map(|user| user.name)
            .map_err(|no| no.status)
    };
    // "good"
    assert_eq!(
        with("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.Z29vZA").await,
        Ok("u".to_owned())
    );
    assert_eq!(
        with("base64url.bearer.authorization.k8s.io.Z29vZA").await,
        Err(401)
    );
    assert_eq!(
        with("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.Z29vZ").await,
        Err(401)
    );
    assert_eq!(
        with("v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.").await,
        Err(401)
    );
    assert_eq!(with("v4.channel.k8s.io").await, Err(401));
}

#[tokio::test(start_paused = true)]
async fn permission_is_asked_narrow_first_and_kept_as_long_as_configured() {
    let asked = Asked::default();
    let auth = auth(
        Anonymous::Allowed,
        TokenAuthentication::Ignored,
        asked.access(),
    );
    let may = async |name: &str, method: &str, path: &str| {
        auth.authorize((&named(name), HERE), method, path).await
    };
    assert_eq!(may("u", "GET", "/pods").await, Ok(()));
    assert_eq!(asked.take(), ["u get nodes/pods", "u get nodes/proxy"]);
    assert_eq!(may("u", "GET", "/exec/a/b/c").await, Ok(()));
    assert_eq!(asked.take(), [""; 0], "the yes to proxy is still known");
    let no = may("u", "POST", "/exec/a/b/c").await.unwrap_err();
    assert_eq!(
        (no.status, &*no.text),
        (
            403,
            "Forbidden (user=u, verb=create, resource=nodes, subresource(s)=[proxy])\n"
        )
    );
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(may("u", "POST", "/run/a/b/c").await.is_err());
    assert!(may("u", "GET", "/pods").await.is_ok());
    assert_eq!(
        asked.take(),
        [
            "u create nodes/proxy",
            "u create nodes/proxy",
            "u get nodes/pods"
        ]
    );
    tokio::time::advance(Duration::from_secs(300)).await;
    assert!(may("u", "GET", "/debug/pprof/").await.is_ok());
    assert_eq!(asked.take(), ["u get nodes/proxy"]);
    let broken = may("broken", "GET", "/configz").await.unwrap_err();
    assert_eq!(
        (broken.status, &*broken.text),
        (
            500,
            "Authorization error (user=broken, verb=get, resource=nodes, subresource=configz)"
        )
    );
    assert!(may("broken", "GET", "/configz").await.is_err());
    assert_eq!(
        asked.take(),
        ["broken get nodes/configz"; 2],
        "a failure is not kept"
    );
}

#[tokio::test]
async fn a_mode_without_its_backend_forbids_everything_in_upstreams_words() {
    let webhook = Authorization::Webhook {
        yes_holds: Duration::from_secs(300),
        no_holds: Duration::from_secs(30),
        reviewer: Reviewer::Standalone,
    };
    let closed = auth(Anonymous::Allowed, standalone(), webhook);
    let refusal = closed
        .authorize((&named("u"), HERE), "GET", "/pods")
        .await
        .unwrap_err();
    assert_eq!(
        (refusal.status, &*refusal.text),
        (
            403,
            "Forbidden (user=u, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
        )
    );
    let open = auth(Anonymous::Allowed, standalone(), Authorization::AlwaysAllow);
    assert_eq!(
        open.authorize((&named("u"), HERE), "HEAD", "/exec/a").await,
        Ok(())
    );
}

/// Upstream's table of paths with the fine-grained gate, which 1.36 locks on.
const PATHS: [(&str, &[&str]); 31] = [
    ("/attach/ns/pod/c", &["proxy"]),
    ("/attach/ns/pod/uid/c", &["proxy"]),
    ("/checkpoint/ns/pod/c", &["checkpoint"]),
    ("/configz", &["configz", "proxy"]),
    ("/containerLogs/ns/pod/c", &["proxy"]),
    ("/debug/flags/v", &["proxy"]),
    ("/debug/pprof/profile", &["proxy"]),
    ("/exec/ns/pod/c", &["proxy"]),
    ("/exec/ns/pod/uid/c", &["proxy"]),
    ("/flagz", &["configz"]),
    ("/healthz", &["healthz", "proxy"]),
    ("/healthz/log", &["healthz", "proxy"]),
    ("/healthz/ping", &["healthz", "proxy"]),
    ("/healthz/syncloop", &["healthz", "proxy"]),
    ("/logs/", &["log"]),
    ("/logs/a/b", &["log"]),
    ("/metrics", &["metrics"]),
    ("/metrics/cadvisor", &["metrics"]),
    ("/metrics/probes", &["metrics"]),
    ("/metrics/resource", &["metrics"]),
    ("/metrics/slis", &["metrics"]),
    ("/pods/", &["pods", "proxy"]),
    ("/portForward/ns/pod", &["proxy"]),
    ("/portForward/ns/pod/uid", &["proxy"]),
    ("/run/ns/pod/c", &["proxy"]),
    ("/run/ns/pod/uid/c", &["proxy"]),
    ("/runningpods/", &["pods", "proxy"]),
    ("/spec/", &["proxy"]),
    ("/stats/", &["stats"]),
    ("/stats/summary", &["stats"]),
    ("/statusz", &["statusz"]),
];

#[test]
fn the_attributes_of_every_path_and_method_are_upstreams() {
    const VERBS: [(&str, &str); 7] = [
        ("GET", "get"),
        ("POST", "create"),
        ("PUT", "update"),
        ("PATCH", "patch"),
        ("DELETE", "delete"),
        ("HEAD", ""),
        ("OPTIONS", ""),
    ];
    let user = User {
        groups: vec!["g".to_owned()],
        ..named("u")
    };
    for (path, expected) in PATHS {
        for (method, verb) in VERBS {
            let access = attributes(&user, "node1", method, path);
            let subresources: Vec<&str> = access.iter().map(|access| access.subresource).collect();
            assert_eq!(subresources, expected, "{method} {path}");
            for one in access {
                let expected = Access {
                    user: user.clone(),
                    verb,
                    group: "",
                    version: "v1",
                    resource: "nodes",
                    subresource: one.subresource,
                    name: "node1".to_owned(),
                };
                assert_eq!(one, expected, "{method} {path}");
            }
        }
    }
}
