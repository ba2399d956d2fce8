//! One public key, parsed once, and the check of a signature over a digest with it.
//!
//! RSA of 2048 to 4096 bits with PKCS#1 v1.5, and ECDSA on P-256, P-384 and P-521 (the last as
//! Linux 6.19). Smaller RSA keys are refused because they can be factored, larger ones because the
//! kernel knows none; compressed points because the kernel takes only uncompressed ones.
//!
//! The arithmetic is aws-lc-rs's. ECDSA takes the leftmost curve-length bytes of a digest and reads
//! a shorter one as a number (FIPS 186-5 section 6.4), so every hash fits every curve: the digest is
//! cut or padded here and handed over under the hash whose length is the curve's. RSA with sha224,
//! rmd160 or sha3 goes to the `rsa` crate, since aws-lc-rs exposes no parameters for them.

use std::fmt;

use aws_lc_rs::{
    digest as lc_digest,
    signature::{self as lc, ParsedPublicKey, VerificationAlgorithm},
};
use ima::{Digest, HashAlgo, KeyId};
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};
use x509_parser::{
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
        Oid,
    },
    prelude::FromDer,
    public_key::RSAPublicKey,
    x509::SubjectPublicKeyInfo,
};

use crate::digest_info_prefix;

/// Smallest and largest RSA modulus taken, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A curve that signatures can be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// NIST P-256, secp256r1.
    P256,
    /// NIST P-384, secp384r1.
    P384,
    /// NIST P-521, secp521r1.
    P521,
}

impl Curve {
    /// A digest of any length as ECDSA on this curve uses it: cut on the right, or padded on the left.
    ///
    /// It comes labelled as the hash whose length is the curve's, since aws-lc-rs ties the two
    /// together. P-521's 66 bytes are longer than any digest; 64 zero-padded bytes are the same number.
    pub fn fit(self, digest: &[u8]) -> Option<lc_digest::Digest> {
        let algorithm = match self {
            Self::P256 => &lc_digest::SHA256,
            Self::P384 => &lc_digest::SHA384,
            Self::P521 => &lc_digest::SHA512,
        };
        let mut padded = vec![0; algorithm.output_len()];
        let kept = digest.get(..padded.len()).unwrap_or(digest);
        padded.iter_mut().rev().zip(kept.iter().rev()).for_each(|(to, from)| *to = *from);
        lc_digest::Digest::import_less_safe(&padded, algorithm).ok()
    }
}

/// What a public key is, for messages and for choosing an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA with a modulus of so many bits.
    Rsa(usize),
    /// An elliptic curve key.
    Ec(Curve),
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::Ec(Curve::P256) => f.write_str("P-256"),
            Self::Ec(Curve::P384) => f.write_str("P-384"),
            Self::Ec(Curve::P521) => f.write_str("P-521"),
        }
    }
}

/// Why a public key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The bytes are not a SubjectPublicKeyInfo, or the key inside breaks its own encoding.
    #[error("malformed public key")]
    Malformed,
    /// A well-formed key of a kind that signs no labels here.
    #[error("unsupported key type {oid}")]
    UnsupportedType {
        /// The algorithm or curve, in dotted form.
        oid: String,
    },
    /// An RSA modulus outside 2048..=4096 bits.
    #[error("RSA key of {bits} bits, only 2048 to 4096 are accepted")]
    RsaSize {
        /// Length of the modulus.
        bits: usize,
    },
    /// An RSA modulus or exponent that no sound generator makes (even, too small, too large).
    #[error("RSA key with an unsafe modulus or exponent")]
    RsaParameters,
    /// A point that is compressed, not on the curve, or at infinity.
    #[error("elliptic curve key that is not an uncompressed point on its curve")]
    EcPoint,
}

/// Why a signature does not hold under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key's algorithm is never used with this hash.
    #[error("{kind} signatures over {} digests are not supported", algo.name())]
    UnsupportedHash {
        /// The key.
        kind: KeyKind,
        /// The digest's algorithm.
        algo: HashAlgo,
    },
    /// An RSA signature whose length is not the modulus's.
    #[error("signature of {found} bytes, the key makes {expected}")]
    Length {
        /// Modulus length in bytes.
        expected: usize,
        /// Signature length in bytes.
        found: usize,
    },
    /// The signature is not this key's over this digest.
    #[error("the signature does not match")]
    Mismatch,
}

