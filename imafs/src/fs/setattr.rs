//! SETATTR: truncate, chown, chmod and utimens, in that order.
//!
//! The kernel has checked the caller and sends the mode that is left after set-id bits were dropped; the change of
//! owner or size on the backing file must therefore come before the change of mode, or it would undo it.

use monitor::Change;
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use rustix::fs::{chmodat, chownat, ftruncate, utimensat};

use super::make::permissions;
use super::node::Node;
use super::{Attr, Errno, Filesystem, Ino};

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The present.
    Now,
    /// Seconds since the epoch (negative before it) and nanoseconds added to them.
    At(i64, u32),
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
}

impl Filesystem {
    /// Changes attributes and gives the new ones.
    ///
    /// # Errors
    /// What the backing filesystem gives.
    pub fn setattr(&self, ino: Ino, change: &SetAttr) -> Result<Attr, Errno> {
        if let Some(control) = ino.control() {
            return self.setattr_control(control, change);
        }
        self.refuse_if_read_only()?;
        let node = self.table.find(ino)?;
        if let Some(size) = change.size {
            self.truncate(&node, size)?;
        }
        let fd = node.path_fd()?;
        if change.uid.is_some() || change.gid.is_some() {
            let (uid, gid) = (change.uid.map(Uid::from_raw), change.gid.map(Gid::from_raw));
            chownat(&fd, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if let Some(mode) = change.mode {
            chmodat(CWD, node.link()?.path(), permissions(mode), AtFlags::empty())?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let times =
                Timestamps { last_access: timespec(change.atime), last_modification: timespec(change.mtime) };
            utimensat(&fd, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        self.getattr(ino)
    }

    fn truncate(&self, node: &Node, size: u64) -> Result<(), Errno> {
        let writable = {
            let mut opens = node.opens.lock();
            opens.content_changes();
            opens.open_writer()
        };
        match writable {
            Some(fd) => ftruncate(fd, size)?,
            None => sys::truncate::truncate(node.link()?.path(), size)?,
        }
        self.monitor.changed(node, Change::Content);
        Ok(())
    }

    /// A shell's `>` truncates before it writes; for a control file that means nothing. All else is refused.
    fn setattr_control(&self, ino: super::ControlIno, change: &SetAttr) -> Result<Attr, Errno> {
        if change.mode.is_some() || change.uid.is_some() || change.gid.is_some() {
            return Err(Errno::PERM);
        }
        self.control()?.attr(ino)
    }
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(seconds, nanoseconds)) => Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() },
    }
}
