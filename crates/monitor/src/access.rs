//! One access: who opens, and how.

use policy::Mask;
use rustix::fs::OFlags;

/// The open flag by which the kernel marks an open for execution (`__FMODE_EXEC`, include/linux/fs.h).
pub const FMODE_EXEC: i32 = 0x20;

const O_ACCMODE: i32 = 0o3;
const O_WRONLY: i32 = 0o1;
const O_TRUNC: i32 = 0o1000;
const O_APPEND: i32 = 0o2000;
/// The one flag here whose value differs between architectures.
const O_DIRECT: i32 = OFlags::DIRECT.bits().cast_signed();

/// One open as the filesystem received it.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// The opener's thread id in the initial pid namespace; 0 when it is not visible from there.
    pub tid: u32,
    /// The opener's filesystem uid.
    pub fsuid: u32,
    /// The opener's filesystem gid.
    pub fsgid: u32,
    /// The open flags, [`FMODE_EXEC`] included.
    pub flags: i32,
    /// Whether this very open created the file.
    pub created: bool,
}

impl Access {
    /// Whether the kernel opens the file to execute it.
    #[must_use]
    pub fn is_exec(&self) -> bool {
        self.flags & FMODE_EXEC != 0
    }

    /// Whether the open allows writing.
    #[must_use]
    pub fn is_write(&self) -> bool {
        is_write(self.flags)
    }

    /// Whether the open allows reading.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.flags & O_ACCMODE != O_WRONLY
    }

    /// Whether the open bypasses the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.flags & O_DIRECT != 0
    }

    /// The `FILE_CHECK` mask of this open.
    ///
    /// Source: `spec/ima-hooks.md` section 1; `ima_file_check` in security/integrity/ima/ima_main.c.
    #[must_use]
    pub fn file_mask(&self) -> Mask {
        if self.is_exec() {
            return Mask::EXEC;
        }
        let mut mask = match self.flags & O_ACCMODE {
            0 => Mask::READ,
            O_WRONLY => Mask::WRITE,
            _ => Mask::READ | Mask::WRITE,
        };
        if self.flags & O_TRUNC != 0 {
            mask |= Mask::WRITE;
        }
        if self.flags & O_APPEND != 0 {
            mask |= Mask::APPEND;
        }
        mask
    }
}

/// Whether open flags allow writing (`O_WRONLY`, `O_RDWR`, or the unused fourth access mode).
#[must_use]
pub fn is_write(flags: i32) -> bool {
    flags & O_ACCMODE != 0
}
