//! File handles: a name for an inode that needs no descriptor and survives renames.
//!
//! Source: name_to_handle_at(2), open_by_handle_at(2).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::check;

/// `MAX_HANDLE_SZ`, include/linux/exportfs.h: no filesystem encodes a longer handle.
const MAX_HANDLE: usize = 128;

/// Handles of ext4, xfs, tmpfs and btrfs files fit; overlayfs encodes longer ones.
const INLINE: usize = 24;

/// One inode's handle: its type and its bytes, both opaque.
#[derive(Clone)]
pub struct FileHandle {
    kind: i32,
    bytes: Bytes,
}

#[derive(Clone)]
enum Bytes {
    Inline { length: u8, bytes: [u8; INLINE] },
    Boxed(Box<[u8]>),
}

impl FileHandle {
    fn new(kind: i32, bytes: &[u8]) -> Self {
        let mut inline = [0_u8; INLINE];
        let bytes = match (inline.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(bytes);
                Bytes::Inline { length, bytes: inline }
            }
            _ => Bytes::Boxed(bytes.into()),
        };
        Self { kind, bytes }
    }

    /// The handle's type, a number private to the filesystem that encoded it.
    #[must_use]
    pub fn kind(&self) -> i32 {
        self.kind
    }

    /// The handle's bytes, at most 128.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Inline { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Bytes::Boxed(bytes) => bytes,
        }
    }

    /// Encodes the inode that `fd` (`O_PATH` suffices) refers to.
    ///
    /// # Errors
    /// [`Errno::OPNOTSUPP`] when the filesystem has no handles that can be decoded again.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut wire = Wire { length: MAX_HANDLE as u32, kind: 0, bytes: [0; MAX_HANDLE] };
        let mut mount_id: libc::c_int = 0;
        // SAFETY: name_to_handle_at(2) writes at most `length` bytes after the two header words of `wire`, which
        // has the layout of `struct file_handle` with room for them, and one int through the mount id pointer;
        // both outlive the call. The path is a terminated empty string and `fd` is borrowed.
        let result = unsafe {
            libc::name_to_handle_at(
                fd.as_raw_fd(),
                c"".as_ptr(),
                (&raw mut wire).cast::<libc::file_handle>(),
                &raw mut mount_id,
                libc::AT_EMPTY_PATH,
            )
        };
        check(result)?;
        let length = usize::try_from(wire.length).unwrap_or(MAX_HANDLE);
        let bytes = wire.bytes.get(..length).ok_or(Errno::OVERFLOW)?;
        Ok(Self::new(wire.kind, bytes))
    }

    /// Opens the inode again, on the mount that `mount` (not an `O_PATH` descriptor) is on.
    ///
    /// # Errors
    /// [`Errno::STALE`] when the inode is gone; [`Errno::PERM`] without `CAP_DAC_READ_SEARCH`.
    pub fn open(&self, mount: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let bytes = self.bytes();
        let mut wire = Wire { length: bytes.len() as u32, kind: self.kind, bytes: [0; MAX_HANDLE] };
        wire.bytes.get_mut(..bytes.len()).ok_or(Errno::OVERFLOW)?.copy_from_slice(bytes);
        let flags = libc::c_int::try_from(flags.bits()).map_err(|_| Errno::INVAL)?;
        // SAFETY: open_by_handle_at(2) reads the header words and `length` bytes of `wire`, which has the layout
        // of `struct file_handle` and outlives the call; `mount` is borrowed.
        let result = unsafe {
            libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut wire).cast::<libc::file_handle>(), flags)
        };
        let fd = check(result)?;
        // SAFETY: the kernel has just returned this descriptor and nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl PartialEq for FileHandle {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.bytes() == other.bytes()
    }
}

impl Eq for FileHandle {}

impl Hash for FileHandle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
        self.bytes().hash(state);
    }
}

impl fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileHandle({}:", self.kind)?;
        for byte in self.bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// `struct file_handle` (include/linux/fs.h) with room for the longest handle.
#[repr(C)]
struct Wire {
    length: u32,
    kind: i32,
    bytes: [u8; MAX_HANDLE],
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn the_wire_form_has_the_layout_of_struct_file_handle() {
        assert_eq!(std::mem::offset_of!(Wire, length), 0);
        assert_eq!(std::mem::offset_of!(Wire, kind), 4);
        assert_eq!(std::mem::offset_of!(Wire, bytes), 8);
        assert_eq!(size_of::<Wire>(), 136);
        assert_eq!(size_of::<libc::file_handle>(), 8);
    }

    #[test]
    fn short_and_long_handles_keep_their_bytes_and_their_equality() {
        for length in [0, 1, INLINE, INLINE + 1, MAX_HANDLE] {
            let bytes = vec![7_u8; length];
            let handle = FileHandle::new(1, &bytes);
            assert_eq!(handle.bytes(), bytes);
            assert_eq!(handle, FileHandle::new(1, &bytes));
            assert_ne!(handle, FileHandle::new(2, &bytes));
        }
    }

    #[test]
    fn a_file_opened_by_its_handle_is_that_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"content").unwrap();
        let mount = File::open(directory.path()).unwrap();
        let file = File::open(&path).unwrap();
        let handle = FileHandle::of(file.as_fd()).unwrap();
        drop(file);
        match handle.open(mount.as_fd(), OFlags::RDONLY | OFlags::CLOEXEC) {
            Ok(fd) => assert_eq!(std::io::read_to_string(File::from(fd)).unwrap(), "content"),
            Err(errno) => assert_eq!(errno, Errno::PERM, "only the lack of privilege excuses this"),
        }
    }
}
