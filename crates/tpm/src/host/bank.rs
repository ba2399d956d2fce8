//! The bank of a mount that shares a TPM: registers of its own in this process, and a line in the host list for
//! each of its own.
//!
//! Locks: `turn`, then the host's.

use std::path::Path;

use ima::{Digest, Entry, HashAlgo, HostLine, PcrIndex};
use measure::{BankError, PcrBank, SoftBank};
use parking_lot::Mutex;

use super::{HostError, HostList, Written};
use crate::Tpm;

/// Registers that a firmware extends.
const BOOT_REGISTERS: u32 = 10;

/// See the module's text.
#[derive(Debug)]
pub struct HostBank {
    own: SoftBank,
    ns: String,
    host: HostList,
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    /// The number of the next line.
    seq: u64,
    /// Whether it has been written.
    written: Option<Written>,
    /// Registers of our own that have been extended, a bit each.
    extended: u64,
}

impl HostBank {
    /// The bank of the mount `ns`, whose own registers are `own`, on the host list in `directory`.
    ///
    /// # Errors
    /// [`HostError`]; [`HostError::advice`] says what to do about it.
    pub fn open(
        directory: &Path,
        tpm: Tpm,
        pcr: PcrIndex,
        ns: impl Into<String>,
        own: SoftBank,
    ) -> Result<Self, HostError> {
        let host = HostList::open(directory, tpm, pcr)?;
        Ok(Self { own, ns: ns.into(), host, turn: Mutex::default() })
    }

    /// The shared TPM.
    #[must_use]
    pub fn tpm(&self) -> &Tpm {
        self.host.tpm()
    }
}

impl PcrBank for HostBank {
    fn algos(&self) -> Vec<HashAlgo> {
        self.own.algos()
    }

    /// A line of the host list holds the entry, so without one there is nothing to extend.
    fn extend(&self, _: PcrIndex, _: &[Digest]) -> Result<(), BankError> {
        Err(BankError::WrongDigests)
    }

    fn wants_entries(&self) -> bool {
        true
    }

    fn extend_entry(&self, entry: &Entry, digests: &[Digest]) -> Result<(), BankError> {
        if !self.own.algos().into_iter().eq(digests.iter().map(Digest::algo)) {
            return Err(BankError::WrongDigests);
        }
        let mut turn = self.turn.lock();
        let line = HostLine::new(&self.ns, turn.seq, entry.clone());
        let done = self.host.put(&line, &mut turn.written).map_err(BankError::from);
        self.tpm().note_extend(&done);
        done?;
        turn.seq += 1;
        turn.extended |= 1 << entry.pcr().value();
        self.own.extend(entry.pcr(), digests)
    }

    /// A register of our own; one of the first ten that we have not extended is the TPM's, so that the list begins
    /// with how the machine came up.
    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        let ours = self.turn.lock().extended & (1 << pcr.value()) != 0;
        let bank = self.tpm().banks().iter().position(|bank| *bank == algo);
        let Some(bank) = bank.filter(|_| !ours && pcr.value() < BOOT_REGISTERS) else {
            return self.own.read(pcr, algo);
        };
        Ok(self.tpm().read_lately(pcr)?.and_then(|values| values.get(bank).copied()))
    }

    fn has_boot_measurements(&self) -> bool {
        true
    }
}
