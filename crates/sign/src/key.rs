//! A private key that signs digests.
//!
//! Read from PKCS#8, PKCS#1 (RSA) or SEC1 (EC), PEM or DER, as OpenSSL writes them. Encrypted keys
//! are refused by name: asking for a passphrase while signing in parallel helps nobody.
//!
//! Signatures are prehashed: the digest is the input of the private-key operation. aws-lc-rs does the
//! arithmetic; RSA with the hashes it has no signing parameters for goes to the `rsa` crate, with
//! blinding, since its arithmetic is not constant-time (RUSTSEC-2023-0071).

use std::fmt;

use aws_lc_rs::{
    digest as lc_digest,
    encoding::AsDer,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{self as lc, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RsaEncoding},
};
use ima::{Digest, HashAlgo};
use keyring::{Curve, KeyError, KeyKind, PublicKey};
use rsa::{
    Pkcs1v15Sign, RsaPrivateKey,
    pkcs1::DecodeRsaPrivateKey,
    pkcs8::{DecodePrivateKey, SecretDocument},
};

/// Why a private key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateKeyError {
    /// Neither PEM with a private key nor a DER private key.
    #[error("no private key in it")]
    Missing,
    /// A passphrase protects it.
    #[error("the private key is encrypted")]
    Encrypted,
    /// It calls itself a private key and cannot be parsed, or its parts contradict each other.
    #[error("malformed or unsupported private key")]
    Malformed,
    /// The public half is one no ring would take.
    #[error("unusable key")]
    Public(#[source] KeyError),
    /// The library's generator failed.
    #[error("key generation failed")]
    Generate,
}

/// Why a digest cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// No verifier takes this hash with this key.
    #[error("{kind} keys do not sign {} digests", algo.name())]
    UnsupportedHash {
        /// The key.
        kind: KeyKind,
        /// The digest's algorithm.
        algo: HashAlgo,
    },
    /// The library refused, which a sound key never makes it do.
    #[error("the signing operation failed")]
    Failed,
}

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKey {
    /// RSA with 2048, 3072 or 4096 bits.
    Rsa(RsaBits),
    /// An elliptic curve key.
    Ec(Curve),
}

/// The RSA sizes a kernel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsaBits {
    /// 2048 bits.
    B2048,
    /// 3072 bits.
    B3072,
    /// 4096 bits.
    B4096,
}

/// A private key ready to sign, with its public half.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Rsa { pair: Box<RsaKeyPair>, rest: Box<RsaPrivateKey> },
    Ec { pair: Box<EcdsaKeyPair>, curve: Curve },
}

impl SigningKey {
    /// Reads a private key: the first one in a PEM text, or a whole DER file.
    ///
    /// # Errors
    /// [`PrivateKeyError`] names what is wrong; the key's bytes appear in no message.
    pub fn from_pem_or_der(input: &[u8]) -> Result<Self, PrivateKeyError> {
        match std::str::from_utf8(input) {
            Ok(text) if text.contains("-----BEGIN ") => {
                let der = private_block(text)?;
                Self::from_der(der.as_bytes())
            }
            _ => Self::from_der(input),
        }
    }

