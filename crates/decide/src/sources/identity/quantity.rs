//! A quantity as Go holds it in memory, which is what a pod's hash sees: not its value but how it was parsed.
//!
//! In: the manifest's text. Out: mantissa and decimal scale where 64 bits do, else a big decimal; the text itself if Go takes
//! it as canonical; the format. Called by `identity/dump.rs`. Not for arithmetic: the model's quantity is for that.
//! Texts beyond 128 bits of billionths are refused.
//!
//! Upstream: staging/src/k8s.io/apimachinery/pkg/api/resource/quantity.go, amount.go, suffix.go

use std::fmt::{self, Display, Formatter};

/// Decimal places of the smallest amount, a billionth.
const NANO_PLACES: i64 = 9;
/// Decimal places that lists of resources are rounded up to.
const MILLI_PLACES: i64 = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    /// Never set: the field is absent.
    #[default]
    Unset,
    DecimalSI,
    BinarySI,
    DecimalExponent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    /// `value * 10^scale`.
    Small { value: i64, scale: i64 },
    /// `magnitude / 10^places`, negative if so marked.
    Big {
        negative: bool,
        magnitude: u128,
        places: i64,
    },
}

impl Default for Amount {
    fn default() -> Self {
        Self::Small { value: 0, scale: 0 }
    }
}

/// A parsed quantity; the default is the absent one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GoQuantity {
    amount: Amount,
    /// The text, if parsing found it canonical.
    text: String,
    format: Format,
}

/// A text taken apart.
struct Digits<'t> {
    negative: bool,
    /// Digits before the point without leading zeros, "0" if none are left.
    whole: &'t str,
    fraction: &'t str,
    suffix: &'t str,
}

impl GoQuantity {
    /// `None` if the text is no quantity, or one too large for this type.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        if text == "0" {
            return Some(Self {
                text: text.to_owned(),
                format: Format::DecimalSI,
                ..Self::default()
            });
        }
        let parts = Digits::split(text);
        let (base, exponent, format) = interpret(parts.suffix)?;
        let digits = format!("{}{}", parts.whole, parts.fraction);
        let places = i64::try_from(parts.fraction.len()).ok()?;
        if has_fast_path(&parts, exponent, format) {
            let scale = if base == 10 { exponent } else { 0 } - places;
            if scale >= -NANO_PLACES {
                let value: i64 = digits.parse().ok()?;
                let factor = if base == 2 { 1_i64 << exponent } else { 1 };
                if let Some(product) = value.checked_mul(factor) {
                    let canonical = match format {
                        Format::BinarySI => value & 7 != 0,
                        Format::Unset | Format::DecimalSI | Format::DecimalExponent => {
                            scale % 3 == 0 && !digits.ends_with("000") && !digits.starts_with('0')
                        }
                    };
                    let value = if parts.negative { -product } else { product };
                    let text = if canonical {
                        text.to_owned()
                    } else {
                        String::new()
                    };
                    return Some(Self {
                        amount: Amount::Small { value, scale },
                        text,
                        format,
                    });
                }
            }
        }
        let magnitude: u128 = digits.parse().ok()?;
        let (magnitude, places) = match base {
            2 => (magnitude.checked_mul(1 << exponent)?, places),
            _ => (magnitude, places.checked_sub(exponent)?),
        };
        Self::big(parts.negative, magnitude, places, format)
    }

    fn big(negative: bool, magnitude: u128, places: i64, format: Format) -> Option<Self> {
        const LARGEST: u128 = i64::MAX as u128;
        const ONE: u128 = 1_000_000_000;
        if magnitude == 0 {
            let amount = Amount::Big {
                negative: false,
                magnitude,
                places,
            };
            return Some(Self {
                amount,
                text: String::new(),
                format,
            });
        }
        let (mut magnitude, mut places, mut format) = (
            round_up(magnitude, places, NANO_PLACES)?,
            NANO_PLACES,
            format,
        );
        if format == Format::BinarySI && magnitude > LARGEST * ONE {
            (magnitude, places) = (LARGEST, 0);
        } else if format == Format::BinarySI && magnitude < ONE {
            format = Format::DecimalSI;
        }
        Some(Self {
            amount: Amount::Big {
                negative,
                magnitude,
                places,
            },
            text: String::new(),
            format,
        })
    }

    /// The quantity after the API's defaulting of a resource list; `None` if it outgrows this type.
    pub(super) fn round_up_to_milli(mut self) -> Option<Self> {
        self.amount = match self.amount {
            amount @ Amount::Small { scale, .. } if scale >= -MILLI_PLACES => {
                return Some(Self { amount, ..self });
            }
            Amount::Small { value, scale } => {
                let magnitude = round_up(value.unsigned_abs().into(), -scale, MILLI_PLACES)?;
                Amount::Small {
                    value: i64::try_from(magnitude).ok()? * value.signum(),
                    scale: -MILLI_PLACES,
                }
            }
            Amount::Big {
                negative,
                magnitude,
                places,
            } => Amount::Big {
                negative,
                magnitude: round_up(magnitude, places, MILLI_PLACES)?,
                places: MILLI_PLACES,
            },
        };
        self.text.clear();
        Some(self)
    }
}

