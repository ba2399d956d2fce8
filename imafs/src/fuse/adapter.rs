//! One request, one operation: from what was asked to a call of the filesystem, and on to the answer. No handler
//! decides anything.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use super::device::Device;
use super::pending::{Opening, Owed, Pending};
use super::request::{Header, NewFile, Operation, Request};
use super::wire::Listing;
use crate::fs::{DirOpened, Entry, Errno, Filesystem, Ino, Looked};

/// The most that one listing is answered with. The C library asks for 32 KiB.
const LISTING_MAX: u32 = 128 << 10;

/// The same where each name is looked up as well, by the thread that reads requests: some 80 of them.
const LISTING_PLUS_MAX: u32 = 16 << 10;

/// Stands between the requests and the filesystem.
pub(super) struct Adapter {
    fs: Arc<Filesystem>,
    device: Arc<Device>,
    /// Memory for the next listing.
    listing: Vec<u8>,
}

impl Adapter {
    pub(super) fn new(fs: Arc<Filesystem>, device: Arc<Device>) -> Self {
        Self { fs, device, listing: Vec::new() }
    }

    /// Handles one request.
    pub(super) fn handle(&mut self, request: &Request<'_>) {
        let Request { header, operation } = request;
        let (node, caller) = (header.node, &header.caller);
        // These are not answered.
        match *operation {
            Operation::Forget { lookups } => return self.fs.forget(node, lookups),
            Operation::BatchForget(forgets) => {
                return forgets.for_each(|(node, lookups)| self.fs.forget(node, lookups));
            }
            _ => {}
        }
        let fs = &self.fs;
        let reply = match Owed::to(header, &self.device) {
            Owed::Opening(reply) => return self.opening(header, operation, reply),
            Owed::Plain(reply) => reply,
        };
        match *operation {
            Operation::Lookup { name } => reply.looked(fs.lookup(node, name)),
            Operation::GetAttr => reply.attr(self.attr_ttl(node), fs.getattr(node)),
            Operation::Statx => reply.extended(self.attr_ttl(node), fs.statx(node)),
            Operation::SetAttr { change, kill: _ } => {
                reply.attr(self.attr_ttl(node), fs.setattr(node, &change));
            }
            Operation::ReadLink => reply.data(fs.readlink(node)),
            Operation::Symlink { name, target } => made(reply, fs.symlink(caller, node, name, target)),
            Operation::MkNod { name, mode, umask, device } => {
                made(reply, fs.mknod(caller, node, name, mode, umask, device));
            }
            Operation::MkDir { name, mode, umask } => made(reply, fs.mkdir(caller, node, name, mode, umask)),
            Operation::Link { node: linked, name } => made(reply, fs.link(linked, node, name)),
            Operation::Unlink { name } => reply.empty(fs.unlink(node, name)),
            Operation::RmDir { name } => reply.empty(fs.rmdir(node, name)),
            Operation::Rename { name, to, new_name, flags } => {
                reply.empty(fs.rename(node, name, to, new_name, flags));
            }
            Operation::StatFs => reply.statfs(fs.statfs()),
            Operation::SetXattr { name, value, flags, acl_kills_sgid } => {
                reply.empty(fs.setxattr(caller, node, name, value, flags, acl_kills_sgid));
            }
            Operation::GetXattr { name, size } => {
                fs.getxattr(node, name, size, reply.later(Pending::xattr));
            }
            Operation::ListXattr { size } => reply.xattr(fs.listxattr(caller, node, size)),
            Operation::RemoveXattr { name } => reply.empty(fs.removexattr(caller, node, name)),
            Operation::Ioctl { command, input, room: _ } => reply.ioctl(fs.ioctl(node, command, input)),
            Operation::OpenDir => open_directory(fs, node, reply),
            Operation::ReadDir { fh, offset, size } => self.list(node, fh, offset, size, reply),
            Operation::ReadDirPlus { fh, offset, size } => self.list_plus(node, fh, offset, size, reply),
            Operation::ReleaseDir { fh } => {
                fs.releasedir(node, fh);
                reply.done();
            }
            Operation::FsyncDir { data_only } => fs.fsyncdir(node, data_only, reply.later(Pending::empty)),
            _ => self.content(header, operation, reply),
        }
    }

    /// The same for requests that open a file.
    fn opening(&self, header: &Header, operation: &Operation<'_>, reply: Opening) {
        match *operation {
            Operation::Open { flags, kill: _ } => self.open(header, flags, reply),
            Operation::Create { name, file } => self.create(header, name, file, reply),
            Operation::TmpFile { file: NewFile { flags, mode, umask } } => {
                self.fs.tmpfile(&header.caller, header.node, mode, umask, flags, Box::new(reply));
            }
            // The opcode says which it is, and both come from it.
            _ => reply.error(Errno::IO),
        }
    }

