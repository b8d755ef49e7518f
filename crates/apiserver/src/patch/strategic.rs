//! Strategic merge patches.
//!
//! In:    the object, the patch with its directives (`$patch`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…`, `$retainKeys`)
//! Out:   the merged object
//! Calls: `patch`
//! Holds: pure; no directive stays in the result
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/strategicpatch/patch.go (1.36); differences: none known for what is served

use serde_json::{Map, Value};

use super::keys::{Merge, merge_of};

const DIRECTIVE: &str = "$patch";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";
const RETAIN: &str = "$retainKeys";

/// The merged object.
pub(super) fn apply(kind: &str, object: &Value, patch: &Value) -> Result<Value, String> {
    let (object, patch) = (as_map(object), as_map(patch));
    let merged = merge_maps(kind, "", object, patch)?;
    Ok(Value::Object(merged))
}

fn as_map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn merge_maps(
    kind: &str,
    parent: &str,
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    match patch.remove(DIRECTIVE).as_ref().and_then(Value::as_str) {
        Some("replace") => return Ok(patch),
        Some("delete") => return Ok(Map::new()),
        Some("merge") | None => {}
        Some(other) => return Err(format!("unknown patch type found: {other}")),
    }
    if let Some(Value::Array(retained)) = patch.remove(RETAIN) {
        original.retain(|field, _| retained.iter().any(|one| one == field));
    }
    let mut orders = Vec::new();
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix(ORDER) {
            orders.push((list.to_owned(), value));
        } else if let Some(list) = field.strip_prefix(DELETE_FROM) {
            let gone = value.as_array().cloned().unwrap_or_default();
            if let Some(Value::Array(list)) = original.get_mut(list) {
                list.retain(|one| !gone.contains(one));
            }
        } else if value.is_null() {
            original.remove(&field);
        } else {
            let before = original.remove(&field);
            let merged = merge_value(kind, parent, &field, before, value)?;
            original.insert(field, merged);
        }
    }
    for (field, order) in orders {
        if let (Some(Value::Array(list)), Value::Array(order)) = (original.get_mut(&field), order) {
            sort(list, &order, merge_of(kind, parent, &field));
        }
    }
    Ok(original)
}

fn merge_value(
    kind: &str,
    parent: &str,
    field: &str,
    before: Option<Value>,
    patch: Value,
) -> Result<Value, String> {
    match (before, patch) {
        (Some(Value::Object(before)), Value::Object(patch)) => {
            merge_maps(kind, field, before, patch).map(Value::Object)
        }
        // Nothing to merge with: directives inside are still carried out.
        (_, Value::Object(patch)) => merge_maps(kind, field, Map::new(), patch).map(Value::Object),
        (before, Value::Array(patch)) => {
            let before = match before {
                Some(Value::Array(list)) => list,
                _ => Vec::new(),
            };
            merge_lists(kind, field, merge_of(kind, parent, field), before, patch).map(Value::Array)
        }
        (_, patch) => Ok(patch),
    }
}

fn merge_lists(
    kind: &str,
    field: &str,
    how: Merge,
    mut original: Vec<Value>,
    patch: Vec<Value>,
) -> Result<Vec<Value>, String> {
    let key = match how {
        Merge::Replace => return Ok(patch),
        Merge::Set => {
            for value in patch {
                if !original.contains(&value) {
                    original.push(value);
                }
            }
            return Ok(original);
        }
        Merge::By(key) | Merge::ByKeepingNamed(key) => key,
    };
    let replaces = |one: &Value| directive(one) == Some("replace");
    if patch.iter().any(replaces) {
        return Ok(patch
            .into_iter()
            .filter(|one| directive(one).is_none())
            .collect());
    }
    for element in patch {
        let id = element.get(key).cloned();
        let id =
            id.ok_or_else(|| format!("map: {element} does not contain declared merge key: {key}"))?;
        let place = original.iter().position(|one| one.get(key) == Some(&id));
        if directive(&element) == Some("delete") {
            original.retain(|one| one.get(key) != Some(&id));
            continue;
        }
        let before = place.and_then(|place| original.get(place)).map(as_map);
        let merged = merge_maps(kind, field, before.unwrap_or_default(), as_map(&element))?;
        match place.and_then(|place| original.get_mut(place)) {
            Some(slot) => *slot = Value::Object(merged),
            None => original.push(Value::Object(merged)),
        }
    }
    Ok(original)
}

fn directive(element: &Value) -> Option<&str> {
    element.get(DIRECTIVE).and_then(Value::as_str)
}

/// Elements that the order names come in that order; the others keep their place after what stood before them.
fn sort(list: &mut Vec<Value>, order: &[Value], how: Merge) {
    let id = |one: &Value| match how {
        Merge::By(key) | Merge::ByKeepingNamed(key) => one.get(key).cloned().unwrap_or_default(),
        Merge::Set | Merge::Replace => one.clone(),
    };
    let rank = |one: &Value| order.iter().position(|wanted| id(wanted) == id(one));
    let mut named: Vec<(usize, Value)> = Vec::new();
    let mut others: Vec<(usize, Value)> = Vec::new();
    for (place, one) in std::mem::take(list).into_iter().enumerate() {
        match rank(&one) {
            Some(rank) => named.push((rank, one)),
            None => others.push((place, one)),
        }
    }
    named.sort_by_key(|(rank, _)| *rank);
    let mut others = others.into_iter().peekable();
    let mut named = named.into_iter().map(|(_, one)| one);
    // The others were added by somebody else; each stays as near to its place as the named ones allow.
    loop {
        while let Some((_, one)) = others.next_if(|(place, _)| *place <= list.len()) {
            list.push(one);
        }
        match named.next() {
            Some(one) => list.push(one),
            None => break,
        }
    }
    list.extend(others.map(|(_, one)| one));
}
