//! What can go wrong when an entry is added.

use ima::{PcrIndex, UnavailableAlgo, template::TemplateError};

use crate::BankError;
use crate::journal::{JournalError, ScanError};
use crate::proof::ProofError;
use crate::store::ReadError;

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
    /// The entry's register cannot be extended by this list; nothing was added.
    #[error("PCR {pcr} is not for this list")]
    Register {
        /// The register.
        pcr: PcrIndex,
        /// What the bank says.
        #[source]
        source: BankError,
    },
    /// The entry does not fit the journal's format; nothing was added.
    #[error("the entry does not fit the journal")]
    Unfit,
    /// Too many entries wait for the journal or the PCR; nothing was added.
    #[error("{0} entries wait for the journal or the PCR already")]
    Behind(usize),
    /// An entry that may be the same is no longer in memory and cannot be read; nothing was added.
    #[error("cannot look an entry up")]
    ReadBack(#[source] ReadError),
    /// The journal of the list to go on with cannot be read.
    #[error("cannot read the journal")]
    Scan(#[source] ScanError),
    /// The journal of the list to go on with and the registers do not go together.
    #[error("cannot continue the list")]
    Proof(#[source] ProofError),
}
