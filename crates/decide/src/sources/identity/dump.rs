//! Prints a JSON value the way Go prints the value it stands for, with type names, in one line.
//!
//! In: a Go type's name and a JSON value (absent and `null` are the type's zero). Out: text, piece by piece, into a closure.
//! Called by `identity.rs`. The types come from `pod-types.txt`, one line a struct: its name, then its fields in order as
//! `Name:type`. The JSON key is the name with its leading capitals lowered, all but the last when a small letter follows
//! (`HostIPC` → `hostIPC`, `FSType` → `fsType`), unless `Name=key:type` says otherwise; `Name~type` is an embedded struct whose
//! JSON keys lie in the outer object. A type that is neither listed nor treated below is a string with a name.
//!
//! What is printed: a field is `Name:(type)value`, a pointer `(*type)value`, elements of lists and maps have no type, nothing
//! set is `<nil>`, strings are raw, map keys are sorted.
//!
//! Upstream: k8s.io/utils/dump (the verb and settings of the printer), pkg/apis/core/types.go (the table)

use super::IdentityError;
use super::quantity::GoQuantity;
use serde_json::{Map, Value};
use std::fmt::Display;

/// The structs reachable from a pod.
const TYPES: &str = include_str!("pod-types.txt");

/// Our name for what is in a resource list: defaulting rounds these up to a thousandth, and no other quantities.
const ROUNDED_QUANTITY: &str = "rounded resource.Quantity";

/// Seconds from the year 1, where Go counts from, to 1970.
const YEAR_1_TO_1970: i64 = 62_135_596_800;

/// What a time's zone prints as on a host in UTC.
const LOCAL_ZONE: &str = "(*time.Location){name:(string)Local zone:([]time.zone)[{name:(string)UTC offset:(int)0 isDST:(bool)false}] \
    tx:([]time.zoneTrans)[{when:(int64)-9223372036854775808 index:(uint8)0 isstd:(bool)false isutc:(bool)false}] \
    extend:(string)UTC0 cacheStart:(int64)-9223372036854775808 cacheEnd:(int64)9223372036854775807 \
    cacheZone:(*time.zone){name:(string)UTC offset:(int)0 isDST:(bool)false}}";

/// Prints `value`, of the Go type `ty`, into `out`.
pub(super) fn dump(
    ty: &str,
    value: &Value,
    out: &mut dyn FnMut(&str),
) -> Result<(), IdentityError> {
    Printer {
        out,
        path: Vec::new(),
    }
    .value(ty, Some(value), true)
}

/// One field of a struct in the table.
struct Field<'t> {
    name: &'t str,
    /// JSON key; `None` for an embedded struct.
    key: Option<String>,
    ty: &'t str,
}

/// The fields of a struct, `None` if the table has no struct of that name.
fn fields(ty: &str) -> Option<impl Iterator<Item = Field<'static>>> {
    let line = TYPES
        .lines()
        .find_map(|line| line.strip_prefix(ty)?.strip_prefix(' '))?;
    Some(line.split(' ').map(|field| match field.split_once('~') {
        Some((name, ty)) => Field {
            name,
            key: None,
            ty,
        },
        None => {
            let (name, ty) = field.split_once(':').unwrap_or((field, "string"));
            let (name, key) = name.split_once('=').map_or_else(
                || (name, json_key(name)),
                |(name, key)| (name, key.to_owned()),
            );
            Field {
                name,
                key: Some(key),
                ty,
            }
        }
    }))
}

/// The JSON key of a field that the table gives no other key for.
fn json_key(name: &str) -> String {
    let capitals = name.bytes().take_while(u8::is_ascii_uppercase).count();
    let lowered = if capitals == name.len() || capitals <= 1 {
        capitals
    } else {
        capitals - 1
    };
    name[..lowered].to_ascii_lowercase() + &name[lowered..]
}

/// Whether a struct, or one embedded in it, reads this JSON key.
fn reads(ty: &str, key: &str) -> bool {
    fields(ty).is_some_and(|mut fields| {
        fields.any(|field| {
            field
                .key
                .as_deref()
                .map_or_else(|| reads(field.ty, key), |known| known == key)
        })
    })
}

struct Printer<'o> {
    out: &'o mut dyn FnMut(&str),
    /// JSON keys and indexes from the pod to where the printer is, for messages.
    path: Vec<String>,
}

