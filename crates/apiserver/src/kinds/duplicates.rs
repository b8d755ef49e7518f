//! Finds duplicate fields in a JSON text, of which the parser keeps the last.
//!
//! In:    a body that has been parsed successfully
//! Out:   the paths of the duplicates
//! Calls: `verbs`, if the client asks for field validation
//! Holds: as deep as serde_json reads; memory holds the current path and the field names of the open objects only
//! Upstream: sigs.k8s.io/json (1.36); differences: none

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::kinds::schema::STRICT_ERRORS;

/// The paths of duplicate fields, in the order of the text.
pub(crate) fn duplicates(text: &[u8]) -> Vec<String> {
    let walk = Walk::default();
    let mut reader = serde_json::Deserializer::from_slice(text);
    // Text that is not JSON has been refused before.
    match (&walk).deserialize(&mut reader) {
        Ok(()) => walk.found.into_inner(),
        Err(_) => Vec::new(),
    }
}

#[derive(Default)]
struct Walk {
    path: RefCell<String>,
    found: RefCell<Vec<String>>,
}

impl Walk {
    /// Enters one level, and returns.
    fn below<T>(&self, step: &str, go: impl FnOnce() -> T) -> T {
        let before = self.path.borrow().len();
        if before > 0 && !step.starts_with('[') {
            self.path.borrow_mut().push('.');
        }
        self.path.borrow_mut().push_str(step);
        let done = go();
        self.path.borrow_mut().truncate(before);
        done
    }

    fn tell(&self) {
        let mut found = self.found.borrow_mut();
        if found.len() < STRICT_ERRORS {
            found.push(self.path.borrow().clone());
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Walk {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0_usize.. {
            let step = format!("[{index}]");
            if self
                .below(&step, || items.next_element_seed(self))?
                .is_none()
            {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            let is_new = !names.contains(&name);
            self.below(&name, || {
                if !is_new {
                    self.tell();
                }
                entries.next_value_seed(self)
            })?;
            names.insert(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_that_stands_again_is_told_by_its_path() {
        let text = br#"{"a":1,"b":{"c":[{"d":1},{"d":2,"e":0,"d":3}]},"a":{"x":1,"x":2},"a":3}"#;
        assert_eq!(duplicates(text), ["b.c[1].d", "a", "a.x", "a"]);
        assert!(duplicates(br#"{"a":{"b":1},"c":{"b":1}}"#).is_empty());
        let many = format!("{{{}\"a\":0}}", "\"a\":0,".repeat(1000));
        assert_eq!(duplicates(many.as_bytes()).len(), STRICT_ERRORS);
    }
}
