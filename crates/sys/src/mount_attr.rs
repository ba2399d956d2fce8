//! Attributes of a mount given by descriptor, attached or not.
//!
//! Source: mount_setattr(2).

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::check;

/// What [`set`] changes. The default changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// Make the mount read-only.
    pub read_only: bool,
    /// Take the mount out of its peer group, so that nothing mounted elsewhere appears under it.
    pub private: bool,
}

/// Changes the attributes of the mount whose root `mount` (`O_PATH` suffices) is.
///
/// # Errors
/// [`Errno::PERM`] without `CAP_SYS_ADMIN`; [`Errno::NOSYS`] before Linux 5.12.
pub fn set(mount: BorrowedFd<'_>, change: Change) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: if change.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 },
        attr_clr: 0,
        propagation: if change.private { libc::MS_PRIVATE } else { 0 },
        userns_fd: 0,
    };
    // SAFETY: mount_setattr(2) reads `size` bytes of the structure, which outlives the call, and a terminated
    // empty path; `mount` is borrowed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(libc::c_int::try_from(result).unwrap_or(-1)).map(drop)
}
