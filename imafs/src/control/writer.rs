//! Who wrote to a control file last, and whether a signal ended them before they were done.
//!
//! The kernel commits a load whoever closes the policy file, the end of a killed process included. Half a policy is no
//! policy: here a load whose last writer was killed comes to nothing. One that merely ends is taken at its word.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use audit::Process;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The task's flag for being on its way out (`PF_EXITING`, include/linux/sched.h).
const PF_EXITING: u64 = 0x4;

/// The part of a wait status that names a signal.
const SIGNAL: i32 = 0x7f;

/// The last writer, as it was when it last wrote.
#[derive(Debug)]
pub(super) struct Writer {
    process: Process,
    pidfd: Option<OwnedFd>,
    started: Option<u64>,
}

impl Writer {
    /// Looks at a task that waits for its request to be answered, in `open(2)` or `write(2)`. Not for one that closes: a
    /// program being started closes files while it holds the lock that `/proc/PID/attr` waits for.
    pub(super) fn of(tid: u32) -> Self {
        let process = Process::read(tid);
        let pidfd = pid_of(&process).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let started = Stat::read(process.pid).map(|stat| stat.started);
        Self { process, pidfd, started }
    }

    /// What records say of it.
    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// Whether a signal ended it. Not known of one that has been collected by its parent before Linux 6.15.
    pub(super) fn was_killed(&self) -> bool {
        let standing = Stat::read(self.process.pid).filter(|stat| Some(stat.started) == self.started);
        if let Some(stat) = standing {
            return stat.flags & PF_EXITING != 0 && stat.status & SIGNAL != 0;
        }
        let status = self.pidfd.as_ref().and_then(|pidfd| sys::pidfd::exit_status(pidfd.as_fd()).ok());
        status.flatten().is_some_and(|status| status & SIGNAL != 0)
    }
}

fn pid_of(process: &Process) -> Option<Pid> {
    Pid::from_raw(i32::try_from(process.pid).ok()?)
}

/// Of `/proc/PID/stat` the fields `flags`, `starttime` and `exit_code`, proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    flags: u64,
    started: u64,
    status: i32,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name stands in brackets and may hold anything; what follows the last one are numbers.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        // The first of these is the third of the line, counted from 1.
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
        let number = |at: usize| field(at)?.parse().ok();
        Some(Self { flags: number(9)?, started: number(22)?, status: field(52)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn child(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_name_with_brackets_and_spaces_is_passed_over() {
        let text =
            format!("7 (a) b) Z 1 1 1 0 -1 4194564 1 2 3 4 5 6 7 8 20 0 1 0 12345{} 9\n", " 0".repeat(29));
        let stat = Stat { flags: 4_194_564, started: 12_345, status: 9 };
        assert_eq!(Stat::parse(text.as_bytes()), Some(stat));
        assert_eq!(Stat::parse(b"7 (a S 1"), None);
    }

    #[test]
    fn a_killed_writer_is_told_from_one_that_ended_before_and_after_it_is_collected() {
        let mut killed = child("read line");
        let writer = Writer::of(killed.id());
        assert!(!writer.was_killed());
        killed.kill().unwrap();
        // Not collected yet: /proc still shows it, once the signal has arrived.
        while !writer.was_killed() {
            std::thread::yield_now();
        }
        killed.wait().unwrap();
        let mut ended = child("read line");
        let other = Writer::of(ended.id());
        drop(ended.stdin.take());
        ended.wait().unwrap();
        assert!(!other.was_killed());
        if writer.pidfd.as_ref().is_some_and(|pidfd| sys::pidfd::exit_status(pidfd.as_fd()).is_ok()) {
            assert!(writer.was_killed());
        }
    }
}
