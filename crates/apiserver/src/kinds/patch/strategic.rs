//! Strategic merge patches.
//!
//! In:    the object, the patch with its directives (`$patch`, `$deleteFromPrimitiveList/…`, `$setElementOrder/…`, `$retainKeys`)
//! Out:   the merged object
//! Calls: `patch`
//! Holds: pure; no directive remains in the result; elements are looked up by key, so the cost is linear in the length of a
//!        list; the work on lists is limited, since a patch may name one key many times
//! Upstream: staging/src/k8s.io/apimachinery/pkg/util/strategicpatch/patch.go (1.36); differences: none known for the served
//!           kinds

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::json_patch::Refused;
use super::keys::{Merge, merge_of};
use crate::base::bounds::Measure;

/// Elements and fields that one patch may read. A patch that names each key once reads each of them a few times.
const WORK: usize = 1 << 21;
/// Bytes of a key that are compared in the time in which one more element is read.
const KEY_BYTES: usize = 64;

const DIRECTIVE: &str = "$patch";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";
const RETAIN: &str = "$retainKeys";

/// Applies a strategic merge patch.
pub(super) fn apply(kind: &str, object: &Value, patch: &Value) -> Result<Value, Refused> {
    let (object, patch) = (as_map(object), as_map(patch));
    let mut merging = Merging { kind, work: WORK };
    let merged = merging.maps("", object, patch)?;
    Ok(Value::Object(merged))
}

/// A patch that is being applied, and its remaining work limit.
struct Merging<'a> {
    kind: &'a str,
    work: usize,
}

fn as_map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

