//! FORGET: the kernel drops references it was given by lookups.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::node::{Key, Node};
use super::readdir::SHARED_STREAM;
use super::{Filesystem, Ino};

/// A record that is being looked at, and stays that long.
pub(super) struct Seen<'a> {
    fs: &'a Filesystem,
    node: Arc<Node>,
}

impl Deref for Seen<'_> {
    type Target = Arc<Node>;

    fn deref(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for Seen<'_> {
    fn drop(&mut self) {
        self.fs.forget(self.node.ino(), 1);
    }
}

impl fmt::Debug for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seen").field(&self.node).finish()
    }
}

impl Filesystem {
    /// Takes back `count` lookups of `ino`.
    pub fn forget(&self, ino: Ino, count: u64) {
        if ino.control().is_none() {
            self.close_streams(&self.table.forget(ino, count));
        }
    }

    /// The record of an inode, if it has one.
    pub(super) fn see(&self, key: &Key) -> Option<Seen<'_>> {
        Some(Seen { fs: self, node: self.table.peek(key)? })
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
