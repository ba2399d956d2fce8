//! Taking bytes apart, and names of a byte's length together.

use ima::{Digest, HashAlgo};

/// Bytes not read yet.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// One byte of length, then ASCII.
    pub(super) fn name(&mut self) -> Option<&'a str> {
        let length = usize::from(self.u8()?);
        std::str::from_utf8(self.take(length)?).ok().filter(|name| name.is_ascii())
    }

    /// Two bytes of length, then anything.
    pub(super) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    pub(super) fn digest(&mut self, algo: HashAlgo) -> Option<Digest> {
        Digest::new(algo, self.take(algo.digest_len())?).ok()
    }
}

/// One byte of length, then ASCII; `None` for what is longer or other.
pub(super) fn put_name(out: &mut Vec<u8>, name: &str) -> Option<()> {
    let length = u8::try_from(name.len()).ok().filter(|_| name.is_ascii())?;
    out.push(length);
    out.extend_from_slice(name.as_bytes());
    Some(())
}

/// Two bytes of length, then anything; `None` for what is longer.
pub(super) fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend_from_slice(&u16::try_from(bytes.len()).ok()?.to_le_bytes());
    out.extend_from_slice(bytes);
    Some(())
}
