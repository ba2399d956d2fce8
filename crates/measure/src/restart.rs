//! Going on with the list of a journal: loading, proving, and extending what was written and not extended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ima::{Digest, Entry, PcrIndex};

use crate::journal::{Journal, Record};
use crate::list::{Due, List};
use crate::proof::{Proof, ProofError};
use crate::{BankError, MeasureError};

impl List {
    /// Takes over what the journal has. Called before anything else is added.
    pub(crate) fn resume(&self, journal: &Journal) -> Result<(), MeasureError> {
        let mut proof = Proof::new(&self.banks).map_err(MeasureError::Proof)?;
        for placed in journal.found().map_err(MeasureError::Scan)? {
            let placed = placed.map_err(MeasureError::Scan)?;
            proof.take(&placed.record).map_err(MeasureError::Proof)?;
            if let Record::Entry(entry) = placed.record {
                let position = self.load(entry)?;
                self.store.placed(position, &[crate::journal::Span { from: placed.offset, to: placed.end }]);
                // All of these are in the journal, which is where they are read from again.
                self.store.let_go(position + 1);
            }
        }
        let count = self.count();
        self.journaled.store(count, Ordering::Release);
        let extended = self.registers(&proof).map_err(MeasureError::Proof)?;
        *self.journaling.lock() = proof.into_shadow();
        self.extended.store(extended, Ordering::Release);
        let snapshot = self.store.snapshot();
        let mut queue = self.queue.lock();
        queue.first = extended;
        for entry in snapshot.entries_from(extended) {
            let entry = entry.map_err(MeasureError::ReadBack)?;
            let values = self.extend_values(&entry)?;
            queue.due.push_back(Arc::new(Due { pcr: entry.pcr(), values }));
        }
        drop(queue);
        self.reach(count)
    }

    /// An entry of the journal becomes one of the list.
    fn load(&self, entry: Entry) -> Result<usize, MeasureError> {
        let digest = entry.template_digest(self.default_algo).map_err(MeasureError::Digest)?;
        let (pcr, violation) = (entry.pcr(), entry.is_violation());
        let position = self.store.push(entry).map_err(|_| MeasureError::TooLarge)?;
        self.order.lock().pcrs |= 1 << pcr.value();
        if violation {
            self.violations.fetch_add(1, Ordering::Relaxed);
        } else {
            self.seen.lock().insert(&digest, pcr, position);
        }
        Ok(position)
    }

    /// Sets the process's own registers to what the journal proves, or finds where in the list a device's are.
    fn registers(&self, proof: &Proof) -> Result<usize, ProofError> {
        let device = self.bank.epoch().map_err(ProofError::Bank)?;
        let extended = match device {
            Some(_) => proof.position_of(&*self.bank)?,
            None => {
                let registers = proof.registers();
                let values: Vec<(PcrIndex, Digest)> =
                    registers.iter().map(|register| (register.pcr, register.value)).collect();
                self.bank.restore(&values).map_err(ProofError::Bank)?;
                proof.entries()
            }
        };
        usize::try_from(extended).map_err(|_| ProofError::Bank(BankError::NotRestorable))
    }
}
