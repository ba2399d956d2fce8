//! Small numbers with a meaning: key ids and PCR indices.

use std::{fmt, str::FromStr};

/// The last four bytes of a certificate's subject key identifier, as a big-endian number.
///
/// Displays as eight lowercase hex digits, the way the kernel searches for it (`id:` and these digits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(
    /// The number itself.
    pub u32,
);

/// The text is not exactly eight hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id is eight hexadecimal digits")]
pub struct KeyIdError;

impl KeyId {
    /// The key id of a subject key identifier; `None` where that is shorter than four bytes.
    pub fn from_ski(ski: &[u8]) -> Option<Self> {
        ski.last_chunk().map(|tail| Self(u32::from_be_bytes(*tail)))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(KeyIdError);
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| KeyIdError)
    }
}

/// The index of a platform configuration register, 0 to 63.
///
/// 63 is IMA's own bound, the number of bits it remembers per inode (`INVALID_PCR`, security/integrity/ima/ima.h);
/// a TPM has 24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcrIndex(u8);

impl PcrIndex {
    /// IMA's PCR by default, and the one violations always go to (`CONFIG_IMA_MEASURE_PCR_IDX`).
    pub const DEFAULT: Self = Self(10);

    /// The index, or `None` above 63.
    pub fn new(index: u32) -> Option<Self> {
        u8::try_from(index).ok().filter(|index| *index < 64).map(Self)
    }

    /// The number.
    pub const fn value(self) -> u32 {
        self.0 as u32
    }
}

impl Default for PcrIndex {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for PcrIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_id_is_the_tail_of_the_identifier() {
        let ski = hex::decode("6666df2515620b7ba97381e780460de5d2d8a49d").unwrap();
        assert_eq!(KeyId::from_ski(&ski).unwrap().to_string(), "d2d8a49d");
        assert_eq!(KeyId::from_ski(&[1, 2, 3]), None);
        assert_eq!(KeyId(0xa49d).to_string(), "0000a49d");
    }

    #[test]
    fn key_id_text_is_eight_hex_digits() {
        assert_eq!("d2d8a49d".parse(), Ok(KeyId(0xd2d8_a49d)));
        for refused in ["", "d2d8a49", "d2d8a49d0", "+2d8a49d", "0xd2d8a4", "d2d8a49g"] {
            assert_eq!(refused.parse::<KeyId>(), Err(KeyIdError), "{refused:?}");
        }
    }

    #[test]
    fn pcr_index_ends_at_63() {
        assert_eq!(PcrIndex::new(63).map(PcrIndex::value), Some(63));
        assert_eq!(PcrIndex::new(64), None);
        assert_eq!(PcrIndex::new(256 + 10), None);
        assert_eq!(PcrIndex::default().to_string(), "10");
    }
}
