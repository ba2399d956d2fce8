//! Reading entries, one after the other.

use ima::ParseError;

use crate::names::{InvalidName, check_path};

/// Bytes of an entry before its path.
const ENTRY_HEADER: usize = 4;

/// Why bytes are no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// It does not begin as a manifest does.
    #[error("this is no manifest")]
    Magic,
    /// A version of the format that is not known here.
    #[error("version {0} of the format is not known here")]
    Version(u16),
    /// It is longer than any that is read.
    #[error("{0} bytes are more than a manifest may have")]
    TooLarge(usize),
    /// It ends before what its header tells of.
    #[error("it ends in the midst of its {0}")]
    Truncated(&'static str),
    /// The image's name is none.
    #[error("the image has no proper name")]
    Image(#[source] InvalidName),
    /// The signature is none, or not the last thing.
    #[error("the signature is malformed")]
    Signature(#[source] ParseError),
    /// The signature is of a form or over digests that manifests are not signed with.
    #[error("the signature is not of version 2 over sha256, sha384 or sha512")]
    Algorithm,
    /// An entry's path is none.
    #[error("entry {index} has no proper path")]
    Path {
        /// The entry, counted from 0.
        index: u32,
        /// What is wrong with it.
        #[source]
        source: InvalidName,
    },
    /// An entry has an empty label.
    #[error("entry {0} has an empty label")]
    Label(u32),
    /// Entries are in the order of their paths, and no path comes twice.
    #[error("entry {0} is not after the one before it")]
    Order(u32),
    /// There is something behind the last entry.
    #[error("{0} bytes follow the last entry")]
    Trailing(usize),
}

/// One entry: a path and its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The absolute path in the image.
    pub path: &'a [u8],
    /// The label, as `security.ima` would hold it; at least one byte.
    pub label: &'a [u8],
}

/// The entries of a manifest in order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
    /// Where `rest` begins, counted from the manifest's first byte.
    at: usize,
    previous: &'a [u8],
    next: u32,
    count: u32,
}

impl<'a> Entries<'a> {
    /// Those in `bytes`, which begin at offset `at` and of which there are `count`.
    pub(crate) fn new(bytes: &'a [u8], at: usize, count: u32) -> Self {
        Self { rest: bytes, at, previous: &[], next: 0, count }
    }

    /// Where the entry that comes next begins.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    fn read(&mut self) -> Result<Entry<'a>, FormatError> {
        let index = self.next;
        let (entry, rest) = read_entry(self.rest).ok_or(FormatError::Truncated("entries"))?;
        check_path(entry.path).map_err(|source| FormatError::Path { index, source })?;
        if entry.label.is_empty() {
            return Err(FormatError::Label(index));
        }
        if entry.path <= self.previous {
            return Err(FormatError::Order(index));
        }
        self.previous = entry.path;
        self.at += ENTRY_HEADER + entry.path.len() + entry.label.len();
        self.rest = rest;
        self.next += 1;
        Ok(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            let left = std::mem::take(&mut self.rest).len();
            return (left > 0).then_some(Err(FormatError::Trailing(left)));
        }
        let entry = self.read();
        if entry.is_err() {
            (self.rest, self.next, self.count) = (&[], 0, 0);
        }
        Some(entry)
    }
}

/// Takes one entry off the front, as far as lengths go.
pub(crate) fn read_entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (path_len, rest) = bytes.split_first_chunk()?;
    let (label_len, rest) = rest.split_first_chunk()?;
    let (path, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*path_len)))?;
    let (label, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*label_len)))?;
    Some((Entry { path, label }, rest))
}

/// Writes one entry; `None` where a length does not fit.
pub(crate) fn write_entry(entry: Entry<'_>, body: &mut Vec<u8>) -> Option<()> {
    let (path_len, label_len) = (u16::try_from(entry.path.len()), u16::try_from(entry.label.len()));
    body.extend(path_len.ok()?.to_le_bytes());
    body.extend(label_len.ok()?.to_le_bytes());
    body.extend(entry.path);
    body.extend(entry.label);
    Some(())
}
