//! X.509 certificates as the kernel's asymmetric key parser takes them.
//!
//! Accepted: one DER certificate, RSA or ECDSA key, signed by RSA PKCS#1 v1.5 or ECDSA with sha1 to
//! sha512 or sha3. Refused: any other signature OID, a self-signed certificate whose signature is
//! wrong. Not looked at: validity, extended key usage, name constraints, critical flags, path length.
//!
//! The kernel finds a key by the tail of its subject key identifier, so a certificate without one
//! verifies nothing there. Here it gets the identifier RFC 5280 method 1 derives from its key, which
//! is what signing tools write when they have no certificate either; [`Certificate::keyid_source`]
//! tells, so that programs can warn that a kernel would not find it. This widens nothing: whoever
//! put the certificate on the ring vouched for that key.
//!
//! Source: `crypto/asymmetric_keys/x509_cert_parser.c` and `x509_public_key.c`, Linux 6.1.

use std::fmt;

use ima::{Digest, HashAlgo, KeyId};
use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, oid_registry::Oid, pem::Pem, prelude::FromDer,
};

use crate::{KeyError, KeyKind, PublicKey};

/// Larger than any certificate that holds a 4096-bit key; keeps a hostile file from costing memory.
const MAX_DER: usize = 64 * 1024;

/// Why a certificate is not taken.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// The input holds no certificate at all.
    #[error("no certificate in it")]
    Empty,
    /// The input is a private key, not a certificate.
    #[error("a private key, not a certificate")]
    PrivateKey,
    /// A PEM block that cannot be decoded.
    #[error("malformed PEM")]
    Pem,
    /// Not one well-formed DER certificate, trailing bytes included.
    #[error("malformed certificate")]
    Malformed,
    /// More than 64 KiB.
    #[error("certificate of {len} bytes, more than 65536")]
    TooLong {
        /// Size of the input.
        len: usize,
    },
    /// Signed in a way the kernel does not know (it answers `ENOPKG`).
    #[error("unsupported certificate signature {oid}")]
    UnsupportedSignature {
        /// The signature algorithm in dotted form.
        oid: String,
    },
    /// Self-signed, and the signature is wrong (the kernel answers `EKEYREJECTED`).
    #[error("self-signed certificate whose signature is wrong")]
    SelfSignature,
    /// The key inside is not taken.
    #[error("unusable public key")]
    Key(#[source] KeyError),
}

/// Where a certificate's keyid comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyIdSource {
    /// The subject key identifier extension: the kernel finds this key too.
    SubjectKeyIdentifier,
    /// SHA-1 of the public key, for want of (a usable) extension: **no kernel finds this key**.
    PublicKeyHash,
}

/// One parsed certificate with its key ready to verify.
pub struct Certificate {
    der: Box<[u8]>,
    subject: String,
    issuer: String,
    keyid: KeyId,
    keyid_source: KeyIdSource,
    subject_key_identifier: Option<Box<[u8]>>,
    fingerprint: Digest,
    tbs_digest: Digest,
    allows_digital_signature: bool,
    is_authority: bool,
    public_key: PublicKey,
}

