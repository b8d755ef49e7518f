//! Parses the text of a flag.
//!
//! In:    the text, the flag's kind, the value that the same flag set before on this command line
//! Out:   the JSON value for the configuration
//! Calls: `flags.rs`
//! Holds: error texts are Go's; the first use of a map or list flag replaces the file's value, later uses add to it
//! Upstream: github.com/spf13/pflag, component-base/cli/flag, pkg/util/flag/flags.go, pkg/util/taints

use super::Kind;
use crate::paths::joined;
use kubelet_model::config::truth;
use kubelet_model::duration::{DurationParseError, GoDuration};
use kubelet_model::quantity::{Quantity, QuantityParseError};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Why a flag's text is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ValueError {
    /// Not a number or boolean: Go's function, the text, Go's reason.
    #[error("strconv.{0}: parsing {1:?}: {2}")]
    Syntax(&'static str, String, &'static str),
    /// Not a duration.
    #[error(transparent)]
    Duration(#[from] DurationParseError),
    /// Not a quantity.
    #[error(transparent)]
    Quantity(#[from] QuantityParseError),
    /// Not an address.
    #[error("{0:?} is not a valid IP address")]
    Ip(String),
    /// A pair without its separator: what was expected.
    #[error("malformed pair, expect {0}")]
    Pair(&'static str),
    /// A feature gate without a boolean: its name, the text.
    #[error("invalid value of {0}: {1}, err: strconv.ParseBool: parsing {1:?}: invalid syntax")]
    Gate(String, String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// The value of `text`, added to the value of the same flag `before`.
pub(super) fn read(kind: Kind, text: &str, before: Option<Value>) -> Result<Value, ValueError> {
    match kind {
        Kind::Bool => boolean(text).map(Value::Bool),
        Kind::Int32 => integer(text, 32).map(Value::from),
        Kind::Int64 => integer(text, 64).map(Value::from),
        Kind::Text => Ok(json!(text)),
        Kind::Path => Ok(json!(path(text))),
        Kind::Duration => Ok(json!(text.parse::<GoDuration>()?.to_string())),
        Kind::Strings => strings(text, before),
        Kind::Map => map(text, before, "="),
        Kind::LangleMap => map(text, before, "<"),
        Kind::SingleMap => {
            let mut map = object(before);
            let (key, value) = text
                .split_once('=')
                .ok_or(ValueError::Pair("string=string"))?;
            map.insert(key.trim().to_owned(), json!(value.trim()));
            Ok(Value::Object(map))
        }
        Kind::LooseMap => {
            let mut map = object(before);
            for pair in pairs(text) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                map.insert(key.trim().to_owned(), json!(value.trim()));
            }
            Ok(Value::Object(map))
        }
        Kind::Gates => gates(text, before),
        Kind::Multimap => multimap(text, before),
        Kind::Ip => ip(text),
        Kind::Quantity => Ok(json!(text.parse::<Quantity>()?.to_string())),
        Kind::Level => level(text).map(Value::from),
        Kind::VModule => vmodule(text, before),
        Kind::ReservedMemory => reserved_memory(text, before),
        Kind::Taints => taints(text),
        Kind::Version => version(text),
    }
}

/// Makes a relative path absolute. Go opens it in the working directory; this program opens by descriptors, and passes paths to
/// the runtime.
fn path(text: &str) -> String {
    match std::env::current_dir() {
        Ok(directory) if !text.is_empty() && !text.starts_with('/') => joined(&directory, text),
        // Without a working directory the path stays relative; opening it will fail with the reason.
        Ok(_) | Err(_) => text.to_owned(),
    }
}

fn object(before: Option<Value>) -> Map<String, Value> {
    match before {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn array(before: Option<Value>) -> Vec<Value> {
    match before {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn pairs(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|pair| !pair.is_empty())
}

fn boolean(text: &str) -> Result<bool, ValueError> {
    truth(text).ok_or_else(|| ValueError::Syntax("ParseBool", text.to_owned(), "invalid syntax"))
}

/// Go's `ParseInt` with base 0: `0x`, `0o`, `0b`, a leading zero for octal, underscores between digits.
fn integer(text: &str, bits: u32) -> Result<i64, ValueError> {
    let fault = |why| ValueError::Syntax("ParseInt", text.to_owned(), why);
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = [("0x", 16), ("0o", 8), ("0b", 2)]
        .iter()
        .find_map(|(prefix, radix)| Some((*radix, lower.strip_prefix(prefix)?)))
        .or_else(|| Some((8, lower.strip_prefix('0').filter(|rest| !rest.is_empty())?)))
        .unwrap_or((10, lower.as_str()));
    let underscores =
        body.contains("__") || body.ends_with('_') || (radix == 10 && body.contains('_'));
    let body = body.replace('_', "");
    if underscores || body.is_empty() || !body.chars().all(|c| c.is_digit(radix)) {
        return Err(fault("invalid syntax"));
    }
    let magnitude = i128::from_str_radix(&body, radix).map_err(|_| fault("value out of range"))?;
    let number = if negative { -magnitude } else { magnitude };
    let limit = 1i128 << (bits - 1);
    if (-limit..limit).contains(&number) {
        i64::try_from(number).map_err(|_| fault("value out of range"))
    } else {
        Err(fault("value out of range"))
    }
}

fn level(text: &str) -> Result<u64, ValueError> {
    let fault = |why| ValueError::Syntax("ParseUint", text.to_owned(), why);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault("invalid syntax"));
    }
    let level = text.parse().map_err(|_| fault("value out of range"))?;
    if level > i32::MAX as u64 {
        return Err(fault("value out of range"));
    }
    Ok(level)
}

/// Comma-separated values on one line; quotes protect a comma.
fn strings(text: &str, before: Option<Value>) -> Result<Value, ValueError> {
    let mut list = array(before);
    if text.is_empty() {
        return Ok(Value::Array(list));
    }
    let mut rest = text;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (field, after) = quoted_field(quoted).ok_or_else(|| {
                ValueError::Other(format!(
                    "parse error on line 1, column {}: extraneous or missing \" in quoted-field",
                    text.len() + 1
                ))
            })?;
            list.push(Value::String(field));
            rest = after;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            list.push(json!(&rest[..end]));
            rest = &rest[end..];
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return Ok(Value::Array(list)),
        }
    }
}

/// A field up to its closing quote, and the rest; a doubled quote stands for one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (inner, after) = rest.split_once('"')?;
        field.push_str(inner);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if after.is_empty() || after.starts_with(',') => return Some((field, after)),
            None => return None,
        }
    }
}

