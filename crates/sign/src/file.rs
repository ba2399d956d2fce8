//! One regular file, open: its digest, its label, and whether it held still meanwhile.
//!
//! Everything happens on one descriptor, so what is hashed, judged and labelled is the same inode
//! whatever happens to its name. The label is written by one `fsetxattr(2)`, which a kernel does
//! completely or not at all: an interrupted run leaves old labels and new ones, never half of one.

use std::{
    fs::File,
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    sync::atomic::{AtomicBool, Ordering},
};

use appraise::{CollectError, VerityDigests};
use ima::{Digest, HashAlgo, Hasher};
use rustix::{fs::XattrFlags, io::Errno};

/// The attribute that holds the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attribute {
    /// `security.ima`.
    #[default]
    Ima,
    /// `user.imafs.ima`.
    User,
}

impl Attribute {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ima => appraise::IMA,
            Self::User => appraise::USER_IMA,
        }
    }
}

/// How much is read at once: large enough to stream, small enough for many workers.
const CHUNK: usize = 256 * 1024;

/// The largest value any xattr has (`XATTR_SIZE_MAX`).
const MAX_LABEL: usize = 65_536;

/// What went wrong with one file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("cannot open")]
    Open(#[source] Errno),
    /// Its attributes or content cannot be read.
    #[error("cannot read")]
    Read(#[source] std::io::Error),
    /// Its label cannot be read.
    #[error("cannot read the label")]
    ReadLabel(#[source] Errno),
    /// Its label cannot be written.
    #[error("cannot write the label")]
    WriteLabel(#[source] Errno),
    /// It kept changing while it was read.
    #[error("the file keeps changing")]
    Changing,
    /// Its fs-verity digest cannot be collected.
    #[error("cannot collect the fs-verity digest")]
    Collect(#[source] CollectError),
    /// The hash algorithm cannot be computed here.
    #[error("cannot compute {} digests", .0.name())]
    Algorithm(HashAlgo),
    /// The key does not sign such digests.
    #[error("cannot sign")]
    Sign(#[source] crate::key::SigningError),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// The state of a file's content as its inode tells it; equal before and after means it held still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    /// Whether the content is the same; writing a label moves the change time only.
    pub fn same_content(&self, other: &Self) -> bool {
        (self.size, self.modified) == (other.size, other.modified)
    }
}

/// An open regular file.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    metadata: std::fs::Metadata,
    attribute: Attribute,
}

impl OpenFile {
    /// Takes an open descriptor of a file whose label is in `attribute`; `Ok(None)` when it turned out to be no regular
    /// file.
    ///
    /// # Errors
    /// [`FileError::Read`] when it cannot be examined.
    pub fn new(file: File, attribute: Attribute) -> Result<Option<Self>, FileError> {
        let metadata = file.metadata().map_err(FileError::Read)?;
        Ok(metadata.is_file().then_some(Self { file, metadata, attribute }))
    }

    /// Device and inode, and how many names the inode has.
    pub fn identity(&self) -> ((u64, u64), u64) {
        ((self.metadata.dev(), self.metadata.ino()), self.metadata.nlink())
    }

    /// Whether anybody may execute it, or it is an ELF object (libraries need no execute bit).
    ///
    /// # Errors
    /// [`FileError::Read`].
    pub fn is_executable(&self) -> Result<bool, FileError> {
        if self.metadata.mode() & 0o111 != 0 {
            return Ok(true);
        }
        let mut magic = [0; 4];
        let read = self.file.read_at(&mut magic, 0).map_err(FileError::Read)?;
        Ok(read == magic.len() && magic == *b"\x7fELF")
    }

    /// The label, or `None` when there is none (or the filesystem has no xattrs at all).
    ///
    /// # Errors
    /// [`FileError::ReadLabel`].
    pub fn label(&self) -> Result<Option<Vec<u8>>, FileError> {
        for size in [1024, MAX_LABEL] {
            let mut value = vec![0; size];
            match rustix::fs::fgetxattr(&self.file, self.attribute.name(), value.as_mut_slice()) {
                Ok(len) => {
                    value.truncate(len);
                    return Ok(Some(value));
                }
                Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
                Err(Errno::RANGE) => {}
                Err(errno) => return Err(FileError::ReadLabel(errno)),
            }
        }
        Err(FileError::ReadLabel(Errno::RANGE))
    }

    /// Writes the label, replacing any other.
    ///
    /// # Errors
    /// [`FileError::WriteLabel`]: `EPERM` without `CAP_SYS_ADMIN` or on an immutable file.
    pub fn set_label(&self, label: &[u8]) -> Result<(), FileError> {
        rustix::fs::fsetxattr(&self.file, self.attribute.name(), label, XattrFlags::empty())
            .map_err(FileError::WriteLabel)
    }

    /// The content's present version.
    ///
    /// # Errors
    /// [`FileError::Read`].
    pub fn version(&self) -> Result<Version, FileError> {
        let now = self.file.metadata().map_err(FileError::Read)?;
        Ok(Version {
            size: now.size(),
            modified: (now.mtime(), now.mtime_nsec()),
            changed: (now.ctime(), now.ctime_nsec()),
        })
    }

    /// Hashes the content from its first byte, giving up when `stop` is set.
    ///
    /// Returns the version it belongs to: the one before reading, which also stood afterwards.
    /// A file that changes is read again, three times in all.
    ///
    /// # Errors
    /// [`FileError::Changing`] when it never held still, [`FileError::Interrupted`],
    /// [`FileError::Algorithm`], [`FileError::Read`].
    pub fn collect(&self, algo: HashAlgo, stop: &AtomicBool) -> Result<(Digest, Version), FileError> {
        for _ in 0..3 {
            let before = self.version()?;
            let (digest, size) = self.hash(algo, stop)?;
            if size == before.size && self.version()? == before {
                return Ok((digest, before));
            }
        }
        Err(FileError::Changing)
    }

    /// Collects the fs-verity digest: the filesystem's where it keeps one, else computed with `algo`. Otherwise as
    /// [`OpenFile::collect`], but a request to stop is heeded before and after only.
    ///
    /// # Errors
    /// As for [`OpenFile::collect`].
    pub fn collect_verity(&self, algo: HashAlgo, stop: &AtomicBool) -> Result<(Digest, Version), FileError> {
        for _ in 0..3 {
            if stop.load(Ordering::Relaxed) {
                return Err(FileError::Interrupted);
            }
            let before = self.version()?;
            match appraise::collect_verity(&self.file, algo, VerityDigests::Computed) {
                Ok(collected) if self.version()? == before => return Ok((collected.digest, before)),
                Ok(_) | Err(CollectError::Short { .. }) => {}
                Err(CollectError::Unavailable(_)) => return Err(FileError::Algorithm(algo)),
                Err(error) => return Err(FileError::Collect(error)),
            }
        }
        Err(FileError::Changing)
    }

    fn hash(&self, algo: HashAlgo, stop: &AtomicBool) -> Result<(Digest, u64), FileError> {
        let mut hasher = Hasher::new(algo).map_err(|_| FileError::Algorithm(algo))?;
        let mut chunk = vec![0; CHUNK.min(usize::try_from(self.metadata.size()).unwrap_or(CHUNK) + 1)];
        let mut reader = FromStart { file: &self.file, offset: 0 };
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(FileError::Interrupted);
            }
            let len = match reader.read(&mut chunk) {
                Ok(0) => return Ok((hasher.finish(), reader.offset)),
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(FileError::Read(error)),
            };
            hasher.update(chunk.get(..len).unwrap_or_default());
        }
    }
}

/// Reads by offset, so that reading again starts at the beginning without a seek.
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.file.read_at(buffer, self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_grows_while_read_is_noticed() {
        let named = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(named.path(), vec![0; 8 << 20]).unwrap();
        let open = OpenFile::new(File::open(named.path()).unwrap(), Attribute::Ima).unwrap().unwrap();
        let done = AtomicBool::new(false);
        let never = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut size = 8 << 20;
                while !done.load(Ordering::Relaxed) {
                    size += 1;
                    std::fs::OpenOptions::new()
                        .write(true)
                        .open(named.path())
                        .unwrap()
                        .set_len(size)
                        .unwrap();
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            });
            let outcome = open.collect(HashAlgo::Sha512, &never);
            done.store(true, Ordering::Relaxed);
            assert!(matches!(outcome, Err(FileError::Changing)), "{outcome:?}");
        });
        assert!(open.collect(HashAlgo::Sha512, &never).is_ok(), "it holds still again");
    }

    #[test]
    fn a_request_to_stop_is_heeded() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let open = OpenFile::new(File::open(named.path()).unwrap(), Attribute::Ima).unwrap().unwrap();
        let stop = AtomicBool::new(true);
        assert!(matches!(open.collect(HashAlgo::Sha256, &stop), Err(FileError::Interrupted)));
    }

    #[test]
    fn a_directory_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert!(OpenFile::new(File::open(dir.path()).unwrap(), Attribute::Ima).unwrap().is_none());
    }
}
