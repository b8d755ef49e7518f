//! Objects in Kubernetes' protobuf encoding, byte for byte as Go's generated code writes them.
//!
//! In:    an object as JSON, its message
//! Out:   the message's bytes, without an envelope
//! Calls: `protobuf`; the kubelet's local pods API, through the crate's root
//! Holds: fields by number, maps by key; a field that is no pointer is written even if it is empty, as Go does; what does not fit its
//!        type is an error
//! Upstream: staging/src/k8s.io/api/core/v1/generated.pb.go

use jiff::Timestamp;
use serde_json::Value;

use crate::base::encoding::from_base64;
use crate::kinds::schema::{self, Kind, Message};

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(low(number) | 0x80);
        number >>= 7;
    }
    out.push(low(number));
}

/// The lowest seven bits.
fn low(number: u64) -> u8 {
    let [lowest, ..] = number.to_le_bytes();
    lowest & 0x7f
}

fn whole(out: &mut Vec<u8>, field: u64, value: i64) {
    varint(out, field << 3);
    varint(out, value.cast_unsigned());
}

fn bytes(out: &mut Vec<u8>, field: u64, content: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// A message; `None` when a value does not fit its type.
pub(super) fn message(message: &Message, value: &Value) -> Option<Vec<u8>> {
    if !value.is_object() && !value.is_null() {
        return None;
    }
    let mut out = Vec::new();
    for field in message.fields() {
        let value = match field.name {
            // An inlined message: its fields are those of the enclosing object.
            "" => Some(value),
            name => value.get(name).filter(|value| !value.is_null()),
        };
        match value {
            Some(value) => one(&mut out, field.number, &field.kind, value)?,
            None if field.is_pointer => {}
            None => empty(&mut out, field.number, &field.kind)?,
        }
    }
    Some(out)
}

/// A field that is no pointer and has no value.
fn empty(out: &mut Vec<u8>, field: u64, kind: &Kind) -> Option<()> {
    match kind {
        Kind::Text | Kind::Time | Kind::MicroTime => bytes(out, field, &[]),
        Kind::Int32 | Kind::Int64 | Kind::Bool => whole(out, field, 0),
        Kind::Quantity => one(out, field, kind, &"0".into())?,
        Kind::IntOrText => one(out, field, kind, &0.into())?,
        Kind::Message(name) => {
            bytes(out, field, &message(schema::message(name)?, &Value::Null)?);
        }
        Kind::Bytes | Kind::Words | Kind::List(_) | Kind::Map(_) => {}
    }
    Some(())
}

fn one(out: &mut Vec<u8>, field: u64, kind: &Kind, value: &Value) -> Option<()> {
    match kind {
        Kind::Text => bytes(out, field, value.as_str()?.as_bytes()),
        Kind::Bytes => bytes(out, field, &from_base64(value.as_str()?)?),
        Kind::Int32 | Kind::Int64 => whole(out, field, value.as_i64()?),
        Kind::Bool => whole(out, field, value.as_bool()?.into()),
        Kind::Time | Kind::MicroTime => {
            let at: Timestamp = value.as_str()?.parse().ok()?;
            let mut inner = Vec::new();
            whole(&mut inner, 1, at.as_second());
            whole(&mut inner, 2, at.subsec_nanosecond().into());
            bytes(out, field, &inner);
        }
        Kind::Quantity => {
            let mut inner = Vec::new();
            bytes(&mut inner, 1, value.as_str()?.as_bytes());
            bytes(out, field, &inner);
        }
        Kind::IntOrText => {
            let (type_, number) = match value {
                Value::String(_) => (1, 0),
                number => (0, number.as_i64()?),
            };
            let mut inner = Vec::new();
            whole(&mut inner, 1, type_);
            whole(&mut inner, 2, number);
            bytes(&mut inner, 3, value.as_str().unwrap_or_default().as_bytes());
            bytes(out, field, &inner);
        }
        Kind::Words => {
            let mut inner = Vec::new();
            for word in value.as_array()? {
                bytes(&mut inner, 1, word.as_str()?.as_bytes());
            }
            bytes(out, field, &inner);
        }
        Kind::Message(name) => bytes(out, field, &message(schema::message(name)?, value)?),
        Kind::List(inner) => {
            for item in value.as_array()? {
                one(out, field, inner, item)?;
            }
        }
        Kind::Map(inner) => {
            for (key, item) in value.as_object()? {
                let mut entry = Vec::new();
                bytes(&mut entry, 1, key.as_bytes());
                one(&mut entry, 2, inner, item)?;
                bytes(out, field, &entry);
            }
        }
    }
    Some(())
}
