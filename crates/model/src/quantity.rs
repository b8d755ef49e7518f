//! Exact resource quantities: `100m`, `1.5Gi`, `1e3`.
//!
//! In:    text as the API accepts it
//! Out:   an amount in whole nano-units (`i128`) and Go's canonical text
//! Calls: everything that compares, adds or prints requests, limits and capacities
//! Holds: no floating point; printing and parsing again gives the same amount and the same text
//! Upstream: staging/src/k8s.io/apimachinery/pkg/api/resource; differences: amounts above 1.7e29 are refused (upstream accepts
//!           them), and amounts beyond `i64` saturate in `value` (upstream wraps)

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Nano-units in one unit.
const NANO: i128 = 1_000_000_000;
/// Nano-units in a thousandth.
const MILLI: i128 = 1_000_000;
/// Largest amount with a binary suffix.
const BINARY_LIMIT: i128 = (i64::MAX as i128) * NANO;
/// Digits that always fit upstream's fast path.
const FAST_DIGITS: i64 = 18;

const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL_SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// Why a text is not a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityParseError {
    /// Not a number with a suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number is out of range.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// Unknown suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The notation of an amount, in which it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `12M`
    #[default]
    DecimalSi,
    /// `12Mi`
    BinarySi,
    /// `12e6`
    DecimalExponent,
}

/// An exact amount. Equality and order are those of the amount, not of its notation.
#[derive(Clone, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
    /// Quirk: upstream prints some texts unchanged (`0001`, `1.500`) although they are not canonical (quantity.go,
    /// ParseQuantity). Container hashes depend on it.
    verbatim: Option<Box<str>>,
}

impl Quantity {
    /// Whole units (bytes, cores, …).
    pub const fn from_units(units: i64, format: Format) -> Self {
        Self {
            nanos: units as i128 * NANO,
            format,
            verbatim: None,
        }
    }

    /// Bytes, printed with binary suffixes.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self::from_units(bytes, Format::BinarySi)
    }

    /// Thousandths, printed with decimal suffixes.
    pub const fn from_milli(milli: i64) -> Self {
        Self {
            nanos: milli as i128 * 1_000_000,
            format: Format::DecimalSi,
            verbatim: None,
        }
    }

    /// In whole units, fractions rounded away from zero, saturating at the limits of `i64`.
    pub fn value(&self) -> i64 {
        saturate(divide_away(self.nanos, NANO))
    }

    /// In thousandths, fractions rounded away from zero, saturating at the limits of `i64`.
    pub fn milli_value(&self) -> i64 {
        saturate(divide_away(self.nanos, 1_000_000))
    }

    /// The exact amount in nano-units.
    pub const fn nanos(&self) -> i128 {
        self.nanos
    }

    /// Its notation.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whether it is below zero.
    pub const fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether it has no fraction of a unit.
    pub const fn is_integer(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// Whether it is an integer multiple of `page`, which must be a positive integer.
    pub fn is_multiple_of(&self, page: &Self) -> bool {
        page.nanos > 0 && page.is_integer() && self.nanos % page.nanos == 0
    }

    /// Whether it is zero.
    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Rounded away from zero to thousandths, the finest that the API keeps of requests and limits.
    #[must_use]
    pub fn rounded_to_milli(&self) -> Self {
        Self {
            nanos: divide_away(self.nanos, MILLI).saturating_mul(MILLI),
            format: self.format,
            verbatim: None,
        }
    }

    /// The sum, in the notation of `self` unless `self` is zero.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combined(other, self.nanos.saturating_add(other.nanos))
    }

    /// The difference, negative if `other` is larger, in the notation of `self` unless `self` is zero.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.combined(other, self.nanos.saturating_sub(other.nanos))
    }

    fn combined(&self, other: &Self, nanos: i128) -> Self {
        let format = if self.is_zero() {
            other.format
        } else {
            self.format
        };
        Self {
            nanos,
            format,
            verbatim: None,
        }
    }

    fn canonical(&self) -> String {
        if self.nanos == 0 {
            return "0".to_owned();
        }
        let small = self.nanos.unsigned_abs() < 1024 * NANO.unsigned_abs();
        let whole = self.nanos % NANO == 0;
        match self.format {
            Format::BinarySi if !small && whole => binary_text(self.nanos / NANO),
            Format::BinarySi | Format::DecimalSi => {
                let (amount, exponent) = decimal_parts(self.nanos, 18);
                let index = usize::try_from((exponent + 9) / 3).unwrap_or(0);
                let suffix = DECIMAL_SUFFIXES.get(index).copied().unwrap_or("");
                format!("{amount}{suffix}")
            }
            Format::DecimalExponent => match decimal_parts(self.nanos, 27) {
                (amount, 0) => amount.to_string(),
                (amount, exponent) => format!("{amount}e{exponent}"),
            },
        }
    }
}

/// The number with its largest power of 1024.
fn binary_text(mut units: i128) -> String {
    let mut suffixes = BINARY_SUFFIXES.iter();
    let mut suffix = suffixes.next().copied().unwrap_or("");
    while units % 1024 == 0 {
        let Some(next) = suffixes.next() else { break };
        units /= 1024;
        suffix = next;
    }
    format!("{units}{suffix}")
}

/// The amount without trailing thousands, and the power of ten (a multiple of three) that they make.
fn decimal_parts(mut nanos: i128, largest: i32) -> (i128, i32) {
    let mut exponent = -9;
    while nanos % 1000 == 0 && exponent < largest {
        nanos /= 1000;
        exponent += 3;
    }
    (nanos, exponent)
}

