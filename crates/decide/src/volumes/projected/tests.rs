//! Upstream's tables of payloads, and its errors.

use std::sync::Arc;

use jiff::Timestamp;
use kubelet_model::objects::{TokenRef, TrustBundleRef};
use serde_json::json;

use super::*;
use crate::testing::{node, pod_of};

fn known<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> ObjectState<T> {
    ObjectState::Known(Arc::new(serde_json::from_value(json).unwrap()))
}

fn absent<T>() -> ObjectState<T> {
    let at = Timestamp::UNIX_EPOCH;
    ObjectState::Absent { at }
}

fn unknown<T>(why: &str) -> ObjectState<T> {
    let why = why.to_owned();
    ObjectState::Unknown { why }
}

fn objects() -> PodObjects {
    let token = |audience: &str| TokenRef {
        audience: audience.to_owned(),
        expiration_seconds: 3600,
    };
    PodObjects {
        access: ApiAccess::Cluster,
        config_maps: [
            (
                "cm".to_owned(),
                known(json!({"data": {"foo": "foo", "bar": "bar"}, "binaryData": {"zap": "AAE="}})),
            ),
            ("none".to_owned(), absent()),
            ("later".to_owned(), unknown("not yet")),
        ]
        .into(),
        secrets: [
            (
                "sec".to_owned(),
                known(json!({"data": {"user": "cm9vdA==", "raw": "/w=="}})),
            ),
            ("none".to_owned(), absent()),
        ]
        .into(),
        tokens: [
            (token(""), known(json!("t0ken"))),
            (token("late"), unknown("not yet")),
            (token("gone"), absent()),
        ]
        .into(),
        trust_bundles: [
            (TrustBundleRef::Name("n".into()), known(json!("pem"))),
            (TrustBundleRef::Name("none".into()), absent()),
            (
                TrustBundleRef::Signer {
                    signer: "s".into(),
                    selector: None,
                },
                absent(),
            ),
        ]
        .into(),
        ..PodObjects::default()
    }
}

fn payload_in(objects: &PodObjects, spec: &str, volume: &str) -> Result<Vec<String>, String> {
    let pod = pod_of(&format!(
        "{{serviceAccountName: robot, {spec} volumes: [{{name: v, {volume}}}]}}"
    ));
    let node = node();
    let view = PayloadView {
        pod: &pod,
        node: &node,
        objects,
    };
    let volume = &pod.spec().volumes.as_ref().unwrap()[0];
    let payload = volume_payload(&view, volume).expect("its files are ours")?;
    let line = |(path, file): (&String, &PayloadFile)| {
        let data = String::from_utf8_lossy(&file.data);
        let owner = file
            .owner
            .map_or(String::new(), |owner| format!(" {owner}"));
        format!("{path} {:o}{owner} {data:?}", file.mode)
    };
    Ok(payload.iter().map(line).collect())
}

fn payload(volume: &str) -> Result<Vec<String>, String> {
    payload_in(&objects(), "containers: [{name: c}],", volume)
}

#[test]
fn config_maps_and_secrets_become_files_as_in_upstreams_tables() {
    for (volume, expected) in [
        (
            "configMap: {name: cm, defaultMode: 420}",
            vec![
                "bar 644 \"bar\"",
                "foo 644 \"foo\"",
                "zap 644 \"\\0\\u{1}\"",
            ],
        ),
        (
            "configMap: {name: cm, defaultMode: 0644, items: [{key: foo, path: path/to/foo.txt}, {key: zap, path: z, mode: 256}]}",
            vec!["path/to/foo.txt 644 \"foo\"", "z 400 \"\\0\\u{1}\""],
        ),
        (
            "configMap: {name: cm, defaultMode: 420, optional: true, items: [{key: foo, path: a}, {key: none, path: b}]}",
            vec!["a 644 \"foo\""],
        ),
        (
            "configMap: {name: none, defaultMode: 420, optional: true}",
            vec![],
        ),
        (
            "configMap: {name: none, defaultMode: 420, optional: true, items: [{key: foo, path: a}]}",
            vec![],
        ),
        (
            "secret: {secretName: sec, defaultMode: 256}",
            vec!["raw 400 \"\u{fffd}\"", "user 400 \"root\""],
        ),
        (
            "secret: {secretName: sec, defaultMode: 420, items: [{key: user, path: u/s/e/r, mode: 448}]}",
            vec!["u/s/e/r 700 \"root\""],
        ),
        (
            "secret: {secretName: none, defaultMode: 420, optional: true}",
            vec![],
        ),
    ] {
        let volume = volume.replace("0644", "420");
        let expected = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(payload(&volume), Ok(expected), "{volume}");
    }
}

