//! Patches that grow, nest, or take long.
//!
//! In:    a node's own credential, and an administrator's where a node may not
//! Out:   what the server answered
//! Calls: floods
//! Holds: what a patch of 17 copies makes is 131 MB when nobody stops it, no more
//! Upstream: none

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use rig::http::{Body, Http};
use rig::node::NODE_NAME;
use serde_json::{Value, json};

use crate::flood::Span;
use crate::identities::of_node;
use crate::target::{PODS, Target, asked, pod};

const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn node(target: &Target<'_>) -> anyhow::Result<Http> {
    let http = Target::as_somebody(target.ports.api, &of_node(target)?)?;
    Ok(http.patient(Duration::from_secs(60)))
}

/// Sends it again and again, and counts the answers.
fn again(span: &Span, mut send: impl FnMut() -> anyhow::Result<(u16, Vec<u8>)>) -> String {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    while span.goes_on() {
        let answer = match send() {
            Ok((status, _)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        *answers.entry(answer).or_default() += 1;
        rig::clock::pause_ms(50);
    }
    let mut text = "answers".to_owned();
    for (answer, count) in answers {
        // Writing to a String cannot fail.
        let _written = write!(text, ", {answer}: {count}");
    }
    text
}

fn patch_own_node(target: &Target<'_>, span: &Span, patch: &Value) -> anyhow::Result<String> {
    let (mut http, bytes) = (node(target)?, patch.to_string());
    let path = format!("/api/v1/nodes/{NODE_NAME}/status");
    Ok(again(span, || {
        let body = Body {
            kind: JSON_PATCH,
            bytes: bytes.as_bytes(),
        };
        http.ask("PATCH", &path, Some(body))
    }))
}

/// A place that no type knows: whoever stores it as it comes, stores any tree.
const ANY: &str = "/status/attack";

fn any(value: &Value) -> Value {
    json!({"op": "add", "path": ANY, "value": value})
}

/// A kilobyte that doubles 17 times.
pub(super) fn copies(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let from = ANY;
    let mut patch = vec![any(&json!({"f:a": "a".repeat(1000)}))];
    for number in 0..17 {
        patch.push(json!({"op": "copy", "from": from, "path": format!("{from}/f:{number}")}));
    }
    patch_own_node(target, span, &Value::Array(patch))
}

/// A tree that doubles its depth so often.
fn deep(target: &Target<'_>, span: &Span, doublings: u32) -> anyhow::Result<String> {
    let from = ANY;
    let mut patch = vec![any(&json!({"x": {}}))];
    for doubling in 0..doublings {
        // The tree is copied below its own deepest place.
        let path = format!("{from}{}", "/x".repeat(1 << doubling));
        patch.push(json!({"op": "copy", "from": from, "path": path}));
    }
    patch_own_node(target, span, &Value::Array(patch))
}

pub(super) fn depth_256(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    deep(target, span, 8)
}

pub(super) fn depth_16384(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    deep(target, span, 14)
}

/// What was stored can be read at the next start.
pub(super) fn starts_again(target: &mut Target<'_>) -> anyhow::Result<Vec<String>> {
    target.kill()?;
    target.start()?;
    Ok(match target.ready(30.0) {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("it does not start again: {error:#}")],
    })
}

/// Nine thousand copies to the front of a list, in an object of thousands of values: each step must cost what it changes.
pub(super) fn nine_thousand(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let ballast = vec![json!({"a": {"b": {}}}); 20_000];
    let mut patch = vec![any(&json!({"l": [{"a": {}}], "ballast": ballast}))];
    let copy = json!({"op": "copy", "from": format!("{ANY}/l/0"), "path": format!("{ANY}/l/0")});
    patch.extend(std::iter::repeat_n(copy, 9000));
    patch_own_node(target, span, &Value::Array(patch))
}

/// As many as fit into an object of a megabyte and a patch of three.
const VARIABLES: usize = 8000;

fn variables(value: &str) -> Vec<Value> {
    let one = |number: usize| json!({"name": format!("VARIABLE_{number}"), "value": value});
    (0..VARIABLES).map(one).collect()
}

pub(super) fn large_pod(target: &Target<'_>) -> anyhow::Result<()> {
    let mut large = pod(&target.machine.image, "variables", "Never", "exit 0");
    large["spec"]["nodeName"] = json!(NODE_NAME);
    large["spec"]["nodeSelector"] = json!({"attack": "nowhere"});
    large["spec"]["containers"][0]["env"] = Value::Array(variables("a"));
    asked(&mut target.api(), "POST", PODS, Some(&large)).map(drop)
}

/// A strategic merge of lists with thousands of keys.
pub(super) fn strategic(target: &Target<'_>, span: &Span) -> anyhow::Result<String> {
    let mut list = variables("b");
    list.reverse();
    let patch = json!({"spec": {"containers": [{"name": "main", "env": list}]}}).to_string();
    let mut http = target.api().patient(Duration::from_secs(60));
    Ok(again(span, || {
        let body = Body {
            kind: STRATEGIC,
            bytes: patch.as_bytes(),
        };
        http.ask("PATCH", &format!("{PODS}/variables"), Some(body))
    }))
}
