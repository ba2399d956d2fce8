//! READ, WRITE, FSYNC, FALLOCATE, LSEEK and COPY_FILE_RANGE on open files.
//!
//! There are no handles: a record's descriptors are opened when first needed and closed with its last open. A read
//! that the page cache of the backing filesystem can answer is answered at once; one that would wait for the disk
//! waits in the pool.

use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, FileType, SeekFrom, copy_file_range, fallocate, fdatasync, fsync, seek};
use rustix::io::{ReadWriteFlags, preadv2, pwrite, retry_on_intr};

use super::node::Node;
use super::{Caller, Errno, Filesystem, Handle, Ino, Written};

/// Copies are made in pieces of this size, so that a large one can be interrupted; short answers are allowed.
const COPY_PIECE: u64 = 64 << 20;

/// What one write to a control file can take at most: more than any certificate has.
const CONTROL_WRITE: usize = 128 << 10;

/// A deferred answer.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Errno>) + Send>;

impl Filesystem {
    /// Reads up to `size` bytes at `offset`; fewer mean the end of the file.
    pub fn read(self: &Arc<Self>, ino: Ino, fh: u64, offset: u64, size: u32, reply: Reply<Vec<u8>>) {
        if ino.control().is_some() {
            // The measurement list is read back from its journal.
            let fs = Arc::clone(self);
            return self.controls.submit_free(move || {
                reply(fs.control().and_then(|control| control.read(fh, offset, size)));
            });
        }
        let (node, fd) = match self.reader(ino) {
            Ok(found) => found,
            Err(errno) => return reply(Err(errno)),
        };
        node.opens.lock().reads(Handle(fh).renewal());
        match filled(&fd, size, offset, ReadWriteFlags::NOWAIT) {
            Ok(data) => reply(Ok(data)),
            Err(Errno::AGAIN | Errno::OPNOTSUPP) => {
                let fs = Arc::clone(self);
                node.reading.fetch_add(1, Ordering::AcqRel);
                self.waits.submit_free(move || {
                    // Memory is taken when it is its turn: nothing limits how many wait.
                    reply(filled(&fd, size, offset, ReadWriteFlags::empty()));
                    // A RELEASE that waited for this answer is at the device now.
                    node.reading.fetch_sub(1, Ordering::AcqRel);
                    fs.request_handled();
                });
            }
            Err(errno) => reply(Err(errno)),
        }
    }

    /// Writes `data` at `offset` to an open control file and tells how many bytes of it were taken. From a pool
    /// thread, for it may verify, measure and wait for the audit trail.
    pub fn write_control(
        self: &Arc<Self>,
        caller: &Caller,
        ino: Ino,
        fh: u64,
        offset: u64,
        data: &[u8],
        reply: Reply<u32>,
    ) {
        let (fs, caller) = (Arc::clone(self), *caller);
        let data = data.get(..CONTROL_WRITE).unwrap_or(data).to_vec();
        self.checks.submit(ino, move || {
            let written = match fs.control() {
                Ok(control) => control.write(fh, offset, &data, &caller),
                Err(errno) => Written::Done(Err(errno)),
            };
            match written {
                Written::Done(result) => reply(result),
                Written::Reads { path, then } => {
                    fs.read_policy(&caller, &path, Box::new(move |content| reply(then(content))));
                }
            }
        });
    }

    /// Writes `data` at `offset` and tells how many bytes of it were written.
    ///
    /// # Errors
    /// What `pwrite(2)` gives when nothing could be written.
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let fd = self.writer(ino)?;
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            match retry_on_intr(|| pwrite(&fd, rest, offset.saturating_add(done as u64))) {
                Ok(0) => break,
                Ok(written) => done += written,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        u32::try_from(done).map_err(|_| Errno::OVERFLOW)
    }

    /// Writes the file's content, and its attributes unless `data_only`, to the disk.
    pub fn fsync(&self, ino: Ino, data_only: bool, reply: Reply<()>) {
        if ino.control().is_some() {
            return reply(Ok(()));
        }
        match self.reader(ino) {
            Ok((_, fd)) => self.waits.submit_free(move || {
                reply(if data_only { fdatasync(fd) } else { fsync(fd) });
            }),
            Err(errno) => reply(Err(errno)),
        }
    }