impl<'t> Digits<'t> {
    fn split(text: &'t str) -> Self {
        let digits_end = |text: &str| {
            text.find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len())
        };
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, rest) = unsigned.split_at(digits_end(unsigned));
        let whole = match whole.trim_start_matches('0') {
            "" => "0",
            whole => whole,
        };
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits_end(rest)),
            None => ("", rest),
        };
        Self {
            negative: text.starts_with('-'),
            whole,
            fraction,
            suffix,
        }
    }
}

/// Base (2 or 10), exponent and format of a suffix.
fn interpret(suffix: &str) -> Option<(u32, i64, Format)> {
    let decimal = |exponent| Some((10, exponent, Format::DecimalSI));
    let binary = |exponent| Some((2, exponent, Format::BinarySI));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some((10, exponent.into(), Format::DecimalExponent))
        }
    }
}

/// Whether Go tries 64 bits: a guess from the number of digits.
fn has_fast_path(parts: &Digits<'_>, exponent: i64, format: Format) -> bool {
    let (whole, fraction) = (parts.whole.len(), parts.fraction.len());
    match format {
        Format::BinarySI => {
            fraction == 0 && i64::try_from(whole).is_ok_and(|whole| whole <= 14 - exponent * 3 / 10)
        }
        Format::Unset | Format::DecimalSI | Format::DecimalExponent => whole + fraction <= 18,
    }
}

/// `magnitude / 10^places` with `wanted` places, away from zero where that loses something.
fn round_up(magnitude: u128, places: i64, wanted: i64) -> Option<u128> {
    let ten_to = |exponent: i64| 10_u128.checked_pow(u32::try_from(exponent).ok()?);
    if magnitude == 0 {
        Some(0)
    } else if places <= wanted {
        magnitude.checked_mul(ten_to(wanted.checked_sub(places)?)?)
    } else {
        Some(ten_to(places - wanted).map_or(1, |divisor| magnitude.div_ceil(divisor)))
    }
}

impl Display for GoQuantity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (value, scale) = match self.amount {
            Amount::Small { value, scale } => (value, scale),
            Amount::Big { .. } => (0, 0),
        };
        write!(
            f,
            "{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} d:(resource.infDecAmount){{Dec:(*inf.Dec)"
        )?;
        match self.amount {
            Amount::Small { .. } => write!(f, "<nil>}}")?,
            Amount::Big {
                negative,
                magnitude,
                places,
            } => {
                let (low, high) = (magnitude & u128::from(u64::MAX), magnitude >> 64);
                let words = match (high, low) {
                    (0, 0) => "<nil>".to_owned(),
                    (0, low) => format!("[{low}]"),
                    (high, low) => format!("[{low} {high}]"),
                };
                write!(
                    f,
                    "{{unscaled:(big.Int){{neg:(bool){negative} abs:(big.nat){words}}} scale:(inf.Scale){places}}}}}"
                )?;
            }
        }
        let format = match self.format {
            Format::Unset => "",
            Format::DecimalSI => "DecimalSI",
            Format::BinarySI => "BinarySI",
            Format::DecimalExponent => "DecimalExponent",
        };
        write!(
            f,
            " s:(string){} Format:(resource.Format){format}}}",
            self.text
        )
    }
}
