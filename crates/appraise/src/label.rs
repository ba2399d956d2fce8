//! Reading and writing the `security.ima` label of an open file.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

/// Name of the attribute that holds the label.
const NAME: &str = "security.ima";

/// The largest value the kernel lets an attribute have (`XATTR_SIZE_MAX`, include/uapi/linux/limits.h).
const VALUE_MAX: usize = 65536;

/// Large enough for an RSA-8192 signature with its header, so that one call nearly always suffices.
const VALUE_USUAL: usize = 1100;

/// What was found where the label is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredLabel {
    /// No label.
    Missing,
    /// The filesystem keeps no such attributes.
    Unsupported,
    /// The value as stored; may be empty, may be nonsense.
    Value(Vec<u8>),
}

impl StoredLabel {
    /// The value, when there is one.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Value(bytes) => Some(bytes),
            Self::Missing | Self::Unsupported => None,
        }
    }
}

/// The label could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// Reading failed with something other than "none there".
    #[error("cannot read security.ima")]
    Read(#[source] Errno),
    /// Writing failed.
    #[error("cannot write security.ima")]
    Write(#[source] Errno),
}

/// Reads the label of the inode behind `fd`, which may be `O_PATH`.
///
/// # Errors
/// [`LabelError::Read`] for anything but a missing label or a filesystem without attributes.
pub fn read_label(fd: impl AsFd) -> Result<StoredLabel, LabelError> {
    let path = proc_path(&fd);
    let mut capacity = VALUE_USUAL;
    loop {
        let mut value = vec![0_u8; capacity];
        match getxattr(path.as_str(), NAME, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(StoredLabel::Value(value));
            }
            Err(Errno::NODATA) => return Ok(StoredLabel::Missing),
            Err(Errno::OPNOTSUPP) => return Ok(StoredLabel::Unsupported),
            Err(Errno::RANGE) if capacity < VALUE_MAX => capacity = VALUE_MAX,
            Err(errno) => return Err(LabelError::Read(errno)),
        }
    }
}

/// Writes the label of the inode behind `fd`, replacing what is there.
///
/// # Errors
/// [`LabelError::Write`]; the old label then stands.
pub fn write_label(fd: impl AsFd, value: &[u8]) -> Result<(), LabelError> {
    setxattr(proc_path(&fd).as_str(), NAME, value, XattrFlags::empty()).map_err(LabelError::Write)
}

/// The path under which an `O_PATH` descriptor's inode can be named to calls that take no such descriptor.
fn proc_path(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
