//! One mount's measurement list.
//!
//! Each entry takes three steps, in this order and before [`List::add`] returns: the list, the journal, the PCR. The
//! order of entries is the same in all three, so that the list, replayed, is the PCR. Each step has a lock of its own,
//! and who waits for one finds his entry taken along:
//!
//! - `order`: an entry gets its place. Memory alone, so it is held for a microsecond.
//! - `journaling`: whoever has it writes every entry of the list that is not written, as one batch, and waits for the disk
//!   once. Entries that arrive meanwhile are the next batch. `turns` says whose it is, so that all whose entries a batch
//!   had wake up at once, rather than one after the other as a lock would wake them.
//! - `extending`: whoever has it extends entries in order until his own is done, and lets others see after each.
//!
//! An entry whose journal or PCR step fails stays in the list, as in the kernel; unlike the kernel's it is not
//! forgotten: later calls first complete the steps that are due, oldest first, and fail while they cannot. So the
//! list always replays to the PCR once the bank works again, and no file is served on the strength of an
//! entry that is in the list alone, also not as a duplicate of it. A bank that was restarted is extended with the whole
//! list again, before anything new. How many entries may wait is bounded.
//!
//! Lock order: `order`, `turns`, `journaling`, `extending`, `queue`; under `order` also `seen`, then the store's own. Journal and
//! bank are waited for under their own lock alone; a duplicate of a completed entry takes none of the three. Only
//! [`List::checkpoint`] and [`List::end`] wait for all of them with `order` in hand: they ask for a standstill.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ima::template::FileAttrs;
use ima::{Digest, Entry, Event, HashAlgo, Hasher, PcrIndex, Template};
use parking_lot::{Mutex, MutexGuard};

use crate::journal::{self, Journal, JournalError, State};
use crate::options::{Added, ListOptions};
use crate::proof::Shadow;
use crate::seen::Seen;
use crate::store::Store;
use crate::turns::Turns;
use crate::{BankError, MeasureError, PcrBank, boot};

/// Entries that may wait for the journal or the PCR. Under load as many wait as threads measure; more pile up only while
/// one of the two fails, and then a container that goes on opening files must not fill our memory.
const MAX_DUE: usize = 1 << 16;

/// How many restarts of its bank one call sits out; a later call goes on where it left off.
const MAX_RESTARTS: u32 = 3;

/// Entries written at once: what one batch holds in memory.
const MAX_BATCH: usize = 1024;

/// See the module's text.
pub struct List {
    pub(crate) default_algo: HashAlgo,
    pub(crate) template: Template,
    pub(crate) pcr: PcrIndex,
    pub(crate) bank: Arc<dyn PcrBank>,
    pub(crate) banks: Vec<HashAlgo>,
    pub(crate) list_algos: Vec<HashAlgo>,
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) order: Mutex<Arrivals>,
    turns: Turns,
    /// The registers as they are after the entries in the journal.
    pub(crate) journaling: Mutex<Shadow>,
    pub(crate) extending: Mutex<()>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) seen: Mutex<Seen>,
    pub(crate) store: Store,
    /// Entries that are in the journal; written under `journaling`.
    pub(crate) journaled: AtomicUsize,
    /// Entries that are in the PCR; written under `extending`.
    pub(crate) extended: AtomicUsize,
    /// Entries up to which some caller was told of a failure and is gone.
    abandoned: AtomicUsize,
    pub(crate) violations: AtomicU64,
}

/// What `order` guards.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// The registers the entries are for, a bit each.
    pub(crate) pcrs: u64,
    /// The list has ended.
    pub(crate) ended: bool,
}

/// Entries that have not been in the PCR yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The position of the first.
    pub(crate) first: usize,
    pub(crate) due: VecDeque<Arc<Due>>,
}

/// What is left to do for an entry.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) pcr: PcrIndex,
    /// What it extends each bank with.
    pub(crate) values: Vec<Digest>,
}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List")
            .field("template", &self.template)
            .field("default_algo", &self.default_algo)
            .field("banks", &self.banks)
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

