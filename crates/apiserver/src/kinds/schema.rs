//! The fields of every served kind: names, numbers and types, as Kubernetes publishes them.
//!
//! In:    `schema/fields.txt`
//! Out:   [`Message`]s; which fields of an object do not fit its kind, in the words of Go's JSON decoder
//! Calls: `protobuf`; `typed` for request bodies
//! Holds: interface facts only; a message is named by its group's package and its Go name; recursion is as deep as the types,
//!        which are finite
//! Upstream: staging/src/k8s.io/api/*/v1/types.go and generated.proto, apimachinery/pkg/apis/meta/v1 (1.36); Go's
//!           encoding/json; differences: of several fields that do not fit, the first by name is reported, not the first in the
//!           text

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kubelet_model::quantity::Quantity;
use serde_json::{Number, Value};

use crate::base::rfc3339;

/// One line per message: `package.Name field=number:type …`; one line per named type: `package.Name = type`. Before a type, `*`
/// marks a pointer, `!` a field that is written even if it is empty. The field name `-` marks an inlined message.
const FIELDS: &str = include_str!("schema/fields.txt");

/// The largest number of unknown fields that are reported, as upstream.
pub(crate) const STRICT_ERRORS: usize = 100;

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::read(FIELDS));

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Bytes,
    Int32,
    Int64,
    Bool,
    Time,
    MicroTime,
    Quantity,
    /// An IntOrString.
    IntOrText,
    /// A message that is a list of strings.
    Words,
    Message(&'static str),
    List(Box<Kind>),
    Map(Box<Kind>),
}

/// One field.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// The JSON name; empty for an inlined message.
    pub(crate) name: &'static str,
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    /// Whether JSON omits the field if it is empty.
    pub(crate) omits_empty: bool,
    /// Whether an absent field is nothing in Go, and not its type's empty value.
    pub(crate) is_pointer: bool,
    /// The Go name of the type.
    go: String,
}

/// The fields of a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    /// The Go name without the package.
    name: &'static str,
    fields: Vec<Field>,
}

#[derive(Default)]
struct Schema {
    messages: BTreeMap<&'static str, Message>,
}

impl Message {
    /// All fields, by number.
    pub(crate) fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field with a number.
    pub(crate) fn numbered(&self, number: u64) -> Option<&Field> {
        let at = self.fields.binary_search_by_key(&number, |f| f.number);
        at.ok().and_then(|at| self.fields.get(at))
    }
}

/// The field with a JSON name, also inside inlined messages.
fn find(message: &'static Message, name: &str) -> Option<&'static Field> {
    message
        .fields
        .iter()
        .find_map(|field| match (&field.kind, field.name) {
            (Kind::Message(inner), "") => find(self::message(inner)?, name),
            (_, own) => (own == name).then_some(field),
        })
}

/// The message with this name.
pub(crate) fn message(name: &str) -> Option<&'static Message> {
    SCHEMA.messages.get(name)
}

/// The message of a kind.
pub(crate) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Message> {
    // Clients send DeleteOptions under the apiVersion of the object that they delete.
    if kind == "DeleteOptions" {
        return message("meta.DeleteOptions");
    }
    let package = match api_version {
        "v1" => "core",
        other => other.strip_suffix("/v1")?.split('.').next()?,
    };
    message(&format!("{package}.{kind}"))
}

impl Schema {
    fn read(text: &'static str) -> Self {
        let lines = || text.lines().map(|line| line.split(' '));
        let named: BTreeMap<&str, &str> = lines()
            .filter_map(|mut words| {
                let (name, sign, kind) = (words.next()?, words.next()?, words.next()?);
                (sign == "=").then_some((name, kind))
            })
            .collect();
        let messages = lines().filter_map(|mut words| {
            let name = words.next()?;
            let fields: Vec<Field> = words.filter_map(|word| field(word, &named)).collect();
            let short = name.split('.').nth(1)?;
            let message = Message {
                name: short,
                fields,
            };
            (!named.contains_key(name)).then_some((name, message))
        });
        Self {
            messages: messages.collect(),
        }
    }
}