/// A public key ready to verify with.
pub struct PublicKey {
    kind: KeyKind,
    /// The content of the SubjectPublicKeyInfo's bit string: RSAPublicKey DER, or the point.
    bits: Box<[u8]>,
    checker: Checker,
}

enum Checker {
    Rsa(Box<RsaChecker>),
    Ec { curve: Curve, key: ParsedPublicKey },
}

struct RsaChecker {
    sha1: ParsedPublicKey,
    sha256: ParsedPublicKey,
    sha384: ParsedPublicKey,
    sha512: ParsedPublicKey,
    rest: RsaPublicKey,
    modulus_len: usize,
}

impl PublicKey {
    /// Parses a DER SubjectPublicKeyInfo. Never panics on foreign bytes.
    ///
    /// # Errors
    /// [`KeyError`] says which rule the key breaks; trailing bytes are [`KeyError::Malformed`].
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        match SubjectPublicKeyInfo::from_der(der) {
            Ok((&[], spki)) => Self::from_spki(&spki),
            Ok(_) | Err(_) => Err(KeyError::Malformed),
        }
    }

    pub(crate) fn from_spki(spki: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyError> {
        let bits: &[u8] = &spki.subject_public_key.data;
        let oid = &spki.algorithm.algorithm;
        let (kind, checker) = if *oid == OID_PKCS1_RSAENCRYPTION {
            rsa_checker(bits)?
        } else if *oid == OID_KEY_TYPE_EC_PUBLIC_KEY {
            let parameters = spki.algorithm.parameters.as_ref().ok_or(KeyError::Malformed)?;
            let curve = curve_of(&parameters.as_oid().map_err(|_| KeyError::Malformed)?)?;
            (KeyKind::Ec(curve), ec_checker(curve, bits)?)
        } else {
            return Err(KeyError::UnsupportedType { oid: oid.to_id_string() });
        };
        Ok(Self { kind, bits: bits.into(), checker })
    }

    /// What kind of key it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key identifier RFC 5280 method 1 derives: SHA-1 of the bit string's content, 20 bytes.
    ///
    /// The usual subject key identifier, and what signing tools fall back to without a certificate.
    pub fn sha1_identifier(&self) -> [u8; 20] {
        let digest = lc_digest::digest(&lc_digest::SHA1_FOR_LEGACY_USE_ONLY, &self.bits);
        let mut id = [0; 20];
        id.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        id
    }

    /// The last four bytes of [`PublicKey::sha1_identifier`].
    pub fn sha1_keyid(&self) -> KeyId {
        let [.., a, b, c, d] = self.sha1_identifier();
        KeyId(u32::from_be_bytes([a, b, c, d]))
    }

    /// The content of the SubjectPublicKeyInfo's bit string: RSAPublicKey DER, or `04 X Y`.
    pub fn key_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Whether this kind of key is used with digests of `algo` at all.
    pub fn takes(&self, algo: HashAlgo) -> bool {
        match self.kind {
            KeyKind::Rsa(_) => digest_info_prefix(algo).is_some(),
            KeyKind::Ec(_) => signs_with_ecdsa(algo),
        }
    }

    /// Checks `signature` over `digest`, which is used as it is and never hashed again.
    ///
    /// RSA: an octet string exactly as long as the modulus. ECDSA: DER `SEQUENCE { r, s }`.
    ///
    /// # Errors
    /// [`SignatureError`]; nothing is learnt from *why* a well-sized signature does not match.
    pub fn verify(&self, digest: &Digest, signature: &[u8]) -> Result<(), SignatureError> {
        let unsupported = SignatureError::UnsupportedHash { kind: self.kind, algo: digest.algo() };
        match &self.checker {
            Checker::Rsa(rsa) => {
                let prefix = digest_info_prefix(digest.algo()).ok_or(unsupported)?;
                if signature.len() != rsa.modulus_len {
                    return Err(SignatureError::Length { expected: rsa.modulus_len, found: signature.len() });
                }
                rsa.verify(digest, prefix, signature)
            }
            Checker::Ec { curve, key } => {
                if !self.takes(digest.algo()) {
                    return Err(unsupported);
                }
                matches(key, curve.fit(digest.bytes()), signature)
            }
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.bits == other.bits
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kind", &self.kind).field("keyid", &self.sha1_keyid()).finish()
    }
}

impl RsaChecker {
    fn verify(&self, digest: &Digest, prefix: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let (key, algorithm) = match digest.algo() {
            HashAlgo::Sha1 => (&self.sha1, &lc_digest::SHA1_FOR_LEGACY_USE_ONLY),
            HashAlgo::Sha256 => (&self.sha256, &lc_digest::SHA256),
            HashAlgo::Sha384 => (&self.sha384, &lc_digest::SHA384),
            HashAlgo::Sha512 => (&self.sha512, &lc_digest::SHA512),
            _ => {
                let scheme = Pkcs1v15Sign { hash_len: Some(digest.bytes().len()), prefix: prefix.into() };
                return self
                    .rest
                    .verify(scheme, digest.bytes(), signature)
                    .map_err(|_| SignatureError::Mismatch);
            }
        };
        matches(key, lc_digest::Digest::import_less_safe(digest.bytes(), algorithm).ok(), signature)
    }
}

/// The hashes ECDSA is used with (`ecdsa_verify` in 6.1, the sha3 family since 6.19).
fn signs_with_ecdsa(algo: HashAlgo) -> bool {
    matches!(
        algo,
        HashAlgo::Sha1
            | HashAlgo::Sha224
            | HashAlgo::Sha256
            | HashAlgo::Sha384
            | HashAlgo::Sha512
            | HashAlgo::Sha3_256
            | HashAlgo::Sha3_384
            | HashAlgo::Sha3_512
    )
}

fn matches(
    key: &ParsedPublicKey,
    digest: Option<lc_digest::Digest>,
    signature: &[u8],
) -> Result<(), SignatureError> {
    let digest = digest.ok_or(SignatureError::Mismatch)?;
    key.verify_digest_sig(&digest, signature).map_err(|_| SignatureError::Mismatch)
}

fn rsa_checker(bits: &[u8]) -> Result<(KeyKind, Checker), KeyError> {
    let parsed = match RSAPublicKey::from_der(bits) {
        Ok((&[], parsed)) => parsed,
        Ok(_) | Err(_) => return Err(KeyError::Malformed),
    };
    let modulus = BigUint::from_bytes_be(parsed.modulus);
    let size = modulus.bits();
    if !RSA_BITS.contains(&size) {
        return Err(KeyError::RsaSize { bits: size });
    }
    let rest = RsaPublicKey::new(modulus, BigUint::from_bytes_be(parsed.exponent))
        .map_err(|_| KeyError::RsaParameters)?;
    let parse = |algorithm: &'static dyn VerificationAlgorithm| {
        ParsedPublicKey::new(algorithm, bits).map_err(|_| KeyError::RsaParameters)
    };
    let checker = RsaChecker {
        sha1: parse(&lc::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY)?,
        sha256: parse(&lc::RSA_PKCS1_2048_8192_SHA256)?,
        sha384: parse(&lc::RSA_PKCS1_2048_8192_SHA384)?,
        sha512: parse(&lc::RSA_PKCS1_2048_8192_SHA512)?,
        rest,
        modulus_len: size.div_ceil(8),
    };
    Ok((KeyKind::Rsa(size), Checker::Rsa(Box::new(checker))))
}

fn curve_of(oid: &Oid<'_>) -> Result<Curve, KeyError> {
    if *oid == OID_EC_P256 {
        Ok(Curve::P256)
    } else if *oid == OID_NIST_EC_P384 {
        Ok(Curve::P384)
    } else if *oid == OID_NIST_EC_P521 {
        Ok(Curve::P521)
    } else {
        Err(KeyError::UnsupportedType { oid: oid.to_id_string() })
    }
}

fn ec_checker(curve: Curve, point: &[u8]) -> Result<Checker, KeyError> {
    if point.first() != Some(&4) {
        return Err(KeyError::EcPoint);
    }
    let algorithm: &'static dyn VerificationAlgorithm = match curve {
        Curve::P256 => &lc::ECDSA_P256_SHA256_ASN1,
        Curve::P384 => &lc::ECDSA_P384_SHA384_ASN1,
        Curve::P521 => &lc::ECDSA_P521_SHA512_ASN1,
    };
    let key = ParsedPublicKey::new(algorithm, point).map_err(|_| KeyError::EcPoint)?;
    Ok(Checker::Ec { curve, key })
}
