//! The host list: one PCR of one TPM under many mounts (`docs/host-list.md`).
//!
//! Each mount's process writes its lines itself, under one lock, with no process between them that could fail for
//! all. So whoever takes the lock first puts in order what the last one may have left half done.

mod bank;
mod files;
mod lines;
mod lock;
mod note;
mod state;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ima::{Digest, HostLine, PcrIndex, parse_host};
use measure::BankError;
use measure::journal::JournalId;

pub use bank::HostBank;
use files::Files;
use lines::{Lines, Seal};
pub use lock::Holder;
use lock::Lock;
use note::Note;
use state::State;

use crate::bank::{after, at_restart};
use crate::{Quote, Tpm, TpmError};

/// A TPM cannot be restarted between two commands that follow each other this closely.
const AT_ONCE: Duration = Duration::from_millis(10);

/// A process that was killed may have had a command under way that the TPM has not begun. The kernel and swtpm take
/// commands in their order, but a device whose last user has gone needs a moment to say that it is done.
const LEFT_OVER: Duration = Duration::from_millis(20);

/// How often a quote is made again when the register is not what the list makes it.
const ATTEMPTS: u32 = 3;

/// Why the host list cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A file of it cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is for another PCR than this mount wants.
    #[error("the host list at {} is for PCR {pcr}", path.display())]
    OtherPcr {
        /// Its directory.
        path: PathBuf,
        /// The PCR it is for.
        pcr: PcrIndex,
    },
    /// It is for a TPM with other banks.
    #[error("the host list at {} is for a TPM with other banks", path.display())]
    OtherBanks {
        /// Its directory.
        path: PathBuf,
    },
    /// Somebody has changed it: lines that were in the PCR are gone, or are not what they were.
    #[error("the host list at {} was changed at byte {offset}", path.display())]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// What is noted about the lines of a mount is no such note.
    #[error("{} was changed", path.display())]
    Note {
        /// The note.
        path: PathBuf,
    },
    /// Somebody holds the lock and does nothing.
    #[error(
        "{holder} holds the host list at {}, which has not moved for {} seconds",
        path.display(),
        limit.as_secs()
    )]
    Stuck {
        /// Its directory.
        path: PathBuf,
        /// Who.
        holder: Holder,
        /// How long it was waited at least.
        limit: Duration,
    },
    /// The TPM does not do what it is asked.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The PCR is neither what the list makes it nor as after a restart.
    #[error("PCR {0} holds what no line of the host list explains")]
    Foreign(PcrIndex),
}

impl HostError {
    /// The number for `TPM_error(n)`: the TPM's own, or an errno, negative.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::File { source, .. } => source.raw_os_error().map_or(-5, |errno| -errno),
            Self::OtherPcr { .. } | Self::OtherBanks { .. } => -22,
            Self::Damaged { .. } | Self::Note { .. } | Self::Foreign(_) => -74,
            Self::Stuck { .. } => -110,
            Self::Tpm(error) => error.code(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::File { .. } => "it lies in the run directory: see whether that is full or read-only".to_owned(),
            Self::OtherPcr { pcr, .. } => format!("give this mount --pcr {pcr}, or another --host-list"),
            Self::OtherBanks { .. } => "name each TPM's host list apart with --host-list".to_owned(),
            Self::Stuck { holder: Holder(Some(pid)), .. } => {
                format!("continue it (kill -CONT {pid}) or end it (kill -KILL {pid}): either way nothing is lost")
            }
            Self::Stuck { .. } => "look for an imafs that does not run: ps -C imafs -o pid,stat,args".to_owned(),
            Self::Damaged { .. } | Self::Note { .. } | Self::Foreign(_) => {
                "what was extended cannot be shown any more: name another --pcr and --host-list, or restart the TPM \
                 and remove the directory of the list"
                    .to_owned()
            }
            Self::Tpm(error) => error.advice(),
        }
    }
}

impl From<HostError> for BankError {
    fn from(error: HostError) -> Self {
        Self::Device { code: error.code(), source: Box::new(error) }
    }
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct HostList {
    files: Files,
    tpm: Tpm,
    pcr: PcrIndex,
}

/// A quote of a host list.
#[derive(Debug)]
pub struct HostQuote {
    /// The quote.
    pub quote: Quote,
    /// The list, which goes on growing.
    pub list: File,
    /// How many bytes of it were quoted: whole lines.
    pub bytes: u64,
}

/// A line that was written and may not be in the PCR yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// The list it is in, by the boot it belongs to.
    boot: [u8; 16],
    /// Where it ends.
    end: u64,
}

