//! Amounts of resources, until the model's own type is merged: same call shape, so that swapping it is one `use` line.
//!
//! In:    text of a quantity (`100m`, `32Mi`, `1e3`)
//! Out:   exact nano-units, rounded up where units are coarser
//! Calls: resources.rs and its tests
//! Holds: no floating point
//! Upstream: staging/src/k8s.io/apimachinery/pkg/api/resource

use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
const MOST: i128 = (i64::MAX as i128) * NANO;

/// An exact amount.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity {
    nanos: i128,
}

impl Quantity {
    /// Whole units, rounded up.
    pub(crate) fn value(&self) -> i64 {
        round_up(self.nanos, NANO)
    }

    /// Thousandths, rounded up.
    pub(crate) fn milli_value(&self) -> i64 {
        round_up(self.nanos, 1_000_000)
    }

    /// The exact amount.
    pub(crate) const fn nanos(&self) -> i128 {
        self.nanos
    }

    /// True for nothing at all.
    pub(crate) const fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// The sum.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }
}

fn round_up(nanos: i128, unit: i128) -> i64 {
    let whole = nanos / unit;
    let whole = if nanos % unit == 0 {
        whole
    } else {
        whole + nanos.signum()
    };
    i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
}

/// Multiplier of a suffix, in nano-units.
fn suffix_nanos(suffix: &str) -> Option<i128> {
    let decimal = |power: u32| 10_i128.checked_pow(power);
    let binary = |power: u32| {
        1024_i128
            .checked_pow(power)
            .and_then(|units| units.checked_mul(NANO))
    };
    match suffix {
        "n" => decimal(0),
        "u" => decimal(3),
        "m" => decimal(6),
        "" => decimal(9),
        "k" => decimal(12),
        "M" => decimal(15),
        "G" => decimal(18),
        "T" => decimal(21),
        "P" => decimal(24),
        "E" => decimal(27),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            decimal(u32::try_from(exponent.checked_add(9)?).ok()?)
        }
    }
}

impl FromStr for Quantity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (sign, text) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(());
        }
        let unit = suffix_nanos(suffix).ok_or(())?;
        let digits: i128 = format!("0{whole}{fraction}").parse().map_err(|_| ())?;
        let divisor = u32::try_from(fraction.len())
            .ok()
            .and_then(|places| 10_i128.checked_pow(places))
            .ok_or(())?;
        let nanos = match digits.checked_mul(unit) {
            Some(product) => (product / divisor + i128::from(product % divisor != 0)).min(MOST),
            None => MOST,
        };
        Ok(Self {
            nanos: sign * nanos,
        })
    }
}
