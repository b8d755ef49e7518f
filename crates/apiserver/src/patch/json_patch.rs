//! RFC 6902.
//!
//! In:    a document and a list of operations
//! Out:   the changed document
//! Calls: `patch`
//! Holds: nothing is changed unless every operation applies
//! Upstream: gopkg.in/evanphx/json-patch.v4 (1.36); differences: none known

use serde_json::Value;

/// Upstream's bound.
const OPERATIONS: usize = 10_000;

/// Why it is not applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Malformed(String),
    DoesNotApply(String),
}

/// The document after all operations.
pub(super) fn apply(document: &Value, patch: &Value) -> Result<Value, Refused> {
    let malformed = |why: &str| Refused::Malformed(why.to_owned());
    let operations = patch
        .as_array()
        .ok_or_else(|| malformed("the patch is not a list"))?;
    if operations.len() > OPERATIONS {
        return Err(malformed("the patch has too many operations"));
    }
    let mut document = document.clone();
    for operation in operations {
        let field = |name: &str| operation.get(name).and_then(Value::as_str);
        let path = field("path").ok_or_else(|| malformed("an operation has no path"))?;
        let value = || operation.get("value").cloned().unwrap_or(Value::Null);
        let missing = || Refused::DoesNotApply(format!("nothing is at {path}"));
        match field("op") {
            Some("add") => put(&mut document, path, value(), Put::Add).ok_or_else(missing)?,
            Some("replace") => {
                put(&mut document, path, value(), Put::Replace).ok_or_else(missing)?
            }
            Some("remove") => drop(take(&mut document, path).ok_or_else(missing)?),
            Some("test") => {
                let found = document.pointer(path).unwrap_or(&Value::Null);
                if *found != value() {
                    let why = format!("testing value {path} failed: test failed");
                    return Err(Refused::DoesNotApply(why));
                }
            }
            Some(verb @ ("move" | "copy")) => {
                let from = field("from").ok_or_else(|| malformed("an operation has no from"))?;
                let found = if verb == "move" {
                    take(&mut document, from)
                } else {
                    document.pointer(from).cloned()
                };
                let found = found.ok_or_else(missing)?;
                put(&mut document, path, found, Put::Add).ok_or_else(missing)?;
            }
            _ => return Err(malformed("an operation is unknown")),
        }
    }
    Ok(document)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    Add,
    Replace,
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn put(document: &mut Value, path: &str, value: Value, how: Put) -> Option<()> {
    if path.is_empty() {
        *document = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match document.pointer_mut(parent)? {
        Value::Object(map) => {
            if how == Put::Replace && !map.contains_key(&last) {
                return None;
            }
            map.insert(last, value);
        }
        Value::Array(list) => match (how, &*last) {
            (Put::Add, "-") => list.push(value),
            (Put::Add, index) => {
                let index: usize = index.parse().ok().filter(|i| *i <= list.len())?;
                list.insert(index, value);
            }
            (Put::Replace, index) => *list.get_mut(index.parse::<usize>().ok()?)? = value,
        },
        _ => return None,
    }
    Some(())
}

fn take(document: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match document.pointer_mut(parent)? {
        Value::Object(map) => map.remove(&last),
        Value::Array(list) => {
            let index: usize = last.parse().ok().filter(|i| *i < list.len())?;
            Some(list.remove(index))
        }
        _ => None,
    }
}
