//! Collecting: the digest of a whole file and the version it belongs to.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::SystemTime;

use ima::{Digest, HashAlgo, Hasher};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::version::{ContentVersion, facts};

/// Bytes read at a time: large enough to make the system call disappear, small enough for the second-level cache.
const CHUNK: usize = 128 * 1024;

/// How often a file that changes while it is read is read again before its last digest is taken as it is.
const ATTEMPTS: usize = 3;

/// How far collecting may go, for whoever collects what others chose.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// The largest file that is read, in bytes.
    pub largest: u64,
    /// Whether to give up now; asked before each piece, a fraction of a millisecond's work, of any thread.
    pub gives_up: &'a (dyn Fn() -> bool + Sync),
}

impl Bounds<'_> {
    /// To the end, however long it takes.
    pub const NONE: Bounds<'static> = Bounds { largest: u64::MAX, gives_up: &|| false };

    /// # Errors
    /// [`CollectError::TooLarge`].
    pub(crate) fn allow(&self, size: u64) -> Result<(), CollectError> {
        if size > self.largest { Err(CollectError::TooLarge { size }) } else { Ok(()) }
    }

    /// # Errors
    /// [`CollectError::GivenUp`].
    pub(crate) fn go_on(&self) -> Result<(), CollectError> {
        if (self.gives_up)() { Err(CollectError::GivenUp) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Bounds<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bounds").field("largest", &self.largest).finish_non_exhaustive()
    }
}

/// A digest and what it is the digest of.
#[derive(Debug, Clone, Copy)]
pub struct Collected {
    /// The digest of the whole content.
    pub digest: Digest,
    /// The version the content had, before as well as after reading.
    pub version: ContentVersion,
    /// Whether the digest may be remembered for that version: the file stood still while it was read, and its
    /// last change is old enough that another one is sure to show.
    pub stable: bool,
}

/// Why no digest could be collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The file's facts could not be read.
    #[error("cannot stat the file")]
    Stat(#[source] Errno),
    /// Reading failed.
    #[error("cannot read the file at offset {offset}")]
    Read {
        /// Byte offset of the read that failed.
        offset: u64,
        /// What the read gave.
        #[source]
        source: Errno,
    },
    /// The algorithm is known by name only.
    #[error("hash algorithm {0} is not available")]
    Unavailable(&'static str),
    /// The file ended before the size it had at the start, as the kernel reports it (unexpected end of file).
    #[error("the file ended at {read} of {expected} bytes")]
    Short {
        /// Bytes read.
        read: u64,
        /// Size at the start.
        expected: u64,
    },
    /// Whoever asked for it does not want it any more.
    #[error("given up")]
    GivenUp,
    /// The file is larger than those that are read here.
    #[error("the file has {size} bytes, more than are read here")]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// The backing filesystem keeps no fs-verity digest of this file, and none was to be computed.
    #[error("the file has no fs-verity digest")]
    NoVerity,
    /// The kernel has an fs-verity digest of an algorithm unknown here, or one of an impossible length.
    #[error("the file's fs-verity digest is not one")]
    InvalidVerity,
}

impl CollectError {
    /// What an audit record calls it, in the kernel's words.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::NoVerity => "no-verity-digest",
            Self::InvalidVerity => "invalid-verity-digest",
            Self::Stat(_)
            | Self::Read { .. }
            | Self::Unavailable(_)
            | Self::Short { .. }
            | Self::GivenUp
            | Self::TooLarge { .. } => "failed",
        }
    }
}

/// Reads `fd` from its start to its size and hashes it with `algo`.
///
/// The descriptor's own position is neither used nor moved. A file that changes meanwhile is read again, three
/// times at most; after that the last digest is given with `stable` false.
///
/// # Errors
/// [`CollectError`]; nothing may be concluded about the content then.
pub fn collect(fd: impl AsFd, algo: HashAlgo) -> Result<Collected, CollectError> {
    collect_within(fd, algo, &Bounds::NONE)
}

/// The same, within `bounds`.
///
/// # Errors
/// As [`collect()`]; also [`CollectError::GivenUp`] and [`CollectError::TooLarge`].
pub fn collect_within(fd: impl AsFd, algo: HashAlgo, bounds: &Bounds<'_>) -> Result<Collected, CollectError> {
    let mut buffer = vec![0_u8; CHUNK];
    of_one_version(fd.as_fd(), |fd, size| hash_to_size(fd, algo, size, &mut buffer, bounds))
}

