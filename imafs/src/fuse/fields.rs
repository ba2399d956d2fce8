//! Reading a request's fields one after the other. Every step is checked against the end; nothing is allocated.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The bytes are not what the protocol has for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A field runs past the end.
    #[error("the request ends within a field")]
    Truncated,
    /// A name has no zero byte at its end.
    #[error("a name has no end")]
    Unterminated,
    /// The length in the header is not that of the request.
    #[error("the header says {said} bytes, and there are {found}")]
    Length {
        /// What the header says.
        said: u32,
        /// What was read.
        found: usize,
    },
}

/// What is left of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    /// A word that the C side takes for a signed one.
    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_ne_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_ne_bytes)
    }

    /// Leaves out `N` bytes.
    pub(super) fn skip<const N: usize>(&mut self) -> Result<(), Malformed> {
        self.array::<N>().map(drop)
    }

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: u32) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(count).map_err(|_| Malformed::Truncated)?;
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A name, without the zero byte that ends it.
    pub(super) fn name(&mut self) -> Result<&'a OsStr, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed::Unterminated)?;
        let (name, rest) = self.0.split_at_checked(end).ok_or(Malformed::Unterminated)?;
        self.0 = rest.get(1..).unwrap_or_default();
        Ok(OsStr::from_bytes(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_each_other_and_end_where_the_bytes_do() {
        let mut bytes = vec![1, 0, 2, 0, 0, 0];
        bytes.extend_from_slice(&3_u64.to_ne_bytes());
        bytes.extend_from_slice(b"name\0\0rest");
        let mut fields = Fields::new(&bytes);
        assert_eq!((fields.u16(), fields.u32(), fields.u64()), (Ok(1), Ok(2), Ok(3)));
        assert_eq!(fields.name(), Ok(OsStr::new("name")));
        assert_eq!(fields.name(), Ok(OsStr::new("")));
        assert_eq!(fields.name(), Err(Malformed::Unterminated));
        assert_eq!(fields.bytes(2), Ok(&b"re"[..]));
        assert_eq!((fields.bytes(3), fields.u32()), (Err(Malformed::Truncated), Err(Malformed::Truncated)));
        assert_eq!((fields.skip::<2>(), fields.skip::<1>()), (Ok(()), Err(Malformed::Truncated)));
    }
}
