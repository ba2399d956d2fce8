//! The entries themselves: chunks that only grow, read through snapshots.
//!
//! A chunk holds up to [`CHUNK`] entries and knows how many bytes of each written form come before it, so a
//! read at any offset finds its chunk by bisection and writes out only the entries it needs. No written
//! form is kept. Entries never move or change; a snapshot is two counters and one shared pointer, and
//! neither taking nor reading it makes a writer wait for longer than copying those.
//!
//! Where there is a journal, memory can be limited: the entries of the oldest full chunks are let go once the PCR has
//! them, and whoever wants them reads them back from the journal, whole chunks at a time. The chunks themselves stay, so
//! a snapshot stays valid; a reader keeps the entries of the chunk it is at.
//!
//! One lock, `published`, held for a pointer's copy or for one entry's arrival; under it only a chunk's own, which
//! is held for a pointer's copy. `letting_go` comes before both.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use ima::{Entry, HashAlgo, UnavailableAlgo};
use parking_lot::{Mutex, RwLock};

use crate::JournalError;
use crate::journal::{Journal, Span};

/// Entries per chunk. A read inspects at most so many entries before its first; the table of chunks is
/// copied whenever one is full, which for a million entries is 4,000 pointers every 256 entries.
const CHUNK: usize = 256;

/// What the allocator adds to an entry's data.
const ALLOCATION: usize = 16;

/// The two written forms of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `ascii_runtime_measurements`
    Ascii,
    /// `binary_runtime_measurements`
    Binary,
}

/// Why part of a list cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Its template digests cannot be computed.
    #[error("cannot compute a template digest")]
    Algo(#[from] UnavailableAlgo),
    /// An entry is no longer in memory and cannot be read from the journal.
    #[error("cannot read entry {position} back")]
    Journal {
        /// The entry's number, counted from 0.
        position: usize,
        /// What the journal says.
        #[source]
        source: Arc<JournalError>,
    },
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
    /// A slot for an entry, or the entry back if no list can have it (4 GiB in ASCII).
    fn of(entry: Entry) -> Result<Self, Entry> {
        let extent = Extent::of(&entry);
        match (u32::try_from(extent.ascii), u32::try_from(extent.binary)) {
            (Ok(ascii), Ok(binary)) => Ok(Self { entry, ascii, binary }),
            _ => Err(entry),
        }
    }

    fn extent(&self) -> Extent {
        Extent { entries: 1, ascii: u64::from(self.ascii), binary: u64::from(self.binary) }
    }

    /// Memory that its entry takes beside the slot itself.
    fn memory(&self) -> usize {
        self.entry.data_len() + ALLOCATION
    }
}

/// The entries of one chunk.
type Slots = [OnceLock<Slot>];

#[derive(Debug)]
struct Chunk {
    /// All that comes before this chunk.
    before: Extent,
    /// The entries, until they are let go.
    slots: RwLock<Option<Arc<Slots>>>,
    /// Where the journal has them, once it has the first and the last.
    from: OnceLock<u64>,
    to: OnceLock<u64>,
    /// Memory that the entries take.
    memory: AtomicUsize,
}

/// Memory of a chunk's empty slots.
const SLOTS: usize = CHUNK * size_of::<OnceLock<Slot>>();

impl Chunk {
    fn new(before: Extent) -> Self {
        let slots: Arc<Slots> = (0..CHUNK).map(|_| OnceLock::new()).collect();
        Self {
            before,
            slots: RwLock::new(Some(slots)),
            from: OnceLock::new(),
            to: OnceLock::new(),
            memory: AtomicUsize::new(SLOTS),
        }
    }

