//! Reading a journal from its start: records one after the other, and what the end of it means.
//!
//! The file is read through a window, so that a journal of any length takes the memory of one record.

use std::io;

use super::format::{
    End, Head, Header, HeaderFault, Kind, MARK_LEN, MAX_HEADER, Mark, RECORD_HEAD, Record, Seal,
    parse_payload,
};
use super::medium::{Medium, read_full};

/// Bytes read at once.
const WINDOW: usize = 256 * 1024;

/// Why a journal is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalFault {
    /// It does not begin as a journal does.
    #[error("not a journal of imafs")]
    NoJournal,
    /// It is of another version of the format.
    #[error("version {0} of the format is not known here")]
    Version(u16),
    /// Its header is damaged.
    #[error("the header is damaged")]
    Header,
    /// A record is damaged although the disk had confirmed it.
    #[error("the record at byte {offset} is damaged, and what follows it shows that it was whole")]
    Damaged {
        /// Where the record begins.
        offset: u64,
    },
    /// Bytes that the disk had confirmed are missing.
    #[error("it ends at byte {size}, but {confirmed} bytes of it were on disk")]
    Shortened {
        /// Its length.
        size: u64,
        /// What was confirmed.
        confirmed: u64,
    },
    /// A whole record does not say what its place requires.
    #[error("the record at byte {offset} is whole but does not belong there")]
    Misplaced {
        /// Where the record begins.
        offset: u64,
    },
    /// The entries give other register values than the journal has.
    #[error("replayed, entries 0 to {entries} do not give the registers recorded after them")]
    Replay {
        /// How many entries.
        entries: u64,
    },
    /// The entries are not those that the end record was written for.
    #[error("the digest in the end record is not that of the list")]
    ListDigest,
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The system does not read it.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// It is not to be used.
    #[error(transparent)]
    Fault(#[from] JournalFault),
}

/// A record as it stands in the file.
#[derive(Debug)]
pub(crate) struct Raw<'a> {
    pub(crate) head: Head,
    pub(crate) offset: u64,
    pub(crate) payload: &'a [u8],
}

/// What stands at a place.
#[derive(Debug)]
enum Step {
    Record(Head),
    Bad,
    EndOfFile,
}

/// Reads records in order.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    medium: &'a dyn Medium,
    seal: Seal,
    size: u64,
    /// Where the next record begins.
    offset: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Scanner<'a> {
    /// A scanner that begins at `offset`, with the file as long as it is now.
    pub(crate) fn new(medium: &'a dyn Medium, seal: Seal, offset: u64, size: u64) -> Self {
        Self { medium, seal, size, offset, window: Vec::new(), window_at: 0 }
    }

    /// The bytes from `at` on; fewer than `length` where the file ends.
    fn bytes(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = length.min(left);
        let begins = at.checked_sub(self.window_at).and_then(|from| usize::try_from(from).ok());
        let held = begins.filter(|from| from.saturating_add(length) <= self.window.len());
        let from = match held {
            Some(from) => from,
            None => {
                self.window.resize(length.max(WINDOW.min(left)), 0);
                let read = read_full(self.medium, &mut self.window, at)?;
                self.window.truncate(read);
                self.window_at = at;
                0
            }
        };
        let to = from.saturating_add(length).min(self.window.len());
        Ok(self.window.get(from..to).unwrap_or_default())
    }

    /// What stands at `at`.
    fn look(&mut self, at: u64) -> io::Result<Step> {
        if at >= self.size {
            return Ok(Step::EndOfFile);
        }
        let seal = self.seal.clone();
        let Some(head) = Head::parse(self.bytes(at, RECORD_HEAD)?) else { return Ok(Step::Bad) };
        let payload = self.bytes(at + RECORD_HEAD as u64, head.length)?;
        Ok(if head.fits(&seal, payload) { Step::Record(head) } else { Step::Bad })
    }

    /// The next record; `None` where there is no whole one.
    pub(crate) fn next(&mut self) -> io::Result<Option<Raw<'_>>> {
        let offset = self.offset;
        let Step::Record(head) = self.look(offset)? else { return Ok(None) };
        self.offset = offset + (RECORD_HEAD + head.length) as u64;
        let payload = self.bytes(offset + RECORD_HEAD as u64, head.length)?;
        Ok(Some(Raw { head, offset, payload }))
    }

    /// Whether anywhere from `from` on there is a whole record of a batch after `batch`.
    fn later_batch(&mut self, from: u64, batch: u64) -> io::Result<bool> {
        let mut at = from;
        while at < self.size {
            let piece = self.bytes(at, WINDOW)?;
            let Some(found) = piece.windows(3).position(|bytes| bytes == b"IJR") else {
                // The mark may stand across the pieces.
                at += piece.len().saturating_sub(2).max(1) as u64;
                continue;
            };
            at += found as u64;
            if let Step::Record(head) = self.look(at)?
                && head.batch > batch
            {
                return Ok(true);
            }
            at += 1;
        }
        Ok(false)
    }
}

/// How the last batch of a journal ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Closing {
    /// There is no batch.
    Nothing,
    /// With a state: the list was growing.
    State,
    /// With an end: what its record says.
    End(End),
}

/// What a journal holds, as far as its form shows.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) header: Header,
    /// Where the first record begins.
    pub(crate) first: u64,
    pub(crate) closing: Closing,
    /// Where the last whole batch begins and ends.
    pub(crate) last_batch: (u64, u64),
    /// Number of the last whole batch; 0 for none.
    pub(crate) batch: u64,
    /// Records up to its end.
    pub(crate) records: u64,
    /// Entries up to its end.
    pub(crate) entries: u64,
    /// Bytes of an unfinished batch behind it.
    pub(crate) unfinished: u64,
}

