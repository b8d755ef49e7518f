//! The readers of client input, one function each, for the fuzz targets.
//!
//! In:    any bytes
//! Out:   nothing; a panic if a promise does not hold
//! Calls: crate fuzz, no product code
//! Holds: requests go through the same functions
//! Upstream: none

use serde_json::Value;

use crate::base::bounds::{self, DEPTH, Measure};
use crate::kinds::patch::{self, Kind};
use crate::kinds::protobuf;
use crate::kinds::resources::{RESOURCES, Resource};
use crate::kinds::selectors::Selection;
use crate::kinds::typed;
use crate::request::form::Form;
use crate::request::path::{Query, route};
use crate::store::Object;

fn row(name: &str) -> &'static Resource {
    let mut rows = RESOURCES.iter();
    let found = rows
        .clone()
        .find(|row| row.plural == name && !row.is_virtual());
    found
        .or_else(|| rows.find(|row| row.plural == "pods"))
        .expect("pods are served")
}

/// An object that may be stored can be read again, and is not deeper than the limit.
fn keep(resource: &Resource, mut value: Value) {
    let measure = Measure::of(&value, usize::MAX).expect("nothing is too deep");
    assert!(measure.depth <= DEPTH, "{measure:?}");
    if typed::conform(resource, &mut value).is_ok() {
        let bytes = serde_json::to_vec(&value).expect("JSON is written");
        assert_eq!(bounds::read_kept(&bytes).expect("it is read"), value);
        let mut again = value.clone();
        typed::conform(resource, &mut again).expect("what conforms conforms");
        assert_eq!(again, value);
    }
}

/// `{"rows": "pods", "object": …, "patch": …}`.
fn patched(kind: Kind, bytes: &[u8]) {
    let Ok(input) = bounds::read(bytes) else {
        return;
    };
    let resource = row(input["rows"].as_str().unwrap_or_default());
    if let Ok(value) = patch::apply(resource, "n", kind, &input["object"], &input["patch"]) {
        keep(resource, value);
    }
}

/// JSON patches.
pub fn json_patch(bytes: &[u8]) {
    patched(Kind::Json, bytes);
}

/// Merge patches.
pub fn merge_patch(bytes: &[u8]) {
    patched(Kind::Merge, bytes);
}

/// Strategic merge patches.
pub fn strategic_patch(bytes: &[u8]) {
    patched(Kind::Strategic, bytes);
}

/// Bodies in protobuf.
pub fn protobuf_body(bytes: &[u8]) {
    if let Ok(value) = protobuf::decode(bytes) {
        let plural = format!(
            "{}s",
            value["kind"].as_str().unwrap_or_default().to_lowercase()
        );
        keep(row(&plural), value);
    }
}

/// A label selector, a field selector, and the target and `Accept` header of a request.
pub fn selectors(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let (labels, fields) = (lines.next(), lines.next());
    let object = Object {
        key: "pods/default/web".into(),
        version: 7,
        bytes: hyper::body::Bytes::from_static(b"{}"),
        uid: String::new(),
        deletion: String::new(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        fields: vec![("spec.nodeName", "n".to_owned())],
        owners: Vec::new(),
        finalizers: Vec::new(),
        ties: Vec::new(),
    };
    if let Ok(selection) = Selection::parse(row("pods"), labels, fields) {
        assert!(!selection.is_all() || selection.matches(&object));
    }
    let (target, accept) = (lines.next().unwrap_or_default(), lines.next());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = Query::parse(query);
    drop(route(path));
    drop(Form::negotiate(accept.unwrap_or_default(), &query));
}
