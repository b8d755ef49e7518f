//! Request bodies in Kubernetes' protobuf encoding, which kubectl sends for a few kinds whatever the server prefers; objects written so.
//!
//! In:    `k8s\0`, an envelope with apiVersion and kind, the object
//! Out:   the object as JSON
//! Calls: `verbs` for bodies of this content type
//! Holds: limited by the size of the body, in depth and in memory; every length is checked; an unknown field is skipped, an
//!        unknown kind is refused; fields that Go's JSON omits when empty are omitted
//! Upstream: staging/src/k8s.io/apimachinery/pkg/runtime/serializer/protobuf (1.36); differences: requests only, responses are
//!           JSON

mod encode;

use std::cell::Cell;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::base::bounds::{ENTRY, MAP, MEMORY, VALUE};
use crate::base::encoding::base64;
use crate::base::object;
use crate::kinds::schema::{self, Field, Kind, Message};

const MAGIC: &[u8] = b"k8s\0";
/// Nested messages; a pod has nine levels at most.
const DEPTH: u8 = 16;

/// The depth and memory that are left: a few bytes of protobuf can become a whole map.
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

/// An object of a kind in this encoding, without an envelope; `None` when it does not fit the kind.
pub fn encode(api_version: &str, kind: &str, object: &Value) -> Option<Vec<u8>> {
    encode::message(schema::of_kind(api_version, kind)?, object)
}

/// One value as it is encoded.
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

    /// The next field. Outer `None`: malformed; inner `None`: the end.
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

/// Decodes a body; errors are texts for the client.
pub(crate) fn decode(body: &[u8]) -> Result<Value, String> {
    let malformed = || "the body does not match its content type".to_owned();
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
    let message = schema::of_kind(&version, &kind)
        .ok_or_else(|| format!("{kind} in version {version:?} can be sent as JSON only"))?;
    let left = Cell::new(MEMORY);
    let room = Room {
        depth: DEPTH,
        left: &left,
    };
    let mut object = Map::new();
    fill(&mut object, message, raw, room).ok_or_else(|| match left.get() {
        0 => "the object has too many values".to_owned(),
        _ => malformed(),
    })?;
    object.insert("apiVersion".to_owned(), version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

/// Decodes a message into a map.
fn fill(
    map: &mut Map<String, Value>,
    message: &Message,
    bytes: &[u8],
    room: Room<'_>,
) -> Option<()> {
    room.pay(if bytes.is_empty() { VALUE } else { MAP })?;
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        let Some(field) = message.numbered(number) else {
            continue;
        };
        room.pay(ENTRY + VALUE)?;
        put(map, field, &wire, room.deeper()?)?;
    }
    Some(())
}

fn put(map: &mut Map<String, Value>, field: &Field, wire: &Wire<'_>, room: Room<'_>) -> Option<()> {
    let (name, kind) = (field.name, &field.kind);
    match (kind, wire) {
        // An inlined message: its fields belong to the enclosing object.
        (Kind::Message(inner), Wire::Bytes(bytes)) if name.is_empty() => {
            fill(map, schema::message(inner)?, bytes, room)?;
        }
        (Kind::List(inner), _) => {
            let value = single(inner, wire, room)?;
            let list = map.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            list.as_array_mut()?.push(value);
        }
        (Kind::Map(inner), Wire::Bytes(bytes)) => {
            let (mut key, mut value) = (String::new(), empty(inner));
            let mut reader = Reader(bytes);
            while let Some((number, wire)) = reader.field()? {
                match (number, &wire) {
                    (1, Wire::Bytes(text)) => key = std::str::from_utf8(text).ok()?.to_owned(),
                    (2, wire) => value = single(inner, wire, room)?,
                    _ => {}
                }
            }
            let all = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
            all.as_object_mut()?.insert(key, value);
        }
        // Upstream's protobuf encoder writes empty values, its JSON encoder omits them.
        _ => {
            let value = single(kind, wire, room)?;
            let left_out = value.is_null() || (field.omits_empty && value == empty(kind));
            if !left_out {
                map.insert(name.to_owned(), value);
            }
        }
    }
    Some(())
}

/// The empty value of a type.
fn empty(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Bytes => "".into(),
        Kind::Int32 | Kind::Int64 | Kind::IntOrText => 0.into(),
        Kind::Bool => false.into(),
        Kind::Quantity => "0".into(),
        Kind::Message(_) | Kind::Map(_) => Value::Object(Map::new()),
        Kind::Words | Kind::List(_) => Value::Array(Vec::new()),
        Kind::Time | Kind::MicroTime => Value::Null,
    }
}

fn single(kind: &Kind, wire: &Wire<'_>, room: Room<'_>) -> Option<Value> {
    Some(match (kind, wire) {
        (Kind::Text, Wire::Bytes(bytes)) => text(bytes)?.into(),
        (Kind::Bytes, Wire::Bytes(bytes)) => base64(bytes).into(),
        (Kind::Int64, Wire::Number(number)) => number.cast_signed().into(),
        // As Go does: the lower 32 bits.
        (Kind::Int32, Wire::Number(number)) => low(*number).into(),
        (Kind::Bool, Wire::Number(number)) => (*number != 0).into(),
        (Kind::Message(message), Wire::Bytes(bytes)) => {
            let mut map = Map::new();
            fill(&mut map, schema::message(message)?, bytes, room)?;
            Value::Object(map)
        }
        (Kind::Time | Kind::MicroTime, Wire::Bytes(bytes)) => time(kind, bytes)?,
        (Kind::Quantity, Wire::Bytes(bytes)) => quantity(bytes)?,
        (Kind::Words, Wire::Bytes(bytes)) => {
            let (mut words, mut reader) = (Vec::new(), Reader(bytes));
            while let Some((number, wire)) = reader.field()? {
                if let (1, Wire::Bytes(word)) = (number, wire) {
                    room.pay(VALUE + word.len())?;
                    words.push(text(word)?.into());
                }
            }
            Value::Array(words)
        }
        (Kind::IntOrText, Wire::Bytes(bytes)) => int_or_text(bytes)?,
        _ => return None,
    })
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn low(number: u64) -> i32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// A quantity: a message with one text; an absent text means zero.
fn quantity(bytes: &[u8]) -> Option<Value> {
    let (mut found, mut reader) = ("0", Reader(bytes));
    while let Some((number, wire)) = reader.field()? {
        if let (1, Wire::Bytes(bytes)) = (number, wire) {
            found = text(bytes)?;
        }
    }
    Some(found.into())
}

/// An IntOrString: its type, a number, a text.
fn int_or_text(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut whole, mut word) = (false, 0, "");
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(number)) => whole = low(number),
            (3, Wire::Bytes(bytes)) => word = text(bytes)?,
            _ => {}
        }
    }
    Some(if is_text { word.into() } else { whole.into() })
}

/// Seconds and nanoseconds; an empty message means no time.
fn time(kind: &Kind, bytes: &[u8]) -> Option<Value> {
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
    let at = Timestamp::new(seconds, nanos).ok()?;
    let shown = match kind {
        Kind::MicroTime => object::micro_time(at),
        _ => object::time(at),
    };
    Some(shown.into())
}

#[cfg(test)]
pub(crate) mod tests;
