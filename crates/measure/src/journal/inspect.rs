//! Reading a journal without touching it: for a person, an archive, and the proof that all of it agrees.

use std::fs::File;
use std::path::Path;

use ima::{HashAlgo, Hasher};

use super::format::{End, Header, Record, Register};
use super::scan::{self, JournalFault, ScanError};
use super::{MARK, Medium};
use crate::proof::{Proof, ProofError};

/// What a journal that agrees with itself says.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// Its header.
    pub header: Header,
    /// Entries of the list.
    pub entries: u64,
    /// Violations among them.
    pub violations: u64,
    /// Batches: waits for the disk.
    pub batches: u64,
    /// The registers after all entries, as the replay gives them.
    pub registers: Vec<Register>,
    /// The end record, where the journal ends with one.
    pub end: Option<End>,
    /// Bytes of a batch that is not finished: being written, or left by a crash.
    pub unfinished: u64,
}

/// Why a journal does not agree with itself, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// It cannot be read, or is damaged.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Its entries do not give its registers.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl InspectError {
    /// Whether the journal itself is at fault, rather than that it could not be read.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Scan(ScanError::Fault(_)) | Self::Proof(ProofError::Fault(_)))
    }
}

/// Reads a journal file, checks all of it, and shows each record to `visit`. In a directory of journals that is the
/// current one.
///
/// # Errors
/// [`InspectError`].
pub fn inspect(path: &Path, visit: &mut dyn FnMut(&Record)) -> Result<Inspection, InspectError> {
    let path = if path.is_dir() { path.join(super::CURRENT) } else { path.to_owned() };
    let file = File::open(&path).map_err(ScanError::Read)?;
    // The mark is that of the current journal; by its id an archived one knows that it is not meant.
    let mark = path.parent().and_then(|directory| File::open(directory.join(MARK)).ok());
    inspect_medium(&file, mark.as_ref().map(|mark| mark as &dyn Medium), visit)
}

fn inspect_medium(
    file: &dyn Medium,
    mark: Option<&dyn Medium>,
    visit: &mut dyn FnMut(&Record),
) -> Result<Inspection, InspectError> {
    let summary = scan::check(file, mark)?;
    let mut proof = Proof::new(&summary.header.identity.banks)?;
    let mut list = Hasher::new(HashAlgo::Sha256).map_err(ProofError::Algo)?;
    let (mut violations, mut end) = (0, None);
    let mut line = Vec::new();
    for placed in scan::records(file, &summary)? {
        let record = placed?.record;
        proof.take(&record)?;
        visit(&record);
        end = None;
        match record {
            Record::Entry(entry) => {
                line.clear();
                entry.write_binary(&mut line, HashAlgo::Sha1).map_err(ProofError::Algo)?;
                list.update(&line);
                violations += u64::from(entry.is_violation());
            }
            Record::State(_) => {}
            Record::End(found) => {
                if found.list_digest != list.clone().finish() {
                    return Err(ProofError::Fault(JournalFault::ListDigest).into());
                }
                end = Some(found);
            }
        }
    }
    Ok(Inspection {
        entries: summary.entries,
        violations,
        batches: summary.batch,
        registers: proof.registers(),
        end,
        unfinished: summary.unfinished,
        header: summary.header,
    })
}
