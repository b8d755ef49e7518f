//! Reads YAML as Kubernetes programs do: the first document, converted to JSON.
//!
//! In:    the text of a manifest, a kubeconfig or a configuration file
//! Out:   its first document as a JSON value
//! Calls: decide/sources/manifest, cluster/kubeconfig, hyperkube/config_files
//! Holds: numbers, booleans and keys are converted as by `sigs.k8s.io/yaml`; a budget limits size, depth, nodes and aliases
//! Upstream: sigs.k8s.io/yaml (`YAMLToJSON`), its goyaml.v2, and Go's encoding/json for numbers

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, NonFiniteFloatPolicy};

pub use serde_saphyr::options::DuplicateKeyPolicy as Duplicates;

/// Larger texts are refused unread.
pub const MAX_BYTES: usize = 10 * 1024 * 1024;

/// The largest nesting depth; a pod needs about a dozen levels.
const MAX_DEPTH: usize = 64;

/// From this value on Go writes a float with an exponent, so that it is no longer an integer.
const FIRST_WITH_EXPONENT: f64 = 1e21;

/// The first document that is not empty; `None` if there is none. The rest of the text is not read.
///
/// # Errors
/// The text is not YAML, it contains values that JSON does not have, or it exceeds the budget.
pub fn first_document(
    text: &str,
    duplicates: Duplicates,
) -> Result<Option<Value>, serde_saphyr::Error> {
    Ok(first(text, duplicates)?.map(|GoValue(value)| value))
}

/// The same document as another type, for positions in the text.
///
/// # Errors
/// As [`first_document`].
pub fn first<T: DeserializeOwned>(
    text: &str,
    duplicates: Duplicates,
) -> Result<Option<T>, serde_saphyr::Error> {
    let mut reader = text.as_bytes();
    let mut documents = serde_saphyr::read_with_options(&mut reader, options(duplicates));
    documents.next().transpose()
}

/// Go's scalars (`yes` is true, `0644` is octal), and limits that only a bomb exceeds.
fn options(duplicate_keys: DuplicateKeyPolicy) -> serde_saphyr::Options {
    let mut limits = AliasLimits::default();
    limits.max_total_replayed_events = 100_000;
    limits.max_replay_stack_depth = 16;
    limits.max_alias_expansions_per_anchor = 10_000;
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        duplicate_keys: duplicate_keys,
        with_snippet: false,
        alias_limits: limits,
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(MAX_BYTES),
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: 100_000,
            max_events: 400_000,
            max_aliases: 10_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_total_scalar_bytes: MAX_BYTES,
            max_merge_keys: 1_000,
            max_documents: 128,
        },
    }
}

/// A JSON value, converted as Go does.
struct GoValue(Value);

impl<'de> Deserialize<'de> for GoValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

/// A map key of any scalar type.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor).map(Self)
    }
}

struct ValueVisitor;

/// Go writes a whole float without a point, so a reader sees an integer.
#[expect(
    clippy::cast_possible_truncation,
    reason = "whole, and inside of what the type holds"
)]
fn float<E: serde::de::Error>(value: f64) -> Result<Value, E> {
    let is_whole = value.fract() == 0.0 && value.abs() < FIRST_WITH_EXPONENT;
    let whole = is_whole.then_some(value as i128);
    let small = whole.and_then(|whole| i64::try_from(whole).ok().map(Number::from));
    let large = whole.and_then(|whole| u64::try_from(whole).ok().map(Number::from));
    let number = small.or(large).or_else(|| Number::from_f64(value));
    number
        .map(Value::Number)
        .ok_or_else(|| E::custom(format!("json: unsupported value: {value}")))
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    /// Go reads an integer beyond 64 bits as a float.
    #[expect(clippy::cast_precision_loss, reason = "as Go does")]
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        float(value as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "as Go does")]
    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        float(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        float(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(GoValue(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((Key(name), GoValue(value))) = fields.next_entry()? {
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, number or truth value as a key")
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    /// Go prints a float key with 32-bit precision.
    #[expect(clippy::cast_possible_truncation, reason = "as Go does")]
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<String, E> {
        if value.is_finite() {
            Ok((value as f32).to_string())
        } else {
            Err(E::custom("a key must be a finite number"))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<String, E> {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match first_document(text, Duplicates::LastWins) {
            Ok(Some(value)) => value.to_string(),
            Ok(None) => "nothing".to_owned(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn scalars_become_what_go_makes_of_them() {
        for (yaml, json) in [
            ("1.00064e+09", "1000640000"),
            ("8080.0", "8080"),
            ("1e1", "10"),
            ("-3.0", "-3"),
            ("-0.0", "0"),
            (".5", "0.5"),
            ("1.5", "1.5"),
            ("1e20", "100000000000000000000"),
            ("18446744073709551615", "18446744073709551615"),
            ("0644", "420"),
            ("0x1F", "31"),
            ("1_000", "1000"),
            ("yes", "true"),
            ("Off", "false"),
            ("'yes'", "\"yes\""),
            ("\"5\"", "\"5\""),
            ("'8080.0'", "\"8080.0\""),
            ("~", "null"),
            ("2001-12-14", "\"2001-12-14\""),
            ("1.2.3", "\"1.2.3\""),
            ("12:30", "\"12:30\""),
        ] {
            let expected = format!("{{\"v\":{json}}}");
            let found = read(&format!("v: {yaml}\n"));
            // Beyond 64 bits serde_json writes an exponent; the number is the same.
            let found = found.replace("1e+20", "100000000000000000000");
            assert_eq!(
                found.replace("1e20", "100000000000000000000"),
                expected,
                "{yaml}"
            );
        }
        // JSON has no such numbers, and Go's encoder refuses them.
        for text in [".inf", "-.inf", ".nan"] {
            let found = read(&format!("v: {text}\n"));
            assert!(found.starts_with("error: "), "{text}: {found}");
        }
    }

    #[test]
    fn keys_that_are_no_texts_become_texts() {
        let found = read("1: a\n2.5: b\ntrue: c\non: d\n-7: e\n'8': f\n");
        let expected = r#"{"-7":"e","1":"a","2.5":"b","8":"f","true":"d"}"#;
        assert_eq!(found, expected);
        assert!(read("? [a]\n: b\n").starts_with("error: "));
    }

    #[test]
    fn the_first_document_counts_and_what_follows_is_not_read() {
        for text in [
            "a: 1\n---\n",
            "---\na: 1\n---\n",
            "a: 1\n---\nb: [\n",
            "a: 1\n...\n",
            "# words\n---\na: 1\n",
        ] {
            assert_eq!(read(text), "{\"a\":1}", "{text:?}");
        }
        assert_eq!(read("---\n"), "nothing");
    }

    #[test]
    fn what_stands_twice_is_an_error_or_the_last_one_counts() {
        let twice = "a: 1\na: 2\n";
        assert_eq!(read(twice), "{\"a\":2}");
        first_document(twice, Duplicates::Error).unwrap_err();
    }
}
