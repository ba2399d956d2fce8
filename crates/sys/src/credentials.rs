//! Per-thread credentials: filesystem ids, and a umask of the thread's own.
//!
//! Source: setfsuid(2), setfsgid(2), unshare(2) `CLONE_FS`. The glibc wrappers of setfsuid and setfsgid act on the
//! calling thread only, unlike those of setuid and setgid, which signal every thread.

use rustix::io::Errno;

use crate::check;

/// No such id exists; setting it always fails, and so reads the present one without changing it.
const INVALID: u32 = u32::MAX;

/// Sets the calling thread's filesystem uid.
///
/// Moving it away from 0 drops the filesystem capabilities from the thread's effective set, moving it to 0
/// raises them as far as they are permitted (capabilities(7)).
///
/// # Errors
/// [`Errno::PERM`] when the kernel did not take the id (setfsuid itself reports nothing).
pub fn set_fsuid(uid: u32) -> Result<(), Errno> {
    // SAFETY: setfsuid(2) takes a number and touches no memory.
    unsafe { libc::setfsuid(uid) };
    // SAFETY: as above; an invalid id changes nothing and returns the present one.
    let present = unsafe { libc::setfsuid(INVALID) };
    if present.cast_unsigned() == uid { Ok(()) } else { Err(Errno::PERM) }
}

/// Sets the calling thread's filesystem gid.
///
/// # Errors
/// [`Errno::PERM`] when the kernel did not take the id.
pub fn set_fsgid(gid: u32) -> Result<(), Errno> {
    // SAFETY: setfsgid(2) takes a number and touches no memory.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above; an invalid id changes nothing and returns the present one.
    let present = unsafe { libc::setfsgid(INVALID) };
    if present.cast_unsigned() == gid { Ok(()) } else { Err(Errno::PERM) }
}

/// Gives the calling thread a umask (and root and working directory) of its own.
///
/// # Errors
/// [`Errno::NOMEM`] is the only one documented.
pub fn unshare_fs_attributes() -> Result<(), Errno> {
    // SAFETY: unshare(2) with CLONE_FS touches no memory of ours and leaves the descriptor table shared.
    check(unsafe { libc::unshare(libc::CLONE_FS) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn files_made_under_a_foreign_fsuid_and_fsgid_belong_to_them() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
            eprintln!("skipped: needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .unwrap();
        let path = directory.path().join("file");
        set_fsgid(4321).unwrap();
        set_fsuid(1234).unwrap();
        let made = std::fs::write(&path, b"");
        set_fsuid(0).unwrap();
        set_fsgid(0).unwrap();
        made.unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
    }

    #[test]
    fn the_umask_of_an_unsharing_thread_is_its_own() {
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        std::thread::spawn(|| {
            unshare_fs_attributes().unwrap();
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
        })
        .join()
        .unwrap();
        let after = rustix::process::umask(before);
        assert_eq!(after.as_raw_mode(), 0o022);
    }
}
