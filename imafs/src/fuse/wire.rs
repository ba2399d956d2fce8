//! Answers and notifications, encoded field by field.
//!
//! The node id is a counter and the inode number the backing file's, which stays the same when the kernel's caches are
//! dropped: tar, rsync and git tell files by it. Names and attributes have a lifetime each.
//!
//! Source: include/uapi/linux/fuse.h, protocol 7.45; native byte order.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::abi::{MAJOR, MINOR};
use crate::fs::attr::decode_device;
use crate::fs::{Attr, DirEntry, Entry, Extended, Statfs};

/// Length of `struct fuse_out_header`.
pub const HEADER_LEN: usize = 16;

/// Where an answer is put together. Private, so that no words are sent but those encoded here.
trait Put {
    /// Adds bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Adds a word of 16 bits.
    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_ne_bytes());
        self
    }

    /// Adds a word of 32 bits.
    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_ne_bytes());
        self
    }

    /// Adds a word of 64 bits.
    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_ne_bytes());
        self
    }

    /// `struct fuse_attr`, 88 bytes.
    fn attr(&mut self, attr: &Attr) -> &mut Self {
        self.u64(attr.ino).u64(attr.size).u64(attr.blocks);
        self.u64(attr.atime.0.cast_unsigned()).u64(attr.mtime.0.cast_unsigned());
        self.u64(attr.ctime.0.cast_unsigned());
        self.u32(attr.atime.1).u32(attr.mtime.1).u32(attr.ctime.1);
        self.u32(attr.mode).u32(attr.nlink).u32(attr.uid).u32(attr.gid).u32(attr.rdev).u32(attr.blksize);
        // Flags: only FUSE_ATTR_SUBMOUNT and FUSE_ATTR_DAX exist.
        self.u32(0)
    }

    /// `struct fuse_entry_out`, 128 bytes. The generation is 0: node ids are never reused.
    fn entry_out(&mut self, entry: &Entry) {
        self.u64(entry.ino.0).u64(0);
        self.u64(entry.entry_ttl.as_secs()).u64(entry.attr_ttl.as_secs());
        self.u32(entry.entry_ttl.subsec_nanos()).u32(entry.attr_ttl.subsec_nanos());
        self.attr(&entry.attr);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What INIT is answered with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InitOut {
    /// How far the kernel may read ahead, in bytes.
    pub max_readahead: u32,
    /// What is agreed on.
    pub capabilities: u64,
    /// How many background requests may be at work.
    pub max_background: u16,
    /// With how many the connection counts as congested.
    pub congestion_threshold: u16,
    /// Largest write in bytes.
    pub max_write: u32,
    /// Largest request in pages.
    pub max_pages: u16,
    /// How many filesystems a lent file may be stacked on, with this one.
    pub max_stack_depth: u32,
}

fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

/// An answer of fixed length, on the stack.
#[derive(Debug)]
pub struct Message {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Message {
    /// The longest is that to STATX.
    const ROOM: usize = STATX_LEN;

    /// What was encoded so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// `struct fuse_attr_out`, 104 bytes.
    pub fn attr_out(&mut self, attr: &Attr, ttl: Duration) {
        self.u64(ttl.as_secs()).u32(ttl.subsec_nanos()).u32(0).attr(attr);
    }

    /// `struct fuse_entry_out`, 128 bytes.
    pub fn entry_out(&mut self, entry: &Entry) {
        Put::entry_out(self, entry);
    }

    /// `struct fuse_entry_out` that says: no such name, for `ttl`.
    pub fn absent_out(&mut self, ttl: Duration) {
        self.u64(0).u64(0).u64(ttl.as_secs()).u64(0).u32(ttl.subsec_nanos()).u32(0);
        self.put(&[0; ATTR_LEN]);
    }

    /// `struct fuse_open_out`, 16 bytes.
    pub fn open_out(&mut self, fh: u64, flags: u32, backing_id: u32) {
        self.u64(fh).u32(flags).u32(backing_id);
    }

    /// `struct fuse_statfs_out`, 80 bytes.
    pub fn statfs_out(&mut self, figures: &Statfs) {
        self.u64(figures.blocks).u64(figures.bfree).u64(figures.bavail).u64(figures.files).u64(figures.ffree);
        self.u32(figures.bsize).u32(figures.namelen).u32(figures.frsize).put(&[0; 28]);
    }

    /// A size with its padding: `struct fuse_write_out` and `struct fuse_getxattr_out`, 8 bytes.
    pub fn size_out(&mut self, size: u32) {
        self.u32(size).u32(0);
    }

    /// `struct fuse_ioctl_out` of an ioctl that returned 0, 16 bytes. What it returns by pointer follows.
    pub fn ioctl_out(&mut self) {
        self.u32(0).u32(0).u32(0).u32(0);
    }

    /// `struct fuse_init_out`, 64 bytes.
    pub fn init_out(&mut self, answer: &InitOut) {
        let (low, high) = halves(answer.capabilities);
        self.u32(MAJOR).u32(MINOR).u32(answer.max_readahead).u32(low);
        self.u16(answer.max_background).u16(answer.congestion_threshold).u32(answer.max_write);
        // Times are exact to the nanosecond; no alignment for mappings.
        self.u32(1).u16(answer.max_pages).u16(0).u32(high).u32(answer.max_stack_depth);
        // No time limit for requests, and what is unused.
        self.put(&[0; 24]);
    }

    /// `struct fuse_statx_out`, 288 bytes, the latter 256 of them `struct fuse_statx`.
    pub fn statx_out(&mut self, found: &Extended, ttl: Duration) {
        let Extended { attr, btime, attributes, attributes_mask } = found;
        self.u64(ttl.as_secs()).u32(ttl.subsec_nanos()).u32(0).u64(0).u64(0);
        let mask = if btime.is_some() { STATX_BASIC | STATX_BTIME } else { STATX_BASIC };
        self.u32(mask).u32(attr.blksize).u64(*attributes).u32(attr.nlink).u32(attr.uid).u32(attr.gid);
        // Type and permissions have 16 bits here, and as many to spare.
        self.u16(u16::try_from(attr.mode & 0xffff).unwrap_or(0))
            .u16(0)
            .u64(attr.ino)
            .u64(attr.size)
            .u64(attr.blocks)
            .u64(*attributes_mask);
        for (seconds, nanoseconds) in [attr.atime, btime.unwrap_or_default(), attr.ctime, attr.mtime] {
            self.u64(seconds.cast_unsigned()).u32(nanoseconds).u32(0);
        }
        let (major, minor) = decode_device(attr.rdev);
        // The device is the mount's own, which the kernel knows.
        self.u32(major).u32(minor).u32(0).u32(0).put(&[0; 112]);
    }

    /// A number of 64 bits alone: `struct fuse_lseek_out` and `struct fuse_copy_file_range_out`.
    pub fn number_out(&mut self, number: u64) {
        self.u64(number);
    }
}

impl Default for Message {
    fn default() -> Self {
        Self { bytes: [0; Self::ROOM], length: 0 }
    }
}

impl Put for Message {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        // No answer is longer than the room; the kernel would refuse one that is cut short.
        if let Some(slot) = self.bytes.get_mut(self.length..end) {
            slot.copy_from_slice(bytes);
            self.length = end;
        }
    }
}

/// A directory's entries, up to the size that was asked for.
#[derive(Debug)]
pub struct Listing {
    bytes: Vec<u8>,
    limit: usize,
}

impl Listing {
    /// An empty one that uses `memory` and grows to `limit` bytes at most.
    #[must_use]
    pub fn new(mut memory: Vec<u8>, limit: usize) -> Self {
        memory.clear();
        Self { bytes: memory, limit }
    }

    /// What was encoded so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the memory back.
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        self.bytes
    }

    /// `struct fuse_dirent`, the name, and zeros up to a multiple of 8 bytes. Adds nothing and returns true when the
    /// listing would grow beyond its limit.
    pub fn dirent(&mut self, plain: &DirEntry<'_>) -> bool {
        let full = !self.has_room(DIRENT_LEN, plain.name);
        if !full {
            self.named(plain.ino, plain);
        }
        full
    }

    /// `struct fuse_direntplus` and the rest as for a plain one.
    pub fn direntplus(&mut self, plain: &DirEntry<'_>, entry: Option<&Entry>) -> bool {
        if !self.has_room(ENTRY_LEN + DIRENT_LEN, plain.name) {
            return true;
        }
        match entry {
            Some(entry) => self.bytes.entry_out(entry),
            // No node id: the kernel takes the name without attributes.
            None => self.bytes.put(&[0; ENTRY_LEN]),
        }
        self.named(entry.map_or(plain.ino, |entry| entry.attr.ino), plain);
        false
    }

    fn has_room(&self, fixed: usize, name: &OsStr) -> bool {
        self.bytes.len() + (fixed + name.len()).next_multiple_of(8) <= self.limit
    }

    fn named(&mut self, ino: u64, plain: &DirEntry<'_>) {
        let name = plain.name.as_bytes();
        self.bytes.u64(ino).u64(plain.next);
        self.bytes.u32(u32::try_from(name.len()).unwrap_or(0)).u32(plain.kind.as_raw_mode() >> 12);
        self.bytes.put(name);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }
}

