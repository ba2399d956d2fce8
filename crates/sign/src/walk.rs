//! Finds the files below the paths somebody gave.
//!
//! Symbolic links are never followed below a given path: names are resolved beneath the open
//! directory with `openat2(2)` and `RESOLVE_NO_SYMLINKS`, so a tree that changes under us cannot
//! lead us out of it. Directories on other filesystems are left out unless asked for.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::File,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::file::{Attribute, FileError, OpenFile};

/// Why a file was passed over, which is not a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// A symbolic link; its target is a file of its own.
    Symlink,
    /// A device, FIFO or socket.
    Special,
    /// Another name of an inode already done.
    HardLink,
    /// A directory on another filesystem, with all below it.
    OtherFilesystem,
    /// Neither executable nor ELF, where only those were asked for.
    NotExecutable,
    /// It already carries the label it would get.
    UpToDate,
    /// It carries a signature, which a hash does not replace unasked.
    Signed,
}

impl Skip {
    /// The reason in words that follow a count.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Symlink => "symbolic links",
            Self::Special => "devices, fifos and sockets",
            Self::HardLink => "hard links to files already done",
            Self::OtherFilesystem => "directories on other filesystems",
            Self::NotExecutable => "neither executable nor ELF",
            Self::UpToDate => "already labelled so",
            Self::Signed => "signed, and a hash would replace the signature",
        }
    }
}

/// What to look at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    /// Only files with an execute bit or an ELF header.
    pub executables_only: bool,
    /// Also what is mounted below the given paths.
    pub cross_filesystems: bool,
    /// Where the labels of files are.
    pub attribute: Attribute,
}

/// One thing the walk came upon.
#[derive(Debug)]
pub enum Found {
    /// A regular file.
    File(Target),
    /// Something to pass over.
    Skipped(PathBuf, Skip),
    /// A name that could not be examined.
    Failed(PathBuf, std::io::Error),
}

/// A file to open later, in a worker.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    beneath: Option<(Arc<OwnedFd>, PathBuf)>,
    attribute: Attribute,
}

impl Target {
    /// The path to show.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file at `path`, below the open directory `root`, which is shown as `shown`.
    pub fn below(root: &Arc<OwnedFd>, path: PathBuf, shown: PathBuf) -> Self {
        Self { path: shown, beneath: Some((Arc::clone(root), path)), attribute: Attribute::default() }
    }

    /// Opens the file for reading; `Ok(None)` when it is no longer a regular file.
    ///
    /// # Errors
    /// [`FileError::Open`]; a path that has come to lead through a symbolic link is `ELOOP`.
    pub fn open(&self) -> Result<Option<OpenFile>, FileError> {
        // NONBLOCK: the file may have been replaced by a fifo since it was found.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match &self.beneath {
            Some((root, relative)) => rustix::fs::openat2(
                root,
                relative,
                flags,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
            ),
            None => rustix::fs::openat(CWD, &self.path, flags, Mode::empty()),
        };
        OpenFile::new(File::from(fd.map_err(FileError::Open)?), self.attribute)
    }
}

/// Inodes with several names that have been seen; the first name wins.
#[derive(Debug, Default)]
pub struct HardLinks(Mutex<HashSet<(u64, u64)>>);

impl HardLinks {
    /// Whether this file's inode came by under another name before.
    pub fn seen(&self, file: &OpenFile) -> bool {
        let (inode, links) = file.identity();
        links > 1 && !self.0.lock().insert(inode)
    }
}

/// Walks `path`, a file or a directory, handing each find to `each` until that returns `false`.
///
/// Returns `false` when it was told to stop.
pub fn walk(path: &Path, selection: Selection, each: &mut dyn FnMut(Found) -> bool) -> bool {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) => return each(Found::Failed(path.to_owned(), error)),
    };
    if !metadata.is_dir() {
        return each(classify(path.to_owned(), metadata.file_type(), None, selection.attribute));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(root) => walk_tree(path, &Arc::new(root), metadata.dev(), selection, each),
        Err(errno) => each(Found::Failed(path.to_owned(), errno.into())),
    }
}

fn walk_tree(
    path: &Path,
    root: &Arc<OwnedFd>,
    device: u64,
    selection: Selection,
    each: &mut dyn FnMut(Found) -> bool,
) -> bool {
    let mut entries = walkdir::WalkDir::new(path).follow_links(false).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        let found = match entry {
            Ok(entry) if entry.file_type().is_dir() => {
                let elsewhere = !selection.cross_filesystems
                    && entry.metadata().is_ok_and(|metadata| metadata.dev() != device);
                if !elsewhere {
                    continue;
                }
                entries.skip_current_dir();
                Found::Skipped(entry.into_path(), Skip::OtherFilesystem)
            }
            Ok(entry) => {
                let beneath = entry.path().strip_prefix(path).ok().map(|r| (Arc::clone(root), r.to_owned()));
                let file_type = entry.file_type();
                classify(entry.into_path(), file_type, beneath, selection.attribute)
            }
            Err(error) => {
                let at = error.path().unwrap_or(path).to_owned();
                let source = error.into_io_error().unwrap_or_else(|| Errno::LOOP.into());
                Found::Failed(at, source)
            }
        };
        if !each(found) {
            return false;
        }
    }
    true
}

fn classify(
    path: PathBuf,
    file_type: std::fs::FileType,
    beneath: Option<(Arc<OwnedFd>, PathBuf)>,
    attribute: Attribute,
) -> Found {
    if file_type.is_file() {
        Found::File(Target { path, beneath, attribute })
    } else if file_type.is_symlink() {
        Found::Skipped(path, Skip::Symlink)
    } else {
        Found::Skipped(path, Skip::Special)
    }
}

/// Splits a NUL-separated list of paths; empty entries are dropped.
pub fn split_nul(list: &[u8]) -> Vec<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    list.split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(OsStr::from_bytes(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> (Vec<String>, Vec<Skip>) {
        let (mut files, mut skips) = (Vec::new(), Vec::new());
        walk(path, Selection::default(), &mut |found| {
            match found {
                Found::File(target) => {
                    files.push(target.path().file_name().unwrap().to_string_lossy().into_owned());
                }
                Found::Skipped(_, reason) => skips.push(reason),
                Found::Failed(path, error) => panic!("{}: {error}", path.display()),
            }
            true
        });
        (files, skips)
    }

    #[test]
    fn links_and_fifos_are_passed_over_and_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/a"), "a").unwrap();
        std::fs::write(dir.path().join("b"), "b").unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("c")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        let (files, skips) = names(dir.path());
        assert_eq!(files, ["b", "a"]);
        assert_eq!(skips, [Skip::Symlink, Skip::Symlink, Skip::Special]);
    }

    #[test]
    fn a_directory_swapped_for_a_link_does_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/a"), "inside").unwrap();
        std::fs::write(outside.path().join("a"), "outside").unwrap();
        let mut targets = Vec::new();
        walk(dir.path(), Selection::default(), &mut |found| {
            targets.extend(matches!(&found, Found::File(_)).then_some(found));
            true
        });
        let [Found::File(target)] = &targets[..] else { panic!("{targets:?}") };
        assert!(target.open().unwrap().is_some());
        std::fs::rename(dir.path().join("sub"), dir.path().join("old")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("sub")).unwrap();
        assert!(matches!(target.open(), Err(FileError::Open(Errno::LOOP))));
    }

    #[test]
    fn nul_lists_keep_every_byte_of_a_name() {
        assert_eq!(split_nul(b"a\nb\0\0c d\0"), [PathBuf::from("a\nb"), PathBuf::from("c d")]);
    }
}
