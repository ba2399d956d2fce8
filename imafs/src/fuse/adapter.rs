//! fuser's trait: decode, call, reply. One request, one operation; no handler decides anything.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, INodeNo, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::answer;
use super::convert::{caller, errno, file_type, ino, set_time};
use super::device::Device;
use super::init::negotiate;
use super::pending::Pending;
use super::wire::Message;
use crate::fs::{Attr, DirOpened, Entry, Errno, Filesystem, Ino, Looked, SetAttr};

/// The least room that a READDIRPLUS leaves for entries: one page. Newer kernels leave more, but fuser does not
/// tell how much.
const LISTING_ROOM: usize = 4096;

/// Stands between fuser and the filesystem.
pub(super) struct Adapter {
    fs: Arc<Filesystem>,
    device: Arc<Device>,
}

impl Adapter {
    pub(super) fn new(fs: Arc<Filesystem>, device: Arc<Device>) -> Self {
        Self { fs, device }
    }

    /// For the whole of a handler: when it ends, opens that wait for their turn are looked at.
    fn turn(&self) -> Turn<'_> {
        Turn(&self.fs)
    }

    fn entry(&self, request: &Request, reply: ReplyEntry, result: Result<Entry, Errno>) {
        self.looked(request, reply, result.map(Looked::Found));
    }

    fn looked(&self, request: &Request, reply: ReplyEntry, result: Result<Looked, Errno>) {
        answer::looked(Pending::new(&self.device, request, reply), result);
    }

    fn attr(&self, request: &Request, node: Ino, reply: ReplyAttr, result: Result<Attr, Errno>) {
        let ttl = if node.control().is_some() { Duration::ZERO } else { self.fs.ttl() };
        answer::attr(Pending::new(&self.device, request, reply), ttl, result);
    }
}

/// See [`Adapter::turn`].
struct Turn<'a>(&'a Arc<Filesystem>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.request_handled();
    }
}

