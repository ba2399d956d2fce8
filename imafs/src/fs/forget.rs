//! FORGET: the kernel drops references it was given by lookups.

use super::{Filesystem, Ino};

impl Filesystem {
    /// Takes back `count` lookups of `ino`.
    pub fn forget(&self, ino: Ino, count: u64) {
        if ino.control().is_none() {
            self.table.forget(ino, count);
        }
    }

    /// How many inode records there are; what `status` shows and what must not grow without bound.
    #[must_use]
    pub fn records(&self) -> usize {
        self.table.len()
    }
}
