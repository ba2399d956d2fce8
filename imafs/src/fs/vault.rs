//! Descriptors on demand: the backing tree plus a bounded cache of `O_PATH` descriptors into it.
//!
//! A record's descriptor is, in this order, the cached one, the one pinned in the record, or a new one opened by
//! its file handle. So a tree of a million files needs a few thousand descriptors.
//!
//! Locks: one per cache shard, held for the map operation only.

use std::ffi::{CStr, CString};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::backing::Backing;
use super::node::{Key, Node};
use super::{Errno, Ino};

/// Enough that the reader and the pool threads seldom meet.
const SHARDS: usize = 16;

/// Descriptors the cache never takes: sockets, logs, data descriptors of open files.
const RESERVED: u64 = 512;

type Shard = LruCache<Ino, Arc<OwnedFd>>;

/// The backing tree and the descriptors into it.
#[derive(Debug)]
pub struct Vault {
    backing: Backing,
    shards: Box<[Mutex<Shard>]>,
}

impl Vault {
    /// Takes the backing tree; raises the soft descriptor limit to the hard one and plans to use half of it.
    pub(super) fn new(backing: Backing) -> Self {
        let room = usize::try_from(raise_limit().saturating_sub(RESERVED) / 2).unwrap_or(SHARDS);
        let per_shard = NonZeroUsize::new(room / SHARDS).unwrap_or(NonZeroUsize::MIN);
        let shards = (0..SHARDS).map(|_| Mutex::new(LruCache::new(per_shard))).collect();
        Self { backing, shards }
    }

    /// The backing tree.
    #[must_use]
    pub fn backing(&self) -> &Backing {
        &self.backing
    }

    /// An `O_PATH` descriptor of the record's inode.
    ///
    /// # Errors
    /// [`Errno::STALE`] when the inode is gone.
    pub(super) fn path_fd(&self, node: &Node) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(fd) = self.shard(node.ino()).and_then(|shard| shard.lock().get(&node.ino()).cloned()) {
            return Ok(fd);
        }
        if let Some(fd) = node.pinned() {
            return Ok(fd);
        }
        match node.key() {
            Key::Handle(handle) => {
                let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let fd = Arc::new(handle.open(self.backing.root(), flags)?);
                self.keep(node.ino(), Arc::clone(&fd));
                Ok(fd)
            }
            Key::Number { .. } => Err(Errno::STALE),
        }
    }

    /// Remembers a descriptor of `ino` until it is the least recently used one.
    pub(super) fn keep(&self, ino: Ino, fd: Arc<OwnedFd>) {
        if let Some(shard) = self.shard(ino) {
            // The evicted descriptor is closed after the lock is released.
            let evicted = shard.lock().push(ino, fd);
            drop(evicted);
        }
    }

    /// Drops the cached descriptor of `ino`.
    pub(super) fn evict(&self, ino: Ino) {
        if let Some(shard) = self.shard(ino) {
            let evicted = shard.lock().pop(&ino);
            drop(evicted);
        }
    }

    /// How many descriptors the cache holds.
    #[must_use]
    pub fn cached(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, ino: Ino) -> Option<&Mutex<Shard>> {
        let index = usize::try_from(ino.0).unwrap_or(0) % SHARDS;
        self.shards.get(index)
    }
}

/// The magic link of an open file: opening or naming it reaches that very inode, whatever its name became. It
/// keeps the descriptor, without which it would lead to whatever is opened next.
#[derive(Debug)]
pub(super) struct MagicLink<F> {
    path: CString,
    _fd: F,
}

impl<F: AsFd> MagicLink<F> {
    pub(super) fn to(fd: F) -> Self {
        // The text has no zero byte in it, so the default is never taken; it would name nothing.
        let path = CString::new(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).unwrap_or_default();
        Self { path, _fd: fd }
    }

    pub(super) fn path(&self) -> &CStr {
        &self.path
    }
}

/// Opens the inode behind `fd` (`O_PATH` suffices) once more.
pub(super) fn reopen(fd: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(CWD, MagicLink::to(fd).path(), flags | OFlags::CLOEXEC, Mode::empty())
}

/// Raises the soft descriptor limit to the hard one and tells it.
fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum.unwrap_or(u64::from(u16::MAX)),
        Err(_) => limit.current.unwrap_or(1024),
    }
}
