//! LOOKUP and READLINK: from names to records.
//!
//! A name is resolved by one `openat` with `O_PATH | O_NOFOLLOW`; attributes and handle are then read from that
//! descriptor, so they belong together whatever happens to the name.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Statx, openat};
use sys::handle::FileHandle;

use super::attr::stat;
use super::backing::{Backing, device_of};
use super::names::has_several;
use super::node::{Key, Node};
use super::{Attr, CONTROL_NAME, CacheMode, ControlIno, Errno, Filesystem, Ino, MANIFEST_NAME};

/// What the kernel is told of a name: the inode, and one lookup that it will forget later.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The node id.
    pub ino: Ino,
    /// Its attributes.
    pub attr: Attr,
    /// How long the name may be believed.
    pub entry_ttl: Duration,
    /// How long the attributes may be believed.
    pub attr_ttl: Duration,
}

/// The outcome of a lookup that did not fail.
#[derive(Debug, Clone, Copy)]
pub enum Looked {
    /// The name exists.
    Found(Entry),
    /// It does not, and may be believed absent for this long.
    Absent(Duration),
}

/// A name resolved in the backing tree.
#[derive(Debug)]
pub(super) struct Found {
    pub fd: Arc<OwnedFd>,
    pub stat: Statx,
    pub key: Key,
}

impl Found {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(u32::from(self.stat.stx_mode))
    }
}

impl Filesystem {
    /// Looks up `name` in the directory `parent`.
    ///
    /// # Errors
    /// [`Errno::NOENT`] (in shared mode), [`Errno::NAMETOOLONG`] and what else `openat(2)` gives.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Looked, Errno> {
        if let Some(control) = self.control_entry(parent, name) {
            return control.map(Looked::Found);
        }
        let directory = self.table.find(parent)?;
        let name = plain_name(name)?;
        match self.probe(&directory, name) {
            Ok(found) => Ok(Looked::Found(self.enter(&directory, name, found))),
            Err(Errno::NOENT) if self.options.cache == CacheMode::Exclusive => Ok(Looked::Absent(self.ttl())),
            Err(errno) => Err(errno),
        }
    }

    /// Reads the target of a symbolic link.
    ///
    /// # Errors
    /// [`Errno::INVAL`] for anything else.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        if let Some(control) = ino.control() {
            return self.control()?.readlink(control);
        }
        let node = self.table.find(ino)?;
        Ok(rustix::fs::readlinkat(node.path_fd()?, c"", Vec::new())?.into_bytes())
    }

    /// The entry of the control directory that `name` means here, if it means one.
    fn control_entry(&self, parent: Ino, name: &OsStr) -> Option<Result<Entry, Errno>> {
        let tree = self.control.as_deref()?;
        let found = match parent.control() {
            Some(directory) => tree.lookup(directory, name.as_bytes()).ok_or(Errno::NOENT),
            None if is_control_name(parent, name) => Ok(ControlIno::ROOT),
            None => return None,
        };
        Some(found.and_then(|control| {
            // Contents and attributes of control files change by themselves.
            let ttl = Duration::ZERO;
            Ok(Entry { ino: control.into(), attr: tree.attr(control)?, entry_ttl: ttl, attr_ttl: ttl })
        }))
    }

    /// Refuses to create, remove or rename anything in the control directory, or the directory itself, or the image's
    /// manifest of labels.
    pub(super) fn refuse_control(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        let reserved = self.control.is_some() && is_control_name(parent, name);
        let reserved = reserved || is_manifest_name(parent, name);
        if parent.control().is_some() || reserved { Err(Errno::PERM) } else { Ok(()) }
    }

    /// Resolves one name in a directory, touching nothing. The image's manifest of labels is not there for the mount: what
    /// could write it could put another in its place.
    pub(super) fn probe(&self, directory: &Node, name: &OsStr) -> Result<Found, Errno> {
        if is_manifest_name(directory.ino(), name) {
            return Err(Errno::NOENT);
        }
        self.probe_at(directory.path_fd()?.as_fd(), name)
    }

    /// The same, in a directory that is open and where the manifest is not looked for.
    pub(super) fn probe_at(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<Found, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.identify(openat(directory, name, flags, Mode::empty())?)
    }

    /// Reads what identifies the inode behind an `O_PATH` descriptor.
    pub(super) fn identify(&self, fd: OwnedFd) -> Result<Found, Errno> {
        let stat = stat(&fd)?;
        let key = key_of(self.backing(), fd.as_fd(), &stat)?;
        Ok(Found { fd: Arc::new(fd), stat, key })
    }

    /// Gives the kernel one lookup of what was found, and notes where it was found.
    pub(super) fn enter(&self, directory: &Arc<Node>, name: &OsStr, found: Found) -> Entry {
        let stat = found.stat;
        let node = self.adopt(found);
        self.place(&node, directory, name, stat.stx_nlink);
        self.entry(&node, &stat)
    }

    /// The record of what was found, with one lookup more.
    pub(super) fn adopt(&self, found: Found) -> Arc<Node> {
        let kind = found.kind();
        let node = self.table.intern(found.key, kind, &self.vault);
        self.vault.keep(node.ino(), found.fd);
        node
    }

    /// What the kernel is told of a record.
    pub(super) fn entry(&self, node: &Node, stat: &Statx) -> Entry {
        let attr = self.backing().attr(stat);
        let ttl = self.ttl();
        // Each open of a file with several names is preceded by a lookup, so that the name on record is the one
        // it was opened by.
        let entry_ttl = if has_several(attr.kind(), attr.nlink) { Duration::ZERO } else { ttl };
        Entry { ino: node.ino(), attr, entry_ttl, attr_ttl: ttl }
    }
}

/// What identifies the inode behind `fd`.
pub(super) fn key_of(backing: &Backing, fd: BorrowedFd<'_>, stat: &Statx) -> Result<Key, Errno> {
    let number = Key::Number { device: device_of(stat), ino: stat.stx_ino };
    if !backing.has_handles() {
        return Ok(number);
    }
    match FileHandle::of(fd) {
        Ok(handle) => Ok(Key::Handle(handle)),
        Err(Errno::OPNOTSUPP | Errno::OVERFLOW) => Ok(number),
        Err(errno) => Err(errno),
    }
}

/// Refuses what is not a single name. The kernel never sends such; a name that climbs would leave the tree.
pub(super) fn plain_name(name: &OsStr) -> Result<&OsStr, Errno> {
    let bytes = name.as_bytes();
    let climbs = matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/');
    if climbs { Err(Errno::INVAL) } else { Ok(name) }
}

/// Whether `name` in `parent` is where the control directory appears.
pub(super) fn is_control_name(parent: Ino, name: &OsStr) -> bool {
    parent.is_root() && name.as_bytes() == CONTROL_NAME
}

/// Whether `name` in `parent` is where an image keeps the manifest of its labels.
pub(super) fn is_manifest_name(parent: Ino, name: &OsStr) -> bool {
    parent.is_root() && name.as_bytes() == MANIFEST_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_single_names_are_taken() {
        for name in ["", ".", "..", "a/b", "/", "../x"] {
            assert_eq!(plain_name(OsStr::new(name)), Err(Errno::INVAL), "{name:?}");
        }
        for name in [&b"a"[..], b"...", b".imafs", b"\xff\xfe", b" "] {
            assert!(plain_name(OsStr::from_bytes(name)).is_ok(), "{name:?}");
        }
    }
}
