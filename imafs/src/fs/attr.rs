//! File attributes as the kernel wants them, and the answer to GETATTR.

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, statx};

use super::{Errno, Filesystem, Ino};

/// The attributes of one inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The inode number that `stat(2)` shows. Not the node id: that is [`Ino`].
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Space used, in units of 512 bytes.
    pub blocks: u64,
    /// Last access: seconds since the epoch (negative before it) and nanoseconds added to them.
    pub atime: (i64, u32),
    /// Last modification of the content.
    pub mtime: (i64, u32),
    /// Last change of content or attributes.
    pub ctime: (i64, u32),
    /// File type and permission bits, as in `st_mode`.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, in the kernel's 32-bit encoding.
    pub rdev: u32,
    /// Preferred block size for I/O.
    pub blksize: u32,
}

impl Attr {
    /// Takes the attributes out of `stat`, showing `ino` as the inode number.
    #[must_use]
    pub fn new(stat: &Statx, ino: u64) -> Self {
        Self {
            ino,
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            atime: (stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec),
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            mode: u32::from(stat.stx_mode),
            nlink: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            rdev: encode_device(stat.stx_rdev_major, stat.stx_rdev_minor),
            blksize: stat.stx_blksize,
        }
    }

    /// The file type in [`Attr::mode`].
    #[must_use]
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// What `statx(2)` shows beyond the usual attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extended {
    /// The usual ones.
    pub attr: Attr,
    /// When the inode was made, where the backing filesystem knows.
    pub btime: Option<(i64, u32)>,
    /// `STATX_ATTR_*` bits that are set.
    pub attributes: u64,
    /// Those that the backing filesystem tells of.
    pub attributes_mask: u64,
}

/// The kernel's 32-bit device number (`new_encode_dev`, include/linux/kdev_t.h).
#[must_use]
pub fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Major and minor number of what [`encode_device`] made (`new_decode_dev`).
#[must_use]
pub fn decode_device(device: u32) -> (u32, u32) {
    ((device & 0xf_ff00) >> 8, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

/// One `statx` of what `fd` (`O_PATH` suffices) refers to, with everything [`Attr`] needs.
pub(super) fn stat(fd: impl std::os::fd::AsFd) -> Result<Statx, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)
}

impl Filesystem {
    /// Reads the attributes of an inode.
    ///
    /// # Errors
    /// [`Errno::STALE`] when the inode is gone, or what `statx(2)` gives.
    pub fn getattr(&self, ino: Ino) -> Result<Attr, Errno> {
        if let Some(control) = ino.control() {
            return self.control()?.attr(control);
        }
        let node = self.table.find(ino)?;
        let stat = stat(self.vault.path_fd(&node)?)?;
        Ok(self.vault.backing().attr(&stat))
    }

    /// Reads the attributes of an inode and what more `statx(2)` has to say.
    ///
    /// # Errors
    /// As [`Filesystem::getattr`].
    pub fn statx(&self, ino: Ino) -> Result<Extended, Errno> {
        if ino.control().is_some() {
            let attr = self.getattr(ino)?;
            return Ok(Extended { attr, btime: None, attributes: 0, attributes_mask: 0 });
        }
        let node = self.table.find(ino)?;
        let fd = self.vault.path_fd(&node)?;
        let asked = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let stat = statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT, asked)?;
        let born = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Extended {
            attr: self.vault.backing().attr(&stat),
            btime: born.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec)),
            attributes: stat.stx_attributes.bits(),
            attributes_mask: stat.stx_attributes_mask.bits(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_encoding_up_to_its_widths() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (8, 256), (259, 70_000), (4095, 0xf_ffff)] {
            assert_eq!(decode_device(encode_device(major, minor)), (major, minor));
        }
        // mknod c 5 1 as the kernel encodes it.
        assert_eq!(encode_device(5, 1), 0x0501);
    }
}
