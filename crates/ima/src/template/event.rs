//! What is measured: all that a template's fields may be made of.

use crate::{Digest, HashAlgo};

/// Something to be recorded. Fields a template does not have are not looked at.
///
/// Made by [`Event::file`], [`Event::buffer`] or [`Event::violation`]; further fields are set with struct update.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The content's digest (fields `d-ng`, `d-ngv2`). Of a violation only its algorithm matters, which is the default one.
    pub digest: Digest,
    /// What kind of digest that is (field `d-ngv2`).
    pub kind: DigestKind,
    /// The content's SHA-1 or MD5 digest for field `d`, where `digest` is neither.
    pub legacy_digest: Option<Digest>,
    /// Path, buffer name or `boot_aggregate`, as it is: spaces and what ends a line are replaced when it is stored.
    pub name: &'a [u8],
    /// The whole value of `security.ima` (field `sig`); a kernel passes none for violations.
    pub label: Option<&'a [u8]>,
    /// The whole value of `security.evm` (fields `evmsig`, and `sig` where `label` is no signature).
    pub evm: Option<&'a [u8]>,
    /// A buffer event's content, or its digest's bytes (field `buf`).
    pub buf: Option<&'a [u8]>,
    /// The appended signature (fields `d-modsig`, `modsig`).
    pub modsig: Option<Modsig<'a>>,
    /// The measured file (fields `iuid`, `igid`, `imode`; `n` cuts a long path of a file to its last component).
    pub file: Option<FileAttrs>,
    /// Names and values of the EVM-protected attributes on the file, in EVM's order (fields `xattr...`).
    pub xattrs: &'a [(&'a [u8], &'a [u8])],
    /// Whether this is a violation: zeros in the list, ones in the PCR.
    pub violation: bool,
}

/// What a digest was computed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DigestKind {
    /// The content.
    Ima,
    /// The fs-verity descriptor.
    Verity,
}

impl DigestKind {
    /// The prefix in `d-ngv2`, without its colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ima => "ima",
            Self::Verity => "verity",
        }
    }
}

/// Attributes of a measured file, as its filesystem's user namespace sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAttrs {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `st_mode` with its type bits (0100644).
    pub mode: u16,
}

/// A signature appended to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modsig<'a> {
    /// Digest of the content without the signature, by the signature's algorithm.
    pub digest: Digest,
    /// The PKCS#7 message, DER.
    pub der: &'a [u8],
}

impl<'a> Event<'a> {
    /// A file with this content digest, opened by this name.
    pub fn file(digest: Digest, name: &'a [u8], file: FileAttrs) -> Self {
        Self { file: Some(file), ..Self::plain(digest, name) }
    }

    /// A buffer with this digest; `buf` is the buffer, or its digest's bytes where that is asked for.
    pub fn buffer(digest: Digest, name: &'a [u8], buf: &'a [u8]) -> Self {
        Self { buf: Some(buf), ..Self::plain(digest, name) }
    }

    /// The list's first entry, with the digest [`boot_aggregate`](crate::boot_aggregate) gives, or zero without a TPM.
    pub fn boot_aggregate(digest: Digest) -> Self {
        Self::plain(digest, b"boot_aggregate")
    }

    /// A violation on the file opened by this name.
    pub fn violation(default_algo: HashAlgo, name: &'a [u8], file: FileAttrs) -> Self {
        Self { file: Some(file), violation: true, ..Self::plain(Digest::zero(default_algo), name) }
    }

    fn plain(digest: Digest, name: &'a [u8]) -> Self {
        Self {
            digest,
            kind: DigestKind::Ima,
            legacy_digest: None,
            name,
            label: None,
            evm: None,
            buf: None,
            modsig: None,
            file: None,
            xattrs: &[],
            violation: false,
        }
    }
}