    /// The entries, from memory or from the journal.
    fn slots(&self, number: usize, journal: Option<&Arc<Journal>>) -> Result<Arc<Slots>, ReadError> {
        if let Some(slots) = self.slots.read().as_ref() {
            return Ok(Arc::clone(slots));
        }
        let unread = |source| ReadError::Journal { position: number * CHUNK, source: Arc::new(source) };
        let (Some(journal), Some(from), Some(to)) = (journal, self.from.get(), self.to.get()) else {
            return Err(unread(JournalError::Format));
        };
        let entries = journal.read(Span { from: *from, to: *to }).map_err(unread)?;
        if entries.len() != CHUNK {
            return Err(unread(JournalError::Format));
        }
        let slot = |entry| {
            let slot = Slot::of(entry).map_err(|_| unread(JournalError::Format))?;
            Ok(OnceLock::from(slot))
        };
        entries.into_iter().map(slot).collect()
    }
}

/// The entries; see the module's text.
#[derive(Debug)]
pub(crate) struct Store {
    published: Mutex<Snapshot>,
    /// Memory that entries may take before the oldest are let go.
    limit: usize,
    resident: AtomicUsize,
    /// The first chunk whose entries are still in memory.
    letting_go: Mutex<usize>,
}

/// The list as it was at one moment. Cheap to take, and valid as long as it is held.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    chunks: Arc<Vec<Arc<Chunk>>>,
    extent: Extent,
    journal: Option<Arc<Journal>>,
}

/// A filled slot, and what keeps it.
struct Filled {
    slots: Arc<Slots>,
    index: usize,
}

impl Filled {
    fn slot(&self) -> Option<&Slot> {
        self.slots.get(self.index)?.get()
    }
}

impl Store {
    /// A store that may hold entries of so many bytes once `journal` has them; all of them without a limit.
    pub(crate) fn new(journal: Option<Arc<Journal>>, limit: Option<usize>) -> Self {
        let limit = if journal.is_some() { limit.unwrap_or(usize::MAX) } else { usize::MAX };
        let published = Mutex::new(Snapshot { journal, ..Snapshot::default() });
        Self { published, limit, resident: AtomicUsize::new(0), letting_go: Mutex::new(0) }
    }

    /// Appends an entry and gives its position, or gives the entry back if it is too large for any list
    /// (4 GiB in ASCII).
    pub(crate) fn push(&self, entry: Entry) -> Result<usize, Entry> {
        let slot = Slot::of(entry)?;
        let (extent, mut memory) = (slot.extent(), slot.memory());
        let mut published = self.published.lock();
        let position = published.len();
        if position.is_multiple_of(CHUNK) {
            let before = published.extent;
            Arc::make_mut(&mut published.chunks).push(Arc::new(Chunk::new(before)));
            self.resident.fetch_add(SLOTS, Ordering::Relaxed);
        }
        if let Some(chunk) = published.chunks.last() {
            if let Some(slots) = chunk.slots.read().as_ref().and_then(|slots| slots.get(position % CHUNK)) {
                // Only this function fills slots, each position once, under the lock.
                drop(slots.set(slot));
            } else {
                memory = 0;
            }
            chunk.memory.fetch_add(memory, Ordering::Relaxed);
            self.resident.fetch_add(memory, Ordering::Relaxed);
        }
        published.extent = published.extent.plus(extent);
        Ok(position)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.published.lock().clone()
    }

    /// Notes where the journal has the entries from `first` on.
    pub(crate) fn placed(&self, first: usize, spans: &[Span]) {
        let snapshot = self.snapshot();
        for (position, span) in (first..).zip(spans) {
            let Some(chunk) = snapshot.chunks.get(position / CHUNK) else { return };
            match position % CHUNK {
                // Each position is written once.
                0 => drop(chunk.from.set(span.from)),
                last if last == CHUNK - 1 => drop(chunk.to.set(span.to)),
                _ => {}
            }
        }
    }

