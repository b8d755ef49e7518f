//! A pod with every field of the API's type set: a deserializer that answers each question with something.
//!
//! In: nothing. Out: a test that the table of hashed types knows all of them, so that a new release of the API types cannot
//! bring a field that is silently left out of a UID.
//!
//! Upstream: none

use super::*;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Gives every field of a struct, one element of a list, one entry of a map, and `text` for a string.
#[derive(Clone, Copy)]
struct Everything {
    text: &'static str,
}

impl<'de> Deserializer<'de> for Everything {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text)
    }
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(true)
    }
    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i32(7)
    }
    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(7)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        let text = match name {
            "Quantity" => "1",
            "Time" => "2026-01-02T03:04:05Z",
            _ => "text",
        };
        visitor.visit_newtype_struct(Self { text })
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Entries { keys: &["one"] })
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entries { keys: &["one"] })
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        KIND.set(if name == "Pod" { "Pod" } else { "text" });
        visitor.visit_map(Entries { keys: fields })
    }
    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

thread_local! {
    /// What the struct being read answers when asked for its kind.
    static KIND: std::cell::Cell<&'static str> = const { std::cell::Cell::new("text") };
}

struct Entries {
    keys: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(key) = self.keys.first() else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let text = match self.keys[0] {
            "kind" => KIND.get(),
            "apiVersion" => "v1",
            _ => "text",
        };
        self.keys = &self.keys[1..];
        seed.deserialize(Everything { text })
    }
}

impl<'de> SeqAccess<'de> for Entries {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        self.keys = &[];
        seed.deserialize(Everything { text: "text" }).map(Some)
    }
}

#[test]
fn every_field_of_the_api_type_is_in_the_table() {
    let mut pod: Pod = serde::Deserialize::deserialize(Everything { text: "text" }).unwrap();
    pod.metadata.uid = None;
    let text = dumped(&pod);
    for deep in [
        "SleepAction",
        "MatchLabelKeys",
        "ClusterTrustBundleProjection",
        "VolumeClaimTemplate",
        "FieldsV1",
    ] {
        assert!(text.contains(deep), "{deep} is not among what was set");
    }
    static_pod_uid(
        &pod,
        &ManifestPlace::Url {
            url: "http://localhost/pod",
        },
    )
    .unwrap();
}
