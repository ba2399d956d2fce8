//! What was asked of the kernel in `record.rs`, and so what its requests say.

use std::ffi::OsStr;

use imafs::fs::{SetAttr, SetTime};
use imafs::fuse::request::{Forgets, NewFile, Operation};

/// Who made the system calls.
pub const UID: u32 = 1234;
/// The same.
pub const GID: u32 = 4321;

/// One recorded request.
pub struct Known {
    /// The file in `fuzz/corpus/request`.
    pub name: &'static str,
    /// The request's number in `enum fuse_opcode`.
    pub opcode: u32,
    /// What stands in the request and in no other of its kind that was recorded, or nothing.
    marker: &'static [u8],
    /// Whether this is what was asked for.
    pub says: fn(&Operation<'_>) -> bool,
}

impl Known {
    /// Whether these are the bytes of this request, without reading them.
    pub fn is(&self, request: &[u8]) -> bool {
        request[4..8] == self.opcode.to_ne_bytes()
            && (self.marker.is_empty()
                || request[40..].windows(self.marker.len()).any(|part| part == self.marker))
    }
}

macro_rules! known {
    ($($name:literal, $opcode:literal, $marker:expr, $says:pat $(if $guard:expr)?,)*) => {
        /// All of them.
        pub const ALL: &[Known] = &[$(Known {
            name: $name,
            opcode: $opcode,
            marker: $marker,
            says: |operation| matches!(*operation, $says $(if $guard)?),
        }),*];
    };
}

/// `O_RDONLY`, `O_DIRECT` and the kernel's own `O_LARGEFILE`, which is 0 to the C library.
const DIRECT: i32 = libc::O_DIRECT | 0o100_000;

/// No change of attributes.
const NONE: SetAttr = SetAttr { mode: None, uid: None, gid: None, size: None, atime: None, mtime: None };

fn is(name: &OsStr, expected: &str) -> bool {
    name == expected
}

fn few_each(mut forgets: Forgets<'_>) -> bool {
    forgets.all(|(node, lookups)| node.0 > 1 && (1..100).contains(&lookups))
}

fn times(change: SetAttr) -> bool {
    let mtime = Some(SetTime::At(-2, 800_000_000));
    // The kernel sends the present along with the word that it is meant.
    matches!(change.atime, Some(SetTime::Now)) && change == SetAttr { atime: change.atime, mtime, ..NONE }
}

known! {
    "init", 26, b"", Operation::Init(offer) if offer.major == 7 && offer.minor >= 45 && offer.capabilities >> 37 & 1 == 1,
    "lookup", 1, "näme\0".as_bytes(), Operation::Lookup { name } if is(name, "näme"),
    "forget", 2, b"", Operation::Forget { lookups: 1..100 },
    "batch_forget", 42, b"", Operation::BatchForget(forgets) if forgets.count() > 1 && few_each(forgets),
    "getattr", 3, b"", Operation::GetAttr,
    "statx", 52, b"", Operation::Statx,
    "setattr-mode", 4, &0o100_640_u32.to_ne_bytes(), Operation::SetAttr { change, kill: false }
        if change.mode.is_some_and(|mode| mode & 0o7777 == 0o640) && change == SetAttr { mode: change.mode, ..NONE },
    "setattr-owner", 4, &[0xe8, 3, 0, 0, 0xe9, 3, 0, 0], Operation::SetAttr { change, .. }
        if change == SetAttr { uid: Some(1000), gid: Some(1001), mode: change.mode, ..NONE },
    "setattr-size", 4, &[5, 0, 0, 0, 0, 0, 0, 0], Operation::SetAttr { change, .. } if change.size == Some(5),
    "setattr-times", 4, &(-2_i64).to_ne_bytes(), Operation::SetAttr { change, kill: false } if times(change),
    "readlink", 5, b"", Operation::ReadLink,
    "symlink", 6, b"", Operation::Symlink { name, target } if is(name, "link") && is(target, "target/of/the link"),
    "mknod", 8, b"", Operation::MkNod { name, mode: 0o010_640, umask: 0o027, device: 0 } if is(name, "fifo"),
    "mkdir", 9, b"", Operation::MkDir { name, mode: 0o751, umask: 0o027 } if is(name, "directory"),
    "unlink", 10, b"", Operation::Unlink { name } if is(name, "second"),
    "rmdir", 11, b"", Operation::RmDir { name } if is(name, "directory"),
    "rename", 12, b"", Operation::Rename { name, to, new_name, flags: 0 }
        if is(name, "fifo") && is(new_name, "pipe") && to.0 > 1,
    "rename2", 45, b"", Operation::Rename { name, to, new_name, flags: 1 }
        if is(name, "copy") && is(new_name, "moved") && to.0 > 1,
    "link", 13, b"", Operation::Link { node, name } if is(name, "second") && node.0 > 1,
    "open", 14, &DIRECT.to_ne_bytes(), Operation::Open { flags: DIRECT, kill: false },
    "create", 35, b"file\0", Operation::Create { name, file: NewFile { flags, mode: 0o100_604, umask: 0o027 } }
        if is(name, "file") && flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_EXCL) == libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
    "tmpfile", 51, b"", Operation::TmpFile { file: NewFile { flags, mode: 0o100_600, umask: 0o027 } }
        if flags & libc::O_TMPFILE == libc::O_TMPFILE,
    "read", 15, &4096_u64.to_ne_bytes(), Operation::Read { offset: 4096, size: 512, .. },
    "write", 16, b"recorded", Operation::Write { offset: 12_345, data: b"recorded", .. },
    "flush", 25, b"", Operation::Flush { .. },
    "release", 18, &DIRECT.to_ne_bytes(), Operation::Release { flags: DIRECT, .. },
    "fdatasync", 20, &[1, 0, 0, 0, 0, 0, 0, 0], Operation::Fsync { data_only: true },
    "fsync", 20, &[0; 8], Operation::Fsync { data_only: false },
    "fallocate", 43, b"", Operation::Fallocate { offset: 65_536, length: 8192, mode: 1 },
    "lseek", 46, b"", Operation::Lseek { offset: 100, whence: libc::SEEK_DATA },
    "copy_file_range_64", 53, b"", Operation::CopyFileRange { offset: 12_345, to_offset: 77, length: 3, wide: true, .. },
    "copy_file_range", 47, b"", Operation::CopyFileRange { offset: 12_345, to_offset: 77, length: 3, wide: false, .. },
    "opendir", 27, b"", Operation::OpenDir,
    "readdir", 28, b"", Operation::ReadDir { offset, size, .. } if offset > 0 && size >= 4096,
    "readdirplus", 44, b"", Operation::ReadDirPlus { offset: 0, size, .. } if size >= 4096,
    "releasedir", 29, b"", Operation::ReleaseDir { .. },
    "fsyncdir", 30, b"", Operation::FsyncDir { data_only: false },
    "statfs", 17, b"", Operation::StatFs,
    "setxattr", 21, b"user.name\0value", Operation::SetXattr { name, value: b"value", flags: 1, acl_kills_sgid: false }
        if is(name, "user.name"),
    "getxattr", 22, b"user.name\0", Operation::GetXattr { name, size: 99 } if is(name, "user.name"),
    "listxattr", 23, b"", Operation::ListXattr { size: 98 },
    "removexattr", 24, b"", Operation::RemoveXattr { name } if is(name, "user.name"),
    "access", 34, &5_u32.to_ne_bytes(), Operation::Access { mask: 5 },
    "ioctl", 39, b"", Operation::Ioctl { command: 0x8008_6601, input: b"", room: 4 },
    "poll", 40, b"", Operation::Poll { events } if events & 1 == 1,
    "getlk", 31, b"", Operation::Lock { start: 5, end: 11, kind: 1, waits: false, asks: true, .. },
    "setlk", 32, &[0xff; 7], Operation::Lock { start: 0, end: 0x7fff_ffff_ffff_ffff, kind: 1, waits: false, asks: false, .. },
    "setlkw", 33, b"", Operation::Lock { start: 0, end: 0x7fff_ffff_ffff_ffff, kind: 0, waits: true, asks: false, .. },
    "interrupt", 36, b"", Operation::Interrupt { unique } if unique > 0,
}
