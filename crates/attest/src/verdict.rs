//! The answer: whether a list is trusted, why not, and what was found on the way.
//!
//! [`Verdict`] is what `--json` prints and what a report is made of. Names of fields and values are stable; a change
//! that is more than an addition raises [`FORMAT`].

use serde::Serialize;

/// The version of the answer's shape.
pub const FORMAT: u32 = 1;

/// The answer about one piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// [`FORMAT`].
    pub format: u32,
    /// Whether the list is trusted.
    pub verdict: Overall,
    /// Why it is refused, most general first; empty for a list that is trusted. Of reasons that entries give, one of
    /// each kind stands here, with the first entry that gives it.
    pub reasons: Vec<Reason>,
    /// Each check in the order in which they are made.
    pub checks: Vec<Check>,
    /// The attestation key.
    pub key: KeyFacts,
    /// What the TPM has signed.
    pub quote: QuoteFacts,
    /// The registers of the quote that the list extends, in each bank.
    pub registers: Vec<Register>,
    /// How many entries there are of which kind.
    pub counts: Counts,
    /// The entries, in order; those that were asked for ([`EntrySelection`]).
    pub entries: Vec<EntryFacts>,
    /// Entries that were asked for and left out, to bound the answer.
    pub entries_left_out: u64,
}

/// Whether the evidence is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// Every check passed and every entry was accepted.
    Trusted,
    /// Something is wrong; see the reasons.
    Refused,
}

/// Which entries an answer lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EntrySelection {
    /// Those that were not accepted, at most [`MAX_OFFENDING`].
    #[default]
    Offending,
    /// All. The answer then grows with the list.
    All,
}

/// The most entries that [`EntrySelection::Offending`] lists.
pub const MAX_OFFENDING: usize = 1000;

/// Why a list is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reason {
    /// What kind of reason it is.
    pub kind: ReasonKind,
    /// In words.
    pub text: String,
    /// The first entry that it is about, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
}

/// The kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonKind {
    /// What is signed is not a quote by a TPM.
    NotAQuote,
    /// The key could sign things that no TPM has made, or is not where it says it is.
    UnsuitableKey,
    /// Nobody who is trusted vouches for the key.
    UntrustedKey,
    /// The signature is not the key's.
    Signature,
    /// The quote answers another question: it may be old.
    Nonce,
    /// The register values are not those that were quoted.
    PcrValues,
    /// A register that had to be quoted was not, or in no bank that is strong enough.
    PcrNotQuoted,
    /// The list cannot be read to its end.
    MalformedList,
    /// A template digest of the list is not that of its entry.
    TemplateDigest,
    /// The list does not replay to the registers.
    Replay,
    /// An entry extends a register that is not one of the list's.
    OtherPcr,
    /// A line of a host list does not follow the one before it of its mount.
    Sequence,
    /// The list has entries beyond those that were quoted.
    UnprovenEntries,
    /// The evidence is no successor of earlier evidence: the list does not go on, or the TPM's clock went back.
    Rollback,
    /// The first entry is not what the machine booted, or is missing.
    BootAggregate,
    /// A file was open for writing while it was measured.
    Violation,
    /// An entry in a template that cannot be judged, or whose fields make no sense.
    UnknownEntry,
    /// A file or key that the reference does not name.
    NotInReference,
    /// A file that the reference names with another digest.
    WrongDigest,
    /// A file without a signature, where all must be signed.
    Unsigned,
    /// A file whose signature is by a key that is not on the ring.
    UnknownKey,
    /// A file whose signature is wrong.
    BadSignature,
}

/// A check and how it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Check {
    /// Which one.
    pub check: CheckName,
    /// How it went.
    pub outcome: CheckOutcome,
    /// In words.
    pub text: String,
}

/// The checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckName {
    /// It is a quote, made by a TPM.
    Quote,
    /// The key can sign nothing else and is who it says it is.
    Key,
    /// Somebody who is trusted vouches for the key.
    Trust,
    /// The signature.
    Signature,
    /// The nonce.
    Nonce,
    /// The register values are those that were quoted.
    PcrValues,
    /// The list can be read, and its template digests are its entries'.
    List,
    /// The list replays to the registers.
    Replay,
    /// It goes on from earlier evidence.
    Succession,
    /// The first entry is what the machine booted.
    BootAggregate,
    /// Every entry is accepted by the reference.
    Reference,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckOutcome {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It was not asked for, or could not be made because another failed.
    Skipped,
}

/// What is known of the attestation key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KeyFacts {
    /// Its TPM name, hex: the algorithm's id and the digest of its public part.
    pub name: String,
    /// Its qualified name as the TPM has signed it, hex.
    pub qualified_name: String,
    /// The hierarchy of which it is a primary key, by its qualified name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hierarchy: Option<String>,
    /// Its kind, such as `ECDSA P-256`.
    pub kind: String,
    /// The subject of the certificate that vouches for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// What the TPM has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuoteFacts {
    /// The nonce in it, hex.
    pub nonce: String,
    /// Milliseconds for which the TPM has been powered.
    pub clock: u64,
    /// TPM resets: starts that begin with new registers.
    pub reset_count: u32,
    /// TPM restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether the clock is sure never to have shown a later time.
    pub clock_is_safe: bool,
    /// The TPM's firmware, as its maker numbers it, hex.
    pub firmware_version: String,
    /// The digest over the registers, hex.
    pub pcr_digest: String,
}

