//! CREATE and TMPFILE: a new file, opened by the request that made it.

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

    /// Makes a regular file without a name in the filesystem of `parent`, as the caller, and opens it with `flags`.
    pub fn tmpfile(
        self: &Arc<Self>,
        caller: &Caller,
        parent: Ino,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: Box<dyn CreateReply>,
    ) {
        match self.make_nameless(caller, parent, mode, umask) {
            Ok((node, entry)) => self.decide_nameless(&node, caller, flags, Answer::Create(reply, entry)),
            Err(errno) => reply.error(errno),
        }
    }

    fn make_nameless(
        &self,
        caller: &Caller,
        parent: Ino,
        mode: u32,
        umask: u32,
    ) -> Result<(Arc<Node>, Entry), Errno> {
        if parent.control().is_some() {
            return Err(Errno::OPNOTSUPP);
        }
        self.refuse_if_read_only()?;
        let directory = self.table.find(parent)?;
        let directory_fd = directory.path_fd()?;
        // O_EXCL, which forbids to give it a name, is the kernel's to keep: it asks no LINK then.
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let acting = CallerGuard::act_as(caller, umask)?;
        let made = openat(directory_fd, c".", flags, permissions(mode))?;
        drop(acting);
        let found: Found = self.identify(reopen(&made, OFlags::PATH)?)?;
        drop(made);
        let (stat, fd) = (found.stat, Arc::clone(&found.fd));
        let node = self.adopt(found);
        // No handle leads to what has no name, and nothing else keeps it.
        node.pin(fd);
        // As `d_path` shows it.
        let name = format!("#{} (deleted)", stat.stx_ino);
        self.place(&node, &directory, OsStr::new(&name), stat.stx_nlink);
        let entry = self.entry(&node, &stat);
        Ok((node, entry))
    }
}
