//! Numbers as Redis reads and writes them.

/// A decimal integer in its only spelling: no sign but `-`, no leading zeros, no white space (`string2ll`).
#[must_use]
pub fn integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_plain {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A decimal number with up to 17 digits after the point, the precision in which Redis prints the sums of INCRBYFLOAT.
/// Exact: sums of decimals are decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// In units of 10^-17.
    units: i128,
}

const PLACES: i32 = 17;
/// Digits that fit: 21 before the point and 17 after.
const DIGITS_MAX: i32 = 38;

impl Decimal {
    /// Reads `[-+]digits[.digits][e[-+]digits]`; further digits after the 17th place are dropped. `None` if it is no such
    /// number or 10^20 and more.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&text[..at], exponent(&text[at + 1..])?),
            None => (text, 0),
        };
        let (is_negative, digits) = match mantissa {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
            Some(at) => (&digits[..at], &digits[at + 1..]),
            None => (digits, &digits[..0]),
        };
        if whole.is_empty() && fraction.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut units: i128 = 0;
        // The power of ten of the digit at hand, in units.
        let mut power = i32::try_from(whole.len()).ok()? - 1 + exponent + PLACES;
        for digit in whole.iter().chain(fraction) {
            let value = i128::from(digit.wrapping_sub(b'0'));
            if value > 9 {
                return None;
            }
            if value > 0 && power >= 0 {
                if power >= DIGITS_MAX - 1 {
                    return None;
                }
                units += value * 10_i128.pow(power.unsigned_abs());
            }
            power -= 1;
        }
        Some(Self {
            units: if is_negative { -units } else { units },
        })
    }

    /// The exact sum, `None` when it does not fit.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let units = self.units.checked_add(other.units)?;
        (units.unsigned_abs() < 10_u128.pow(DIGITS_MAX.unsigned_abs() - 1))
            .then_some(Self { units })
    }
}

impl std::fmt::Display for Decimal {
    /// Without zeros at the end, and without a point if nothing follows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scale = 10_u128.pow(PLACES.unsigned_abs());
        let magnitude = self.units.unsigned_abs();
        if self.units < 0 {
            f.write_str("-")?;
        }
        write!(f, "{}", magnitude / scale)?;
        let fraction = magnitude % scale;
        if fraction == 0 {
            return Ok(());
        }
        let digits = format!("{fraction:017}");
        write!(f, ".{}", digits.trim_end_matches('0'))
    }
}

/// Longer texts are no numbers that anybody counts with.
const TEXT_BYTES_MAX: usize = 256;
const EXPONENT_MAX: i32 = 400;

fn exponent(text: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(text).ok()?;
    let value: i32 = text.parse().ok()?;
    (value.abs() <= EXPONENT_MAX).then_some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn an_integer_has_one_spelling() {
        for (text, value) in [
            ("0", 0),
            ("-1", -1),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(integer(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "-0",
            "01",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "9223372036854775808",
            "1e3",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn decimals_are_read_and_printed_as_redis_does() {
        for (text, printed) in [
            ("10.50", "10.5"),
            ("5.0e3", "5000"),
            ("-0", "0"),
            ("-1.5", "-1.5"),
            (".5", "0.5"),
            ("3.", "3"),
            ("1e-17", "0.00000000000000001"),
            ("1e-18", "0"),
            ("0e300", "0"),
        ] {
            assert_eq!(
                Decimal::parse(text.as_bytes()).unwrap().to_string(),
                printed,
                "{text}"
            );
        }
        for text in [
            "", ".", "abc", "1.2.3", "1e", "1e+", "nan", "inf", "1e300", "--1", "1 ",
        ] {
            assert_eq!(Decimal::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn sums_are_exact() {
        let sum = |a: &str, b: &str| {
            Decimal::parse(a.as_bytes())
                .unwrap()
                .plus(Decimal::parse(b.as_bytes()).unwrap())
                .map(|sum| sum.to_string())
        };
        assert_eq!(sum("0.1", "0.2").unwrap(), "0.3");
        assert_eq!(sum("10.50", "-5").unwrap(), "5.5");
        assert_eq!(sum("99999999999999999999", "1"), None);
    }
}
