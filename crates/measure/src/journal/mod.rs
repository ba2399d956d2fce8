//! The journal: list entries and register values on disk before the PCR knows of them.
//!
//! `docs/journal.md` has the format and what is made of a journal that is found; the order of that page is the order of
//! the modules: `format` (bytes), `scan` (whole, torn or damaged), `dir` (the directory, and what becomes of an old
//! journal), `writer` (appending), `inspect` (reading only). What the entries prove about registers is the business of [`crate::proof`].
//!
//! One lock, `writer`, held while the disk is waited for. The list takes it with nothing else but its own lock of
//! that stage. Reading takes no lock: what was confirmed does not change.

mod bytes;
mod dir;
mod format;
mod inspect;
mod medium;
mod scan;
mod writer;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ima::{Digest, Entry, HashAlgo, Hasher};
use parking_lot::Mutex;

pub(crate) use dir::now;
pub use dir::{Held, OpenError, Outcome};
pub use format::{End, Header, Identity, JournalId, Owner, Record, Register, State};
pub use inspect::{InspectError, Inspection, inspect};
pub use medium::Medium;
pub use scan::{JournalFault, ScanError};

use format::{Kind, Mark, Seal, put_entry, put_record};
use scan::Summary;
use writer::{Start, Writer};

/// The journal that is growing, in its directory.
const CURRENT: &str = "journal";
/// How much of it is on disk.
const MARK: &str = "synced";

/// Where entries stand in a journal: from the first's first byte to the last's last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A journal that is being written. It is held until it is dropped.
pub struct Journal {
    file: Arc<dyn Medium>,
    /// Where the mark goes, if anywhere.
    mark: Option<Box<dyn Medium>>,
    seal: Seal,
    found: Summary,
    writer: Mutex<Writer>,
    batches: AtomicU64,
    entries: AtomicU64,
    end: AtomicU64,
    /// The directory, whose lock is held.
    held: Option<Held>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("header", &self.found.header)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

/// Why the journal did not take or give an entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It cannot be written, or the disk does not confirm it.
    #[error("cannot write the journal")]
    Write(#[source] io::Error),
    /// An entry cannot be read back.
    #[error("cannot read the journal")]
    Read(#[source] ScanError),
    /// The entry does not fit a record.
    #[error("the entry does not fit the journal's format")]
    Format,
    /// The list has ended.
    #[error("the list has ended")]
    Ended,
}

/// What a journal has done so far, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalFacts {
    /// Entries written by this process.
    pub entries: u64,
    /// Batches written by this process: waits for the disk.
    pub batches: u64,
    /// Bytes of the journal.
    pub bytes: u64,
}

impl Journal {
    /// Begins a journal in an empty medium.
    ///
    /// # Errors
    /// [`JournalError::Write`]; [`JournalError::Format`] where the header holds what it cannot hold.
    pub fn begin(
        file: Arc<dyn Medium>,
        mark: Option<Box<dyn Medium>>,
        header: &Header,
    ) -> Result<Self, JournalError> {
        let bytes = header.encode().ok_or(JournalError::Format)?;
        file.write_all_at(&bytes, 0).and_then(|()| file.sync()).map_err(JournalError::Write)?;
        Self::resume(file, mark).map_err(|error| match error {
            ScanError::Read(error) => JournalError::Write(error),
            fault @ ScanError::Fault(_) => JournalError::Read(fault),
        })
    }

    /// Goes on with the journal in a medium: cuts off a torn end and writes the last batch again.
    ///
    /// # Errors
    /// [`ScanError::Fault`] for a journal that is not to be used; nothing is changed then.
    pub fn resume(file: Arc<dyn Medium>, mark: Option<Box<dyn Medium>>) -> Result<Self, ScanError> {
        let found = scan::check(&*file, mark.as_deref())?;
        repair(&*file, &found).map_err(ScanError::Read)?;
        Self::behind(file, mark, found).map_err(ScanError::Read)
    }

    /// The journal as it was found and repaired.
    fn behind(
        file: Arc<dyn Medium>,
        mark: Option<Box<dyn Medium>>,
        found: Summary,
    ) -> Result<Self, io::Error> {
        let seal = Seal::new(&found.header.id).map_err(io::Error::other)?;
        let end = found.last_batch.1;
        let start = Start { end, sequence: found.records, batch: found.batch + 1 };
        let writer = Writer::new(&*file, &start)?;
        Ok(Self {
            file,
            mark,
            seal,
            found,
            writer: Mutex::new(writer),
            batches: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            end: AtomicU64::new(end),
            held: None,
        })
    }

    /// The journal's header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.found.header
    }

    /// The directory it is in, and what was found there.
    #[must_use]
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Bytes of an unfinished batch that were cut off when it was opened.
    #[must_use]
    pub fn repaired(&self) -> u64 {
        self.found.unfinished
    }

    /// What was done so far.
    #[must_use]
    pub fn facts(&self) -> JournalFacts {
        JournalFacts {
            entries: self.entries.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            bytes: self.end.load(Ordering::Relaxed),
        }
    }

