//! What a filesystem's superblock says of itself.
//!
//! Source: `FS_IOC_GETFSUUID` (`struct fsuuid2`, include/uapi/linux/fs.h, Linux 6.9).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::check;

/// `_IOR(0x15, 0, struct fsuuid2)`.
const FS_IOC_GETFSUUID: libc::c_ulong = 0x8011_1500;

/// `struct fsuuid2`: a length and room for 16 bytes.
#[repr(C)]
struct Fsuuid2 {
    length: u8,
    uuid: [u8; 16],
}

/// The UUID of the filesystem that `file` (open, not `O_PATH`) is on.
///
/// # Errors
/// [`Errno::NOTTY`] where the filesystem has none or the kernel does not tell; [`Errno::RANGE`] for one that is not
/// 16 bytes long.
pub fn uuid(file: BorrowedFd<'_>) -> Result<[u8; 16], Errno> {
    let mut value = Fsuuid2 { length: 0, uuid: [0; 16] };
    // SAFETY: the kernel writes one `struct fsuuid2` (17 bytes, no padding) through the pointer; `value` is that
    // structure and outlives the call; `file` is borrowed.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_GETFSUUID, &raw mut value) })?;
    if value.length == 16 { Ok(value.uuid) } else { Err(Errno::RANGE) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn the_structure_is_that_of_the_kernel_and_proc_has_no_uuid() {
        assert_eq!(size_of::<Fsuuid2>(), 17);
        let proc = File::open("/proc").unwrap();
        assert_eq!(uuid(proc.as_fd()), Err(Errno::NOTTY));
    }
}
