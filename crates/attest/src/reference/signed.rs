//! All-signed: a file is as good as its signature.

use ima::{Digest, LabelType};
use keyring::{Keyring, VerifyError};

use super::Subject;
use crate::verdict::EntryCause;

/// Judges by the signature in the entry, or for a buffer by the keys of the ring.
pub(super) fn judge(ring: &Keyring, subject: &Subject<'_>) -> EntryCause {
    if let Some(buffer) = subject.buffer {
        let known = ring.list().iter().any(|certificate| certificate.der() == buffer);
        return if known { EntryCause::KnownKey } else { EntryCause::NotInReference };
    }
    subject.entry.signature().map_or(EntryCause::Unsigned, |label| by_label(ring, label, &subject.digest))
}

/// Judges a digest by a label that holds a signature.
pub(super) fn by_label(ring: &Keyring, label: &[u8], digest: &Digest) -> EntryCause {
    let signature = match ima::parse_signature(label) {
        Ok(signature) => signature,
        Err(ima::ParseError::NotASignature(_)) => return EntryCause::Unsigned,
        Err(_) => return EntryCause::BadSignature,
    };
    let signed = match (signature.label_type, signature.version) {
        (LabelType::Signature, 2) => Ok(*digest),
        (LabelType::Signature | LabelType::VeritySignature, _) => {
            ima::file_id_digest(signature.label_type, digest)
        }
        // EVM's signature is over attributes, not over the content.
        (LabelType::PortableSignature, _) => return EntryCause::Unsigned,
        (LabelType::Digest | LabelType::Hmac | LabelType::DigestNg | LabelType::Other(_), _) => {
            return EntryCause::Unsigned;
        }
    };
    let Ok(signed) = signed else { return EntryCause::BadSignature };
    if signature.algo != Some(digest.algo()) {
        return EntryCause::BadSignature;
    }
    match ring.verify(signature.keyid, &signed, signature.signature) {
        Ok(()) => EntryCause::Signed,
        Err(VerifyError::UnknownKey { .. } | VerifyError::Revoked { .. }) => EntryCause::UnknownKey,
        Err(
            VerifyError::Unsupported { .. } | VerifyError::SignatureLength { .. } | VerifyError::BadSignature,
        ) => EntryCause::BadSignature,
    }
}