impl Certificate {
    /// Parses exactly one DER certificate. Never panics on foreign bytes.
    ///
    /// # Errors
    /// [`CertError`], whose message with its source says what is wrong.
    pub fn from_der(der: &[u8]) -> Result<Self, CertError> {
        if der.is_empty() {
            return Err(CertError::Empty);
        }
        if der.len() > MAX_DER {
            return Err(CertError::TooLong { len: der.len() });
        }
        // The parser overlooks the constructed bit of the outermost tag; DER has it set.
        if der.first() != Some(&0x30) {
            return Err(CertError::Malformed);
        }
        let x509 = match X509Certificate::from_der(der) {
            Ok((&[], x509)) => x509,
            Ok(_) | Err(_) => return Err(CertError::Malformed),
        };
        if x509.signature_algorithm.algorithm != x509.tbs_certificate.signature.algorithm {
            return Err(CertError::Malformed);
        }
        let scheme = signature_scheme(&x509.signature_algorithm.algorithm)?;
        let public_key = PublicKey::from_spki(&x509.tbs_certificate.subject_pki).map_err(CertError::Key)?;
        let identifiers = Identifiers::of(&x509);
        let tbs_digest = hash(scheme.algo, x509.tbs_certificate.as_ref())?;
        check_self_signature(&x509, &public_key, &identifiers, scheme, &tbs_digest)?;

        let (keyid, keyid_source) = match identifiers.subject.as_deref().and_then(KeyId::from_ski) {
            Some(keyid) => (keyid, KeyIdSource::SubjectKeyIdentifier),
            None => (public_key.sha1_keyid(), KeyIdSource::PublicKeyHash),
        };
        let usage = x509.key_usage().map_err(|_| CertError::Malformed)?;
        Ok(Self {
            subject: x509.subject().to_string(),
            issuer: x509.issuer().to_string(),
            keyid,
            keyid_source,
            subject_key_identifier: identifiers.subject,
            fingerprint: hash(HashAlgo::Sha256, der)?,
            tbs_digest,
            allows_digital_signature: usage.as_ref().is_none_or(|usage| usage.value.digital_signature()),
            is_authority: x509.is_ca() || usage.is_some_and(|usage| usage.value.key_cert_sign()),
            public_key,
            der: der.into(),
        })
    }

    /// Parses one DER certificate or all `CERTIFICATE` blocks of a PEM text; other blocks are skipped.
    ///
    /// # Errors
    /// The first certificate's [`CertError`] that is refused; [`CertError::PrivateKey`] for a text
    /// that holds a key and no certificate.
    pub fn from_pem_or_der(input: &[u8]) -> Result<Vec<Self>, CertError> {
        // A DER certificate opens with a sequence of two or three length bytes: no text does.
        if matches!(input, [0x30, 0x80..=0xff, ..]) || !contains(input, b"-----BEGIN ") {
            return Self::from_der(input).map(|certificate| vec![certificate]);
        }
        let mut certificates = Vec::new();
        let mut found_key = false;
        for block in Pem::iter_from_buffer(input) {
            match block {
                Ok(block) if block.label == "CERTIFICATE" || block.label == "X509 CERTIFICATE" => {
                    certificates.push(Self::from_der(&block.contents)?);
                }
                Ok(block) => found_key |= block.label.ends_with("PRIVATE KEY"),
                Err(_) if contains(input, b"PRIVATE KEY-----") && !contains(input, b"CERTIFICATE-----") => {
                    found_key = true;
                    break;
                }
                Err(_) => return Err(CertError::Pem),
            }
        }
        match (certificates.is_empty(), found_key) {
            (false, _) => Ok(certificates),
            (true, true) => Err(CertError::PrivateKey),
            (true, false) => Err(CertError::Empty),
        }
    }

    /// The four bytes by which labels name this key.
    pub fn keyid(&self) -> KeyId {
        self.keyid
    }

    /// Whether the keyid is the certificate's own or derived, which a kernel does not do.
    pub fn keyid_source(&self) -> KeyIdSource {
        self.keyid_source
    }

    /// The whole subject key identifier, when there is one.
    pub fn subject_key_identifier(&self) -> Option<&[u8]> {
        self.subject_key_identifier.as_deref()
    }

    /// The subject's distinguished name, as `CN=..., O=...`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The issuer's distinguished name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// SHA-256 of the DER, as browsers and `openssl x509 -fingerprint` show it.
    pub fn fingerprint_sha256(&self) -> Digest {
        self.fingerprint
    }

    /// The digest of the signed part (TBSCertificate) by the hash of the certificate's own signature: what a
    /// blacklist's `tbs:` entry names.
    pub fn tbs_digest(&self) -> Digest {
        self.tbs_digest
    }

    /// The certificate's bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key inside.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The key's kind and size.
    pub fn key_kind(&self) -> KeyKind {
        self.public_key.kind()
    }

