//! Keeping descriptors from children.
//!
//! Source: close_range(2).

use rustix::io::Errno;

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
    use std::os::fd::{AsFd, AsRawFd};

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
