//! What a list is held against: digests, Keylime runtime policies, manifests of labels, a ring of certificates.
//!
//! Each accepts some entries; an entry is accepted when one of them does. What none accepts is refused for the most
//! telling reason that any of them gives.

mod digests;
mod keylime;
mod labels;
mod names;
mod signed;

use ima::template::Field;
use ima::{Digest, Entry};
use keyring::Keyring;

use crate::verdict::EntryCause;

pub use digests::{Digests, DigestsError};
pub use keylime::{RuntimePolicy, RuntimePolicyError};
pub use labels::{Labels, LabelsError};
pub use names::recorded_name;

/// The references of one verification.
#[derive(Debug, Default)]
pub struct References {
    /// Lists of digests.
    pub digests: Vec<Digests>,
    /// Keylime's runtime policies.
    pub policies: Vec<RuntimePolicy>,
    /// Manifests of labels.
    pub labels: Vec<Labels>,
    /// Certificates by which files are signed, wherever they are.
    pub ring: Option<Keyring>,
}

/// What all references look at.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) name: &'a [u8],
    pub(crate) digest: Digest,
    /// The buffer, where it is not a file that was measured.
    pub(crate) buffer: Option<&'a [u8]>,
}

impl<'a> Subject<'a> {
    /// The subject of an entry; `None` where its fields make no sense.
    pub(crate) fn of(entry: &'a Entry) -> Option<Self> {
        let stored = entry.field(Field::NNg).or_else(|| entry.field(Field::N))?;
        // What stands behind a NUL is hashed and never shown: a kernel writes one, at the end.
        let (0, name) = stored.split_last().map(|(last, name)| (*last, name))? else { return None };
        let digest = entry.digest().filter(|_| !name.contains(&0))?;
        let buffer = entry.field(Field::Buf);
        // The template's name is hashed nowhere: that it is a buffer shows in its digest alone.
        let is_its = |buffer: &&[u8]| {
            *buffer == digest.bytes() || ima::hash(digest.algo(), buffer).is_ok_and(|own| own == digest)
        };
        match buffer {
            Some(buffer) if !is_its(&buffer) => None,
            Some(_) | None => Some(Self { entry, name, digest, buffer }),
        }
    }
}

impl References {
    /// Whether there is nothing to hold a list against.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty() && self.policies.is_empty() && self.labels.is_empty() && self.ring.is_none()
    }

    /// Judges an entry that is no violation.
    pub(crate) fn judge(&self, entry: &Entry) -> EntryCause {
        let Some(subject) = Subject::of(entry) else { return EntryCause::UnknownEntry };
        let by_digests = self.digests.iter().map(|digests| digests.judge(&subject));
        let by_policies = self.policies.iter().map(|policy| policy.judge(&subject));
        let by_labels = self.labels.iter().map(|labels| labels.judge(&subject));
        let by_ring = self.ring.iter().map(|ring| signed::judge(ring, &subject));
        let causes = by_digests.chain(by_policies).chain(by_labels).chain(by_ring);
        causes.min_by_key(|cause| rank(*cause)).unwrap_or(EntryCause::NotInReference)
    }
}

/// Accepted before refused, and of refusals the one that says most.
const fn rank(cause: EntryCause) -> u8 {
    match cause {
        EntryCause::Signed | EntryCause::KnownKey => 0,
        EntryCause::Listed | EntryCause::BootAggregate => 1,
        EntryCause::Excluded | EntryCause::ViolationAllowed | EntryCause::OtherMount => 2,
        EntryCause::WrongDigest => 3,
        EntryCause::BadSignature => 4,
        EntryCause::UnknownKey => 5,
        EntryCause::Unsigned => 6,
        EntryCause::NotInReference => 7,
        EntryCause::Violation
        | EntryCause::Unproven
        | EntryCause::WrongBootAggregate
        | EntryCause::OutOfSequence
        | EntryCause::OtherPcr
        | EntryCause::TemplateDigest
        | EntryCause::UnknownEntry => 8,
    }
}
