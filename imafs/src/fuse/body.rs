//! The structures behind the headers of requests, one function for each.

use super::abi::{
    FSYNC_FDATASYNC, OPEN_KILL_SUIDGID, SETXATTR_ACL_KILL_SGID, WRITE_KILL_SUIDGID, fattr, opcode,
};
use super::fields::{Fields, Malformed};
use super::operation::{Forgets, NewFile, Offer, Operation};
use super::request::Dialect;
use crate::fs::{Ino, SetAttr, SetTime};

/// `struct fuse_init_in`; kernels before 5.17 send its first 16 bytes.
pub(super) fn offer(body: &mut Fields<'_>) -> Result<Offer, Malformed> {
    let (major, minor) = (body.u32()?, body.u32()?);
    let (max_readahead, low) = (body.u32()?, body.u32()?);
    let high = body.u32().unwrap_or(0);
    Ok(Offer { major, minor, max_readahead, capabilities: u64::from(high) << 32 | u64::from(low) })
}

/// `struct fuse_batch_forget_in` and its records.
pub(super) fn forgets<'a>(body: &mut Fields<'a>) -> Result<Forgets<'a>, Malformed> {
    let count = body.u32()?;
    body.skip::<4>()?;
    Ok(Forgets(body.bytes(count.checked_mul(16).ok_or(Malformed::Truncated)?)?))
}

/// `struct fuse_setattr_in`.
pub(super) fn set_attr<'a>(body: &mut Fields<'_>) -> Result<Operation<'a>, Malformed> {
    let valid = body.u32()?;
    body.skip::<12>()?;
    let size = body.u64()?;
    body.skip::<8>()?;
    let (atime, mtime) = (body.i64()?, body.i64()?);
    body.skip::<8>()?;
    let (atimensec, mtimensec) = (body.u32()?, body.u32()?);
    body.skip::<4>()?;
    let mode = body.u32()?;
    body.skip::<4>()?;
    let (uid, gid) = (body.u32()?, body.u32()?);
    body.skip::<4>()?;
    let has = |flag: u32| valid & flag != 0;
    let time = |given: u32, now: u32, at: SetTime| match (has(given), has(now)) {
        (_, true) => Some(SetTime::Now),
        (true, false) => Some(at),
        (false, false) => None,
    };
    let change = SetAttr {
        mode: has(fattr::MODE).then_some(mode),
        uid: has(fattr::UID).then_some(uid),
        gid: has(fattr::GID).then_some(gid),
        size: has(fattr::SIZE).then_some(size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, SetTime::At(atime, atimensec)),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, SetTime::At(mtime, mtimensec)),
    };
    Ok(Operation::SetAttr { change, kill: has(fattr::KILL_SUIDGID) })
}

/// `struct fuse_mknod_in` and the name.
pub(super) fn mknod<'a>(body: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let (mode, device, umask) = (body.u32()?, body.u32()?, body.u32()?);
    body.skip::<4>()?;
    Ok(Operation::MkNod { name: body.name()?, mode, umask, device })
}

/// `struct fuse_mkdir_in` and the name.
pub(super) fn mkdir<'a>(body: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let (mode, umask) = (body.u32()?, body.u32()?);
    Ok(Operation::MkDir { name: body.name()?, mode, umask })
}

/// `struct fuse_rename_in` or `struct fuse_rename2_in`, and both names.
pub(super) fn rename<'a>(body: &mut Fields<'a>, flagged: bool) -> Result<Operation<'a>, Malformed> {
    let to = Ino(body.u64()?);
    let flags = if flagged { body.u32()? } else { 0 };
    if flagged {
        body.skip::<4>()?;
    }
    Ok(Operation::Rename { name: body.name()?, to, new_name: body.name()?, flags })
}

/// `struct fuse_open_in`.
pub(super) fn open<'a>(body: &mut Fields<'_>) -> Result<Operation<'a>, Malformed> {
    let flags = body.i32()?;
    Ok(Operation::Open { flags, kill: body.u32()? & OPEN_KILL_SUIDGID != 0 })
}

