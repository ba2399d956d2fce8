//! Backing ids: a file lent to a FUSE connection, which then reads and writes it without asking the server.
//!
//! Source: `struct fuse_backing_map`, `FUSE_DEV_IOC_BACKING_OPEN` and `_CLOSE`, include/uapi/linux/fuse.h, Linux 6.9.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::check;

/// `_IOW(229, 1, struct fuse_backing_map)`.
const BACKING_OPEN: libc::c_ulong = 0x4010_e501;
/// `_IOW(229, 2, uint32_t)`.
const BACKING_CLOSE: libc::c_ulong = 0x4004_e502;

/// `struct fuse_backing_map`.
#[repr(C)]
struct Map {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// Registers the file that `file` (`O_PATH` suffices) refers to with the connection behind `device`.
///
/// # Errors
/// [`Errno::PERM`] without `CAP_SYS_ADMIN` in the initial user namespace or when passthrough was not negotiated;
/// [`Errno::LOOP`] when the file's filesystem is stacked too deep; [`Errno::OPNOTSUPP`] for what is not a regular
/// file.
pub fn open(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<u32, Errno> {
    let map = Map { fd: file.as_raw_fd(), flags: 0, padding: 0 };
    // SAFETY: the kernel reads one `struct fuse_backing_map` through the pointer; `map` is that structure and
    // outlives the call; both descriptors are borrowed.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), BACKING_OPEN, &raw const map) };
    Ok(check(result)?.cast_unsigned())
}

/// Ends the registration `id` of [`open`]; files that are open through it stay open.
///
/// # Errors
/// [`Errno::NOENT`] when there is none of that number.
pub fn close(device: BorrowedFd<'_>, id: u32) -> Result<(), Errno> {
    // SAFETY: the kernel reads one `u32` through the pointer; `id` is one and outlives the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), BACKING_CLOSE, &raw const id) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_has_the_layout_of_struct_fuse_backing_map() {
        assert_eq!(std::mem::offset_of!(Map, fd), 0);
        assert_eq!(std::mem::offset_of!(Map, flags), 4);
        assert_eq!(std::mem::offset_of!(Map, padding), 8);
        assert_eq!(size_of::<Map>(), 16);
    }
}
