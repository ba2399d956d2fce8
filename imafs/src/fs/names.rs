//! The names of files that have several, as LOOKUP, LINK, UNLINK and RENAME tell of them.
//!
//! A rule about paths binds a file by each of its names. Names that nobody looked up since the kernel last forgot the
//! file are not known, and a file with such names is held against every such rule. So that this does not depend on
//! what the kernel has room for, records of files with several names are kept a while longer where rules ask for paths.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::FileType;

use super::node::{Node, Place};
use super::{Filesystem, Ino};

/// How many records are kept. Each has a few hundred bytes and may have a file lent to the kernel.
const KEPT: usize = 4096;

/// Records that the kernel may have forgotten; each has one lookup for it.
#[derive(Debug)]
pub(super) struct Linked(Mutex<LruCache<Ino, ()>>);

impl Linked {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(KEPT).unwrap_or(NonZeroUsize::MIN))))
    }
}

/// Whether an inode can be opened by several names: the links of a directory are those of its subdirectories.
pub(super) fn has_several(kind: FileType, links: u32) -> bool {
    kind == FileType::RegularFile && links > 1
}

impl Filesystem {
    /// Notes that `node`, which has `links` names, is now called `name` in `directory`.
    pub(super) fn place(&self, node: &Arc<Node>, directory: &Arc<Node>, name: &OsStr, links: u32) {
        if node.ino().is_root() {
            return;
        }
        let several = has_several(node.kind(), links);
        self.drop_unused(node.found_at(directory, name, several));
        self.keep_while(node, several);
    }

    /// Notes that `node` got another name.
    pub(super) fn linked_at(&self, node: &Arc<Node>, directory: &Arc<Node>, name: &OsStr) {
        self.drop_unused(node.also_at(directory, name));
        self.keep_while(node, true);
    }

    /// Notes that a name of `node` is gone, which leaves it `links`.
    pub(super) fn name_gone(&self, node: &Arc<Node>, place: &Place, links: u32) {
        self.drop_unused(node.gone_from(place));
        self.keep_while(node, has_several(node.kind(), links));
    }

    fn drop_unused(&self, directories: impl IntoIterator<Item = Arc<Node>>) {
        self.close_streams(&self.table.sweep(directories.into_iter().collect()));
    }

    /// Keeps the record for as long as the file has several names and there is room.
    fn keep_while(&self, node: &Arc<Node>, several: bool) {
        if node.kind() != FileType::RegularFile || !self.monitor.goes_by_path() {
            return;
        }
        let released = if several {
            node.lookups.fetch_add(1, Ordering::AcqRel);
            // The record itself, if it was there already.
            self.linked.0.lock().push(node.ino(), ()).map(|(ino, ())| ino)
        } else {
            self.linked.0.lock().pop(&node.ino()).map(|()| node.ino())
        };
        if let Some(ino) = released {
            self.forget(ino, 1);
        }
    }
}
