//! Limits for the depth and size of objects, and a JSON reader that keeps them.
//!
//! In:    bytes from a client or from the store; values that are about to be stored
//! Out:   values, or which limit they exceed
//! Calls: `verbs` (bodies), `patch` (results), `typed` (before an object is stored), `store` (stored objects)
//! Holds: nothing here recurses but the reader, whose depth serde_json limits to 127; whatever may be stored can be read again,
//!        alone and inside a list, a table or a watch event
//! Upstream: the body limit of staging/src/k8s.io/apiserver/pkg/server/config.go (1.36); differences: Go reads 10,000 levels;
//!           memory is counted here, since a JSON value takes many times the memory of its text

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The largest request body.
pub(crate) const BODY_BYTES: usize = 3 << 20;
/// Nested objects and lists. Clients and the store read 127 levels; a table in a watch event adds five.
pub(crate) const DEPTH: usize = 100;
/// The approximate memory of one parsed object. A config map of 1 MiB takes about that much; only a great many tiny values take
/// more.
pub(crate) const MEMORY: usize = 32 << 20;

/// One value, in a map or a list.
pub(crate) const VALUE: usize = 32;
/// The first node of a map, whatever its number of entries.
pub(crate) const MAP: usize = 640;
/// Each further entry: its key and its slot.
pub(crate) const ENTRY: usize = 64;

/// Which limit is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// More than [`DEPTH`] levels.
    Deep,
    /// More memory, or more text, than allowed.
    Large,
}

/// Why bytes are refused.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The text is not JSON, or it is deeper than any reader allows.
    Malformed(serde_json::Error),
    /// A limit is exceeded.
    Excess(Excess),
}

/// The size of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Levels: 0 for a plain value, 1 for a list of plain values.
    pub(crate) depth: usize,
    /// Bytes of text, without escapes.
    pub(crate) text: usize,
    /// Bytes of memory, approximately.
    pub(crate) memory: usize,
    /// Values.
    pub(crate) values: usize,
}

enum Rest<'a> {
    List(std::slice::Iter<'a, Value>),
    Map(serde_json::map::Iter<'a>),
}

impl Measure {
    /// Measures a value, and stops as soon as it has more than `most` bytes of memory or [`DEPTH`] levels.
    pub(crate) fn of(value: &Value, most: usize) -> Result<Self, Excess> {
        let mut measure = Self::default();
        let mut open: Vec<Rest<'_>> = Vec::new();
        let mut next = Some(value);
        loop {
            if let Some(value) = next.take() {
                measure.add(value);
                match value {
                    Value::Array(list) => open.push(Rest::List(list.iter())),
                    Value::Object(map) => open.push(Rest::Map(map.iter())),
                    _ => {}
                }
                measure.depth = measure.depth.max(open.len());
                if measure.depth > DEPTH {
                    return Err(Excess::Deep);
                }
                if measure.memory > most {
                    return Err(Excess::Large);
                }
            }
            next = match open.last_mut() {
                None => return Ok(measure),
                Some(Rest::List(list)) => list.next(),
                Some(Rest::Map(map)) => map.next().map(|(key, value)| {
                    measure.text += key.len() + 4;
                    measure.memory += ENTRY + key.len();
                    value
                }),
            };
            if next.is_none() {
                open.pop();
            }
        }
    }

    fn add(&mut self, value: &Value) {
        let (text, memory) = match value {
            Value::Null | Value::Bool(true) => (4, 0),
            Value::Bool(false) => (5, 0),
            Value::Number(number) => (digits(number), 0),
            Value::String(text) => (text.len() + 2, text.len()),
            Value::Array(list) => (2 + list.len().saturating_sub(1), 0),
            Value::Object(map) => (2, if map.is_empty() { 0 } else { MAP }),
        };
        self.values += 1;
        self.text += text;
        self.memory += VALUE + memory;
    }
}

fn digits(number: &Number) -> usize {
    match number.as_u64() {
        Some(number) => number.checked_ilog10().map_or(1, |log| log as usize + 1),
        None => number.to_string().len(),
    }
}

/// Reads a client's request body.
pub(crate) fn read(bytes: &[u8]) -> Result<Value, Unread> {
    let value = read_within(bytes, MEMORY)?;
    match Measure::of(&value, usize::MAX) {
        Ok(_) => Ok(value),
        Err(excess) => Err(Unread::Excess(excess)),
    }
}

/// Reads a stored object. Its limits were checked when it was written; they may have been wider then.
pub(crate) fn read_kept(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    read_within(bytes, usize::MAX).map_err(|unread| match unread {
        Unread::Malformed(error) => error,
        Unread::Excess(_) => serde_json::Error::custom("it is too large"),
    })
}

fn read_within(bytes: &[u8], most: usize) -> Result<Value, Unread> {
    let left = Cell::new(Some(most));
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Bounded { left: &left }.deserialize(&mut reader);
    match read.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) if left.get().is_none() => Err(Unread::Excess(Excess::Large)),
        Err(error) => Err(Unread::Malformed(error)),
    }
}

