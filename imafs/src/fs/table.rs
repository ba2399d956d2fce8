//! The table of records: by node id for requests, by key so that one inode has one record.
//!
//! A record stays while the kernel has lookups on it or records of its children refer to it. The shard lock of
//! `by_key` decides between "found again" and "removed": lookups go from zero to one only under it.
//!
//! Lock order: a shard of `by_key`, then a shard of `by_ino`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rustix::fs::FileType;

use super::node::{Key, Node};
use super::vault::Vault;
use super::{Errno, Ino};

/// All records.
#[derive(Debug)]
pub(super) struct Table {
    by_ino: DashMap<Ino, Arc<Node>>,
    by_key: DashMap<Key, Arc<Node>>,
    /// Node ids are counters, never reused within a mount.
    next: AtomicU64,
}

impl Table {
    /// A table that knows the root, which the kernel never looks up and never forgets.
    pub(super) fn new(root_key: Key, vault: &Arc<Vault>) -> Self {
        let root = Arc::new(Node::new(Ino::ROOT, root_key.clone(), FileType::Directory, Arc::clone(vault)));
        root.lookups.store(1, Ordering::Release);
        let table =
            Self { by_ino: DashMap::new(), by_key: DashMap::new(), next: AtomicU64::new(Ino::ROOT.0 + 1) };
        table.by_ino.insert(Ino::ROOT, Arc::clone(&root));
        table.by_key.insert(root_key, root);
        table
    }

    /// The record of a node id the kernel named.
    ///
    /// # Errors
    /// [`Errno::STALE`] when there is none.
    pub(super) fn find(&self, ino: Ino) -> Result<Arc<Node>, Errno> {
        self.by_ino.get(&ino).map(|node| Arc::clone(&node)).ok_or(Errno::STALE)
    }

    /// The record of an inode, if it has one, with one lookup more: while it is looked at, a pool thread may take back
    /// the last of the others.
    pub(super) fn peek(&self, key: &Key) -> Option<Arc<Node>> {
        let node = self.by_key.get(key)?;
        // Under the shard's lock, which whoever drops a record takes.
        node.lookups.fetch_add(1, Ordering::AcqRel);
        Some(Arc::clone(&node))
    }

    /// The record of an inode, made if need be, with one lookup more.
    pub(super) fn intern(&self, key: Key, kind: FileType, vault: &Arc<Vault>) -> Arc<Node> {
        match self.by_key.entry(key) {
            Entry::Occupied(found) => {
                found.get().lookups.fetch_add(1, Ordering::AcqRel);
                Arc::clone(found.get())
            }
            Entry::Vacant(room) => {
                let ino = Ino(self.next.fetch_add(1, Ordering::Relaxed));
                let node = Arc::new(Node::new(ino, room.key().clone(), kind, Arc::clone(vault)));
                node.lookups.store(1, Ordering::Release);
                self.by_ino.insert(ino, Arc::clone(&node));
                room.insert(Arc::clone(&node));
                node
            }
        }
    }

    /// Takes `count` lookups off a record and drops it, and then its directories, when nothing refers to it. Tells
    /// which were dropped.
    pub(super) fn forget(&self, ino: Ino, count: u64) -> Vec<Ino> {
        if ino.is_root() {
            return Vec::new();
        }
        let Ok(node) = self.find(ino) else { return Vec::new() };
        // The closure always returns a value, so the update cannot fail.
        let _previous = node
            .lookups
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |lookups| Some(lookups.saturating_sub(count)));
        self.sweep(vec![node])
    }

    /// Drops those of `nodes` that are unused, then the directories they were in, and so on upwards. Tells which were
    /// dropped.
    pub(super) fn sweep(&self, mut nodes: Vec<Arc<Node>>) -> Vec<Ino> {
        let mut dropped = Vec::new();
        while let Some(candidate) = nodes.pop() {
            if candidate.ino().is_root() || !candidate.is_unused() {
                continue;
            }
            let mine = |_: &Key, found: &Arc<Node>| Arc::ptr_eq(found, &candidate) && candidate.is_unused();
            if self.by_key.remove_if(candidate.key(), mine).is_none() {
                continue;
            }
            self.by_ino.remove(&candidate.ino());
            candidate.vault().evict(candidate.ino());
            dropped.push(candidate.ino());
            nodes.extend(candidate.leave());
        }
        dropped
    }

    /// How many records there are, the root included.
    pub(super) fn len(&self) -> usize {
        self.by_ino.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::backing::Backing;

    #[test]
    fn a_record_that_is_looked_at_is_not_dropped_by_others() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
            eprintln!("skipped: needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let vault = Arc::new(Vault::new(Backing::directory(directory.path(), false).unwrap()));
        let key = |ino| Key::Number { device: 1, ino };
        let table = Table::new(key(1), &vault);
        let node = table.intern(key(2), FileType::RegularFile, &vault);
        let seen = table.peek(&key(2)).unwrap();
        assert!(Arc::ptr_eq(&node, &seen));
        assert!(table.forget(node.ino(), 1).is_empty(), "somebody looks at it");
        assert!(table.find(node.ino()).is_ok());
        assert_eq!(table.forget(seen.ino(), 1), [node.ino()]);
        assert!(table.peek(&key(2)).is_none());
    }
}
