//! Lists of digests, an addition of imafs: `digest=sha256:...,sha256:...`.

use std::fmt;

use ima::{Digest, HashAlgo};

use crate::error::Reason;

/// The digests of `digest=`: all of one algorithm, sorted, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DigestList {
    algo: HashAlgo,
    digests: Box<[Digest]>,
}

impl DigestList {
    pub(crate) fn parse(text: &str) -> Result<Self, Reason> {
        let mut digests = Vec::new();
        for item in text.split(',') {
            if item.is_empty() {
                return Err(Reason::EmptyItem);
            }
            let digest: Digest = item.parse().map_err(|_| Reason::BadDigest { item: item.to_owned() })?;
            digests.push(digest);
        }
        let algo = digests.first().ok_or(Reason::EmptyItem)?.algo();
        if digests.iter().any(|digest| digest.algo() != algo) {
            return Err(Reason::MixedDigestAlgos);
        }
        if !algo.is_available() {
            return Err(Reason::UnavailableAlgo { name: algo.name().to_owned() });
        }
        digests.sort_unstable_by(|a, b| a.bytes().cmp(b.bytes()));
        digests.dedup();
        Ok(Self { algo, digests: digests.into_boxed_slice() })
    }

    pub(crate) const fn algo(&self) -> HashAlgo {
        self.algo
    }

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.algo == digest.algo()
            && self.digests.binary_search_by(|known| known.bytes().cmp(digest.bytes())).is_ok()
    }
}

impl fmt::Display for DigestList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, digest) in self.digests.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_two_algorithms_in_one_list_are_refused() {
        let sha1 = format!("sha1:{}", "0".repeat(40));
        let sha256 = format!("sha256:{}", "0".repeat(64));
        assert_eq!(DigestList::parse(&format!("{sha1},{sha256}")).unwrap_err(), Reason::MixedDigestAlgos);
        assert_eq!(DigestList::parse(&format!("{sha1},")).unwrap_err(), Reason::EmptyItem);
        assert!(matches!(DigestList::parse("sha256:00"), Err(Reason::BadDigest { .. })));
        let list = DigestList::parse(&sha256).unwrap();
        assert!(list.contains(&Digest::zero(HashAlgo::Sha256)));
        assert!(!list.contains(&Digest::ones(HashAlgo::Sha256)));
        assert!(!list.contains(&Digest::zero(HashAlgo::Sha1)));
    }
}
