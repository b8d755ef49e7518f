//! Which credentials are for which image, in upstream's order; what secrets and files may look like.

use std::sync::Arc;

use kubelet_model::objects::PodObjects;
use serde_json::json;

use super::*;
use crate::shapes::secrets::DockerConfigError;
use crate::shapes::secrets::PullSecrets;
use crate::testing::pod_of;
use crate::testing::seen::Seen;

/// A keyring with a user named after each place.
fn keyring(places: &[&str]) -> Keyring {
    let mut keyring = Keyring::default();
    for place in places {
        let config = json!({ *place: { "username": place, "password": "p" } });
        keyring
            .add(config.to_string().as_bytes(), DockerConfigForm::Legacy)
            .unwrap();
    }
    keyring
}

fn users(keyring: &Keyring, image: &str) -> String {
    let found = keyring.for_image(&full_repository(image));
    let users: Vec<_> = found.iter().map(|c| c.username.as_str()).collect();
    users.join(" ")
}

#[test]
fn places_match_by_host_port_and_path_and_the_most_specific_is_tried_first() {
    let rows: &[(&[&str], &str, &str)] = &[
        (&["registry.io"], "registry.io/a/b:1", "registry.io"),
        (
            &["https://registry.io/v1/"],
            "registry.io/a",
            "https://registry.io/v1/",
        ),
        (
            &["http://registry.io/v2/a"],
            "registry.io/a/b",
            "http://registry.io/v2/a",
        ),
        (
            &["registry.io/a", "registry.io", "registry.io/a/b"],
            "registry.io/a/b",
            "registry.io/a/b registry.io/a registry.io",
        ),
        (&["registry.io/b"], "registry.io/a", ""),
        (&["registry.io"], "registry.io:5000/a", ""),
        (
            &["registry.io:5000"],
            "registry.io:5000/a",
            "registry.io:5000",
        ),
        (&["*.io"], "registry.io/a", "*.io"),
        (&["*.io"], "eu.registry.io/a", ""),
        (
            &["*.registry.io", "eu.registry.io"],
            "eu.registry.io/a",
            "eu.registry.io *.registry.io",
        ),
        (
            &["eu-*.registry.io"],
            "eu-1.registry.io/a",
            "eu-*.registry.io",
        ),
        (
            &["eu-[0-3].registry.io"],
            "eu-2.registry.io/a",
            "eu-[0-3].registry.io",
        ),
        (&["eu-[^0-3].registry.io"], "eu-2.registry.io/a", ""),
        (&["registry.?o"], "registry.io/a", ""),
        (
            &["https://index.docker.io/v1/"],
            "busybox",
            "https://index.docker.io/v1/",
        ),
        (
            &["https://index.docker.io/v1/"],
            "docker.io/library/busybox",
            "https://index.docker.io/v1/",
        ),
        (&["https://index.docker.io/v1/"], "quay.io/busybox", ""),
        (&["docker.io", "index.docker.io"], "me/app", "docker.io"),
    ];
    for (places, image, expected) in rows {
        assert_eq!(
            users(&keyring(places), image),
            *expected,
            "{places:?} {image}"
        );
    }
}

#[test]
fn several_of_one_place_are_tried_in_the_order_in_which_they_came() {
    let mut keyring = Keyring::default();
    for user in ["one", "two"] {
        let config = json!({ "auths": { "r.io": { "username": user, "password": "p" } }, "HttpHeaders": {} });
        keyring
            .add(config.to_string().as_bytes(), DockerConfigForm::Json)
            .unwrap();
    }
    assert_eq!(users(&keyring, "r.io/a"), "one two");
}

#[test]
fn an_auth_goes_before_a_user_and_is_base64_with_or_without_padding() {
    let rows = [
        ("dTpw", Ok(("u", "p"))),
        ("dTpwOnE=", Ok(("u", "p:q"))),
        ("dTpwOnE", Ok(("u", "p:q"))),
        ("dQ==", Err(DockerConfigError::Auth)),
        ("!", Err(DockerConfigError::Auth)),
    ];
    for (auth, expected) in rows {
        let mut keyring = Keyring::default();
        let config = json!({ "auths": { "r.io": { "username": "no", "auth": auth } } });
        let added = keyring.add(config.to_string().as_bytes(), DockerConfigForm::Json);
        let found = added.map(|()| keyring.for_image("r.io/a").remove(0));
        let found = found
            .as_ref()
            .map(|c| (c.username.as_str(), c.password.as_str()));
        assert_eq!(found, expected.as_ref().copied(), "{auth}");
    }
    let mut keyring = Keyring::default();
    let unreadable = Err(DockerConfigError::Unreadable);
    assert_eq!(keyring.add(b"[1]", DockerConfigForm::Json), unreadable);
    assert_eq!(
        keyring.add(b"{\"auths\": 3}", DockerConfigForm::Json),
        unreadable
    );
    assert_eq!(keyring.add(b"{}", DockerConfigForm::Json), Ok(()));
}

