//! The record of one inode.
//!
//! Locks of a record: `place`, `pinned` and `opens` are never held together, nor across a system call except that
//! `opens` is held while a descriptor is opened for it, a file is lent, or a lease tells whether it is written
//! (calls that do not wait for other requests).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use monitor::{FileState, Object};
use parking_lot::Mutex;
use rustix::fs::{FileType, OFlags};
use sys::handle::FileHandle;

use super::opens::Opens;
use super::vault::{MagicLink, Vault, reopen};
use super::{Errno, Ino};

/// What identifies an inode of the backing tree for as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Its file handle, which holds a generation, so a reused inode number is another key.
    Handle(FileHandle),
    /// Device and inode number, where there are no handles. The inode is then found again by name; when its name goes
    /// the record pins a descriptor, so the number cannot be reused while the record exists.
    Number {
        /// Device.
        device: u64,
        /// Inode number.
        ino: u64,
    },
}

/// Where an inode was last looked up.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The directory.
    pub parent: Arc<Node>,
    /// The name in it.
    pub name: Box<[u8]>,
}

/// The record of one inode: its identity and what is remembered while the kernel knows it.
pub struct Node {
    ino: Ino,
    key: Key,
    kind: FileType,
    vault: Arc<Vault>,
    state: FileState,
    /// Lookups the kernel has not forgotten yet.
    pub(super) lookups: AtomicU64,
    /// Records whose place is in this directory.
    pub(super) children: AtomicU64,
    place: Mutex<Option<Place>>,
    pinned: Mutex<Option<Arc<OwnedFd>>>,
    pub(super) opens: Mutex<Opens>,
    /// Reads of this inode that wait in the pool.
    pub(super) reading: AtomicU32,
}

impl Node {
    pub(super) fn new(ino: Ino, key: Key, kind: FileType, vault: Arc<Vault>) -> Self {
        Self {
            ino,
            key,
            kind,
            vault,
            state: FileState::default(),
            lookups: AtomicU64::new(0),
            children: AtomicU64::new(0),
            place: Mutex::new(None),
            pinned: Mutex::new(None),
            opens: Mutex::new(Opens::default()),
            reading: AtomicU32::new(0),
        }
    }

    /// The node id.
    #[must_use]
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// The file type, which never changes.
    #[must_use]
    pub fn kind(&self) -> FileType {
        self.kind
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    pub(super) fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The descriptor that must outlive the descriptor cache, if there is one.
    pub(super) fn pinned(&self) -> Option<Arc<OwnedFd>> {
        self.pinned.lock().clone()
    }

    /// Keeps a descriptor for as long as the record lives, because no handle leads back to the inode.
    pub(super) fn pin(&self, fd: Arc<OwnedFd>) {
        *self.pinned.lock() = Some(fd);
    }

    /// Undoes [`Node::pin`] where a handle leads back. Without one an earlier name may be gone already.
    pub(super) fn unpin(&self) {
        match self.key {
            Key::Handle(_) => *self.pinned.lock() = None,
            Key::Number { .. } => {}
        }
    }

    /// Where it was last looked up.
    pub(super) fn place(&self) -> Option<Place> {
        self.place.lock().clone()
    }

    /// Moves the record to `place` and counts it there; returns the directory it was counted in before.
    pub(super) fn set_place(&self, place: Option<Place>) -> Option<Arc<Node>> {
        if let Some(new) = &place {
            new.parent.children.fetch_add(1, Ordering::AcqRel);
        }
        let old = std::mem::replace(&mut *self.place.lock(), place)?;
        old.parent.children.fetch_sub(1, Ordering::AcqRel);
        Some(old.parent)
    }

    /// Whether neither the kernel nor another record refers to this one.
    pub(super) fn is_unused(&self) -> bool {
        self.lookups.load(Ordering::Acquire) == 0 && self.children.load(Ordering::Acquire) == 0
    }

    /// An `O_PATH` descriptor of the inode.
    pub(super) fn path_fd(&self) -> Result<Arc<OwnedFd>, Errno> {
        self.vault.path_fd(self)
    }

    /// The inode as a path, for calls that take nothing else.
    pub(super) fn link(&self) -> Result<MagicLink<Arc<OwnedFd>>, Errno> {
        Ok(MagicLink::to(self.path_fd()?))
    }

    /// Asks the backing filesystem about opens that no count knows of: mappings of a lent file, which outlive the
    /// open they were made through. Of a file that was never lent, RELEASE ends every use. The record outlives the
    /// mapping: the kernel's backing file holds the path it was opened by (`backing_file_user_path`), and with it the
    /// inode, so it is not forgotten (tried on 6.18).
    fn asked_of_backing(&self, ask: fn(BorrowedFd<'_>) -> Result<bool, Errno>) -> io::Result<bool> {
        if self.opens.lock().lent.is_none() {
            return Ok(false);
        }
        let file = self.open_for_reading()?;
        Ok(ask(file.as_fd())?)
    }

    /// Opens the content for our own reading: regular files only, so that nothing blocks and no device is touched.
    fn open_for_reading(&self) -> Result<OwnedFd, Errno> {
        if self.kind != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let fd = self.path_fd()?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        match reopen(&fd, flags | OFlags::NOATIME) {
            Err(Errno::PERM) => reopen(&fd, flags),
            other => other,
        }
    }
}

impl Object for Node {
    fn state(&self) -> &FileState {
        &self.state
    }

    fn stat_fd(&self) -> io::Result<Arc<OwnedFd>> {
        Ok(self.path_fd()?)
    }

    fn read_fd(&self) -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(self.open_for_reading()?))
    }

    fn is_written(&self) -> io::Result<bool> {
        self.asked_of_backing(sys::lease::is_open_for_writing)
    }

    fn is_in_use(&self) -> io::Result<bool> {
        self.asked_of_backing(sys::lease::is_open_elsewhere)
    }

    fn path(&self) -> Vec<u8> {
        super::path::of(self)
    }

    fn resolve(&self, path: &[u8]) -> Option<(u64, u64)> {
        self.vault.backing().resolve(path)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("ino", &self.ino).field("kind", &self.kind).finish_non_exhaustive()
    }
}
