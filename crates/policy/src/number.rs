//! Numbers and UUIDs as the kernel's policy parser reads them (`kstrtoul`, `kstrtoint`, `uuid_parse`).
//!
//! A leading `+` and leading zeros are accepted, spaces never. Overflow is told apart from what is
//! not a number, because the kernel answers ERANGE for the one and EINVAL for the other; and it
//! notices the overflow first, even with letters behind the digits.

/// Why a text is not the number asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberError {
    /// No digits, or something else besides digits.
    NotANumber,
    /// More than 64 bits.
    Overflow,
}

/// Reads an unsigned decimal number of up to 64 bits.
pub(crate) fn decimal(text: &str) -> Result<u64, NumberError> {
    digits(text.strip_prefix('+').unwrap_or(text), 10)
}

/// Reads an unsigned hexadecimal number of up to 64 bits, with or without `0x`.
pub(crate) fn hexadecimal(text: &str) -> Result<u64, NumberError> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits_only = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    digits(digits_only, 16)
}

/// Reads a decimal number that may be negative; `None` for anything else, out of range included.
pub(crate) fn signed(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(magnitude) => {
            let magnitude = digits(magnitude, 10).ok().and_then(|n| i64::try_from(n).ok())?;
            magnitude.checked_neg()
        }
        None => decimal(text).ok().and_then(|n| i64::try_from(n).ok()),
    }
}

fn digits(text: &str, radix: u32) -> Result<u64, NumberError> {
    let mut value: u64 = 0;
    let mut rest = text.chars();
    let mut seen = 0usize;
    let mut overflow = false;
    let mut trailing = false;
    for c in rest.by_ref() {
        let Some(digit) = c.to_digit(radix) else {
            trailing = true;
            break;
        };
        seen += 1;
        match value.checked_mul(u64::from(radix)).and_then(|v| v.checked_add(u64::from(digit))) {
            Some(next) => value = next,
            None => overflow = true,
        }
    }
    if overflow {
        return Err(NumberError::Overflow);
    }
    if seen == 0 || trailing {
        return Err(NumberError::NotANumber);
    }
    Ok(value)
}

/// Reads a UUID of 8-4-4-4-12 hexadecimal digits; what stands behind the 36th character is ignored.
pub(crate) fn uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes().get(..36)?;
    let mut nibbles = [0u8; 32];
    let mut slots = nibbles.iter_mut();
    for (index, byte) in text.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        *slots.next()? = u8::try_from(char::from(*byte).to_digit(16)?).ok()?;
    }
    let mut uuid = [0u8; 16];
    for (byte, pair) in uuid.iter_mut().zip(nibbles.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = high << 4 | low;
    }
    Some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_numbers_follow_kstrtoul() {
        use NumberError::{NotANumber, Overflow};
        let table: [(&str, Result<u64, NumberError>); 13] = [
            ("0", Ok(0)),
            ("+5", Ok(5)),
            ("010", Ok(10)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("18446744073709551616", Err(Overflow)),
            ("99999999999999999999999zz", Err(Overflow)),
            ("", Err(NotANumber)),
            ("+", Err(NotANumber)),
            ("-1", Err(NotANumber)),
            ("++1", Err(NotANumber)),
            ("0x10", Err(NotANumber)),
            ("5 ", Err(NotANumber)),
            ("root", Err(NotANumber)),
        ];
        for (text, expected) in table {
            assert_eq!(decimal(text), expected, "{text:?}");
        }
    }

    #[test]
    fn hexadecimal_numbers_may_carry_a_prefix() {
        assert_eq!(hexadecimal("0xef53"), Ok(0xef53));
        assert_eq!(hexadecimal("EF53"), Ok(0xef53));
        assert_eq!(hexadecimal("+0Xef53"), Ok(0xef53));
        assert_eq!(hexadecimal("0x"), Err(NumberError::NotANumber));
        assert_eq!(hexadecimal("zz"), Err(NumberError::NotANumber));
        assert_eq!(hexadecimal("0x10000000000000000"), Err(NumberError::Overflow));
    }

    #[test]
    fn signed_numbers_take_one_sign() {
        assert_eq!(signed("-1"), Some(-1));
        assert_eq!(signed("-0"), Some(0));
        assert_eq!(signed("+63"), Some(63));
        assert_eq!(signed("-+1"), None);
        assert_eq!(signed("x"), None);
        assert_eq!(signed("9223372036854775808"), None);
    }

    #[test]
    fn uuids_need_their_dashes_and_ignore_what_follows() {
        let expected = Some([
            0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
        ]);
        assert_eq!(uuid("01234567-89ab-cdef-0123-456789abcdef"), expected);
        assert_eq!(uuid("01234567-89AB-CDEF-0123-456789ABCDEFtail"), expected);
        assert_eq!(uuid("0123456789abcdef0123456789abcdef"), None);
        assert_eq!(uuid("0123"), None);
        assert_eq!(uuid("01234567-89ab-cdef-0123-456789abcdeg"), None);
    }
}
