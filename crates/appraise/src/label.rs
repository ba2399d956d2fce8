//! Reading and writing the `security.ima` label of an open file, and reading what EVM protects beside it.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

/// Name of the attribute that holds the label.
const NAME: &str = "security.ima";

/// Name of the attribute that holds EVM's value.
const EVM: &str = "security.evm";

/// The attributes that EVM protects, in its order.
///
/// Source: `evm_config_default_xattrnames`, security/integrity/evm/evm_main.c, Linux 6.1.
const PROTECTED: [&str; 8] = [
    "security.selinux",
    "security.SMACK64",
    "security.SMACK64EXEC",
    "security.SMACK64TRANSMUTE",
    "security.SMACK64MMAP",
    "security.apparmor",
    "security.ima",
    "security.capability",
];

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
    read(&fd, NAME).map_err(LabelError::Read)
}

/// The value of `security.evm`; `None` where there is none or none can be read, as in the kernel's templates.
pub fn read_evm(fd: impl AsFd) -> Option<Vec<u8>> {
    match read(&fd, EVM) {
        Ok(StoredLabel::Value(value)) => Some(value),
        Ok(StoredLabel::Missing | StoredLabel::Unsupported) | Err(_) => None,
    }
}

/// Names and values of the attributes on the file that EVM protects, in EVM's order; none at all where one cannot be
/// read, as in the kernel's templates (`evm_read_protected_xattrs`).
pub fn read_protected(fd: impl AsFd) -> Vec<(&'static str, Vec<u8>)> {
    let mut found = Vec::new();
    for name in PROTECTED {
        match read(&fd, name) {
            Ok(StoredLabel::Value(value)) => found.push((name, value)),
            Ok(StoredLabel::Missing) => {}
            Ok(StoredLabel::Unsupported) | Err(_) => return Vec::new(),
        }
    }
    found
}

fn read(fd: &impl AsFd, name: &str) -> Result<StoredLabel, Errno> {
    let path = proc_path(fd);
    let mut capacity = VALUE_USUAL;
    loop {
        let mut value = vec![0_u8; capacity];
        match getxattr(path.as_str(), name, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                return Ok(StoredLabel::Value(value));
            }
            Err(Errno::NODATA) => return Ok(StoredLabel::Missing),
            Err(Errno::OPNOTSUPP) => return Ok(StoredLabel::Unsupported),
            Err(Errno::RANGE) if capacity < VALUE_MAX => capacity = VALUE_MAX,
            Err(errno) => return Err(errno),
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
