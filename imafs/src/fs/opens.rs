//! Who has a record open, and how it is served.
//!
//! The kernel refuses (EIO) to have one inode open through the page cache and lent at the same time, or lent under
//! two numbers. So the mode is chosen by the first open and stays until the last one is released; the number is
//! kept until the record is forgotten. The counts go up when a reply is decided and down when RELEASE is handled:
//! they are never lower than the kernel's.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use monitor::{Grant, Ticket};
use rustix::fs::OFlags;

use super::Errno;
use super::kernel::Lent;
use super::vault::reopen;

/// How an inode is served while it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenMode {
    /// Reads and writes come here, through the kernel's page cache.
    Cached,
    /// The kernel reads and writes the lent backing file.
    Lent,
}

/// The handle of an open: its number among those that make the kernel drop pages, and the monitor's ticket, either of
/// them 0 for most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(pub u64);

impl Handle {
    /// Enough for more opens of one file than there are nanoseconds in a quarter of an hour.
    const NUMBER_BITS: u32 = u64::BITS - Ticket::BITS;

    /// Puts it together.
    #[must_use]
    pub fn new(renewal: u64, ticket: Ticket) -> Self {
        Self(u64::from(ticket.bits()) << Self::NUMBER_BITS | renewal)
    }

    /// The number of the open, 0 if it drops no pages.
    #[must_use]
    pub fn renewal(self) -> u64 {
        self.0 & ((1 << Self::NUMBER_BITS) - 1)
    }

    /// The monitor's ticket.
    #[must_use]
    pub fn ticket(self) -> Ticket {
        Ticket::from_bits(u32::try_from(self.0 >> Self::NUMBER_BITS).unwrap_or(0))
    }
}

/// What is remembered of a record's opens.
#[derive(Default)]
pub(super) struct Opens {
    readers: u32,
    writers: u32,
    pub mode: Option<OpenMode>,
    /// The number under which the file is lent; kept while the record lives.
    pub lent: Option<Arc<dyn Lent>>,
    /// The kernel does not take this file.
    pub unlendable: bool,
    /// The version whose pages the kernel may hold, if nothing was written since.
    cached: Option<Version>,
    /// The version that replaces those pages, and the first of the opens that drop them.
    renewing: Option<(Version, u64)>,
    /// The last number given to an open that drops the kernel's pages.
    renewals: u64,
    /// Was lent for writing since it was last seen that nobody writes the backing file. A mapping may be left, and
    /// what it writes shows in no version.
    mappable: bool,
    reader: Option<Arc<OwnedFd>>,
    writer: Option<Arc<OwnedFd>>,
}

/// The content version a grant speaks of.
type Version = appraise::ContentVersion;

impl Opens {
    /// Counts one open.
    pub(super) fn count(&mut self, writable: bool, mode: OpenMode) {
        let count = if writable { &mut self.writers } else { &mut self.readers };
        *count = count.saturating_add(1);
        self.mode = Some(mode);
        self.mappable |= writable && mode == OpenMode::Lent;
    }

    /// Takes one open off; with the last one the mode and the descriptors go.
    pub(super) fn uncount(&mut self, writable: bool) {
        let count = if writable { &mut self.writers } else { &mut self.readers };
        *count = count.saturating_sub(1);
        if self.writers == 0 {
            // Our own descriptor must not look like a writer.
            self.writer = None;
        }
        if !self.is_open() {
            self.mode = None;
            self.reader = None;
        }
    }

    /// Whether any open stands.
    pub(super) fn is_open(&self) -> bool {
        self.readers > 0 || self.writers > 0
    }

    /// The pages that the kernel may hold are no longer sure to be the content.
    pub(super) fn content_changes(&mut self) {
        self.cached = None;
        self.renewing = None;
    }

    /// The open of this number reads: so it has dropped the pages that were there before.
    pub(super) fn reads(&mut self, number: u64) {
        if let Some((version, _)) = self.renewing.filter(|(_, first)| number >= *first) {
            self.cached = Some(version);
            self.renewing = None;
        }
    }