impl List {
    /// A list whose first entry is `boot_aggregate`, extended; or the list of the journal, whole again in the PCR.
    ///
    /// # Errors
    /// [`MeasureError::Digest`] for an algorithm that cannot be computed; [`MeasureError::Scan`] and
    /// [`MeasureError::Proof`] where the journal's list cannot go on; else as [`List::add`], and when the registers of
    /// the boot cannot be read.
    pub fn new(options: ListOptions) -> Result<Self, MeasureError> {
        let banks = options.bank.algos();
        let algos = banks.iter().chain(&options.list_algos).chain([&options.default_algo]);
        for algo in algos {
            Hasher::new(*algo).map_err(MeasureError::Digest)?;
        }
        let mut list_algos = vec![HashAlgo::Sha1];
        list_algos.extend(options.list_algos.iter().filter(|algo| **algo != HashAlgo::Sha1));
        let journal = options.journal.map(Arc::new);
        let shadow = Shadow::new(&banks).map_err(MeasureError::Digest)?;
        let list = Self {
            default_algo: options.default_algo,
            template: options.template,
            pcr: options.pcr,
            bank: options.bank,
            banks,
            list_algos,
            store: Store::new(journal.clone(), options.memory),
            journal,
            order: Mutex::default(),
            turns: Turns::default(),
            journaling: Mutex::new(shadow),
            extending: Mutex::default(),
            queue: Mutex::default(),
            seen: Mutex::default(),
            journaled: AtomicUsize::new(0),
            extended: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            violations: AtomicU64::new(0),
        };
        if let Some(found) = &list.journal {
            list.resume(found)?;
        }
        if list.count() == 0 {
            list.begin()?;
        }
        Ok(list)
    }

    /// Adds `boot_aggregate`.
    fn begin(&self) -> Result<(), MeasureError> {
        let aggregate = boot::aggregate(&*self.bank, self.default_algo).map_err(MeasureError::ReadPcr)?;
        let event =
            Event { legacy_digest: Some(aggregate.legacy), ..Event::boot_aggregate(aggregate.digest) };
        let entry = self.template.entry(self.pcr, &event).map_err(MeasureError::Template)?;
        self.add(entry).map(drop)
    }

    /// Adds an entry, unless the list has it: the same template digest, in the default algorithm, for the
    /// same PCR. A violation is always added.
    ///
    /// # Errors
    /// [`MeasureError::Digest`]: nothing was added. [`MeasureError::Journal`], [`MeasureError::Extend`]: the
    /// entry is in the list, but not yet where it must be for a file to be served.
    pub fn add(&self, entry: Entry) -> Result<Added, MeasureError> {
        let digest = entry.template_digest(self.default_algo).map_err(MeasureError::Digest)?;
        let mut others = Vec::new();
        let known = self.position(&entry, &digest, &mut others)?;
        if known.is_some_and(|position| position < self.extended.load(Ordering::Acquire)) {
            return Ok(Added::Duplicate);
        }
        let values = self.extend_values(&entry)?;
        self.admit(entry.pcr())?;
        let mut arrivals = self.order.lock();
        // It may have come since.
        let (position, added) =
            match known.map_or_else(|| self.position(&entry, &digest, &mut others), |at| Ok(Some(at)))? {
                Some(position) => (position, Added::Duplicate),
                None => (self.append(&mut arrivals, entry, &digest, values)?, Added::New),
            };
        drop(arrivals);
        self.reach(position + 1)?;
        Ok(added)
    }

    /// Where the list has this entry. Violations are never looked for: each is an entry of its own. `others` are
    /// positions known to hold another entry; those that are found out are added.
    fn position(
        &self,
        entry: &Entry,
        digest: &Digest,
        others: &mut Vec<usize>,
    ) -> Result<Option<usize>, MeasureError> {
        if entry.is_violation() {
            return Ok(None);
        }
        let candidates = self.seen.lock().candidates(digest, entry.pcr());
        for position in candidates {
            if others.contains(&position) {
                continue;
            }
            let other = self.store.snapshot().entry(position).map_err(MeasureError::ReadBack)?;
            let same = |other: &Entry| {
                other.pcr() == entry.pcr() && other.template_digest(self.default_algo) == Ok(*digest)
            };
            if other.as_ref().is_some_and(same) {
                return Ok(Some(position));
            }
            others.push(position);
        }
        Ok(None)
    }

