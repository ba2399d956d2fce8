//! Makes certificates that kernels accept for signing files.
//!
//! What they carry and why: a subject key identifier by RFC 5280 method 1 (SHA-1 of the key), because
//! its tail is the keyid and signing tools without the certificate at hand derive exactly that;
//! `keyUsage=digitalSignature` and `CA:FALSE`, because kernels since 6.6 refuse others on `.ima`.
//! An authority (`--ca`) gets `keyCertSign` instead and is not for signing files.

use keyring::{Certificate, Curve, KeyKind};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod,
    KeyUsagePurpose, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use time::{Duration, OffsetDateTime};

use crate::key::SigningKey;

/// What a new certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Signs files.
    Files,
    /// Signs other certificates.
    Authority,
}

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// The subject names an attribute there is no room for, or none at all.
    #[error("cannot understand the subject at {part:?}")]
    Subject {
        /// The part that was not understood.
        part: String,
    },
    /// The issuer's certificate may not sign certificates.
    #[error("the issuing certificate is not a CA")]
    NotAuthority,
    /// The issuer's key and certificate do not belong together.
    #[error("the issuing key is not the issuing certificate's")]
    IssuerMismatch,
    /// The certificate library refused.
    #[error("cannot encode the certificate")]
    Encode(#[source] rcgen::Error),
    /// The system has no randomness to give.
    #[error("no random bytes for the serial number")]
    Random,
}

/// The certificate authority that signs.
#[derive(Debug, Clone, Copy)]
pub struct Authority<'a> {
    /// Its private key.
    pub key: &'a SigningKey,
    /// Its certificate.
    pub certificate: &'a Certificate,
}

/// Makes a certificate for `key`, valid from `now` for `days`; self-signed without an authority.
///
/// Returns the DER. The subject is `CN=name, O=organisation`, `/CN=name/O=organisation` or just a
/// common name; attributes: CN, O, OU, C, L, ST.
///
/// # Errors
/// [`CertifyError`].
pub fn certify(
    key: &SigningKey,
    subject: &str,
    purpose: Purpose,
    authority: Option<Authority<'_>>,
    now: OffsetDateTime,
    days: u32,
) -> Result<Vec<u8>, CertifyError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = parse_subject(subject)?;
    params.serial_number = Some(serial()?);
    params.not_before = now;
    params.not_after = now + Duration::days(i64::from(days));
    params.key_identifier_method = KeyIdMethod::PreSpecified(key.public().sha1_identifier().to_vec());
    (params.is_ca, params.key_usages) = match purpose {
        Purpose::Files => (IsCa::ExplicitNoCa, vec![KeyUsagePurpose::DigitalSignature]),
        Purpose::Authority => (
            IsCa::Ca(BasicConstraints::Unconstrained),
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign],
        ),
    };
    let Some(authority) = authority else {
        return params.self_signed(key).map(|made| made.der().to_vec()).map_err(CertifyError::Encode);
    };
    if authority.certificate.is_end_entity_signer() {
        return Err(CertifyError::NotAuthority);
    }
    if authority.certificate.public_key() != authority.key.public() {
        return Err(CertifyError::IssuerMismatch);
    }
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_der(&authority.certificate.der().into(), authority.key)
        .map_err(CertifyError::Encode)?;
    params.signed_by(key, &issuer).map(|made| made.der().to_vec()).map_err(CertifyError::Encode)
}

/// A DER certificate as PEM text.
pub fn to_pem(der: &[u8]) -> Result<String, CertifyError> {
    rsa::pkcs8::Document::try_from(der)
        .and_then(|document| document.to_pem("CERTIFICATE", rsa::pkcs8::LineEnding::LF))
        .map_err(|_| CertifyError::Encode(rcgen::Error::CouldNotParseCertificate))
}

impl PublicKeyData for SigningKey {
    fn der_bytes(&self) -> &[u8] {
        self.public().key_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self.public().kind() {
            KeyKind::Rsa(_) => &rcgen::PKCS_RSA_SHA256,
            KeyKind::Ec(Curve::P256) => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::Ec(Curve::P384) => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Ec(Curve::P521) => &rcgen::PKCS_ECDSA_P521_SHA512,
        }
    }
}

