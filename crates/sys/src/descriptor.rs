//! Making an open descriptor refer to another file.
//!
//! Source: dup3(2). rustix wants to own the descriptor that is replaced; here its owner keeps it.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::check;

/// Makes `target` refer to what `source` refers to; what it referred to before is closed. Close-on-exec is set.
///
/// Whoever owns `target` still owns it and still closes it.
///
/// # Errors
/// [`Errno::INVAL`] when both are the same descriptor; [`Errno::INTR`] and [`Errno::BUSY`] as dup3(2) has them.
pub fn replace(target: BorrowedFd<'_>, source: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: dup3(2) touches no memory; both descriptors are borrowed, so they are open, and the target stays open
    // under its number: its owner's claim to close it holds for what it refers to now.
    check(unsafe { libc::dup3(source.as_raw_fd(), target.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    #[test]
    fn the_target_reads_what_was_written_to_the_source() {
        let mut source = tempfile::tempfile().unwrap();
        let mut target = tempfile::tempfile().unwrap();
        source.write_all(b"here").unwrap();
        source.rewind().unwrap();
        replace(target.as_fd(), source.as_fd()).unwrap();
        let mut text = String::new();
        target.read_to_string(&mut text).unwrap();
        assert_eq!(text, "here");
        assert_eq!(replace(source.as_fd(), source.as_fd()), Err(Errno::INVAL));
    }
}
