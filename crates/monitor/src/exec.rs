//! Recognising the ELF interpreter that the kernel opens by itself during an exec.
//!
//! The kernel opens it with the same flag as the program, right after the program and in the same thread, but
//! maps it instead of running `BPRM_CHECK` on it. So when a thread's exec open of an ELF file is granted, the
//! inode its `PT_INTERP` names is noted; the next exec open of that thread is the interpreter if it is that
//! inode, and a program otherwise. The note serves once.
//!
//! An exec can fail before the interpreter is opened, and the thread can then start the interpreter as a program. The
//! kernel holds the program open until it is done with it, and lets go of it before the thread can ask for anything
//! else. So the note ends with the open it was made for, which is known by its [`Ticket`].
//!
//! Nor need the kernel ask us for the interpreter at all: something else may be mounted where it lies. The exec then goes
//! on, and the program, which holds its own file open, could start the interpreter as a program. By then it has other
//! memory than the thread had that began the exec: the kernel opens the interpreter before it gives up the old one. So
//! the note also ends with the memory it was made in, known by where its parts lie.

use std::fs;
use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

/// Threads that can be between the two opens at once; older notes go, and their interpreter is then checked as a
/// program too, which is stricter.
const NOTES: NonZeroUsize = match NonZeroUsize::new(4096) {
    Some(notes) => notes,
    None => NonZeroUsize::MIN,
};

/// Backing inode: device and number.
pub(crate) type InodeId = (u64, u64);

/// Where the parts of a task's memory lie, which is chosen anew by each exec: of `/proc/TID/stat` the fields `startcode`,
/// `endcode` and `startstack` and `start_data` to `env_end`, proc_pid_stat(5). They read 0 for who may not trace the task;
/// then nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Memory(Vec<u64>);

impl Memory {
    fn of(tid: u32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{tid}/stat")).ok()?)
    }

    /// The name stands in brackets and may hold anything; the field behind it is the third.
    fn parse(stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
        let numbered = (3..).zip(rest.split_ascii_whitespace());
        let parts = numbered.filter(|(number, _)| matches!(number, 26..=28 | 45..=51));
        parts.map(|(_, part)| part.parse().ok()).collect::<Option<_>>().map(Self)
    }
}

/// What names one open for execution until it is released, where the monitor wants to know. The filesystem keeps it with
/// the open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticket(u32);

impl Ticket {
    /// How many bits it has. A number that comes again after so many can end a note of another open, whose interpreter is
    /// then checked as a program too.
    pub const BITS: u32 = 24;

    /// For opens that are not told apart.
    pub const NONE: Self = Self(0);

    /// The ticket as a number.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The ticket that [`Ticket::bits`] gave; what is beyond its bits is dropped.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    fn next(self) -> Self {
        match Self::from_bits(self.0.wrapping_add(1)) {
            Self::NONE => Self(1),
            next => next,
        }
    }
}

/// The notes, by thread id.
#[derive(Debug)]
pub(crate) struct ExecNotes(Mutex<Notes>);

#[derive(Debug)]
struct Notes {
    expected: LruCache<u32, Expected>,
    last: Ticket,
}

#[derive(Debug)]
struct Expected {
    inode: InodeId,
    ticket: Ticket,
    memory: Option<Memory>,
}

impl ExecNotes {
    pub fn new() -> Self {
        Self(Mutex::new(Notes { expected: LruCache::new(NOTES), last: Ticket::NONE }))
    }

    /// Notes that `tid`'s next exec open is its interpreter if it is `inode`, until the open with this ticket ends.
    ///
    /// Not for thread 0: that is every thread whose id cannot be seen, and one must not profit from another's.
    pub fn expect(&self, tid: u32, inode: InodeId) -> Ticket {
        if tid == 0 {
            return Ticket::NONE;
        }
        let memory = Memory::of(tid);
        let mut notes = self.0.lock();
        notes.last = notes.last.next();
        let ticket = notes.last;
        notes.expected.put(tid, Expected { inode, ticket, memory });
        ticket
    }

    /// Whether an exec open of `inode` by `tid` is the interpreter that was expected. Uses the note up.
    pub fn take(&self, tid: u32, inode: InodeId) -> bool {
        let noted = self.0.lock().expected.pop(&tid);
        noted.is_some_and(|noted| noted.inode == inode && noted.memory == Memory::of(tid))
    }

    /// The open with this ticket has ended: what it was followed by was no part of its exec.
    pub fn end(&self, ticket: Ticket) {
        if ticket == Ticket::NONE {
            return;
        }
        let mut notes = self.0.lock();
        // There are as many as threads just now between two opens: hardly any.
        let of_it = notes.expected.iter().find(|(_, noted)| noted.ticket == ticket).map(|(tid, _)| *tid);
        if let Some(tid) = of_it {
            notes.expected.pop(&tid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    #[test]
    fn a_note_serves_once_and_for_its_inode_only() {
        let notes = ExecNotes::new();
        notes.expect(7, (1, 2));
        assert!(!notes.take(8, (1, 2)));
        assert!(notes.take(7, (1, 2)));
        assert!(!notes.take(7, (1, 2)));
        notes.expect(7, (1, 2));
        assert!(!notes.take(7, (1, 3)));
        assert!(!notes.take(7, (1, 2)), "a wrong inode uses the note up");
    }

    #[test]
    fn a_note_ends_with_the_open_it_was_made_for_and_no_other() {
        let notes = ExecNotes::new();
        let (first, second) = (notes.expect(7, (1, 2)), notes.expect(8, (1, 2)));
        notes.end(first);
        notes.end(Ticket::NONE);
        assert!(!notes.take(7, (1, 2)));
        assert!(notes.take(8, (1, 2)));
        let third = notes.expect(7, (1, 2));
        notes.end(second);
        notes.end(first);
        assert!(notes.take(7, (1, 2)));
        notes.end(third);
    }

    #[test]
    fn a_note_ends_when_the_exec_it_was_made_for_has_succeeded() {
        for (script, same) in
            [("echo ready; read line; exec sleep 60", false), ("echo ready; read line; read line", true)]
        {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = shell.spawn().unwrap();
            let pid = child.id();
            let name = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            // Its memory is laid out a moment after it has its name.
            let mut ready = [0; 6];
            child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
            let notes = ExecNotes::new();
            notes.expect(pid, (1, 2));
            writeln!(child.stdin.as_ref().unwrap(), "go").unwrap();
            while !same && name() != "sleep\n" {
                std::thread::yield_now();
            }
            assert_eq!(notes.take(pid, (1, 2)), same, "{script}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_name_with_brackets_is_passed_over() {
        let fields: Vec<String> = (3..=52).map(|number: u32| number.to_string()).collect();
        let stat = format!("7 (a) b) {}\n", fields.join(" "));
        let memory = Memory(vec![26, 27, 28, 45, 46, 47, 48, 49, 50, 51]);
        assert_eq!(Memory::parse(stat.as_bytes()), Some(memory));
        assert_eq!(Memory::parse(b"7 (a S 1"), None);
    }

    #[test]
    fn tickets_fit_their_bits_and_none_is_nobodys() {
        let notes = ExecNotes::new();
        notes.0.lock().last = Ticket::from_bits(u32::MAX);
        assert_eq!(notes.expect(7, (1, 2)), Ticket(1));
        assert_eq!(Ticket::from_bits(Ticket(5).bits()), Ticket(5));
    }

    #[test]
    fn threads_that_cannot_be_told_apart_have_no_note() {
        let notes = ExecNotes::new();
        notes.expect(0, (1, 2));
        assert!(!notes.take(0, (1, 2)));
    }
}
