//! OPENDIR, READDIR, READDIRPLUS and RELEASEDIR.
//!
//! Listing is stateless where the kernel allows it: each request seeks to the offset the kernel gives, which is the
//! backing filesystem's own cookie, and reads on from there. So entries removed or added meanwhile neither shift
//! nor repeat the others. A stack of layers numbers its entries per open directory, so there each open has a
//! stream of its own.
//!
//! Lock order: the stream cache, then one stream; the stream is held across `getdents64`.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, fdatasync, fsync, seek};

use super::attr::stat;
use super::backing::Shape;
use super::data::Reply;
use super::lookup::{Entry, is_control_name, is_manifest_name};
use super::node::Node;
use super::vault::reopen;
use super::{CacheMode, Errno, Filesystem, Ino};

/// Directories being listed at once, beyond which one is opened again and goes on from its offset.
const STREAMS: usize = 256;

/// The handle of a directory that was not opened; all listings of it share the stream.
pub(super) const SHARED_STREAM: u64 = 0;

/// Bytes of directory entries read at a time.
const BUFFER: usize = 32 << 10;

/// One entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct DirEntry<'a> {
    /// The inode number that `stat(2)` shows.
    pub ino: u64,
    /// The offset at which the listing goes on after this entry.
    pub next: u64,
    /// The file type.
    pub kind: FileType,
    /// The name.
    pub name: &'a OsStr,
}

/// One entry of a listing with attributes. Taking it takes its lookup.
#[derive(Debug, Clone, Copy)]
pub struct PlusEntry<'a> {
    /// As in a plain listing.
    pub plain: DirEntry<'a>,
    /// What a lookup of the name would give; `None` for `.`, `..` and what cannot be looked up.
    pub entry: Option<Entry>,
}

/// How a directory is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirOpened {
    /// Without asking: the kernel need not open directories at all.
    NotNeeded,
    /// With a stream of its own; the kernel may keep the listing if `cache`.
    Stream {
        /// The handle.
        fh: u64,
        /// The kernel may keep the listing.
        cache: bool,
    },
}

/// An open directory; its offset is set and used under the lock.
type Stream = Arc<Mutex<OwnedFd>>;

/// Open directories, by record and handle.
#[derive(Debug)]
pub(super) struct DirStreams {
    streams: Mutex<LruCache<(Ino, u64), Stream>>,
    next: AtomicU64,
}

impl DirStreams {
    pub(super) fn new() -> Self {
        Self {
            streams: Mutex::new(LruCache::new(NonZeroUsize::new(STREAMS).unwrap_or(NonZeroUsize::MIN))),
            next: AtomicU64::new(1),
        }
    }

    fn stream(&self, node: &Node, fh: u64) -> Result<Stream, Errno> {
        let key = (node.ino(), fh);
        if let Some(stream) = self.streams.lock().get(&key) {
            return Ok(Arc::clone(stream));
        }
        let fd = reopen(node.path_fd()?, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let stream = Arc::new(Mutex::new(fd));
        let evicted = self.streams.lock().push(key, Arc::clone(&stream));
        drop(evicted);
        Ok(stream)
    }

    /// Closes a stream.
    pub(super) fn close(&self, ino: Ino, fh: u64) {
        let closed = self.streams.lock().pop(&(ino, fh));
        drop(closed);
    }
}

impl Filesystem {
    /// Opens a directory for listing.
    ///
    /// # Errors
    /// [`Errno::STALE`] for an unknown node.
    pub fn opendir(&self, ino: Ino) -> Result<DirOpened, Errno> {
        let exclusive = self.options.cache == CacheMode::Exclusive;
        let unneeded = self.negotiated().is_some_and(|n| n.no_opendir);
        if exclusive && unneeded && self.backing().shape() == Shape::Directory {
            return Ok(DirOpened::NotNeeded);
        }
        if ino.control().is_none() {
            self.table.find(ino)?;
        }
        let fh = self.streams.next.fetch_add(1, Ordering::Relaxed);
        Ok(DirOpened::Stream { fh, cache: exclusive && ino.control().is_none() })
    }

    /// Ends a listing.
    pub fn releasedir(&self, ino: Ino, fh: u64) {
        self.streams.close(ino, fh);
    }