impl HostList {
    /// Opens the list in this directory, and makes one where there is none.
    pub(crate) fn open(
        directory: &Path,
        tpm: Tpm,
        pcr: PcrIndex,
        limit: Duration,
    ) -> Result<Self, HostError> {
        let list = Self { files: Files::open(directory, limit)?, tpm, pcr };
        list.settled()?;
        Ok(list)
    }

    /// The lock, and the list in order.
    fn settled(&self) -> Result<(Lock, State), HostError> {
        // A command of ours that hangs keeps the lock: the TPM is to blame then, and not its holder.
        self.tpm.silence()?;
        let lock = self.files.lock()?;
        let mut state = self.load(&lock)?;
        self.settle(&lock, &mut state)?;
        Ok((lock, state))
    }

    /// A list of this mount begins whose first line is the next one of it, and which this journal keeps, if any.
    fn begin(&self, ns: &str, journal: Option<JournalId>) -> Result<(), HostError> {
        let (_lock, state) = self.settled()?;
        let note = journal.map(|journal| Note { boot: state.boot, journal, from: state.bytes });
        self.files.set_note(ns, note.as_ref())
    }

    /// The lines of the list that this journal keeps, each by its seal; `None` where it never had one here. All lines
    /// are held against the PCR before: what the journal is compared with is what was extended.
    fn recall(&self, ns: &str, journal: JournalId) -> Result<Option<Vec<Seal>>, HostError> {
        let (lock, state) = self.settled()?;
        let noted = self.files.note(ns)?;
        let Some(note) = noted.filter(|note| note.boot == state.boot && note.journal == journal) else {
            return Ok(None);
        };
        // What is in the list does not change any more, and others need not wait.
        drop(lock);
        let (mut values, mut seals) = (self.restarted(), Vec::new());
        let mut lines = Lines::new(&self.files, state.bytes);
        while let Some(line) = lines.next(self.pcr)? {
            values = after(&values, &self.digests(&line, lines.offset())?);
            if lines.offset() > note.from && line.ns() == ns {
                seals.push(Seal::of(line.seq(), line.entry()).ok_or_else(|| self.damaged(lines.offset()))?);
            }
        }
        if values == state.values { Ok(Some(seals)) } else { Err(HostError::Foreign(self.pcr)) }
    }

    pub(crate) fn tpm(&self) -> &Tpm {
        &self.tpm
    }

    /// Puts a line into the list and into the PCR. `written` says whether it is in the list from an earlier call that
    /// failed, and learns when it is.
    pub(crate) fn put(&self, line: &HostLine, written: &mut Option<Written>) -> Result<(), HostError> {
        let (lock, mut state) = self.settled()?;
        // Settling extends what is in the list, also for others.
        if written.take().is_some_and(|at| at.boot == state.boot && at.end <= state.bytes) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        line.write_binary(&mut bytes, self.pcr).map_err(|_| self.damaged(state.bytes))?;
        let end = state.bytes + bytes.len() as u64;
        self.files.append(state.bytes, &bytes)?;
        *written = Some(Written { boot: state.boot, end });
        self.extend(&lock, &mut state, line, end)?;
        *written = None;
        Ok(())
    }

    /// A quote of the register and of those of the boot, by the list as it is then.
    pub(crate) fn quote(&self, nonce: &[u8], boot: u32) -> Result<HostQuote, HostError> {
        let pcrs: Vec<_> = (0..boot).filter_map(PcrIndex::new).chain([self.pcr]).collect();
        for _ in 0..ATTEMPTS {
            let (lock, state) = self.settled()?;
            let quote = self.tpm.quote(nonce, self.tpm.banks(), &pcrs)?;
            let list = self.files.list()?;
            drop(lock);
            // Their order is that of the quote.
            if state.values.iter().all(|value| quote.values.contains(&(self.pcr, *value))) {
                return Ok(HostQuote { quote, list, bytes: state.bytes });
            }
            // A TPM that was restarted meanwhile is extended again.
        }
        Err(HostError::Foreign(self.pcr))
    }

    /// Compares the PCR with the list, also when there is nothing to write, and extends it again after a restart.
    pub(crate) fn check(&self) -> Result<(), HostError> {
        self.settled().map(drop)
    }

    /// The last steps of a line that is in the list.
    fn extend(&self, lock: &Lock, state: &mut State, line: &HostLine, end: u64) -> Result<(), HostError> {
        let digests = self.digests(line, state.bytes)?;
        // A command that is not answered in time may still be carried out, and nobody may act before that.
        self.tpm.extend_holding(self.pcr, &digests, lock.clone())?;
        state.advance(after(&state.values, &digests), end);
        self.files.store(state)
    }

