//! STATFS and SYNCFS: the backing filesystem as a whole.

use rustix::fs::{OFlags, fstatvfs, syncfs};

use super::data::Reply;
use super::vault::reopen;
use super::{Errno, Filesystem};

/// What `statvfs(3)` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statfs {
    /// Blocks of [`Statfs::frsize`] bytes.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for the unprivileged.
    pub bavail: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Preferred block size in bytes.
    pub bsize: u32,
    /// Longest name in bytes.
    pub namelen: u32,
    /// Unit of the block counts in bytes.
    pub frsize: u32,
}

impl Filesystem {
    /// Figures of the backing filesystem.
    ///
    /// # Errors
    /// What `fstatvfs(3)` gives.
    pub fn statfs(&self) -> Result<Statfs, Errno> {
        let figures = fstatvfs(self.backing().root())?;
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Statfs {
            blocks: figures.f_blocks,
            bfree: figures.f_bfree,
            bavail: figures.f_bavail,
            files: figures.f_files,
            ffree: figures.f_ffree,
            bsize: narrow(figures.f_bsize),
            namelen: narrow(figures.f_namemax),
            frsize: narrow(figures.f_frsize),
        })
    }

    /// Writes everything that the backing filesystem holds to the disk. The kernel has sent what it held before it asks.
    pub fn syncfs(&self, reply: Reply<()>) {
        match reopen(self.backing().root(), OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(root) => self.waits.submit_free(move || reply(syncfs(root))),
            Err(errno) => reply(Err(errno)),
        }
    }
}
