//! Looking labels up: a hash table of the places of entries over the manifest's own bytes.
//!
//! Open addressing over a table at most half full. The hash is keyed at random, so that nobody who chooses paths, in a
//! manifest or in a container, can choose how long a lookup takes.

use std::hash::{BuildHasher, RandomState};

use ima::{Digest, HashAlgo, KeyId};
use keyring::{Keyring, VerifyError};

use crate::entries::{Entry, FormatError, read_entry};
use crate::envelope::{Envelope, Header};

/// Names an entry of one manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryId(u32);

/// A manifest that was verified, read to its end and made ready to be looked up.
#[derive(Debug)]
pub struct Manifest {
    envelope: Envelope,
    /// Where each entry begins; 0, where the magic is, for none.
    table: Box<[u32]>,
    hasher: RandomState,
    digest: Option<Digest>,
}

impl Manifest {
    pub(crate) fn new(envelope: Envelope) -> Result<Self, FormatError> {
        let digest = envelope.file_digest();
        let mut places = Vec::new();
        let mut entries = envelope.entries();
        loop {
            let place = entries.offset();
            let Some(entry) = entries.next() else { break };
            let path = entry?.path;
            places.push((u32::try_from(place).map_err(|_| FormatError::TooLarge(place))?, path));
        }
        let hasher = RandomState::new();
        let size = places.len().saturating_mul(2).next_power_of_two();
        let mut table = vec![0; size].into_boxed_slice();
        for (place, path) in places {
            for slot in probe(hasher.hash_one(path), size) {
                match table.get_mut(slot) {
                    Some(free) if *free == 0 => {
                        *free = place;
                        break;
                    }
                    Some(_) | None => {}
                }
            }
        }
        Ok(Self { envelope, table, hasher, digest })
    }

    /// What it says of itself.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.envelope.header()
    }

    /// The key it is signed with.
    #[must_use]
    pub fn keyid(&self) -> KeyId {
        self.envelope.keyid()
    }

    /// The hash algorithm of its signature.
    #[must_use]
    pub fn algo(&self) -> HashAlgo {
        self.envelope.algo()
    }

    /// The SHA-256 digest of the whole file, by which people tell manifests apart.
    #[must_use]
    pub fn file_digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The entry for a path, which is compared byte by byte.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<EntryId> {
        for slot in probe(self.hasher.hash_one(path), self.table.len()) {
            let place = *self.table.get(slot).filter(|place| **place != 0)?;
            if self.entry(place)?.path == path {
                return Some(EntryId(place));
            }
        }
        None
    }

    /// The label of an entry of this manifest; `None` for one of another.
    #[must_use]
    pub fn label(&self, id: EntryId) -> Option<&[u8]> {
        self.entry(id.0).map(|entry| entry.label)
    }

    /// Whether the signature still holds by what is on the ring now. Costs one verification, whatever the length.
    ///
    /// # Errors
    /// [`VerifyError`] when it does not, and then none of its labels counts any more.
    pub fn reverify(&self, ring: &Keyring) -> Result<(), VerifyError> {
        self.envelope.check(ring)
    }

    /// How many bytes of memory it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.envelope.bytes().len() + size_of_val(&*self.table)
    }

    fn entry(&self, place: u32) -> Option<Entry<'_>> {
        let bytes = self.envelope.bytes().get(usize::try_from(place).ok()?..)?;
        read_entry(bytes).map(|(entry, _)| entry)
    }
}

/// The slots of a table of `size`, a power of two, in the order in which they are tried for this hash.
fn probe(hash: u64, size: usize) -> impl Iterator<Item = usize> {
    let mask = size.saturating_sub(1);
    // The upper bits would do as well; truncation on 32 bits is meant.
    #[expect(clippy::cast_possible_truncation, reason = "as many bits as a table can have")]
    let first = hash as usize;
    (0..size).map(move |step| first.wrapping_add(step) & mask)
}