impl rcgen::SigningKey for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let algo = match self.public().kind() {
            KeyKind::Rsa(_) | KeyKind::Ec(Curve::P256) => ima::HashAlgo::Sha256,
            KeyKind::Ec(Curve::P384) => ima::HashAlgo::Sha384,
            KeyKind::Ec(Curve::P521) => ima::HashAlgo::Sha512,
        };
        let digest = ima::hash(algo, message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        SigningKey::sign(self, &digest).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// Sixteen random bytes: unguessable, and short enough for RFC 5280's twenty with any first bit.
fn serial() -> Result<SerialNumber, CertifyError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CertifyError::Random)?;
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

fn parse_subject(subject: &str) -> Result<DistinguishedName, CertifyError> {
    let parts: Vec<&str> = match subject.strip_prefix('/') {
        Some(slashed) => slashed.split('/').collect(),
        None if subject.contains('=') => subject.split(',').collect(),
        None => vec![],
    };
    let mut name = DistinguishedName::new();
    if parts.is_empty() {
        name.push(DnType::CommonName, non_empty(subject, subject)?);
    }
    for part in parts {
        let refused = || CertifyError::Subject { part: part.to_owned() };
        let (attribute, value) = part.split_once('=').ok_or_else(refused)?;
        let attribute = match attribute.trim() {
            "CN" => DnType::CommonName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "C" => DnType::CountryName,
            "L" => DnType::LocalityName,
            "ST" => DnType::StateOrProvinceName,
            _ => return Err(refused()),
        };
        name.push(attribute, non_empty(value, part)?);
    }
    Ok(name)
}

fn non_empty(value: &str, part: &str) -> Result<String, CertifyError> {
    match value.trim() {
        "" => Err(CertifyError::Subject { part: part.to_owned() }),
        value => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::NewKey;

    fn key() -> SigningKey {
        SigningKey::generate(NewKey::Ec(Curve::P256)).unwrap().0
    }

    fn make(
        key: &SigningKey,
        purpose: Purpose,
        authority: Option<Authority<'_>>,
    ) -> Result<Certificate, CertifyError> {
        certify(key, "/CN=made/O=test", purpose, authority, OffsetDateTime::UNIX_EPOCH, 30)
            .map(|der| Certificate::from_der(&der).unwrap())
    }

    #[test]
    fn a_certificate_for_files_is_what_new_kernels_take() {
        let key = key();
        let certificate = make(&key, Purpose::Files, None).unwrap();
        assert!(certificate.is_end_entity_signer());
        assert_eq!(certificate.subject_key_identifier(), Some(&key.public().sha1_identifier()[..]));
        assert_eq!(certificate.subject(), "CN=made, O=test");
        assert_eq!(certificate.issuer(), certificate.subject());
    }

    #[test]
    fn only_an_authority_with_its_own_key_signs_others() {
        let (ca_key, other) = (key(), key());
        let ca = make(&ca_key, Purpose::Authority, None).unwrap();
        let leaf = make(&other, Purpose::Files, Some(Authority { key: &ca_key, certificate: &ca })).unwrap();
        assert_eq!(leaf.issuer(), ca.subject());
        assert!(matches!(
            make(&other, Purpose::Files, Some(Authority { key: &other, certificate: &ca })),
            Err(CertifyError::IssuerMismatch)
        ));
        assert!(matches!(
            make(&other, Purpose::Files, Some(Authority { key: &other, certificate: &leaf })),
            Err(CertifyError::NotAuthority)
        ));
    }

    #[test]
    fn subjects_are_read_in_three_forms() {
        for subject in ["imafs test", "CN=imafs test", "/CN=imafs test"] {
            assert!(parse_subject(subject).unwrap().get(&DnType::CommonName).is_some(), "{subject}");
        }
        for subject in ["", "CN=", "XX=a", "/CN=a/nonsense", "CN=a,,"] {
            assert!(matches!(parse_subject(subject), Err(CertifyError::Subject { .. })), "{subject}");
        }
    }
}
