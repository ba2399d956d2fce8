//! UNLINK and RMDIR.

use std::ffi::OsStr;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, unlinkat};

use super::forget::Seen;
use super::node::{Key, Node, Place};
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
        self.name_removed(victim, removed.is_ok());
        removed
    }

    /// Pins the inode behind a name that is about to go, if the kernel knows it and nothing else leads back to it: it
    /// may be open or be somebody's working directory. A file handle leads back while there is another name; without
    /// handles the name that goes may be the one it would be found by.
    pub(super) fn save_victim(&self, directory: &Arc<Node>, name: &OsStr) -> Victim<'_> {
        let Ok(found) = self.probe(directory, name) else { return Victim(None) };
        let lost = match found.key {
            Key::Handle(_) => found.kind() == FileType::Directory || found.stat.stx_nlink <= 1,
            Key::Number { .. } => true,
        };
        let Some(node) = self.see(&found.key) else { return Victim(None) };
        if lost {
            node.pin(found.fd);
        }
        Victim(Some(Lost {
            node,
            pinned: lost,
            place: Place::new(directory, name),
            links: found.stat.stx_nlink,
        }))
    }

    /// Lets go of the inode again when it kept its name after all, or else notes that the name is gone.
    pub(super) fn name_removed(&self, victim: Victim<'_>, removed: bool) {
        let Some(lost) = victim.0 else { return };
        if removed {
            self.name_gone(&lost.node, &lost.place, lost.links.saturating_sub(1));
        } else if lost.pinned {
            lost.node.unpin();
        }
    }
}

/// An inode that is about to lose a name, if the kernel knows it.
#[must_use]
#[derive(Debug)]
pub(super) struct Victim<'a>(Option<Lost<'a>>);

#[derive(Debug)]
struct Lost<'a> {
    node: Seen<'a>,
    /// The record was pinned because of this.
    pinned: bool,
    place: Place,
    /// How many names the inode had before.
    links: u32,
}
