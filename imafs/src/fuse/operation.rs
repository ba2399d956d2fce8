//! What requests ask for: the part behind the header, by opcode.

use std::ffi::OsStr;

use super::abi::opcode;
use super::body;
use super::fields::{Fields, Malformed};
use super::request::Dialect;
use crate::fs::{Ino, SetAttr};

/// What INIT offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The kernel's major version.
    pub major: u32,
    /// Its minor version.
    pub minor: u32,
    /// How far it would read ahead, in bytes.
    pub max_readahead: u32,
    /// What it can do.
    pub capabilities: u64,
}

/// What CREATE and TMPFILE say of the file to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFile {
    /// The flags of `open(2)`.
    pub flags: i32,
    /// The mode, with its type.
    pub mode: u32,
    /// The caller's umask.
    pub umask: u32,
}

/// The records of a BATCH_FORGET: a node and how many lookups are taken off it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgets<'a>(pub(super) &'a [u8]);

impl Iterator for Forgets<'_> {
    type Item = (Ino, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let (node, rest) = self.0.split_first_chunk::<8>()?;
        let (lookups, rest) = rest.split_first_chunk::<8>()?;
        self.0 = rest;
        Some((Ino(u64::from_ne_bytes(*node)), u64::from_ne_bytes(*lookups)))
    }
}

/// What a request asks for, with what it says beside the header. `kill` stands for "drop set-id bits".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "variants and fields have the names of requests and of system calls' arguments"
)]
pub enum Operation<'a> {
    Init(Offer),
    Destroy,
    Lookup {
        name: &'a OsStr,
    },
    Forget {
        lookups: u64,
    },
    BatchForget(Forgets<'a>),
    GetAttr,
    Statx,
    SetAttr {
        change: SetAttr,
        kill: bool,
    },
    ReadLink,
    Symlink {
        name: &'a OsStr,
        target: &'a OsStr,
    },
    MkNod {
        name: &'a OsStr,
        mode: u32,
        umask: u32,
        device: u32,
    },
    MkDir {
        name: &'a OsStr,
        mode: u32,
        umask: u32,
    },
    Unlink {
        name: &'a OsStr,
    },
    RmDir {
        name: &'a OsStr,
    },
    Rename {
        name: &'a OsStr,
        to: Ino,
        new_name: &'a OsStr,
        flags: u32,
    },
    Link {
        node: Ino,
        name: &'a OsStr,
    },
    Open {
        flags: i32,
        kill: bool,
    },
    Create {
        name: &'a OsStr,
        file: NewFile,
    },
    TmpFile {
        file: NewFile,
    },
    Read {
        fh: u64,
        offset: u64,
        size: u32,
    },
    Write {
        fh: u64,
        offset: u64,
        data: &'a [u8],
        kill: bool,
    },
    Flush {
        fh: u64,
    },
    Release {
        fh: u64,
        flags: i32,
    },
    Fsync {
        data_only: bool,
    },
    Fallocate {
        offset: u64,
        length: u64,
        mode: i32,
    },
    Lseek {
        offset: i64,
        whence: i32,
    },
    CopyFileRange {
        offset: u64,
        to: Ino,
        to_offset: u64,
        length: u64,
        wide: bool,
    },
    OpenDir,
    ReadDir {
        fh: u64,
        offset: u64,
        size: u32,
    },
    ReadDirPlus {
        fh: u64,
        offset: u64,
        size: u32,
    },
    ReleaseDir {
        fh: u64,
    },
    FsyncDir {
        data_only: bool,
    },
    StatFs,
    SyncFs,
    SetXattr {
        name: &'a OsStr,
        value: &'a [u8],
        flags: i32,
        acl_kills_sgid: bool,
    },
    GetXattr {
        name: &'a OsStr,
        size: u32,
    },
    ListXattr {
        size: u32,
    },
    RemoveXattr {
        name: &'a OsStr,
    },
    Access {
        mask: u32,
    },
    Ioctl {
        command: u32,
        input: &'a [u8],
        room: u32,
    },
    Poll {
        events: u32,
    },
    Lock {
        owner: u64,
        start: u64,
        end: u64,
        kind: u32,
        waits: bool,
        asks: bool,
    },
    Interrupt {
        unique: u64,
    },
    /// None of those this transport knows.
    Unknown,
}