    /// The first step: the list, and the note that it is there. Gives the entry's position.
    fn append(
        &self,
        arrivals: &mut Arrivals,
        entry: Entry,
        digest: &Digest,
        values: Vec<Digest>,
    ) -> Result<usize, MeasureError> {
        let due = self.queue.lock().due.len();
        if arrivals.ended {
            return Err(MeasureError::Journal { index: self.count(), source: JournalError::Ended });
        }
        if due >= MAX_DUE {
            return Err(MeasureError::Behind(due));
        }
        if self.journal.is_some() && !journal::fits(&entry) {
            return Err(MeasureError::Unfit);
        }
        let (pcr, violation) = (entry.pcr(), entry.is_violation());
        let position = self.store.push(entry).map_err(|_| MeasureError::TooLarge)?;
        self.queue.lock().due.push_back(Arc::new(Due { pcr, values }));
        arrivals.pcrs |= 1 << pcr.value();
        if violation {
            self.violations.fetch_add(1, Ordering::Relaxed);
        } else {
            self.seen.lock().insert(digest, pcr, position);
        }
        Ok(position)
    }

    /// The journal and the PCR, for the first `count` entries and for those before whose caller has gone without.
    pub(crate) fn reach(&self, count: usize) -> Result<(), MeasureError> {
        let count = count.max(self.abandoned.load(Ordering::Acquire));
        let done = self.journal_up_to(count).and_then(|()| self.extend_up_to(count));
        if done.is_err() {
            self.abandoned.fetch_max(count, Ordering::AcqRel);
        }
        self.store.let_go(self.extended.load(Ordering::Acquire));
        done
    }

