//! Adding a key to the container's ring: one DER certificate per `write(2)`, answered as `keyctl add` would be.
//!
//! The ring is restricted as the kernel's `.ima` is (`spec/ima-keys.md` sections 2 and 3): a key of the host's ring must
//! have signed the certificate. The host's own ring is never added to.

use std::sync::Arc;

use audit::{Integrity, Process, RecordType};
use keyring::{Added, AdmissionError, CertError, Certificate, KeyError, Keyring, vouched_for};
use monitor::Monitor;

use crate::fs::{Caller, Errno};

/// Keys on the container's ring. The kernel's quota is per user and answers the same.
const MOST_KEYS: usize = 256;

/// Adds the certificate, measured as either layer asks, and tells how many bytes were taken: all. Whatever comes of it
/// is recorded.
///
/// # Errors
/// `EBADMSG` for what is no certificate, `ENOPKG` for one that cannot be used, `EKEYREJECTED` for a wrong or revoked
/// one, `ENOKEY` for one nobody vouches for, `EDQUOT` when the ring is full, `EACCES` when it cannot be measured.
pub(super) fn add(monitor: &Arc<Monitor>, data: &[u8], caller: &Caller) -> Result<u32, Errno> {
    let rules = monitor.rules();
    let ring = &rules.container().ok_or(Errno::ACCESS)?.ring;
    let process = Process::read(caller.tid);
    let added = try_add(monitor, &rules.host().ring, ring, data, &process);
    let (cause, res) = match &added {
        Ok(cause) => (*cause, true),
        Err(refused) => (refused.cause, false),
    };
    let mut record = Integrity::new(RecordType::IntegrityStatus, process, "add_key", cause);
    record.name = Some(ring.name().as_bytes().to_vec());
    record.res = res;
    monitor.options().audit.emit(record);
    added.map_err(|refused| refused.errno)?;
    u32::try_from(data.len()).map_err(|_| Errno::MSGSIZE)
}

/// Why a key is not taken.
struct Refused {
    /// For the record.
    cause: &'static str,
    errno: Errno,
}

impl Refused {
    fn new(cause: &'static str, errno: Errno) -> Self {
        Self { cause, errno }
    }
}

/// Adds the certificate to `ring`; gives what came of it, for the record.
fn try_add(
    monitor: &Monitor,
    trusted: &Keyring,
    ring: &Keyring,
    data: &[u8],
    process: &Process,
) -> Result<&'static str, Refused> {
    let certificate = Certificate::from_der(data).map_err(|error| {
        tracing::debug!("a key of the container is refused: {}", crate::failure::chain(&error));
        unusable(&error)
    })?;
    let blacklisted = || Refused::new("blacklisted", Errno::KEYREJECTED);
    if ring.blacklist().has_certificate(&certificate) {
        return Err(blacklisted());
    }
    vouched_for(&certificate, trusted).map_err(|error| {
        tracing::debug!(subject = certificate.subject(), "a key of the container is refused: {error}");
        not_admitted(error)
    })?;
    if ring.list().len() >= MOST_KEYS {
        return Err(Refused::new("too-many-keys", Errno::DQUOT));
    }
    let measured = monitor.measure_key(ring.name(), data, process);
    measured.map_err(|denial| Refused::new(denial.cause(), denial.errno()))?;
    // In somebody's own words, which must not make lines of the log.
    let subject = format!("{:?}", certificate.subject());
    match ring.add(certificate) {
        Added::New => {
            tracing::info!(target: "imafs", subject = %subject, "the container has added a key");
            Ok("added")
        }
        Added::Present => Ok("present"),
        Added::Shadowed { by } => {
            tracing::warn!(subject = %subject, first = by.subject(), "a key of the container is never asked");
            Ok("shadowed")
        }
        Added::Blacklisted => Err(blacklisted()),
    }
}

fn unusable(error: &CertError) -> Refused {
    match error {
        CertError::SelfSignature => Refused::new("invalid-signature", Errno::KEYREJECTED),
        CertError::Key(KeyError::Malformed)
        | CertError::Empty
        | CertError::PrivateKey
        | CertError::Pem
        | CertError::Malformed
        | CertError::TooLong { .. } => Refused::new("malformed", Errno::BADMSG),
        CertError::UnsupportedSignature { .. } | CertError::Key(_) => {
            Refused::new("unsupported", Errno::NOPKG)
        }
    }
}

fn not_admitted(error: AdmissionError) -> Refused {
    match error {
        AdmissionError::NotASigner | AdmissionError::UnknownIssuer => {
            Refused::new("unknown-issuer", Errno::NOKEY)
        }
        AdmissionError::Unsupported => Refused::new("unsupported", Errno::NOPKG),
        AdmissionError::BadSignature => Refused::new("invalid-signature", Errno::KEYREJECTED),
        AdmissionError::RevokedIssuer => Refused::new("revoked-issuer", Errno::KEYREJECTED),
        AdmissionError::Malformed => Refused::new("malformed", Errno::BADMSG),
    }
}