    fn digests(&self, line: &HostLine, at: u64) -> Result<Vec<Digest>, HostError> {
        let digests = self.tpm.banks().iter().map(|algo| line.extend_value(*algo));
        digests.collect::<Result<_, _>>().map_err(|_| self.damaged(at))
    }

    /// What was noted last; a list of an earlier boot is put aside, and one without a note is begun.
    fn load(&self, _lock: &Lock) -> Result<State, HostError> {
        let boot = files::boot_id()?;
        let blank = |generation| State::blank(boot, self.pcr, self.restarted(), generation);
        let state = match self.files.load()? {
            None => return Ok(blank(0)),
            Some(state) if state.boot != boot => {
                self.files.put_aside(&state)?;
                return Ok(blank(state.generation));
            }
            Some(state) => state,
        };
        if state.pcr != self.pcr {
            return Err(HostError::OtherPcr { path: self.files.directory().to_owned(), pcr: state.pcr });
        }
        if !state.values.iter().map(Digest::algo).eq(self.tpm.banks().iter().copied()) {
            return Err(HostError::OtherBanks { path: self.files.directory().to_owned() });
        }
        Ok(state)
    }

    /// What the PCR holds after a restart of the TPM.
    fn restarted(&self) -> Vec<Digest> {
        self.tpm.banks().iter().map(|algo| at_restart(self.pcr, *algo)).collect()
    }

    fn damaged(&self, offset: u64) -> HostError {
        HostError::Damaged { path: self.files.directory().to_owned(), offset }
    }

    /// Makes list, state and PCR agree.
    fn settle(&self, lock: &Lock, state: &mut State) -> Result<(), HostError> {
        let size = self.files.size()?;
        if size < state.bytes {
            return Err(self.damaged(size));
        }
        let unfinished = size > state.bytes;
        if !unfinished && state.is_fresh(AT_ONCE) {
            return Ok(());
        }
        if unfinished {
            std::thread::sleep(LEFT_OVER);
        }
        let values = self.tpm.read(self.pcr)?.ok_or(HostError::Foreign(self.pcr))?;
        if values == self.restarted() {
            // One that came back with another bank would not have it extended.
            self.tpm.confirm_banks()?;
        }
        let mut tail = self.tail(state.bytes)?;
        if let Some(done) = self.position(state, &tail, &values)? {
            for (_, end) in tail.drain(..done) {
                state.skip(end);
            }
            state.values = values;
        } else if values == self.restarted() {
            tracing::warn!("the TPM at {} was restarted: extending the host list again", self.tpm.place());
            *state = State::blank(state.boot, self.pcr, values, state.generation);
            tail = self.tail(0)?;
        } else {
            return Err(HostError::Foreign(self.pcr));
        }
        // What follows the last whole line was being written by somebody who is no more.
        let end = tail.last().map_or(state.bytes, |(_, end)| *end);
        self.files.cut(end)?;
        state.touch();
        self.files.store(state)?;
        for (line, end) in tail {
            self.extend(lock, state, &line, end)?;
        }
        Ok(())
    }

    /// How many of the lines after the noted ones the PCR has; `None` when it is none of the values it could have.
    fn position(
        &self,
        state: &State,
        tail: &[(HostLine, u64)],
        values: &[Digest],
    ) -> Result<Option<usize>, HostError> {
        let mut expected = state.values.clone();
        if expected == values {
            return Ok(Some(0));
        }
        for (done, (line, end)) in tail.iter().enumerate() {
            expected = after(&expected, &self.digests(line, *end)?);
            if expected == values {
                return Ok(Some(done + 1));
            }
        }
        Ok(None)
    }

    /// The whole lines from `offset` on, each with where it ends.
    fn tail(&self, offset: u64) -> Result<Vec<(HostLine, u64)>, HostError> {
        let bytes = self.files.read_from(offset)?;
        let mut parsed = parse_host(&bytes);
        let mut lines = Vec::new();
        while let Some(next) = parsed.next() {
            match next {
                Ok(line) if line.pcr == self.pcr => {
                    lines.push((line.line, offset + parsed.offset() as u64));
                }
                Err(error) if error.reason == ima::list::ListFault::Truncated => break,
                Ok(_) | Err(_) => return Err(self.damaged(offset + parsed.offset() as u64)),
            }
        }
        Ok(lines)
    }
}
