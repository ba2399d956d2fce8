//! Children that do not outlive the thread that started them.
//!
//! Source: prctl(2) `PR_SET_PDEATHSIG`: the signal comes when the *thread* that made the child ends, and with every
//! end of its process, also by a signal that cannot be caught.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Makes `command` start a program that is killed when the thread which starts it ends.
///
/// So it is to be started by a thread that lives as long as the program is wanted.
pub fn die_with_this_thread(command: &mut Command) {
    let parent = std::process::id();
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // A parent that ended before the request sends nothing any more.
        let orphaned =
            rustix::process::getppid().is_none_or(|now| now.as_raw_nonzero().get().cast_unsigned() != parent);
        if orphaned { Err(rustix::io::Errno::SRCH.into()) } else { Ok(()) }
    };
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed: it makes two
    // system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn a_child_is_killed_with_its_thread_and_not_before() {
        let started = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            die_with_this_thread(command.arg("60"));
            let mut child = command.spawn().unwrap();
            assert!(child.try_wait().unwrap().is_none());
            child
        });
        let status = started.join().unwrap().wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL));
    }
}
