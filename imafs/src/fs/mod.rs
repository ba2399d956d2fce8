//! The filesystem's operations, free of FUSE types: plain arguments in, results or deferred replies out.
//!
//! One reader thread calls the operations in the order the requests came, so that who has a file open, and in
//! which order it was opened and closed, is known exactly. What takes long (hashing, signatures, cold reads,
//! fsync) is handed to a pool and answered from there; work of one inode stays in order.
//!
//! One file per family of operations: `lookup` and `forget`, `attr` and `setattr`, `readdir`, `make`, `remove` and
//! `rename`, `xattr`, `open`, `create` and `release`, `data`, `ioctl`, `statfs`, `policy_file`. Beneath them: `backing`
//! (the tree), `vault` (descriptors), `node` and `table` (inode records), `names` and `path` (what they are called),
//! `opens` (who has a record open), `turns` (opens that wait for a close), `watch` (labels owed when a mapping ends),
//! `caller` (credentials for creating), `pool`.
//!
//! This module decides nothing about integrity: it asks the monitor, and only the monitor's grant opens a file.
//! It does not know how replies are encoded. Lock order: see `table` and `node`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use monitor::Monitor;

pub mod attr;
pub mod backing;
mod caller;
pub mod control_tree;
mod create;
mod data;
mod forget;
mod ioctl;
pub mod kernel;
mod lookup;
mod make;
mod names;
mod node;
mod open;
mod opens;
mod path;
mod policy_file;
pub mod pool;
mod readdir;
mod release;
mod remove;
mod rename;
mod setattr;
mod statfs;
mod table;
mod turns;
mod vault;
mod watch;
mod xattr;

pub use attr::{Attr, Extended};
pub use backing::{Backing, BackingError};
pub use caller::Caller;
pub use control_tree::{ControlIno, ControlTree, Deferred, Written};
pub use kernel::{Kernel, Lent, Negotiated};
pub use lookup::{Entry, Looked};
pub use open::{CreateReply, OpenReply, Opened};
pub use opens::Handle;
pub use readdir::{DirEntry, DirOpened, PlusEntry};
pub use rustix::io::Errno;
pub use setattr::{SetAttr, SetTime};
pub use statfs::Statfs;
pub use xattr::XattrAnswer;

use caller::CallerGuard;
use names::Linked;
use pool::Pool;
use readdir::DirStreams;
use table::Table;
use turns::Turns;
use vault::Vault;
use watch::Watched;

/// A node id: a counter within one mount, 1 for the root. Ids from 2^63 up belong to the control directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory.
    pub const ROOT: Self = Self(1);

    /// Where the control directory's ids begin.
    const CONTROL: u64 = 1 << 63;

    /// Whether this is the root directory.
    #[must_use]
    pub fn is_root(self) -> bool {
        self == Self::ROOT
    }

    /// The control inode, if this id belongs to the control directory.
    #[must_use]
    pub fn control(self) -> Option<ControlIno> {
        (self.0 >= Self::CONTROL).then_some(ControlIno(self.0 & !Self::CONTROL))
    }
}

impl From<ControlIno> for Ino {
    fn from(control: ControlIno) -> Self {
        Self(control.0 | Self::CONTROL)
    }
}

/// Who else may write the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// Nobody: the kernel may keep names and attributes for as long as it likes.
    Exclusive,
    /// The host: its edits are seen at the next open.
    Shared,
}

/// How a mount behaves; fixed before the first request.
#[derive(Debug, Clone)]
pub struct FsOptions {
    /// Who else may write the source.
    pub cache: CacheMode,
    /// Whether to lend backing files to the kernel where it can take them.
    pub passthrough: bool,
    /// Files up to this size in bytes, opened for reading, go through the page cache even if they could be lent.
    pub page_cache_limit: u64,
    /// Threads that hash and verify, large files too; there is one more for small ones.
    pub hash_threads: usize,
    /// Whether every change is refused.
    pub read_only: bool,
}

/// Threads for reads from disk, fsync and the like, which wait rather than compute.
const IO_THREADS: usize = 4;

/// Threads that read control files: while one waits for a TPM the other shows the rest.
const CONTROL_THREADS: usize = 2;

/// How long the kernel may keep what it cannot be told to drop: a day, as passthrough_hp has it.
const LONG: Duration = Duration::from_secs(86_400);

/// The name in the root under which the control directory appears.
pub const CONTROL_NAME: &[u8] = b".imafs";

/// The name in the root of an image under which the manifest of its labels is kept. The mount does not show it.
pub const MANIFEST_NAME: &[u8] = manifest::FILE_NAME.as_bytes();