const ATTR_LEN: usize = 88;
const ENTRY_LEN: usize = 40 + ATTR_LEN;
const DIRENT_LEN: usize = 24;
const STATX_LEN: usize = 32 + 256;

/// `STATX_BASIC_STATS` and `STATX_BTIME`, include/uapi/linux/stat.h.
const STATX_BASIC: u32 = 0x7ff;
const STATX_BTIME: u32 = 0x800;

/// `struct fuse_out_header` of a message with `payload` bytes after it.
///
/// `code` is a negated errno in replies (0 for success) and a notification code where `unique` is 0.
#[must_use]
pub fn header(payload: usize, code: i32, unique: u64) -> [u8; HEADER_LEN] {
    let length = u32::try_from(HEADER_LEN + payload).unwrap_or(u32::MAX);
    let mut header = [0; HEADER_LEN];
    let fields = length.to_ne_bytes().into_iter().chain(code.to_ne_bytes()).chain(unique.to_ne_bytes());
    header.iter_mut().zip(fields).for_each(|(slot, byte)| *slot = byte);
    header
}

/// `struct fuse_notify_inval_inode_out` for the attributes alone: a negative offset leaves the pages.
#[must_use]
pub fn inval_attributes(ino: u64) -> Message {
    let mut message = Message::default();
    message.u64(ino).u64((-1_i64).cast_unsigned()).u64(0);
    message
}

