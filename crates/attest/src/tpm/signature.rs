//! `TPMT_SIGNATURE`, and whether it is a key's.

use aws_lc_rs::signature::{
    self as lc, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use ima::HashAlgo;

use super::{FormatError, KeyMaterial, Reader};

const ALG_RSASSA: u16 = 0x0014;
const ALG_RSAPSS: u16 = 0x0016;
const ALG_ECDSA: u16 = 0x0018;

/// The longest RSA signature.
const MAX_RSA: usize = 512;
/// The longest number of an elliptic signature.
const MAX_EC: usize = 48;

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What was hashed with, also for the digest of the registers.
    pub hash: HashAlgo,
    /// The scheme and its numbers.
    pub scheme: Scheme,
}

/// The schemes of signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// PKCS#1 version 1.5.
    Rsassa(Vec<u8>),
    /// PSS, with a salt as long as the digest.
    Rsapss(Vec<u8>),
    /// ECDSA: r and s.
    Ecdsa(Vec<u8>, Vec<u8>),
}

impl Signature {
    /// Reads one.
    ///
    /// # Errors
    /// [`FormatError`], also for hashes that are too weak to sign with.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let scheme = reader.u16()?;
        let id = reader.u16()?;
        let hash = HashAlgo::from_tpm_id(id)
            .filter(|algo| matches!(algo, HashAlgo::Sha256 | HashAlgo::Sha384 | HashAlgo::Sha512))
            .ok_or(FormatError::Unknown { what: "hash algorithm", value: id.into() })?;
        let scheme = match scheme {
            ALG_RSASSA => Scheme::Rsassa(reader.sized("the signature", MAX_RSA)?.to_vec()),
            ALG_RSAPSS => Scheme::Rsapss(reader.sized("the signature", MAX_RSA)?.to_vec()),
            ALG_ECDSA => {
                let r = reader.sized("the signature", MAX_EC)?.to_vec();
                Scheme::Ecdsa(r, reader.sized("the signature", MAX_EC)?.to_vec())
            }
            other => return Err(FormatError::Unknown { what: "signature scheme", value: other.into() }),
        };
        reader.end()?;
        Ok(Self { hash, scheme })
    }
}

/// Whether the key has signed the message.
#[must_use]
pub fn verify(key: &KeyMaterial, message: &[u8], signature: &Signature) -> bool {
    match (key, &signature.scheme) {
        (KeyMaterial::Rsa { modulus, exponent }, Scheme::Rsassa(bytes)) => {
            let parameters = match signature.hash {
                HashAlgo::Sha256 => &lc::RSA_PKCS1_2048_8192_SHA256,
                HashAlgo::Sha384 => &lc::RSA_PKCS1_2048_8192_SHA384,
                _ => &lc::RSA_PKCS1_2048_8192_SHA512,
            };
            rsa(parameters, modulus, *exponent, message, bytes)
        }
        (KeyMaterial::Rsa { modulus, exponent }, Scheme::Rsapss(bytes)) => {
            let parameters = match signature.hash {
                HashAlgo::Sha256 => &lc::RSA_PSS_2048_8192_SHA256,
                HashAlgo::Sha384 => &lc::RSA_PSS_2048_8192_SHA384,
                _ => &lc::RSA_PSS_2048_8192_SHA512,
            };
            rsa(parameters, modulus, *exponent, message, bytes)
        }
        (KeyMaterial::Ec { bits, point }, Scheme::Ecdsa(r, s)) => {
            let algorithm: &dyn VerificationAlgorithm = match (bits, signature.hash) {
                (256, HashAlgo::Sha256) => &lc::ECDSA_P256_SHA256_FIXED,
                (384, HashAlgo::Sha384) => &lc::ECDSA_P384_SHA384_FIXED,
                // A TPM signs by the curve's own hash; the library knows no other pairs.
                _ => return false,
            };
            let length = usize::from(*bits) / 8;
            let (Some(r), Some(s)) = (padded(r, length), padded(s, length)) else { return false };
            UnparsedPublicKey::new(algorithm, point).verify(message, &[r, s].concat()).is_ok()
        }
        (KeyMaterial::Rsa { .. }, Scheme::Ecdsa(..))
        | (KeyMaterial::Ec { .. }, Scheme::Rsassa(_) | Scheme::Rsapss(_)) => false,
    }
}

fn rsa(parameters: &RsaParameters, modulus: &[u8], exponent: u32, message: &[u8], signature: &[u8]) -> bool {
    let exponent = exponent.to_be_bytes();
    let e = exponent.get(exponent.iter().take_while(|byte| **byte == 0).count()..).unwrap_or_default();
    RsaPublicKeyComponents { n: modulus, e }.verify(parameters, message, signature).is_ok()
}

/// A number of exactly so many bytes.
fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let missing = length.checked_sub(number.len())?;
    Some([vec![0; missing].as_slice(), number].concat())
}
