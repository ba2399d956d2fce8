//! What the monitor needs to know of a file, as a trait that the filesystem's inode record implements.
//!
//! The monitor never opens a path: it asks the object for descriptors of that very inode, so that what is
//! checked is what will be served.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::state::FileState;

/// The names of a file, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Paths as [`Object::path`] has them: the one by which the file was last looked up, then its others. Where rules ask
    /// for paths a file without one is refused.
    pub paths: Vec<Vec<u8>>,
    /// There are others that are not known.
    pub more: bool,
}

/// One inode of the filesystem, shared between its table, its open files and the monitor's work.
pub trait Object: Send + Sync {
    /// What the monitor remembers of this inode. One per record, living exactly as long.
    fn state(&self) -> &FileState;

    /// A descriptor of this inode for `statx` and, through `/proc/self/fd`, its extended attributes.
    ///
    /// `O_PATH` is enough.
    ///
    /// # Errors
    /// Whatever opening it again gave; the check then could not be made and the open is denied.
    fn stat_fd(&self) -> io::Result<Arc<OwnedFd>>;

    /// A descriptor of this inode open for reading from its start.
    ///
    /// # Errors
    /// As for [`Object::stat_fd`].
    fn read_fd(&self) -> io::Result<Arc<OwnedFd>>;

    /// Whether anybody at all has this inode open for writing on the backing filesystem, a writable mapping that
    /// outlived its descriptor included.
    ///
    /// Asked only when no open for writing stands by the monitor's own count. With passthrough a mapping belongs
    /// to the backing file, so the open that made it can end before the mapping does.
    ///
    /// # Errors
    /// When it cannot be found out; the inode then counts as written.
    fn is_written(&self) -> io::Result<bool>;

    /// Whether anybody at all has this inode open on the backing filesystem, a mapping that outlived its descriptor
    /// included; the monitor's and the filesystem's own descriptors do not count.
    ///
    /// Asked only when no open stands by the monitor's own count.
    ///
    /// # Errors
    /// When it cannot be found out; the inode then counts as in use.
    fn is_in_use(&self) -> io::Result<bool>;

    /// The absolute path in the mount by which it was last looked up, for records.
    ///
    /// Bytes, beginning with `/`; the last component alone when no path leads to it any more, or too long a one.
    fn path(&self) -> Vec<u8>;

    /// What it is called, for `path=` rules; asked when an access arrives. `links` is how many names it has.
    fn names(&self, links: u32) -> Names;

    /// The inode (device, number) that `path` names from the mount's root, symlinks followed inside the root.
    ///
    /// Used to recognise the ELF interpreter that the kernel opens by itself during an exec. `None` when
    /// nothing is there.
    fn resolve(&self, path: &[u8]) -> Option<(u64, u64)>;
}