impl<'a> Operation<'a> {
    /// Reads what stands behind the header.
    pub(super) fn parse(opcode: u32, fields: &mut Fields<'a>, dialect: Dialect) -> Result<Self, Malformed> {
        Ok(match opcode {
            opcode::INIT => Self::Init(body::offer(fields)?),
            opcode::DESTROY => Self::Destroy,
            opcode::LOOKUP => Self::Lookup { name: fields.name()? },
            opcode::FORGET => Self::Forget { lookups: fields.u64()? },
            opcode::BATCH_FORGET => Self::BatchForget(body::forgets(fields)?),
            opcode::GETATTR => Self::GetAttr,
            opcode::STATX => Self::Statx,
            opcode::SETATTR => body::set_attr(fields)?,
            opcode::READLINK => Self::ReadLink,
            opcode::SYMLINK => Self::Symlink { name: fields.name()?, target: fields.name()? },
            opcode::MKNOD => body::mknod(fields)?,
            opcode::MKDIR => body::mkdir(fields)?,
            opcode::UNLINK => Self::Unlink { name: fields.name()? },
            opcode::RMDIR => Self::RmDir { name: fields.name()? },
            opcode::RENAME => body::rename(fields, false)?,
            opcode::RENAME2 => body::rename(fields, true)?,
            opcode::LINK => Self::Link { node: Ino(fields.u64()?), name: fields.name()? },
            opcode::OPEN => body::open(fields)?,
            opcode::CREATE => Self::Create { file: body::new_file(fields)?, name: fields.name()? },
            opcode::TMPFILE => Self::TmpFile { file: body::new_file(fields)? },
            opcode::STATFS => Self::StatFs,
            opcode::SYNCFS => Self::SyncFs,
            opcode::SETXATTR => body::set_xattr(fields, dialect)?,
            opcode::GETXATTR => body::get_xattr(fields)?,
            opcode::LISTXATTR => Self::ListXattr { size: fields.u32()? },
            opcode::REMOVEXATTR => Self::RemoveXattr { name: fields.name()? },
            opcode::ACCESS => Self::Access { mask: fields.u32()? },
            opcode::IOCTL => body::ioctl(fields)?,
            opcode::POLL => body::poll(fields)?,
            opcode::GETLK | opcode::SETLK | opcode::SETLKW => body::lock(opcode, fields)?,
            opcode::INTERRUPT => Self::Interrupt { unique: fields.u64()? },
            _ => return Self::of_open(opcode, fields),
        })
    }

    /// The same for requests about what is open.
    fn of_open(opcode: u32, fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        Ok(match opcode {
            opcode::READ => {
                let (fh, offset, size) = body::read(fields)?;
                Self::Read { fh, offset, size }
            }
            opcode::WRITE => body::write(fields)?,
            opcode::FLUSH => Self::Flush { fh: fields.u64()? },
            opcode::RELEASE => Self::Release { fh: fields.u64()?, flags: fields.i32()? },
            opcode::FSYNC => Self::Fsync { data_only: body::data_only(fields)? },
            opcode::FALLOCATE => body::fallocate(fields)?,
            opcode::LSEEK => body::lseek(fields)?,
            opcode::COPY_FILE_RANGE => body::copy_file_range(fields, false)?,
            opcode::COPY_FILE_RANGE_64 => body::copy_file_range(fields, true)?,
            opcode::OPENDIR => Self::OpenDir,
            opcode::READDIR => {
                let (fh, offset, size) = body::read(fields)?;
                Self::ReadDir { fh, offset, size }
            }
            opcode::READDIRPLUS => {
                let (fh, offset, size) = body::read(fields)?;
                Self::ReadDirPlus { fh, offset, size }
            }
            opcode::RELEASEDIR => Self::ReleaseDir { fh: fields.u64()? },
            opcode::FSYNCDIR => Self::FsyncDir { data_only: body::data_only(fields)? },
            _ => Self::Unknown,
        })
    }
}
