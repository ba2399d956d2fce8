//! FORGET: the kernel drops references it was given by lookups.

use super::readdir::SHARED_STREAM;
use super::{Filesystem, Ino};

impl Filesystem {
    /// Takes back `count` lookups of `ino`.
    pub fn forget(&self, ino: Ino, count: u64) {
        if ino.control().is_none() {
            self.close_streams(&self.table.forget(ino, count));
        }
    }

    /// Closes what records that are gone had open to be listed.
    pub(super) fn close_streams(&self, dropped: &[Ino]) {
        for ino in dropped {
            self.streams.close(*ino, SHARED_STREAM);
        }
    }

    /// How many inode records there are; what `status` shows and what must not grow without bound.
    #[must_use]
    pub fn records(&self) -> usize {
        self.table.len()
    }
}
