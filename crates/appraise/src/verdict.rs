//! The verdict: a label, a requirement and a digest in, the kernel's word for it out. No I/O.
//!
//! Follows the decision table of `spec/ima-appraisal.md` section 3 (EVM inactive), which is
//! `ima_appraise_measurement` and `xattr_verify` in security/integrity/ima/ima_appraise.c.

use std::fmt;

use ima::{Digest, LabelType};
use keyring::Keyring;

use crate::label::{LabelError, StoredLabel};

/// The kernel's `integrity_status`, as far as a user-space check can reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The content is what the label says, or the file is new and still without one.
    Pass,
    /// The label contradicts the content, or cannot be believed.
    Fail,
    /// There is no label.
    NoLabel,
    /// There is something that cannot be made sense of.
    Unknown,
}

impl Status {
    /// Whether the content may be served in enforce mode.
    #[must_use]
    pub fn allows(self) -> bool {
        match self {
            Self::Pass => true,
            Self::Fail | Self::NoLabel | Self::Unknown => false,
        }
    }
}

/// The reason in an audit record, in the kernel's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No label, and any would do.
    MissingHash,
    /// A signature is asked for and there is none.
    SignatureRequired,
    /// An fs-verity signature is asked for and there is none.
    VeritySignatureRequired,
    /// The hash in the label is not the content's.
    InvalidHash,
    /// The signature does not verify: malformed, unknown or revoked key, other content.
    InvalidSignature,
    /// A signature header of a version that is not supported for its type.
    InvalidSignatureVersion,
    /// A `0x06` signature that does not verify.
    InvalidVeritySignature,
    /// A label type that `security.ima` may not have.
    UnknownImaData,
    /// The label could not be read, or is of signature version 0.
    Unknown,
    /// The filesystem need not show next what it showed when it was read, and policy wants no such content.
    UnverifiableSignature,
}

impl Cause {
    /// The text of the record's `cause` field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingHash => "missing-hash",
            Self::SignatureRequired => "IMA-signature-required",
            Self::VeritySignatureRequired => "verity-signature-required",
            Self::InvalidHash => "invalid-hash",
            Self::InvalidSignature => "invalid-signature",
            Self::InvalidSignatureVersion => "invalid-signature-version",
            Self::InvalidVeritySignature => "invalid-verity-signature",
            Self::UnknownImaData => "unknown-ima-data",
            Self::Unknown => "unknown",
            Self::UnverifiableSignature => "unverifiable-signature",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the deciding rule asks of the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Any valid label.
    AnyLabel,
    /// A signature over the content (`appraise_type=imasig`).
    Signature,
    /// A signature over the fs-verity digest (`digest_type=verity appraise_type=sigv3`).
    VeritySignature,
}

impl Requirement {
    fn needs_signature(self) -> bool {
        match self {
            Self::AnyLabel => false,
            Self::Signature | Self::VeritySignature => true,
        }
    }

    /// The cause when there is no signature at all.
    fn missing(self) -> Cause {
        match self {
            Self::AnyLabel => Cause::MissingHash,
            Self::Signature => Cause::SignatureRequired,
            Self::VeritySignature => Cause::VeritySignatureRequired,
        }
    }
}

/// What is being judged.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The label as it was read, or why it could not be.
    pub label: Result<&'a StoredLabel, &'a LabelError>,
    /// The digest collected from the content, by the algorithm that the label asks for; the fs-verity digest under
    /// [`Requirement::VeritySignature`].
    pub digest: &'a Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// Whether the file was created by this open, or is new and not yet closed by its last writer.
    pub new: bool,
    /// Whether nothing on this filesystem can be verified, in the eyes of the rule (`fail_securely`).
    pub unverifiable: bool,
}

/// The answer, and what belongs into the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The status.
    pub status: Status,
    /// Why it is not a plain pass. A pass may carry one: a new empty file with a signature that will hold
    /// only once it is written.
    pub cause: Option<Cause>,
    /// The record's `res` field; 1 only where the kernel's inner result happens to be 0.
    pub res: bool,
    /// Whether the label is a signature, when the label was evaluated that far: the file is then immutable.
    pub signed: Option<bool>,
}

impl Verdict {
    const fn pass(signed: Option<bool>) -> Self {
        Self { status: Status::Pass, cause: None, res: true, signed }
    }

    const fn not(status: Status, cause: Cause) -> Self {
        Self { status, cause: Some(cause), res: false, signed: None }
    }

    const fn signed(self) -> Self {
        Self { signed: Some(true), ..self }
    }
}

