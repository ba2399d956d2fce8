//! Reading measurement lists, binary and ASCII, whoever wrote them.
//!
//! Both readers are iterators over a slice: nothing is read ahead, an entry allocates no more than the bytes it was
//! made of, and after the first error the iteration is over, because where the next entry begins is unknown then.
//! They check form, not truth: that the template digest is the entry's is [`ParsedEntry::is_consistent`].

mod ascii;
mod binary;
mod cursor;

pub use ascii::{AsciiList, parse_ascii};
pub use binary::{BinaryList, parse_binary};
pub(crate) use cursor::Cursor;

use crate::{Digest, Entry};

/// An entry together with the template digest that its list gives for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedEntry {
    /// The entry. It is a violation where the recorded template digest is all zeros.
    pub entry: Entry,
    /// The template digest as recorded.
    pub recorded: Digest,
}

impl ParsedEntry {
    /// Whether the recorded template digest is that of the entry's data; always so for a violation.
    ///
    /// An algorithm that cannot be computed gives `false`.
    pub fn is_consistent(&self) -> bool {
        self.entry.template_digest(self.recorded.algo()) == Ok(self.recorded)
    }
}

/// Where and why a list cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("measurement list entry {index} at byte {offset}: {reason}")]
pub struct ListError {
    /// The number of entries before it.
    pub index: usize,
    /// Where the entry begins, in bytes from the start of the list.
    pub offset: usize,
    /// What is wrong with it.
    pub reason: ListFault,
}

/// What can be wrong with an entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListFault {
    /// The list ends within the entry. More bytes may complete it.
    #[error("the list ends within the entry")]
    Truncated,
    /// The PCR is not a number of 0 to 63.
    #[error("no such PCR")]
    Pcr,
    /// The template digest is not hexadecimal or not of its algorithm's length.
    #[error("malformed template digest")]
    TemplateDigest,
    /// The template's name is longer than 255 bytes, unknown, or not a format of known fields.
    #[error("unknown template")]
    Template,
    /// There are more or fewer fields than the template has, or one is not of its form.
    #[error("malformed template data")]
    Data,
}
