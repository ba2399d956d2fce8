//! Going on with the list of a journal: loading, proving, and extending what was written and not extended.

use std::sync::atomic::Ordering;

use ima::{Digest, Entry, PcrIndex};

use crate::MeasureError;
use crate::journal::{Journal, Record};
use crate::list::List;
use crate::proof::{Proof, ProofError};

impl List {
    /// Takes over what the journal has. Called before anything else is added.
    pub(crate) fn resume(&self, journal: &Journal) -> Result<(), MeasureError> {
        let device = self.bank.outlives_process();
        let begun = if device { Proof::against(&self.banks, &*self.bank) } else { Proof::new(&self.banks) };
        let mut proof = begun.map_err(MeasureError::Proof)?;
        let unproved = |error| MeasureError::Proof(ProofError::Bank(error));
        let mut recall = self.bank.recall(journal.header().id).map_err(unproved)?;
        for placed in journal.found().map_err(MeasureError::Scan)? {
            let placed = placed.map_err(MeasureError::Scan)?;
            proof.take(&placed.record).map_err(MeasureError::Proof)?;
            if let Record::Entry(entry) = placed.record {
                if let Some(recall) = &mut recall {
                    recall.next(&entry, &self.extend_values(&entry)?).map_err(unproved)?;
                }
                let position = self.load(entry)?;
                self.store.placed(position, &[crate::journal::Span { from: placed.offset, to: placed.end }]);
                // All of these are in the journal, which is where they are read from again.
                self.store.let_go(position + 1);
            }
        }
        let count = self.count();
        self.journaled.store(count, Ordering::Release);
        let extended = match recall {
            Some(mut recall) => recall.end().map_err(ProofError::Bank),
            None if device => proof.position(),
            None => self.restore(&proof),
        };
        let extended = extended.map_err(MeasureError::Proof)?;
        // Between the proof and the first extend the device may be restarted, or extended by somebody.
        self.bank.expect(&proof.held());
        let extended = usize::try_from(extended).unwrap_or(usize::MAX).min(count);
        *self.journaling.lock() = proof.into_shadow();
        self.extended.store(extended, Ordering::Release);
        // What is not extended yet is read from the list as its turn comes.
        self.queue.lock().first = count;
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

    /// Sets the process's own registers to what the journal proves; gives how many entries they then hold.
    fn restore(&self, proof: &Proof<'_>) -> Result<u64, ProofError> {
        let registers = proof.registers();
        let values: Vec<(PcrIndex, Digest)> =
            registers.iter().map(|register| (register.pcr, register.value)).collect();
        self.bank.restore(&values).map_err(ProofError::Bank)?;
        Ok(proof.entries())
    }
}
