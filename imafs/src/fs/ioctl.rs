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

/// `FS_CASEFOLD_FL`, include/uapi/linux/fs.h: names in this directory are the same whatever their case. A file would then
/// be reached by names that no rule about paths has. Where the host set it, it stays.
const CASEFOLD: u32 = 0x4000_0000;

/// The flags of `struct fsxattr` that are known (`FS_XFLAG_*`, include/uapi/linux/fs.h): none of them is about names. Others stay as they
/// are.
const XFLAGS: u32 = 0x8003_fffb;

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
                let fd = self.plain_fd(ino)?;
                if flags & CASEFOLD != 0 && ioctl_getflags(&fd)?.bits() & CASEFOLD == 0 {
                    return Err(Errno::PERM);
                }
                ioctl_setflags(fd, IFlags::from_bits_retain(flags))?;
                Ok(Vec::new())
            }
            FS_IOC_FSGETXATTR => Ok(fsxattr(self.plain_fd(ino)?.as_fd())?.to_vec()),
            FS_IOC_FSSETXATTR => {
                self.refuse_if_read_only()?;
                let value = *input.first_chunk().ok_or(Errno::INVAL)?;
                let fd = self.plain_fd(ino)?;
                let unknown =
                    |value: &[u8]| value.first_chunk().map(|flags| u32::from_ne_bytes(*flags) & !XFLAGS);
                if unknown(&value) != unknown(&fsxattr(fd.as_fd())?) {
                    return Err(Errno::PERM);
                }
                set_fsxattr(fd.as_fd(), value)?;
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
