//! `boot_aggregate`, the list's first entry: the registers the firmware extended, in one digest.
//!
//! Source: `ima_add_boot_aggregate` (security/integrity/ima/ima_init.c) and `ima_calc_boot_aggregate`
//! (ima_crypto.c), Linux 6.1.

use ima::{Digest, HashAlgo, PcrIndex, Pcrs};

use crate::{BankError, PcrBank};

/// The digest, and for template `ima`, which holds only SHA-1, its SHA-1 form.
pub(crate) struct BootAggregate {
    pub(crate) digest: Digest,
    pub(crate) legacy: Digest,
}

/// Hashes registers 0 to 9 of the default algorithm's bank, else of SHA-256's, else of SHA-1's; zero where
/// there is none of these, or where the registers say nothing about the boot.
pub(crate) fn aggregate(bank: &dyn PcrBank, default: HashAlgo) -> Result<BootAggregate, BankError> {
    let zero = BootAggregate { digest: Digest::zero(default), legacy: Digest::zero(HashAlgo::Sha1) };
    if !bank.has_boot_measurements() {
        return Ok(zero);
    }
    let algos = bank.algos();
    let chosen = [default, HashAlgo::Sha256, HashAlgo::Sha1].into_iter().find(|algo| algos.contains(algo));
    let digest = chosen.map_or(Ok(zero.digest), |algo| over(bank, algo))?;
    let legacy = if algos.contains(&HashAlgo::Sha1) { over(bank, HashAlgo::Sha1)? } else { zero.legacy };
    Ok(BootAggregate { digest, legacy })
}

fn over(bank: &dyn PcrBank, algo: HashAlgo) -> Result<Digest, BankError> {
    let Ok(mut pcrs) = Pcrs::new(algo) else { return Ok(Digest::zero(algo)) };
    for pcr in (0..10).filter_map(PcrIndex::new) {
        let value = bank.read(pcr, algo)?.ok_or(BankError::NoSuchPcr(pcr))?;
        pcrs.set(pcr, value).map_err(|_| BankError::WrongDigests)?;
    }
    Ok(ima::boot_aggregate(&pcrs))
}
