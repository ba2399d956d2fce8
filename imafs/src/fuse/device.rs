//! The connection's device: raw replies, notifications and lent files.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::writev;

use super::wire::{Message, expire_entry, header, inval_attributes};
use crate::fs::{Errno, Ino, Kernel, Lent};

/// `FUSE_NOTIFY_INVAL_INODE`, include/uapi/linux/fuse.h.
const NOTIFY_INVAL_INODE: i32 = 2;

/// `FUSE_NOTIFY_INVAL_ENTRY`, the same.
const NOTIFY_INVAL_ENTRY: i32 = 3;

/// `/dev/fuse`, beside the descriptor that fuser reads.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
    itself: Weak<Self>,
}

impl Device {
    /// Takes a duplicate of the connection's descriptor.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self { fd, itself: itself.clone() })
    }

    /// Answers the request `unique` with success and `message`.
    ///
    /// # Errors
    /// [`Errno::NOENT`] when the request was abandoned, [`Errno::NODEV`] when the mount is gone.
    pub fn reply(&self, unique: u64, message: &Message) -> Result<(), Errno> {
        self.send(&header(message.bytes().len(), 0, unique), message.bytes())
    }

    /// The device takes each message whole, in one write.
    fn send(&self, header: &[u8], body: &[u8]) -> Result<(), Errno> {
        writev(&self.fd, &[IoSlice::new(header), IoSlice::new(body)]).map(drop)
    }
}

impl Kernel for Device {
    fn lend(&self, file: BorrowedFd<'_>) -> Result<Arc<dyn Lent>, Errno> {
        let device = self.itself.upgrade().ok_or(Errno::NODEV)?;
        let id = sys::backing_id::open(self.fd.as_fd(), file)?;
        Ok(Arc::new(LentFile { device, id }))
    }

    fn has_requests(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&Timespec::default()));
        ready.is_ok() && fds.iter().any(|fd| fd.revents().contains(PollFlags::IN))
    }

    fn expire_name(&self, parent: Ino, name: &OsStr) {
        let body = expire_entry(parent.0, name);
        let header = header(body.bytes().len(), NOTIFY_INVAL_ENTRY, 0);
        match self.send(&header, body.bytes()) {
            // The kernel does not have the name any more, or the mount is gone.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::NOTCONN | Errno::NOTDIR) => {}
            Err(errno) => {
                tracing::warn!(%errno, parent = parent.0, "cannot have the kernel look a name up again")
            }
        }
    }

    fn attributes_changed(&self, ino: Ino) {
        let body = inval_attributes(ino.0);
        let header = header(body.len(), NOTIFY_INVAL_INODE, 0);
        match self.send(&header, &body) {
            // The kernel does not have the inode any more, or the mount is gone.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::NOTCONN) => {}
            Err(errno) => tracing::warn!(%errno, ino = ino.0, "cannot tell the kernel of changed attributes"),
        }
    }
}

/// A file lent to this connection.
#[derive(Debug)]
struct LentFile {
    device: Arc<Device>,
    id: u32,
}

impl Lent for LentFile {
    fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for LentFile {
    fn drop(&mut self) {
        match sys::backing_id::close(self.device.fd.as_fd(), self.id) {
            // Without a mount there is nothing to take back.
            Ok(()) | Err(Errno::NODEV | Errno::NOTCONN | Errno::PERM) => {}
            Err(errno) => tracing::warn!(%errno, id = self.id, "cannot take back a lent file"),
        }
    }
}
