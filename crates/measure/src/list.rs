//! One mount's measurement list.
//!
//! Each entry takes three steps, in this order and before [`List::add`] returns: the list, the journal, the
//! PCR. All three happen under one lock (`order`), so that the list, replayed, is the PCR. An entry whose
//! journal or PCR step fails stays in the list, as in the kernel; unlike the kernel's it is not forgotten:
//! every later call first completes the steps that are due, oldest first, and fails while it cannot. So the
//! list always replays to the PCR once the bank works again, and no file is served on the strength of an
//! entry that is in the list alone, also not as a duplicate of it. A bank that was restarted is extended with the
//! whole list again, before anything new.
//!
//! Lock order: `order`, then `seen`, then the store's own. Device and journal are spoken to under `order`
//! alone; a duplicate of a completed entry never takes it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ima::template::FileAttrs;
use ima::{Digest, Entry, Event, HashAlgo, Hasher, PcrIndex, Template};
use parking_lot::Mutex;

use crate::options::{Added, Checkpoint, Journal, ListOptions};
use crate::seen::Seen;
use crate::store::{Snapshot, Store};
use crate::{BankError, MeasureError, PcrBank, boot};

/// How many restarts of its bank one call sits out; a later call goes on where it left off.
const MAX_RESTARTS: u32 = 3;

/// See the module's text.
pub struct List {
    default_algo: HashAlgo,
    template: Template,
    pcr: PcrIndex,
    bank: Arc<dyn PcrBank>,
    banks: Vec<HashAlgo>,
    list_algos: Vec<HashAlgo>,
    journal: Option<Arc<dyn Journal>>,
    order: Mutex<Progress>,
    seen: Mutex<Seen>,
    store: Store,
    /// Entries that are in the PCR; written under `order`.
    extended: AtomicUsize,
    violations: AtomicU64,
}

/// What `order` guards.
#[derive(Debug, Default)]
struct Progress {
    /// Entries that are in the journal.
    journaled: usize,
    /// The registers the entries are for, a bit each.
    pcrs: u64,
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
    /// A list whose first entry is `boot_aggregate`, extended.
    ///
    /// # Errors
    /// [`MeasureError::Digest`] for an algorithm that cannot be computed; else as [`List::add`], and when
    /// the registers of the boot cannot be read.
    pub fn new(options: ListOptions) -> Result<Self, MeasureError> {
        let banks = options.bank.algos();
        let algos = banks.iter().chain(&options.list_algos).chain([&options.default_algo]);
        for algo in algos {
            Hasher::new(*algo).map_err(MeasureError::Digest)?;
        }
        let mut list_algos = vec![HashAlgo::Sha1];
        list_algos.extend(options.list_algos.iter().filter(|algo| **algo != HashAlgo::Sha1));
        let aggregate =
            boot::aggregate(&*options.bank, options.default_algo).map_err(MeasureError::ReadPcr)?;
        let list = Self {
            default_algo: options.default_algo,
            template: options.template,
            pcr: options.pcr,
            bank: options.bank,
            banks,
            list_algos,
            journal: options.journal,
            order: Mutex::default(),
            seen: Mutex::default(),
            store: Store::default(),
            extended: AtomicUsize::new(0),
            violations: AtomicU64::new(0),
        };
        let event =
            Event { legacy_digest: Some(aggregate.legacy), ..Event::boot_aggregate(aggregate.digest) };
        let entry = list.template.entry(list.pcr, &event).map_err(MeasureError::Template)?;
        list.add(entry)?;
        Ok(list)
    }

    /// Adds an entry, unless the list has it: the same template digest, in the default algorithm, for the
    /// same PCR. A violation is always added.
    ///
    /// # Errors
    /// [`MeasureError::Digest`]: nothing was added. [`MeasureError::Journal`], [`MeasureError::Extend`]: the
    /// entry is in the list, but not yet where it must be for a file to be served.
    pub fn add(&self, entry: Entry) -> Result<Added, MeasureError> {
        let digest = entry.template_digest(self.default_algo).map_err(MeasureError::Digest)?;
        if let Some(position) = self.position(&entry, &digest)
            && position < self.extended.load(Ordering::Acquire)
        {
            return Ok(Added::Duplicate);
        }
        let values = self.extend_values(&entry)?;
        let mut progress = self.order.lock();
        if self.position(&entry, &digest).is_some() {
            self.complete(&mut progress, None)?;
            return Ok(Added::Duplicate);
        }
        self.append(&mut progress, entry, &digest)?;
        self.complete(&mut progress, Some(values))?;
        Ok(Added::New)
    }

