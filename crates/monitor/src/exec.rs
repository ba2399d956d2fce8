//! Recognising the ELF interpreter that the kernel opens by itself during an exec.
//!
//! The kernel opens it with the same flag as the program, right after the program and in the same thread, but
//! maps it instead of running `BPRM_CHECK` on it. So when a thread's exec open of an ELF file is granted, the
//! inode its `PT_INTERP` names is noted; the next exec open of that thread is the interpreter if it is that
//! inode, and a program otherwise. The note serves once.

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

/// The notes, by thread id.
#[derive(Debug)]
pub(crate) struct ExecNotes {
    expected: Mutex<LruCache<u32, InodeId>>,
}

impl ExecNotes {
    pub fn new() -> Self {
        Self { expected: Mutex::new(LruCache::new(NOTES)) }
    }

    /// Notes that `tid`'s next exec open is its interpreter if it is `inode`.
    ///
    /// Not for thread 0: that is every thread whose id cannot be seen, and one must not profit from another's.
    pub fn expect(&self, tid: u32, inode: InodeId) {
        if tid != 0 {
            self.expected.lock().put(tid, inode);
        }
    }

    /// Whether an exec open of `inode` by `tid` is the interpreter that was expected. Uses the note up.
    pub fn take(&self, tid: u32, inode: InodeId) -> bool {
        self.expected.lock().pop(&tid) == Some(inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn threads_that_cannot_be_told_apart_have_no_note() {
        let notes = ExecNotes::new();
        notes.expect(0, (1, 2));
        assert!(!notes.take(0, (1, 2)));
    }
}