impl Merging<'_> {
    fn spend(&mut self, work: usize) -> Result<(), Refused> {
        let too_much =
            || Refused::TooLarge("The strategic merge patch takes too much work".to_owned());
        self.work = self.work.checked_sub(work).ok_or_else(too_much)?;
        Ok(())
    }

    /// Counts the cost of a value that is compared as text.
    fn look_at(&mut self, value: &Value) -> Result<(), Refused> {
        let most = self.work.saturating_mul(KEY_BYTES);
        let too_much =
            |_| Refused::TooLarge("The strategic merge patch takes too much work".to_owned());
        let measure = Measure::of(value, most).map_err(too_much)?;
        self.spend(measure.values + measure.text / KEY_BYTES)
    }

    /// Counts the cost of looking up the elements of a list by their keys.
    fn look_at_keys(&mut self, list: &[Value], how: Merge) -> Result<(), Refused> {
        for one in list {
            match how {
                Merge::By(key) | Merge::ByKeepingNamed(key) => match one.get(key) {
                    Some(id) => self.look_at(id)?,
                    None => self.spend(1)?,
                },
                Merge::Set | Merge::Replace => self.look_at(one)?,
            }
        }
        Ok(())
    }

    fn maps(
        &mut self,
        parent: &str,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
    ) -> Result<Map<String, Value>, Refused> {
        match patch.remove(DIRECTIVE).as_ref().and_then(Value::as_str) {
            Some("replace") => return Ok(patch),
            Some("delete") => return Ok(Map::new()),
            Some("merge") | None => {}
            Some(other) => {
                return Err(Refused::Malformed(format!(
                    "unknown patch type found: {other}"
                )));
            }
        }
        if let Some(Value::Array(retained)) = patch.remove(RETAIN) {
            self.spend(retained.len() + original.len())?;
            let retained: BTreeSet<&str> = retained.iter().filter_map(Value::as_str).collect();
            original.retain(|field, _| retained.contains(&**field));
        }
        let mut orders = Vec::new();
        for (field, value) in patch {
            if let Some(list) = field.strip_prefix(ORDER) {
                orders.push((list.to_owned(), value));
            } else if let Some(list) = field.strip_prefix(DELETE_FROM) {
                let gone = value.as_array().into_iter().flatten();
                let gone: BTreeSet<String> = gone.map(Value::to_string).collect();
                self.spend(gone.len())?;
                if let Some(Value::Array(list)) = original.get_mut(list) {
                    for one in list.iter() {
                        self.look_at(one)?;
                    }
                    list.retain(|one| !gone.contains(&one.to_string()));
                }
            } else if value.is_null() {
                original.remove(&field);
            } else {
                let before = original.remove(&field);
                let merged = self.value(parent, &field, before, value)?;
                original.insert(field, merged);
            }
        }
        for (field, order) in orders {
            if let (Some(Value::Array(list)), Value::Array(order)) =
                (original.get_mut(&field), order)
            {
                let how = merge_of(self.kind, parent, &field);
                self.look_at_keys(list, how)?;
                self.look_at_keys(&order, how)?;
                sort(list, &order, how);
            }
        }
        Ok(original)
    }

    fn value(
        &mut self,
        parent: &str,
        field: &str,
        before: Option<Value>,
        patch: Value,
    ) -> Result<Value, Refused> {
        match (before, patch) {
            (Some(Value::Object(before)), Value::Object(patch)) => {
                self.maps(field, before, patch).map(Value::Object)
            }
            // Nothing to merge with; directives inside the patch are still carried out.
            (_, Value::Object(patch)) => self.maps(field, Map::new(), patch).map(Value::Object),
            (before, Value::Array(patch)) => {
                let before = match before {
                    Some(Value::Array(list)) => list,
                    _ => Vec::new(),
                };
                let how = merge_of(self.kind, parent, field);
                self.lists(field, how, before, patch).map(Value::Array)
            }
            (_, patch) => Ok(patch),
        }
    }

    fn lists(
        &mut self,
        field: &str,
        how: Merge,
        mut original: Vec<Value>,
        patch: Vec<Value>,
    ) -> Result<Vec<Value>, Refused> {
        if !matches!(how, Merge::Replace) {
            self.look_at_keys(&original, how)?;
            self.look_at_keys(&patch, how)?;
        }
        let key = match how {
            Merge::Replace => return Ok(patch),
            Merge::Set => {
                let mut held: BTreeSet<String> = original.iter().map(Value::to_string).collect();
                original.extend(patch.into_iter().filter(|one| held.insert(one.to_string())));
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
        let mut elements = Elements::new(key, original);
        for element in patch {
            let Some(id) = element.get(key).map(Value::to_string) else {
                let why = format!("map: {element} does not contain declared merge key: {key}");
                return Err(Refused::Malformed(why));
            };
            if directive(&element) == Some("delete") {
                elements.remove(&id);
                continue;
            }
            let before = elements.take(&id).map(into_map).unwrap_or_default();
            let merged = self.maps(field, before, into_map(element))?;
            elements.put(id, Value::Object(merged));
        }
        Ok(elements.list.into_iter().flatten().collect())
    }
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A list of objects, indexed by the text of their merge key.
struct Elements {
    /// A removed element leaves an empty slot.
    list: Vec<Option<Value>>,
    /// Slots in order; more than one if a key occurs several times.
    places: BTreeMap<String, Vec<usize>>,
}

impl Elements {
    fn new(key: &str, list: Vec<Value>) -> Self {
        let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, one) in list.iter().enumerate() {
            if let Some(id) = one.get(key) {
                places.entry(id.to_string()).or_default().push(place);
            }
        }
        let list = list.into_iter().map(Some).collect();
        Self { list, places }
    }

    fn first(&mut self, id: &str) -> Option<&mut Option<Value>> {
        let place = self.places.get(id)?.first()?;
        self.list.get_mut(*place)
    }

    /// Takes the first element of this key out; its slot is kept for the replacement.
    fn take(&mut self, id: &str) -> Option<Value> {
        self.first(id).and_then(Option::take)
    }

    /// Puts an element into the first slot of its key, or at the end.
    fn put(&mut self, id: String, element: Value) {
        if let Some(place) = self.first(&id) {
            *place = Some(element);
        } else {
            self.places.insert(id, vec![self.list.len()]);
            self.list.push(Some(element));
        }
    }

    /// Removes all elements of this key.
    fn remove(&mut self, id: &str) {
        for place in self.places.remove(id).into_iter().flatten() {
            if let Some(gone) = self.list.get_mut(place) {
                *gone = None;
            }
        }
    }
}

fn directive(element: &Value) -> Option<&str> {
    element.get(DIRECTIVE).and_then(Value::as_str)
}

/// Sorts elements as the order directive says; the others stay behind the elements that they followed before.
fn sort(list: &mut Vec<Value>, order: &[Value], how: Merge) {
    let id = |one: &Value| match how {
        Merge::By(key) | Merge::ByKeepingNamed(key) => {
            one.get(key).unwrap_or(&Value::Null).to_string()
        }
        Merge::Set | Merge::Replace => one.to_string(),
    };
    let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
    for (rank, wanted) in order.iter().enumerate() {
        ranks.entry(id(wanted)).or_insert(rank);
    }
    let mut named: Vec<(usize, Value)> = Vec::new();
    let mut others: Vec<(usize, Value)> = Vec::new();
    for (place, one) in std::mem::take(list).into_iter().enumerate() {
        match ranks.get(&id(&one)) {
            Some(rank) => named.push((*rank, one)),
            None => others.push((place, one)),
        }
    }
    named.sort_by_key(|(rank, _)| *rank);
    let mut others = others.into_iter().peekable();
    let mut named = named.into_iter().map(|(_, one)| one);
    // Elements that the directive does not name were added by others: each stays as close to its position as the named ones
    // allow.
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
