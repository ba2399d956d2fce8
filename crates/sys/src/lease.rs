//! Whether anybody has a file open, or open for writing, asked of the kernel by trying for a lease.
//!
//! Source: fcntl(2) `F_SETLEASE`, `F_SETSIG`; `check_conflicting_open`, fs/locks.c.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::check;

/// `F_SETSIG`, include/uapi/asm-generic/fcntl.h; the same on all architectures, and missing in the libc crate.
const F_SETSIG: libc::c_int = 10;

/// Whether the file behind `file` is open for writing anywhere, through any descriptor or mapping.
///
/// `file` must be open for reading only and be of an open of its own, not shared with anything that holds a lease.
/// While the question is asked, for some microseconds, an open for writing elsewhere waits, or fails with
/// `EWOULDBLOCK` if it was told not to.
///
/// # Errors
/// [`Errno::INVAL`] where the filesystem has no leases; [`Errno::ACCESS`] without `CAP_LEASE` on another's file.
pub fn is_open_for_writing(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    conflicts(file, libc::F_RDLCK)
}

/// Whether the file behind `file` is open anywhere else, through any descriptor or mapping.
///
/// As [`is_open_for_writing`], but opens for reading count, and wait, as well. Descriptors opened with `O_PATH` do not
/// count.
///
/// # Errors
/// As for [`is_open_for_writing`].
pub fn is_open_elsewhere(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    conflicts(file, libc::F_WRLCK)
}

/// Whether the kernel refuses a lease of this kind because of other opens.
fn conflicts(file: BorrowedFd<'_>, kind: libc::c_int) -> Result<bool, Errno> {
    // Whoever opens the file in between makes the kernel signal the lease's holder, by default with SIGIO, which
    // would end the process. SIGURG is ignored unless somebody handles it.
    // SAFETY: fcntl(2) with F_SETSIG takes a number; `file` is borrowed.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) })?;
    // SAFETY: fcntl(2) with F_SETLEASE takes a number; `file` is borrowed.
    match check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) }) {
        Ok(_) => {
            // SAFETY: as above.
            check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) })?;
            Ok(false)
        }
        Err(Errno::AGAIN) => Ok(true),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn a_writer_is_seen_while_it_has_the_file_open_and_not_after() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (writer, path) = file.into_parts();
        assert_eq!(is_open_for_writing(File::open(&path).unwrap().as_fd()), Ok(true));
        drop(writer);
        assert_eq!(is_open_for_writing(File::open(&path).unwrap().as_fd()), Ok(false));
    }

    #[test]
    fn a_reader_and_a_mapping_without_a_descriptor_are_seen() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"content").unwrap();
        let (writer, path) = file.into_parts();
        let mapping = crate::mapping::Shared::map(writer.as_fd(), 7).unwrap();
        drop(writer);
        assert_eq!(is_open_for_writing(File::open(&path).unwrap().as_fd()), Ok(true));
        assert_eq!(is_open_elsewhere(File::open(&path).unwrap().as_fd()), Ok(true));
        drop(mapping);
        let reader = File::open(&path).unwrap();
        assert_eq!(is_open_elsewhere(File::open(&path).unwrap().as_fd()), Ok(true));
        assert_eq!(is_open_for_writing(File::open(&path).unwrap().as_fd()), Ok(false));
        drop(reader);
        assert_eq!(is_open_elsewhere(File::open(&path).unwrap().as_fd()), Ok(false));
    }

    #[test]
    fn a_reader_is_seen_while_it_has_the_file_open_and_not_after() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let reader = File::open(&path).unwrap();
        assert_eq!(is_open_elsewhere(File::open(&path).unwrap().as_fd()), Ok(true));
        assert_eq!(is_open_for_writing(File::open(&path).unwrap().as_fd()), Ok(false));
        drop(reader);
        assert_eq!(is_open_elsewhere(File::open(&path).unwrap().as_fd()), Ok(false));
    }
}