/// Reads the header.
pub(crate) fn header(medium: &dyn Medium) -> Result<(Header, u64), ScanError> {
    let mut bytes = vec![0; MAX_HEADER];
    let read = read_full(medium, &mut bytes, 0).map_err(ScanError::Read)?;
    bytes.truncate(read);
    let (header, length) = Header::parse(&bytes).map_err(|fault| match fault {
        HeaderFault::Magic => JournalFault::NoJournal,
        HeaderFault::Version(version) => JournalFault::Version(version),
        HeaderFault::Content => JournalFault::Header,
    })?;
    Ok((header, length as u64))
}

/// Reads the mark; `None` where there is none to go by.
pub(crate) fn mark(medium: &dyn Medium, header: &Header) -> io::Result<Option<Mark>> {
    let mut bytes = [0; MARK_LEN];
    let read = read_full(medium, &mut bytes, 0)?;
    Ok(bytes.get(..read).and_then(Mark::parse).filter(|mark| mark.id == header.id))
}

/// Reads a whole journal and tells a torn end from damage.
pub(crate) fn check(medium: &dyn Medium, mark_file: Option<&dyn Medium>) -> Result<Summary, ScanError> {
    let (header, first) = header(medium)?;
    let mark = match mark_file {
        Some(file) => mark(file, &header).map_err(ScanError::Read)?,
        None => None,
    };
    let size = medium.size().map_err(ScanError::Read)?;
    let seal = Seal::new(&header.id).map_err(|_| JournalFault::Header)?;
    let mut scanner = Scanner::new(medium, seal, first, size);
    let mut form = Form::default();
    let mut last_batch = (first, first);
    let mut closing = Closing::Nothing;
    let (mut batch, mut records, mut entries) = (0, 0, 0);
    let bad = loop {
        let Some(raw) = scanner.next().map_err(ScanError::Read)? else { break scanner.offset };
        let offset = raw.offset;
        if !form.follows(&raw.head) {
            break offset;
        }
        let end = offset + (RECORD_HEAD + raw.head.length) as u64;
        let Some(closed) = form.take(&raw)? else { continue };
        closing = closed;
        last_batch = (last_batch.1, end);
        (batch, records, entries) = (raw.head.batch, form.sequence, form.entries);
    };
    let end = last_batch.1;
    if let Some(mark) = mark.filter(|mark| end < mark.end) {
        return Err(if size < mark.end {
            JournalFault::Shortened { size, confirmed: mark.end }.into()
        } else {
            JournalFault::Damaged { offset: bad }.into()
        });
    }
    if scanner.later_batch(bad, batch + 1).map_err(ScanError::Read)? {
        return Err(JournalFault::Damaged { offset: bad }.into());
    }
    let unfinished = size.saturating_sub(end);
    Ok(Summary { header, first, closing, last_batch, batch, records, entries, unfinished })
}

/// The order that records keep.
#[derive(Debug, Default)]
struct Form {
    /// The next record's number.
    sequence: u64,
    /// The number of the batch that is open, or comes next.
    batch: u64,
    open: bool,
    entries: u64,
}

impl Form {
    /// Whether a record with this head may come next.
    fn follows(&mut self, head: &Head) -> bool {
        let batch = if self.open { self.batch } else { self.batch + 1 };
        head.sequence == self.sequence && head.batch == batch
    }

    /// Goes past a record; says what it closes, if it closes a batch.
    fn take(&mut self, raw: &Raw<'_>) -> Result<Option<Closing>, JournalFault> {
        let misplaced = JournalFault::Misplaced { offset: raw.offset };
        let opens = !self.open;
        self.sequence += 1;
        self.batch = raw.head.batch;
        self.open = raw.head.kind == Kind::Entry;
        let counted = match raw.head.kind {
            Kind::Entry => {
                self.entries += 1;
                return Ok(None);
            }
            Kind::State | Kind::End => parse_payload(raw.head.kind, raw.payload),
        };
        match counted {
            Some(Record::State(state)) if state.entries == self.entries => Ok(Some(Closing::State)),
            Some(Record::End(end)) if end.entries == self.entries && opens => Ok(Some(Closing::End(end))),
            Some(Record::Entry(_) | Record::State(_) | Record::End(_)) | None => Err(misplaced),
        }
    }
}

/// A record, and where it stands.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) record: Record,
    pub(crate) offset: u64,
    pub(crate) end: u64,
}

/// The records of the whole batches of a journal that [`check`] has read.
pub(crate) fn records<'a>(
    medium: &'a dyn Medium,
    summary: &Summary,
) -> Result<impl Iterator<Item = Result<Placed, ScanError>> + use<'a>, ScanError> {
    let seal = Seal::new(&summary.header.id).map_err(|_| JournalFault::Header)?;
    Ok(span(medium, seal, summary.first, summary.last_batch.1))
}

/// The records between two offsets, both of which begin or end a record.
pub(crate) fn span(
    medium: &dyn Medium,
    seal: Seal,
    from: u64,
    to: u64,
) -> impl Iterator<Item = Result<Placed, ScanError>> + use<'_> {
    let mut scanner = Scanner::new(medium, seal, from, to);
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || scanner.offset >= to {
            return None;
        }
        let offset = scanner.offset;
        let placed = match scanner.next() {
            Err(error) => Err(ScanError::Read(error)),
            Ok(None) => Err(JournalFault::Damaged { offset }.into()),
            Ok(Some(raw)) => match parse_payload(raw.head.kind, raw.payload) {
                Some(record) => {
                    let end = offset + (RECORD_HEAD + raw.head.length) as u64;
                    Ok(Placed { record, offset, end })
                }
                None => Err(JournalFault::Misplaced { offset }.into()),
            },
        };
        failed = placed.is_err();
        Some(placed)
    })
}