#[test]
fn names_are_completed_as_the_registry_client_does() {
    let rows = [
        ("busybox", "docker.io/library/busybox"),
        ("busybox:1", "docker.io/library/busybox"),
        ("me/app@sha256:00", "docker.io/me/app"),
        ("index.docker.io/me/app", "docker.io/me/app"),
        ("docker.io/busybox", "docker.io/library/busybox"),
        ("localhost/a:b", "localhost/a"),
        ("r:5000/a/b:c", "r:5000/a/b"),
    ];
    for (image, expected) in rows {
        assert_eq!(full_repository(image), expected, "{image}");
    }
}

fn secret(type_: &str, key: &str, text: &str) -> ObjectState<v1::Secret> {
    ObjectState::Known(Arc::new(v1::Secret {
        type_: Some(type_.to_owned()),
        data: Some([(key.to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
        ..v1::Secret::default()
    }))
}

fn asked(states: &[(&str, ObjectState<v1::Secret>)]) -> PullSecrets {
    let pod = pod_of(
        "{containers: [{name: c, image: r.io/a}], imagePullSecrets: [{name: new}, {name: ''}, {name: old}, {name: gone}]}",
    );
    let objects = PodObjects {
        secrets: states
            .iter()
            .map(|(n, s)| ((*n).to_owned(), s.clone()))
            .collect(),
        ..PodObjects::default()
    };
    Seen::new(pod, objects).see(|view| pull_secrets(view, "r.io/a:1"))
}

#[test]
fn both_kinds_of_secrets_are_read_and_one_that_is_missing_is_named() {
    let json = "{\"auths\": {\"r.io\": {\"username\": \"new\", \"password\": \"hush\"}}}";
    let legacy = "{\"r.io/a\": {\"username\": \"old\", \"password\": \"hush\"}}";
    let found = asked(&[
        (
            "new",
            secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", json),
        ),
        (
            "old",
            secret("kubernetes.io/dockercfg", ".dockercfg", legacy),
        ),
    ]);
    let users: Vec<_> = found
        .credentials
        .iter()
        .map(|c| c.username.as_str())
        .collect();
    assert_eq!(users, ["old", "new"], "the path is more specific");
    assert_eq!(
        found.warning().as_deref(),
        Some(
            "Unable to retrieve some image pull secrets (gone); attempting to pull the image may not succeed."
        )
    );
    assert!(!format!("{found:?}").contains("hush"));
}

#[test]
fn a_secret_of_another_type_is_passed_over_and_a_broken_one_fails_the_pull() {
    let found = asked(&[
        ("new", secret("Opaque", ".dockerconfigjson", "{}")),
        ("old", secret("kubernetes.io/dockercfg", ".dockercfg", "no")),
        (
            "gone",
            ObjectState::Absent {
                at: jiff::Timestamp::UNIX_EPOCH,
            },
        ),
    ]);
    assert_eq!(found.unreadable, Some(DockerConfigError::Unreadable));
    assert!(found.credentials.is_empty());
    assert_eq!(found.missing, ["gone"]);
}

/// All texts of up to `length` of these characters.
fn texts(alphabet: &str, length: usize) -> Vec<Vec<char>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..length {
        let longer = last
            .iter()
            .flat_map(|text| alphabet.chars().map(move |c| [text, &[c][..]].concat()));
        last = longer.collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// What wildcards mean, without regard to time.
fn means(glob: &[char], text: &[char]) -> bool {
    match (glob, text) {
        ([], text) => text.is_empty(),
        (['*', rest @ ..], text) => (0..=text.len()).any(|at| means(rest, &text[at..])),
        (['?', rest @ ..], [_, text @ ..]) => means(rest, text),
        ([same, rest @ ..], [c, text @ ..]) => same == c && means(rest, text),
        (_, []) => false,
    }
}

#[test]
fn wildcards_mean_what_they_say() {
    for glob in texts("ab*?", 5) {
        for text in texts("ab", 4) {
            assert_eq!(
                is_like(&glob, &text),
                means(&glob, &text),
                "{glob:?} {text:?}"
            );
        }
    }
    for (glob, text, expected) in [
        ("[a-c]*[^x]", "azzz", true),
        ("[a-c]*[^x]", "azzx", false),
        ("[a-cx-z]", "y", true),
        ("[^a]", "a", false),
        ("[*]", "*", true),
        ("*[", "a[", false),
        ("[]a]", "a", false),
    ] {
        let [glob, text] = [glob, text].map(|text| text.chars().collect::<Vec<_>>());
        assert_eq!(is_like(&glob, &text), expected, "{glob:?} {text:?}");
    }
}

#[test]
fn a_hostile_pattern_takes_neither_time_nor_stack() {
    // Each `*` tried at each place would take longer than anybody lives.
    let slow = keyring(&[&format!("{}b/x", "*a".repeat(100))]);
    assert_eq!(users(&slow, &format!("{}/x", "a".repeat(240))), "");
    // A step of recursion for each `*` ended the process.
    let deep = keyring(&[&format!("{}/x", "*".repeat(1 << 20))]);
    assert_eq!(users(&deep, "a/x"), "");
    let class = keyring(&[&format!("[{}]/x", "b".repeat(1 << 20))]);
    assert_eq!(users(&class, "a/x"), "");
}
