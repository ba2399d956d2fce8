//! What the list asks of a set of PCR banks.

use ima::{Digest, Entry, HashAlgo, PcrIndex};

/// PCR banks: registers that can be extended and read, never set.
///
/// The list calls [`PcrBank::extend`] one at a time, in the list's order. Reading may happen at any time.
pub trait PcrBank: Send + Sync {
    /// The banks' algorithms, in a fixed order, each once. Asked for once, when the list begins.
    fn algos(&self) -> Vec<HashAlgo>;

    /// Extends the register in every bank, all or none: `digests` has one digest for each of
    /// [`PcrBank::algos`], in that order.
    ///
    /// # Errors
    /// [`BankError`], and then no bank was extended. A device that may have done it before the connection
    /// broke finds out (by reading the register) before it says so.
    fn extend(&self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), BankError>;

    /// Whether it must know what it is extended for. Then [`PcrBank::extend_entry`] is called instead.
    fn wants_entries(&self) -> bool {
        false
    }

    /// As [`PcrBank::extend`], for this entry, whose register it is.
    ///
    /// # Errors
    /// As [`PcrBank::extend`].
    fn extend_entry(&self, entry: &Entry, digests: &[Digest]) -> Result<(), BankError> {
        self.extend(entry.pcr(), digests)
    }

    /// The register's value; `None` where there is no such bank or no such register.
    ///
    /// # Errors
    /// [`BankError::Device`] when it could not be read.
    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError>;

    /// Whether registers 0 to 9 hold how the machine came up. Only then does the list's first entry,
    /// `boot_aggregate`, hash them; else its digest is zero, as on a machine without a TPM.
    fn has_boot_measurements(&self) -> bool {
        false
    }

    /// Whether the registers are a device's and outlive this process. If not, [`PcrBank::restore`] sets them when a list
    /// goes on.
    fn outlives_process(&self) -> bool {
        false
    }

    /// Sets registers, each in one bank, to what a journal proves they held. Asked for before the first extend, and
    /// only where they do not outlive the process.
    ///
    /// # Errors
    /// [`BankError::NotRestorable`] where registers cannot be set, and then none was.
    fn restore(&self, registers: &[(PcrIndex, Digest)]) -> Result<(), BankError> {
        if registers.is_empty() { Ok(()) } else { Err(BankError::NotRestorable) }
    }
}

/// Why a register was not extended or not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BankError {
    /// The digests are not one for each bank.
    #[error("the digests do not match the banks")]
    WrongDigests,
    /// There is no such register.
    #[error("there is no PCR {0}")]
    NoSuchPcr(PcrIndex),
    /// The registers are as a restart of the device leaves them: nothing that was extended is in them any more.
    /// The list answers by extending all its entries again.
    #[error("the TPM was restarted")]
    Reset,
    /// The register does not hold what was extended: somebody else has extended or reset it.
    #[error("PCR {0} was changed by somebody else")]
    Foreign(PcrIndex),
    /// These registers cannot be set.
    #[error("the registers cannot be set to what they held")]
    NotRestorable,
    /// The device refused or cannot be reached.
    #[error("the TPM failed with code {code:#x}")]
    Device {
        /// The device's own code, as records name it (`TPM_error(n)`); negative: an errno.
        code: i32,
        /// What its driver says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BankError {
    /// The number for the kernel's cause `TPM_error(n)`; an errno where it is not the device that refused: -22
    /// (`EINVAL`) where none was asked, -116 (`ESTALE`) after a restart, -74 (`EBADMSG`) for a foreign value.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            BankError::WrongDigests | BankError::NoSuchPcr(_) | BankError::NotRestorable => -22,
            BankError::Reset => -116,
            BankError::Foreign(_) => -74,
            BankError::Device { code, .. } => *code,
        }
    }
}

/// No bank at all: extending does nothing and succeeds, as in a kernel without a TPM.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBank;

impl PcrBank for NoBank {
    fn algos(&self) -> Vec<HashAlgo> {
        Vec::new()
    }

    fn extend(&self, _: PcrIndex, _: &[Digest]) -> Result<(), BankError> {
        Ok(())
    }

    fn read(&self, _: PcrIndex, _: HashAlgo) -> Result<Option<Digest>, BankError> {
        Ok(None)
    }
}
