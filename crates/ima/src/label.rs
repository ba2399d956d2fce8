//! Values of the extended attribute `security.ima` (and the signature form of `security.evm`): reading and writing.
//!
//! Nothing here judges. A value nobody can make sense of is an answer as well ([`ParseError`] says which), and it is
//! the appraiser who turns it into a verdict. The readers follow Linux 6.1 to the byte: longer digests than needed
//! are compared by their prefix, while a signature's length must fit exactly.
//!
//! Source: security/integrity/integrity.h, `ima_get_hash_algo` and `xattr_verify`
//! (security/integrity/ima/ima_appraise.c), `integrity_digsig_verify` (security/integrity/digsig.c), Linux 6.1.

use crate::{Digest, HashAlgo, Hasher, KeyId, UnavailableAlgo};

/// `IMA_XATTR_DIGEST`: a bare MD5 or SHA-1 digest.
pub const TYPE_DIGEST: u8 = 0x01;
/// `EVM_XATTR_HMAC`: an HMAC, in `security.evm` only.
pub const TYPE_HMAC: u8 = 0x02;
/// `EVM_IMA_XATTR_DIGSIG`: a signature over the content's digest.
pub const TYPE_SIGNATURE: u8 = 0x03;
/// `IMA_XATTR_DIGEST_NG`: an algorithm id and a digest.
pub const TYPE_DIGEST_NG: u8 = 0x04;
/// `EVM_XATTR_PORTABLE_DIGSIG`: a portable signature, in `security.evm` only.
pub const TYPE_PORTABLE_SIGNATURE: u8 = 0x05;
/// `IMA_VERITY_DIGSIG`: a signature over an fs-verity digest.
pub const TYPE_VERITY_SIGNATURE: u8 = 0x06;
/// `IMA_XATTR_LAST`: the first type that cannot be stored. (Type 0 can, although it means nothing.)
pub const TYPE_LAST: u8 = 0x07;

/// Length of `struct signature_v2_hdr`, type byte included.
const HEADER_LEN: usize = 9;
/// Length of the `01` form of MD5 as IMA once wrote it: filled up with zeros to SHA-1's length.
const PADDED_MD5_LEN: usize = 21;

/// The first byte of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LabelType {
    /// [`TYPE_DIGEST`].
    Digest,
    /// [`TYPE_HMAC`].
    Hmac,
    /// [`TYPE_SIGNATURE`].
    Signature,
    /// [`TYPE_DIGEST_NG`].
    DigestNg,
    /// [`TYPE_PORTABLE_SIGNATURE`].
    PortableSignature,
    /// [`TYPE_VERITY_SIGNATURE`].
    VeritySignature,
    /// Any other: zero, or [`TYPE_LAST`] and above.
    Other(u8),
}

impl LabelType {
    /// The type of a first byte.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            TYPE_DIGEST => Self::Digest,
            TYPE_HMAC => Self::Hmac,
            TYPE_SIGNATURE => Self::Signature,
            TYPE_DIGEST_NG => Self::DigestNg,
            TYPE_PORTABLE_SIGNATURE => Self::PortableSignature,
            TYPE_VERITY_SIGNATURE => Self::VeritySignature,
            other => Self::Other(other),
        }
    }

    /// The byte of this type.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Digest => TYPE_DIGEST,
            Self::Hmac => TYPE_HMAC,
            Self::Signature => TYPE_SIGNATURE,
            Self::DigestNg => TYPE_DIGEST_NG,
            Self::PortableSignature => TYPE_PORTABLE_SIGNATURE,
            Self::VeritySignature => TYPE_VERITY_SIGNATURE,
            Self::Other(byte) => byte,
        }
    }

    /// Whether values of this type carry a signature header.
    pub const fn is_signature(self) -> bool {
        match self {
            Self::Signature | Self::PortableSignature | Self::VeritySignature => true,
            Self::Digest | Self::Hmac | Self::DigestNg | Self::Other(_) => false,
        }
    }

    /// Whether `setxattr(2)` of `security.ima` takes a value of this type (`ima_inode_setxattr`).
    pub const fn is_storable(self) -> bool {
        self.byte() < TYPE_LAST
    }
}