    /// Where the list has this entry. Violations are never looked for: each is an entry of its own.
    fn position(&self, entry: &Entry, digest: &Digest) -> Option<usize> {
        if entry.is_violation() {
            return None;
        }
        let seen = self.seen.lock();
        let snapshot = self.store.snapshot();
        let is = |position: usize| {
            snapshot.entry(position).is_some_and(|other| {
                other.pcr() == entry.pcr() && other.template_digest(self.default_algo) == Ok(*digest)
            })
        };
        seen.find(digest, entry.pcr(), is)
    }

    /// The first step: the list, and the note that it is there.
    fn append(&self, progress: &mut Progress, entry: Entry, digest: &Digest) -> Result<(), MeasureError> {
        let (pcr, violation) = (entry.pcr(), entry.is_violation());
        let position = self.store.push(entry).map_err(|_| MeasureError::TooLarge)?;
        progress.pcrs |= 1 << pcr.value();
        if violation {
            self.violations.fetch_add(1, Ordering::Relaxed);
        } else {
            self.seen.lock().insert(digest, pcr, position);
        }
        Ok(())
    }

    /// The journal and the PCR, for every entry that still lacks one of them. `last` is what the last entry
    /// of the list extends the banks with, where the caller has computed it.
    ///
    /// A bank that was restarted has lost everything, and gets everything again.
    fn complete(&self, progress: &mut Progress, last: Option<Vec<Digest>>) -> Result<(), MeasureError> {
        let mut outcome = self.complete_once(progress, last);
        for restart in 0.. {
            if !matches!(&outcome, Err(MeasureError::Extend { source: BankError::Reset, .. })) {
                break;
            }
            self.extended.store(0, Ordering::Release);
            if restart == MAX_RESTARTS {
                break;
            }
            outcome = self.complete_once(progress, None);
        }
        outcome
    }

    fn complete_once(
        &self,
        progress: &mut Progress,
        mut last: Option<Vec<Digest>>,
    ) -> Result<(), MeasureError> {
        let snapshot = self.store.snapshot();
        let begin = self.extended.load(Ordering::Acquire);
        for (index, entry) in snapshot.entries_from(begin).enumerate().map(|(n, entry)| (begin + n, entry)) {
            if let Some(journal) = &self.journal
                && index >= progress.journaled
            {
                journal.append(entry).map_err(|source| MeasureError::Journal { index, source })?;
                progress.journaled = index + 1;
            }
            let values = match last.take_if(|_| index + 1 == snapshot.len()) {
                Some(values) => values,
                None => self.extend_values(entry)?,
            };
            let extended = self.bank.extend(entry.pcr(), &values);
            extended.map_err(|source| MeasureError::Extend { index, source })?;
            self.extended.store(index + 1, Ordering::Release);
        }
        Ok(())
    }

    /// What an entry extends each bank with.
    fn extend_values(&self, entry: &Entry) -> Result<Vec<Digest>, MeasureError> {
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
        self.complete(&mut self.order.lock(), None)
    }

    /// The default template of the list.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// The default PCR of the list.
    #[must_use]
    pub fn pcr(&self) -> PcrIndex {
        self.pcr
    }

    /// The default algorithm of the list.
    #[must_use]
    pub fn default_algo(&self) -> HashAlgo {
        self.default_algo
    }

    /// The algorithms with a list of their own; SHA-1, the unsuffixed one's, is the first.
    #[must_use]
    pub fn algos(&self) -> &[HashAlgo] {
        &self.list_algos
    }

    /// The bank that is extended.
    #[must_use]
    pub fn bank(&self) -> &Arc<dyn PcrBank> {
        &self.bank
    }

    /// Entries in the list, `boot_aggregate` and violations included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.store.snapshot().len()
    }

    /// Violations in the list.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    /// Entries in the list that are not in the PCR, because a step failed.
    #[must_use]
    pub fn due(&self) -> usize {
        let extended = self.extended.load(Ordering::Acquire);
        self.count().saturating_sub(extended)
    }

    /// The list as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.store.snapshot()
    }

    /// The list and the registers of one moment: no entry is on its way meanwhile.
    ///
    /// # Errors
    /// [`MeasureError::ReadPcr`].
    pub fn checkpoint(&self) -> Result<Checkpoint, MeasureError> {
        let progress = self.order.lock();
        let snapshot = self.store.snapshot();
        let mut pcrs = Vec::new();
        for algo in &self.banks {
            for pcr in (0..64).filter(|pcr| progress.pcrs & (1 << pcr) != 0).filter_map(PcrIndex::new) {
                let value = self.bank.read(pcr, *algo).map_err(MeasureError::ReadPcr)?;
                pcrs.extend(value.map(|value| (pcr, value)));
            }
        }
        let extended = self.extended.load(Ordering::Acquire);
        drop(progress);
        Ok(Checkpoint { snapshot, extended, pcrs })
    }
}
