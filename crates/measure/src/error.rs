//! What can go wrong when an entry is added.

use ima::{UnavailableAlgo, template::TemplateError};

use crate::BankError;

/// An entry that is not where it must be. It denies, unless the caller was told otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// A digest of the list or of a bank cannot be computed; nothing was added.
    #[error("cannot compute a template digest")]
    Digest(#[source] UnavailableAlgo),
    /// The event does not fit the template; nothing was added.
    #[error("cannot make a list entry")]
    Template(#[source] TemplateError),
    /// The entry would take 4 GiB of the ASCII list; nothing was added.
    #[error("entry too large for a measurement list")]
    TooLarge,
    /// The entry is in the list, but it or one before it is not in the journal, nor then in the PCR.
    #[error("cannot write entry {index} to the journal")]
    Journal {
        /// Number of the first entry that is not journaled, counted from 0.
        index: usize,
        /// What the journal says.
        #[source]
        source: JournalError,
    },
    /// The entry is in the list, but it or one before it is not in the PCR.
    #[error("cannot extend the PCR with entry {index}")]
    Extend {
        /// Number of the first entry that is not extended, counted from 0.
        index: usize,
        /// What the bank says.
        #[source]
        source: BankError,
    },
    /// A register could not be read.
    #[error("cannot read the PCRs")]
    ReadPcr(#[source] BankError),
}

/// Why the journal did not take an entry.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the journal")]
pub struct JournalError(#[source] pub std::io::Error);
