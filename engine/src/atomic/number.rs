//! Numbers as Apache Pegasus reads them from values: C's `strtoll` with base 0.

/// The number that all of `text` spells: blanks, a sign, then decimal digits, `0x` and hexadecimal ones, or `0` and octal
/// ones. `None` if it is empty, goes on behind the number, or is out of the range of 64 bits.
#[must_use]
pub fn parse_number(text: &[u8]) -> Option<i64> {
    let blanks = text.iter().take_while(|byte| is_blank(**byte)).count();
    let rest = text.get(blanks..)?;
    let (is_negative, rest) = match rest.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, rest),
    };
    let (base, digits) = match rest {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits),
        [b'0', _, ..] => (8, rest),
        _ => (10, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let magnitude = digits.iter().try_fold(0_i128, |sum, byte| {
        let digit = char::from(*byte).to_digit(base)?;
        let sum = sum * i128::from(base) + i128::from(digit);
        (sum <= -i128::from(i64::MIN)).then_some(sum)
    })?;
    i64::try_from(if is_negative { -magnitude } else { magnitude }).ok()
}

/// As C's `isspace` in its own locale.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_strtoll_does() {
        let numbers: [(&[u8], i64); 14] = [
            (b"0", 0),
            (b"-0", 0),
            (b"42", 42),
            (b"+42", 42),
            (b" \t\n\x0b\x0c\r-42", -42),
            (b"010", 8),
            (b"-017", -15),
            (b"00", 0),
            (b"0x1f", 31),
            (b"-0X1F", -31),
            (b"9223372036854775807", i64::MAX),
            (b"-9223372036854775808", i64::MIN),
            (b"-0x8000000000000000", i64::MIN),
            (b"0777777777777777777777", i64::MAX),
        ];
        for (text, number) in numbers {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(parse_number(text), Some(number), "{shown}");
        }
    }

    #[test]
    fn what_is_no_number_as_a_whole_is_refused() {
        let others: [&[u8]; 18] = [
            b"",
            b" ",
            b"-",
            b"+",
            b"abc",
            b"1 ",
            b"1a",
            b"1\0",
            b"--1",
            b"+-1",
            b"- 1",
            b"08",
            b"0x",
            b"0xg",
            b"0b1",
            b"1.0",
            b"9223372036854775808",
            b"-9223372036854775809",
        ];
        for text in others {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(parse_number(text), None, "{shown}");
        }
        assert_eq!(parse_number(&[b'9'; 1000]), None);
    }

    proptest! {
        #[test]
        fn every_number_is_read_back_in_each_base(number: i64) {
            let sign = if number < 0 { "-" } else { "" };
            let magnitude = number.unsigned_abs();
            for text in [format!("{number}"), format!("{sign}0x{magnitude:x}"), format!("{sign}0{magnitude:o}")] {
                prop_assert_eq!(parse_number(text.as_bytes()), Some(number), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_number(&text);
        }
    }
}
