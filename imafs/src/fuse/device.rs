//! The connection's device: requests in, answers and notifications out, lent files.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, writev};

use super::wire::{expire_entry, header, inval_attributes};
use crate::fs::{Errno, Ino, Kernel, Lent};

/// `FUSE_NOTIFY_INVAL_INODE`, include/uapi/linux/fuse.h.
const NOTIFY_INVAL_INODE: i32 = 2;

/// `FUSE_NOTIFY_INVAL_ENTRY`, the same.
const NOTIFY_INVAL_ENTRY: i32 = 3;

/// `/dev/fuse`, with a mount at its other end.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
    itself: Weak<Self>,
}

impl Device {
    /// Takes the connection's descriptor.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self { fd, itself: itself.clone() })
    }

    /// Waits for a request and reads it into `buffer`, which must have room for the largest. `None` when the mount is
    /// gone.
    ///
    /// # Errors
    /// Those of read(2) that mean the device cannot be read any more.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Errno> {
        let length = loop {
            match read(&self.fd, &mut *buffer) {
                Ok(length) => break length,
                // The request was taken back before it could be read, or a signal came.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::NODEV) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        };
        Ok(Some(buffer.get(..length).unwrap_or_default()))
    }

    /// Answers the request `unique`: `code` is 0 for success or a negated errno. The device takes each message whole,
    /// in one write.
    ///
    /// # Errors
    /// [`Errno::NOENT`] when the request was abandoned, [`Errno::NODEV`] when the mount is gone, [`Errno::INVAL`] for
    /// a message that is not what the request is answered with.
    pub fn reply(&self, unique: u64, code: i32, body: [&[u8]; 2]) -> Result<(), Errno> {
        let [first, second] = body;
        let header = header(first.len() + second.len(), code, unique);
        writev(&self.fd, &[IoSlice::new(&header), IoSlice::new(first), IoSlice::new(second)]).map(drop)
    }

    fn notify(&self, code: i32, body: &[u8]) -> Result<(), Errno> {
        self.reply(0, code, [body, &[]])
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
        match self.notify(NOTIFY_INVAL_ENTRY, &body) {
            // The kernel does not have the name any more, or the mount is gone.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::NOTCONN | Errno::NOTDIR) => {}
            Err(errno) => {
                tracing::warn!(%errno, parent = parent.0, "cannot have the kernel look a name up again")
            }
        }
    }

    fn attributes_changed(&self, ino: Ino) {
        let body = inval_attributes(ino.0);
        match self.notify(NOTIFY_INVAL_INODE, body.bytes()) {
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