/// Parses `name=number:type`.
fn field(word: &'static str, named: &BTreeMap<&str, &'static str>) -> Option<Field> {
    let (name, rest) = word.split_once('=')?;
    let (number, kind) = rest.split_once(':')?;
    let bare = kind.trim_start_matches(['*', '!']);
    Some(Field {
        name: if name == "-" { "" } else { name },
        number: number.parse().ok()?,
        kind: kind_of(bare, named),
        omits_empty: bare.len() == kind.len(),
        is_pointer: kind.starts_with('*'),
        go: go_name(bare),
    })
}

fn kind_of(text: &'static str, named: &BTreeMap<&str, &'static str>) -> Kind {
    if let Some(inner) = text.strip_prefix("[]") {
        return Kind::List(Box::new(kind_of(inner, named)));
    }
    if let Some(inner) = text.strip_prefix("{}") {
        return Kind::Map(Box::new(kind_of(inner, named)));
    }
    match text {
        "string" => Kind::Text,
        "bytes" => Kind::Bytes,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "bool" => Kind::Bool,
        "Time" => Kind::Time,
        "MicroTime" => Kind::MicroTime,
        "Quantity" => Kind::Quantity,
        "IntOrString" => Kind::IntOrText,
        "ExtraValue" => Kind::Words,
        other => match named.get(other) {
            Some(under) => kind_of(under, named),
            None => Kind::Message(other),
        },
    }
}

/// The type as Go prints it: every served package is called `v1` there.
fn go_name(text: &str) -> String {
    if let Some(inner) = text.strip_prefix("[]") {
        return format!("[]{}", go_name(inner));
    }
    if let Some(inner) = text.strip_prefix("{}") {
        return format!("map[string]{}", go_name(inner));
    }
    match text {
        "bytes" => "[]uint8".to_owned(),
        "Time" | "MicroTime" | "ExtraValue" => format!("v1.{text}"),
        "Quantity" => "resource.Quantity".to_owned(),
        "IntOrString" => "intstr.IntOrString".to_owned(),
        _ => match text.split_once('.') {
            Some(("types", _)) | None => text.to_owned(),
            Some((_, name)) => format!("v1.{name}"),
        },
    }
}

/// The first field that does not fit the message, in Go's words. Unknown fields are ignored.
pub(crate) fn mismatch(message: &'static Message, value: &Value) -> Option<String> {
    let mut place = Vec::new();
    in_message(message, value, &mut place)
}

/// The position of a value: the names on the path, and the message around the last one.
type FieldPath = Vec<&'static str>;

fn in_message(message: &'static Message, value: &Value, place: &mut FieldPath) -> Option<String> {
    let fields = value.as_object()?;
    fields.iter().find_map(|(name, value)| {
        let field = find(message, name)?;
        place.push(field.name);
        let found = in_value((&field.kind, &field.go), value, message.name, place);
        place.pop();
        found
    })
}