/// A signature label taken apart; version 2 and version 3 share the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature<'a> {
    /// One of the three types with [`LabelType::is_signature`].
    pub label_type: LabelType,
    /// 2: over the digest. 3: over [`file_id_digest`] of it.
    pub version: u8,
    /// The hash algorithm signed with, or `None` for an id the kernel would call invalid.
    pub algo: Option<HashAlgo>,
    /// The signing key.
    pub keyid: KeyId,
    /// RSA: as long as the modulus. ECDSA: DER. At least one byte.
    pub signature: &'a [u8],
}

/// Why a label is not a signature that can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The value is empty.
    #[error("label is empty")]
    Empty,
    /// The type is none of the signatures'.
    #[error("label of type {:#04x} is not a signature", .0.byte())]
    NotASignature(LabelType),
    /// Only the type byte is there.
    #[error("signature label ends before its version")]
    NoVersion,
    /// The obsolete version 1.
    #[error("signature label has the obsolete version 1")]
    Obsolete,
    /// A version this type does not have: 0 or above 3, or anything but 3 for [`LabelType::VeritySignature`].
    #[error("signature label has unknown version {0}")]
    Version(u8),
    /// The header is cut off, no signature follows it, or the length it names is not what follows.
    #[error("signature label of {found} bytes is truncated or has bytes left over")]
    Length {
        /// The label's whole length.
        found: usize,
    },
}

/// Why a signature label cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The type is none of the signatures'.
    #[error("label of type {:#04x} is not a signature", .0.byte())]
    NotASignature(LabelType),
    /// The signature is empty or longer than the header's 16 bits can tell.
    #[error("a signature of {0} bytes does not fit into a label")]
    SignatureLength(usize),
}

/// The type of a label, or `None` for an empty one.
pub fn label_type(label: &[u8]) -> Option<LabelType> {
    label.first().copied().map(LabelType::from_byte)
}

/// The version byte of a signature label, right or wrong; `None` for other types and where it is missing.
///
/// A kernel looks at it before it looks at anything else of the signature.
pub fn signature_version(label: &[u8]) -> Option<u8> {
    label_type(label).filter(|label_type| label_type.is_signature())?;
    label.get(1).copied()
}

/// The algorithm a file with this label is hashed with, for measuring, auditing and appraising alike.
///
/// `label` is the whole value of `security.ima`, `None` when it is absent or unreadable. Whatever the label does not
/// say clearly is `default`; the algorithm returned need not be available.
///
/// A signature counts only in the version that goes with its type in 6.1: 2 for type 03, 3 for type 06.
///
/// Source: `ima_get_hash_algo`.
pub fn collection_algo(label: Option<&[u8]>, default: HashAlgo) -> HashAlgo {
    let named = match label {
        Some([TYPE_SIGNATURE, 2, id, rest @ ..]) | Some([TYPE_VERITY_SIGNATURE, 3, id, rest @ ..])
            if rest.len() + 3 > HEADER_LEN =>
        {
            HashAlgo::from_id(*id)
        }
        Some([TYPE_DIGEST_NG, id, ..]) => HashAlgo::from_id(*id),
        Some([TYPE_DIGEST, rest @ ..]) => bare_digest_algo(rest),
        _ => None,
    };
    named.unwrap_or(default)
}

/// The algorithm of a `01` label by its length: MD5 was once stored in SHA-1's twenty bytes.
fn bare_digest_algo(digest: &[u8]) -> Option<HashAlgo> {
    match (digest.len() + 1, digest.get(16..)) {
        (PADDED_MD5_LEN, Some([0, 0, 0, 0])) => Some(HashAlgo::Md5),
        (PADDED_MD5_LEN, _) => Some(HashAlgo::Sha1),
        (17, _) => Some(HashAlgo::Md5),
        _ => None,
    }
}

/// Whether a digest label holds `digest`, by the kernel's comparison.
///
/// The bytes from the second (type 01) or third (type 04) on are compared with as many as `digest` has; more may
/// follow. The algorithm id of the label is not compared: it has chosen the algorithm already
/// ([`collection_algo`]), or is invalid. Labels that are too short, and labels of other types, do not match.
///
/// Source: `xattr_verify`. The single byte `04` makes the kernel compare with what lies behind it; here it is too short.
pub fn digest_matches(label: &[u8], digest: &Digest) -> bool {
    match label {
        [TYPE_DIGEST, stored @ ..] | [TYPE_DIGEST_NG, _, stored @ ..] => stored.starts_with(digest.bytes()),
        _ => false,
    }
}

