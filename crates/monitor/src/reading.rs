//! How long content is read for somebody, and which files are read where.
//!
//! Whoever may open a file decides how much is read for them: a sparse file of terabytes costs its owner nothing and
//! takes hours to hash. So reading ends when nobody waits for it any more, and large files are kept to threads of which
//! some are always left to others: work that meets one says so ([`Step::Large`](crate::Step)) and is run again there.

use std::fs;
use std::io::ErrorKind;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use appraise::{Bounds, CollectError, facts};
use parking_lot::Mutex;

use crate::monitor::Monitor;
use crate::object::Object;

/// Files up to this size are read by any thread: tens of milliseconds each.
const SMALL: u64 = 16 << 20;

/// How often the task that waits is looked at. A look costs some ten microseconds.
const LOOK: Duration = Duration::from_millis(100);

/// How long the last writer's close is worked off once the mount is gone: without its label the file is refused when it
/// is mounted again.
const GRACE: Duration = Duration::from_secs(20);

/// `SIGKILL` in a mask of `/proc/PID/status`. Every signal that ends a process at once is told to each of its threads as
/// this one (`complete_signal`, kernel/signal.c).
const KILL: u64 = 1 << (9 - 1);

/// Whether the mount is gone, since when.
pub(crate) type Leaving = OnceLock<Instant>;

/// Which files may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Small ones, in a thread that others wait for.
    Small,
    /// Any.
    Large,
}

/// Reading content on somebody's behalf.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    leaving: &'a Leaving,
    lane: Lane,
    /// The task that waits, where there is one that can be seen, and when it was last looked at.
    waiting: Option<(u32, Mutex<Instant>)>,
    grace: Duration,
}

impl<'a> Reading<'a> {
    /// For a task that waits for the answer.
    pub fn for_task(monitor: &'a Monitor, lane: Lane, tid: u32) -> Self {
        let waiting = (tid != 0).then(|| (tid, Mutex::new(Instant::now())));
        Self { leaving: &monitor.leaving, lane, waiting, grace: Duration::ZERO }
    }

    /// For a label that is to be renewed, whoever is there.
    pub fn for_label(monitor: &'a Monitor, lane: Lane) -> Self {
        Self { leaving: &monitor.leaving, lane, waiting: None, grace: GRACE }
    }

    /// The bounds for collecting.
    pub fn bounded<R>(&self, collect: impl FnOnce(&Bounds<'_>) -> R) -> R {
        let largest = match self.lane {
            Lane::Small => SMALL,
            Lane::Large => u64::MAX,
        };
        collect(&Bounds { largest, gives_up: &|| self.gives_up() })
    }

    /// Whether this file is to be read in the other lane. One that cannot be looked at will not be read anyway.
    pub fn is_too_large(&self, object: &dyn Object) -> bool {
        let size = || Some(facts(object.stat_fd().ok()?).ok()?.version.size());
        self.lane == Lane::Small && size().is_some_and(|size| size > SMALL)
    }

    fn gives_up(&self) -> bool {
        if self.leaving.get().is_some_and(|since| since.elapsed() >= self.grace) {
            return true;
        }
        let Some((tid, looked)) = &self.waiting else { return false };
        // Of several threads that read for it, one looks.
        let Some(mut looked) = looked.try_lock() else { return false };
        if looked.elapsed() < LOOK {
            return false;
        }
        *looked = Instant::now();
        is_killed(*tid)
    }
}

/// Why content was not read to its end, which says nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// Nobody waits for it any more.
    GivenUp,
    /// It is to be read in the other lane.
    TooLarge,
}

impl Unfinished {
    pub fn of(error: &CollectError) -> Option<Self> {
        match error {
            CollectError::GivenUp => Some(Self::GivenUp),
            CollectError::TooLarge { .. } => Some(Self::TooLarge),
            _ => None,
        }
    }
}

/// Whether a task that waits in the kernel for our answer will do nothing with it. It stays there all the same until it
/// has one.
fn is_killed(tid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{tid}/status")) {
        Ok(status) => has_kill_pending(&status),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

fn has_kill_pending(status: &str) -> bool {
    let masks = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    masks.fold(0, |all, mask| all | mask) & KILL != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_kills_is_told_from_others() {
        let status =
            |own: &str, shared: &str| format!("Name:\tx\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t100\n");
        for (own, shared, killed) in [
            ("0000000000000100", "0000000000000000", true),
            ("0000000000000000", "0000000000000100", true),
            ("0000000000004002", "0000000000010000", false),
            ("x", "", false),
        ] {
            assert_eq!(has_kill_pending(&status(own, shared)), killed, "{own} {shared}");
        }
        assert!(!is_killed(std::process::id()));
        assert!(is_killed(u32::MAX), "there is no such task");
    }
}
