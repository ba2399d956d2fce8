//! The entries themselves: chunks that only grow, read through snapshots.
//!
//! A chunk holds up to [`CHUNK`] entries and knows how many bytes of each written form come before it, so a
//! read at any offset finds its chunk by bisection and writes out only the entries it needs. No written
//! form is kept. Entries never move or change; a snapshot is two counters and one shared pointer, and
//! neither taking nor reading it makes a writer wait for longer than copying those.
//!
//! One lock, `published`, held for a pointer's copy or for one entry's arrival; no other is taken under it.

use std::sync::{Arc, OnceLock};

use ima::{Entry, HashAlgo, UnavailableAlgo};
use parking_lot::Mutex;

/// Entries per chunk. A read inspects at most so many entries before its first; the table of chunks is
/// copied whenever one is full, which for a million entries is 4,000 pointers every 256 entries.
const CHUNK: usize = 256;

/// The two written forms of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `ascii_runtime_measurements`
    Ascii,
    /// `binary_runtime_measurements`
    Binary,
}

/// Entries, and the bytes they take in each form without their template digests, whose size depends on the
/// algorithm the reader asks for.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    entries: u64,
    ascii: u64,
    binary: u64,
}

impl Extent {
    fn of(entry: &Entry) -> Self {
        // Any algorithm does: its digest is taken off again. No digest is computed.
        let digest = ima::Digest::zero(HashAlgo::Sha1);
        let mut line = Vec::with_capacity(512);
        entry.write_ascii_with(&mut line, &digest);
        let ascii = line.len() - 2 * digest.bytes().len();
        line.clear();
        entry.write_binary_with(&mut line, &digest);
        Self { entries: 1, ascii: ascii as u64, binary: (line.len() - digest.bytes().len()) as u64 }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            ascii: self.ascii + other.ascii,
            binary: self.binary + other.binary,
        }
    }

    fn bytes(self, form: Form, algo: HashAlgo) -> u64 {
        let digest = algo.digest_len() as u64;
        match form {
            Form::Ascii => self.ascii + self.entries * 2 * digest,
            Form::Binary => self.binary + self.entries * digest,
        }
    }
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    ascii: u32,
    binary: u32,
}

impl Slot {
    fn extent(&self) -> Extent {
        Extent { entries: 1, ascii: u64::from(self.ascii), binary: u64::from(self.binary) }
    }
}

#[derive(Debug)]
struct Chunk {
    /// All that comes before this chunk.
    before: Extent,
    slots: Box<[OnceLock<Slot>]>,
}

impl Chunk {
    fn new(before: Extent) -> Self {
        Self { before, slots: (0..CHUNK).map(|_| OnceLock::new()).collect() }
    }
}

/// The entries; see the module's text.
#[derive(Debug, Default)]
pub(crate) struct Store {
    published: Mutex<Snapshot>,
}

/// The list as it was at one moment. Cheap to take, and valid as long as it is held.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    chunks: Arc<Vec<Arc<Chunk>>>,
    extent: Extent,
}

impl Store {
    /// Appends an entry and gives its position, or gives the entry back if it is too large for any list
    /// (4 GiB in ASCII).
    pub(crate) fn push(&self, entry: Entry) -> Result<usize, Entry> {
        let extent = Extent::of(&entry);
        let (Ok(ascii), Ok(binary)) = (u32::try_from(extent.ascii), u32::try_from(extent.binary)) else {
            return Err(entry);
        };
        let mut published = self.published.lock();
        let position = published.len();
        if position.is_multiple_of(CHUNK) {
            let before = published.extent;
            Arc::make_mut(&mut published.chunks).push(Arc::new(Chunk::new(before)));
        }
        let slot = published.chunks.last().and_then(|chunk| chunk.slots.get(position % CHUNK));
        if let Some(slot) = slot {
            // Only this function fills slots, each position once, under the lock.
            drop(slot.set(Slot { entry, ascii, binary }));
        }
        published.extent = published.extent.plus(extent);
        Ok(position)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.published.lock().clone()
    }
}

impl Snapshot {
    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.extent.entries).unwrap_or(usize::MAX)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.extent.entries == 0
    }

    /// The entry at this position, counted from 0.
    #[must_use]
    pub fn entry(&self, position: usize) -> Option<&Entry> {
        self.slot(position).map(|slot| &slot.entry)
    }

    /// The entries in order, from `position` on.
    pub fn entries_from(&self, position: usize) -> impl Iterator<Item = &Entry> {
        (position..self.len()).map_while(|at| self.entry(at))
    }

    fn slot(&self, position: usize) -> Option<&Slot> {
        if position >= self.len() {
            return None;
        }
        self.chunks.get(position / CHUNK)?.slots.get(position % CHUNK)?.get()
    }

    /// The size in bytes of the list in this form, with template digests of `algo` (SHA-1 in the unsuffixed
    /// files).
    #[must_use]
    pub fn size(&self, form: Form, algo: HashAlgo) -> u64 {
        self.extent.bytes(form, algo)
    }

    /// At most `max` bytes of that list from `offset` on; fewer only at its end.
    ///
    /// # Errors
    /// [`UnavailableAlgo`] where the algorithm cannot be computed.
    pub fn read_at(
        &self,
        form: Form,
        algo: HashAlgo,
        offset: u64,
        max: usize,
    ) -> Result<Vec<u8>, UnavailableAlgo> {
        let (first, mut skip) = self.locate(form, algo, offset);
        let mut out = Vec::new();
        for entry in self.entries_from(first) {
            if out.len().saturating_sub(skip) >= max {
                break;
            }
            match form {
                Form::Ascii => entry.write_ascii(&mut out, algo)?,
                Form::Binary => entry.write_binary(&mut out, algo)?,
            }
        }
        skip = skip.min(out.len());
        out.drain(..skip);
        out.truncate(max);
        Ok(out)
    }

    /// The position of the entry that `offset` falls into, and how far into it.
    fn locate(&self, form: Form, algo: HashAlgo, offset: u64) -> (usize, usize) {
        let number = self.chunks.partition_point(|chunk| chunk.before.bytes(form, algo) <= offset);
        let number = number.saturating_sub(1);
        let mut at = self.chunks.get(number).map_or(0, |chunk| chunk.before.bytes(form, algo));
        let mut position = number * CHUNK;
        while let Some(slot) = self.slot(position) {
            let next = at + slot.extent().bytes(form, algo);
            if next > offset {
                break;
            }
            (at, position) = (next, position + 1);
        }
        (position, usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX))
    }
}