fn in_value(
    (kind, go): (&'static Kind, &str),
    value: &Value,
    within: &str,
    place: &mut FieldPath,
) -> Option<String> {
    let wrong = |what: &str| {
        let place = place.join(".");
        format!("json: cannot unmarshal {what} into Go struct field {within}.{place} of type {go}")
    };
    match (kind, value) {
        (_, Value::Null) => None,
        (Kind::Text, Value::String(_)) | (Kind::Bool, Value::Bool(_)) => None,
        (Kind::IntOrText, Value::String(_)) => None,
        (Kind::Bytes, Value::String(text)) => bad_base64(text),
        (Kind::Int32 | Kind::Int64, Value::Number(number)) => {
            (!fits(kind, number)).then(|| wrong(&format!("number {number}")))
        }
        (Kind::IntOrText, Value::Number(number)) => (!fits(&Kind::Int32, number)).then(|| {
            format!("json: cannot unmarshal number {number} into Go value of type int32")
        }),
        (Kind::IntOrText, other) => Some(format!(
            "json: cannot unmarshal {} into Go value of type int32",
            what(other)
        )),
        (Kind::Quantity, given) => bad_quantity(given),
        (Kind::Time, Value::String(text)) => rfc3339::read(text).err(),
        // The kind's own decoder checks the format.
        (Kind::MicroTime, Value::String(_)) => None,
        (Kind::Time | Kind::MicroTime, other) => Some(format!(
            "json: cannot unmarshal {} into Go value of type string",
            what(other)
        )),
        (Kind::Message(name), Value::Object(_)) => in_message(message(name)?, value, place),
        (Kind::Words, Value::Array(items)) => items
            .iter()
            .find(|item| !item.is_string() && !item.is_null())
            .map(|item| {
                let place = place.join(".");
                let what = what(item);
                format!("json: cannot unmarshal {what} into Go struct field {within}.{place} of type string")
            }),
        (Kind::List(inner), Value::Array(items)) => {
            let go = go.strip_prefix("[]").unwrap_or(go);
            items
                .iter()
                .find_map(|item| in_value((inner, go), item, within, place))
        }
        (Kind::Map(inner), Value::Object(items)) => {
            let go = go.strip_prefix("map[string]").unwrap_or(match &**inner {
                Kind::Quantity => "resource.Quantity",
                _ => "string",
            });
            items
                .values()
                .find_map(|item| in_value((inner, go), item, within, place))
        }
        (_, other) => Some(wrong(what(other))),
    }
}

/// The paths of unknown fields. A field that is null does not count.
pub(crate) fn unknown(message: &'static Message, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    unknown_in(message, value, &mut String::new(), &mut found);
    found
}

fn unknown_in(
    message: &'static Message,
    value: &Value,
    path: &mut String,
    found: &mut Vec<String>,
) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let before = path.len();
        // apiVersion and kind belong to the object as a whole; managed fields are not stored.
        let is_said_elsewhere = (before == 0 && ["apiVersion", "kind"].contains(&&**name))
            || (message.name == "ObjectMeta" && name == "managedFields");
        if is_said_elsewhere || value.is_null() {
            continue;
        }
        if before > 0 {
            path.push('.');
        }
        path.push_str(name);
        match find(message, name) {
            Some(field) => unknown_below(&field.kind, value, path, found),
            None if found.len() < STRICT_ERRORS => found.push(path.clone()),
            None => {}
        }
        path.truncate(before);
    }
}

fn unknown_below(kind: &'static Kind, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let before = path.len();
    match (kind, value) {
        (Kind::Message(name), _) => {
            if let Some(inner) = message(name) {
                unknown_in(inner, value, path, found);
            }
        }
        (Kind::List(inner), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                unknown_below(inner, item, path, found);
                path.truncate(before);
            }
        }
        (Kind::Map(inner), Value::Object(items)) => {
            for (key, item) in items {
                path.push('.');
                path.push_str(key);
                unknown_below(inner, item, path, found);
                path.truncate(before);
            }
        }
        _ => {}
    }
}

fn fits(kind: &Kind, number: &Number) -> bool {
    let whole = number.as_i64();
    match kind {
        Kind::Int32 => whole.is_some_and(|whole| i32::try_from(whole).is_ok()),
        _ => whole.is_some(),
    }
}