fn divide_away(value: i128, by: i128) -> i128 {
    let quotient = value / by;
    if value % by == 0 {
        quotient
    } else {
        quotient + value.signum()
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// The pieces of a quantity's text.
struct Pieces<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Pieces<'a> {
    fn of(text: &'a str) -> Result<Self, QuantityParseError> {
        let digits =
            |text: &'a str| text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, rest) = digits(unsigned.trim_start_matches('0'));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", rest),
        };
        let power = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let power = power.strip_prefix(['-', '+']).unwrap_or(power);
        if !power.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(QuantityParseError::Format);
        }
        Ok(Self {
            negative: text.starts_with('-'),
            whole,
            fraction,
            suffix,
        })
    }

    /// The factor of the suffix: a power of two, or a power of ten.
    fn scale(&self) -> Result<(Format, i32), QuantityParseError> {
        let find = |table: &[&str]| table.iter().position(|known| *known == self.suffix);
        if let Some(index) = find(&DECIMAL_SUFFIXES) {
            return Ok((Format::DecimalSi, index as i32 * 3 - 9));
        }
        if let Some(index) = find(&BINARY_SUFFIXES) {
            return Ok((Format::BinarySi, index as i32 * 10));
        }
        let power = self.suffix.strip_prefix(['e', 'E']);
        let power = power.and_then(|power| power.parse::<i32>().ok());
        power.map_or(Err(QuantityParseError::Suffix), |power| {
            Ok((Format::DecimalExponent, power))
        })
    }

    /// Quirk: the conditions under which upstream keeps the original text.
    fn is_kept_verbatim(&self, format: Format, exponent: i32) -> bool {
        let whole = if self.whole.is_empty() {
            "0"
        } else {
            self.whole
        };
        let length = (whole.len() + self.fraction.len()) as i64;
        let digits = format!("{whole}{}", self.fraction);
        let Ok(value) = digits.parse::<i64>() else {
            return false;
        };
        if format == Format::BinarySi {
            let room = 15 - whole.len() as i64 - i64::from(exponent) * 3 / 10 - 1;
            return self.fraction.is_empty() && room >= 0 && value & 7 != 0;
        }
        let scale = i64::from(exponent) - self.fraction.len() as i64;
        length <= FAST_DIGITS
            && scale >= -9
            && scale % 3 == 0
            && !digits.ends_with("000")
            && !digits.starts_with('0')
    }
}

impl FromStr for Quantity {
    type Err = QuantityParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(QuantityParseError::Format);
        }
        let pieces = Pieces::of(text)?;
        let (format, exponent) = pieces.scale()?;
        let fraction = pieces.fraction.trim_end_matches('0');
        let magnitude = match format {
            Format::BinarySi => binary_nanos(pieces.whole, fraction, exponent),
            Format::DecimalSi | Format::DecimalExponent => {
                decimal_nanos(pieces.whole, fraction, exponent)?
            }
        };
        // Upstream prints a binary amount below one with decimal suffixes, and keeps that notation.
        let fractional = format == Format::BinarySi && (1..NANO).contains(&magnitude);
        let mut quantity = Self {
            nanos: if pieces.negative {
                -magnitude
            } else {
                magnitude
            },
            format: if fractional {
                Format::DecimalSi
            } else {
                format
            },
            verbatim: None,
        };
        if pieces.is_kept_verbatim(format, exponent) && quantity.canonical() != text {
            quantity.verbatim = Some(text.into());
        }
        Ok(quantity)
    }
}

/// `whole.fraction * 10^exponent` in nano-units, rounded up; an error if it is out of range.
fn decimal_nanos(whole: &str, fraction: &str, exponent: i32) -> Result<i128, QuantityParseError> {
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let power = i64::from(exponent) - fraction.len() as i64 + 9;
    if power >= 0 {
        let digits = digits
            .parse::<i128>()
            .map_err(|_| QuantityParseError::Number)?;
        let factor = u32::try_from(power)
            .ok()
            .and_then(|power| 10i128.checked_pow(power));
        let nanos = factor.and_then(|factor| digits.checked_mul(factor));
        return nanos.ok_or(QuantityParseError::Number);
    }
    let dropped = usize::try_from(-power).unwrap_or(usize::MAX);
    let kept = digits.len().saturating_sub(dropped);
    let (kept, dropped) = digits.split_at(kept);
    let kept = match kept {
        "" => 0,
        _ => kept
            .parse::<i128>()
            .map_err(|_| QuantityParseError::Number)?,
    };
    Ok(kept + i128::from(dropped.bytes().any(|byte| byte != b'0')))
}

/// `whole.fraction * 2^exponent` in nano-units, rounded up, at most the largest `i64`.
fn binary_nanos(whole: &str, fraction: &str, exponent: i32) -> i128 {
    let factor = (1i128 << exponent) * NANO;
    let whole = match whole {
        "" => Some(0),
        _ => whole.parse::<i128>().ok(),
    };
    let Some(whole) = whole.and_then(|whole| whole.checked_mul(factor)) else {
        return BINARY_LIMIT;
    };
    // As many fraction digits as keep the product exact; dropped digits still round up.
    let mut kept = fraction.len().min(30);
    while kept > 0 {
        let digits = fraction.get(..kept).unwrap_or("").parse::<i128>().ok();
        let Some(product) = digits.and_then(|digits| digits.checked_mul(factor)) else {
            kept -= 1;
            continue;
        };
        let power = 10i128.pow(kept as u32);
        let exact = product % power == 0 && kept == fraction.len();
        return (whole + product / power + i128::from(!exact)).min(BINARY_LIMIT);
    }
    whole.min(BINARY_LIMIT)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verbatim {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.canonical()),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// A text or a JSON number, as upstream accepts both.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            other => return Err(de::Error::custom(format!("{other} is not a quantity"))),
        };
        text.trim().parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
