//! Adding a key to the container's ring: one DER certificate per `write(2)`, answered as `keyctl add` would be.
//!
//! The ring is restricted as the kernel's `.ima` is (`spec/ima-keys.md` sections 2 and 3): a key of the host's ring must
//! have signed the certificate. The host's own ring is never added to.

use std::sync::Arc;

use audit::Process;
use keyring::{Added, AdmissionError, CertError, Certificate, KeyError, vouched_for};
use monitor::Monitor;

use crate::fs::{Caller, Errno};

/// Keys on the container's ring. The kernel's quota is per user and answers the same.
const MOST_KEYS: usize = 256;

/// Adds the certificate, measured as either layer asks, and tells how many bytes were taken: all.
///
/// # Errors
/// `EBADMSG` for what is no certificate, `ENOPKG` for one that cannot be used, `EKEYREJECTED` for a wrong or revoked
/// one, `ENOKEY` for one nobody vouches for, `EDQUOT` when the ring is full, `EACCES` when it cannot be measured.
pub(super) fn add(monitor: &Arc<Monitor>, data: &[u8], caller: &Caller) -> Result<u32, Errno> {
    let rules = monitor.rules();
    let ring = &rules.container().ok_or(Errno::ACCESS)?.ring;
    let certificate = Certificate::from_der(data).map_err(|error| {
        tracing::debug!("a key of the container is refused: {}", crate::failure::chain(&error));
        parse_errno(&error)
    })?;
    if ring.blacklist().has_certificate(&certificate) {
        tracing::debug!("a key of the container is refused: it is blacklisted");
        return Err(Errno::KEYREJECTED);
    }
    vouched_for(&certificate, &rules.host().ring).map_err(|error| {
        tracing::debug!(subject = certificate.subject(), "a key of the container is refused: {error}");
        admission_errno(error)
    })?;
    if ring.list().len() >= MOST_KEYS {
        return Err(Errno::DQUOT);
    }
    monitor.measure_key(ring.name(), data, &Process::read(caller.tid)).map_err(|denial| denial.errno())?;
    // In somebody's own words, which must not make lines of the log.
    let subject = format!("{:?}", certificate.subject());
    match ring.add(certificate) {
        Added::New => tracing::info!(target: "imafs", subject = %subject, "the container has added a key"),
        Added::Present => {}
        Added::Shadowed { by } => {
            tracing::warn!(subject = %subject, first = by.subject(), "a key of the container is never asked");
        }
        Added::Blacklisted => return Err(Errno::KEYREJECTED),
    }
    u32::try_from(data.len()).map_err(|_| Errno::MSGSIZE)
}

fn parse_errno(error: &CertError) -> Errno {
    match error {
        CertError::SelfSignature => Errno::KEYREJECTED,
        CertError::Key(KeyError::Malformed)
        | CertError::Empty
        | CertError::PrivateKey
        | CertError::Pem
        | CertError::Malformed
        | CertError::TooLong { .. } => Errno::BADMSG,
        CertError::UnsupportedSignature { .. } | CertError::Key(_) => Errno::NOPKG,
    }
}

fn admission_errno(error: AdmissionError) -> Errno {
    match error {
        AdmissionError::NotASigner | AdmissionError::UnknownIssuer => Errno::NOKEY,
        AdmissionError::Unsupported => Errno::NOPKG,
        AdmissionError::BadSignature | AdmissionError::RevokedIssuer => Errno::KEYREJECTED,
        AdmissionError::Malformed => Errno::BADMSG,
    }
}
