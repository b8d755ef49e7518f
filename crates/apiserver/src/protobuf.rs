//! Bodies in upstream's protobuf form, which kubectl sends for a few kinds whatever the server prefers.
//!
//! In:    `k8s\0`, an envelope with kind and version, the object
//! Out:   the object as JSON
//! Calls: `verbs` for bodies of this content type
//! Holds: bounded by the body, in depth and in memory; every length is checked; a field that the schema does not know is skipped;
//!        a kind that it does not know is refused
//! Upstream: staging/src/k8s.io/apimachinery/pkg/runtime/serializer/protobuf (1.36); differences: requests only, answers are JSON

use std::cell::Cell;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::bounds::{ENTRY, MAP, MEMORY, VALUE};
use crate::encoding::base64;

mod schema;

use schema::{Field, Kind, Message};

const MAGIC: &[u8] = b"k8s\0";
/// Messages inside messages.
const DEPTH: u8 = 16;

/// How deep a message may still go, and how much memory it may still take: a few bytes make a map.
#[derive(Clone, Copy)]
struct Room<'a> {
    depth: u8,
    left: &'a Cell<usize>,
}

impl Room<'_> {
    fn deeper(self) -> Option<Self> {
        let depth = self.depth.checked_sub(1)?;
        Some(Self { depth, ..self })
    }

    fn pay(self, bytes: usize) -> Option<()> {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.unwrap_or(0));
        left.map(drop)
    }
}

/// One value on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads field numbers and values.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next field; outer `None`: malformed, inner `None`: the end.
    fn field(&mut self) -> Option<Option<(u64, Wire<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Bytes(self.take(4)?),
            _ => return None,
        };
        Some(Some((tag >> 3, wire)))
    }
}