    /// Lets the oldest entries go, if memory asks for it; of those from `done` on, none.
    pub(crate) fn let_go(&self, done: usize) {
        if self.resident.load(Ordering::Relaxed) <= self.limit {
            return;
        }
        // Who finds it taken leaves it to the one who has it.
        let Some(mut oldest) = self.letting_go.try_lock() else { return };
        let snapshot = self.snapshot();
        while self.resident.load(Ordering::Relaxed) > self.limit && (*oldest + 1) * CHUNK <= done {
            let Some(chunk) = snapshot.chunks.get(*oldest).filter(|chunk| chunk.to.get().is_some()) else {
                return;
            };
            drop(chunk.slots.write().take());
            self.resident.fetch_sub(chunk.memory.load(Ordering::Relaxed), Ordering::Relaxed);
            *oldest += 1;
        }
    }

    /// Bytes of memory that entries take.
    pub(crate) fn resident(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
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

    /// The entry at this position, counted from 0; `None` behind the end. A copy, as all entries given out here.
    ///
    /// # Errors
    /// [`ReadError::Journal`].
    pub fn entry(&self, position: usize) -> Result<Option<Entry>, ReadError> {
        self.entries_from(position).next().transpose()
    }

    /// The entries in order, from `position` on.
    pub fn entries_from(&self, position: usize) -> impl Iterator<Item = Result<Entry, ReadError>> + '_ {
        let mut walk = Walk { snapshot: self, position, held: None };
        std::iter::from_fn(move || walk.next(|slot| slot.entry.clone()).transpose())
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
    /// [`ReadError`].
    pub fn read_at(&self, form: Form, algo: HashAlgo, offset: u64, max: usize) -> Result<Vec<u8>, ReadError> {
        let mut walk = Walk { snapshot: self, position: 0, held: None };
        let mut skip = walk.seek(form, algo, offset)?;
        let mut out = Vec::new();
        while out.len().saturating_sub(skip) < max {
            let written = walk.next(|slot| match form {
                Form::Ascii => slot.entry.write_ascii(&mut out, algo),
                Form::Binary => slot.entry.write_binary(&mut out, algo),
            });
            match written? {
                Some(written) => written?,
                None => break,
            }
        }
        skip = skip.min(out.len());
        out.drain(..skip);
        out.truncate(max);
        Ok(out)
    }
}

/// Going through a snapshot, with the entries of the chunk at hand.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    position: usize,
    held: Option<(usize, Arc<Slots>)>,
}

impl Walk<'_> {
    /// Looks at the next entry; `None` at the end.
    fn next<T>(&mut self, look: impl FnOnce(&Slot) -> T) -> Result<Option<T>, ReadError> {
        let found = self.look()?;
        self.position += 1;
        Ok(found.as_ref().and_then(Filled::slot).map(look))
    }

    /// The entry at the position.
    fn look(&mut self) -> Result<Option<Filled>, ReadError> {
        let (number, index) = (self.position / CHUNK, self.position % CHUNK);
        if self.position >= self.snapshot.len() {
            return Ok(None);
        }
        let Some(chunk) = self.snapshot.chunks.get(number) else { return Ok(None) };
        let slots = match &self.held {
            Some((held, slots)) if *held == number => Arc::clone(slots),
            Some(_) | None => {
                let slots = chunk.slots(number, self.snapshot.journal.as_ref())?;
                self.held = Some((number, Arc::clone(&slots)));
                slots
            }
        };
        Ok(Some(Filled { slots, index }).filter(|filled| filled.slot().is_some()))
    }

    /// Goes to the entry that `offset` falls into; gives how far into it.
    fn seek(&mut self, form: Form, algo: HashAlgo, offset: u64) -> Result<usize, ReadError> {
        let chunks = &self.snapshot.chunks;
        let number = chunks.partition_point(|chunk| chunk.before.bytes(form, algo) <= offset);
        let number = number.saturating_sub(1);
        let mut at = chunks.get(number).map_or(0, |chunk| chunk.before.bytes(form, algo));
        self.position = number * CHUNK;
        while let Some(filled) = self.look()?
            && let Some(slot) = filled.slot()
        {
            let next = at + slot.extent().bytes(form, algo);
            if next > offset {
                break;
            }
            (at, self.position) = (next, self.position + 1);
        }
        Ok(usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX))
    }
}
