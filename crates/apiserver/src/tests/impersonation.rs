//! Impersonation: upstream's table.
//!
//! In:    impersonation headers, the sender, the sender's rights
//! Out:   the user as whom the request is done, or 400 or 403
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/impersonation/impersonation_test.go TestImpersonationFilter (1.36)

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::access::authz::{Asked, Decision};
use crate::access::impersonation;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(format!("impersonate-{name}").as_bytes()).unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    map
}

/// An authorizer that allows what starts with one of these words: `resource.group/sub=name`.
fn may(rights: &str) -> impl Fn(&User, &Asked) -> Decision {
    move |_, asked| {
        let (resource, group) = (&asked.resource, &asked.group);
        let (sub, name) = (&asked.subresource, &asked.name);
        let whole = format!("{resource}.{group}/{sub}={name}");
        let mut rights = rights.split(' ').filter(|right| !right.is_empty());
        if asked.verb == "impersonate" && rights.any(|right| whole.starts_with(right)) {
            Decision::Allowed("")
        } else {
            Decision::Refused("deny by default".to_owned())
        }
    }
}

const USERS: &str = "users./=";
const EVERYTHING: &str = "users./= groups./= uids.authentication.k8s.io/=some-uid userextras.authentication.k8s.io/scopes=";
const ALL: &str = "users. groups. uids. userextras. serviceaccounts.";

#[test]
fn each_part_of_the_wanted_user_needs_its_own_right() {
    let scopes = [
        ("user", "system:admin"),
        ("extra-scopes", "scope-a"),
        ("extra-scopes", "scope-b"),
    ];
    let with_all = [
        ("user", "tester"),
        ("uid", "some-uid"),
        ("group", "system:authenticated"),
        ("extra-scopes", "scope-a"),
        ("extra-scopes", "scope-b"),
    ];
    let anonymous = ("user", "system:anonymous");
    let account = ("user", "system:serviceaccount:foo:default");
    for (sent, rights, expected) in [
        (&[][..], "", "sender[sender]"),
        (&[("user", "anyone")], "", "403 users anyone"),
        (&[("group", "some-group")], ALL, "400"),
        (&[("extra-scopes", "scope-a")], ALL, "400"),
        (&[("uid", "some-uid")], ALL, "400"),
        (&[("user", ""), ("group", "some-group")], ALL, "400"),
        (&[("whatever", "x")], ALL, "400"),
        (
            &[("user", "system:admin"), ("group", "some-group")],
            USERS,
            "403 groups some-group",
        ),
        (
            &[("user", "system:admin"), ("group", "some-group")],
            "users. groups.",
            "system:admin[some-group,system:authenticated]",
        ),
        (&scopes, USERS, "403 userextras scope-a"),
        (
            &scopes,
            "users. userextras.authentication.k8s.io/project=",
            "403 userextras scope-a",
        ),
        (
            &scopes,
            "users. userextras.authentication.k8s.io/scopes=scope-a",
            "403 userextras scope-b",
        ),
        (
            &scopes,
            "users. userextras.authentication.k8s.io/scopes=",
            "system:admin[system:authenticated]{scopes:scope-a+scope-b}",
        ),
        (
            &[
                ("user", "system:admin"),
                ("extra-example.com%2fescaped%e1%9b%84scopes", "a"),
            ],
            ALL,
            "system:admin[system:authenticated]{example.com/escaped\u{16c4}scopes:a}",
        ),
        (
            &[
                ("user", "system:admin"),
                ("extra-almost%zzpercent%xxencoded", "a"),
            ],
            ALL,
            "system:admin[system:authenticated]{almost%zzpercent%xxencoded:a}",
        ),
        (&[("user", "tester")], USERS, "tester[system:authenticated]"),
        (
            &[("user", "tester")],
            "serviceaccounts.",
            "403 users tester",
        ),
        (&[account], USERS, "403 serviceaccounts default"),
        (
            &[account],
            "serviceaccounts.",
            "system:serviceaccount:foo:default[system:serviceaccounts,system:serviceaccounts:foo,system:authenticated]",
        ),
        (
            &[account, ("group", "g")],
            ALL,
            "system:serviceaccount:foo:default[g,system:authenticated]",
        ),
        (
            &[("user", "system:serviceaccount:foo:a:b")],
            "serviceaccounts.",
            "403 users system:serviceaccount:foo:a:b",
        ),
        (
            &[anonymous],
            ALL,
            "system:anonymous[system:unauthenticated]",
        ),
        (
            &[anonymous, ("group", "system:unauthenticated")],
            ALL,
            "system:anonymous[system:unauthenticated]",
        ),
        (
            &[anonymous, ("group", "g")],
            ALL,
            "system:anonymous[g,system:unauthenticated]",
        ),
        (
            &[("user", "unknown"), ("group", "system:unauthenticated")],
            ALL,
            "unknown[system:unauthenticated]",
        ),
        (
            &[("user", "unknown"), ("group", "system:authenticated")],
            ALL,
            "unknown[system:authenticated]",
        ),
        (
            &[
                ("user", "a"),
                ("group", "g"),
                ("group", "system:authenticated"),
            ],
            ALL,
            "a[g,system:authenticated]",
        ),
        (
            &[("user", "tester"), ("uid", "some-uid")],
            EVERYTHING,
            "tester(some-uid)[system:authenticated]",
        ),
        (
            &[("user", "tester"), ("uid", "disallowed-uid")],
            EVERYTHING,
            "403 uids disallowed-uid",
        ),
        (
            &with_all,
            EVERYTHING,
            "tester(some-uid)[system:authenticated]{scopes:scope-a+scope-b}",
        ),
    ] {
        let sender = User {
            name: "sender".to_owned(),
            groups: vec!["sender".to_owned()],
            ..User::default()
        };
        let became = impersonation::user(&headers(sent), sender, may(rights));
        let shown = match became {
            Ok(user) => {
                let uid = if user.uid.is_empty() {
                    String::new()
                } else {
                    format!("({})", user.uid)
                };
                let extra: String = user
                    .extra
                    .iter()
                    .map(|(k, v)| format!("{{{k}:{}}}", v.join("+")))
                    .collect();
                format!("{}{uid}[{}]{extra}", user.name, user.groups.join(","))
            }
            Err(failure) if failure.code == 400 => "400".to_owned(),
            Err(failure) => {
                let (kind, name) = (&failure.details["kind"], &failure.details["name"]);
                format!(
                    "{} {} {}",
                    failure.code,
                    kind.as_str().unwrap(),
                    name.as_str().unwrap()
                )
            }
        };
        assert_eq!(shown, expected, "{sent:?}");
    }
}

