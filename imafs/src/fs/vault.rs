//! Descriptors on demand: the backing tree plus a bounded cache of `O_PATH` descriptors into it.
//!
//! A record's descriptor is, in this order, the cached one, the one pinned in the record, or a new one: opened by its
//! file handle, or where the filesystem has none found again by its name. So a tree of a million files needs a few
//! thousand descriptors.
//!
//! Locks: one per cache shard, held for the map operation only.

use std::ffi::{CStr, CString, OsStr};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, Statx, openat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::attr::stat;
use super::backing::{Backing, device_of};
use super::lookup::key_of;
use super::node::{Key, Node, Place};
use super::{Errno, Ino};

/// Enough that the reader and the pool threads seldom meet.
const SHARDS: usize = 16;

/// Takes one step by name, or one handle, to whatever is there, without following or touching it.
const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A chain of directories longer than this is a loop.
const DEPTH_MAX: usize = 1 << 16;

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
        let cached = self.shard(node.ino()).and_then(|shard| shard.lock().get(&node.ino()).cloned());
        if let Some(fd) = cached.or_else(|| node.pinned()) {
            return Ok(fd);
        }
        let fd = match node.key() {
            Key::Handle(handle) => Arc::new(handle.open(self.backing.root(), STEP)?),
            Key::Number { device, ino } => self.walk(node, (*device, *ino))?,
        };
        self.keep(node.ino(), Arc::clone(&fd));
        Ok(fd)
    }

    /// Finds an inode without a handle again by its name, from the nearest directory that can be had.
    fn walk(&self, node: &Node, identity: (u64, u64)) -> Result<Arc<OwnedFd>, Errno> {
        let mut names = Vec::new();
        let mut place = node.place().ok_or(Errno::STALE)?;
        let mut fd = loop {
            names.push(place.name);
            if let Some(fd) = self.at_hand(&place.parent) {
                break fd;
            }
            if names.len() >= DEPTH_MAX {
                return Err(Errno::STALE);
            }
            place = place.parent.place().ok_or(Errno::STALE)?;
        };
        for name in names.iter().rev() {
            let gone =
                |errno| if errno == Errno::NOENT || errno == Errno::NOTDIR { Errno::STALE } else { errno };
            fd = Arc::new(openat(&fd, OsStr::from_bytes(name), STEP, Mode::empty()).map_err(gone)?);
        }
        let found = stat(&fd)?;
        if (device_of(&found), found.stx_ino) == identity { Ok(fd) } else { Err(Errno::STALE) }
    }

    /// A descriptor of a directory that needs no walk.
    fn at_hand(&self, node: &Node) -> Option<Arc<OwnedFd>> {
        let cached = self.shard(node.ino()).and_then(|shard| shard.lock().get(&node.ino()).cloned());
        cached.or_else(|| node.pinned()).or_else(|| match node.key() {
            Key::Handle(_) => self.path_fd(node).ok(),
            Key::Number { .. } => None,
        })
    }

    /// Whether a name leads to the record's inode.
    pub(super) fn leads_to(&self, place: &Place, node: &Node) -> bool {
        let directory = self.path_fd(&place.parent);
        directory.is_ok_and(|directory| self.name_leads_to(directory.as_fd(), &place.name, node))
    }

    /// Whether a name in an open directory leads to the record's inode.
    pub(super) fn name_leads_to(&self, directory: BorrowedFd<'_>, name: &[u8], node: &Node) -> bool {
        let found = openat(directory, OsStr::from_bytes(name), STEP, Mode::empty());
        found.is_ok_and(|fd| self.is_of(fd.as_fd(), node))
    }

    /// Whether this is a descriptor of the record's inode.
    pub(super) fn is_of(&self, fd: BorrowedFd<'_>, node: &Node) -> bool {
        let number = |found: &Statx| (device_of(found), found.stx_ino);
        let Ok(found) = stat(fd) else { return false };
        if key_of(&self.backing, fd, &found).is_ok_and(|key| key == *node.key()) {
            return true;
        }
        match node.key() {
            Key::Handle(_) => false,
            // A stack gives a file another number once it was written. Both are the same if they have the same now.
            Key::Number { .. } => {
                let own = self.path_fd(node).and_then(stat);
                own.is_ok_and(|own| number(&own) == number(&found))
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::table::Table;
    use rustix::fs::FileType;
    use std::process::Command;

    fn shell(directory: &std::path::Path, script: &str) {
        assert!(Command::new("sh").args(["-euc", script]).current_dir(directory).status().unwrap().success());
    }

    /// A record of what is at `name`, with nothing cached for it.
    fn record(vault: &Arc<Vault>, table: &Table, parent: &Arc<Node>, name: &str) -> Arc<Node> {
        let fd = openat(vault.path_fd(parent).unwrap(), name, STEP, Mode::empty()).unwrap();
        let found = stat(&fd).unwrap();
        let key = key_of(vault.backing(), fd.as_fd(), &found).unwrap();
        let node = table.intern(key, FileType::from_raw_mode(u32::from(found.stx_mode)), vault);
        node.found_at(parent, name.as_ref(), false);
        node
    }

    #[test]
    fn an_inode_without_a_handle_is_found_again_by_name_and_never_mistaken() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
            eprintln!("skipped: needs root");
            return;
        }
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = directory.path();
        shell(path, "mkdir lower upper work stack; mkdir -p lower/a/b; echo x > lower/a/b/c");
        shell(path, "mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work scratch stack");
        let backing = Backing::directory(&path.join("stack"), false);
        shell(path, "umount -l stack");
        let vault = Arc::new(Vault::new(backing.unwrap()));
        let root_key =
            key_of(vault.backing(), vault.backing().root(), &stat(vault.backing().root()).unwrap()).unwrap();
        let table = Table::new(root_key, &vault);
        let root = table.find(Ino::ROOT).unwrap();
        root.pin(Arc::new(rustix::io::fcntl_dupfd_cloexec(vault.backing().root(), 0).unwrap()));
        let a = record(&vault, &table, &root, "a");
        let b = record(&vault, &table, &a, "b");
        let c = record(&vault, &table, &b, "c");
        assert!(matches!(c.key(), Key::Number { .. }), "this stack must have no handles");
        for node in [&a, &b, &c] {
            vault.evict(node.ino());
        }
        let found = stat(vault.path_fd(&c).unwrap()).unwrap();
        assert_eq!(found.stx_size, 2);
        // Another file under the same name is another inode.
        for node in [&a, &b, &c] {
            vault.evict(node.ino());
        }
        let below = vault.path_fd(&b).unwrap();
        rustix::fs::renameat(&below, "c", &below, "d").unwrap();
        let other = openat(&below, "c", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o600)).unwrap();
        assert_eq!(vault.path_fd(&c).unwrap_err(), Errno::STALE);
        drop(other);
        rustix::fs::unlinkat(&below, "c", rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!(vault.path_fd(&c).unwrap_err(), Errno::STALE);
    }
}
