//! MKNOD, MKDIR, SYMLINK and LINK: new names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use monitor::Change;
use rustix::fs::{AtFlags, CWD, FileType, Mode, linkat, makedev, mkdirat, mknodat, symlinkat};

use super::attr::decode_device;
use super::lookup::plain_name;
use super::node::Node;
use super::{Caller, CallerGuard, Entry, Errno, Filesystem, Ino};

impl Filesystem {
    /// Makes a regular file, fifo, socket or device node.
    ///
    /// `mode` holds the type; `rdev` is the kernel's 32-bit device number.
    ///
    /// # Errors
    /// What `mknodat(2)` gives.
    pub fn mknod(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
    ) -> Result<Entry, Errno> {
        let (directory, name) = self.writable_directory(parent, name)?;
        let kind = FileType::from_raw_mode(mode);
        let (major, minor) = decode_device(rdev);
        let device = match kind {
            FileType::CharacterDevice | FileType::BlockDevice => makedev(major, minor),
            _ => 0,
        };
        let fd = directory.path_fd()?;
        let acting = CallerGuard::act_as(caller, umask)?;
        mknodat(fd, name, kind, permissions(mode), device)?;
        drop(acting);
        let entry = self.enter(&directory, name, self.probe(&directory, name)?);
        if kind == FileType::RegularFile {
            self.monitor.changed(self.table.find(entry.ino)?.as_ref(), Change::Created);
        }
        Ok(entry)
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// What `mkdirat(2)` gives.
    pub fn mkdir(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        umask: u32,
    ) -> Result<Entry, Errno> {
        let (directory, name) = self.writable_directory(parent, name)?;
        let fd = directory.path_fd()?;
        let acting = CallerGuard::act_as(caller, umask)?;
        mkdirat(fd, name, permissions(mode))?;
        drop(acting);
        Ok(self.enter(&directory, name, self.probe(&directory, name)?))
    }

    /// Makes a symbolic link to `target`.
    ///
    /// # Errors
    /// What `symlinkat(2)` gives.
    pub fn symlink(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        target: &OsStr,
    ) -> Result<Entry, Errno> {
        let (directory, name) = self.writable_directory(parent, name)?;
        let fd = directory.path_fd()?;
        let acting = CallerGuard::act_as(caller, 0)?;
        symlinkat(target, fd, name)?;
        drop(acting);
        Ok(self.enter(&directory, name, self.probe(&directory, name)?))
    }

    /// Gives an inode another name. The record keeps the place it has until the new name is looked up; from now on
    /// each open by either name is preceded by a lookup, so that the place is the one it was opened by.
    ///
    /// # Errors
    /// What `linkat(2)` gives.
    pub fn link(&self, ino: Ino, parent: Ino, name: &OsStr) -> Result<Entry, Errno> {
        if ino.control().is_some() {
            return Err(Errno::PERM);
        }
        let (directory, name) = self.writable_directory(parent, name)?;
        let link = self.table.find(ino)?.link()?;
        linkat(CWD, link.path(), directory.path_fd()?, name, AtFlags::SYMLINK_FOLLOW)?;
        let found = self.probe(&directory, name)?;
        let stat = found.stat;
        let node = self.adopt(found);
        if stat.stx_nlink == 1 {
            // It had no name (`O_TMPFILE`), and this is its first.
            self.place(&node, &directory, name, 1);
            node.unpin();
        } else {
            self.linked_at(&node, &directory, name);
            // The kernel was told that the first name may be believed for long.
            self.look_up_again(&node);
        }
        Ok(self.entry(&node, &stat))
    }

    /// Has the kernel look up the names of `node` again before it uses them. One request at a time for each record: until
    /// it has been sent the kernel believes what it did at the first.
    ///
    /// Besides the name it has now they are those at the sending, for one that was renamed meanwhile is expired under
    /// its new name alone; of a record that was forgotten meanwhile none is known then.
    pub(super) fn look_up_again(&self, node: &Arc<Node>) {
        let (Some(now), Some(kernel)) = (node.place(), self.kernel.get().cloned()) else { return };
        if !node.expiring.swap(true, Ordering::AcqRel) {
            let node = Arc::clone(node);
            self.notices.submit_free(move || {
                node.expiring.store(false, Ordering::Release);
                for place in std::iter::once(now).chain(node.place()).chain(node.other_places()) {
                    kernel.expire_name(place.parent.ino(), OsStr::from_bytes(&place.name));
                }
            });
        }
    }

    /// The directory in which `name` is to be made, removed or renamed.
    pub(super) fn writable_directory<'a>(
        &self,
        parent: Ino,
        name: &'a OsStr,
    ) -> Result<(Arc<Node>, &'a OsStr), Errno> {
        self.refuse_control(parent, name)?;
        self.refuse_if_read_only()?;
        Ok((self.table.find(parent)?, plain_name(name)?))
    }
}

/// The permission bits of a mode.
pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}
