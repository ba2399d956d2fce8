//! The kernel's requests, from bytes to types.
//!
//! Nothing here trusts a length: a request that ends too early, whose names have no end or whose sizes point beyond it is
//! refused as [`Malformed`], and no input makes this panic or allocate. Bytes behind what is known are left alone: newer
//! kernels add fields at the end, and only where INIT agreed to it.
//!
//! Source: include/uapi/linux/fuse.h, protocol 7.45; native byte order.

use super::abi::IN_HEADER_LEN;
use super::fields::Fields;
pub use super::fields::Malformed;
pub use super::operation::{Forgets, NewFile, Offer, Operation};
use crate::fs::{Caller, Ino};

/// What was agreed on at INIT and changes how requests are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dialect {
    /// SETXATTR has a second word of flags (`FUSE_SETXATTR_EXT`).
    pub setxattr_ext: bool,
}

/// `struct fuse_in_header`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What is asked for.
    pub opcode: u32,
    /// The request's number, which the answer repeats.
    pub unique: u64,
    /// The node it is about.
    pub node: Ino,
    /// Who asks.
    pub caller: Caller,
    /// Length of the whole request, as it says.
    length: u32,
    /// Length of the extensions at its end.
    extensions: usize,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The header.
    pub header: Header,
    /// What is asked for.
    pub operation: Operation<'a>,
}

impl<'a> Request<'a> {
    /// Reads one request, which is all of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`], of which the header may still be told by [`Header::read`].
    pub fn parse(bytes: &'a [u8], dialect: Dialect) -> Result<Self, Malformed> {
        let header = Header::read(bytes)?;
        let found = bytes.len();
        if usize::try_from(header.length) != Ok(found) {
            return Err(Malformed::Length { said: header.length, found });
        }
        let end = found.checked_sub(header.extensions).ok_or(Malformed::Truncated)?;
        let body = bytes.get(IN_HEADER_LEN..end).ok_or(Malformed::Truncated)?;
        let operation = Operation::parse(header.opcode, &mut Fields::new(body), dialect)?;
        Ok(Self { header, operation })
    }
}

impl Header {
    /// Reads the header alone, so that a request can be answered of which nothing else makes sense.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when there are not even 40 bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        let length = fields.u32()?;
        let opcode = fields.u32()?;
        let unique = fields.u64()?;
        let node = Ino(fields.u64()?);
        let (uid, gid, tid) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let extensions = usize::from(fields.u16()?) * 8;
        fields.skip::<2>()?;
        Ok(Self { opcode, unique, node, caller: Caller { tid, uid, gid }, length, extensions })
    }
}
