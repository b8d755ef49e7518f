//! Tests of the walk: the tables against the generated types, and what a pod may ask for.
//!
//! Holds: [`AllFields`] makes a value with every field of a type set, so the tables cannot miss one
//! Upstream: none

use super::*;
use k8s_openapi::api::core::v1::PodSpec;
use serde::Deserialize;
use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Deserializes any type with all its fields: lists and maps of one, texts that most types take.
#[derive(Clone, Copy)]
struct AllFields;

struct Fields(std::slice::Iter<'static, &'static str>);

impl<'de> MapAccess<'de> for Fields {
    type Error = Error;

    fn next_key_seed<K: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let name = self.0.next();
        name.map(|name| seed.deserialize(StrDeserializer::new(name)))
            .transpose()
    }

    fn next_value_seed<V: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, Error> {
        seed.deserialize(AllFields)
    }
}

struct One(bool);

impl<'de> SeqAccess<'de> for One {
    type Error = Error;

    fn next_element_seed<T: serde::de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if std::mem::replace(&mut self.0, false) {
            seed.deserialize(AllFields).map(Some)
        } else {
            Ok(None)
        }
    }
}

struct Unit;

impl<'de> EnumAccess<'de> for Unit {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: serde::de::DeserializeSeed<'de>>(
        self,
        _: V,
    ) -> Result<(V::Value, Self), Error> {
        Err(serde::de::Error::custom("no enums in the API's types"))
    }
}

impl<'de> VariantAccess<'de> for Unit {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: serde::de::DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, Error> {
        seed.deserialize(AllFields)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(true))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields(fields.iter()))
    }
}

macro_rules! texts {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> { visitor.visit_str("2026-01-01T00:00:00Z") })*
    };
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> { visitor.visit_i32(7) })*
    };
}

impl<'de> Deserializer<'de> for AllFields {
    type Error = Error;

    texts!(deserialize_any deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
           deserialize_identifier deserialize_ignored_any);
    numbers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
             deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64);

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(false)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(true))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(One(true))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_seq(One(true))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Fields(["any"].iter()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields(fields.iter()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Unit)
    }
}

impl IntoDeserializer<'_, Error> for AllFields {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Fields in the value but in no table, and rows of a table that no value has.
fn mismatches(path: &str, value: &Value, table: &[(&str, Field)], found: &mut Vec<String>) {
    let value = match value {
        Value::Array(items) => items.first().unwrap(),
        value => value,
    };
    let fields = value
        .as_object()
        .unwrap_or_else(|| panic!("{path} is no object"));
    for name in fields.keys() {
        if !table.iter().any(|(known, _)| known == name) {
            found.push(format!("{path}.{name} is in no table"));
        }
    }
    for (name, field) in table {
        match (fields.get(*name), field) {
            (None, _) => found.push(format!("{path}.{name} does not exist")),
            (Some(inner), Field::Into(table)) => {
                mismatches(&format!("{path}.{name}"), inner, table, found)
            }
            (Some(inner), Field::Built) if has_fields(inner) => {
                found.push(format!("{path}.{name} has fields of its own"));
            }
            (Some(_), _) => {}
        }
    }
}

fn has_fields(value: &Value) -> bool {
    let object = |value: &Value| value.is_object();
    object(value)
        || value
            .as_array()
            .is_some_and(|items| items.iter().any(object))
}

fn every_field() -> PodSpec {
    PodSpec::deserialize(AllFields).unwrap()
}

#[test]
fn the_tables_list_exactly_the_fields_that_the_api_has() {
    let value = serde_json::to_value(every_field()).unwrap();
    let mut found = Vec::new();
    mismatches("spec", &value, tables::POD_SPEC, &mut found);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_pod_with_every_field_set_names_every_unbuilt_one() {
    let pod = Pod {
        spec: Some(every_field()),
        ..Pod::default()
    };
    expect_test::expect_file!["every-field.txt"]
        .assert_eq(&(unbuilt_fields(&pod).join("\n") + "\n"));
}

fn unbuilt(manifest: &str) -> Vec<String> {
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{{manifest}}}\n");
    let mut pods = crate::sources::manifest::decode_manifest(
        text.as_bytes(),
        crate::sources::manifest::StaticSource::File,
    )
    .unwrap();
    let mut pod = pods.remove(0);
    crate::sources::manifest::apply_v1_defaults(&mut pod);
    unbuilt_fields(&pod)
}

