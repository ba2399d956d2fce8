//! Truncation by path, which needs no descriptor open for writing.
//!
//! Source: truncate(2).

use std::ffi::CStr;

use rustix::io::Errno;

use crate::check;

/// Sets the length of the regular file at `path`, following symbolic and magic links.
///
/// # Errors
/// Those of truncate(2); [`Errno::FBIG`] for a length beyond `i64::MAX`.
pub fn truncate(path: &CStr, length: u64) -> Result<(), Errno> {
    let length = libc::off_t::try_from(length).map_err(|_| Errno::FBIG)?;
    // SAFETY: truncate(2) reads the terminated string, which is borrowed for the call.
    check(unsafe { libc::truncate(path.as_ptr(), length) }).map(drop)
}
