//! Who vouches for an attestation key: whoever pinned it, or an authority that has certified it.
//!
//! A certificate is followed to one of the authorities through those that came with the evidence. The key's own must be
//! for attestation keys (TCG's extended key usage), since an authority that certifies other keys as well would else
//! vouch for a quote that was written by software.
//!
//! Follows RFC 5280, sections 4.2 and 6.1, as far as a chain of names, signatures, validity and CA flags; TCG EK
//! Credential Profile, section 3 (`tcg-kp-AIKCertificate`).

use keyring::{Certificate, KeyKind};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{OID_PKCS1_RSAENCRYPTION, Oid};
use x509_parser::pem::Pem;
use x509_parser::prelude::{ASN1Time, FromDer};
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::evidence::MAX_CERTIFICATES;
use crate::tpm::{KeyMaterial, Public};

/// `tcg-kp-AIKCertificate`.
const ATTESTATION_KEY: &str = "2.23.133.8.3";

/// Which attestation keys are trusted.
#[derive(Debug)]
pub enum Trust {
    /// The key of this name, as a quote or `tpm2_readpublic` shows it.
    Name(Vec<u8>),
    /// This key.
    Key(KeyMaterial),
    /// Keys that one of these authorities has certified, at this time in seconds since the epoch.
    Authorities(Vec<Certificate>, i64),
}

/// Why text or a file names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// It is neither a name nor a public key nor a certificate.
    #[error("neither a public key, nor a certificate, nor the name of a TPM's key")]
    Form,
    /// It is a key of a kind that TPMs do not quote with.
    #[error("a key of a kind that no quote is verified by here")]
    Kind,
}

/// Why a key is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Another key than the one that was pinned.
    #[error("the quote is by another key than the one that is trusted")]
    OtherKey,
    /// The evidence has no certificate.
    #[error("the evidence has no certificate of its key")]
    NoCertificate,
    /// A certificate that cannot be read.
    #[error("certificate {0} of the evidence cannot be read")]
    Malformed(usize),
    /// The first certificate is another key's.
    #[error("the certificate is not of the key that has signed")]
    NotItsCertificate,
    /// It is not for attestation keys.
    #[error("the key's certificate is not for attestation keys (extended key usage {ATTESTATION_KEY})")]
    Purpose,
    /// One is not valid at this time.
    #[error("the certificate of {0} has expired or is not valid yet")]
    Expired(String),
    /// Nobody who is trusted has signed one.
    #[error("no trusted authority has issued the certificate of {0}")]
    Issuer(String),
}

impl Trust {
    /// The key of a name in hex, or of a file with a public key or certificate in PEM or DER.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn pin(name_or_file: &[u8]) -> Result<Self, PinError> {
        if let Some(name) = std::str::from_utf8(name_or_file).ok().and_then(|text| key_name(text.trim())) {
            return Ok(Self::Name(name));
        }
        if let Ok(certificates) = Certificate::from_pem_or_der(name_or_file)
            && let Some(certificate) = certificates.first()
        {
            return material_of(certificate).map(Self::Key).ok_or(PinError::Kind);
        }
        let pem = Pem::iter_from_buffer(name_or_file).flatten().find(|block| block.label == "PUBLIC KEY");
        let der = pem.as_ref().map_or(name_or_file, |block| &block.contents);
        match SubjectPublicKeyInfo::from_der(der) {
            Ok((&[], info)) => material(&info).map(Self::Key).ok_or(PinError::Kind),
            Ok(_) | Err(_) => Err(PinError::Form),
        }
    }

    /// Whether this key is trusted; gives the subject of the certificate by which it is.
    pub(crate) fn check(
        &self,
        key: &Public<'_>,
        certificates: &[&[u8]],
    ) -> Result<Option<String>, TrustError> {
        match self {
            Self::Name(name) if *name == key.name() => Ok(None),
            Self::Key(material) if *material == key.material => Ok(None),
            Self::Name(_) | Self::Key(_) => Err(TrustError::OtherKey),
            Self::Authorities(authorities, now) => certified(key, certificates, authorities, *now).map(Some),
        }
    }
}

