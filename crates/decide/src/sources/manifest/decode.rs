//! The bytes of a manifest become pods, or a problem with its place in the text.
//!
//! In:    YAML or JSON: one v1 Pod, or from a URL also a v1 PodList or a v1 List of pods
//! Out:   pods exactly as written (no defaults), or one [`ManifestProblem`]
//! Calls: the static pod sources, and `hyperkube validate`
//! Holds: text → JSON value → typed pod, as upstream does, so that `"5"` never becomes a number; a budget bounds
//!        aliases, depth and nodes; of several documents only the first that is not empty counts (upstream: the first)
//! Also:  keys may repeat (the last wins) and unknown fields are ignored, as upstream's lenient decoder does; flow
//!        YAML may start with `{`, which upstream takes for JSON and refuses
//! Upstream: pkg/kubelet/config/common.go, file.go, http.go; apimachinery/pkg/util/yaml

use super::StaticSource;
use k8s_openapi::api::core::v1::Pod;
use kubelet_model::yaml::{self, Duplicates};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Manifests above this size are refused unread, by upstream too.
pub const MAX_MANIFEST_BYTES: usize = yaml::MAX_BYTES;

/// Why a manifest cannot be decoded. Prints as one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct ManifestProblem {
    /// Line, from 1.
    pub line: Option<usize>,
    /// Column, from 1.
    pub column: Option<usize>,
    /// The field, such as `spec.containers[0].image`.
    pub field: Option<String>,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for ManifestProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: ")?,
            (Some(line), None) => write!(f, "line {line}: ")?,
            _ => {}
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        for (index, part) in self.message.lines().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            f.write_str(part.trim())?;
        }
        Ok(())
    }
}

impl ManifestProblem {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }

    fn at_field(text: &str, field: &str, message: impl Into<String>) -> Self {
        let place = locate_field(text.as_bytes(), field);
        Self {
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            field: Some(field.to_owned()).filter(|field| !field.is_empty()),
            message: message.into(),
        }
    }
}

/// Decodes a manifest: exactly one pod from a file, any number from a URL.
pub fn decode_manifest(bytes: &[u8], source: StaticSource) -> Result<Vec<Pod>, ManifestProblem> {
    let text = manifest_text(bytes)?;
    let value = parse(text)?;
    let kind = object_kind(text, &value, "")?.to_owned();
    match (kind.as_str(), source) {
        ("Pod", _) => Ok(vec![decode_pod(text, value, "")?]),
        ("PodList" | "List", StaticSource::Url) => decode_list(text, value, kind == "List"),
        ("PodList" | "List", StaticSource::File) => Err(ManifestProblem::at_field(
            text,
            "kind",
            format!("a file must hold one Pod, not a {kind}"),
        )),
        (kind, _) => Err(ManifestProblem::at_field(
            text,
            "kind",
            format!("must be \"Pod\", not {kind:?}"),
        )),
    }
}

fn decode_list(text: &str, value: Value, kinds: bool) -> Result<Vec<Pod>, ManifestProblem> {
    let items = match value {
        Value::Object(mut fields) => fields.remove("items").unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Value::Null
        }
    };
    let items = match items {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            return Err(ManifestProblem::at_field(text, "items", "must be a list"));
        }
    };
    let mut pods = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let at = format!("items[{index}]");
        // The items of a PodList need not repeat what they are.
        if kinds || item.get("kind").is_some() {
            let kind = object_kind(text, &item, &at)?;
            if kind != "Pod" {
                let message = format!("must be \"Pod\", not {kind:?}");
                return Err(ManifestProblem::at_field(
                    text,
                    &format!("{at}.kind"),
                    message,
                ));
            }
        }
        pods.push(decode_pod(text, item, &at)?);
    }
    Ok(pods)
}

/// The kind of an object of the v1 API.
fn object_kind<'a>(text: &str, value: &'a Value, at: &str) -> Result<&'a str, ManifestProblem> {
    if !value.is_object() {
        return Err(ManifestProblem::at_field(
            text,
            at,
            "must be an object with apiVersion, kind, metadata and spec",
        ));
    }
    let field = |name: &str| join(at, name);
    let mut found = ["", ""];
    for (slot, name) in found.iter_mut().zip(["kind", "apiVersion"]) {
        *slot = match value.get(name) {
            Some(Value::String(held)) if !held.is_empty() => held,
            None | Some(Value::Null | Value::String(_)) => {
                let message = "Required value";
                return Err(ManifestProblem {
                    field: Some(field(name)),
                    ..ManifestProblem::at_field(text, at, message)
                });
            }
            Some(_) => {
                return Err(ManifestProblem::at_field(
                    text,
                    &field(name),
                    "must be a string",
                ));
            }
        };
    }
    let [kind, version] = found;
    if version == "v1" {
        Ok(kind)
    } else {
        let message = format!("must be \"v1\", not {version:?}");
        Err(ManifestProblem::at_field(
            text,
            &field("apiVersion"),
            message,
        ))
    }
}

/// Maps of texts, where a key without a value means the empty text (the typed decoder wants one).
const TEXT_MAPS: [&str; 3] = [
    "/metadata/labels",
    "/metadata/annotations",
    "/spec/nodeSelector",
];

