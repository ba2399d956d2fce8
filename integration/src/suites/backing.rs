//! Backing filesystems made for a suite: an image in a file, a tmpfs, or an overlay.

use crate::scratch::detach;
use crate::{Scratch, process};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are named as mount(8) names them")]
pub enum Kind {
    Ext4,
    Xfs,
    Btrfs,
    Tmpfs,
    Overlay,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Tmpfs, Self::Overlay];

    /// Its name for `mount -t`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Tmpfs => "tmpfs",
            Self::Overlay => "overlay",
        }
    }
}

/// A fresh filesystem. Unmounted on drop.
#[derive(Debug)]
pub struct Backing(PathBuf);

/// Large enough for xfs, which has the largest smallest size.
const IMAGE_BYTES: u64 = 1 << 30;

impl Backing {
    /// Makes and mounts one.
    ///
    /// # Errors
    /// Fails when a program is missing or the kernel does not have the filesystem.
    pub fn new(scratch: &Scratch, kind: Kind) -> Result<Self> {
        let name = kind.name();
        let at = scratch.dir(&format!("backing-{name}"))?;
        let mut mount = Command::new("mount");
        match kind {
            Kind::Ext4 | Kind::Xfs | Kind::Btrfs => {
                let image = scratch.file(&format!("{name}.image"), "")?;
                std::fs::File::options().write(true).open(&image)?.set_len(IMAGE_BYTES)?;
                process::succeed(Command::new(format!("mkfs.{name}")).arg(&image))?;
                mount.args(["-t", name, "-o", "loop"]).arg(&image)
            }
            Kind::Tmpfs => mount.args(["-t", name, "-o", "mode=755,size=1g", "none"]),
            Kind::Overlay => {
                let layer = |which: &str| scratch.dir(&format!("{name}-{which}"));
                let (lower, upper, work) = (layer("lower")?, layer("upper")?, layer("work")?);
                let (lower, upper, work) = (lower.display(), upper.display(), work.display());
                let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
                mount.args(["-t", name, "-o", &layers, "none"])
            }
        };
        process::succeed(mount.arg(&at))?;
        Ok(Self(at))
    }

    /// A directory of its own in it.
    ///
    /// # Errors
    /// Fails when it cannot be made.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.0.join(name);
        std::fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        detach(&self.0);
    }
}