#[test]
fn what_can_not_be_had_is_told_in_upstreams_words() {
    for (volume, expected) in [
        (
            "configMap: {name: cm, defaultMode: 420, items: [{key: no, path: a}]}",
            "configmap references non-existent config key: no",
        ),
        (
            "secret: {secretName: sec, defaultMode: 420, items: [{key: no, path: a}]}",
            "references non-existent secret key: no",
        ),
        ("configMap: {name: cm}", NO_MODE),
        ("secret: {secretName: sec}", NO_MODE),
        ("downwardAPI: {}", NO_MODE),
        ("projected: {}", NO_MODE),
        ("configMap: {name: none, defaultMode: 420}", "configmap \"none\" not found"),
        ("secret: {secretName: none, defaultMode: 420}", "secret \"none\" not found"),
        ("configMap: {name: later, defaultMode: 420, optional: true}", "not yet"),
        (
            "secret: {secretName: other, defaultMode: 420, optional: true}",
            "object \"default\"/\"other\" not registered",
        ),
        (
            "downwardAPI: {defaultMode: 420, items: [{path: a, fieldRef: {fieldPath: spec.nodeName}}]}",
            "unsupported fieldPath: spec.nodeName",
        ),
        (
            "projected: {defaultMode: 420, sources: [{configMap: {name: none}}, {secret: {name: none}},
               {configMap: {name: none}}, {serviceAccountToken: {path: t, audience: late}}]}",
            "[configmap \"none\" not found, secret \"none\" not found, failed to fetch token: not yet]",
        ),
        (
            "projected: {defaultMode: 420, sources: [{serviceAccountToken: {path: t, audience: gone}}]}",
            "failed to fetch token: serviceaccounts \"robot\" not found",
        ),
        (
            "projected: {defaultMode: 420, sources: [{clusterTrustBundle: {signerName: s, path: p}}]}",
            "combination of signerName and labelSelector matched zero ClusterTrustBundles",
        ),
        (
            "projected: {defaultMode: 420, sources: [{clusterTrustBundle: {path: p}}]}",
            "ClusterTrustBundle projection requires either name or signerName to be set",
        ),
    ] {
        assert_eq!(payload(volume), Err(expected.to_owned()), "{volume}");
    }
}

#[test]
fn sources_of_a_projected_volume_share_it_and_the_later_one_counts() {
    let volume = "projected: {defaultMode: 420, sources: [{configMap: {name: cm, items: [{key: foo, path: x}]}},
      {secret: {name: sec, items: [{key: user, path: x, mode: 256}]}}, {secret: {name: none, optional: true}},
      {downwardAPI: {items: [{path: labels/name, fieldRef: {fieldPath: metadata.name}},
        {path: cpu, mode: 288, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}]}},
      {serviceAccountToken: {path: token}}, {clusterTrustBundle: {name: n, path: ca.pem}},
      {clusterTrustBundle: {name: none, path: none.pem, optional: true}}]}";
    let expected = [
        "ca.pem 644 \"pem\"",
        "cpu 440 \"2000\"",
        "labels/name 644 \"web\"",
        "none.pem 644 \"\"",
        "token 644 \"t0ken\"",
        "x 400 \"root\"",
    ];
    assert_eq!(payload(volume), Ok(expected.map(str::to_owned).to_vec()));
}

#[test]
fn a_token_belongs_to_the_pods_user_or_group_alone() {
    let volume = "projected: {defaultMode: 420, sources: [{serviceAccountToken: {path: t}}, {configMap: {name: cm, items: [{key: foo, path: f}]}}]}";
    for (spec, expected) in [
        ("containers: [{name: c}],", "t 644 \"t0ken\""),
        (
            "securityContext: {fsGroup: 7}, containers: [{name: c}],",
            "t 600 \"t0ken\"",
        ),
        (
            "securityContext: {runAsUser: 7}, containers: [{name: c}],",
            "t 600 7 \"t0ken\"",
        ),
        (
            "securityContext: {runAsUser: 7}, initContainers: [{name: i, securityContext: {runAsUser: 8}}], containers: [{name: c}],",
            "t 644 \"t0ken\"",
        ),
        (
            "containers: [{name: c, securityContext: {runAsUser: 8}}, {name: d}],",
            "t 644 \"t0ken\"",
        ),
        (
            "containers: [{name: c, securityContext: {runAsUser: 8}}, {name: d, securityContext: {runAsUser: 8}}],",
            "t 600 8 \"t0ken\"",
        ),
    ] {
        let files = payload_in(&objects(), spec, volume).unwrap();
        assert_eq!(files, ["f 644 \"foo\"", expected], "{spec}");
    }
}

#[test]
fn a_node_by_itself_has_the_downward_api_and_nothing_else() {
    let alone = PodObjects::default();
    let spec = "containers: [{name: c}],";
    let downward = "items: [{path: name, fieldRef: {fieldPath: metadata.name}}]";
    for volume in [
        format!("downwardAPI: {{defaultMode: 420, {downward}}}"),
        format!("projected: {{defaultMode: 420, sources: [{{downwardAPI: {{{downward}}}}}]}}"),
    ] {
        let files = payload_in(&alone, spec, &volume);
        assert_eq!(files, Ok(vec!["name 644 \"web\"".to_owned()]));
    }
    for (volume, expected) in [
        (
            "configMap: {name: cm, defaultMode: 420, optional: true}",
            "not supported due to running kubelet in standalone mode",
        ),
        (
            "projected: {defaultMode: 420, sources: [{serviceAccountToken: {path: t}}]}",
            "cannot use TokenManager when kubelet is in standalone mode",
        ),
    ] {
        assert_eq!(payload_in(&alone, spec, volume), Err(expected.to_owned()));
    }
}