/// Judges content by its label.
///
/// Pure: the same subject, requirement and keyring content give the same verdict. Never panics, whatever the
/// label holds.
#[must_use]
pub fn judge(subject: &Subject<'_>, required: Requirement, keyring: &Keyring) -> Verdict {
    let verdict = match subject.label {
        Err(_) => Verdict::not(Status::Unknown, Cause::Unknown),
        Ok(StoredLabel::Missing) => missing(subject, required, false),
        Ok(StoredLabel::Unsupported) => missing(subject, required, true),
        Ok(StoredLabel::Value(value)) if value.is_empty() => missing(subject, required, true),
        Ok(StoredLabel::Value(value)) => by_label(subject, value, required, keyring),
    };
    if subject.unverifiable {
        let cause = Some(Cause::UnverifiableSignature);
        return Verdict { status: Status::Fail, cause, ..verdict };
    }
    if !verdict.status.allows() && verdict.signed == Some(true) && subject.new && subject.size == 0 {
        // An archiver creates the file, labels it, then writes: the signature cannot hold yet.
        return Verdict { status: Status::Pass, ..verdict };
    }
    verdict
}

fn missing(subject: &Subject<'_>, required: Requirement, res: bool) -> Verdict {
    if subject.new && (!required.needs_signature() || subject.size == 0) {
        return Verdict::pass(None);
    }
    Verdict { res, ..Verdict::not(Status::NoLabel, required.missing()) }
}

fn by_label(subject: &Subject<'_>, value: &[u8], required: Requirement, keyring: &Keyring) -> Verdict {
    match ima::label_type(value) {
        Some(LabelType::Digest | LabelType::DigestNg) => by_digest(subject, value, required),
        Some(LabelType::Signature) => by_signature(subject, value, required, keyring),
        Some(LabelType::VeritySignature) => by_verity_signature(subject, value, required, keyring),
        Some(LabelType::Hmac | LabelType::PortableSignature | LabelType::Other(_)) | None => {
            Verdict::not(Status::Unknown, Cause::UnknownImaData)
        }
    }
}

fn by_digest(subject: &Subject<'_>, value: &[u8], required: Requirement) -> Verdict {
    if required.needs_signature() {
        return Verdict::not(Status::Fail, required.missing());
    }
    let plain = Some(false);
    if ima::digest_matches(value, subject.digest) {
        Verdict::pass(plain)
    } else {
        Verdict { signed: plain, ..Verdict::not(Status::Fail, Cause::InvalidHash) }
    }
}

fn by_signature(subject: &Subject<'_>, value: &[u8], required: Requirement, keyring: &Keyring) -> Verdict {
    if required == Requirement::VeritySignature {
        return Verdict::not(Status::Fail, Cause::VeritySignatureRequired);
    }
    match value.get(1) {
        Some(0) => return Verdict::not(Status::Unknown, Cause::Unknown).signed(),
        Some(version) if *version >= 3 => {
            return Verdict::not(Status::Fail, Cause::InvalidSignatureVersion).signed();
        }
        Some(_) | None => {}
    }
    if verifies(value, subject.digest, keyring) {
        Verdict::pass(Some(true))
    } else {
        Verdict::not(Status::Fail, Cause::InvalidSignature).signed()
    }
}

fn by_verity_signature(
    subject: &Subject<'_>,
    value: &[u8],
    required: Requirement,
    keyring: &Keyring,
) -> Verdict {
    if required == Requirement::Signature {
        return Verdict::not(Status::Fail, Cause::SignatureRequired);
    }
    if value.get(1) != Some(&3) {
        return Verdict::not(Status::Fail, Cause::InvalidSignatureVersion).signed();
    }
    let signed = ima::file_id_digest(LabelType::VeritySignature, subject.digest);
    if signed.is_ok_and(|digest| verifies(value, &digest, keyring)) {
        Verdict::pass(Some(true))
    } else {
        Verdict::not(Status::Fail, Cause::InvalidVeritySignature).signed()
    }
}

/// Whether the signature in `value` is one over `digest` by a key on the ring.
///
/// Version 1 headers, wrong lengths and unknown algorithms are malformed here: the kernel too calls them a
/// verification failure. The digest must be of the header's algorithm; one collected by another (because the
/// header's is unknown) cannot be what was signed.
fn verifies(value: &[u8], digest: &Digest, keyring: &Keyring) -> bool {
    let Ok(header) = ima::parse_signature(value) else { return false };
    header.algo == Some(digest.algo()) && keyring.verify(header.keyid, digest, header.signature).is_ok()
}
