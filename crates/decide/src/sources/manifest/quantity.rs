//! Amounts in manifests: rounded up to thousandths, printed in canonical form.
//!
//! In:    `100m`, `1.5Gi`, `1e3`
//! Out:   whole nano-units and the canonical text
//! Calls: defaults of this directory only; everything else uses the model's own quantity
//! Holds: no floating point
//! Upstream: staging/src/k8s.io/apimachinery/pkg/api/resource

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
const MILLI: i128 = 1_000_000;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// Not a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub(super) struct NotAQuantity;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Decimal,
    Binary,
    Exponent,
}

/// An amount and the form it was written in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quantity {
    nano: i128,
    form: Form,
}

impl Quantity {
    /// Rounded away from zero to thousandths, which is all the API keeps.
    pub(super) fn rounded_to_milli(self) -> Self {
        Self {
            nano: round_away(self.nano, MILLI),
            ..self
        }
    }
}

fn round_away(nano: i128, unit: i128) -> i128 {
    let rest = nano % unit;
    if rest == 0 {
        nano
    } else {
        nano - rest + unit * nano.signum()
    }
}

/// The multiplier of a suffix as (numerator in nano-units, form).
fn suffix(text: &str) -> Option<(i128, Form)> {
    if let Some(power) = BINARY.iter().skip(1).position(|name| *name == text) {
        return Some((NANO << (10 * (power + 1)), Form::Binary));
    }
    if let Some(power) = DECIMAL.iter().position(|name| *name == text) {
        return Some((1000_i128.pow(u32::try_from(power).ok()?), Form::Decimal));
    }
    let exponent = text.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
    let power = u32::try_from(exponent.checked_add(9)?).ok()?;
    Some((10_i128.checked_pow(power)?, Form::Exponent))
}

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(NotAQuantity);
        }
        let (multiplier, form) = suffix(unit).ok_or(NotAQuantity)?;
        let fraction = fraction.trim_end_matches('0');
        let digits: i128 = match format!("{whole}{fraction}").as_str() {
            "" => 0,
            digits => digits.parse().map_err(|_| NotAQuantity)?,
        };
        let scale = u32::try_from(fraction.len())
            .ok()
            .and_then(|power| 10_i128.checked_pow(power))
            .ok_or(NotAQuantity)?;
        let scaled = digits.checked_mul(multiplier).ok_or(NotAQuantity)?;
        let nano = scaled / scale + i128::from(scaled % scale != 0);
        Ok(Self {
            nano: if negative { -nano } else { nano },
            form,
        })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.nano.abs() < 1024 * NANO;
        if self.nano == 0 {
            f.write_str("0")
        } else if self.form == Form::Binary && !small {
            let mut amount = round_away(self.nano, NANO) / NANO;
            let mut names = BINARY.iter();
            let mut name = names.next().copied().unwrap_or_default();
            while amount % 1024 == 0 {
                let Some(next) = names.next() else { break };
                name = next;
                amount /= 1024;
            }
            write!(f, "{amount}{name}")
        } else {
            let mut amount = self.nano;
            let mut power = 0_usize;
            while amount % 1000 == 0 && power + 1 < DECIMAL.len() {
                amount /= 1000;
                power += 1;
            }
            match (self.form, power) {
                (Form::Exponent, 3) => write!(f, "{amount}"),
                (Form::Exponent, power) => {
                    write!(f, "{amount}e{}", 3 * i64::try_from(power).unwrap_or(0) - 9)
                }
                (_, power) => write!(f, "{amount}{}", DECIMAL.get(power).unwrap_or(&"")),
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
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
        self.nano.cmp(&other.nano)
    }
}