impl Printer<'_> {
    /// Prints a last piece: returns what the caller returns.
    fn put(&mut self, text: impl Display) -> Result<(), IdentityError> {
        (self.out)(&text.to_string());
        Ok(())
    }

    fn invalid<T>(&self, expected: &str) -> Result<T, IdentityError> {
        Err(IdentityError::Value {
            path: self.path.join("."),
            expected: expected.to_owned(),
        })
    }

    fn value(
        &mut self,
        ty: &str,
        value: Option<&Value>,
        with_type: bool,
    ) -> Result<(), IdentityError> {
        let value = value.filter(|value| !value.is_null());
        if with_type {
            (self.out)("(");
            (self.out)(ty);
            (self.out)(")");
        }
        match ty {
            "string" => self.string(ty, value),
            "bool" => match value.map_or(Some(false), Value::as_bool) {
                Some(value) => self.put(value),
                None => self.invalid(ty),
            },
            "int32" | "int64" | "int" => match value.map_or(Some(0), Value::as_i64) {
                Some(value) => self.put(value),
                None => self.invalid(ty),
            },
            "core.ResourceList" => self.map(ROUNDED_QUANTITY, value),
            "map[core.ResourceName]resource.Quantity" => self.map("resource.Quantity", value),
            "map[string]string" => self.map("string", value),
            "resource.Quantity" => self.quantity(value, false),
            ROUNDED_QUANTITY => self.quantity(value, true),
            "intstr.IntOrString" => self.int_or_string(value),
            "v1.Time" => self.time(value),
            "v1.FieldsV1" => self.raw_json(value),
            _ => {
                if let Some(target) = ty.strip_prefix('*') {
                    match value {
                        None => self.put("<nil>"),
                        Some(_) => self.value(target, value, false),
                    }
                } else if let Some(element) = ty.strip_prefix("[]") {
                    self.list(element, value)
                } else if let Some(fields) = fields(ty) {
                    self.object(ty, fields, value)
                } else {
                    self.string(ty, value)
                }
            }
        }
    }

    fn string(&mut self, ty: &str, value: Option<&Value>) -> Result<(), IdentityError> {
        match value.map_or(Some(""), Value::as_str) {
            Some(text) => self.put(text),
            None => self.invalid(ty),
        }
    }

    fn list(&mut self, element: &str, value: Option<&Value>) -> Result<(), IdentityError> {
        let Some(value) = value else {
            return self.put("<nil>");
        };
        let Some(items) = value.as_array() else {
            return self.invalid("list");
        };
        (self.out)("[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                (self.out)(" ");
            }
            self.path.push(index.to_string());
            self.value(element, Some(item), false)?;
            self.path.pop();
        }
        self.put("]")
    }

    fn map(&mut self, element: &str, value: Option<&Value>) -> Result<(), IdentityError> {
        let Some(value) = value else {
            return self.put("<nil>");
        };
        let Some(entries) = value.as_object() else {
            return self.invalid("map");
        };
        let mut entries: Vec<_> = entries.iter().collect();
        entries.sort_by_key(|(key, _)| key.as_str());
        (self.out)("map[");
        for (index, (key, item)) in entries.into_iter().enumerate() {
            if index > 0 {
                (self.out)(" ");
            }
            (self.out)(key);
            (self.out)(":");
            self.path.push(key.clone());
            self.value(element, Some(item), false)?;
            self.path.pop();
        }
        self.put("]")
    }

    fn object(
        &mut self,
        ty: &str,
        fields: impl Iterator<Item = Field<'static>>,
        value: Option<&Value>,
    ) -> Result<(), IdentityError> {
        let empty = Map::new();
        let Some(entries) = value.map_or(Some(&empty), Value::as_object) else {
            return self.invalid(ty);
        };
        if let Some(key) = entries.keys().find(|key| !reads(ty, key)) {
            self.path.push(key.clone());
            return Err(IdentityError::UnknownField {
                path: self.path.join("."),
            });
        }
        self.fields(fields, entries)
    }

    fn fields(
        &mut self,
        fields: impl Iterator<Item = Field<'static>>,
        entries: &Map<String, Value>,
    ) -> Result<(), IdentityError> {
        (self.out)("{");
        for (index, field) in fields.enumerate() {
            if index > 0 {
                (self.out)(" ");
            }
            (self.out)(field.name);
            (self.out)(":");
            match field.key {
                Some(key) => {
                    let value = entries.get(&key);
                    self.path.push(key);
                    self.value(field.ty, value, true)?;
                    self.path.pop();
                }
                None => self.embedded(field.ty, entries)?,
            }
        }
        self.put("}")
    }

    fn embedded(&mut self, ty: &str, entries: &Map<String, Value>) -> Result<(), IdentityError> {
        let Some(inner) = fields(ty) else {
            return self.invalid(ty);
        };
        self.put(format_args!("({ty})"))?;
        self.fields(inner, entries)
    }

    fn quantity(&mut self, value: Option<&Value>, rounded: bool) -> Result<(), IdentityError> {
        let quantity = match value.map(Value::as_str) {
            None => GoQuantity::default(),
            Some(text) => match text.and_then(GoQuantity::parse) {
                Some(quantity) => quantity,
                None => return self.invalid("quantity"),
            },
        };
        match if rounded {
            quantity.round_up_to_milli()
        } else {
            Some(quantity)
        } {
            Some(quantity) => self.put(quantity),
            None => self.invalid("quantity"),
        }
    }

    fn int_or_string(&mut self, value: Option<&Value>) -> Result<(), IdentityError> {
        let (kind, number, text) = match value {
            None => (0, 0, ""),
            Some(Value::String(text)) => (1, 0, text.as_str()),
            Some(value) => match value.as_i64() {
                Some(number) => (0, number, ""),
                None => return self.invalid("number or string"),
            },
        };
        self.put(format_args!(
            "{{Type:(intstr.Type){kind} IntVal:(int32){number} StrVal:(string){text}}}"
        ))
    }

    fn time(&mut self, value: Option<&Value>) -> Result<(), IdentityError> {
        let (nanos, seconds, zone) = match value.map(Value::as_str) {
            None => (0, 0, "(*time.Location)<nil>"),
            Some(text) => match text.and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
                Some(time) => (
                    time.subsec_nanosecond(),
                    time.as_second() + YEAR_1_TO_1970,
                    LOCAL_ZONE,
                ),
                None => return self.invalid("time"),
            },
        };
        self.put(format_args!(
            "{{Time:(time.Time){{wall:(uint64){nanos} ext:(int64){seconds} loc:{zone}}}}}"
        ))
    }

    /// Kept in Go as the bytes of its JSON.
    fn raw_json(&mut self, value: Option<&Value>) -> Result<(), IdentityError> {
        let Some(value) = value else {
            return self.put("{Raw:([]uint8)<nil>}");
        };
        let bytes: Vec<_> = value
            .to_string()
            .bytes()
            .map(|byte| byte.to_string())
            .collect();
        self.put(format_args!("{{Raw:([]uint8)[{}]}}", bytes.join(" ")))
    }
}
