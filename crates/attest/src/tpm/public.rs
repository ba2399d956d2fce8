//! `TPMT_PUBLIC` of a signing key: its material, its attributes and its names.

use ima::{Digest, HashAlgo};

use super::{ALG_NULL, FormatError, Reader};

const ALG_RSA: u16 = 0x0001;
const ALG_ECC: u16 = 0x0023;
const ALG_RSASSA: u16 = 0x0014;
const ALG_RSAPSS: u16 = 0x0016;
const ALG_ECDSA: u16 = 0x0018;

/// `TPMA_OBJECT` bits that an attestation key must have: fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign.
const REQUIRED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18;
/// And one that it must not: decrypt.
const FORBIDDEN: u32 = 1 << 17;

/// The exponent that a TPM means by 0.
const DEFAULT_EXPONENT: u32 = 65_537;

/// The hierarchies, by the handles that stand for their names.
const HIERARCHIES: [(u32, &str); 4] =
    [(0x4000_000b, "endorsement"), (0x4000_0001, "owner"), (0x4000_000c, "platform"), (0x4000_0007, "null")];

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public<'a> {
    bytes: &'a [u8],
    name_algo: HashAlgo,
    attributes: u32,
    /// The key itself.
    pub material: KeyMaterial,
}

/// What signatures are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// Modulus and exponent, big-endian.
    Rsa {
        /// The modulus, without leading zeros.
        modulus: Vec<u8>,
        /// The exponent.
        exponent: u32,
    },
    /// A point, `04 X Y`, on a NIST curve.
    Ec {
        /// Bits of a coordinate: 256 or 384.
        bits: u16,
        /// The point.
        point: Vec<u8>,
    },
}

impl<'a> Public<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// [`FormatError`], also for keys that cannot sign a quote that is verified here.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u16()?;
        let name_id = reader.u16()?;
        let name_algo = HashAlgo::from_tpm_id(name_id)
            .filter(|algo| *algo != HashAlgo::Sha1)
            .ok_or(FormatError::Unknown { what: "name algorithm", value: name_id.into() })?;
        let attributes = reader.u32()?;
        // Its policy; it is part of the name.
        reader.sized("the policy", 64)?;
        symmetric(&mut reader)?;
        let material = match kind {
            ALG_RSA => rsa(&mut reader)?,
            ALG_ECC => ec(&mut reader)?,
            _ => return Err(FormatError::Unknown { what: "key type", value: kind.into() }),
        };
        reader.end()?;
        Ok(Self { bytes, name_algo, attributes, material })
    }

    /// Whether the key was made in its TPM, cannot leave it, and signs nothing that looks like the TPM's own words but
    /// is not.
    #[must_use]
    pub const fn is_attestation_key(&self) -> bool {
        self.attributes & REQUIRED == REQUIRED && self.attributes & FORBIDDEN == 0
    }

    /// Its name: the algorithm's id and the digest of the public part.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        self.named(&[self.bytes])
    }

    /// The hierarchy of which it is a primary key, where this is its qualified name.
    #[must_use]
    pub fn hierarchy(&self, qualified_name: &[u8]) -> Option<&'static str> {
        let name = self.name();
        // A primary key's parent is its hierarchy, whose name is its handle.
        let is = |(handle, _): &&(u32, _)| self.named(&[&handle.to_be_bytes(), &name]) == qualified_name;
        HIERARCHIES.iter().find(is).map(|(_, hierarchy)| *hierarchy)
    }

    fn named(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut name = self.name_algo.tpm_id().unwrap_or_default().to_be_bytes().to_vec();
        let digest = ima::hash(self.name_algo, &parts.concat());
        name.extend_from_slice(digest.as_ref().map_or(&[], Digest::bytes));
        name
    }

    /// The key's kind, for people.
    #[must_use]
    pub fn kind(&self) -> String {
        match &self.material {
            KeyMaterial::Rsa { modulus, .. } => format!("RSA {}", modulus.len() * 8),
            KeyMaterial::Ec { bits, .. } => format!("ECC P-{bits}"),
        }
    }
}

/// `TPMT_SYM_DEF_OBJECT`: none, for a key that signs.
fn symmetric(reader: &mut Reader<'_>) -> Result<(), FormatError> {
    match reader.u16()? {
        ALG_NULL => Ok(()),
        other => Err(FormatError::Unknown { what: "symmetric algorithm", value: other.into() }),
    }
}

/// `TPMT_RSA_SCHEME`, `TPMT_ECC_SCHEME` of a key that signs; a restricted one has one.
fn scheme(reader: &mut Reader<'_>, known: &[u16]) -> Result<(), FormatError> {
    let scheme = reader.u16()?;
    if !known.contains(&scheme) {
        return Err(FormatError::Unknown { what: "signing scheme", value: scheme.into() });
    }
    // Its hash algorithm; the signature names it as well.
    reader.u16().map(drop)
}

fn rsa(reader: &mut Reader<'_>) -> Result<KeyMaterial, FormatError> {
    scheme(reader, &[ALG_RSASSA, ALG_RSAPSS])?;
    let bits = reader.u16()?;
    let exponent = match reader.u32()? {
        0 => DEFAULT_EXPONENT,
        exponent => exponent,
    };
    let modulus = reader.sized("the modulus", 512)?;
    let whole = modulus.first().is_some_and(|first| *first >= 0x80);
    if !matches!(bits, 2048 | 3072 | 4096) || modulus.len() * 8 != usize::from(bits) || !whole {
        return Err(FormatError::Unknown { what: "RSA key size", value: bits.into() });
    }
    Ok(KeyMaterial::Rsa { modulus: modulus.to_vec(), exponent })
}

fn ec(reader: &mut Reader<'_>) -> Result<KeyMaterial, FormatError> {
    scheme(reader, &[ALG_ECDSA])?;
    let curve = reader.u16()?;
    let bits = match curve {
        0x0003 => 256,
        0x0004 => 384,
        other => return Err(FormatError::Unknown { what: "curve", value: other.into() }),
    };
    match reader.u16()? {
        ALG_NULL => {}
        other => return Err(FormatError::Unknown { what: "key derivation", value: other.into() }),
    }
    let length = usize::from(bits) / 8;
    let mut point = vec![4];
    for _ in 0..2 {
        let coordinate = reader.sized("a coordinate", length)?;
        // TPMs differ in whether they keep leading zeros.
        point.extend(std::iter::repeat_n(0, length - coordinate.len()));
        point.extend_from_slice(coordinate);
    }
    Ok(KeyMaterial::Ec { bits, point })
}