fn decode_pod(text: &str, mut value: Value, at: &str) -> Result<Pod, ManifestProblem> {
    for path in TEXT_MAPS {
        if let Some(Value::Object(map)) = value.pointer_mut(path) {
            for held in map.values_mut().filter(|held| held.is_null()) {
                *held = Value::String(String::new());
            }
        }
    }
    let pod: Pod = serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "" } else { path.as_str() };
        ManifestProblem::at_field(text, &join(at, path), error.into_inner().to_string())
    })?;
    if pod.metadata.name.as_deref().is_none_or(str::is_empty) {
        let field = join(at, "metadata.name");
        return Err(ManifestProblem {
            field: Some(field),
            ..ManifestProblem::at_field(text, &join(at, "metadata"), "Required value")
        });
    }
    Ok(pod)
}

fn join(at: &str, field: &str) -> String {
    match (at.is_empty(), field.is_empty()) {
        (true, _) => field.to_owned(),
        (_, true) => at.to_owned(),
        _ => format!("{at}.{field}"),
    }
}

fn manifest_text(bytes: &[u8]) -> Result<&str, ManifestProblem> {
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestProblem::new(format!(
            "larger than {MAX_MANIFEST_BYTES} bytes"
        )));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        ManifestProblem {
            line: Some(1 + good.iter().filter(|byte| **byte == b'\n').count()),
            ..ManifestProblem::new("not UTF-8 text")
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn parse(text: &str) -> Result<Value, ManifestProblem> {
    if text.trim_start().starts_with('{') {
        let error = match serde_json::from_str(text) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        // The reason of the format that it looks like is the helpful one.
        return first_document(text).map_err(|_| {
            let message = error.to_string();
            let end = message.rfind(" at line ").unwrap_or(message.len());
            ManifestProblem {
                line: Some(error.line()),
                column: Some(error.column()),
                ..ManifestProblem::new(message.get(..end).unwrap_or_default())
            }
        });
    }
    first_document(text)
}

/// The first document of YAML text that is not empty.
fn first_document(text: &str) -> Result<Value, ManifestProblem> {
    match yaml::first_document(text, Duplicates::LastWins) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(ManifestProblem::new("empty: a manifest holds one v1 Pod")),
        Err(error) => Err(yaml_problem(&error)),
    }
}

fn yaml_problem(error: &serde_saphyr::Error) -> ManifestProblem {
    let place = error.location().filter(|place| place.line() > 0);
    let message = told(error.to_string());
    // The place has fields of its own.
    let end = message
        .rfind(" at line ")
        .filter(|_| place.is_some())
        .unwrap_or(message.len());
    let number = |part: u64| usize::try_from(part).ok();
    ManifestProblem {
        line: place.and_then(|place| number(place.line())),
        column: place.and_then(|place| number(place.column())),
        ..ManifestProblem::new(message.get(..end).unwrap_or_default())
    }
}

/// What a person can do something with: the parser's own accounts of its limits say nothing about the manifest.
fn told(message: String) -> String {
    let is_alias_limit = message.contains("alias ") && message.contains("exceeded");
    if message.contains("budget breached") || is_alias_limit {
        return "more nodes, levels or expanded aliases than a manifest may have".to_owned();
    }
    message
}

/// Line and column (from 1) of a field such as `spec.containers[0].image` in a manifest; of its nearest parent
/// when it is not written there. `None` when the text cannot be read. Costs a whole parse: for errors only.
pub fn locate_field(bytes: &[u8], field: &str) -> Option<(usize, usize)> {
    let text = manifest_text(bytes).ok()?;
    let mut node: Placed = yaml::first(text, Duplicates::LastWins).ok()??;
    for step in field.split(['.', '[']).filter(|step| !step.is_empty()) {
        let next = match (node.value, step.strip_suffix(']')) {
            (Node::List(items), Some(index)) => index
                .parse()
                .ok()
                .and_then(|index: usize| items.into_iter().nth(index)),
            (Node::Map(fields), None) => fields
                .into_iter()
                .rfind(|(name, _)| name == step)
                .map(|(_, node)| node),
            _ => None,
        };
        match next {
            Some(child) => node = child,
            None => break,
        }
    }
    let place = node.referenced;
    let pair = (
        usize::try_from(place.line()).ok()?,
        usize::try_from(place.column()).ok()?,
    );
    (pair.0 > 0).then_some(pair)
}

type Placed = serde_saphyr::Spanned<Node>;

/// A document's shape with the place of every node.
enum Node {
    Map(Vec<(String, Placed)>),
    List(Vec<Placed>),
    Leaf,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

macro_rules! leaves {
    ($($method:ident: $type:ty),*) => {
        $(fn $method<E>(self, _: $type) -> Result<Node, E> { Ok(Node::Leaf) })*
    };
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    leaves!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64,
            visit_str: &str, visit_bytes: &[u8]);

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
        Node::deserialize(inner)
    }

    fn visit_newtype_struct<D: serde::Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
        IgnoredAny::deserialize(inner).map(|_| Node::Leaf)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}