/// The object of a body; errors say what is wrong.
pub(crate) fn decode(body: &[u8]) -> Result<Value, String> {
    let malformed = || "the body is not in the form that its content type says".to_owned();
    let envelope = body.strip_prefix(MAGIC).ok_or_else(malformed)?;
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader(envelope);
    while let Some((number, wire)) = reader.field().ok_or_else(malformed)? {
        match (number, wire) {
            (1, Wire::Bytes(type_meta)) => {
                let mut inner = Reader(type_meta);
                while let Some((number, wire)) = inner.field().ok_or_else(malformed)? {
                    match (number, wire) {
                        (1, Wire::Bytes(text)) => {
                            version = String::from_utf8_lossy(text).into_owned()
                        }
                        (2, Wire::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let message = schema::of(&version, &kind)
        .ok_or_else(|| format!("{kind} in version {version:?} can be sent as JSON only"))?;
    let left = Cell::new(MEMORY);
    let room = Room {
        depth: DEPTH,
        left: &left,
    };
    let mut object = message_of(message, raw, room).ok_or_else(|| match left.get() {
        0 => "the object has too many values".to_owned(),
        _ => malformed(),
    })?;
    object.insert("apiVersion".to_owned(), version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

fn message_of(message: Message, bytes: &[u8], room: Room<'_>) -> Option<Map<String, Value>> {
    let mut map = Map::new();
    room.pay(if bytes.is_empty() { VALUE } else { MAP })?;
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        let Some(Field(_, name, kind)) = message.iter().find(|field| field.0 == number) else {
            continue;
        };
        room.pay(ENTRY + VALUE)?;
        put(&mut map, name, *kind, &wire, room.deeper()?)?;
    }
    Some(map)
}

fn put(
    map: &mut Map<String, Value>,
    name: &str,
    kind: Kind,
    wire: &Wire<'_>,
    room: Room<'_>,
) -> Option<()> {
    match kind {
        Kind::List(inner) => {
            let value = single(*inner, wire, room)?;
            let list = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut()?.push(value);
        }
        Kind::Map(inner) => {
            let Wire::Bytes(bytes) = wire else {
                return None;
            };
            let (mut key, mut value) = (String::new(), single(*inner, &Wire::Bytes(&[]), room)?);
            let mut reader = Reader(bytes);
            while let Some((number, wire)) = reader.field()? {
                match (number, &wire) {
                    (1, Wire::Bytes(text)) => key = std::str::from_utf8(text).ok()?.to_owned(),
                    (2, wire) => value = single(*inner, wire, room)?,
                    _ => {}
                }
            }
            let all = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
            all.as_object_mut()?.insert(key, value);
        }
        // Upstream's encoder writes what is empty; its JSON does not have it.
        single_kind => {
            let value = single(single_kind, wire, room)?;
            let is_empty = match &value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            if !is_empty {
                map.insert(name.to_owned(), value);
            }
        }
    }
    Some(())
}

fn single(kind: Kind, wire: &Wire<'_>, room: Room<'_>) -> Option<Value> {
    Some(match (kind, wire) {
        (Kind::Text, Wire::Bytes(bytes)) => std::str::from_utf8(bytes).ok()?.into(),
        (Kind::Bytes, Wire::Bytes(bytes)) => base64(bytes).into(),
        (Kind::Int, Wire::Number(number)) => number.cast_signed().into(),
        (Kind::Bool, Wire::Number(number)) => (*number != 0).into(),
        (Kind::Message(message), Wire::Bytes(bytes)) => {
            Value::Object(message_of(message, bytes, room)?)
        }
        (Kind::Time, Wire::Bytes(bytes)) => time(bytes)?,
        (Kind::Words, Wire::Bytes(bytes)) => {
            let words = message_of(schema::WORDS, bytes, room)?;
            words
                .get("items")
                .cloned()
                .unwrap_or_else(|| Value::Array(Vec::new()))
        }
        (Kind::IntOrText, Wire::Bytes(bytes)) => {
            let parts = message_of(schema::INT_OR_TEXT, bytes, room)?;
            match parts.get("type").and_then(Value::as_i64) {
                Some(1) => parts.get("text").cloned().unwrap_or_default(),
                _ => parts.get("int").cloned().unwrap_or_else(|| 0.into()),
            }
        }
        _ => return None,
    })
}

/// Seconds and nanoseconds; a time of nothing is none.
fn time(bytes: &[u8]) -> Option<Value> {
    let (mut seconds, mut nanos, mut reader) = (0, 0, Reader(bytes));
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Number(value)) => seconds = value.cast_signed(),
            (2, Wire::Number(value)) => nanos = i32::try_from(value.cast_signed()).ok()?,
            _ => {}
        }
    }
    if (seconds, nanos) == (0, 0) || bytes.is_empty() {
        return Some(Value::Null);
    }
    Some(Timestamp::new(seconds, nanos).ok()?.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    fn body(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [
            bytes_field(1, version.as_bytes()),
            bytes_field(2, kind.as_bytes()),
        ]
        .concat();
        [MAGIC.to_vec(), bytes_field(1, &meta), bytes_field(2, raw)].concat()
    }

    #[test]
    fn an_object_is_read_and_no_cut_body_is() {
        let entry = [bytes_field(1, b"k"), bytes_field(2, b"v")].concat();
        let raw = [
            bytes_field(1, &bytes_field(1, b"n")),
            bytes_field(2, &entry),
            vec![4 << 3, 1],
            bytes_field(15, b"unknown"),
        ]
        .concat();
        let whole = body("v1", "ConfigMap", &raw);
        assert_eq!(
            decode(&whole),
            Ok(serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "data": {"k": "v"}, "immutable": true,
            }))
        );
        for cut in 0..whole.len() {
            assert!(
                decode(&whole[..cut]).is_err() || cut == whole.len() - raw.len() - 2,
                "{cut}"
            );
        }
        assert!(
            decode(&body("v1", "Pod", &raw))
                .unwrap_err()
                .contains("JSON only")
        );
    }
    #[test]
    fn small_messages_pay_for_the_maps_that_they_make() {
        // Owner references of one letter, in a megabyte: some 150 in memory.
        let owner = bytes_field(13, &bytes_field(1, b"a"));
        let owners = owner.repeat(200_000);
        let long_field = |number: u8, content: Vec<u8>| {
            let (mut out, mut length) = (vec![number << 3 | 2], content.len());
            while length > 0x7f {
                out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
                length >>= 7;
            }
            out.push(u8::try_from(length).unwrap());
            [out, content].concat()
        };
        let raw = long_field(2, long_field(1, owners));
        let meta = [bytes_field(1, b"v1"), bytes_field(2, b"ConfigMap")].concat();
        let body = [MAGIC.to_vec(), bytes_field(1, &meta), raw].concat();
        assert_eq!(
            decode(&body),
            Err("the object has too many values".to_owned())
        );
    }
}