fn map(text: &str, before: Option<Value>, sign: &str) -> Result<Value, ValueError> {
    let expected = if sign == "<" {
        "string<string"
    } else {
        "string=string"
    };
    let mut map = object(before);
    for pair in pairs(text) {
        let (key, value) = pair.split_once(sign).ok_or(ValueError::Pair(expected))?;
        map.insert(key.trim().to_owned(), json!(value.trim()));
    }
    Ok(Value::Object(map))
}

fn gates(text: &str, before: Option<Value>) -> Result<Value, ValueError> {
    let mut map = object(before);
    for pair in pairs(text) {
        let (key, value) = pair
            .split_once('=')
            .ok_or(ValueError::Pair("string=bool"))?;
        let (key, value) = (key.trim(), value.trim());
        let on = boolean(value).map_err(|_| ValueError::Gate(key.to_owned(), value.to_owned()))?;
        map.insert(key.to_owned(), Value::Bool(on));
    }
    Ok(Value::Object(map))
}

fn multimap(text: &str, before: Option<Value>) -> Result<Value, ValueError> {
    let mut map = object(before);
    for pair in pairs(text) {
        let (key, value) = pair
            .split_once(':')
            .ok_or(ValueError::Pair("string:string"))?;
        let values = map
            .entry(key.trim().to_owned())
            .or_insert_with(|| json!([]));
        if let Value::Array(values) = values {
            values.push(json!(value.trim()));
        }
    }
    Ok(Value::Object(map))
}

