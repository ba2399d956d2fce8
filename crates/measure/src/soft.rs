//! PCR banks in this process: the arithmetic of a TPM without its protection.
//!
//! Whoever can write this process's memory can write these registers. They let the list be checked with the
//! tools that check a TPM's, and nothing more.
//!
//! One lock over all banks, so that an extend is seen whole.

use ima::{Digest, HashAlgo, PcrIndex, Pcrs, UnavailableAlgo};
use parking_lot::Mutex;

use crate::{BankError, PcrBank};

/// See the module's text. Registers 0 to 63, all zero at first.
#[derive(Debug)]
pub struct SoftBank {
    banks: Mutex<Vec<Pcrs>>,
}

impl SoftBank {
    /// A bank for each of these algorithms; one named twice counts once.
    ///
    /// # Errors
    /// [`UnavailableAlgo`] for an algorithm that cannot be computed.
    pub fn new(algos: &[HashAlgo]) -> Result<Self, UnavailableAlgo> {
        let mut banks: Vec<Pcrs> = Vec::with_capacity(algos.len());
        for algo in algos {
            if !banks.iter().any(|bank| bank.algo() == *algo) {
                banks.push(Pcrs::new(*algo)?);
            }
        }
        Ok(Self { banks: Mutex::new(banks) })
    }
}

impl PcrBank for SoftBank {
    fn algos(&self) -> Vec<HashAlgo> {
        self.banks.lock().iter().map(Pcrs::algo).collect()
    }

    fn extend(&self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), BankError> {
        let mut banks = self.banks.lock();
        let algos = banks.iter().map(Pcrs::algo);
        if !algos.eq(digests.iter().map(Digest::algo)) {
            return Err(BankError::WrongDigests);
        }
        for (bank, digest) in banks.iter_mut().zip(digests) {
            bank.extend(pcr, digest).map_err(|_| BankError::WrongDigests)?;
        }
        Ok(())
    }

    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        let banks = self.banks.lock();
        Ok(banks.iter().find(|bank| bank.algo() == algo).map(|bank| bank.value(pcr)))
    }

    fn restore(&self, registers: &[(PcrIndex, Digest)]) -> Result<(), BankError> {
        let mut banks = self.banks.lock();
        let mut restored = banks.clone();
        for (pcr, value) in registers {
            let bank = restored.iter_mut().find(|bank| bank.algo() == value.algo());
            let bank = bank.ok_or(BankError::WrongDigests)?;
            bank.set(*pcr, *value).map_err(|_| BankError::WrongDigests)?;
        }
        *banks = restored;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_that_do_not_fit_the_banks_extend_nothing() {
        let bank = SoftBank::new(&[HashAlgo::Sha1, HashAlgo::Sha256, HashAlgo::Sha1]).unwrap();
        assert_eq!(bank.algos(), [HashAlgo::Sha1, HashAlgo::Sha256]);
        let (sha1, sha256) = (Digest::ones(HashAlgo::Sha1), Digest::ones(HashAlgo::Sha256));
        for wrong in [&[][..], &[sha1], &[sha256, sha1], &[sha1, sha256, sha256], &[sha1, sha1]] {
            assert!(matches!(bank.extend(PcrIndex::DEFAULT, wrong), Err(BankError::WrongDigests)));
        }
        assert_eq!(bank.read(PcrIndex::DEFAULT, HashAlgo::Sha1).unwrap(), Some(Digest::zero(HashAlgo::Sha1)));
        assert_eq!(bank.read(PcrIndex::DEFAULT, HashAlgo::Sha512).unwrap(), None);
        bank.extend(PcrIndex::DEFAULT, &[sha1, sha256]).unwrap();
        // (head -c20 /dev/zero; head -c20 /dev/zero | tr '\0' '\377') | sha1sum
        let value = bank.read(PcrIndex::DEFAULT, HashAlgo::Sha1).unwrap().unwrap();
        assert_eq!(value.to_hex(), "bac37b84f007d0238af95af707cac8d61254870e");
    }

    #[test]
    fn what_cannot_be_hashed_is_no_bank() {
        let unknown = HashAlgo::ALL.iter().find(|algo| !algo.is_available()).unwrap();
        assert!(SoftBank::new(&[HashAlgo::Sha256, *unknown]).is_err());
    }
}
