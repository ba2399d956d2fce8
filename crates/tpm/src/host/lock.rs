//! The lock of the host list, and what is done about one who never lets go of it.
//!
//! `flock(2)` waits for ever, in the order in which it was asked. That is right while the list moves on, however many
//! wait. It is wrong when the holder was stopped in the midst of its line: nobody may take the lock from it, since it
//! goes on where it was when it is continued. So a thread stands in line for us, and who asked stops waiting when the
//! list has not moved for a while. The thread stays in line; what it is given when nobody wants it any more it gives
//! back at once. As long as nothing has moved later calls fail without waiting.
//!
//! One lock, `line`, never held while the system waits.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::fs::{FlockOperation, flock, major, minor};
use rustix::io::Errno;

use crate::clock::Patience;

/// That nobody else writes. It ends with its last clone: a command on its way to the TPM holds one.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    _file: Arc<File>,
}

/// Why there is no lock.
#[derive(Debug)]
pub(super) enum Unlocked {
    /// The system does not lock, or there is no thread to be had.
    System(io::Error),
    /// Somebody holds it, by this pid where it is known, and does nothing.
    Stuck(Option<u32>),
}

/// Who holds the lock, by the pid where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(pub Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.0 else { return f.write_str("a process that cannot be seen from here") };
        write!(f, "process {pid}")?;
        if is_stopped(pid) { f.write_str(", which is stopped,") } else { Ok(()) }
    }
}

/// Whether a process was stopped by a signal or is being traced.
///
/// Source: proc_pid_stat(5), field 3. The name in field 2 may hold blanks and parentheses.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, after)| after.starts_with(['T', 't']))
}

/// Those of this process who want the lock. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    limit: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    line: Mutex<Line>,
    changed: Condvar,
}

/// The thread that stands in line.
#[derive(Debug, Default)]
struct Line {
    standing: bool,
    /// How many wait for it.
    wanted: usize,
    got: Option<io::Result<Lock>>,
    /// How it was when somebody stopped waiting.
    stuck: Option<At>,
}

/// How far the list has come, and who holds it.
type At = (u64, Option<u32>);

impl Queue {
    /// A queue that gives up when nothing has moved for so long.
    pub(super) fn new(limit: Duration) -> Self {
        Self { shared: Arc::default(), limit }
    }

    /// Takes the lock. `open` opens its file; `mark` gives a number that changes as the list moves on.
    pub(super) fn take(
        &self,
        open: impl Fn() -> io::Result<File>,
        mark: impl Fn() -> u64,
    ) -> Result<Lock, Unlocked> {
        let file = Arc::new(open().map_err(Unlocked::System)?);
        if let Some(lock) = try_lock(&file).map_err(Unlocked::System)? {
            self.shared.line.lock().stuck = None;
            return Ok(lock);
        }
        let look = || (mark(), holder(&file));
        let (mut seen, mut patience) = (look(), Patience::new(self.limit));
        let mut line = self.shared.line.lock();
        line.wanted += 1;
        let taken = loop {
            if let Some(got) = line.got.take() {
                line.stuck = None;
                // The next one has to stand in line anew.
                self.shared.changed.notify_one();
                break got.map_err(Unlocked::System);
            }
            if !line.standing {
                match open().and_then(|file| self.stand(file)) {
                    Ok(()) => line.standing = true,
                    Err(error) => break Err(Unlocked::System(error)),
                }
            }
            if line.stuck == Some(seen) || patience.is_over() {
                line.stuck = Some(seen);
                break Err(Unlocked::Stuck(seen.1));
            }
            patience.wait(|slice| self.shared.changed.wait_for(&mut line, slice));
            let now = look();
            if now != seen {
                (seen, patience) = (now, Patience::new(self.limit));
            }
        };
        line.wanted -= 1;
        taken
    }

    /// Starts the thread.
    fn stand(&self, file: File) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let stand = move || {
            let got = wait_for(file);
            let mut line = shared.line.lock();
            line.standing = false;
            // What nobody wants is given back here.
            line.got = (line.wanted > 0).then_some(got);
            drop(line);
            shared.changed.notify_one();
        };
        std::thread::Builder::new().name("imafs-host-lock".to_owned()).spawn(stand).map(drop)
    }
}

fn wait_for(file: File) -> io::Result<Lock> {
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(Lock { _file: Arc::new(file) }),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn try_lock(file: &Arc<File>) -> io::Result<Option<Lock>> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { _file: Arc::clone(file) })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Who holds the lock on this file.
fn holder(file: &File) -> Option<u32> {
    let stat = file.metadata().ok()?;
    let inode = format!("{:02x}:{:02x}:{}", major(stat.dev()), minor(stat.dev()), stat.ino());
    of_table(&std::fs::read_to_string("/proc/locks").ok()?, &inode)
}

/// `1: FLOCK  ADVISORY  WRITE 1234 00:2f:5678 0 EOF`, one line a lock; those who wait follow it with `->`. A pid that
/// is not to be seen from here is 0 or less.
///
/// Source: proc_locks(5).
fn of_table(table: &str, inode: &str) -> Option<u32> {
    table.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [_, "FLOCK", _, _, pid, at, ..] if *at == inode => pid.parse().ok().filter(|pid| *pid > 0),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    fn open(path: &std::path::Path) -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(false).open(path)
    }

    #[test]
    fn who_does_nothing_is_named_and_waited_for_no_longer_than_the_limit() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("lock");
        let held = try_lock(&Arc::new(open(&path).unwrap())).unwrap().unwrap();
        let queue = Queue::new(SHORT);
        for _ in 0..3 {
            let refused = queue.take(|| open(&path), || 7);
            assert!(matches!(refused, Err(Unlocked::Stuck(Some(pid))) if pid == std::process::id()));
        }
        // Whoever stands in line gives back what nobody wants.
        drop(held);
        for _ in 0..3 {
            drop(queue.take(|| open(&path), || 7).unwrap());
        }
        let mut others = Queue::new(SHORT).take(|| open(&path), || 7);
        while others.is_err() {
            others = Queue::new(SHORT).take(|| open(&path), || 7);
        }
    }

    #[test]
    fn as_long_as_the_list_moves_on_it_is_waited_for() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("lock");
        let held = try_lock(&Arc::new(open(&path).unwrap())).unwrap().unwrap();
        let (queue, mark) = (Queue::new(SHORT), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| queue.take(|| open(&path), || mark.fetch_add(1, Ordering::Relaxed)));
            while mark.load(Ordering::Relaxed) < 10 {
                std::thread::yield_now();
            }
            assert!(!waiter.is_finished());
            drop(held);
            assert!(waiter.join().unwrap().is_ok());
        });
    }

    #[test]
    fn all_who_ask_at_once_get_it_in_turn() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("lock");
        let (queue, inside) = (Queue::new(Duration::from_secs(30)), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = queue.take(|| open(&path), || 0).unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    }
                });
            }
        });
    }

    #[test]
    fn the_holder_is_read_from_the_table_of_locks_and_no_one_who_waits() {
        let table = "1: POSIX  ADVISORY  WRITE 11 00:2f:5678 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 00:2f:567 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 00:2f:5678 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 00:2f:5678 0 EOF\n";
        assert_eq!(of_table(table, "00:2f:5678"), Some(13));
        assert_eq!(of_table(table, "00:2f:9"), None);
        assert_eq!(of_table("1: FLOCK  ADVISORY  WRITE 0 00:2f:9 0 EOF", "00:2f:9"), None);
    }
}
