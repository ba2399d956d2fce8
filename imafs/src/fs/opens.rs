//! Who has a record open, and how it is served.
//!
//! The kernel refuses (EIO) to have one inode open through the page cache and lent at the same time, or lent under
//! two numbers. So the mode is chosen by the first open and stays until the last one is released; the number is
//! kept until the record is forgotten. The counts go up when a reply is decided and down when RELEASE is handled:
//! they are never lower than the kernel's.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use monitor::Grant;
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
    }

    /// Whether the kernel's pages are those of the granted content; from now on they will be. Asked for opens
    /// through the page cache only: reads of a lent file leave older pages where they are.
    pub(super) fn keeps_pages(&mut self, grant: &Grant) -> bool {
        if grant.writable() || self.writers > 0 {
            self.cached = None;
            return false;
        }
        let version = grant.content();
        self.cached.replace(version) == Some(version)
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
