//! What lies under the mount: one directory tree, opened once and reached by descriptor ever after.
//!
//! The mount that holds it is a private clone that is attached nowhere, so nothing mounted later on the source
//! appears in it and no path leads around the filesystem into it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Statx, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, open_tree,
};
use sys::handle::FileHandle;
use sys::mount_attr;

use super::attr::{Attr, stat};

/// Why a backing tree could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackingError {
    /// The source cannot be reached.
    #[error("cannot open {}", path.display())]
    Open {
        /// The source as given.
        path: PathBuf,
        /// What the system said.
        source: Errno,
    },
    /// The source is not a directory.
    #[error("{} is not a directory", path.display())]
    NotDirectory {
        /// The source as given.
        path: PathBuf,
    },
    /// The kernel refused an overlay mount of the layers.
    #[error("cannot stack the layers: the kernel refused {step}")]
    Overlay {
        /// The step, an option of overlayfs or the mount itself.
        step: String,
        /// What the system said.
        source: Errno,
    },
}

/// Whether the tree is a plain directory or a stack of layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A directory of some filesystem.
    Directory,
    /// An overlay of our own making.
    Overlay,
}

/// The tree under the mount.
#[derive(Debug)]
pub struct Backing {
    /// Keeps the detached mount: it is dissolved when this descriptor closes.
    _mount: OwnedFd,
    /// Its root, open for reading, because `open_by_handle_at(2)` refuses an `O_PATH` descriptor.
    root: OwnedFd,
    shape: Shape,
    device: u64,
    handles: bool,
}

impl Backing {
    /// Opens a directory as the backing tree.
    ///
    /// # Errors
    /// [`BackingError::Open`] and [`BackingError::NotDirectory`].
    pub fn directory(source: &Path, read_only: bool) -> Result<Self, BackingError> {
        let failed = |errno| BackingError::Open { path: source.to_owned(), source: errno };
        let probe = openat(CWD, source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        if FileType::from_raw_mode(u32::from(stat(&probe).map_err(failed)?.stx_mode)) != FileType::Directory {
            return Err(BackingError::NotDirectory { path: source.to_owned() });
        }
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = open_tree(&probe, c"", flags).map_err(failed)?;
        Self::on_mount(mount, Shape::Directory, read_only).map_err(failed)
    }

    /// Stacks `lower` directories (topmost first) under `upper` as a kernel overlay that is attached nowhere.
    ///
    /// # Errors
    /// [`BackingError::Overlay`] with the option the kernel refused.
    pub fn overlay(
        lower: &[PathBuf],
        upper: &Path,
        work: &Path,
        read_only: bool,
    ) -> Result<Self, BackingError> {
        // With an index and handles inodes are found again without a descriptor each. An upper layer that was
        // used over other lower ones before cannot have them: it works without.
        let mount = match overlay_mount(lower, Some((upper, work)), true) {
            Err(BackingError::Overlay { source: Errno::STALE | Errno::INVAL, .. }) => {
                overlay_mount(lower, Some((upper, work)), false)
            }
            other => other,
        }?;
        Self::of_layers(mount, read_only)
    }

    /// Stacks directories (topmost first) as a kernel overlay that nobody can write and that is attached nowhere.
    ///
    /// # Errors
    /// [`BackingError::Overlay`] with the option the kernel refused.
    pub fn stack(layers: &[PathBuf]) -> Result<Self, BackingError> {
        Self::of_layers(overlay_mount(layers, None, false)?, true)
    }

    fn of_layers(mount: OwnedFd, read_only: bool) -> Result<Self, BackingError> {
        Self::on_mount(mount, Shape::Overlay, read_only)
            .map_err(|source| BackingError::Overlay { step: "the mount's root".to_owned(), source })
    }

    fn on_mount(mount: OwnedFd, shape: Shape, read_only: bool) -> Result<Self, Errno> {
        mount_attr::set(mount.as_fd(), mount_attr::Change { read_only, private: true })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&mount, c".", flags, Mode::empty())?;
        let device = device_of(&stat(&root)?);
        let handles = FileHandle::of(root.as_fd())
            .and_then(|handle| handle.open(root.as_fd(), OFlags::PATH | OFlags::CLOEXEC))
            .is_ok();
        Ok(Self { _mount: mount, root, shape, device, handles })
    }

    /// The root directory, open for reading.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether this is a stack of layers.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether the filesystem decodes file handles. Without them each known inode costs a descriptor.
    #[must_use]
    pub fn has_handles(&self) -> bool {
        self.handles
    }

    /// The attributes in `stat` as the mount shows them.
    pub(super) fn attr(&self, stat: &Statx) -> Attr {
        Attr::new(stat, self.fold(device_of(stat), stat.stx_ino))
    }

    /// The inode number shown for an entry that only `getdents(2)` has been asked about.
    pub(super) fn fold_entry(&self, directory: &Statx, ino: u64) -> u64 {
        self.fold(device_of(directory), ino)
    }

    /// Inode numbers are the backing ones, so that they outlive the kernel's caches. Where one tree spans several
    /// devices (layers, subvolumes) the foreign devices are told apart in the upper bits, as overlayfs' xino does.
    fn fold(&self, device: u64, ino: u64) -> u64 {
        if device == self.device {
            return ino;
        }
        let spread = device.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49;
        ino ^ ((spread | 1) << 48)
    }

    /// The (device, inode) that the absolute `path` names inside the tree, symbolic links followed inside it.
    pub(super) fn resolve(&self, path: &[u8]) -> Option<(u64, u64)> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), resolve).ok()?;
        let stat = stat(fd).ok()?;
        Some((device_of(&stat), stat.stx_ino))
    }
}

/// The device of an inode as one number.
pub(super) fn device_of(stat: &Statx) -> u64 {
    rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

/// `writable` is the upper layer with its work directory.
fn overlay_mount(
    lower: &[PathBuf],
    writable: Option<(&Path, &Path)>,
    index: bool,
) -> Result<OwnedFd, BackingError> {
    let failed = |step: &str, source| BackingError::Overlay { step: step.to_owned(), source };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| failed("overlay", e))?;
    let set = |key: &str, value: &OsStr| {
        fsconfig_set_string(&context, key, value)
            .map_err(|e| failed(&format!("{key}={}", value.to_string_lossy()), e))
    };
    set("source", OsStr::new("imafs"))?;
    set_lower(lower, &set)?;
    if let Some((upper, work)) = writable {
        set("upperdir", upper.as_os_str())?;
        set("workdir", work.as_os_str())?;
    }
    if index {
        set("index", OsStr::new("on"))?;
        set("nfs_export", OsStr::new("on"))?;
    }
    fsconfig_create(&context).map_err(|e| failed("the overlay of these layers", e))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(|e| failed("the mount", e))
}

/// One `lowerdir+` per layer where the kernel has it (6.5), because it needs no escaping; else the joined form.
fn set_lower(
    lower: &[PathBuf],
    set: &dyn Fn(&str, &OsStr) -> Result<(), BackingError>,
) -> Result<(), BackingError> {
    let Some((first, rest)) = lower.split_first() else { return Ok(()) };
    if set("lowerdir+", first.as_os_str()).is_ok() {
        return rest.iter().try_for_each(|layer| set("lowerdir+", layer.as_os_str()));
    }
    let mut joined = Vec::new();
    for layer in lower {
        if !joined.is_empty() {
            joined.push(b':');
        }
        for &byte in layer.as_os_str().as_bytes() {
            if byte == b':' || byte == b'\\' {
                joined.push(b'\\');
            }
            joined.push(byte);
        }
    }
    set("lowerdir", OsStr::from_bytes(&joined))
}
