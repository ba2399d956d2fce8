//! Manifests of labels, as `imafs-sign manifest` makes them: each file must be what the label for its path says.
//!
//! A file that is signed and stands at another path is refused, which the signature alone cannot do.

use std::collections::HashMap;

use ima::HashAlgo;
use keyring::{Keyring, VerifyError};
use manifest::{Envelope, FormatError};

use super::{Subject, recorded_name, signed};
use crate::verdict::EntryCause;

/// The labels of an image by the name under which a list records the file, with the keys that vouch for them.
#[derive(Debug)]
pub struct Labels {
    by_name: HashMap<Box<[u8]>, Vec<Box<[u8]>>>,
    ring: Keyring,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelsError {
    /// It is none.
    #[error("not a manifest of labels")]
    Format(#[from] FormatError),
    /// No key on the ring has signed it.
    #[error("no certificate of the keyring vouches for it")]
    Untrusted(#[from] VerifyError),
}

impl Labels {
    /// Reads a manifest that a key on `ring` has signed; the signatures in it are judged by the same keys.
    ///
    /// # Errors
    /// [`LabelsError`].
    pub fn parse(bytes: Vec<u8>, ring: Keyring) -> Result<Self, LabelsError> {
        let envelope = Envelope::parse(bytes)?;
        envelope.check(&ring)?;
        let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
        for entry in envelope.entries() {
            let entry = entry?;
            by_name.entry(recorded_name(entry.path).into()).or_default().push(entry.label.into());
        }
        Ok(Self { by_name, ring })
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn judge(&self, subject: &Subject<'_>) -> EntryCause {
        if subject.buffer.is_some() {
            return signed::judge(&self.ring, subject);
        }
        // Two paths may be recorded alike.
        let labels = self.by_name.get(subject.name).map(Vec::as_slice).unwrap_or_default();
        let causes = labels.iter().map(|label| self.by_label(label, subject));
        causes.min_by_key(|cause| super::rank(*cause)).unwrap_or(EntryCause::NotInReference)
    }

    fn by_label(&self, label: &[u8], subject: &Subject<'_>) -> EntryCause {
        match signed::by_label(&self.ring, label, &subject.digest) {
            EntryCause::Unsigned => {
                // What the algorithm would be where a label names none: no label of a manifest leaves it out.
                let algo = ima::collection_algo(Some(label), HashAlgo::Sha1);
                let holds = algo == subject.digest.algo() && ima::digest_matches(label, &subject.digest);
                if holds { EntryCause::Listed } else { EntryCause::WrongDigest }
            }
            other => other,
        }
    }
}
