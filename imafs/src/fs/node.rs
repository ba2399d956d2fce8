//! The record of one inode.
//!
//! Locks of a record: `places`, `pinned` and `opens` are never held together, nor across a system call except that
//! `opens` is held while a descriptor is opened for it, a file is lent, or a lease tells whether it is written
//! (calls that do not wait for other requests).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use monitor::{FileState, Names, Object};
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

/// A name of an inode.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The directory.
    pub parent: Arc<Node>,
    /// The name in it.
    pub name: Box<[u8]>,
}

impl Place {
    pub(super) fn new(parent: &Arc<Node>, name: &OsStr) -> Self {
        Self { parent: Arc::clone(parent), name: name.as_bytes().into() }
    }

    /// A name that a record holds, which keeps the directory's record.
    fn counted(parent: &Arc<Node>, name: &OsStr) -> Self {
        parent.children.fetch_add(1, Ordering::AcqRel);
        Self::new(parent, name)
    }

    /// Undoes [`Place::counted`].
    fn uncounted(self) -> Arc<Node> {
        self.parent.children.fetch_sub(1, Ordering::AcqRel);
        self.parent
    }

    fn is(&self, parent: &Arc<Node>, name: &OsStr) -> bool {
        Arc::ptr_eq(&self.parent, parent) && *self.name == *name.as_bytes()
    }
}

/// How many names of an inode are kept beside the last one. A file with more counts as one whose names are not known.
const NAMES_MAX: usize = 16;

/// The names by which an inode is known.
#[derive(Debug, Default)]
struct Places {
    /// Where it was last looked up.
    last: Option<Place>,
    /// Where else it was looked up or linked, oldest first. Some may be gone.
    others: Vec<Place>,
}

impl Places {
    /// Keeps a name beside the last one. Gives back what there is no room for.
    fn keep(&mut self, place: Place) -> Option<Place> {
        self.others.push(place);
        (self.others.len() > NAMES_MAX).then(|| self.others.remove(0))
    }

    /// Takes a name out that is not the last one.
    fn take(&mut self, parent: &Arc<Node>, name: &OsStr) -> Option<Place> {
        let index = self.others.iter().position(|other| other.is(parent, name))?;
        Some(self.others.remove(index))
    }
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
    /// Names of records in this directory.
    pub(super) children: AtomicU64,
    places: Mutex<Places>,
    pinned: Mutex<Option<Arc<OwnedFd>>>,
    pub(super) opens: Mutex<Opens>,
    /// Reads of this inode that wait in the pool.
    pub(super) reading: AtomicU32,
    /// A request that its name be looked up again waits to be sent.
    pub(super) expiring: AtomicBool,
    /// A label is owed when its mappings end; see `watch`.
    pub(super) watched: AtomicBool,
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
            places: Mutex::new(Places::default()),
            pinned: Mutex::new(None),
            opens: Mutex::new(Opens::default()),
            reading: AtomicU32::new(0),
            expiring: AtomicBool::new(false),
            watched: AtomicBool::new(false),
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
        self.places.lock().last.clone()
    }

    /// Where else it is or was to be found.
    pub(super) fn other_places(&self) -> Vec<Place> {
        self.places.lock().others.clone()
    }

    /// Notes that it was found under this name. If it has `several` those that are known are kept. Gives back the
    /// directories of the others, and of those there is no room for.
    pub(super) fn found_at(&self, parent: &Arc<Node>, name: &OsStr, several: bool) -> Vec<Arc<Node>> {
        let mut places = self.places.lock();
        let mut gone = Vec::new();
        if !places.last.as_ref().is_some_and(|last| last.is(parent, name)) {
            let new = places.take(parent, name).unwrap_or_else(|| Place::counted(parent, name));
            if let Some(before) = places.last.replace(new) {
                gone.extend(if several { places.keep(before) } else { Some(before) });
            }
        }
        if !several {
            gone.append(&mut places.others);
        }
        drop(places);
        gone.into_iter().map(Place::uncounted).collect()
    }

    /// Notes another name, beside that by which it was found last. Gives back as [`Node::found_at`].
    pub(super) fn also_at(&self, parent: &Arc<Node>, name: &OsStr) -> Option<Arc<Node>> {
        let mut places = self.places.lock();
        if places.last.iter().chain(&places.others).any(|known| known.is(parent, name)) {
            return None;
        }
        let gone = places.keep(Place::counted(parent, name));
        drop(places);
        gone.map(Place::uncounted)
    }

    /// Notes that a name is gone. The newest of the others takes the place of that by which it was found last, so that
    /// a name that is gone is neither believed nor in the way of those that are there; the only one stays, because the
    /// inode may be open by it.
    pub(super) fn gone_from(&self, place: &Place) -> Option<Arc<Node>> {
        let name = OsStr::from_bytes(&place.name);
        let mut places = self.places.lock();
        let gone = if places.last.as_ref().is_some_and(|last| last.is(&place.parent, name)) {
            places.others.pop().and_then(|newest| places.last.replace(newest))
        } else {
            places.take(&place.parent, name)
        };
        drop(places);
        gone.map(Place::uncounted)
    }

    /// Forgets all names; gives back their directories.
    pub(super) fn leave(&self) -> Vec<Arc<Node>> {
        let places = std::mem::take(&mut *self.places.lock());
        places.last.into_iter().chain(places.others).map(Place::uncounted).collect()
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
        open_content(&fd)
    }
}

/// Opens the content of a regular file once more, to look at it without a trace.
pub(super) fn open_content(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    match reopen(fd, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => reopen(fd, flags),
        other => other,
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

    fn names(&self, links: u32) -> Names {
        super::path::all_of(self, links)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Backing;

    #[test]
    fn names_that_are_gone_are_not_believed_and_take_no_room() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
            eprintln!("skipped: needs root");
            return;
        }
        let source = tempfile::tempdir().unwrap();
        let vault = Arc::new(Vault::new(Backing::directory(source.path(), false).unwrap()));
        let node = |ino, kind| {
            Arc::new(Node::new(Ino(ino), Key::Number { device: 1, ino }, kind, Arc::clone(&vault)))
        };
        let (directory, file) = (node(1, FileType::Directory), node(2, FileType::RegularFile));
        let known = || {
            let mut names: Vec<_> =
                file.place().into_iter().chain(file.other_places()).map(|place| place.name).collect();
            names.sort();
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
        };
        file.found_at(&directory, "first".as_ref(), false);
        for name in ["second", "third"] {
            file.also_at(&directory, name.as_ref());
        }
        // Each name is looked up before it is removed, and so is the last one looked up when it goes.
        for number in 0..2 * NAMES_MAX {
            let name = format!("{number}");
            file.also_at(&directory, name.as_ref());
            file.found_at(&directory, name.as_ref(), true);
            file.gone_from(&Place::new(&directory, name.as_ref()));
            assert_eq!(known(), ["first", "second", "third"]);
        }
        assert_eq!(directory.children.load(Ordering::Acquire), 3);
        for name in ["third", "first"] {
            file.gone_from(&Place::new(&directory, name.as_ref()));
        }
        assert_eq!(known(), ["second"]);
        file.gone_from(&Place::new(&directory, "second".as_ref()));
        assert_eq!(known(), ["second"], "it may be open by it");
        assert_eq!(directory.children.load(Ordering::Acquire), 1);
    }
}
