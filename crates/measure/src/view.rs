//! What a list tells of itself, and how it is brought to a standstill.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ima::{HashAlgo, PcrIndex, Template};

use crate::journal::{End, Journal};
use crate::list::List;
use crate::options::Checkpoint;
use crate::store::Snapshot;
use crate::{MeasureError, PcrBank};

impl List {
    /// Writes the journal's end record, once everything is in the PCR. Nothing can be added after it.
    ///
    /// # Errors
    /// As [`List::add`]; then the journal has no end, and the next mount continues the list.
    pub fn end(&self) -> Result<(), MeasureError> {
        let mut arrivals = self.order.lock();
        let Some(journal) = self.journal.as_ref().filter(|_| !arrivals.ended) else { return Ok(()) };
        let count = self.count();
        self.reach(count)?;
        let shadow = self.journaling.lock();
        let failed = |source| MeasureError::Journal { index: count, source };
        let end = End {
            time: crate::journal::now(),
            entries: count as u64,
            list_digest: journal.list_digest().map_err(failed)?,
            registers: shadow.registers(),
        };
        journal.end(&end).map_err(failed)?;
        arrivals.ended = true;
        Ok(())
    }

    /// The journal, where there is one.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_deref()
    }

    /// Bytes of memory that the entries take which are in memory.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.store.resident()
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
        let arrivals = self.order.lock();
        // What cannot be completed is told by the count of what is extended.
        let _due = self.reach(self.count());
        let still = self.extending.lock();
        let snapshot = self.store.snapshot();
        let mut pcrs = Vec::new();
        for algo in &self.banks {
            for pcr in (0..64).filter(|pcr| arrivals.pcrs & (1 << pcr) != 0).filter_map(PcrIndex::new) {
                let value = self.bank.read(pcr, *algo).map_err(MeasureError::ReadPcr)?;
                pcrs.extend(value.map(|value| (pcr, value)));
            }
        }
        let extended = self.extended.load(Ordering::Acquire);
        drop((still, arrivals));
        Ok(Checkpoint { snapshot, extended, pcrs })
    }
}