/// A register in one bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Register {
    /// The bank's algorithm.
    pub bank: String,
    /// Which register.
    pub pcr: u32,
    /// What was quoted, hex.
    pub quoted: String,
    /// What the list replays to, hex: up to the quoted entry where there is one, else up to its end.
    pub replayed: String,
}

/// Numbers of entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// Entries in the list, as far as it can be read.
    pub entries: u64,
    /// Those that the quote proves.
    pub proven: u64,
    /// Those beyond.
    pub unproven: u64,
    /// Those that were accepted.
    pub accepted: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Violations, accepted or refused.
    pub violations: u64,
    /// Accepted for their signature.
    pub signed: u64,
    /// Of other mounts on a host list than the one that was asked about; they are proven and not judged.
    pub other_mounts: u64,
}

/// An entry and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EntryFacts {
    /// Its number, counted from 0.
    pub index: u64,
    /// The mount whose entry it is, in a host list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns: Option<String>,
    /// The register it extends.
    pub pcr: u32,
    /// Its template, as the list names it.
    pub template: String,
    /// The content's digest, `algorithm:hex`; absent where the entry has none that makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The path or name as recorded, where spaces are underscores; what is not UTF-8 is replaced.
    pub path: String,
    /// The same in hex where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// The key that a signature names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyid: Option<String>,
    /// What became of it.
    pub verdict: EntryVerdict,
    /// Why.
    pub cause: EntryCause,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryVerdict {
    /// The reference accepts it.
    Accepted,
    /// It does not.
    Refused,
    /// The quote does not cover it, so that it says nothing.
    Unproven,
}

/// Why an entry was accepted or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryCause {
    /// The registers of the boot have this aggregate.
    BootAggregate,
    /// The reference has this digest for this path.
    Listed,
    /// A key on the ring has signed it.
    Signed,
    /// A key that was loaded, and that the reference has.
    KnownKey,
    /// The reference leaves this path out.
    Excluded,
    /// A violation that was asked to be let through.
    ViolationAllowed,
    /// Of another mount on a host list than the one that was asked about.
    OtherMount,
    /// It does not follow the line before it of its mount.
    OutOfSequence,
    /// A violation.
    Violation,
    /// The quote does not cover it.
    Unproven,
    /// The registers of the boot have another aggregate, or were not quoted.
    WrongBootAggregate,
    /// It extends a register that is not one of the list's.
    OtherPcr,
    /// Its template digest is not its own.
    TemplateDigest,
    /// Its template cannot be judged, or its fields make no sense.
    UnknownEntry,
    /// The reference does not name it.
    NotInReference,
    /// The reference has other digests for it.
    WrongDigest,
    /// It has no signature.
    Unsigned,
    /// Its signature is by a key that is not on the ring.
    UnknownKey,
    /// Its signature is wrong.
    BadSignature,
}

impl EntryCause {
    /// The verdict that goes with it.
    #[must_use]
    pub const fn verdict(self) -> EntryVerdict {
        match self {
            Self::BootAggregate
            | Self::Listed
            | Self::Signed
            | Self::KnownKey
            | Self::Excluded
            | Self::ViolationAllowed
            | Self::OtherMount => EntryVerdict::Accepted,
            Self::Unproven => EntryVerdict::Unproven,
            Self::Violation
            | Self::WrongBootAggregate
            | Self::OutOfSequence
            | Self::OtherPcr
            | Self::TemplateDigest
            | Self::UnknownEntry
            | Self::NotInReference
            | Self::WrongDigest
            | Self::Unsigned
            | Self::UnknownKey
            | Self::BadSignature => EntryVerdict::Refused,
        }
    }

    /// The reason that it gives against the whole list; `None` for what is accepted.
    #[must_use]
    pub const fn reason(self) -> Option<ReasonKind> {
        match self {
            Self::BootAggregate
            | Self::Listed
            | Self::Signed
            | Self::KnownKey
            | Self::Excluded
            | Self::ViolationAllowed
            | Self::OtherMount => None,
            Self::Violation => Some(ReasonKind::Violation),
            Self::Unproven => Some(ReasonKind::UnprovenEntries),
            Self::WrongBootAggregate => Some(ReasonKind::BootAggregate),
            Self::OutOfSequence => Some(ReasonKind::Sequence),
            Self::OtherPcr => Some(ReasonKind::OtherPcr),
            Self::TemplateDigest => Some(ReasonKind::TemplateDigest),
            Self::UnknownEntry => Some(ReasonKind::UnknownEntry),
            Self::NotInReference => Some(ReasonKind::NotInReference),
            Self::WrongDigest => Some(ReasonKind::WrongDigest),
            Self::Unsigned => Some(ReasonKind::Unsigned),
            Self::UnknownKey => Some(ReasonKind::UnknownKey),
            Self::BadSignature => Some(ReasonKind::BadSignature),
        }
    }
}

impl Verdict {
    /// Whether the list is trusted.
    #[must_use]
    pub const fn is_trusted(&self) -> bool {
        matches!(self.verdict, Overall::Trusted)
    }
}
