//! What a list is made with, and what it answers.

use std::fmt;
use std::sync::Arc;

use ima::{Digest, HashAlgo, PcrIndex, Template};

use crate::journal::Journal;
use crate::{PcrBank, Snapshot};

/// How a [`List`](crate::List) begins.
pub struct ListOptions {
    /// The default hash algorithm: that of deduplication, of violations and of `boot_aggregate`.
    pub default_algo: HashAlgo,
    /// The template of entries whose rule names none, and of violations.
    pub template: Template,
    /// The PCR of entries whose rule names none, and of violations.
    pub pcr: PcrIndex,
    /// What is extended.
    pub bank: Arc<dyn PcrBank>,
    /// The algorithms that have lists of their own (`..._runtime_measurements_sha256`), beside SHA-1.
    pub list_algos: Vec<HashAlgo>,
    /// Where entries are written before they are extended, if anywhere. A list in it goes on.
    pub journal: Option<Journal>,
    /// Bytes of memory that entries may take; the oldest are then read back from the journal. Without a journal all
    /// stay in memory.
    pub memory: Option<usize>,
}

impl ListOptions {
    /// The defaults for the rest: SHA-256, PCR 10, no journal, and a list for each of the bank's algorithms.
    #[must_use]
    pub fn new(template: Template, bank: Arc<dyn PcrBank>) -> Self {
        Self {
            default_algo: HashAlgo::Sha256,
            template,
            pcr: PcrIndex::DEFAULT,
            list_algos: bank.algos(),
            bank,
            journal: None,
            memory: None,
        }
    }
}

impl fmt::Debug for ListOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListOptions")
            .field("default_algo", &self.default_algo)
            .field("template", &self.template)
            .field("pcr", &self.pcr)
            .field("list_algos", &self.list_algos)
            .field("journal", &self.journal)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// Whether [`List::add`](crate::List::add) added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// The entry is new: in the list, the journal and the PCR.
    New,
    /// The list had an entry with this template digest for this PCR, itself complete.
    Duplicate,
}

/// The list and the registers at one moment.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The list.
    pub snapshot: Snapshot,
    /// Entries of it that are in the PCR: all, unless a step is due.
    pub extended: usize,
    /// Each register the list has extended, in each bank.
    pub pcrs: Vec<(PcrIndex, Digest)>,
}