    /// Whether a kernel since 6.6 admits it to `.ima`: it may sign data and no certificates.
    ///
    /// Older kernels and this crate do not ask; programs warn.
    pub fn is_end_entity_signer(&self) -> bool {
        self.allows_digital_signature && !self.is_authority
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject)
            .field("keyid", &self.keyid)
            .field("key", &self.public_key.kind())
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignatureScheme {
    pub rsa: bool,
    algo: HashAlgo,
}

/// The certificate signature algorithms of `x509_note_sig_algo`, the sha3 ones as of 6.19.
pub(crate) fn signature_scheme(oid: &Oid<'_>) -> Result<SignatureScheme, CertError> {
    let dotted = oid.to_id_string();
    let (rsa, algo) = match dotted.as_str() {
        "1.2.840.113549.1.1.5" => (true, HashAlgo::Sha1),
        "1.2.840.113549.1.1.14" => (true, HashAlgo::Sha224),
        "1.2.840.113549.1.1.11" => (true, HashAlgo::Sha256),
        "1.2.840.113549.1.1.12" => (true, HashAlgo::Sha384),
        "1.2.840.113549.1.1.13" => (true, HashAlgo::Sha512),
        "2.16.840.1.101.3.4.3.14" => (true, HashAlgo::Sha3_256),
        "2.16.840.1.101.3.4.3.15" => (true, HashAlgo::Sha3_384),
        "2.16.840.1.101.3.4.3.16" => (true, HashAlgo::Sha3_512),
        "1.2.840.10045.4.1" => (false, HashAlgo::Sha1),
        "1.2.840.10045.4.3.1" => (false, HashAlgo::Sha224),
        "1.2.840.10045.4.3.2" => (false, HashAlgo::Sha256),
        "1.2.840.10045.4.3.3" => (false, HashAlgo::Sha384),
        "1.2.840.10045.4.3.4" => (false, HashAlgo::Sha512),
        "2.16.840.1.101.3.4.3.10" => (false, HashAlgo::Sha3_256),
        "2.16.840.1.101.3.4.3.11" => (false, HashAlgo::Sha3_384),
        "2.16.840.1.101.3.4.3.12" => (false, HashAlgo::Sha3_512),
        _ => return Err(CertError::UnsupportedSignature { oid: dotted }),
    };
    Ok(SignatureScheme { rsa, algo })
}

struct Identifiers {
    subject: Option<Box<[u8]>>,
    authority: Option<Box<[u8]>>,
}

impl Identifiers {
    fn of(x509: &X509Certificate<'_>) -> Self {
        let (mut subject, mut authority) = (None, None);
        for extension in x509.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(id.0.into()),
                ParsedExtension::AuthorityKeyIdentifier(aki) => {
                    authority = aki.key_identifier.as_ref().map(|id| id.0.into());
                }
                _ => {}
            }
        }
        Self { subject, authority }
    }
}

/// `x509_check_for_self_signed`: subject equals issuer, and no authority id speaks against it.
fn check_self_signature(
    x509: &X509Certificate<'_>,
    key: &PublicKey,
    identifiers: &Identifiers,
    scheme: SignatureScheme,
    tbs_digest: &Digest,
) -> Result<(), CertError> {
    let same_name = x509.subject().as_raw() == x509.issuer().as_raw();
    let other_authority = identifiers.authority.is_some() && identifiers.authority != identifiers.subject;
    if !same_name || other_authority {
        return Ok(());
    }
    if scheme.rsa != matches!(key.kind(), KeyKind::Rsa(_)) {
        return Err(CertError::SelfSignature);
    }
    key.verify(tbs_digest, &x509.signature_value.data).map_err(|_| CertError::SelfSignature)
}

fn hash(algo: HashAlgo, data: &[u8]) -> Result<Digest, CertError> {
    ima::hash(algo, data).map_err(|_| CertError::UnsupportedSignature { oid: algo.name().to_owned() })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
