//! What the list asks of a set of PCR banks.

use ima::{Digest, Entry, HashAlgo, PcrIndex};

use crate::journal::{JournalId, Register};

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

    /// As [`PcrBank::read`], of the registers that the list itself extends, where others are shown beside them.
    ///
    /// # Errors
    /// As [`PcrBank::read`].
    fn read_own(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        self.read(pcr, algo)
    }

    /// What a register holds before the list extends it for the first time; `None` as for [`PcrBank::read`]. A bank that
    /// refuses any other value ([`PcrBank::admit`]) says so without asking its device.
    ///
    /// # Errors
    /// As [`PcrBank::read`].
    fn first(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        self.read_own(pcr, algo)
    }

    /// Whether this is a register that a list can extend, as far as can be said without asking a device. Policies with
    /// another are refused.
    fn has(&self, _: PcrIndex) -> bool {
        true
    }

    /// Makes sure that a list may begin to extend this register. Asked for before the first entry for it gets its place:
    /// one that can never be extended would stand in the way of all after it.
    ///
    /// # Errors
    /// [`BankError::NoSuchPcr`]; [`BankError::Foreign`] where somebody else extends it, or why that cannot be found out.
    fn admit(&self, _: PcrIndex) -> Result<(), BankError> {
        Ok(())
    }

    /// Tells what registers must hold when they are extended next, because a journal proves it. Asked for before the first
    /// extend, and only where they outlive the process.
    fn expect(&self, _: &[Register]) {}

    /// Compares the registers with what was extended, also when there is nothing to extend. A bank that nobody else can
    /// reach has nothing to compare.
    ///
    /// # Errors
    /// As [`PcrBank::extend`]; [`BankError::Reset`] is told once, and everything is to be extended again then.
    fn check(&self) -> Result<(), BankError> {
        Ok(())
    }

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

    /// What it remembers of the list that this journal keeps, where it was shown entries. Then the list's entries are
    /// shown to it again, before the first extend, and it gives its registers the values that they had.
    ///
    /// # Errors
    /// [`BankError::Device`] when it cannot find out.
    fn recall(&self, _journal: JournalId) -> Result<Option<Box<dyn Recall + '_>>, BankError> {
        Ok(None)
    }

    /// Sets registers, each in one bank, to what a journal proves they held. Asked for before the first extend, and
    /// only where they do not outlive the process and nothing is recalled.
    ///
    /// # Errors
    /// [`BankError::NotRestorable`] where registers cannot be set, and then none was.
    fn restore(&self, registers: &[(PcrIndex, Digest)]) -> Result<(), BankError> {
        if registers.is_empty() { Ok(()) } else { Err(BankError::NotRestorable) }
    }
}

/// What a bank remembers of the entries that it was extended with in an earlier process.
pub trait Recall {
    /// Shows it the list's next entry, from the first on, and what each bank is extended with for it.
    ///
    /// # Errors
    /// [`BankError::OtherEntry`] where it was extended with another one.
    fn next(&mut self, entry: &Entry, digests: &[Digest]) -> Result<(), BankError>;

    /// All were shown. Gives how many of them, from the first on, are in the registers.
    ///
    /// # Errors
    /// [`BankError::OtherEntry`] where it was extended with more than the list has.
    fn end(&mut self) -> Result<u64, BankError>;
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
    /// What was extended in an earlier process as the entry of this number is not that entry of the list.
    #[error("what was extended as entry {0} is not entry {0} of the list")]
    OtherEntry(u64),
    /// The device was restarted, and the register had held something when the list began, so that extending the list again
    /// does not lead to what it held.
    #[error("the TPM was restarted, and PCR {0} had been extended before the list began")]
    Unrepeatable(PcrIndex),
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
            BankError::Reset | BankError::Unrepeatable(_) => -116,
            BankError::Foreign(_) | BankError::OtherEntry(_) => -74,
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
