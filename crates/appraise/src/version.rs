//! The content version of a file: what must be unchanged for a verdict to stand.

use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, statx};
use rustix::io::Errno;

/// How long after a change a second change can still carry the same timestamp.
///
/// Kernels before 6.13 stamp with the tick (at most 10 ms); twice that, so that a file changed, hashed and
/// changed again within one tick is hashed once more rather than believed.
const TIMESTAMP_GRAIN: Duration = Duration::from_millis(20);

/// The same where the filesystem keeps whole seconds only, as ext4 does with inodes of 128 bytes.
const WHOLE_SECONDS_GRAIN: Duration = Duration::from_secs(2);

/// Identifies one state of one file's content.
///
/// Two equal versions mean the same inode with the same size and the same change and modification times, to
/// the nanosecond. Any write, truncation, label change or attribute change gives another. A change made within
/// the same clock tick as the previous one may not: see [`ContentVersion::is_settled_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentVersion {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
}

impl ContentVersion {
    /// The file's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The backing filesystem's device number.
    #[must_use]
    pub fn dev(&self) -> u64 {
        self.dev
    }

    /// The backing inode number.
    #[must_use]
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// Whether size and modification time agree with `other`, so that at most attributes differ.
    ///
    /// A modification time can be set at will; this answers only for changes the caller made itself.
    #[must_use]
    pub fn same_data_times(&self, other: &Self) -> bool {
        (self.dev, self.ino, self.size, self.mtime) == (other.dev, other.ino, other.size, other.mtime)
    }

    /// Whether a change after `now` is sure to give another version.
    ///
    /// False while the last change is so recent that the next one could carry the same timestamp, and when
    /// the change time lies in the future (a clock set back).
    #[must_use]
    pub fn is_settled_at(&self, now: SystemTime) -> bool {
        let (Ok(secs), nanos) = (u64::try_from(self.ctime.0), self.ctime.1) else {
            return true;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(secs, nanos);
        // A finer timestamp is a whole second once in a blue moon, and then one more look at the file costs little.
        let grain = if nanos == 0 { WHOLE_SECONDS_GRAIN } else { TIMESTAMP_GRAIN };
        now.duration_since(changed).is_ok_and(|age| age > grain)
    }
}

/// What one `statx` tells about a file: its content version and what policy asks for.
#[derive(Debug, Clone, Copy)]
pub struct FileFacts {
    /// The content version.
    pub version: ContentVersion,
    /// Owner uid on the backing filesystem.
    pub owner: u32,
    /// Owner gid on the backing filesystem.
    pub group: u32,
    /// The full `st_mode`, type bits included.
    pub mode: u16,
    /// How many names it has.
    pub links: u32,
}

impl FileFacts {
    /// Whether this is a regular file, the only kind that is checked.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        FileType::from_raw_mode(u32::from(self.mode)) == FileType::RegularFile
    }
}

/// Reads the facts of an open file; `O_PATH` suffices.
///
/// # Errors
/// The errno of `statx(2)`, or `EIO` when the filesystem does not fill in what was asked for.
pub fn facts(fd: impl AsFd) -> Result<FileFacts, Errno> {
    let wanted = StatxFlags::BASIC_STATS;
    let stat = statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, wanted)?;
    let needed = StatxFlags::SIZE | StatxFlags::MTIME | StatxFlags::CTIME | StatxFlags::INO;
    if !StatxFlags::from_bits_retain(stat.stx_mask).contains(needed) {
        return Err(Errno::IO);
    }
    Ok(FileFacts {
        version: version_of(&stat),
        owner: stat.stx_uid,
        group: stat.stx_gid,
        mode: stat.stx_mode,
        links: stat.stx_nlink,
    })
}

fn version_of(stat: &Statx) -> ContentVersion {
    ContentVersion {
        dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        size: stat.stx_size,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_write_and_a_chmod_each_give_another_version() {
        let mut file = tempfile::tempfile_in("/var/tmp").unwrap();
        let first = facts(&file).unwrap().version;
        std::thread::sleep(Duration::from_millis(25));
        file.write_all(b"x").unwrap();
        let second = facts(&file).unwrap().version;
        assert_ne!(first, second);
        std::thread::sleep(Duration::from_millis(25));
        rustix::fs::fchmod(&file, rustix::fs::Mode::RUSR).unwrap();
        let third = facts(&file).unwrap().version;
        assert_ne!(second, third);
        assert!(second.same_data_times(&third));
    }

    #[test]
    fn a_version_settles_only_after_the_timestamp_grain() {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let version = facts(&file).unwrap().version;
        let now = SystemTime::now();
        assert!(!version.is_settled_at(now));
        assert!(version.is_settled_at(now + 2 * TIMESTAMP_GRAIN));
        assert!(!version.is_settled_at(now - Duration::from_secs(60)));
    }

    #[test]
    fn a_change_stamped_with_a_whole_second_settles_only_when_the_next_one_cannot_share_it() {
        let at =
            |nanos| ContentVersion { dev: 0, ino: 0, size: 0, mtime: (1000, nanos), ctime: (1000, nanos) };
        let later = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000 + millis);
        assert!(!at(0).is_settled_at(later(999)));
        assert!(at(0).is_settled_at(later(2001)));
        assert!(at(1).is_settled_at(later(999)));
    }

    #[test]
    fn a_directory_is_not_a_regular_file() {
        let dir = std::fs::File::open("/var/tmp").unwrap();
        assert!(!facts(&dir).unwrap().is_regular());
        assert!(facts(tempfile::tempfile().unwrap()).unwrap().is_regular());
    }
}