/// `struct fuse_create_in`. Its word of open flags is of no use to a file that is new.
pub(super) fn new_file(body: &mut Fields<'_>) -> Result<NewFile, Malformed> {
    let file = NewFile { flags: body.i32()?, mode: body.u32()?, umask: body.u32()? };
    body.skip::<4>()?;
    Ok(file)
}

/// `struct fuse_read_in`: handle, offset and size.
pub(super) fn read(body: &mut Fields<'_>) -> Result<(u64, u64, u32), Malformed> {
    Ok((body.u64()?, body.u64()?, body.u32()?))
}

/// `struct fuse_write_in` and the data.
pub(super) fn write<'a>(body: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let (fh, offset, size, flags) = (body.u64()?, body.u64()?, body.u32()?, body.u32()?);
    body.skip::<16>()?;
    Ok(Operation::Write { fh, offset, data: body.bytes(size)?, kill: flags & WRITE_KILL_SUIDGID != 0 })
}

/// `struct fuse_fsync_in`.
pub(super) fn data_only(body: &mut Fields<'_>) -> Result<bool, Malformed> {
    body.skip::<8>()?;
    Ok(body.u32()? & FSYNC_FDATASYNC != 0)
}

/// `struct fuse_fallocate_in`.
pub(super) fn fallocate<'a>(body: &mut Fields<'_>) -> Result<Operation<'a>, Malformed> {
    body.skip::<8>()?;
    Ok(Operation::Fallocate { offset: body.u64()?, length: body.u64()?, mode: body.i32()? })
}

/// `struct fuse_lseek_in`.
pub(super) fn lseek<'a>(body: &mut Fields<'_>) -> Result<Operation<'a>, Malformed> {
    body.skip::<8>()?;
    Ok(Operation::Lseek { offset: body.i64()?, whence: body.i32()? })
}

/// `struct fuse_copy_file_range_in`. The `wide` request is the same with a longer answer.
pub(super) fn copy_file_range<'a>(body: &mut Fields<'_>, wide: bool) -> Result<Operation<'a>, Malformed> {
    body.skip::<8>()?;
    let (offset, to) = (body.u64()?, Ino(body.u64()?));
    body.skip::<8>()?;
    let (to_offset, length) = (body.u64()?, body.u64()?);
    body.skip::<8>()?;
    Ok(Operation::CopyFileRange { offset, to, to_offset, length, wide })
}

/// `struct fuse_setxattr_in`, the name and the value.
pub(super) fn set_xattr<'a>(body: &mut Fields<'a>, dialect: Dialect) -> Result<Operation<'a>, Malformed> {
    let (size, flags) = (body.u32()?, body.i32()?);
    let more = if dialect.setxattr_ext { body.u32()? } else { 0 };
    if dialect.setxattr_ext {
        body.skip::<4>()?;
    }
    let (name, value) = (body.name()?, body.bytes(size)?);
    Ok(Operation::SetXattr { name, value, flags, acl_kills_sgid: more & SETXATTR_ACL_KILL_SGID != 0 })
}

/// `struct fuse_getxattr_in` and the name.
pub(super) fn get_xattr<'a>(body: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let size = body.u32()?;
    body.skip::<4>()?;
    Ok(Operation::GetXattr { name: body.name()?, size })
}

/// `struct fuse_ioctl_in` and what the caller's pointer points to.
pub(super) fn ioctl<'a>(body: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    body.skip::<12>()?;
    let command = body.u32()?;
    body.skip::<8>()?;
    let (length, room) = (body.u32()?, body.u32()?);
    Ok(Operation::Ioctl { command, input: body.bytes(length)?, room })
}

/// `struct fuse_poll_in`.
pub(super) fn poll<'a>(body: &mut Fields<'_>) -> Result<Operation<'a>, Malformed> {
    body.skip::<20>()?;
    Ok(Operation::Poll { events: body.u32()? })
}

/// `struct fuse_lk_in`.
pub(super) fn lock<'a>(opcode: u32, body: &mut Fields<'_>) -> Result<Operation<'a>, Malformed> {
    body.skip::<8>()?;
    let (owner, start, end, kind) = (body.u64()?, body.u64()?, body.u64()?, body.u32()?);
    let (waits, asks) = (opcode == opcode::SETLKW, opcode == opcode::GETLK);
    Ok(Operation::Lock { owner, start, end, kind, waits, asks })
}