    /// The same for requests about a file's content, and for those that are declined.
    fn content(&self, header: &Header, operation: &Operation<'_>, reply: Pending) {
        let (fs, node) = (&self.fs, header.node);
        match *operation {
            Operation::Read { fh, offset, size } => {
                fs.read(node, fh, offset, size, reply.later(Pending::data));
            }
            Operation::Write { fh, offset, data, kill: _ } => self.write(header, fh, offset, data, reply),
            Operation::Flush { fh } => reply.empty(fs.flush(node, fh)),
            Operation::Release { fh, flags } => {
                fs.release(node, fh, flags);
                reply.done();
            }
            Operation::Fsync { data_only } => fs.fsync(node, data_only, reply.later(Pending::empty)),
            Operation::SyncFs => fs.syncfs(reply.later(Pending::empty)),
            Operation::Fallocate { offset, length, mode } => {
                fs.fallocate(node, offset, length, mode, reply.later(Pending::empty));
            }
            Operation::Lseek { offset, whence } => {
                reply.number(fs.lseek(node, offset, whence).map(i64::cast_unsigned));
            }
            Operation::CopyFileRange { offset, to, to_offset, length, wide } => {
                let answer = if wide { copied } else { Pending::written };
                fs.copy_file_range((node, offset), (to, to_offset), length, reply.later(answer));
            }
            // The kernel checks permissions itself (default_permissions), and keeps locks itself. Regular files are
            // always ready, and the kernel says so itself when told not to ask. Requests that are at work are not
            // interrupted: what an open measures is measured whether somebody waits for it or not.
            _ => reply.unsupported(),
        }
    }

    fn attr_ttl(&self, node: Ino) -> Duration {
        if node.control().is_some() { Duration::ZERO } else { self.fs.ttl() }
    }

    fn open(&self, header: &Header, flags: i32, reply: Opening) {
        match header.node.control() {
            None => self.fs.open(&header.caller, header.node, flags, Box::new(reply)),
            Some(control) => {
                let reply = Box::new(move |result| match result {
                    Ok(fh) => reply.opened_control(fh),
                    Err(error) => reply.error(error),
                });
                self.fs.open_control(&header.caller, control, flags, reply);
            }
        }
    }

    fn create(&self, header: &Header, name: &OsStr, file: NewFile, reply: Opening) {
        let NewFile { flags, mode, umask } = file;
        self.fs.create(&header.caller, header.node, name, mode, umask, flags, Box::new(reply));
    }

    fn write(&self, header: &Header, fh: u64, offset: u64, data: &[u8], reply: Pending) {
        let Header { node, caller, .. } = header;
        match node.control() {
            None => reply.written(self.fs.write(*node, offset, data)),
            Some(_) => {
                let answer = reply.later(Pending::written);
                self.fs.write_control(caller, *node, fh, offset, data, answer);
            }
        }
    }

    fn list(&mut self, node: Ino, fh: u64, offset: u64, size: u32, reply: Pending) {
        let mut listing = self.start_listing(size.min(LISTING_MAX));
        let listed = self.fs.readdir(node, fh, offset, &mut |entry| listing.dirent(&entry));
        self.finish_listing(listing, listed, reply);
    }

    fn list_plus(&mut self, node: Ino, fh: u64, offset: u64, size: u32, reply: Pending) {
        let mut listing = self.start_listing(size.min(LISTING_PLUS_MAX));
        let listed = self.fs.readdirplus(node, fh, offset, &mut |listed| {
            listing.direntplus(&listed.plain, listed.entry.as_ref())
        });
        self.finish_listing(listing, listed, reply);
    }

    fn start_listing(&mut self, size: u32) -> Listing {
        let limit = usize::try_from(size).unwrap_or(0);
        Listing::new(std::mem::take(&mut self.listing), limit)
    }

    /// What was listed before something failed is told: with attributes its lookups count already. The next request goes
    /// on where this one broke off, and fails there.
    fn finish_listing(&mut self, listing: Listing, listed: Result<(), Errno>, reply: Pending) {
        match listed {
            Err(error) if listing.bytes().is_empty() => reply.error(error),
            Ok(()) | Err(_) => reply.send(listing.bytes()),
        }
        self.listing = listing.into_memory();
    }
}

/// Answers what made a name.
fn made(reply: Pending, result: Result<Entry, Errno>) {
    reply.looked(result.map(Looked::Found));
}

/// Answers COPY_FILE_RANGE_64.
fn copied(reply: Pending, result: Result<u32, Errno>) {
    reply.number(result.map(u64::from));
}

fn open_directory(fs: &Filesystem, node: Ino, reply: Pending) {
    match fs.opendir(node) {
        // The kernel then opens directories without asking.
        Ok(DirOpened::NotNeeded) => reply.unsupported(),
        Ok(DirOpened::Stream { fh, cache }) => reply.opened_directory(fh, cache),
        Err(error) => reply.error(error),
    }
}