    /// The second step.
    fn journal_up_to(&self, count: usize) -> Result<(), MeasureError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        if self.journaled.load(Ordering::Acquire) >= count {
            return Ok(());
        }
        let Some(_turn) = self.turns.take(|| self.journaled.load(Ordering::Acquire) >= count) else {
            return Ok(());
        };
        let mut shadow = self.journaling.lock();
        while self.journaled.load(Ordering::Acquire) < count {
            self.write_batch(journal, &mut shadow)?;
        }
        Ok(())
    }

    /// Writes the entries that are not in the journal, up to a batch full.
    fn write_batch(&self, journal: &Journal, shadow: &mut Shadow) -> Result<(), MeasureError> {
        let index = self.journaled.load(Ordering::Acquire);
        let due = {
            let queue = self.queue.lock();
            let due = queue.due.iter().skip(index - queue.first).take(MAX_BATCH);
            due.cloned().collect::<Vec<_>>()
        };
        let snapshot = self.store.snapshot();
        let entries = snapshot.entries_from(index).take(due.len());
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(MeasureError::ReadBack)?;
        let mut after = shadow.clone();
        for due in &due {
            after.begin_from(due.pcr, &*self.bank).map_err(MeasureError::ReadPcr)?;
            after.extend(due.pcr, &due.values);
        }
        let state = State { entries: (index + entries.len()) as u64, registers: after.registers() };
        let written = journal.commit(entries.iter(), &state);
        let spans = written.map_err(|source| MeasureError::Journal { index, source })?;
        *shadow = after;
        self.store.placed(index, &spans);
        self.journaled.store(index + entries.len(), Ordering::Release);
        Ok(())
    }

    /// The third step.
    fn extend_up_to(&self, count: usize) -> Result<(), MeasureError> {
        if self.extended.load(Ordering::Acquire) >= count {
            return Ok(());
        }
        let mut turn = self.extending.lock();
        let mut restarts = 0;
        while self.extended.load(Ordering::Acquire) < count {
            let index = self.extended.load(Ordering::Acquire);
            let Some(due) = self.due_at(index)? else { break };
            match self.extend_one(index, &due)? {
                Ok(()) => {}
                // It has lost everything, and gets everything again.
                Err(BankError::Reset) if restarts < MAX_RESTARTS => {
                    restarts += 1;
                    self.begin_again();
                    continue;
                }
                Err(source) => {
                    if matches!(source, BankError::Reset) {
                        self.begin_again();
                    }
                    return Err(MeasureError::Extend { index, source });
                }
            }
            let mut queue = self.queue.lock();
            if queue.first == index {
                queue.due.pop_front();
                queue.first = index + 1;
            }
            drop(queue);
            self.extended.store(index + 1, Ordering::Release);
            // Who waits for this entry need not wait for the rest.
            MutexGuard::bump(&mut turn);
        }
        Ok(())
    }

    /// What the bank says to one entry, which it is shown where it asks for it.
    fn extend_one(&self, index: usize, due: &Due) -> Result<Result<(), BankError>, MeasureError> {
        if !self.bank.wants_entries() {
            return Ok(self.bank.extend(due.pcr, &due.values));
        }
        let entry = self.store.snapshot().entry(index).map_err(MeasureError::ReadBack)?;
        let entry = entry.ok_or(BankError::WrongDigests);
        Ok(entry.and_then(|entry| self.bank.extend_entry(&entry, &due.values)))
    }

    /// Nothing is in the PCR any more, also not what was complete.
    pub(crate) fn begin_again(&self) {
        let complete = self.extended.swap(0, Ordering::AcqRel);
        self.abandoned.fetch_max(complete, Ordering::AcqRel);
    }

    /// What is left to do for the entry at this position: from the queue, or anew from the list for one that had left it.
    fn due_at(&self, index: usize) -> Result<Option<Arc<Due>>, MeasureError> {
        {
            let queue = self.queue.lock();
            if let Some(waiting) = index.checked_sub(queue.first) {
                return Ok(queue.due.get(waiting).map(Arc::clone));
            }
        }
        let entry = self.store.snapshot().entry(index).map_err(MeasureError::ReadBack)?;
        let due =
            entry.map(|entry| Ok(Arc::new(Due { pcr: entry.pcr(), values: self.extend_values(&entry)? })));
        due.transpose()
    }

    /// What an entry extends each bank with.
    pub(crate) fn extend_values(&self, entry: &Entry) -> Result<Vec<Digest>, MeasureError> {
        let values = self.banks.iter().map(|algo| entry.extend_value(*algo));
        values.collect::<Result<_, _>>().map_err(MeasureError::Digest)
    }

    /// Adds a violation on the file opened as `name`: zeros in the list, ones in the PCR, in the list's own
    /// template and PCR whatever a rule says. `evm` is the file's `security.evm`, which stands in for the
    /// signature if it is one, and `xattrs` are the attributes that EVM protects; `security.ima` is not recorded as a
    /// signature.
    ///
    /// # Errors
    /// As [`List::add`].
    pub fn add_violation(
        &self,
        name: &[u8],
        file: FileAttrs,
        evm: Option<&[u8]>,
        xattrs: &[(&[u8], &[u8])],
    ) -> Result<(), MeasureError> {
        let event = Event { evm, xattrs, ..Event::violation(self.default_algo, name, file) };
        let entry = self.template.entry(self.pcr, &event).map_err(MeasureError::Template)?;
        self.add(entry).map(|_| ())
    }

    /// Adds a buffer that was measured (a certificate, a revoked digest) as `name`, in the template `ima-buf`, by its
    /// digest in the list's default algorithm. As a file's entry, one that the list has is not added again.
    ///
    /// # Errors
    /// As [`List::add`].
    pub fn add_buffer(&self, pcr: PcrIndex, name: &[u8], buffer: &[u8]) -> Result<(), MeasureError> {
        let digest = ima::hash(self.default_algo, buffer).map_err(MeasureError::Digest)?;
        let event = Event::buffer(digest, name, buffer);
        let entry = Template::buffer().entry(pcr, &event).map_err(MeasureError::Template)?;
        self.add(entry).map(|_| ())
    }

    /// Completes what earlier calls could not, if anything is due.
    ///
    /// # Errors
    /// As [`List::add`].
    pub fn catch_up(&self) -> Result<(), MeasureError> {
        self.reach(self.count())
    }
}
