//! The digest that fs-verity keeps of a file, asked of the kernel.
//!
//! Source: `FS_IOC_MEASURE_VERITY`, Documentation/filesystems/fsverity.rst.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::check;

/// `_IOWR('f', 134, struct fsverity_digest)`.
pub const FS_IOC_MEASURE_VERITY: u32 = 0xc004_6686;

/// Bytes of the largest digest that fs-verity has.
const DIGEST_MAX: usize = 64;

/// `struct fsverity_digest` with room for its digest.
#[repr(C)]
struct FsverityDigest {
    digest_algorithm: u16,
    digest_size: u16,
    digest: [u8; DIGEST_MAX],
}

/// What the kernel answers for a file with fs-verity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// `FS_VERITY_HASH_ALG_*`.
    pub algorithm: u16,
    /// The digest, as many bytes as the kernel says it has.
    pub digest: Vec<u8>,
}

/// The fs-verity digest of the file behind `file`, which is open for reading.
///
/// # Errors
/// [`Errno::NODATA`] for a file without fs-verity, [`Errno::NOTTY`] or [`Errno::OPNOTSUPP`] where the filesystem or
/// the kernel knows none, [`Errno::OVERFLOW`] for a digest of more than 64 bytes.
pub fn measure(file: BorrowedFd<'_>) -> Result<Measured, Errno> {
    let size = u16::try_from(DIGEST_MAX).map_err(|_| Errno::OVERFLOW)?;
    let mut value = FsverityDigest { digest_algorithm: 0, digest_size: size, digest: [0; DIGEST_MAX] };
    // SAFETY: the kernel reads `digest_size` and writes the structure and at most so many bytes behind it through the
    // pointer; `value` has room for them and outlives the call; `file` is borrowed.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), libc::c_ulong::from(FS_IOC_MEASURE_VERITY), &raw mut value) };
    check(result)?;
    let digest = value.digest.get(..usize::from(value.digest_size)).ok_or(Errno::OVERFLOW)?;
    Ok(Measured { algorithm: value.digest_algorithm, digest: digest.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_structure_is_laid_out_as_in_the_kernel_headers() {
        assert_eq!(std::mem::offset_of!(FsverityDigest, digest_size), 2);
        assert_eq!(std::mem::offset_of!(FsverityDigest, digest), 4);
        assert_eq!(size_of::<FsverityDigest>(), 4 + DIGEST_MAX);
        // _IOWR is 3 << 30, the size 16 bits further up than the type, the type 8 than the number.
        assert_eq!(FS_IOC_MEASURE_VERITY, (3 << 30) | (4 << 16) | (u32::from(b'f') << 8) | 134);
    }

    #[test]
    fn a_file_without_fs_verity_has_none() {
        let file = tempfile::tempfile().unwrap();
        let errno = measure(file.as_fd()).unwrap_err();
        assert!([Errno::NODATA, Errno::NOTTY, Errno::OPNOTSUPP].contains(&errno), "{errno}");
    }
}
