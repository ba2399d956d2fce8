//! The mounts of this process's namespace, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// One line of `mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Mount id, unique in the namespace while it lasts.
    pub id: u64,
    /// `major:minor` of the superblock.
    pub device: String,
    /// What of its filesystem is mounted: a path from the filesystem's root.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Filesystem type with subtype, such as `ext4` or `fuse.imafs`.
    pub kind: String,
    /// What is mounted, such as `/dev/vda1`.
    pub source: OsString,
    /// Options of the superblock, such as an overlay's layers.
    pub options: OsString,
}

/// All mounts, in the order they were made over each other.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn all() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// The topmost mount on exactly this directory.
pub fn at(target: &Path) -> Option<Mount> {
    all().ok()?.into_iter().rfind(|mount| mount.point == target)
}

/// What is mounted on directories beneath `target`.
pub fn beneath(target: &Path) -> Vec<Mount> {
    let mut mounts = all().unwrap_or_default();
    mounts.retain(|mount| mount.point != target && is_beneath(&mount.point, target));
    mounts
}

/// Source: proc_pid_mountinfo(5).
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8_lossy(words.nth(1)?).into_owned();
    let root = PathBuf::from(unescape(words.next()?));
    let point = PathBuf::from(unescape(words.next()?));
    // Optional fields end at a lone dash.
    words.find(|word| *word == b"-")?;
    let kind = String::from_utf8_lossy(words.next()?).into_owned();
    let source = unescape(words.next()?);
    let options = unescape(words.next().unwrap_or_default());
    Some(Mount { id, device, root, point, kind, source, options })
}

/// Undoes the octal escapes of blanks and backslashes.
fn unescape(word: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                out.push(escaped);
                rest = after.get(3..).unwrap_or_default();
            }
            Some(_) | None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(out)
}

/// A directory's path as `mountinfo` has it, without touching the directory itself, whose server may be gone.
///
/// # Errors
/// When the directory above it cannot be resolved.
pub fn resolve(target: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(target) {
        Ok(path) => Ok(path),
        Err(error) => {
            let whole = std::path::absolute(target)?;
            let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else { return Err(error) };
            let beside = std::fs::canonicalize(parent)?.join(name);
            if at(&beside).is_some() { Ok(beside) } else { Err(error) }
        }
    }
}

/// Whether `path` is `directory` or beneath it, byte by byte.
pub(super) fn is_beneath(path: &Path, directory: &Path) -> bool {
    let (path, directory) = (path.as_os_str().as_bytes(), directory.as_os_str().as_bytes());
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/') || directory == b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_any_number_of_optional_fields() {
        // The example of proc_pid_mountinfo(5), and lines with two optional fields and with escapes.
        let text = b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
            40 36 0:51 / /a\\040b\\134c rw shared:7 master:2 - fuse.imafs /src\\011x rw\n\
            41 36 0:52 / /z rw - tmpfs tmpfs rw\nbroken\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!((mounts[0].id, mounts[0].device.as_str(), mounts[0].kind.as_str()), (36, "98:0", "ext3"));
        assert_eq!(
            (mounts[0].root.as_path(), mounts[0].point.as_path()),
            (Path::new("/mnt1"), Path::new("/mnt2"))
        );
        assert_eq!(mounts[0].options, "rw,errors=continue");
        assert_eq!(mounts[1].point, PathBuf::from("/a b\\c"));
        assert_eq!((mounts[1].kind.as_str(), mounts[1].source.to_str()), ("fuse.imafs", Some("/src\tx")));
        assert_eq!(mounts[2].source, "tmpfs");
    }

    #[test]
    fn a_name_that_begins_alike_is_not_beneath() {
        let beneath = |path: &str, directory: &str| is_beneath(Path::new(path), Path::new(directory));
        assert!(beneath("/mnt/a", "/mnt"));
        assert!(beneath("/mnt", "/mnt"));
        assert!(beneath("/etc", "/"));
        assert!(!beneath("/mnt2", "/mnt"));
        assert!(!beneath("/", "/mnt"));
    }
}