    /// Allocates, deallocates or moves space. `mode` is as in `fallocate(2)`.
    pub fn fallocate(&self, ino: Ino, offset: u64, length: u64, mode: i32, reply: Reply<()>) {
        let flags = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        match self.writer(ino) {
            Ok(fd) => self.waits.submit_free(move || reply(fallocate(fd, flags, offset, length))),
            Err(errno) => reply(Err(errno)),
        }
    }

    /// Finds the next data or hole (`SEEK_DATA`, `SEEK_HOLE`); the kernel does the other kinds itself.
    ///
    /// # Errors
    /// [`Errno::NXIO`] past the end; [`Errno::INVAL`] for other kinds, and for control files, as securityfs answers:
    /// cp(1) then reads on, and takes any other errno for a failure.
    pub fn lseek(&self, ino: Ino, offset: i64, whence: i32) -> Result<i64, Errno> {
        if ino.control().is_some() {
            return Err(Errno::INVAL);
        }
        let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
        let target = match whence {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        let found = seek(self.reader(ino)?.1, target)?;
        i64::try_from(found).map_err(|_| Errno::OVERFLOW)
    }

    /// Copies up to `length` bytes between two open files, and tells how many.
    pub fn copy_file_range(
        &self,
        (from, from_offset): (Ino, u64),
        (to, to_offset): (Ino, u64),
        length: u64,
        reply: Reply<u32>,
    ) {
        if from.control().is_some() || to.control().is_some() {
            // Then the kernel copies by reading and writing.
            return reply(Err(Errno::OPNOTSUPP));
        }
        let fds = self.reader(from).and_then(|(_, reader)| Ok((reader, self.writer(to)?)));
        let (reader, writer) = match fds {
            Ok(fds) => fds,
            Err(errno) => return reply(Err(errno)),
        };
        let length = usize::try_from(length.min(COPY_PIECE)).unwrap_or(usize::MAX);
        self.waits.submit_free(move || {
            let (mut from_offset, mut to_offset) = (from_offset, to_offset);
            let copied =
                copy_file_range(reader, Some(&mut from_offset), writer, Some(&mut to_offset), length);
            reply(copied.and_then(|copied| u32::try_from(copied).map_err(|_| Errno::OVERFLOW)));
        });
    }

    /// A descriptor to read the content of an open file from.
    fn reader(&self, ino: Ino) -> Result<(Arc<Node>, Arc<OwnedFd>), Errno> {
        let node = self.table.find(ino)?;
        if node.kind() != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let path_fd = node.path_fd()?;
        let fd = node.opens.lock().reader(&path_fd)?;
        Ok((node, fd))
    }

    /// A descriptor to write to a file that is open for writing. What the kernel has cached is no longer sure.
    fn writer(&self, ino: Ino) -> Result<Arc<OwnedFd>, Errno> {
        let node = self.table.find(ino)?;
        if node.kind() != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let path_fd = node.path_fd()?;
        node.opens.lock().writer(&path_fd)
    }
}

/// Up to `size` bytes from `offset` on, as [`fill`] has it.
fn filled(fd: &OwnedFd, size: u32, offset: u64, flags: ReadWriteFlags) -> Result<Vec<u8>, Errno> {
    let mut data = vec![0_u8; usize::try_from(size).unwrap_or(0)];
    let length = fill(fd, &mut data, offset, flags)?;
    data.truncate(length);
    Ok(data)
}

/// Fills `buffer` from `offset` on, up to the end of the file. With `NOWAIT` it is all or [`Errno::AGAIN`]: a
/// short answer would be taken for the end of the file.
fn fill(fd: &OwnedFd, buffer: &mut [u8], offset: u64, flags: ReadWriteFlags) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        match retry_on_intr(|| preadv2(fd, &mut [IoSliceMut::new(rest)], at, flags))? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}
