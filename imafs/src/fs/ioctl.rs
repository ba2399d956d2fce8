//! IOCTL: inode flags, project ids and generation numbers. Everything else is refused: an ioctl is a door to the
//! backing filesystem that no check stands at.

use rustix::fs::{FileType, IFlags, OFlags, ioctl_getflags, ioctl_setflags};
use std::os::fd::{AsFd, OwnedFd};
use sys::inode_flags::{
    FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETFLAGS, FS_IOC_GETVERSION, FS_IOC_SETFLAGS, fsxattr,
    set_fsxattr, version,
};

use super::vault::reopen;
use super::{Errno, Filesystem, Ino};

impl Filesystem {
    /// Runs one of the known ioctls and gives what it returns by pointer, in native byte order.
    ///
    /// The VFS has checked that the caller may change flags.
    ///
    /// # Errors
    /// [`Errno::NOTTY`] for every other command.
    pub fn ioctl(&self, ino: Ino, command: u32, input: &[u8]) -> Result<Vec<u8>, Errno> {
        if ino.control().is_some() {
            return Err(Errno::NOTTY);
        }
        match command {
            FS_IOC_GETFLAGS => Ok(ioctl_getflags(self.plain_fd(ino)?)?.bits().to_ne_bytes().to_vec()),
            FS_IOC_SETFLAGS => {
                self.refuse_if_read_only()?;
                let flags = input.first_chunk().copied().map(u32::from_ne_bytes).ok_or(Errno::INVAL)?;
                ioctl_setflags(self.plain_fd(ino)?, IFlags::from_bits_retain(flags))?;
                Ok(Vec::new())
            }
            FS_IOC_FSGETXATTR => Ok(fsxattr(self.plain_fd(ino)?.as_fd())?.to_vec()),
            FS_IOC_FSSETXATTR => {
                self.refuse_if_read_only()?;
                set_fsxattr(self.plain_fd(ino)?.as_fd(), *input.first_chunk().ok_or(Errno::INVAL)?)?;
                Ok(Vec::new())
            }
            FS_IOC_GETVERSION => Ok(version(self.plain_fd(ino)?.as_fd())?.to_ne_bytes().to_vec()),
            _ => Err(Errno::NOTTY),
        }
    }

    /// A descriptor of a file or directory that ioctls work on.
    fn plain_fd(&self, ino: Ino) -> Result<OwnedFd, Errno> {
        let node = self.table.find(ino)?;
        match node.kind() {
            FileType::RegularFile | FileType::Directory => {
                reopen(node.path_fd()?, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
            }
            _ => Err(Errno::NOTTY),
        }
    }
}
