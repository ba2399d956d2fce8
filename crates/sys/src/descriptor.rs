//! Making an open descriptor refer to another file, and keeping descriptors from children.
//!
//! Source: dup3(2), close_range(2). rustix wants to own the descriptor that is replaced; here its owner keeps it.

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

/// Keeps every descriptor but the three standard streams from programs that this process starts from now on.
///
/// A program that stays in the background would otherwise hold what its caller's caller happened to have open: an engine
/// waits for the end of such pipes.
///
/// # Errors
/// [`Errno::NOSYS`] before Linux 5.9, [`Errno::INVAL`] before 5.11.
pub fn keep_from_children() -> Result<(), Errno> {
    // SAFETY: close_range(2) with CLOSE_RANGE_CLOEXEC closes nothing and touches no memory; it sets a flag on every
    // open descriptor from 3 on.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done < 0 { Err(crate::last_errno()) } else { Ok(()) }
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

    #[test]
    fn a_child_gets_nothing_but_its_standard_streams() {
        let file = tempfile::tempfile().unwrap();
        let inherited = file.as_fd().try_clone_to_owned().unwrap();
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
        let listed = || {
            let output = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap();
            String::from_utf8(output.stdout)
                .unwrap()
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let number = inherited.as_raw_fd().to_string();
        assert!(listed().contains(&number), "without it the child has the descriptor");
        keep_from_children().unwrap();
        assert!(!listed().contains(&number));
    }
}
