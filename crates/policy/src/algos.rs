//! A set of hash algorithms, for `appraise_algos=`.

use std::fmt;

use ima::HashAlgo;

/// The algorithms a label may use; a set, kept and shown in the order of the algorithms' ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AlgoSet(u32);

impl AlgoSet {
    /// Whether a label of this algorithm is allowed.
    #[must_use]
    pub fn contains(self, algo: HashAlgo) -> bool {
        self.0 & bit(algo) != 0
    }

    /// Whether no algorithm is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members in the order of their ids.
    pub fn iter(self) -> impl Iterator<Item = HashAlgo> {
        HashAlgo::ALL.iter().copied().filter(move |algo| self.contains(*algo))
    }
}

impl FromIterator<HashAlgo> for AlgoSet {
    fn from_iter<I: IntoIterator<Item = HashAlgo>>(algos: I) -> Self {
        Self(algos.into_iter().fold(0, |set, algo| set | bit(algo)))
    }
}

/// Ids end at 22 (sha3-512), so 32 bits hold them all.
fn bit(algo: HashAlgo) -> u32 {
    1u32.checked_shl(u32::from(algo.id())).unwrap_or(0)
}

impl fmt::Display for AlgoSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, algo) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(algo.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_shown_in_the_order_of_their_ids() {
        let set: AlgoSet =
            [HashAlgo::Sha512, HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha1].into_iter().collect();
        assert_eq!(set.to_string(), "sha1,sha256,sha512");
        assert!(set.contains(HashAlgo::Sha256));
        assert!(!set.contains(HashAlgo::Sha384));
    }

    #[test]
    fn every_algorithm_has_a_bit_of_its_own() {
        for algo in HashAlgo::ALL {
            let alone: AlgoSet = [*algo].into_iter().collect();
            assert_eq!(alone.iter().collect::<Vec<_>>(), [*algo]);
        }
    }
}
