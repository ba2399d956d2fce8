//! What the filesystem may ask of the kernel unasked, and what the kernel agreed to.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Errno, Ino};

/// A backing file lent to the kernel. Dropping it takes it back; opens that stand keep it.
pub trait Lent: Send + Sync {
    /// The kernel's number for it.
    fn id(&self) -> u32;
}

/// The other end of the connection.
pub trait Kernel: Send + Sync {
    /// Lends a file, so that the kernel reads and writes it without asking.
    ///
    /// # Errors
    /// [`Errno::LOOP`] when the backing filesystem is stacked too deep, others for this file only.
    fn lend(&self, file: BorrowedFd<'_>) -> Result<Arc<dyn Lent>, Errno>;

    /// Whether requests wait to be read.
    fn has_requests(&self) -> bool;

    /// Asks that a name be looked up again before it is used. Waits for requests that change its directory, so it
    /// must not be called from the handler of one.
    fn expire_name(&self, parent: Ino, name: &OsStr);

    /// Says that attributes of `ino` changed without the kernel's doing.
    fn attributes_changed(&self, ino: Ino);
}

/// What was agreed on at the first request, for `status`.
#[derive(Debug, Clone, Default)]
pub struct Negotiated {
    /// Protocol version of the kernel.
    pub abi: (u32, u32),
    /// Largest write request in bytes.
    pub max_write: u32,
    /// Backing files can be lent.
    pub passthrough: bool,
    /// Directories need not be opened.
    pub no_opendir: bool,
    /// The kernel keeps the targets of symbolic links.
    pub cache_symlinks: bool,
    /// The kernel checks POSIX ACLs.
    pub posix_acl: bool,
    /// Every capability that is in force, by the kernel's name.
    pub features: Vec<String>,
}
