//! The forms in which objects are returned: as they are, as table rows, or metadata only.
//!
//! In:    the `Accept` header; objects
//! Out:   JSON
//! Calls: `verbs`
//! Holds: objects that are returned as they are stored are not parsed
//! Upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/{negotiation,response.go} (1.36); differences: JSON only

use hyper::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::base::failure::Failure;
use crate::kinds::resources::Resource;
use crate::kinds::table::{self, Include};
use crate::request::path::Query;
use crate::store::Object;

/// The form that a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Table(Include),
    Metadata,
}

impl Form {
    /// The first supported form of the header.
    pub(crate) fn negotiate(accept: &str, query: &Query) -> Result<Self, Failure> {
        if accept.trim().is_empty() {
            return Ok(Self::Whole);
        }
        let clauses = accept.split(',');
        let found = clauses
            .map(str::trim)
            .find_map(|clause| Self::of(clause, query));
        let form = found.ok_or_else(Failure::not_acceptable)?;
        let include = query.first("includeObject").unwrap_or_default();
        let is_known = ["", "Object", "Metadata", "None"].contains(&include);
        if matches!(form, Self::Table(_)) && !is_known {
            return Err(Failure::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {include:?}: must be 'Metadata', 'Object', 'None', or empty"
            )));
        }
        Ok(form)
    }

    fn of(clause: &str, query: &Query) -> Option<Self> {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next()?;
        if !["application/json", "application/*", "*/*"].contains(&media) {
            return None;
        }
        let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
        let get = |name: &str| {
            parameters
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| *value)
        };
        match (get("as"), get("g"), get("v")) {
            (None, ..) => Some(Self::Whole),
            (Some("Table"), Some("meta.k8s.io"), Some("v1")) => {
                Some(Self::Table(match query.get("includeObject") {
                    Some("Object") => Include::Object,
                    Some("None") => Include::Nothing,
                    _ => Include::Metadata,
                }))
            }
            (
                Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                Some("meta.k8s.io"),
                Some("v1"),
            ) => Some(Self::Metadata),
            _ => None,
        }
    }

    /// Whether objects must be parsed to be returned in this form.
    pub(crate) fn reads(self, resource: &Resource) -> bool {
        self != Self::Whole || resource.strategy.convert.is_some()
    }

    /// Renders one object.
    pub(crate) fn object(self, resource: &Resource, object: &Object, now: Timestamp) -> Bytes {
        match self {
            Self::Whole if resource.strategy.convert.is_none() => object.bytes.clone(),
            Self::Whole => bytes(&shown(resource, object)),
            Self::Metadata => bytes(&metadata_of(&object.value())),
            Self::Table(include) => {
                let value = object.value();
                let row = table::row(
                    (resource.cells)(&value, now),
                    &shown(resource, object),
                    include,
                );
                let version = object.version.to_string();
                bytes(&whole_table(
                    resource,
                    vec![row],
                    json!({"resourceVersion": version}),
                ))
            }
        }
    }

    /// Renders a list.
    pub(crate) fn list(
        self,
        resource: &Resource,
        objects: &[std::sync::Arc<Object>],
        metadata: Value,
        now: Timestamp,
    ) -> Bytes {
        match self {
            Self::Table(include) => {
                let rows = objects.iter().map(|object| {
                    let value = object.value();
                    table::row(
                        (resource.cells)(&value, now),
                        &shown(resource, object),
                        include,
                    )
                });
                bytes(&whole_table(resource, rows.collect(), metadata))
            }
            Self::Whole | Self::Metadata => {
                let (kind, version) = match self {
                    Self::Metadata => (
                        "PartialObjectMetadataList".to_owned(),
                        "meta.k8s.io/v1".to_owned(),
                    ),
                    _ => (format!("{}List", resource.kind), resource.api_version()),
                };
                let size: usize = objects.iter().map(|object| object.bytes.len() + 1).sum();
                let mut out = Vec::with_capacity(size + 128);
                let head = format!(
                    "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":["
                );
                out.extend_from_slice(head.as_bytes());
                for (index, object) in objects.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(&self.object(resource, object, now));
                }
                out.extend_from_slice(b"]}");
                out.into()
            }
        }
    }

    /// A bookmark event: the watch has sent everything up to this version.
    pub(crate) fn bookmark(self, resource: &Resource, version: u64, initial_end: bool) -> Bytes {
        let mut metadata =
            json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self {
            Self::Whole => bytes(
                &json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata}),
            ),
            Self::Metadata => bytes(
                &json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}),
            ),
            Self::Table(_) => {
                let mut table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version.to_string()}, "columnDefinitions": null, "rows": []});
                if initial_end {
                    // In a table, the annotation belongs to the object of the only row.
                    table["rows"] = json!([{"cells": [], "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}}]);
                }
                bytes(&table)
            }
        }
    }
}

/// The object in the served version.
pub(crate) fn shown(resource: &Resource, object: &Object) -> Value {
    let mut value = object.value();
    if let Some(convert) = resource.strategy.convert {
        (convert.shown)(&mut value);
    }
    value
}

fn metadata_of(value: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]})
}

fn whole_table(resource: &Resource, rows: Vec<Value>, metadata: Value) -> Value {
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": table::definitions(resource.columns), "rows": rows,
    })
}

pub(crate) fn bytes(value: &Value) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_there_is_wins() {
        let query = Query::default();
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (accept, form) in [
            ("", Some(Form::Whole)),
            ("*/*", Some(Form::Whole)),
            (kubectl, Some(Form::Table(Include::Metadata))),
            (
                "application/vnd.kubernetes.protobuf, application/json",
                Some(Form::Whole),
            ),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some(Form::Metadata),
            ),
            ("application/vnd.kubernetes.protobuf", None),
        ] {
            assert_eq!(Form::negotiate(accept, &query).ok(), form, "{accept}");
        }
    }
}