    /// `None` when the kernel's pages are those of the granted content. Else it must drop them, and this is the
    /// number of the open that makes it. The kernel does so when the opener goes on, which can be later than others
    /// open and read: so the pages are believed when that open is seen to read.
    ///
    /// Asked for opens through the page cache only: reads of a lent file leave older pages where they are. Pages read
    /// while a mapping could write may hold what was there for a moment and passed no check. So the first open after
    /// the mapping's end still begins anew.
    pub(super) fn renews_pages(&mut self, grant: &Grant, path_fd: &OwnedFd) -> Option<u64> {
        if self.mappable {
            self.content_changes();
            self.mappable = is_written(path_fd);
        }
        let version = grant.content();
        if grant.writable() || self.writers > 0 || self.mappable {
            self.content_changes();
            return Some(0);
        }
        if self.cached == Some(version) {
            return None;
        }
        self.cached = None;
        self.renewals = self.renewals.wrapping_add(1);
        let first = self.renewing.filter(|(of, _)| *of == version).map_or(self.renewals, |(_, first)| first);
        self.renewing = Some((version, first));
        Some(self.renewals)
    }

    /// A descriptor to read from, while the record is open.
    ///
    /// # Errors
    /// [`Errno::BADF`] when nobody has it open: no read is served without a grant that stands.
    pub(super) fn reader(&mut self, path_fd: &OwnedFd) -> Result<Arc<OwnedFd>, Errno> {
        if !self.is_open() {
            return Err(Errno::BADF);
        }
        if let Some(fd) = self.writer.as_ref().or(self.reader.as_ref()) {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(reopen(path_fd, OFlags::RDONLY | OFlags::NOCTTY)?);
        self.reader = Some(Arc::clone(&fd));
        Ok(fd)
    }

    /// A descriptor to write to, while somebody has the record open for writing.
    ///
    /// # Errors
    /// [`Errno::BADF`] when nobody has.
    pub(super) fn writer(&mut self, path_fd: &OwnedFd) -> Result<Arc<OwnedFd>, Errno> {
        if self.writers == 0 {
            return Err(Errno::BADF);
        }
        self.prepare_writer(path_fd, 0)
    }

    /// Opens the descriptor to write to, so that the opener learns what the backing filesystem says to it.
    pub(super) fn prepare_writer(&mut self, path_fd: &OwnedFd, flags: i32) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(fd) = &self.writer {
            return Ok(Arc::clone(fd));
        }
        let fd = match reopen(path_fd, OFlags::RDWR | OFlags::NOCTTY) {
            // An append-only file (chattr +a) takes no other way of writing.
            Err(Errno::PERM) if flags & libc::O_APPEND != 0 => {
                reopen(path_fd, OFlags::RDWR | OFlags::APPEND | OFlags::NOCTTY)
            }
            other => other,
        }?;
        let fd = Arc::new(fd);
        self.writer = Some(Arc::clone(&fd));
        Ok(fd)
    }

    /// The descriptor to write to, if there is one already.
    pub(super) fn open_writer(&self) -> Option<Arc<OwnedFd>> {
        self.writer.clone()
    }
}

/// Whether anybody writes the file, through a mapping too. If it cannot be told, somebody does.
fn is_written(path_fd: &OwnedFd) -> bool {
    let file = reopen(path_fd, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
    file.and_then(|file| sys::lease::is_open_for_writing(file.as_fd())).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_holds_both_of_its_parts() {
        for (renewal, bits) in [(0, 0), (1, 0), (0, 1), ((1 << 40) - 1, (1 << 24) - 1), (7, 1 << 23)] {
            let handle = Handle::new(renewal, Ticket::from_bits(bits));
            assert_eq!((handle.renewal(), handle.ticket().bits()), (renewal, bits));
        }
        assert_eq!(Handle::new(0, Ticket::NONE), Handle(0));
    }
}
