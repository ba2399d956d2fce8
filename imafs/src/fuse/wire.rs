//! Replies that fuser 0.18 cannot express, encoded field by field.
//!
//! fuser takes one number for the node id and for the inode number that `stat(2)` shows. Here the first is a
//! counter and the second the backing file's, which stays the same when the kernel's caches are dropped: tar, rsync
//! and git tell files by it. It also keeps one lifetime for names and attributes where two are needed.
//!
//! Source: include/uapi/linux/fuse.h, protocol 7.9 and later; native byte order.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::fs::{Attr, DirEntry, Entry};

/// Length of `struct fuse_out_header`.
pub const HEADER_LEN: usize = 16;

/// A message under construction.
#[derive(Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// An empty message with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// What was encoded so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
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

    /// `struct fuse_attr_out`, 104 bytes.
    pub fn attr_out(&mut self, attr: &Attr, ttl: Duration) {
        self.u64(ttl.as_secs()).u32(ttl.subsec_nanos()).u32(0).attr(attr);
    }

    /// `struct fuse_entry_out`, 128 bytes. The generation is 0: node ids are never reused.
    pub fn entry_out(&mut self, entry: &Entry) {
        self.u64(entry.ino.0).u64(0);
        self.u64(entry.entry_ttl.as_secs()).u64(entry.attr_ttl.as_secs());
        self.u32(entry.entry_ttl.subsec_nanos()).u32(entry.attr_ttl.subsec_nanos());
        self.attr(&entry.attr);
    }

    /// `struct fuse_entry_out` that says: no such name, for `ttl`.
    pub fn absent_out(&mut self, ttl: Duration) {
        self.u64(0).u64(0).u64(ttl.as_secs()).u64(0).u32(ttl.subsec_nanos()).u32(0);
        self.0.resize(self.0.len() + ATTR_LEN, 0);
    }

    /// `struct fuse_open_out`, 16 bytes.
    pub fn open_out(&mut self, fh: u64, flags: u32, backing_id: u32) {
        self.u64(fh).u32(flags).u32(backing_id);
    }

    /// `struct fuse_direntplus`, the name, and zeros up to a multiple of 8 bytes. Adds nothing and returns true when
    /// the message would grow beyond `limit`.
    pub fn direntplus(&mut self, plain: &DirEntry<'_>, entry: Option<&Entry>, limit: usize) -> bool {
        if self.0.len() + direntplus_len(plain.name) > limit {
            return true;
        }
        match entry {
            Some(entry) => self.entry_out(entry),
            // No node id: the kernel takes the name without attributes.
            None => self.0.resize(self.0.len() + ENTRY_LEN, 0),
        }
        let name = plain.name.as_bytes();
        let ino = entry.map_or(plain.ino, |entry| entry.attr.ino);
        self.u64(ino).u64(plain.next);
        self.u32(u32::try_from(name.len()).unwrap_or(0)).u32(plain.kind.as_raw_mode() >> 12);
        self.0.extend_from_slice(name);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        false
    }
}

const ATTR_LEN: usize = 88;
const ENTRY_LEN: usize = 40 + ATTR_LEN;
const DIRENT_LEN: usize = 24;

fn direntplus_len(name: &OsStr) -> usize {
    (ENTRY_LEN + DIRENT_LEN + name.len()).next_multiple_of(8)
}

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
pub fn inval_attributes(ino: u64) -> [u8; 24] {
    let mut body = [0; 24];
    let fields = ino.to_ne_bytes().into_iter().chain((-1_i64).to_ne_bytes()).chain(0_i64.to_ne_bytes());
    body.iter_mut().zip(fields).for_each(|(slot, byte)| *slot = byte);
    body
}

/// `struct fuse_notify_inval_entry_out` with `FUSE_EXPIRE_ONLY`, and the name with its zero byte: the name is looked
/// up again before it is used, and stays for those who have it open.
#[must_use]
pub fn expire_entry(parent: u64, name: &OsStr) -> Message {
    const EXPIRE_ONLY: u32 = 1;
    let name = name.as_bytes();
    let mut message = Message::with_capacity(16 + name.len() + 1);
    message.u64(parent).u32(u32::try_from(name.len()).unwrap_or(0)).u32(EXPIRE_ONLY);
    message.0.extend_from_slice(name);
    message.0.push(0);
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
        let mut message = Message::default();
        assert!(!message.direntplus(&plain, Some(&entry()), 4096));
        let bytes = message.bytes();
        assert_eq!(bytes.len(), 160);
        assert_eq!((u64_at(bytes, 128), u64_at(bytes, 136)), (ATTR.ino, 11));
        assert_eq!((u32_at(bytes, 144), u32_at(bytes, 148)), (3, 8));
        assert_eq!(&bytes[152..], b"abc\0\0\0\0\0");
        assert!(message.direntplus(&plain, None, 319));
        assert_eq!(message.bytes().len(), 160);
        assert!(!message.direntplus(&plain, None, 320));
        assert_eq!(u64_at(&message.bytes()[160..], 128), 9);
    }

    #[test]
    fn headers_have_length_code_and_unique() {
        let header = header(24, 2, 0x77);
        assert_eq!((u32_at(&header, 0), u32_at(&header, 4), u64_at(&header, 8)), (40, 2, 0x77));
        let body = inval_attributes(5);
        assert_eq!((u64_at(&body, 0), u64_at(&body, 8), u64_at(&body, 16)), (5, u64::MAX, 0));
        let expiry = expire_entry(6, OsStr::new("ab"));
        let bytes = expiry.bytes();
        assert_eq!((u64_at(bytes, 0), u32_at(bytes, 8), u32_at(bytes, 12)), (6, 2, 1));
        assert_eq!(&bytes[16..], b"ab\0");
    }
}
