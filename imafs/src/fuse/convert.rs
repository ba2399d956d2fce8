//! Between fuser's types and the filesystem's.

use std::time::SystemTime;

use fuser::{FileType as FuserType, INodeNo, Request, TimeOrNow};
use rustix::fs::FileType;

use crate::fs::{Caller, Errno, Ino, SetTime};

/// The error as the kernel gets it.
///
/// ENOSYS is a word of the protocol: "never ask this again". Answered to OPEN it would end all checks. What the
/// backing filesystem calls so is an I/O error to us.
pub(super) fn errno(error: Errno) -> fuser::Errno {
    match error {
        Errno::NOSYS => fuser::Errno::EIO,
        error => fuser::Errno::from_i32(error.raw_os_error()),
    }
}

/// Who sent the request.
pub(super) fn caller(request: &Request) -> Caller {
    Caller { tid: request.pid(), uid: request.uid(), gid: request.gid() }
}

/// The node id.
pub(super) fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

/// The time to set.
///
/// fuser 0.18 decodes a time before 1970 as the epoch minus the seconds minus the nanoseconds, where the protocol
/// means minus the seconds plus the nanoseconds. Taking both parts as they stand gives what the kernel sent.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    let TimeOrNow::SpecificTime(time) = time else { return SetTime::Now };
    let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => SetTime::At(seconds(after.as_secs()), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            SetTime::At(-seconds(before.as_secs()), before.subsec_nanos())
        }
    }
}

/// The type of a directory entry.
pub(super) fn file_type(kind: FileType) -> FuserType {
    match kind {
        FileType::Directory => FuserType::Directory,
        FileType::Symlink => FuserType::Symlink,
        FileType::Fifo => FuserType::NamedPipe,
        FileType::Socket => FuserType::Socket,
        FileType::CharacterDevice => FuserType::CharDevice,
        FileType::BlockDevice => FuserType::BlockDevice,
        FileType::RegularFile | FileType::Unknown => FuserType::RegularFile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn enosys_is_never_passed_on() {
        assert_eq!(errno(Errno::NOSYS), fuser::Errno::EIO);
        assert_eq!(errno(Errno::ACCESS), fuser::Errno::EACCES);
    }

    #[test]
    fn times_before_the_epoch_are_those_the_kernel_sent() {
        // -1.2 s is sent as -2 s and 800,000,000 ns, and decoded by fuser as -2.8 s.
        let decoded = SystemTime::UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(set_time(TimeOrNow::SpecificTime(decoded)), SetTime::At(-2, 800_000_000));
        let after = SystemTime::UNIX_EPOCH + Duration::new(2, 3);
        assert_eq!(set_time(TimeOrNow::SpecificTime(after)), SetTime::At(2, 3));
        assert_eq!(set_time(TimeOrNow::Now), SetTime::Now);
    }
}
