//! Mounting and unmounting.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, openat, stat};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::fs::Errno;

const DEVICE: &str = "/dev/fuse";

/// How the mount is shown and whether it may be written.
#[derive(Debug, Clone)]
pub struct MountParams {
    /// What `mount` lists as the device.
    pub fsname: String,
    /// The type is listed as `fuse.` and this.
    pub subtype: String,
    /// Mount read-only.
    pub read_only: bool,
}

/// Why a mount could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// `/dev/fuse` cannot be opened.
    #[error("cannot open /dev/fuse")]
    Device(#[source] Errno),
    /// The target cannot be reached.
    #[error("cannot reach {}", path.display())]
    Target {
        /// The target as given.
        path: PathBuf,
        /// What the system said.
        source: Errno,
    },
    /// The target is not a directory.
    #[error("{} is not a directory", path.display())]
    NotDirectory {
        /// The target as given.
        path: PathBuf,
    },
    /// The kernel refused the mount.
    #[error("cannot mount on {}", path.display())]
    Mount {
        /// The target as given.
        path: PathBuf,
        /// What the system said; `EPERM` without `CAP_SYS_ADMIN`.
        source: Errno,
    },
    /// The kernel refused the unmount.
    #[error("cannot unmount {}", path.display())]
    Unmount {
        /// The target as given.
        path: PathBuf,
        /// What the system said: `EBUSY` while files are open, `EINVAL` when nothing is mounted there.
        source: Errno,
    },
}

/// Mounts a FUSE filesystem on `target` and gives the connection's descriptor, on which INIT already waits.
///
/// Everybody may use the mount; the kernel checks permissions by owner and mode; set-id programs and device nodes
/// work, as a root filesystem needs.
///
/// # Errors
/// Each of [`MountError`] but the last.
pub fn mount(target: &Path, params: &MountParams) -> Result<OwnedFd, MountError> {
    let path = || target.to_owned();
    let found = stat(target).map_err(|source| MountError::Target { path: path(), source })?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Err(MountError::NotDirectory { path: path() });
    }
    let device =
        openat(CWD, DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(MountError::Device)?;
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd()
    );
    let failed = |source| MountError::Mount { path: path(), source };
    let data = CString::new(data).map_err(|_| failed(Errno::INVAL))?;
    let flags = if params.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    let kind = format!("fuse.{}", params.subtype);
    rustix::mount::mount(params.fsname.as_str(), target, kind.as_str(), flags, data.as_c_str())
        .map_err(failed)?;
    Ok(device)
}

/// When an unmount takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Now, or not at all.
    Now,
    /// The mount disappears now and ends when its last user does.
    WhenUnused,
}

/// Unmounts what is mounted on `target`.
///
/// # Errors
/// [`MountError::Unmount`].
pub fn unmount(target: &Path, when: Unmount) -> Result<(), MountError> {
    let flags = match when {
        Unmount::Now => UnmountFlags::empty(),
        Unmount::WhenUnused => UnmountFlags::DETACH,
    };
    unmount_by(target, flags)
}

/// Takes away a mount that nobody serves any more: all who wait for an answer are told that there is none.
///
/// # Errors
/// [`MountError::Unmount`].
pub fn cut(target: &Path) -> Result<(), MountError> {
    unmount_by(target, UnmountFlags::DETACH | UnmountFlags::FORCE)
}

fn unmount_by(target: &Path, flags: UnmountFlags) -> Result<(), MountError> {
    rustix::mount::unmount(target, flags | UnmountFlags::NOFOLLOW)
        .map_err(|source| MountError::Unmount { path: target.to_owned(), source })
}
