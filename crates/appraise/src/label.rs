//! Reading and writing the attribute of an open file that holds its label, and reading what EVM protects beside it.

use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

/// The attribute that holds the label for the kernel, and the name under which it is known whatever holds it.
pub const IMA: &str = "security.ima";

/// The attribute that holds the label where storage drops those of `security.`.
pub const USER_IMA: &str = "user.imafs.ima";

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
    #[error("cannot read the label")]
    Read(#[source] Errno),
    /// Writing failed.
    #[error("cannot write the label")]
    Write(#[source] Errno),
    /// Labels are in a manifest, which takes none.
    #[error("a manifest takes no labels")]
    Fixed,
}

impl LabelError {
    /// What the system said; of a manifest, that labels are not supported.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Read(errno) | Self::Write(errno) => *errno,
            Self::Fixed => Errno::OPNOTSUPP,
        }
    }
}

/// Reads the label of the inode behind `fd`, which may be `O_PATH`, from the attribute `name`.
///
/// # Errors
/// [`LabelError::Read`] for anything but a missing label or a filesystem without attributes.
pub(crate) fn read_label(fd: &impl AsFd, name: &str) -> Result<StoredLabel, LabelError> {
    read(fd, name).map_err(LabelError::Read)
}

/// The value of `security.evm`; `None` where there is none or none can be read, as in the kernel's templates.
pub fn read_evm(fd: impl AsFd) -> Option<Vec<u8>> {
    match read(&fd, EVM) {
        Ok(StoredLabel::Value(value)) => Some(value),
        Ok(StoredLabel::Missing | StoredLabel::Unsupported) | Err(_) => None,
    }
}

/// Names and values of the attributes on the file that EVM protects, in EVM's order, with what `label` says for
/// `security.ima`; none at all where one cannot be read, as in the kernel's templates (`evm_read_protected_xattrs`).
pub(crate) fn read_protected(
    fd: &impl AsFd,
    label: impl Fn() -> Result<StoredLabel, LabelError>,
) -> Vec<(&'static str, Vec<u8>)> {
    let mut found = Vec::new();
    for name in PROTECTED {
        let stored = if name == IMA { label() } else { read_label(fd, name) };
        match stored {
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

/// Writes the label of the inode behind `fd` to the attribute `name`, replacing what is there.
///
/// # Errors
/// [`LabelError::Write`]; the old label then stands.
pub(crate) fn write_label(fd: &impl AsFd, name: &str, value: &[u8]) -> Result<(), LabelError> {
    setxattr(proc_path(fd).as_str(), name, value, XattrFlags::empty()).map_err(LabelError::Write)
}

/// The path under which an `O_PATH` descriptor's inode can be named to calls that take no such descriptor.
fn proc_path(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
