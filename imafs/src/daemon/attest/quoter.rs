//! Evidence: a quote, and the list up to exactly the entry that it covers.
//!
//! Nothing stands still for it. The TPM quotes between two extends, the list is read afterwards, and where it replays to
//! what was quoted it is cut; the entries replayed once are not replayed again. Opens wait for a quote as they wait for
//! another open's extend, so quotes are rationed: after each the TPM rests from them for nine times as long as it took.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use attest::evidence::Evidence;
use ima::{Digest, HashAlgo, PcrIndex, Pcrs};
use measure::{Form, List, Snapshot};
use parking_lot::Mutex;
use tpm::{Quote, Tpm};

use crate::failure::chain;

/// After a quote the TPM has none to make for this many times as long.
const REST: u32 = 9;

/// Registers that a TPM has.
const REGISTERS: u32 = 24;

/// Registers of the boot, which `boot_aggregate` is made of.
const BOOT: u32 = 10;

/// Bytes of the list written at once.
const PIECE: u64 = 1 << 20;

/// Makes evidence.
#[derive(Debug)]
pub(super) struct Quoter {
    tpm: Tpm,
    list: Arc<List>,
    certificates: Vec<Vec<u8>>,
    turn: Mutex<Turn>,
}

/// How far the list has been replayed, and when the next quote may be made.
#[derive(Debug)]
struct Turn {
    replayed: Replayed,
    rested: Instant,
}

/// A beginning of the list.
#[derive(Debug, Clone)]
struct Replayed {
    pcrs: Pcrs,
    entries: usize,
    bytes: u64,
}

/// Evidence, its list not yet written.
#[derive(Debug)]
pub(super) struct Answer {
    head: Vec<u8>,
    snapshot: Snapshot,
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
        let turn = Mutex::new(Turn { replayed, rested: Instant::now() });
        Ok(Self { tpm, list, certificates, turn })
    }

    /// Evidence over this nonce, within so much time.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn quote(&self, nonce: &[u8], patience: Duration) -> Result<Answer, String> {
        let busy = || "too many ask for evidence: ask again later".to_owned();
        let until = Instant::now() + patience;
        let mut turn = self.turn.try_lock_until(until).ok_or_else(busy)?;
        let rest = turn.rested.saturating_duration_since(Instant::now());
        if rest > until.saturating_duration_since(Instant::now()) {
            return Err(busy());
        }
        std::thread::sleep(rest);
        // All that was complete before the quote is in it.
        let count = self.list.count();
        let complete = count.saturating_sub(self.list.due());
        let snapshot = self.list.snapshot();
        turn.replayed.go_on(&snapshot, |replayed| replayed.entries >= complete)?;
        let began = Instant::now();
        let quote = self.tpm.quote(nonce, self.tpm.banks(), &self.registers(&turn.replayed));
        turn.rested = Instant::now() + began.elapsed() * REST;
        let quote = quote.map_err(|error| chain(&error))?;
        let snapshot = self.list.snapshot();
        let mut replayed = turn.replayed.clone();
        replayed.go_on(&snapshot, |replayed| replayed.is(&quote))?;
        if !replayed.is(&quote) {
            return Err(
                "the list does not replay to the TPM's registers: was the TPM restarted, or did its PCR \
                        hold something when the list began?"
                    .to_owned(),
            );
        }
        turn.replayed = replayed.clone();
        drop(turn);
        let head = self.head(&quote, replayed.bytes)?;
        Ok(Answer { head, snapshot, bytes: replayed.bytes })
    }

    /// The registers of the boot, and those of the list.
    fn registers(&self, replayed: &Replayed) -> Vec<PcrIndex> {
        let boot = (0..BOOT).filter_map(PcrIndex::new);
        let listed = replayed.pcrs.values().map(|(pcr, _)| pcr).chain([self.list.pcr()]);
        boot.chain(listed).filter(|pcr| pcr.value() < REGISTERS).collect()
    }

    fn head(&self, quote: &Quote, list: u64) -> Result<Vec<u8>, String> {
        let evidence = Evidence {
            attest: &quote.attest,
            signature: &quote.signature,
            public: &quote.key.public,
            registers: quote.values.clone(),
            certificates: self.certificates.iter().map(Vec::as_slice).collect(),
            list: &[],
        };
        evidence.head(list).map_err(|error| chain(&error))
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

impl Answer {
    /// Writes it, unless `until` comes first.
    ///
    /// # Errors
    /// When the other side does not take it, or the list cannot be read.
    pub(super) fn write_to(&self, out: &mut impl Write, until: Instant) -> io::Result<()> {
        out.write_all(&self.head)?;
        let mut offset = 0;
        while offset < self.bytes {
            if Instant::now() >= until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let max = usize::try_from(PIECE.min(self.bytes - offset)).unwrap_or(usize::MAX);
            let piece = self.snapshot.read_at(Form::Binary, HashAlgo::Sha1, offset, max);
            let piece = piece.map_err(io::Error::other)?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.write_all(&piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}
