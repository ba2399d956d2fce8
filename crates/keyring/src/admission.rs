//! Whether a certificate may join a restricted ring: some key of a trust ring must have signed it.
//!
//! The kernel's rule for `.ima` as of Linux 6.19: the certificate signs data and no certificates, and its issuer is
//! found among the trusted keys by what its authority key identifier says, else by name. Neither validity nor the
//! issuer's own CA flag is looked at.
//!
//! Source: `restrict_link_by_digsig_builtin` and `restrict_link_by_signature` in
//! crypto/asymmetric_keys/restrict.c, `find_asymmetric_key` in asymmetric_type.c.

use x509_parser::{
    certificate::X509Certificate,
    extensions::{AuthorityKeyIdentifier, GeneralName, ParsedExtension},
    prelude::FromDer,
};

use crate::certificate::signature_scheme;
use crate::{CertError, Certificate, KeyKind, Keyring};

/// Why a certificate may not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// It may sign certificates, or does not say that it may sign data (`ENOKEY`).
    #[error("the certificate is not one for signing data alone: keyUsage digitalSignature, no CA")]
    NotASigner,
    /// No key of the trust ring is its issuer (`ENOKEY`).
    #[error("no trusted key has issued the certificate")]
    UnknownIssuer,
    /// Its signature is of a kind that cannot be checked (`ENOPKG`).
    #[error("the certificate's signature cannot be checked")]
    Unsupported,
    /// The issuer is trusted and did not sign it (`EKEYREJECTED`).
    #[error("the certificate's signature is not its issuer's")]
    BadSignature,
    /// The issuer has been revoked (`EKEYREJECTED`).
    #[error("the issuer's key is revoked")]
    RevokedIssuer,
    /// It cannot be read a second time; a fault of this program (`EBADMSG`).
    #[error("malformed certificate")]
    Malformed,
}

/// What a certificate says of who signed it, in the order in which it counts.
enum Issuer<'a> {
    /// Issuer and serial number of the signing certificate, and its key identifier where that is given too.
    Serial { name: &'a [u8], serial: &'a [u8], identifier: Option<&'a [u8]> },
    /// The signing certificate's subject key identifier.
    Identifier(&'a [u8]),
    /// The signing certificate's subject.
    Name(&'a [u8]),
}

/// Checks that a key of `trust` vouches for the certificate.
///
/// A self-signed certificate is its own issuer: it may join if it is trusted already.
///
/// # Errors
/// [`AdmissionError`], whose documentation names the kernel's errno.
pub fn vouched_for(certificate: &Certificate, trust: &Keyring) -> Result<(), AdmissionError> {
    let x509 = parse(certificate)?;
    if !signs_data_alone(&x509)? {
        return Err(AdmissionError::NotASigner);
    }
    let scheme = signature_scheme(&x509.signature_algorithm.algorithm).map_err(|error| match error {
        CertError::UnsupportedSignature { .. } => AdmissionError::Unsupported,
        _ => AdmissionError::Malformed,
    })?;
    let issuer = issuer(&x509);
    let mut outcome = Err(AdmissionError::UnknownIssuer);
    for trusted in trust.list() {
        if !issuer.is(&parse(&trusted)?, &trusted) {
            continue;
        }
        let same_kind = scheme.rsa == matches!(trusted.key_kind(), KeyKind::Rsa(_));
        let verified =
            trusted.public_key().verify(&certificate.tbs_digest(), &x509.signature_value.data).is_ok();
        outcome = match same_kind && verified {
            true if !trust.is_revoked(trusted.keyid()) => return Ok(()),
            true => Err(AdmissionError::RevokedIssuer),
            false => Err(AdmissionError::BadSignature),
        };
    }
    outcome
}

fn parse(certificate: &Certificate) -> Result<X509Certificate<'_>, AdmissionError> {
    X509Certificate::from_der(certificate.der()).map(|(_, x509)| x509).map_err(|_| AdmissionError::Malformed)
}

fn signs_data_alone(x509: &X509Certificate<'_>) -> Result<bool, AdmissionError> {
    let usage = x509.key_usage().map_err(|_| AdmissionError::Malformed)?;
    let signs = usage.is_some_and(|usage| usage.value.digital_signature() && !usage.value.key_cert_sign());
    Ok(signs && !x509.is_ca())
}

fn issuer<'a>(x509: &'a X509Certificate<'_>) -> Issuer<'a> {
    let authority = x509.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(authority) => Some(authority),
        _ => None,
    });
    let identifier = authority.and_then(|it| it.key_identifier.as_ref()).map(|id| id.0);
    match (authority.and_then(name_and_serial), identifier) {
        (Some((name, serial)), identifier) => Issuer::Serial { name, serial, identifier },
        (None, Some(identifier)) => Issuer::Identifier(identifier),
        (None, None) => Issuer::Name(x509.issuer().as_raw()),
    }
}

fn name_and_serial<'a>(authority: &'a AuthorityKeyIdentifier<'_>) -> Option<(&'a [u8], &'a [u8])> {
    let name = authority.authority_cert_issuer.as_ref()?.iter().find_map(|name| match name {
        GeneralName::DirectoryName(name) => Some(name.as_raw()),
        _ => None,
    })?;
    Some((name, authority.authority_cert_serial?))
}

impl Issuer<'_> {
    /// Whether this is the certificate that is meant. An empty name or identifier means nobody.
    fn is(&self, x509: &X509Certificate<'_>, certificate: &Certificate) -> bool {
        let identified = |wanted: &[u8]| {
            !wanted.is_empty() && certificate.subject_key_identifier().is_some_and(|found| found == wanted)
        };
        match self {
            Self::Serial { name, serial, identifier } => {
                x509.issuer().as_raw() == *name
                    && x509.raw_serial() == *serial
                    && identifier.is_none_or(identified)
            }
            Self::Identifier(identifier) => identified(identifier),
            Self::Name(name) => {
                x509.subject().iter_rdn().next().is_some() && x509.subject().as_raw() == *name
            }
        }
    }
}