impl fuser::Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        self.fs.set_negotiated(negotiate(&self.fs, config));
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _turn = self.turn();
        self.looked(req, reply, self.fs.lookup(ino(parent), name));
    }

    fn forget(&self, _req: &Request, node: INodeNo, nlookup: u64) {
        let _turn = self.turn();
        self.fs.forget(ino(node), nlookup);
    }

    fn getattr(&self, req: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let _turn = self.turn();
        self.attr(req, ino(node), reply, self.fs.getattr(ino(node)));
    }

    fn setattr(
        &self,
        req: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _turn = self.turn();
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let change = SetAttr { mode, uid, gid, size, atime, mtime };
        self.attr(req, ino(node), reply, self.fs.setattr(ino(node), &change));
    }

    fn readlink(&self, _req: &Request, node: INodeNo, reply: ReplyData) {
        let _turn = self.turn();
        answer::data(reply, self.fs.readlink(ino(node)));
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let _turn = self.turn();
        self.entry(req, reply, self.fs.mknod(&caller(req), ino(parent), name, mode, umask, rdev));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let _turn = self.turn();
        self.entry(req, reply, self.fs.mkdir(&caller(req), ino(parent), name, mode, umask));
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turn();
        answer::empty(reply, self.fs.unlink(ino(parent), name));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turn();
        answer::empty(reply, self.fs.rmdir(ino(parent), name));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        let _turn = self.turn();
        self.entry(req, reply, self.fs.symlink(&caller(req), ino(parent), link_name, target.as_os_str()));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn();
        answer::empty(reply, self.fs.rename(ino(parent), name, ino(newparent), newname, flags.bits()));
    }

    fn link(&self, req: &Request, node: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let _turn = self.turn();
        self.entry(req, reply, self.fs.link(ino(node), ino(newparent), newname));
    }

    fn open(&self, req: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.turn();
        let pending = Pending::new(&self.device, req, reply);
        match ino(node).control() {
            None => self.fs.open(&caller(req), ino(node), flags.0, Box::new(pending)),
            Some(control) => {
                let reply = Box::new(move |result| match result {
                    Ok(fh) => pending.opened_control(fh),
                    Err(error) => pending.error(error),
                });
                self.fs.open_control(&caller(req), control, flags.0, reply);
            }
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _turn = self.turn();
        let pending = Box::new(Pending::new(&self.device, req, reply));
        self.fs.create(&caller(req), ino(parent), name, mode, umask, flags, pending);
    }

    fn read(
        &self,
        _req: &Request,
        node: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _turn = self.turn();
        self.fs.read(ino(node), fh.0, offset, size, Box::new(move |result| answer::data(reply, result)));
    }

    fn write(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _turn = self.turn();
        if ino(node).control().is_some() {
            let reply = Box::new(move |result| answer::written(reply, result));
            return self.fs.write_control(&caller(req), ino(node), fh.0, offset, data, reply);
        }
        answer::written(reply, self.fs.write(ino(node), offset, data));
    }

    fn flush(
        &self,
        _req: &Request,
        node: INodeNo,
        fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn();
        answer::empty(reply, self.fs.flush(ino(node), fh.0));
    }

    fn release(
        &self,
        _req: &Request,
        node: INodeNo,
        fh: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn();
        self.fs.release(ino(node), fh.0, flags.0);
        reply.ok();
    }

    fn fsync(&self, _req: &Request, node: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let _turn = self.turn();
        self.fs.fsync(ino(node), datasync, answer::later(reply));
    }

    fn opendir(&self, req: &Request, node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.turn();
        match self.fs.opendir(ino(node)) {
            // Here ENOSYS is meant: the kernel then opens directories without asking.
            Ok(DirOpened::NotNeeded) => reply.error(fuser::Errno::ENOSYS),
            Ok(DirOpened::Stream { fh, cache }) => {
                Pending::new(&self.device, req, reply).opened_directory(fh, cache);
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdir(&self, _req: &Request, node: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let _turn = self.turn();
        let listed = self.fs.readdir(ino(node), fh.0, offset, &mut |entry| {
            reply.add(INodeNo(entry.ino), entry.next, file_type(entry.kind), entry.name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(
        &self,
        req: &Request,
        node: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let _turn = self.turn();
        let pending = Pending::new(&self.device, req, reply);
        let mut message = Message::with_capacity(LISTING_ROOM);
        let listed = self.fs.readdirplus(ino(node), fh.0, offset, &mut |listed| {
            message.direntplus(&listed.plain, listed.entry.as_ref(), LISTING_ROOM)
        });
        match listed {
            Ok(()) => pending.send(&message),
            Err(error) => pending.error(error),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        node: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn();
        self.fs.releasedir(ino(node), fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _req: &Request, node: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let _turn = self.turn();
        self.fs.fsyncdir(ino(node), datasync, answer::later(reply));
    }

    fn statfs(&self, _req: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let _turn = self.turn();
        answer::statfs(reply, self.fs.statfs());
    }

    fn setxattr(
        &self,
        req: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn();
        answer::empty(reply, self.fs.setxattr(&caller(req), ino(node), name, value, flags));
    }

    fn getxattr(&self, _req: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let _turn = self.turn();
        self.fs.getxattr(ino(node), name, size, Box::new(move |result| answer::xattr(reply, result)));
    }

    fn listxattr(&self, req: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        let _turn = self.turn();
        answer::xattr(reply, self.fs.listxattr(&caller(req), ino(node), size));
    }

    fn removexattr(&self, req: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turn();
        answer::empty(reply, self.fs.removexattr(&caller(req), ino(node), name));
    }

    fn access(&self, _req: &Request, _node: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        let _turn = self.turn();
        // The kernel checks permissions itself (default_permissions) and need not ask.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let _turn = self.turn();
        match self.fs.ioctl(ino(node), cmd, in_data) {
            Ok(output) => reply.ioctl(0, &output),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn poll(
        &self,
        _req: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let _turn = self.turn();
        // Regular files are always ready, and the kernel says so itself when told not to ask.
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn();
        self.fs.fallocate(ino(node), offset, length, mode, answer::later(reply));
    }

    fn lseek(
        &self,
        _req: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _turn = self.turn();
        match self.fs.lseek(ino(node), offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _turn = self.turn();
        let (from, to) = ((ino(ino_in), offset_in), (ino(ino_out), offset_out));
        self.fs.copy_file_range(from, to, len, Box::new(move |result| answer::written(reply, result)));
    }
}