    /// Reads a DER private key: PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// [`PrivateKeyError::Missing`] when it is none of them, [`PrivateKeyError::Public`] when no
    /// ring would take its public half.
    pub fn from_der(der: &[u8]) -> Result<Self, PrivateKeyError> {
        if let Ok(rest) = RsaPrivateKey::from_pkcs8_der(der).or_else(|_| RsaPrivateKey::from_pkcs1_der(der)) {
            let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
            // aws-lc-rs refuses small keys itself; the public half gives the reason.
            let public = rsa::pkcs8::EncodePublicKey::to_public_key_der(rest.as_ref())
                .map_err(|_| PrivateKeyError::Malformed)?;
            let public = PublicKey::from_spki_der(public.as_bytes()).map_err(PrivateKeyError::Public)?;
            let pair = Box::new(pair.map_err(|_| PrivateKeyError::Malformed)?);
            return Ok(Self { pair: Pair::Rsa { pair, rest: Box::new(rest) }, public });
        }
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(algorithm_of(curve), der) {
                return Self::from_ec_pair(pair, curve);
            }
        }
        Err(if der.first() == Some(&0x30) { PrivateKeyError::Malformed } else { PrivateKeyError::Missing })
    }

    /// Makes a new key; also returns it as a PKCS#8 PEM text, wiped when dropped.
    ///
    /// # Errors
    /// [`PrivateKeyError::Generate`] when the library cannot.
    pub fn generate(kind: NewKey) -> Result<(Self, zeroize::Zeroizing<String>), PrivateKeyError> {
        let document = match kind {
            NewKey::Rsa(bits) => {
                let size = match bits {
                    RsaBits::B2048 => KeySize::Rsa2048,
                    RsaBits::B3072 => KeySize::Rsa3072,
                    RsaBits::B4096 => KeySize::Rsa4096,
                };
                let pair = RsaKeyPair::generate(size).map_err(|_| PrivateKeyError::Generate)?;
                let der = pair.as_der().map_err(|_| PrivateKeyError::Generate)?;
                SecretDocument::try_from(der.as_ref())
            }
            NewKey::Ec(curve) => {
                let pair =
                    EcdsaKeyPair::generate(algorithm_of(curve)).map_err(|_| PrivateKeyError::Generate)?;
                let der = pair.to_pkcs8v1().map_err(|_| PrivateKeyError::Generate)?;
                SecretDocument::try_from(der.as_ref())
            }
        }
        .map_err(|_| PrivateKeyError::Generate)?;
        let pem = document
            .to_pem("PRIVATE KEY", rsa::pkcs8::LineEnding::LF)
            .map_err(|_| PrivateKeyError::Generate)?;
        Ok((Self::from_der(document.as_bytes())?, pem))
    }

    fn from_ec_pair(pair: EcdsaKeyPair, curve: Curve) -> Result<Self, PrivateKeyError> {
        let spki = pair.public_key().as_der().map_err(|_| PrivateKeyError::Malformed)?;
        let public = PublicKey::from_spki_der(spki.as_ref()).map_err(PrivateKeyError::Public)?;
        Ok(Self { pair: Pair::Ec { pair: Box::new(pair), curve }, public })
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `digest` as it is. RSA: as many bytes as the modulus has. ECDSA: DER.
    ///
    /// # Errors
    /// [`SigningError::UnsupportedHash`] for a pair [`PublicKey::verify`] would not take.
    pub fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SigningError> {
        let unsupported = SigningError::UnsupportedHash { kind: self.public.kind(), algo: digest.algo() };
        if !self.public.takes(digest.algo()) {
            return Err(unsupported);
        }
        match &self.pair {
            Pair::Ec { pair, curve } => {
                let digest = curve.fit(digest.bytes()).ok_or(SigningError::Failed)?;
                let signature = pair.sign_digest(&digest).map_err(|_| SigningError::Failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa { pair, rest } => match lc_rsa(digest.algo()) {
                Some((encoding, algorithm)) => sign_rsa(pair, encoding, algorithm, digest.bytes()),
                None => {
                    let prefix = keyring::digest_info_prefix(digest.algo()).ok_or(unsupported)?;
                    let scheme = Pkcs1v15Sign { hash_len: Some(digest.bytes().len()), prefix: prefix.into() };
                    rest.sign_with_rng(&mut rand::rngs::OsRng, scheme, digest.bytes())
                        .map_err(|_| SigningError::Failed)
                }
            },
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

fn lc_rsa(algo: HashAlgo) -> Option<(&'static dyn RsaEncoding, &'static lc_digest::Algorithm)> {
    match algo {
        HashAlgo::Sha256 => Some((&lc::RSA_PKCS1_SHA256, &lc_digest::SHA256)),
        HashAlgo::Sha384 => Some((&lc::RSA_PKCS1_SHA384, &lc_digest::SHA384)),
        HashAlgo::Sha512 => Some((&lc::RSA_PKCS1_SHA512, &lc_digest::SHA512)),
        _ => None,
    }
}

fn sign_rsa(
    pair: &RsaKeyPair,
    encoding: &'static dyn RsaEncoding,
    algorithm: &'static lc_digest::Algorithm,
    digest: &[u8],
) -> Result<Vec<u8>, SigningError> {
    let digest = lc_digest::Digest::import_less_safe(digest, algorithm).map_err(|_| SigningError::Failed)?;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign_digest(encoding, &digest, &mut signature).map_err(|_| SigningError::Failed)?;
    Ok(signature)
}

fn algorithm_of(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &lc::ECDSA_P256_SHA256_ASN1_SIGNING,
        Curve::P384 => &lc::ECDSA_P384_SHA384_ASN1_SIGNING,
        Curve::P521 => &lc::ECDSA_P521_SHA512_ASN1_SIGNING,
    }
}

/// The DER inside the first `... PRIVATE KEY` block; `EC PARAMETERS` and certificates are passed over.
fn private_block(text: &str) -> Result<SecretDocument, PrivateKeyError> {
    for (at, _) in text.match_indices("-----BEGIN ") {
        let block = text.get(at..).unwrap_or_default();
        let first_line = block.lines().next().unwrap_or_default().trim_end();
        let Some(label) = first_line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) else {
            continue;
        };
        if !label.ends_with("PRIVATE KEY") {
            continue;
        }
        let end = format!("-----END {label}-----");
        let len = block.find(&end).ok_or(PrivateKeyError::Malformed)? + end.len();
        let block = block.get(..len).ok_or(PrivateKeyError::Malformed)?;
        // PKCS#8 says it in the label, the traditional formats in a header line.
        if label.starts_with("ENCRYPTED") || block.contains("\nProc-Type: 4,ENCRYPTED") {
            return Err(PrivateKeyError::Encrypted);
        }
        let (_, document) = SecretDocument::from_pem(block).map_err(|_| PrivateKeyError::Malformed)?;
        return Ok(document);
    }
    Err(PrivateKeyError::Missing)
}