#[test]
fn a_field_counts_by_its_value() {
    let none: [&str; 0] = [];
    let rows: [(&str, &[&str]); 24] = [
        (
            "volumes: [{name: d, downwardAPI: {items: [{path: l, fieldRef: {fieldPath: metadata.labels}}]}},
              {name: p, projected: {sources: [{downwardAPI: {items: [{path: c, resourceFieldRef: {containerName: c, resource: limits.cpu}}]}}]}}]",
            &none,
        ),
        (
            "volumes: [{name: c, configMap: {name: m}}, {name: p, projected: {sources: [{secret: {name: s}}]}}]",
            &[
                "spec.volumes[0].configMap",
                "spec.volumes[1].projected.sources[0].secret",
            ],
        ),
        ("containers: [{name: c, image: i}]", &none),
        (
            "containers: [{name: c, lifecycle: {}, env: [], resizePolicy: []}], hostUsers: true",
            &none,
        ),
        (
            "containers: [{name: c, livenessProbe: {exec: {command: [a]}}, lifecycle: {preStop: {exec: {command: [a]}}, stopSignal: SIGUSR1}}]",
            &[],
        ),
        (
            "initContainers: [{name: a}, {name: c, restartPolicy: Always}]",
            &[],
        ),
        (
            "containers: [{name: c, lifecycle: {preStop: {sleep: {seconds: 1}}}}]",
            &[],
        ),
        (
            "containers: [{name: c, volumeMounts: [{name: v, mountPath: /v, subPath: s}]}]",
            &none,
        ),
        (
            "containers: [{name: c, volumeMounts: [{name: v, mountPath: /v, recursiveReadOnly: Enabled}]}]",
            &none,
        ),
        (
            "containers: [{name: c, env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}]",
            &none,
        ),
        (
            "containers: [{name: c, env: [{name: A, valueFrom: {fileKeyRef: {key: k, path: p, volumeName: v}}}]}]",
            &none,
        ),
        (
            "containers: [{name: c, resources: {limits: {cpu: 1, hugepages-2Mi: 2Mi}}}]",
            &none,
        ),
        (
            "containers: [{name: c, resources: {limits: {example.com/gpu: 1}}}]",
            &[
                "spec.containers[0].resources.limits",
                "spec.containers[0].resources.requests",
            ],
        ),
        (
            "containers: [{name: c, resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]}]",
            &none,
        ),
        (
            "containers: [{name: c, resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]}]",
            &["spec.containers[0].resizePolicy"],
        ),
        (
            "containers: [{name: c, securityContext: {procMount: Default, seLinuxOptions: {}, appArmorProfile: {type: Localhost, localhostProfile: x}}}]",
            &none,
        ),
        (
            "containers: [{name: c, securityContext: {procMount: Unmasked, seLinuxOptions: {level: x}}}]",
            &[
                "spec.containers[0].securityContext.procMount",
            ],
        ),
        (
            "volumes: [{name: a}, {name: b, emptyDir: {medium: Memory, sizeLimit: 1Mi}}, {name: h, hostPath: {path: /}}]",
            &none,
        ),
        (
            "volumes: [{name: a, emptyDir: {medium: HugePages-2Mi}}, {name: b, nfs: {server: s, path: /}}]",
            &["spec.volumes[0].emptyDir.medium", "spec.volumes[1].nfs"],
        ),
        (
            "volumes: [{name: h, hostPath: {path: /}}], securityContext: {fsGroup: 1}",
            &none,
        ),
        (
            "volumes: [{name: a, emptyDir: {}}], securityContext: {fsGroup: 1}",
            &none,
        ),
        (
            "hostUsers: false, securityContext: {supplementalGroupsPolicy: Strict}",
            &["spec.hostUsers"],
        ),
        (
            "securityContext: {supplementalGroupsPolicy: Merge}, os: {name: linux}, affinity: {nodeAffinity: {}}",
            &none,
        ),
        (
            "activeDeadlineSeconds: 3, runtimeClassName: gvisor",
            &none,
        ),
    ];
    for (manifest, expected) in rows {
        assert_eq!(unbuilt(manifest), expected, "{manifest}");
    }
}

#[test]
fn a_pod_of_the_api_may_refer_to_its_objects() {
    let spec = serde_json::json!({"serviceAccountName": "a", "containers": [{"name": "c",
        "envFrom": [{"secretRef": {"name": "s"}}], "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]}],
        "volumes": [{"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}, {"podCertificate": {"keyType": "k", "signerName": "s"}}, {"clusterTrustBundle": {"name": "b", "path": "p"}}]}},
          {"name": "s", "secret": {"secretName": "s"}}]});
    let pod = Pod {
        spec: serde_json::from_value(spec).unwrap(),
        ..Pod::default()
    };
    let of_api = unbuilt_fields_from(&pod, SourceKind::Api);
    assert_eq!(
        of_api,
        [
            "spec.volumes[0].projected.sources[1].podCertificate",
            "spec.volumes[0].projected.sources[2].clusterTrustBundle",
        ]
    );
    assert_eq!(unbuilt_fields(&pod).len(), 7);
}

#[test]
fn a_field_of_a_later_api_is_not_built() {
    let spec = serde_json::json!({"containers": [{"name": "c", "teleport": true}], "warp": 9});
    let mut found = Vec::new();
    walk(
        "spec",
        spec.as_object().unwrap(),
        (tables::POD_SPEC, SourceKind::Api),
        &mut found,
    );
    assert_eq!(found, ["spec.containers[0].teleport", "spec.warp"]);
}
