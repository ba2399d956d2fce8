//! The bank of a mount that shares a TPM: registers of its own in this process, and a line in the host list for
//! each of its own.
//!
//! Locks: `turn`, then the host's.

use std::path::Path;
use std::time::Duration;

use ima::{Digest, Entry, HashAlgo, HostLine, PcrIndex};
use measure::bank::Recall;
use measure::journal::JournalId;
use measure::{BankError, PcrBank, SoftBank};
use parking_lot::Mutex;

use super::lines::Seal;
use super::{HostError, HostList, HostQuote, Written};
use crate::Tpm;
use crate::service::LIMIT;

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
    /// The journal that keeps the list, if any does.
    journal: Option<JournalId>,
    /// Whether it is noted where the list's lines begin.
    begun: bool,
}

impl HostBank {
    /// The bank of the mount `ns`, whose own registers are `own`, on the host list in `directory`. The id is also the
    /// name of a file.
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
        Self::open_within(directory, tpm, pcr, ns, own, LIMIT)
    }

    /// As [`HostBank::open`], with another limit after which a list that does not move counts as stuck.
    ///
    /// # Errors
    /// As [`HostBank::open`].
    pub fn open_within(
        directory: &Path,
        tpm: Tpm,
        pcr: PcrIndex,
        ns: impl Into<String>,
        own: SoftBank,
        limit: Duration,
    ) -> Result<Self, HostError> {
        let host = HostList::open(directory, tpm, pcr, limit)?;
        Ok(Self { own, ns: ns.into(), host, turn: Mutex::default() })
    }

    /// Quotes the registers of the boot and that of the host list over a nonce, with the list at that moment. Lines wait
    /// for it as they wait for each other.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn quote(&self, nonce: &[u8]) -> Result<HostQuote, HostError> {
        self.host.quote(nonce, BOOT_REGISTERS)
    }

    /// The shared TPM.
    #[must_use]
    pub fn tpm(&self) -> &Tpm {
        self.host.tpm()
    }
}

impl HostBank {
    /// The next line, for this entry, into the host list.
    fn put(&self, turn: &mut Turn, entry: &Entry) -> Result<(), HostError> {
        if !turn.begun {
            self.host.begin(&self.ns, turn.journal)?;
            turn.begun = true;
        }
        self.host.put(&HostLine::new(&self.ns, turn.seq, entry.clone()), &mut turn.written)
    }

    /// The line is in the host list; then the registers of our own.
    fn count(&self, turn: &mut Turn, pcr: PcrIndex, digests: &[Digest]) -> Result<(), BankError> {
        turn.seq += 1;
        turn.extended |= 1 << pcr.value();
        self.own.extend(pcr, digests)
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
        let done = self.put(&mut turn, entry).map_err(BankError::from);
        self.tpm().note_extend(&done);
        done?;
        self.count(&mut turn, entry.pcr(), digests)
    }

    fn recall(&self, journal: JournalId) -> Result<Option<Box<dyn Recall + '_>>, BankError> {
        let known = self.host.recall(&self.ns, journal)?;
        let mut turn = self.turn.lock();
        turn.journal = Some(journal);
        turn.begun = known.is_some();
        Ok(Some(Box::new(Recalled { bank: self, lines: known.unwrap_or_default().into_iter() })))
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

    fn read_own(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        self.own.read(pcr, algo)
    }

    /// The registers of our own cannot change; the TPM's are those of the host list.
    fn check(&self) -> Result<(), BankError> {
        self.host.check().map_err(BankError::from)
    }

    fn has_boot_measurements(&self) -> bool {
        true
    }
}

/// The lines of a list that goes on, held against its entries as they come from the journal.
struct Recalled<'a> {
    bank: &'a HostBank,
    lines: std::vec::IntoIter<Seal>,
}

impl Recall for Recalled<'_> {
    fn next(&mut self, entry: &Entry, digests: &[Digest]) -> Result<(), BankError> {
        let Some(seal) = self.lines.next() else { return Ok(()) };
        let mut turn = self.bank.turn.lock();
        if Seal::of(turn.seq, entry) != Some(seal) {
            return Err(BankError::OtherEntry(turn.seq));
        }
        self.bank.count(&mut turn, entry.pcr(), digests)
    }

    fn end(&mut self) -> Result<u64, BankError> {
        let extended = self.bank.turn.lock().seq;
        if self.lines.next().is_some() { Err(BankError::OtherEntry(extended)) } else { Ok(extended) }
    }
}
