//! CREATE: a new file, opened by the request that made it.

use std::ffi::OsStr;
use std::sync::Arc;

use rustix::fs::{OFlags, openat};

use super::lookup::Found;
use super::make::permissions;
use super::node::Node;
use super::open::{Answer, CreateReply};
use super::vault::reopen;
use super::{Caller, CallerGuard, Entry, Errno, Filesystem, Ino};

impl Filesystem {
    /// Makes a regular file as the caller and opens it with `flags`.
    ///
    /// A refused open leaves the file behind, empty, as the kernel's `ima_file_check` does.
    pub fn create(
        self: &Arc<Self>,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: Box<dyn CreateReply>,
    ) {
        match self.make_file(caller, parent, name, mode, umask) {
            Ok((node, entry)) => self.decide(&node, caller, flags, true, Answer::Create(reply, entry)),
            // The kernel believed that there was no such name. With O_EXCL the caller wants to know; otherwise
            // "stale" makes the kernel look again and open what is there, with every check it owes.
            Err(Errno::EXIST) if flags & libc::O_EXCL == 0 => reply.error(Errno::STALE),
            Err(errno) => reply.error(errno),
        }
    }

    fn make_file(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        umask: u32,
    ) -> Result<(Arc<Node>, Entry), Errno> {
        let (directory, name) = self.writable_directory(parent, name)?;
        let directory_fd = directory.path_fd()?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let acting = CallerGuard::act_as(caller, umask)?;
        let made = openat(directory_fd, name, flags, permissions(mode))?;
        drop(acting);
        let found: Found = self.identify(reopen(&made, OFlags::PATH)?)?;
        drop(made);
        let entry = self.enter(&directory, name, found);
        Ok((self.table.find(entry.ino)?, entry))
    }
}