    /// Lists a directory from `offset` on until `take` returns true, which means: full, this one not taken.
    ///
    /// # Errors
    /// What opening or reading the directory gives.
    pub fn readdir(
        &self,
        ino: Ino,
        fh: u64,
        offset: u64,
        take: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        if ino.control().is_some() {
            return self.list_control(ino, offset, take);
        }
        let node = self.table.find(ino)?;
        self.list(&node, fh, offset, take)
    }

    /// Lists a directory with attributes, from `offset` on until `take` returns true, which means: full, this one
    /// not taken. A name that is gone by the time it is looked up is left out.
    ///
    /// # Errors
    /// What opening or reading the directory gives.
    pub fn readdirplus(
        &self,
        ino: Ino,
        fh: u64,
        offset: u64,
        take: &mut dyn FnMut(PlusEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        if ino.control().is_some() {
            return self.list_control(ino, offset, &mut |plain| take(PlusEntry { plain, entry: None }));
        }
        let node = self.table.find(ino)?;
        self.list(&node, fh, offset, &mut |plain| {
            if matches!(plain.name.as_bytes(), b"." | b"..") {
                return take(PlusEntry { plain, entry: None });
            }
            match self.probe(&node, plain.name) {
                Ok(found) => {
                    let entry = self.enter(&node, plain.name, found);
                    let full = take(PlusEntry { plain, entry: Some(entry) });
                    if full {
                        self.forget(entry.ino, 1);
                    }
                    full
                }
                Err(Errno::NOENT) => false,
                Err(_) => take(PlusEntry { plain, entry: None }),
            }
        })
    }

    /// Writes a directory's entries to the disk.
    pub fn fsyncdir(&self, ino: Ino, data_only: bool, reply: Reply<()>) {
        if ino.control().is_some() {
            return reply(Ok(()));
        }
        let fd =
            self.table.find(ino).and_then(|node| reopen(node.path_fd()?, OFlags::RDONLY | OFlags::DIRECTORY));
        match fd {
            Ok(fd) => self.waits.submit_free(move || {
                reply(if data_only { fdatasync(fd) } else { fsync(fd) });
            }),
            Err(errno) => reply(Err(errno)),
        }
    }

    fn list(
        &self,
        node: &Node,
        fh: u64,
        offset: u64,
        take: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let stream = self.streams.stream(node, fh)?;
        let directory = stream.lock();
        let own = stat(&*directory)?;
        seek(&*directory, SeekFrom::Start(offset))?;
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let mut entries = RawDir::new(&*directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if self.control.is_some() && is_control_name(node.ino(), name) {
                continue;
            }
            if is_manifest_name(node.ino(), name) {
                continue;
            }
            // What is above the root is none of the mount's business: there, `..` is the root.
            let above = node.ino().is_root() && name == "..";
            let ino = if above { own.stx_ino } else { entry.ino() };
            let kind = match entry.file_type() {
                FileType::Unknown => match self.probe(node, name) {
                    Ok(found) => found.kind(),
                    Err(_) => continue,
                },
                known => known,
            };
            let ino = self.backing().fold_entry(&own, ino);
            let shown = DirEntry { ino, next: entry.next_entry_cookie(), kind, name };
            if take(shown) {
                break;
            }
        }
        Ok(())
    }

    /// Lists a directory of the control tree: offsets are positions in the list.
    fn list_control(
        &self,
        ino: Ino,
        offset: u64,
        take: &mut dyn FnMut(DirEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let tree = self.control()?;
        let directory = ino.control().ok_or(Errno::NOTDIR)?;
        let own = tree.attr(directory)?.ino;
        let dots = [(own, FileType::Directory, b".".to_vec()), (own, FileType::Directory, b"..".to_vec())];
        let entries = tree.readdir(directory).into_iter().map(|(child, kind, name)| {
            (tree.attr(child).map_or_else(|_| Ino::from(child).0, |attr| attr.ino), kind, name)
        });
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (position, (ino, kind, name)) in (1_u64..).zip(dots.into_iter().chain(entries)).skip(skipped) {
            if take(DirEntry { ino, next: position, kind, name: OsStr::from_bytes(&name) }) {
                break;
            }
        }
        Ok(())
    }
}