/// `struct fuse_notify_inval_entry_out` with `FUSE_EXPIRE_ONLY`, and the name with its zero byte: the name is looked
/// up again before it is used, and stays for those who have it open.
#[must_use]
pub fn expire_entry(parent: u64, name: &OsStr) -> Vec<u8> {
    const EXPIRE_ONLY: u32 = 1;
    let name = name.as_bytes();
    let mut message = Vec::with_capacity(16 + name.len() + 1);
    message.u64(parent).u32(u32::try_from(name.len()).unwrap_or(0)).u32(EXPIRE_ONLY);
    message.put(name);
    message.put(&[0]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Ino;
    use rustix::fs::FileType;

    const ATTR: Attr = Attr {
        ino: 0x0102_0304_0506_0708,
        size: 5,
        blocks: 8,
        atime: (-1, 999_999_999),
        mtime: (2, 3),
        ctime: (4, 5),
        mode: 0o100_644,
        nlink: 1,
        uid: 1000,
        gid: 1001,
        rdev: 0x501,
        blksize: 4096,
    };

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn entry() -> Entry {
        Entry { ino: Ino(42), attr: ATTR, entry_ttl: Duration::new(7, 8), attr_ttl: Duration::new(9, 10) }
    }

    #[test]
    fn attributes_lie_where_struct_fuse_attr_has_them() {
        let mut message = Message::default();
        message.attr_out(&ATTR, Duration::new(6, 7));
        let bytes = message.bytes();
        assert_eq!(bytes.len(), 104);
        assert_eq!((u64_at(bytes, 0), u32_at(bytes, 8), u32_at(bytes, 12)), (6, 7, 0));
        let attr = &bytes[16..];
        assert_eq!(u64_at(attr, 0), ATTR.ino);
        assert_eq!((u64_at(attr, 8), u64_at(attr, 16)), (5, 8));
        assert_eq!((u64_at(attr, 24), u64_at(attr, 32), u64_at(attr, 40)), (u64::MAX, 2, 4));
        assert_eq!((u32_at(attr, 48), u32_at(attr, 52), u32_at(attr, 56)), (999_999_999, 3, 5));
        let rest: Vec<u32> = (60..88).step_by(4).map(|at| u32_at(attr, at)).collect();
        assert_eq!(rest, [0o100_644, 1, 1000, 1001, 0x501, 4096, 0]);
    }

    #[test]
    fn entries_carry_node_id_and_inode_number_apart() {
        let mut message = Message::default();
        message.entry_out(&entry());
        let bytes = message.bytes();
        assert_eq!(bytes.len(), 128);
        assert_eq!((u64_at(bytes, 0), u64_at(bytes, 8)), (42, 0));
        assert_eq!((u64_at(bytes, 16), u64_at(bytes, 24)), (7, 9));
        assert_eq!((u32_at(bytes, 32), u32_at(bytes, 36)), (8, 10));
        assert_eq!(u64_at(bytes, 40), ATTR.ino);
        let mut absent = Message::default();
        absent.absent_out(Duration::from_secs(3));
        assert_eq!(
            (absent.bytes().len(), u64_at(absent.bytes(), 0), u64_at(absent.bytes(), 16)),
            (128, 0, 3)
        );
    }

    #[test]
    fn directory_entries_are_padded_and_bounded() {
        let plain = DirEntry { ino: 9, next: 11, kind: FileType::RegularFile, name: OsStr::new("abc") };
        let mut message = Listing::new(vec![7; 3], 320);
        assert!(!message.direntplus(&plain, Some(&entry())));
        let bytes = message.bytes();
        assert_eq!(bytes.len(), 160);
        assert_eq!((u64_at(bytes, 128), u64_at(bytes, 136)), (ATTR.ino, 11));
        assert_eq!((u32_at(bytes, 144), u32_at(bytes, 148)), (3, 8));
        assert_eq!(&bytes[152..], b"abc\0\0\0\0\0");
        assert!(!message.direntplus(&plain, None));
        assert_eq!(u64_at(&message.bytes()[160..], 128), 9);
        let full = message.into_memory();
        let mut message = Listing { bytes: full, limit: 320 + 31 };
        assert!(message.direntplus(&plain, None) && message.dirent(&plain));
        assert_eq!(message.bytes().len(), 320);
        message.limit = 320 + 32;
        assert!(!message.dirent(&plain));
        let bytes = &message.bytes()[320..];
        assert_eq!((u64_at(bytes, 0), u64_at(bytes, 8), u32_at(bytes, 16), u32_at(bytes, 20)), (9, 11, 3, 8));
        assert_eq!(&bytes[24..], b"abc\0\0\0\0\0");
    }

    #[test]
    fn headers_have_length_code_and_unique() {
        let header = header(24, 2, 0x77);
        assert_eq!((u32_at(&header, 0), u32_at(&header, 4), u64_at(&header, 8)), (40, 2, 0x77));
        let body = inval_attributes(5);
        let body = body.bytes();
        assert_eq!(body.len(), 24);
        assert_eq!((u64_at(body, 0), u64_at(body, 8), u64_at(body, 16)), (5, u64::MAX, 0));
        let expiry = expire_entry(6, OsStr::new("ab"));
        let bytes = &expiry;
        assert_eq!((u64_at(bytes, 0), u32_at(bytes, 8), u32_at(bytes, 12)), (6, 2, 1));
        assert_eq!(&bytes[16..], b"ab\0");
    }

    #[test]
    fn the_answer_to_init_lies_where_struct_fuse_init_out_has_it() {
        let mut message = Message::default();
        message.init_out(&InitOut {
            max_readahead: 1,
            capabilities: 0x0000_0002_0000_0003,
            max_background: 4,
            congestion_threshold: 5,
            max_write: 6,
            max_pages: 7,
            max_stack_depth: 8,
        });
        let words: Vec<u32> = (0..64).step_by(4).map(|at| u32_at(message.bytes(), at)).collect();
        assert_eq!(message.bytes().len(), 64);
        assert_eq!(words[..10], [7, 45, 1, 3, 5 << 16 | 4, 6, 1, 7, 2, 8]);
        assert_eq!(words[10..], [0; 6]);
    }

    #[test]
    fn figures_lie_where_struct_fuse_kstatfs_has_them() {
        let figures =
            Statfs { blocks: 1, bfree: 2, bavail: 3, files: 4, ffree: 5, bsize: 6, namelen: 7, frsize: 8 };
        let mut message = Message::default();
        message.statfs_out(&figures);
        let bytes = message.bytes();
        assert_eq!(bytes.len(), 80);
        assert_eq!([0, 8, 16, 24, 32].map(|at| u64_at(bytes, at)), [1, 2, 3, 4, 5]);
        assert_eq!([40, 44, 48, 52].map(|at| u32_at(bytes, at)), [6, 7, 8, 0]);
    }

    #[test]
    fn extended_attributes_lie_where_struct_fuse_statx_has_them() {
        let found = Extended { attr: ATTR, btime: Some((-7, 8)), attributes: 0x10, attributes_mask: 0x30 };
        let mut message = Message::default();
        message.statx_out(&found, Duration::new(6, 7));
        let bytes = message.bytes();
        assert_eq!((bytes.len(), u64_at(bytes, 0), u32_at(bytes, 8)), (288, 6, 7));
        let statx = &bytes[32..];
        assert_eq!((u32_at(statx, 0), u32_at(statx, 4), u64_at(statx, 8)), (0xfff, 4096, 0x10));
        assert_eq!([16, 20, 24, 28].map(|at| u32_at(statx, at)), [1, 1000, 1001, 0o100_644]);
        assert_eq!([32, 40, 48, 56].map(|at| u64_at(statx, at)), [ATTR.ino, 5, 8, 0x30]);
        assert_eq!([64, 96, 112].map(|at| u64_at(statx, at)), [u64::MAX, 4, 2]);
        assert_eq!((u64_at(statx, 80), u32_at(statx, 88)), ((-7_i64).cast_unsigned(), 8));
        assert_eq!((u32_at(statx, 128), u32_at(statx, 132), u32_at(statx, 136)), (5, 1, 0));
        let mut unknown = Message::default();
        unknown.statx_out(&Extended { btime: None, ..found }, Duration::ZERO);
        assert_eq!((u32_at(unknown.bytes(), 32), u64_at(unknown.bytes(), 32 + 80)), (0x7ff, 0));
    }
}
