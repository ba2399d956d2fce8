//! A directory of one test's own, on a real filesystem, with nothing left behind.
//!
//! It lives under `/var/tmp` (or `$IMAFS_SCRATCH`), because `/tmp` may be a tmpfs, which has no file handles worth
//! testing. On drop every mount below it is detached first; if one resists, the directory is left in place rather
//! than removed through a mount.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The directory; removed on drop.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// Makes an empty directory.
    ///
    /// # Errors
    /// Fails when the parent directory does not let us.
    pub fn new() -> Result<Self> {
        let parent = std::env::var_os("IMAFS_SCRATCH").unwrap_or_else(|| "/var/tmp".into());
        let dir = tempfile::Builder::new()
            .prefix("imafs-proof-")
            .tempdir_in(&parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        // 0755: tests run programs as other users inside it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).context("cannot open up the scratch directory")?;
        let path = dir.path().to_owned();
        Ok(Self { dir: Some(dir), path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes (if need be) and returns a directory in it.
    ///
    /// # Errors
    /// Fails when it cannot be made.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.path.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }

    /// Writes a file in it and returns its path.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for target in mounts_below(&self.path).iter().rev() {
            detach(target);
        }
        if let Some(dir) = self.dir.take()
            && !mounts_below(&self.path).is_empty()
        {
            let kept = dir.keep();
            eprintln!("left {} in place: something is still mounted there", kept.display());
        }
    }
}

/// Detaches one mount at once, busy or not. Best effort: used on the way out.
pub fn detach(target: &Path) {
    if let Err(e) = rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH) {
        eprintln!("cannot detach {}: {e}", target.display());
    }
}

/// Mount points at or below `dir`, in the order they were mounted.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    mount_table().into_iter().map(|m| m.target).filter(|t| t.starts_with(dir)).collect()
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone)]
pub struct MountEntry {
    /// Mount point, unescaped.
    pub target: PathBuf,
    /// Filesystem type, `fuse.imafs` for ours.
    pub kind: String,
    /// Per-mount options, comma separated.
    pub options: String,
    /// Per-filesystem options, comma separated.
    pub super_options: String,
}

/// What is mounted where, in mount order; empty when `/proc` cannot be read.
pub fn mount_table() -> Vec<MountEntry> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(parse_mount).collect()
}

/// `36 35 98:0 /root /target rw,noatime [optional fields] - type source options`; proc_pid_mountinfo(5).
fn parse_mount(line: &str) -> Option<MountEntry> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(4);
    let (target, options) = (left.next()?, left.next()?);
    let mut right = right.splitn(3, ' ');
    let (kind, _source, super_options) = (right.next()?, right.next()?, right.next()?);
    Some(MountEntry {
        target: PathBuf::from(target.replace("\\040", " ").replace("\\134", "\\")),
        kind: kind.to_owned(),
        options: options.to_owned(),
        super_options: super_options.to_owned(),
    })
}

/// Whether a FUSE filesystem is mounted exactly at `target`.
pub fn is_fuse_mount(target: &Path) -> bool {
    mount_table().iter().any(|m| m.target == target && m.kind.starts_with("fuse"))
}
