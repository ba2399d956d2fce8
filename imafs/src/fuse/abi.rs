//! Numbers of the kernel's protocol: opcodes, capabilities and flags.
//!
//! Source: include/uapi/linux/fuse.h, protocol 7.45 (Linux 6.18).

use bitflags::bitflags;

/// The protocol's major version.
pub const MAJOR: u32 = 7;

/// The minor version that this transport was written from. Of it and the kernel's the smaller one is spoken.
pub const MINOR: u32 = 45;

/// The oldest minor version understood: Linux 5.4. Since then the layouts only grew, by agreement at INIT.
pub const MINOR_MIN: u32 = 31;

/// Length of `struct fuse_in_header`.
pub const IN_HEADER_LEN: usize = 40;

/// The kernel refuses to give a request to a smaller buffer (`FUSE_MIN_READ_BUFFER`).
pub const MIN_READ_BUFFER: usize = 8192;

/// What requests are for.
#[expect(missing_docs, reason = "they are the kernel's names, FUSE_LOOKUP and so on")]
pub mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const SETXATTR: u32 = 21;
    pub const GETXATTR: u32 = 22;
    pub const LISTXATTR: u32 = 23;
    pub const REMOVEXATTR: u32 = 24;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const GETLK: u32 = 31;
    pub const SETLK: u32 = 32;
    pub const SETLKW: u32 = 33;
    pub const ACCESS: u32 = 34;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const IOCTL: u32 = 39;
    pub const POLL: u32 = 40;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const READDIRPLUS: u32 = 44;
    pub const RENAME2: u32 = 45;
    pub const LSEEK: u32 = 46;
    pub const COPY_FILE_RANGE: u32 = 47;
    pub const SYNCFS: u32 = 50;
    pub const TMPFILE: u32 = 51;
    pub const STATX: u32 = 52;
    pub const COPY_FILE_RANGE_64: u32 = 53;
}

bitflags! {
    /// What kernel and server agree on at INIT, by the kernel's names. The upper half travels in `flags2`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Capabilities: u64 {
        /// Reads ahead are sent as background requests.
        const ASYNC_READ = 1;
        /// Record locks are asked of the server.
        const POSIX_LOCKS = 1 << 1;
        /// OPEN may carry `O_TRUNC`.
        const ATOMIC_O_TRUNC = 1 << 3;
        /// Writes may be larger than a page.
        const BIG_WRITES = 1 << 5;
        /// The server applies the umask.
        const DONT_MASK = 1 << 6;
        /// `flock(2)` is asked of the server.
        const FLOCK_LOCKS = 1 << 10;
        /// Directories take ioctls.
        const HAS_IOCTL_DIR = 1 << 11;
        /// Pages go when GETATTR shows another size or time.
        const AUTO_INVAL_DATA = 1 << 12;
        /// Listings with attributes.
        const DO_READDIRPLUS = 1 << 13;
        /// Those only where they are of use.
        const READDIRPLUS_AUTO = 1 << 14;
        /// Direct reads and writes in parallel pieces.
        const ASYNC_DIO = 1 << 15;
        /// Writes stay in the page cache for a while.
        const WRITEBACK_CACHE = 1 << 16;
        /// Lookups and listings of one directory in parallel.
        const PARALLEL_DIROPS = 1 << 18;
        /// The server drops set-id bits, always.
        const HANDLE_KILLPRIV = 1 << 19;
        /// The kernel checks POSIX ACLs.
        const POSIX_ACL = 1 << 20;
        /// `max_pages` is given.
        const MAX_PAGES = 1 << 22;
        /// Targets of symbolic links are kept.
        const CACHE_SYMLINKS = 1 << 23;
        /// OPENDIR may be answered with ENOSYS.
        const NO_OPENDIR_SUPPORT = 1 << 24;
        /// The server drops set-id bits where the request says so.
        const HANDLE_KILLPRIV_V2 = 1 << 28;
        /// SETXATTR has a second word of flags.
        const SETXATTR_EXT = 1 << 29;
        /// There is an upper half.
        const INIT_EXT = 1 << 30;
        /// Names can be expired without being dropped.
        const HAS_EXPIRE_ONLY = 1 << 35;
        /// Backing files can be lent.
        const PASSTHROUGH = 1 << 37;

        // What else the kernel may offer is kept, and not asked for.
        const _ = !0;
    }
}

/// `FOPEN_DIRECT_IO`: no pages are kept.
pub const FOPEN_DIRECT_IO: u32 = 1;
/// `FOPEN_KEEP_CACHE`: the pages that are there may be used.
pub const FOPEN_KEEP_CACHE: u32 = 1 << 1;
/// `FOPEN_CACHE_DIR`: the listing may be kept.
pub const FOPEN_CACHE_DIR: u32 = 1 << 3;
/// `FOPEN_NOFLUSH`: no FLUSH when the file is closed.
pub const FOPEN_NOFLUSH: u32 = 1 << 5;
/// `FOPEN_PASSTHROUGH`: the file is read and written where it is lent from.
pub const FOPEN_PASSTHROUGH: u32 = 1 << 7;

/// `FATTR_*`: which fields of SETATTR are meant.
pub(super) mod fattr {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
    pub const KILL_SUIDGID: u32 = 1 << 11;
}

/// `FUSE_OPEN_KILL_SUIDGID`.
pub(super) const OPEN_KILL_SUIDGID: u32 = 1;
/// `FUSE_WRITE_KILL_SUIDGID`.
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `FUSE_SETXATTR_ACL_KILL_SGID`.
pub(super) const SETXATTR_ACL_KILL_SGID: u32 = 1;
/// `FUSE_FSYNC_FDATASYNC`.
pub(super) const FSYNC_FDATASYNC: u32 = 1;