/// A name in hex: two bytes of an algorithm that is not SHA-1, and its digest.
fn key_name(text: &str) -> Option<Vec<u8>> {
    let name = hex::decode(text).ok()?;
    let (id, digest) = name.split_first_chunk()?;
    let algo = ima::HashAlgo::from_tpm_id(u16::from_be_bytes(*id))?;
    (algo.digest_len() == digest.len()).then_some(name)
}

fn certified(
    key: &Public<'_>,
    certificates: &[&[u8]],
    authorities: &[Certificate],
    now: i64,
) -> Result<String, TrustError> {
    let mut chain = Vec::new();
    for (number, der) in certificates.iter().enumerate() {
        chain.push(Certificate::from_der(der).map_err(|_| TrustError::Malformed(number))?);
    }
    let own = chain.first().ok_or(TrustError::NoCertificate)?;
    if material_of(own).as_ref() != Some(&key.material) {
        return Err(TrustError::NotItsCertificate);
    }
    if !parse(own).is_some_and(|x509| is_for_attestation(&x509)) {
        return Err(TrustError::Purpose);
    }
    let mut current = own;
    // No longer than there are certificates, so that a circle ends.
    for _ in 0..=MAX_CERTIFICATES {
        valid(current, now)?;
        if authorities.iter().any(|authority| authority.der() == current.der() || issued(authority, current))
        {
            return Ok(own.subject().to_owned());
        }
        let next = chain.iter().find(|other| other.der() != current.der() && issued(other, current));
        current = next.ok_or_else(|| TrustError::Issuer(current.subject().to_owned()))?;
    }
    Err(TrustError::Issuer(current.subject().to_owned()))
}

fn parse(certificate: &Certificate) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(certificate.der()).ok().map(|(_, x509)| x509)
}

fn is_for_attestation(x509: &X509Certificate<'_>) -> bool {
    let usage = x509.extended_key_usage().ok().flatten();
    usage.is_some_and(|usage| {
        usage.value.other.iter().any(|oid: &Oid<'_>| oid.to_id_string() == ATTESTATION_KEY)
    })
}

fn valid(certificate: &Certificate, now: i64) -> Result<(), TrustError> {
    let now = ASN1Time::from_timestamp(now).ok();
    let x509 = parse(certificate);
    match x509.zip(now) {
        Some((x509, now)) if x509.validity().is_valid_at(now) => Ok(()),
        Some(_) | None => Err(TrustError::Expired(certificate.subject().to_owned())),
    }
}

/// Whether the one is an authority that has signed the other.
fn issued(authority: &Certificate, certificate: &Certificate) -> bool {
    let (Some(issuer), Some(x509)) = (parse(authority), parse(certificate)) else { return false };
    let may = issuer.is_ca()
        && issuer.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
    let named = issuer.subject().as_raw() == x509.issuer().as_raw();
    may && named
        && authority.public_key().verify(&certificate.tbs_digest(), &x509.signature_value.data).is_ok()
}

fn material_of(certificate: &Certificate) -> Option<KeyMaterial> {
    let x509 = parse(certificate)?;
    material(&x509.tbs_certificate.subject_pki)
}

fn material(info: &SubjectPublicKeyInfo<'_>) -> Option<KeyMaterial> {
    let bits = &info.subject_public_key.data;
    if info.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        let (_, key) = RSAPublicKey::from_der(bits).ok()?;
        let modulus = key.modulus.get(key.modulus.iter().take_while(|byte| **byte == 0).count()..)?;
        return Some(KeyMaterial::Rsa { modulus: modulus.to_vec(), exponent: number(key.exponent)? });
    }
    let key = keyring::PublicKey::from_spki_der(info.raw).ok()?;
    let bits = match key.kind() {
        KeyKind::Ec(keyring::Curve::P256) => 256,
        KeyKind::Ec(keyring::Curve::P384) => 384,
        KeyKind::Ec(keyring::Curve::P521) | KeyKind::Rsa(_) => return None,
    };
    Some(KeyMaterial::Ec { bits, point: key.key_bytes().to_vec() })
}

fn number(bytes: &[u8]) -> Option<u32> {
    let bytes = bytes.get(bytes.iter().take_while(|byte| **byte == 0).count()..)?;
    let mut whole = [0; 4];
    let start = whole.len().checked_sub(bytes.len())?;
    whole.get_mut(start..)?.copy_from_slice(bytes);
    Some(u32::from_be_bytes(whole))
}
