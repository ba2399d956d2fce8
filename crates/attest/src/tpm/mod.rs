//! What a TPM says, read without a TPM: the few structures that a quote is made of.
//!
//! Every reader takes exactly one structure and refuses what is left over. Integers are big-endian, and every length is
//! checked against what is there before anything is taken.
//!
//! Follows TCG TPM 2.0 Library, part 2.

mod attest;
mod public;
mod signature;

pub use attest::{Attest, ClockInfo, PcrSelection};
pub use public::{KeyMaterial, Public};
pub use signature::{Scheme, Signature, verify};

/// `TPM_ALG_NULL`.
const ALG_NULL: u16 = 0x0010;

/// Why bytes are not the structure that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// They end within it.
    #[error("it ends too early")]
    Truncated,
    /// They go on behind it.
    #[error("bytes follow it")]
    Trailing,
    /// A number that stands for something not known here, or not used so.
    #[error("{what} {value:#x} is not known here")]
    Unknown {
        /// What it should name.
        what: &'static str,
        /// The number.
        value: u32,
    },
    /// More of something than there can be.
    #[error("{0} is longer than it can be")]
    TooLong(&'static str),
}

/// Takes a structure apart from its beginning.
#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, FormatError> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A `TPM2B` of at most `limit` bytes.
    fn sized(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], FormatError> {
        let length = usize::from(self.u16()?);
        if length > limit {
            return Err(FormatError::TooLong(what));
        }
        self.take(length)
    }

    fn end(self) -> Result<(), FormatError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FormatError::Trailing) }
    }
}
