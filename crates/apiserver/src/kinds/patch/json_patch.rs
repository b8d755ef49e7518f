//! JSON Patch (RFC 6902).
//!
//! In:    a document and a list of operations
//! Out:   the patched document
//! Calls: `patch`
//! Holds: the document changes only if every operation applies; the copied bytes, depth and work of one patch are limited,
//!        however its operations combine
//! Upstream: gopkg.in/evanphx/json-patch.v4 (1.36), AccumulatedCopySizeLimit; differences: memory, depth and work are limited
//!           too

use serde_json::Value;

use crate::base::bounds::BODY_BYTES;
use crate::base::bounds::{DEPTH, Excess, MEMORY, Measure};

/// Upstream's limit.
const OPERATIONS: usize = 10_000;
/// Values that one patch may read or move. A thousand operations on lists of a thousand elements stay far below it.
const WORK: usize = 1 << 21;
/// List elements that are shifted in the time in which one value is read.
const SHIFTED: usize = 64;
/// The cost of one step of a path, in values.
const STEP: usize = 4;

/// Why a patch is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Malformed(String),
    /// A limit is exceeded.
    TooLarge(String),
    DoesNotApply(String),
}

/// Applies all operations.
pub(super) fn apply(document: &Value, patch: &Value) -> Result<Value, Refused> {
    let malformed = |why: &str| Refused::Malformed(why.to_owned());
    let operations = patch
        .as_array()
        .ok_or_else(|| malformed("the patch is not a list"))?;
    if operations.len() > OPERATIONS {
        return Err(Refused::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut patched = Patched {
        document: document.clone(),
        copied: 0,
        memory: MEMORY,
        work: WORK,
    };
    for operation in operations {
        let field = |name: &str| operation.get(name).and_then(Value::as_str);
        let path = field("path").ok_or_else(|| malformed("an operation has no path"))?;
        let value = || operation.get("value").cloned().unwrap_or(Value::Null);
        match field("op") {
            Some("add") => patched.bring(path, value(), Put::Add)?,
            Some("replace") => patched.bring(path, value(), Put::Replace)?,
            Some("remove") => drop(patched.take(path)?),
            Some("test") => {
                let nothing = Value::Null;
                let wanted = operation.get("value").unwrap_or(&nothing);
                patched.spend(steps(path) * STEP)?;
                // The cost is limited by the smaller of the two, and that came with the patch.
                if patched.document.pointer(path).unwrap_or(&nothing) != wanted {
                    let why = format!("testing value {path} failed: test failed");
                    return Err(Refused::DoesNotApply(why));
                }
            }
            Some(verb @ ("move" | "copy")) => {
                let from = field("from").ok_or_else(|| malformed("an operation has no from"))?;
                if verb == "copy" {
                    patched.copy(from, path)?;
                } else {
                    let found = patched.take(from)?;
                    // A value that does not get deeper is not measured again.
                    if steps(path) > steps(from) {
                        patched.bring(path, found, Put::Add)?;
                    } else {
                        patched.put(path, found, Put::Add)?;
                    }
                }
            }
            _ => return Err(malformed("an operation is unknown")),
        }
    }
    Ok(patched.document)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    Add,
    Replace,
}

/// The document between two operations, never deeper than [`DEPTH`], and the remaining limits.
struct Patched {
    document: Value,
    /// Bytes of text that were copied.
    copied: usize,
    /// Bytes of memory that may still be copied.
    memory: usize,
    work: usize,
}

/// The number of levels that a path descends.
fn steps(path: &str) -> usize {
    path.bytes().filter(|byte| *byte == b'/').count()
}

fn missing(path: &str) -> Refused {
    Refused::DoesNotApply(format!("nothing is at {path}"))
}

fn too_deep() -> Refused {
    Refused::DoesNotApply(format!(
        "the object would be nested deeper than {DEPTH} levels"
    ))
}

impl Patched {
    fn spend(&mut self, work: usize) -> Result<(), Refused> {
        let too_much = || Refused::TooLarge("The JSON patch takes too much work".to_owned());
        self.work = self.work.checked_sub(work).ok_or_else(too_much)?;
        Ok(())
    }

    /// Measures a value that is to be placed at a path.
    fn measure(&mut self, value: &Value, path: &str) -> Result<Measure, Refused> {
        let most = self.work.saturating_mul(32);
        let measure = Measure::of(value, most).map_err(|excess| match excess {
            Excess::Deep => too_deep(),
            Excess::Large => Refused::TooLarge("The JSON patch takes too much work".to_owned()),
        })?;
        self.spend(measure.values)?;
        if measure.depth + steps(path) > DEPTH {
            return Err(too_deep());
        }
        Ok(measure)
    }

    /// Places a value that may be deeper than the one it replaces.
    fn bring(&mut self, path: &str, value: Value, how: Put) -> Result<(), Refused> {
        self.measure(&value, path)?;
        self.put(path, value, how)
    }

    fn copy(&mut self, from: &str, path: &str) -> Result<(), Refused> {
        self.spend(steps(from) * STEP)?;
        // Taken out so that it can be borrowed beside the rest of `self`.
        let document = std::mem::take(&mut self.document);
        let measured = match document.pointer(from) {
            Some(found) => self.measure(found, path).and_then(|measure| {
                self.copied = self.copied.saturating_add(measure.text);
                if self.copied > BODY_BYTES {
                    return Err(Refused::DoesNotApply(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {BODY_BYTES}",
                        self.copied
                    )));
                }
                let too_much = || Refused::TooLarge("The JSON patch copies too many values".to_owned());
                self.memory = self.memory.checked_sub(measure.memory).ok_or_else(too_much)?;
                Ok(found.clone())
            }),
            None => Err(missing(from)),
        };
        self.document = document;
        self.put(path, measured?, Put::Add)
    }

    fn put(&mut self, path: &str, value: Value, how: Put) -> Result<(), Refused> {
        self.spend(steps(path) * STEP)?;
        if path.is_empty() {
            self.document = value;
            return Ok(());
        }
        let (parent, last) = split(path).ok_or_else(|| missing(path))?;
        let mut shifted = 0;
        match self.document.pointer_mut(parent) {
            Some(Value::Object(map)) => {
                if how == Put::Replace && !map.contains_key(&last) {
                    return Err(missing(path));
                }
                map.insert(last, value);
            }
            Some(Value::Array(list)) => match (how, &*last) {
                (Put::Add, "-") => list.push(value),
                (Put::Add, index) => {
                    let index = index.parse().ok().filter(|i| *i <= list.len());
                    let index: usize = index.ok_or_else(|| missing(path))?;
                    shifted = list.len() - index;
                    list.insert(index, value);
                }
                (Put::Replace, index) => {
                    let index = index.parse::<usize>().ok();
                    let place = index.and_then(|index| list.get_mut(index));
                    *place.ok_or_else(|| missing(path))? = value;
                }
            },
            _ => return Err(missing(path)),
        }
        self.spend(shifted / SHIFTED)
    }

    fn take(&mut self, path: &str) -> Result<Value, Refused> {
        self.spend(steps(path) * STEP)?;
        let (parent, last) = split(path).ok_or_else(|| missing(path))?;
        let (taken, shifted) = match self.document.pointer_mut(parent) {
            Some(Value::Object(map)) => (map.remove(&last), 0),
            Some(Value::Array(list)) => {
                let index = last.parse().ok().filter(|i| *i < list.len());
                let index: usize = index.ok_or_else(|| missing(path))?;
                (Some(list.remove(index)), list.len() - index)
            }
            _ => (None, 0),
        };
        self.spend(shifted / SHIFTED)?;
        taken.ok_or_else(|| missing(path))
    }
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}
