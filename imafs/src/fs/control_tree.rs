//! The seam to the control directory: a small tree of generated files that appears as `/.imafs`.

use rustix::fs::FileType;

use super::{Attr, Caller, Errno};

/// A number in the control tree; 0 is its root directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ControlIno(pub u64);

impl ControlIno {
    /// The control directory itself.
    pub const ROOT: Self = Self(0);
}

/// Work that a request leaves behind, for a pool thread.
pub type Deferred = Box<dyn FnOnce() + Send>;

/// The answer to a write, once a file's content is known or cannot be had.
pub type Answer = Box<dyn FnOnce(Result<Vec<u8>, Errno>) -> Result<u32, Errno> + Send>;

/// What a write to a control file came to.
pub enum Written {
    /// It is answered.
    Done(Result<u32, Errno>),
    /// The answer depends on what a file of the mount holds, which the filesystem reads through the monitor.
    Reads {
        /// The file's path in the mount.
        path: Vec<u8>,
        /// What the answer is, given the content.
        then: Answer,
    },
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done(result) => f.debug_tuple("Done").field(result).finish(),
            Self::Reads { path, then: _ } => {
                f.debug_struct("Reads").field("path", path).finish_non_exhaustive()
            }
        }
    }
}

/// What the filesystem asks of the control directory. Its files hold nothing of the container's, so they are
/// opened without a grant, and they are answered in a way that cannot carry a backing file.
pub trait ControlTree: Send + Sync {
    /// The entry `name` of the directory `parent`.
    fn lookup(&self, parent: ControlIno, name: &[u8]) -> Option<ControlIno>;

    /// Attributes; `Attr::ino` is what `stat(2)` shows.
    ///
    /// # Errors
    /// [`Errno::NOENT`] or [`Errno::STALE`] when there is no such inode any more.
    fn attr(&self, ino: ControlIno) -> Result<Attr, Errno>;

    /// The entries of a directory, without `.` and `..`.
    fn readdir(&self, ino: ControlIno) -> Vec<(ControlIno, FileType, Vec<u8>)>;

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`Errno::INVAL`] for anything else.
    fn readlink(&self, ino: ControlIno) -> Result<Vec<u8>, Errno>;

    /// Opens a file; the handle names this open in the calls below. Called in a pool thread.
    ///
    /// # Errors
    /// What `open(2)` is to return.
    fn open(&self, ino: ControlIno, flags: i32, caller: &Caller) -> Result<u64, Errno>;

    /// Reads from an open file; fewer bytes than asked for mean the end, for now. Called in a pool thread.
    ///
    /// # Errors
    /// What `read(2)` is to return.
    fn read(&self, fh: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno>;

    /// Writes to an open file. Called in a pool thread, one write of a file at a time.
    fn write(&self, fh: u64, offset: u64, data: &[u8], caller: &Caller) -> Written;

    /// One descriptor of an open file is being closed; there may be others. Who closes must not be looked at: it may be a
    /// program being started, which holds locks that `/proc` waits for until this is answered.
    ///
    /// # Errors
    /// What `close(2)` is to return.
    fn flush(&self, fh: u64) -> Result<(), Errno>;

    /// Ends an open: the last descriptor was closed. What was written takes effect here, in request order, so that
    /// every later request finds it.
    fn release(&self, fh: u64) -> Option<Deferred>;
}
