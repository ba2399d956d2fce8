//! Inode flags and project ids beyond what rustix wraps.
//!
//! Source: ioctl_fsxattr (`struct fsxattr`, include/uapi/linux/fs.h), ioctl_iflags(2), `FS_IOC_GETVERSION`.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::check;

/// Length in bytes of `struct fsxattr`.
pub const FSXATTR_LEN: usize = 28;

/// `_IOR('X', 31, struct fsxattr)`.
pub const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
/// `_IOW('X', 32, struct fsxattr)`.
pub const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
/// `_IOR('v', 1, long)`; despite its encoding the kernel writes one int.
pub const FS_IOC_GETVERSION: u32 = 0x8008_7601;
/// `_IOR('f', 1, long)`; one int.
pub const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
/// `_IOW('f', 2, long)`; one int.
pub const FS_IOC_SETFLAGS: u32 = 0x4008_6602;

/// `struct fsxattr` as bytes, aligned as the structure is.
#[repr(C, align(4))]
struct Fsxattr([u8; FSXATTR_LEN]);

/// Reads extended inode flags, extent size hint and project id: `struct fsxattr` in native byte order.
///
/// # Errors
/// [`Errno::NOTTY`] or [`Errno::OPNOTSUPP`] where the filesystem has none.
pub fn fsxattr(fd: BorrowedFd<'_>) -> Result<[u8; FSXATTR_LEN], Errno> {
    let mut value = Fsxattr([0; FSXATTR_LEN]);
    // SAFETY: the kernel writes one `struct fsxattr` (28 bytes) through the pointer; `value` has that size and
    // alignment and outlives the call; `fd` is borrowed.
    let result =
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::c_ulong::from(FS_IOC_FSGETXATTR), &raw mut value) };
    check(result)?;
    Ok(value.0)
}

/// Sets what [`fsxattr`] reads.
///
/// # Errors
/// Those of the filesystem; [`Errno::PERM`] without the capability a changed flag needs.
pub fn set_fsxattr(fd: BorrowedFd<'_>, value: [u8; FSXATTR_LEN]) -> Result<(), Errno> {
    let value = Fsxattr(value);
    // SAFETY: the kernel reads one `struct fsxattr` (28 bytes) through the pointer; `value` has that size and
    // alignment and outlives the call; `fd` is borrowed.
    let result =
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::c_ulong::from(FS_IOC_FSSETXATTR), &raw const value) };
    check(result).map(drop)
}

/// Reads the inode's generation number.
///
/// # Errors
/// [`Errno::NOTTY`] where the filesystem keeps none.
pub fn version(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    // The request is encoded with the size of a long, so room for one is given although an int is written.
    let mut value: [u32; 2] = [0; 2];
    // SAFETY: the kernel writes one int, at most one long, through the pointer; `value` holds eight bytes and
    // outlives the call; `fd` is borrowed.
    let result =
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::c_ulong::from(FS_IOC_GETVERSION), &raw mut value) };
    check(result)?;
    Ok(value.first().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn requests_have_the_numbers_of_the_kernel_headers() {
        assert_eq!(libc::c_ulong::from(FS_IOC_GETFLAGS), libc::FS_IOC_GETFLAGS);
        assert_eq!(libc::c_ulong::from(FS_IOC_SETFLAGS), libc::FS_IOC_SETFLAGS);
        assert_eq!(libc::c_ulong::from(FS_IOC_GETVERSION), libc::FS_IOC_GETVERSION);
        assert_eq!(size_of::<Fsxattr>(), FSXATTR_LEN);
    }

    #[test]
    fn flags_read_can_be_written_back() {
        let file = tempfile::tempfile().unwrap();
        match fsxattr(file.as_fd()) {
            Ok(value) => assert_eq!(set_fsxattr(file.as_fd(), value), Ok(())),
            Err(errno) => assert!(errno == Errno::NOTTY || errno == Errno::OPNOTSUPP, "{errno}"),
        }
    }
}