/// The digest that `digest` makes of one version of the file: told the size that it begins with, and asked again
/// when the file did not stand still meanwhile.
pub(crate) fn of_one_version(
    fd: BorrowedFd<'_>,
    mut digest: impl FnMut(BorrowedFd<'_>, u64) -> Result<Digest, CollectError>,
) -> Result<Collected, CollectError> {
    let mut before = facts(fd).map_err(CollectError::Stat)?.version;
    let mut attempt = 1;
    loop {
        let started = SystemTime::now();
        let result = digest(fd, before.size());
        if let Err(error @ (CollectError::GivenUp | CollectError::TooLarge { .. })) = result {
            return Err(error);
        }
        let after = facts(fd).map_err(CollectError::Stat)?.version;
        let still = after == before;
        if still || attempt == ATTEMPTS {
            let digest = result?;
            return Ok(Collected { digest, version: after, stable: still && before.is_settled_at(started) });
        }
        before = after;
        attempt += 1;
    }
}

/// Fills `window` from `offset` on, as a file of `size` bytes must be able to.
pub(crate) fn read_whole(
    fd: BorrowedFd<'_>,
    window: &mut [u8],
    offset: u64,
    size: u64,
) -> Result<(), CollectError> {
    let mut filled = 0;
    while let Some(rest) = window.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = offset + filled as u64;
        let read = retry_on_intr(|| pread(fd, &mut *rest, at))
            .map_err(|source| CollectError::Read { offset: at, source })?;
        if read == 0 {
            return Err(CollectError::Short { read: at, expected: size });
        }
        filled += read;
    }
    Ok(())
}

fn hash_to_size(
    fd: BorrowedFd<'_>,
    algo: HashAlgo,
    size: u64,
    buffer: &mut [u8],
    bounds: &Bounds<'_>,
) -> Result<Digest, CollectError> {
    bounds.allow(size)?;
    let mut hasher = Hasher::new(algo).map_err(|_| CollectError::Unavailable(algo.name()))?;
    let mut offset = 0_u64;
    while offset < size {
        let wanted = usize::try_from(size - offset).unwrap_or(usize::MAX).min(buffer.len());
        let Some(window) = buffer.get_mut(..wanted) else { break };
        bounds.go_on()?;
        read_whole(fd, window, offset, size)?;
        hasher.update(window);
        offset += wanted as u64;
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::time::Duration;

    fn settled(content: &[u8]) -> File {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        file.write_all_at(content, 0).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        file
    }

    #[test]
    fn what_moves_once_is_read_again_and_what_goes_on_moving_is_not_remembered() {
        for (moves, readings, stable) in [(0, 1, true), (2, 3, false), (9, 3, false)] {
            let file = settled(b"content");
            let mut asked = 0;
            let collected = of_one_version(file.as_fd(), |_, size| {
                asked += 1;
                assert_eq!(size, 7, "reading {asked}");
                if asked <= moves {
                    std::thread::sleep(Duration::from_millis(25));
                    file.write_all_at(b"C", 0).unwrap();
                }
                Ok(Digest::zero(HashAlgo::Sha256))
            })
            .unwrap();
            assert_eq!((asked, collected.stable), (readings, stable), "{moves} moves");
        }
    }

    #[test]
    fn a_file_cut_off_while_it_is_read_is_read_to_its_new_end() {
        let file = settled(b"content");
        let collected = of_one_version(file.as_fd(), |fd, size| {
            if size == 7 {
                file.set_len(3).unwrap();
            }
            hash_to_size(fd, HashAlgo::Sha256, size, &mut [0; 2], &Bounds::NONE)
        })
        .unwrap();
        assert_eq!(collected.digest, ima::hash(HashAlgo::Sha256, b"con").unwrap());
        let short = hash_to_size(file.as_fd(), HashAlgo::Sha256, 7, &mut [0; 2], &Bounds::NONE).unwrap_err();
        assert!(matches!(short, CollectError::Short { read: 3, expected: 7 }));
    }

    #[test]
    fn collecting_ends_where_it_is_bounded() {
        use crate::{VerityDigests, collect_verity_within};
        use std::sync::atomic::{AtomicUsize, Ordering};
        let file = settled(&[7; 3 * CHUNK]);
        let asked = AtomicUsize::new(0);
        let gives_up = || asked.fetch_add(1, Ordering::Relaxed) == 2;
        let (algo, computed) = (HashAlgo::Sha256, VerityDigests::Computed);
        let bounds = Bounds { largest: 3 * CHUNK as u64, gives_up: &gives_up };
        assert!(matches!(collect_within(&file, algo, &bounds), Err(CollectError::GivenUp)));
        assert_eq!(asked.load(Ordering::Relaxed), 3, "before each piece, and never again");
        let never = Bounds { gives_up: &|| true, ..bounds };
        assert!(matches!(collect_verity_within(&file, algo, computed, &never), Err(CollectError::GivenUp)));
        let small = Bounds { largest: bounds.largest - 1, ..Bounds::NONE };
        for refused in [
            collect_within(&file, algo, &small).unwrap_err(),
            collect_verity_within(&file, algo, computed, &small).unwrap_err(),
        ] {
            assert!(matches!(refused, CollectError::TooLarge { size } if size == bounds.largest));
        }
        let enough = Bounds { largest: bounds.largest, ..Bounds::NONE };
        let digest = ima::hash(algo, &[7; 3 * CHUNK]).unwrap();
        assert_eq!(collect_within(&file, algo, &enough).unwrap().digest, digest);
    }
}
