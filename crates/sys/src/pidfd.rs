//! How a process ended, asked of a pidfd: also after its parent has collected it, and without being the parent.
//!
//! Source: `struct pidfd_info` and `PIDFD_GET_INFO`, include/uapi/linux/pidfd.h, Linux 6.15.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::check;

/// `_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)` for the structure's first version of 64 bytes.
const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;

/// Asks for, and says that there is, `exit_code`.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `struct pidfd_info`, first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    /// pid, tgid, ppid, and eight user and group ids.
    ids: [u32; 11],
    exit_code: i32,
}

/// The wait status of a process that has ended and been collected by its parent; `None` while it has not.
///
/// # Errors
/// [`Errno::NOTTY`] or [`Errno::INVAL`] before Linux 6.15, where this cannot be asked.
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel reads and writes at most the 64 bytes that the request's number says and the structure has;
    // it outlives the call, and the descriptor is borrowed.
    let asked = check(unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) });
    match asked {
        Ok(_) => Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)),
        // There is nothing else to be told of a process that is gone.
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::os::fd::AsFd;
    use std::process::Command;

    #[test]
    fn the_structure_is_the_kernels_first_version() {
        assert_eq!(size_of::<PidfdInfo>(), 64);
        assert_eq!(std::mem::offset_of!(PidfdInfo, exit_code), 60);
    }

    #[test]
    fn how_a_process_ended_is_known_after_its_parent_has_collected_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        match exit_status(pidfd.as_fd()) {
            Err(Errno::NOTTY | Errno::INVAL) => {
                child.kill().unwrap();
                child.wait().unwrap();
                eprintln!("skipped: the kernel is older than 6.15");
                return;
            }
            answer => assert_eq!(answer, Ok(None)),
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let status = exit_status(pidfd.as_fd()).unwrap().unwrap();
        assert_eq!(status & 0x7f, libc::SIGKILL);
        let mut shell = Command::new("sh");
        let mut child =
            shell.args(["-c", "read line; exit 3"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(exit_status(pidfd.as_fd()), Ok(Some(3 << 8)));
    }
}
