//! Shared writable mappings of files, as databases and linkers use them.
//!
//! Source: mmap(2), munmap(2).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::io::Errno;

use crate::check;

/// A shared mapping of a file, for writing; unmapped when dropped. It outlives the descriptor it was made from.
#[derive(Debug)]
pub struct Shared {
    start: *mut libc::c_void,
    length: usize,
}

impl Shared {
    /// Maps the first `length` bytes of a file that is open for reading and writing.
    ///
    /// The file must not be truncated while it is mapped: touching what is gone gives SIGBUS, as to any program.
    ///
    /// # Errors
    /// [`Errno::OVERFLOW`] when the file is shorter; else those of mmap(2).
    pub fn map(file: BorrowedFd<'_>, length: usize) -> Result<Self, Errno> {
        let size = u64::try_from(rustix::fs::fstat(file)?.st_size).map_err(|_| Errno::OVERFLOW)?;
        if size < length as u64 {
            return Err(Errno::OVERFLOW);
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice aliases no memory of ours; `file` is borrowed.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED { Err(crate::last_errno()) } else { Ok(Self { start, length }) }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// [`Errno::OVERFLOW`] past the end of the mapping.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.length) {
            return Err(Errno::OVERFLOW);
        }
        let target = self.start.cast::<u8>().wrapping_add(offset);
        // SAFETY: `target` up to `bytes.len()` lies within the mapping, as just checked, and `self` is borrowed
        // mutably, so nothing in this process refers to it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `map`, of that length, used by nobody after this.
        let unmapped = check(unsafe { libc::munmap(self.start, self.length) });
        debug_assert!(unmapped.is_ok(), "munmap refuses only what was never mapped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn bytes_written_through_a_mapping_are_in_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"hello world").unwrap();
        let mut mapping = Shared::map(file.as_file().as_fd(), 11).unwrap();
        mapping.write(6, b"there").unwrap();
        assert_eq!(mapping.write(7, b"there"), Err(Errno::OVERFLOW));
        drop(mapping);
        assert_eq!(std::fs::read(file.path()).unwrap(), b"hello there");
        assert!(matches!(Shared::map(file.as_file().as_fd(), 12), Err(Errno::OVERFLOW)));
    }
}
