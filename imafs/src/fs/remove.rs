//! UNLINK and RMDIR.

use std::ffi::OsStr;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, unlinkat};

use super::node::{Key, Node};
use super::{Errno, Filesystem, Ino};

impl Filesystem {
    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// What `unlinkat(2)` gives.
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        self.remove(parent, name, AtFlags::empty())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What `unlinkat(2)` gives, [`Errno::NOTEMPTY`] first of all.
    pub fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        self.remove(parent, name, AtFlags::REMOVEDIR)
    }

    fn remove(&self, parent: Ino, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
        let (directory, name) = self.writable_directory(parent, name)?;
        let victim = self.save_victim(&directory, name);
        let removed = unlinkat(directory.path_fd()?, name, flags);
        victim.settle(removed.is_ok());
        removed
    }

    /// Pins the inode behind a name that is about to go, if the kernel knows it and nothing else leads back to it: it
    /// may be open or be somebody's working directory. A file handle leads back while there is another name; without
    /// handles the name that goes may be the one it would be found by.
    pub(super) fn save_victim(&self, directory: &Arc<Node>, name: &OsStr) -> Victim {
        let Ok(found) = self.probe(directory, name) else { return Victim(None) };
        let lost = match found.key {
            Key::Handle(_) => found.kind() == FileType::Directory || found.stat.stx_nlink <= 1,
            Key::Number { .. } => true,
        };
        let known = self.table.peek(&found.key).filter(|_| lost);
        if let Some(node) = &known {
            node.pin(found.fd);
        }
        Victim(known)
    }
}

/// An inode that is about to lose a name.
#[must_use]
#[derive(Debug)]
pub(super) struct Victim(Option<Arc<Node>>);

impl Victim {
    /// Lets go of the inode again when it kept its name after all.
    pub(super) fn settle(self, removed: bool) {
        if let Some(node) = self.0.filter(|_| !removed) {
            node.unpin();
        }
    }
}
