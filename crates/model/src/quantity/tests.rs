//! Tables of Go's behaviour and properties of `Quantity`.
//!
//! Upstream: staging/src/k8s.io/apimachinery/pkg/api/resource/quantity_test.go

use super::*;
use proptest::prelude::*;

fn quantity(text: &str) -> Quantity {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn texts_print_in_gos_canonical_form() {
    let rows = [
        ("0", "0"),
        ("0n", "0"),
        ("0Mi", "0"),
        ("-0", "0"),
        (".", "0"),
        ("1", "1"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1024Mi", "1Gi"),
        ("1025Mi", "1025Mi"),
        ("1Ki", "1Ki"),
        ("8Ki", "8Ki"),
        ("1023Ki", "1023Ki"),
        ("1.5Gi", "1536Mi"),
        ("1.5", "1500m"),
        ("0.5", "500m"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("0.1", "100m"),
        ("0.0001", "100u"),
        ("1e3", "1e3"),
        ("1E3", "1E3"),
        ("1000e3", "1e6"),
        ("1E", "1E"),
        ("1100k", "1100k"),
        ("1.1M", "1100k"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("0.0001Ki", "102400u"),
        ("1.1Ki", "1126400m"),
        ("0.000000000000000001", "1n"),
        ("-0.000000000000000001", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("9Ei", "9223372036854775807"),
        ("7Ei", "7Ei"),
        ("-2.5Mi", "-2560Ki"),
        ("123456789012345678901234567", "123456789012345678901234567"),
        ("10e-3", "10e-3"),
        ("1500e-3", "1500e-3"),
        ("1.25e0", "1250e-3"),
        // Kept as written, although not canonical.
        ("0001", "0001"),
        ("+5", "+5"),
        ("1.500", "1.500"),
        ("01Mi", "01Mi"),
        ("1.G", "1.G"),
    ];
    for (text, printed) in rows {
        assert_eq!(quantity(text).to_string(), printed, "{text}");
    }
}

#[test]
fn values_round_away_from_zero() {
    let rows = [
        ("0", 0, 0),
        ("1", 1, 1000),
        ("1m", 1, 1),
        ("1n", 1, 1),
        ("-1m", -1, -1),
        ("1500m", 2, 1500),
        ("100.5m", 1, 101),
        ("2Gi", 2_147_483_648, 2_147_483_648_000),
        ("1e3", 1000, 1_000_000),
        ("1E1", 10, 10_000),
        ("9223372036854775807", i64::MAX, i64::MAX),
        ("100E", i64::MAX, i64::MAX),
    ];
    for (text, value, milli) in rows {
        assert_eq!(quantity(text).value(), value, "{text}");
        assert_eq!(quantity(text).milli_value(), milli, "{text}");
    }
}

#[test]
fn bad_texts_are_refused_with_upstreams_reason() {
    use QuantityParseError::{Format, Number, Suffix};
    let rows = [
        ("", Format),
        (" 1", Format),
        ("1 ", Format),
        ("1.1.M", Format),
        ("1+1.0M", Format),
        ("0.1mi", Suffix),
        ("0.1am", Format),
        ("aoeu", Format),
        (".5i", Suffix),
        ("1i", Suffix),
        ("-3.01i", Suffix),
        ("1ki", Suffix),
        ("10Kib", Format),
        ("5MM", Suffix),
        ("1e40", Number),
    ];
    for (text, error) in rows {
        assert_eq!(text.parse::<Quantity>(), Err(error), "{text}");
    }
}

#[test]
fn sums_and_differences_keep_the_format_of_the_first_amount_that_is_not_zero() {
    let rows = [
        ("1Gi", "1", "1073741825", "1073741823"),
        ("1Gi", "1Gi", "2Gi", "0"),
        ("100m", "1", "1100m", "-900m"),
        ("0", "512Mi", "512Mi", "-512Mi"),
        ("1.5", "500m", "2", "1"),
    ];
    for (left, right, sum, difference) in rows {
        assert_eq!(quantity(left).plus(&quantity(right)).to_string(), sum);
        assert_eq!(
            quantity(left).minus(&quantity(right)).to_string(),
            difference
        );
    }
}

#[test]
fn json_numbers_and_texts_are_both_read() {
    for (json, printed) in [
        ("5", "5"),
        ("1.5", "1500m"),
        ("\"1Gi\"", "1Gi"),
        ("\" 1 \"", "1"),
    ] {
        let read: Quantity = serde_json::from_str(json).unwrap();
        assert_eq!(read.to_string(), printed);
    }
}

proptest! {
    #[test]
    fn what_is_printed_parses_back_to_the_same_amount_and_text(
        text in "[-+]?[0-9]{0,12}(\\.[0-9]{0,12})?(n|u|m||k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9])",
    ) {
        if let Ok(first) = text.parse::<Quantity>() {
            let printed = first.to_string();
            let second = quantity(&printed);
            prop_assert_eq!(&first, &second, "{}", printed);
            prop_assert_eq!(second.to_string(), printed);
        }
    }

    #[test]
    fn no_text_makes_the_parser_stumble(text in "\\PC{0,16}|[-+.0-9eEinumkKMGTP]{0,40}") {
        drop(text.parse::<Quantity>());
    }

    #[test]
    fn adding_and_taking_away_again_changes_nothing(left: i64, right: i64) {
        let (left, right) = (Quantity::from_milli(left), Quantity::from_milli(right));
        prop_assert_eq!(left.plus(&right).minus(&right), left);
    }
}