/// Go's word for the JSON type of a value.
fn what(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn bad_base64(text: &str) -> Option<String> {
    let is_read = crate::base::encoding::from_base64(text).is_some();
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let at = text.bytes().position(|byte| !letter(&byte));
    let at = at.unwrap_or(text.len());
    (!is_read).then(|| format!("illegal base64 data at input byte {at}"))
}

fn bad_quantity(value: &Value) -> Option<String> {
    let is_read = match value {
        Value::String(text) => text.parse::<Quantity>().is_ok(),
        Value::Number(number) => number.to_string().parse::<Quantity>().is_ok(),
        _ => false,
    };
    let why = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    (!is_read).then(|| why.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_message_that_is_named_is_there_and_every_line_is_read() {
        fn inner(kind: &Kind) -> &Kind {
            match kind {
                Kind::List(kind) | Kind::Map(kind) => inner(kind),
                kind => kind,
            }
        }
        let fields: Vec<&Field> = SCHEMA.messages.values().flat_map(|m| &m.fields).collect();
        for field in &fields {
            if let Kind::Message(name) = inner(&field.kind) {
                assert!(message(name).is_some(), "{name}");
            }
        }
        let told = FIELDS.lines().filter(|line| !line.contains(" = "));
        let told: usize = told.map(|line| line.split(' ').count() - 1).sum();
        assert_eq!((fields.len(), SCHEMA.messages.len()), (told, 253));
        for row in crate::kinds::resources::RESOURCES {
            assert!(
                of_kind(&row.api_version(), row.kind).is_some(),
                "{}",
                row.kind
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_told_in_gos_words() {
        let check = |kind: &str, value: Value| mismatch(of_kind("v1", kind).unwrap(), &value);
        for (kind, value, why) in [
            (
                "Pod",
                json!({"spec": {"containers": [{"image": 1}]}}),
                "number into Go struct field Container.spec.containers.image of type string",
            ),
            (
                "Pod",
                json!({"spec": {"containers": {"name": "c"}}}),
                "object into Go struct field PodSpec.spec.containers of type []v1.Container",
            ),
            (
                "Pod",
                json!({"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}}),
                "string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
            ),
            (
                "Pod",
                json!({"spec": {"containers": [{"ports": [{"containerPort": 80.5}]}]}}),
                "number 80.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
            ),
            (
                "Pod",
                json!({"spec": {"priority": 4_294_967_296_i64}}),
                "number 4294967296 into Go struct field PodSpec.spec.priority of type int32",
            ),
            (
                "Pod",
                json!({"spec": {"restartPolicy": true}}),
                "bool into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
            ),
            (
                "Pod",
                json!({"spec": {"volumes": [{"emptyDir": []}]}}),
                "array into Go struct field Volume.spec.volumes.emptyDir of type v1.EmptyDirVolumeSource",
            ),
            (
                "Pod",
                json!({"spec": {"containers": [{"resources": {"limits": "x"}}]}}),
                "string into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
            ),
            (
                "Pod",
                json!({"metadata": {"labels": {"a": 1}}}),
                "number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                "Pod",
                json!({"metadata": {"uid": 1}}),
                "number into Go struct field ObjectMeta.metadata.uid of type types.UID",
            ),
            (
                "ConfigMap",
                json!({"data": {"x": 1}}),
                "number into Go struct field ConfigMap.data of type string",
            ),
            (
                "Service",
                json!({"spec": {"ports": [{"targetPort": true}]}}),
                "bool into Go value of type int32",
            ),
            (
                "Pod",
                json!({"metadata": {"creationTimestamp": 1}}),
                "number into Go value of type string",
            ),
        ] {
            assert_eq!(
                check(kind, value),
                Some(format!("json: cannot unmarshal {why}"))
            );
        }
        let quantity = check("Pod", json!({"spec": {"overhead": {"cpu": "x"}}})).unwrap();
        assert!(quantity.starts_with("quantities must match"), "{quantity}");
        let time = check("Pod", json!({"metadata": {"creationTimestamp": "now"}})).unwrap();
        assert!(time.starts_with("parsing time \"now\" as"), "{time}");
        let secret = check("Secret", json!({"data": {"k": "ab%d"}}));
        assert_eq!(
            secret.as_deref(),
            Some("illegal base64 data at input byte 2")
        );
        let fine = json!({
            "kind": "Pod", "more": 1, "metadata": {"name": "p", "labels": null},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": "web"}}}], "volumes": [{"name": "v", "emptyDir": {}}]},
        });
        assert_eq!(check("Pod", fine), None);
    }
}
