//! Collecting: one pass over a whole file, giving its digest.

use std::os::fd::AsFd;
use std::time::SystemTime;

use ima::{Digest, HashAlgo, Hasher};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::version::{ContentVersion, facts};

/// Bytes read at a time: large enough to make the system call disappear, small enough for the second-level cache.
const CHUNK: usize = 128 * 1024;

/// How often a file that changes while it is read is read again before its last digest is taken as it is.
const ATTEMPTS: usize = 3;

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
}

/// Reads `fd` from its start to its size and hashes it with `algo`.
///
/// The descriptor's own position is neither used nor moved. A file that changes meanwhile is read again, three
/// times at most; after that the last digest is given with `stable` false.
///
/// # Errors
/// [`CollectError`]; nothing may be concluded about the content then.
pub fn collect(fd: impl AsFd, algo: HashAlgo) -> Result<Collected, CollectError> {
    let fd = fd.as_fd();
    let mut buffer = vec![0_u8; CHUNK];
    let mut before = facts(fd).map_err(CollectError::Stat)?.version;
    for attempt in 1..=ATTEMPTS {
        let started = SystemTime::now();
        let result = hash_to_size(fd, algo, before.size(), &mut buffer);
        let after = facts(fd).map_err(CollectError::Stat)?.version;
        let still = after == before;
        if still || attempt == ATTEMPTS {
            let digest = result?;
            return Ok(Collected { digest, version: after, stable: still && before.is_settled_at(started) });
        }
        before = after;
    }
    Err(CollectError::Short { read: 0, expected: before.size() })
}

fn hash_to_size(fd: impl AsFd, algo: HashAlgo, size: u64, buffer: &mut [u8]) -> Result<Digest, CollectError> {
    let mut hasher = Hasher::new(algo).map_err(|_| CollectError::Unavailable(algo.name()))?;
    let mut offset = 0_u64;
    while offset < size {
        let wanted = usize::try_from(size - offset).unwrap_or(usize::MAX).min(buffer.len());
        let Some(window) = buffer.get_mut(..wanted) else { break };
        let read = retry_on_intr(|| pread(fd.as_fd(), &mut *window, offset))
            .map_err(|source| CollectError::Read { offset, source })?;
        let Some(data) = window.get(..read).filter(|data| !data.is_empty()) else {
            return Err(CollectError::Short { read: offset, expected: size });
        };
        hasher.update(data);
        offset += data.len() as u64;
    }
    Ok(hasher.finish())
}
