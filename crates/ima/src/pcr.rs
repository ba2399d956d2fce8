//! Replaying a list: what the PCRs of a bank hold after all its entries, by arithmetic alone.
//!
//! Source: TPM 2.0 Library, part 1, "PCR extend"; `ima_calc_boot_aggregate_tfm`, security/integrity/ima/ima_crypto.c.

use std::collections::BTreeMap;

use crate::{Digest, Entry, HashAlgo, Hasher, PcrIndex, UnavailableAlgo};

/// The PCRs of one bank. A register not yet extended is zero.
#[derive(Debug, Clone)]
pub struct Pcrs {
    /// Blank; that it exists proves that the algorithm can be computed.
    blank: Hasher,
    values: BTreeMap<PcrIndex, Digest>,
}

/// A digest of another algorithm than the bank's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {bank} bank takes no {found} digest")]
pub struct WrongBank {
    /// The bank's algorithm.
    pub bank: HashAlgo,
    /// The digest's algorithm.
    pub found: HashAlgo,
}

impl Pcrs {
    /// A bank of zeros.
    ///
    /// # Errors
    /// [`UnavailableAlgo`] where the algorithm cannot be computed.
    pub fn new(algo: HashAlgo) -> Result<Self, UnavailableAlgo> {
        Ok(Self { blank: Hasher::new(algo)?, values: BTreeMap::new() })
    }

    /// The bank's algorithm.
    pub const fn algo(&self) -> HashAlgo {
        self.blank.algo()
    }

    /// The value of a register.
    pub fn value(&self, pcr: PcrIndex) -> Digest {
        self.values.get(&pcr).copied().unwrap_or_else(|| Digest::zero(self.algo()))
    }

    /// The registers that were extended or set, in order.
    pub fn values(&self) -> impl Iterator<Item = (PcrIndex, Digest)> + '_ {
        self.values.iter().map(|(pcr, value)| (*pcr, *value))
    }

    /// Gives a register a value known from elsewhere: a bank that was not zero when the list began.
    ///
    /// # Errors
    /// [`WrongBank`]; the register is left alone then.
    pub fn set(&mut self, pcr: PcrIndex, value: Digest) -> Result<(), WrongBank> {
        self.check(&value)?;
        self.values.insert(pcr, value);
        Ok(())
    }

    /// Extends a register and returns its new value: H(old value, digest).
    ///
    /// # Errors
    /// [`WrongBank`]; the register is left alone then.
    pub fn extend(&mut self, pcr: PcrIndex, digest: &Digest) -> Result<Digest, WrongBank> {
        self.check(digest)?;
        Ok(self.extend_checked(pcr, digest))
    }

    /// Extends by entries in the order given; ones for a violation.
    pub fn replay<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) {
        for entry in entries {
            let value = if entry.is_violation() {
                Digest::ones(self.algo())
            } else {
                entry.hash_data(self.blank.clone())
            };
            self.extend_checked(entry.pcr(), &value);
        }
    }

    fn extend_checked(&mut self, pcr: PcrIndex, digest: &Digest) -> Digest {
        let mut hasher = self.blank.clone();
        hasher.update(self.value(pcr).bytes());
        hasher.update(digest.bytes());
        let value = hasher.finish();
        self.values.insert(pcr, value);
        value
    }

    fn check(&self, digest: &Digest) -> Result<(), WrongBank> {
        if digest.algo() == self.algo() {
            Ok(())
        } else {
            Err(WrongBank { bank: self.algo(), found: digest.algo() })
        }
    }
}

/// The digest of a list's first entry: over PCRs 0 to 9 of a bank, of a SHA-1 bank only 0 to 7.
///
/// The kernel takes the bank of the default hash algorithm where there is one, else SHA-256, else SHA-1; without a
/// TPM the digest is [`Digest::zero`] of the default algorithm.
pub fn boot_aggregate(pcrs: &Pcrs) -> Digest {
    let last = if pcrs.algo() == HashAlgo::Sha1 { 7 } else { 9 };
    let mut hasher = pcrs.blank.clone();
    for pcr in (0..=last).filter_map(PcrIndex::new) {
        hasher.update(pcrs.value(pcr).bytes());
    }
    hasher.finish()
}
