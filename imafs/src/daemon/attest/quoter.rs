//! Evidence of a TPM that one list has to itself: a quote, and the list up to exactly the entry that it covers.
//!
//! Nothing stands still for it. The TPM quotes between two extends, the list is read afterwards, and where it replays to
//! what was quoted it is cut; the entries replayed once are not replayed again. Opens wait for a quote as they wait for
//! another open's extend, so quotes are rationed: after each the TPM rests from them for nine times as long as it took.

use std::sync::Arc;
use std::time::Duration;

use ima::{Digest, HashAlgo, PcrIndex, Pcrs};
use measure::{List, Snapshot};
use parking_lot::Mutex;
use tpm::{Quote, Tpm};

use super::answer::{Answer, Covered};
use super::ration::Ration;
use crate::failure::chain;

/// Registers that a TPM has.
const REGISTERS: u32 = 24;

/// Registers of the boot, which `boot_aggregate` is made of.
const BOOT: u32 = 10;

/// Makes evidence.
#[derive(Debug)]
pub(super) struct Quoter {
    tpm: Tpm,
    list: Arc<List>,
    certificates: Vec<Vec<u8>>,
    ration: Ration,
    /// How far the list has been replayed. Locked by whom the ration serves alone.
    replayed: Mutex<Replayed>,
}

/// A beginning of the list.
#[derive(Debug, Clone)]
struct Replayed {
    pcrs: Pcrs,
    entries: usize,
    bytes: u64,
}

impl Quoter {
    /// For this list in this TPM, with the certificates that go with its key.
    ///
    /// # Errors
    /// When the TPM has no bank that can be replayed.
    pub(super) fn new(tpm: Tpm, list: Arc<List>, certificates: Vec<Vec<u8>>) -> Result<Self, String> {
        let bank = tpm.banks().iter().find(|bank| **bank == HashAlgo::Sha256).or(tpm.banks().first());
        let bank = bank.ok_or("the TPM has no active bank")?;
        let pcrs = Pcrs::new(*bank).map_err(|error| chain(&error))?;
        let replayed = Replayed { pcrs, entries: 0, bytes: 0 };
        Ok(Self { tpm, list, certificates, ration: Ration::default(), replayed: Mutex::new(replayed) })
    }

    /// Evidence over this nonce, within so much time.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn quote(&self, nonce: &[u8], patience: Duration) -> Result<Answer, String> {
        self.ration.serve(patience, |clock| {
            let mut known = self.replayed.lock();
            // All that was complete before the quote is in it.
            let complete = self.list.count().saturating_sub(self.list.due());
            let snapshot = self.list.snapshot();
            known.go_on(&snapshot, |replayed| replayed.entries >= complete)?;
            let registers = self.registers(&known);
            let quote = clock.quoting(|| self.tpm.quote(nonce, self.tpm.banks(), &registers));
            let quote = quote.map_err(|error| chain(&error))?;
            let snapshot = self.list.snapshot();
            let mut replayed = known.clone();
            replayed.go_on(&snapshot, |replayed| replayed.is(&quote))?;
            if !replayed.is(&quote) {
                return Err(
                    "the list does not replay to the TPM's registers: was the TPM restarted, or did its PCR \
                     hold something when the list began?"
                        .to_owned(),
                );
            }
            *known = replayed.clone();
            Answer::new(&quote, &self.certificates, Covered::Mount(snapshot), replayed.bytes)
        })
    }

    /// The registers of the boot, and those of the list.
    fn registers(&self, replayed: &Replayed) -> Vec<PcrIndex> {
        let boot = (0..BOOT).filter_map(PcrIndex::new);
        let listed = replayed.pcrs.values().map(|(pcr, _)| pcr).chain([self.list.pcr()]);
        boot.chain(listed).filter(|pcr| pcr.value() < REGISTERS).collect()
    }
}

impl Replayed {
    /// Replays until `is_there`, or to the end.
    fn go_on(&mut self, snapshot: &Snapshot, is_there: impl Fn(&Self) -> bool) -> Result<(), String> {
        if is_there(self) {
            return Ok(());
        }
        let mut scratch = Vec::new();
        for entry in snapshot.entries_from(self.entries) {
            let entry = entry.map_err(|error| chain(&error))?;
            scratch.clear();
            // Its length is that with any digest.
            entry.write_binary_with(&mut scratch, &Digest::zero(HashAlgo::Sha1));
            self.bytes += scratch.len() as u64;
            self.entries += 1;
            self.pcrs.replay([&entry]);
            if is_there(self) {
                break;
            }
        }
        Ok(())
    }

    /// Whether the registers of the list are as they were quoted.
    fn is(&self, quote: &Quote) -> bool {
        let quoted = |pcr: PcrIndex| {
            quote.values.iter().find(|(at, value)| *at == pcr && value.algo() == self.pcrs.algo())
        };
        let mut registers = self.pcrs.values();
        registers.all(|(pcr, value)| quoted(pcr).is_some_and(|(_, quoted)| *quoted == value))
    }
}
