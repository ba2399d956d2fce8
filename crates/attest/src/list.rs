//! The list of evidence: one mount's, or a host list with the lines of many mounts (`docs/host-list.md`).
//!
//! Which of the two it is shows in its first line. Both are read line by line, and nothing is held.

use ima::host::{HostList, ParsedHostLine};
use ima::list::BinaryList;
use ima::{Entry, HashAlgo, ListError, ParsedEntry, PcrIndex, Pcrs};

/// How a line of a host list names its template, behind the register and the digest.
const HOST_TEMPLATE: (usize, &[u8]) = (24, b"\x06\0\0\0ima-ns");

/// A line of either kind.
#[derive(Debug)]
pub(crate) enum Line {
    Mount(ParsedEntry),
    Host(ParsedHostLine),
}

impl Line {
    /// The entry of a mount's list.
    pub(crate) fn entry(&self) -> &Entry {
        match self {
            Self::Mount(parsed) => &parsed.entry,
            Self::Host(parsed) => parsed.line.entry(),
        }
    }

    /// Whose it is and its number there, in a host list.
    pub(crate) fn origin(&self) -> Option<(&str, u64)> {
        match self {
            Self::Mount(_) => None,
            Self::Host(parsed) => Some((parsed.line.ns(), parsed.line.seq())),
        }
    }

    /// The register that it extends.
    pub(crate) fn pcr(&self) -> PcrIndex {
        match self {
            Self::Mount(parsed) => parsed.entry.pcr(),
            Self::Host(parsed) => parsed.pcr,
        }
    }

    /// Whether its digest is that of its data; a host list is not read on at one whose is not.
    pub(crate) fn is_consistent(&self) -> bool {
        match self {
            Self::Mount(parsed) => parsed.is_consistent(),
            Self::Host(_) => true,
        }
    }

    /// Extends the registers of a bank.
    pub(crate) fn extend(&self, pcrs: &mut Pcrs) {
        match self {
            Self::Mount(parsed) => pcrs.replay([&parsed.entry]),
            Self::Host(parsed) => {
                // A bank that cannot be computed has no registers; without its line a list replays to nothing.
                let value = parsed.line.extend_value(pcrs.algo());
                let _extended = value.is_ok_and(|value| pcrs.extend(parsed.pcr, &value).is_ok());
            }
        }
    }
}

/// Iterator over the lines of a list; after an error there are no more.
#[derive(Debug)]
pub(crate) enum Lines<'a> {
    Mount(BinaryList<'a>),
    Host(HostList<'a>),
}

impl Iterator for Lines<'_> {
    type Item = Result<Line, ListError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Mount(list) => Some(list.next()?.map(Line::Mount)),
            Self::Host(list) => Some(list.next()?.map(Line::Host)),
        }
    }
}

/// Whether it begins as a host list.
pub(crate) fn is_host_list(list: &[u8]) -> bool {
    let (at, template) = HOST_TEMPLATE;
    list.get(at..).is_some_and(|rest| rest.starts_with(template))
}

/// Reads a list of either kind.
pub(crate) fn lines(list: &[u8]) -> Lines<'_> {
    if is_host_list(list) {
        Lines::Host(ima::parse_host(list))
    } else {
        Lines::Mount(ima::parse_binary(list, HashAlgo::Sha1))
    }
}
