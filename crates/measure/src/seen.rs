//! Which entries the list already has: the kernel's hash table, by template digest and PCR.
//!
//! A table of positions, 12 bytes an entry and what the table keeps free (19 to 39 in all, as it doubles): the digest
//! itself is computed again from the entry found, since a list of a million would otherwise keep a million
//! digests for this alone. It is what an entry costs that has been let go to the journal. Positions are found by a
//! keyed hash, so that a container cannot choose file contents that collide.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use ima::{Digest, PcrIndex};

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    hasher: RandomState,
    positions: HashMap<u64, u32>,
}

impl Seen {
    /// Positions among which the entry is, if the list has it: nearly always one or none.
    pub(crate) fn candidates(&self, digest: &Digest, pcr: PcrIndex) -> Vec<usize> {
        self.taken(self.place(digest, pcr)).map(|(_, position)| position).collect()
    }

    /// Notes a new entry at `position`. One beyond 2^32 is not noted: such an entry would be added again,
    /// which a list of four thousand million may.
    pub(crate) fn insert(&mut self, digest: &Digest, pcr: PcrIndex, position: usize) {
        let Ok(position) = u32::try_from(position) else { return };
        let place = self.place(digest, pcr);
        let free = self.taken(place).last().map_or(place, |(place, _)| place.wrapping_add(1));
        self.positions.insert(free, position);
    }

    fn place(&self, digest: &Digest, pcr: PcrIndex) -> u64 {
        self.hasher.hash_one((digest.bytes(), pcr))
    }

    /// The run of taken places that begins at `place`, with the positions noted there.
    fn taken(&self, place: u64) -> impl Iterator<Item = (u64, usize)> {
        (0..).map(move |step| place.wrapping_add(step)).map_while(|place| {
            let position = self.positions.get(&place)?;
            Some((place, *position as usize))
        })
    }
}

#[cfg(test)]
mod tests {
    use ima::HashAlgo;

    use super::*;

    #[test]
    fn entries_whose_hashes_collide_are_all_candidates() {
        let mut seen = Seen::default();
        let digest = Digest::ones(HashAlgo::Sha1);
        for position in 0..3 {
            seen.insert(&digest, PcrIndex::DEFAULT, position);
        }
        assert_eq!(seen.candidates(&digest, PcrIndex::DEFAULT), [0, 1, 2]);
        assert_eq!(seen.candidates(&digest, PcrIndex::new(11).unwrap()), [0; 0]);
    }
}