fn ip(text: &str) -> Result<Value, ValueError> {
    // Upstream accepts leading zeros in IPv4 numbers.
    let plain: Vec<&str> = text
        .split('.')
        .map(|number| match number.trim_start_matches('0') {
            "" if !number.is_empty() => "0",
            stripped => stripped,
        })
        .collect();
    let plain = if text.contains(':') {
        text.to_owned()
    } else {
        plain.join(".")
    };
    match plain.parse::<IpAddr>() {
        Ok(_) => Ok(json!(plain)),
        Err(_) => Err(ValueError::Ip(text.to_owned())),
    }
}

fn vmodule(text: &str, before: Option<Value>) -> Result<Value, ValueError> {
    let mut list = array(before);
    for pair in pairs(text) {
        let parts: Vec<&str> = pair.split('=').collect();
        let [pattern, number] = parts[..] else {
            return Err(ValueError::Other(format!(
                "{pair:?} does not have the pattern=N format"
            )));
        };
        if pattern.is_empty() || number.is_empty() {
            return Err(ValueError::Other(format!(
                "{pair:?} does not have the pattern=N format"
            )));
        }
        let verbosity = level(number).map_err(|error| {
            ValueError::Other(format!("parsing verbosity in {pair:?}: {error}"))
        })?;
        list.push(json!({"filePattern": pattern, "verbosity": verbosity}));
    }
    Ok(Value::Array(list))
}

fn reserved_memory(text: &str, before: Option<Value>) -> Result<Value, ValueError> {
    let mut list = array(before);
    if text.is_empty() {
        return Ok(Value::Array(list));
    }
    for reservation in text.split(';') {
        let parts: Vec<&str> = reservation.split(':').collect();
        let [node, limits] = parts[..] else {
            return Err(ValueError::Other(format!(
                "the reserved memory has incorrect format, expected numaNodeID:type=quantity[,type=quantity...], got {reservation}"
            )));
        };
        let node: i32 = node.parse().map_err(|_| {
            ValueError::Other(format!(
                "failed to convert the NUMA node ID, expected integer, got {node}"
            ))
        })?;
        let mut amounts = Map::new();
        for limit in limits.split(',') {
            let parts: Vec<&str> = limit.split('=').collect();
            let [resource, amount] = parts[..] else {
                return Err(ValueError::Other(format!(
                    "the reserved limit has incorrect value, expected type=quantity, got {limit}"
                )));
            };
            if resource != "memory" && !resource.starts_with("hugepages-") {
                return Err(ValueError::Other(format!(
                    "memory type conversion error, unknown type: {resource:?}"
                )));
            }
            let amount: Quantity = amount.parse().map_err(|_| {
                ValueError::Other(format!("failed to parse the quantity: {amount}"))
            })?;
            amounts.insert(resource.to_owned(), json!(amount.to_string()));
        }
        list.push(json!({"numaNode": node, "limits": amounts}));
    }
    Ok(Value::Array(list))
}

fn taints(text: &str) -> Result<Value, ValueError> {
    let bad = |taint: &str| ValueError::Other(format!("invalid taint spec: {taint}"));
    let mut list = Vec::new();
    for taint in text.split(',').filter(|_| !text.is_empty()) {
        let (pair, effect) = taint.split_once(':').ok_or_else(|| bad(taint))?;
        if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            let words = format!("invalid taint effect: {effect}, unsupported taint effect");
            return Err(ValueError::Other(words));
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key.is_empty() || value.contains('=') {
            return Err(bad(taint));
        }
        list.push(json!({"key": key, "value": value, "effect": effect}));
    }
    Ok(Value::Array(list))
}

fn version(text: &str) -> Result<Value, ValueError> {
    // Upstream can report another version; here it is accepted and has no effect.
    if text == "raw" || text.starts_with('v') {
        return Ok(json!(text));
    }
    boolean(text).map(|on| json!(on.to_string()))
}