/// One mounted filesystem.
pub struct Filesystem {
    options: FsOptions,
    vault: Arc<Vault>,
    table: Table,
    monitor: Arc<Monitor>,
    control: Option<Arc<dyn ControlTree>>,
    streams: DirStreams,
    /// Hashing, signatures and relabelling, in order per inode.
    checks: Pool,
    /// What waits for the disk, in no order.
    waits: Pool,
    /// What reads control files: it may wait for a TPM or the journal's disk, and nobody else is to wait for those.
    controls: Pool,
    /// What waits for a directory's lock in the kernel. Its holder may itself wait for an answer from `waits`.
    notices: Pool,
    turns: Turns,
    linked: Linked,
    watched: Watched,
    kernel: OnceLock<Arc<dyn Kernel>>,
    negotiated: OnceLock<Negotiated>,
    /// Cleared when the kernel says that nothing of this backing can be lent.
    lending: AtomicBool,
    /// Whether the backing filesystem grants leases; found out with the first file that could be lent.
    leases: OnceLock<bool>,
    /// Opens answered since the mount began, by mode: cached, lent.
    opened: [AtomicU64; 2],
}

impl Filesystem {
    /// Puts the filesystem together; it serves nothing until a transport calls its operations.
    ///
    /// # Errors
    /// What reading the root of the backing tree gives.
    pub fn new(
        backing: Backing,
        monitor: Arc<Monitor>,
        control: Option<Arc<dyn ControlTree>>,
        options: FsOptions,
    ) -> Result<Arc<Self>, Errno> {
        let root = lookup::key_of(&backing, backing.root(), &attr::stat(backing.root())?)?;
        let vault = Arc::new(Vault::new(backing));
        let table = Table::new(root, &vault);
        let pinned = rustix::io::fcntl_dupfd_cloexec(vault.backing().root(), 0)?;
        table.find(Ino::ROOT)?.pin(Arc::new(pinned));
        Ok(Arc::new(Self {
            lending: AtomicBool::new(options.passthrough),
            leases: OnceLock::new(),
            checks: Pool::with_large("imafs-check", options.hash_threads).map_err(thread_error)?,
            waits: Pool::new("imafs-io", IO_THREADS).map_err(thread_error)?,
            controls: Pool::new("imafs-control", CONTROL_THREADS).map_err(thread_error)?,
            notices: Pool::new("imafs-notice", 1).map_err(thread_error)?,
            options,
            vault,
            table,
            monitor,
            control,
            streams: DirStreams::new(),
            turns: Turns::default(),
            linked: Linked::new(),
            watched: Watched::default(),
            kernel: OnceLock::new(),
            negotiated: OnceLock::new(),
            opened: [const { AtomicU64::new(0) }; 2],
        }))
    }

    /// How the mount behaves.
    #[must_use]
    pub fn options(&self) -> &FsOptions {
        &self.options
    }

    /// The monitor that decides its opens.
    #[must_use]
    pub fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }

    /// The backing tree.
    #[must_use]
    pub fn backing(&self) -> &Backing {
        self.vault.backing()
    }

    /// How many descriptors are cached to reach the backing tree.
    #[must_use]
    pub fn cached_descriptors(&self) -> usize {
        self.vault.cached()
    }

    /// Opens answered since the mount began: (through the page cache, lent to the kernel).
    #[must_use]
    pub fn opened(&self) -> (u64, u64) {
        let [cached, lent] = &self.opened;
        (cached.load(Ordering::Relaxed), lent.load(Ordering::Relaxed))
    }

    /// Gives the filesystem its way to speak to the kernel unasked, before the first request.
    pub fn attach(&self, kernel: Arc<dyn Kernel>) {
        // A second transport would be a mistake of ours; the first one stays.
        drop(self.kernel.set(kernel));
    }

    /// Records what the kernel agreed to.
    pub fn set_negotiated(&self, negotiated: Negotiated) {
        // As above.
        drop(self.negotiated.set(negotiated));
    }

    /// What the kernel agreed to; `None` before its first request.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.get()
    }

    /// Whether backing files are lent to the kernel, as far as is known.
    #[must_use]
    pub fn lends(&self) -> bool {
        self.lending.load(Ordering::Relaxed) && self.negotiated().is_some_and(|n| n.passthrough)
    }

    /// Lets queued work finish, as far as anybody wants it still; called when the mount is gone.
    pub fn shut_down(&self) {
        self.monitor.leave();
        self.checks.shut_down();
        self.waits.shut_down();
        self.controls.shut_down();
        self.notices.shut_down();
    }

    fn control(&self) -> Result<&dyn ControlTree, Errno> {
        self.control.as_deref().ok_or(Errno::STALE)
    }

    /// How long the kernel may believe what it was told.
    pub(crate) fn ttl(&self) -> Duration {
        match self.options.cache {
            CacheMode::Exclusive => LONG,
            CacheMode::Shared => Duration::ZERO,
        }
    }

    fn refuse_if_read_only(&self) -> Result<(), Errno> {
        if self.options.read_only { Err(Errno::ROFS) } else { Ok(()) }
    }
}

fn thread_error(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)
}

impl std::fmt::Debug for Filesystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filesystem").field("options", &self.options).finish_non_exhaustive()
    }
}