    /// The records that were there when it was opened.
    pub(crate) fn found(
        &self,
    ) -> Result<impl Iterator<Item = Result<scan::Placed, ScanError>> + use<'_>, ScanError> {
        scan::records(&*self.file, &self.found)
    }

    /// Writes entries and the state after them, and waits for the disk. Gives where each entry stands.
    pub(crate) fn commit<'a>(
        &self,
        entries: impl Iterator<Item = &'a Entry>,
        state: &State,
    ) -> Result<Vec<Span>, JournalError> {
        let mut writer = self.writer.lock();
        let mut batch = Batch::new(&writer, &self.seal);
        let mut spans = Vec::new();
        for entry in entries {
            batch.payload.clear();
            put_entry(&mut batch.payload, entry).ok_or(JournalError::Format)?;
            spans.push(batch.put(Kind::Entry)?);
        }
        batch.payload = state.encode().ok_or(JournalError::Format)?;
        batch.put(Kind::State)?;
        let (bytes, records) = (batch.bytes, batch.records);
        writer.append(&*self.file, &bytes, records).map_err(JournalError::Write)?;
        self.note(&writer, spans.len() as u64);
        Ok(spans)
    }

    /// Writes the end record, and waits for the disk.
    pub(crate) fn end(&self, end: &End) -> Result<(), JournalError> {
        let mut writer = self.writer.lock();
        let mut batch = Batch::new(&writer, &self.seal);
        batch.payload = end.encode().ok_or(JournalError::Format)?;
        batch.put(Kind::End)?;
        let (bytes, records) = (batch.bytes, batch.records);
        writer.append(&*self.file, &bytes, records).map_err(JournalError::Write)?;
        self.note(&writer, 0);
        Ok(())
    }

    /// Counts a batch and marks it as confirmed.
    fn note(&self, writer: &Writer, entries: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.end.store(writer.end(), Ordering::Relaxed);
        let mark = Mark { id: self.found.header.id, batch: writer.batch - 1, end: writer.end() };
        if let (Some(file), Some(bytes)) = (&self.mark, mark.encode()) {
            // It is a lower bound: one that could not be written leaves the one before.
            let _lags_behind = file.write_all_at(&bytes, 0);
        }
    }

    /// The entries of a span, which may have states between them.
    pub(crate) fn read(&self, span: Span) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        for placed in scan::span(&*self.file, self.seal.clone(), span.from, span.to) {
            match placed.map_err(JournalError::Read)?.record {
                Record::Entry(entry) => entries.push(entry),
                Record::State(_) | Record::End(_) => {}
            }
        }
        Ok(entries)
    }

    /// SHA-256 of the binary list.
    pub(crate) fn list_digest(&self) -> Result<Digest, JournalError> {
        list_digest(&*self.file, &self.seal, self.found.first, self.writer.lock().end())
            .map_err(JournalError::Read)
    }
}

/// Whether a journal can hold an entry. One that it cannot hold would stand in the way of all after it.
pub(crate) fn fits(entry: &Entry) -> bool {
    // Beside the data a record has numbers, a digest and the template's name.
    let short = entry.data_len() + 1024 <= format::MAX_PAYLOAD;
    short && (!entry.template().is_legacy_ima() || put_entry(&mut Vec::new(), entry).is_some())
}

/// Makes sure that the disk has what was found, and nothing behind it.
fn repair(file: &dyn Medium, found: &Summary) -> io::Result<()> {
    let (from, to) = found.last_batch;
    if found.unfinished > 0 {
        file.set_len(to)?;
    }
    let mut last = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
    if medium::read_full(file, &mut last, from)? != last.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.write_all_at(&last, from)?;
    file.sync()
}

/// SHA-256 over the entries' payloads, which are the binary list.
fn list_digest(file: &dyn Medium, seal: &Seal, from: u64, to: u64) -> Result<Digest, ScanError> {
    let fault = JournalFault::ListDigest;
    let mut hasher = Hasher::new(HashAlgo::Sha256).map_err(|_| fault)?;
    let mut scanner = scan::Scanner::new(file, seal.clone(), from, to);
    let mut at = from;
    while at < to {
        let raw = scanner.next().map_err(ScanError::Read)?;
        let raw = raw.ok_or(JournalFault::Damaged { offset: at })?;
        if raw.head.kind == Kind::Entry {
            hasher.update(raw.payload);
        }
        at = raw.offset + (format::RECORD_HEAD + raw.head.length) as u64;
    }
    Ok(hasher.finish())
}

/// A batch being put together.
struct Batch<'a> {
    seal: &'a Seal,
    bytes: Vec<u8>,
    payload: Vec<u8>,
    records: u64,
    /// Where the batch begins in the file.
    from: u64,
    sequence: u64,
    batch: u64,
}

impl<'a> Batch<'a> {
    fn new(writer: &Writer, seal: &'a Seal) -> Self {
        let (from, sequence, batch) = (writer.end(), writer.sequence, writer.batch);
        Self { seal, bytes: Vec::new(), payload: Vec::new(), records: 0, from, sequence, batch }
    }

    /// Adds a record with what is in `payload`.
    fn put(&mut self, kind: Kind) -> Result<Span, JournalError> {
        let from = self.from + self.bytes.len() as u64;
        let place = (self.sequence + self.records, self.batch);
        if !put_record(&mut self.bytes, self.seal, kind, place, &self.payload) {
            return Err(JournalError::Format);
        }
        self.records += 1;
        Ok(Span { from, to: self.from + self.bytes.len() as u64 })
    }
}