#[tokio::test]
async fn a_request_is_done_as_the_wanted_user_whole() {
    let world = World::new().await;
    let ask = async |line: &str, sent: &[(&str, &str)]| {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://server{path}"));
        for (name, value) in sent {
            request = request.header(format!("impersonate-{name}"), *value);
        }
        let request = request.header("content-type", "application/json");
        let body = if method == "POST" { "{}" } else { "" };
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let response = world
            .server
            .service_as(User::admin())
            .call(request)
            .await
            .unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (
            code,
            serde_json::from_slice::<Value>(&bytes).unwrap_or_default(),
        )
    };
    let line = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
    let sent = [
        ("user", "bob"),
        ("uid", "u-1"),
        ("group", "g"),
        ("extra-scopes", "a"),
    ];
    let (code, answer) = ask(line, &sent).await;
    let expected = json!({"username": "bob", "uid": "u-1", "groups": ["g", "system:authenticated"], "extra": {"scopes": ["a"]}});
    assert_eq!((code, &answer["status"]["userInfo"]), (201, &expected));
    // An anonymous user learns nothing.
    for path in ["/api", "/apis", "/api/v1/nodes", "/openapi/v3"] {
        let (code, _) = ask(&format!("GET {path}"), &[("user", "system:anonymous")]).await;
        assert_eq!(code, 403, "{path}");
    }
    let (code, _) = ask("GET /api", &[("user", "bob")]).await;
    assert_eq!(code, 200);
}