/// Splits a signature label into its fields.
///
/// `label` is the whole value: type `u8` (03, 05 or 06), version `u8`, hash algorithm id `u8`, key id `u32`
/// big-endian, signature length `u16` big-endian, then exactly that many bytes, at least one. Version 3 with type 03
/// or 05 is what Linux 7.1 brings; for a 6.1 kernel it is a failure, which is the caller's to say.
///
/// # Errors
/// In this order, as a kernel finds them: [`ParseError::Empty`], [`ParseError::NotASignature`],
/// [`ParseError::NoVersion`], [`ParseError::Obsolete`] or [`ParseError::Version`], [`ParseError::Length`].
///
/// Source: `struct signature_v2_hdr`, security/integrity/integrity.h; `asymmetric_verify`.
pub fn parse_signature(label: &[u8]) -> Result<Signature<'_>, ParseError> {
    let label_type = label_type(label).ok_or(ParseError::Empty)?;
    if !label_type.is_signature() {
        return Err(ParseError::NotASignature(label_type));
    }
    let version = *label.get(1).ok_or(ParseError::NoVersion)?;
    match (label_type, version) {
        (LabelType::VeritySignature, 3) => {}
        (LabelType::VeritySignature, _) => return Err(ParseError::Version(version)),
        (_, 1) => return Err(ParseError::Obsolete),
        (_, 2 | 3) => {}
        _ => return Err(ParseError::Version(version)),
    }
    let wrong_length = ParseError::Length { found: label.len() };
    let [_, _, algo, k0, k1, k2, k3, l0, l1, signature @ ..] = label else {
        return Err(wrong_length);
    };
    if signature.is_empty() || signature.len() != usize::from(u16::from_be_bytes([*l0, *l1])) {
        return Err(wrong_length);
    }
    Ok(Signature {
        label_type,
        version,
        algo: HashAlgo::from_id(*algo),
        keyid: KeyId(u32::from_be_bytes([*k0, *k1, *k2, *k3])),
        signature,
    })
}

/// The label that holds `digest`: the `01` form for MD4, MD5 and SHA-1, the `04` form for all others.
///
/// Source: `ima_fix_xattr`.
pub fn encode_digest(digest: &Digest) -> Vec<u8> {
    let algo = digest.algo();
    let mut label = if algo <= HashAlgo::Sha1 { vec![TYPE_DIGEST] } else { vec![TYPE_DIGEST_NG, algo.id()] };
    label.extend_from_slice(digest.bytes());
    label
}

/// The label that holds a signature; the inverse of [`parse_signature`].
///
/// # Errors
/// [`EncodeError::NotASignature`] for other types, [`EncodeError::SignatureLength`] for an empty signature or one
/// above 65,535 bytes.
pub fn encode_signature(
    label_type: LabelType,
    version: u8,
    algo: HashAlgo,
    keyid: KeyId,
    signature: &[u8],
) -> Result<Vec<u8>, EncodeError> {
    if !label_type.is_signature() {
        return Err(EncodeError::NotASignature(label_type));
    }
    let too_long = EncodeError::SignatureLength(signature.len());
    let length = u16::try_from(signature.len()).ok().filter(|length| *length > 0).ok_or(too_long)?;
    let mut label = vec![label_type.byte(), version, algo.id()];
    label.extend_from_slice(&keyid.0.to_be_bytes());
    label.extend_from_slice(&length.to_be_bytes());
    label.extend_from_slice(signature);
    Ok(label)
}

/// What a version 3 signature signs: the digest of `struct ima_file_id`, by the algorithm of `digest` itself.
///
/// The structure is the label's type byte, the algorithm id and the digest, nothing behind.
///
/// # Errors
/// [`UnavailableAlgo`] where the algorithm cannot be computed.
///
/// Source: `calc_file_id_hash`, security/integrity/ima/ima_appraise.c.
pub fn file_id_digest(label_type: LabelType, digest: &Digest) -> Result<Digest, UnavailableAlgo> {
    let mut hasher = Hasher::new(digest.algo())?;
    hasher.update(&[label_type.byte(), digest.algo().id()]);
    hasher.update(digest.bytes());
    Ok(hasher.finish())
}