/// Reads a value and counts its memory against the limit. It treats every key literally. `Value`'s own reader does not: with
/// the feature `raw_value` it parses the text under `$serde_json::private::RawValue` as JSON again, so a label of that name
/// makes an object unreadable.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    /// Bytes that are left; `None` once they were exceeded.
    left: &'a Cell<Option<usize>>,
}

impl Bounded<'_> {
    fn pay<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().and_then(|left| left.checked_sub(bytes));
        self.left.set(left);
        left.map(drop).ok_or_else(|| E::custom("it is too large"))
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.pay(VALUE).map(|()| Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.pay(VALUE).map(|()| value.into())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.pay(VALUE).map(|()| value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.pay(VALUE).map(|()| value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.pay(VALUE).map(|()| value.into())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.pay(VALUE + value.len()).map(|()| value.into())
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.pay(VALUE + value.len()).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.pay(VALUE)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.pay(VALUE)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let first = if map.is_empty() { MAP } else { 0 };
            self.pay(first + ENTRY + key.len())?;
            let value = entries.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn what_is_measured_is_what_is_written() {
        let value =
            json!({"a": [1, 22, true, false, null], "b": {"c": "text", "d": {}}, "e": -1.5});
        let measure = Measure::of(&value, usize::MAX).unwrap();
        let written = value.to_string().len();
        assert!(measure.text.abs_diff(written) <= 4, "{measure:?} {written}");
        assert_eq!((measure.depth, measure.values), (3, 11));
    }

    #[test]
    fn depth_is_bounded_below_what_readers_take() {
        assert!(read(nested(DEPTH).as_bytes()).is_ok());
        let deep = read(nested(DEPTH + 1).as_bytes());
        assert!(
            matches!(deep, Err(Unread::Excess(Excess::Deep))),
            "{deep:?}"
        );
        for levels in [128, 15_000, 1_000_000] {
            let deep = read(nested(levels).as_bytes());
            assert!(matches!(deep, Err(Unread::Malformed(_))), "{levels}");
        }
        // With room for what encloses it.
        assert!(serde_json::from_str::<Value>(&nested(DEPTH + 5)).is_ok());
        assert!(read_kept(nested(DEPTH + 5).as_bytes()).is_ok());
    }

    #[test]
    fn small_values_pay_for_the_memory_that_they_take() {
        // 3 MiB of text that would take about 300 MiB of memory.
        let body = format!("[{}{{\"a\":0}}]", "{\"a\":0},".repeat(390_000));
        let read_body = read(body.as_bytes());
        assert!(
            matches!(read_body, Err(Unread::Excess(Excess::Large))),
            "{:?}",
            read_body.err()
        );
        let large_text = json!({"data": {"a": "x".repeat(1_000_000)}}).to_string();
        assert!(read(large_text.as_bytes()).is_ok());
    }

    #[test]
    fn no_key_is_more_than_a_key() {
        let key = "$serde_json::private::RawValue";
        let text = json!({"metadata": {"labels": {key: "no json"}}}).to_string();
        let value = read_kept(text.as_bytes()).unwrap();
        assert_eq!(value["metadata"]["labels"][key], "no json");
        assert!(serde_json::from_str::<Value>(&text).is_err());
    }
}
