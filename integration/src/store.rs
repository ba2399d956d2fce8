//! The three stores of labels: a tree whose labels are in `security.ima` is moved to another of them.

use crate::keys::Keys;
use crate::mount::MountBuilder;
use crate::process::{ours, succeed};
use crate::stand::LABEL;
use anyhow::{Context, Result};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The attribute of the store `user`.
pub const USER_LABEL: &str = "user.imafs.ima";

/// What a manifest is called in an image.
pub const MANIFEST: &str = ".imafs-manifest";

/// A store of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// `security.ima`.
    Xattr,
    /// `user.imafs.ima`.
    User,
    /// A manifest in the image.
    Manifest,
}

impl Store {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Xattr, Self::User, Self::Manifest];

    /// What `--labels` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xattr => "xattr",
            Self::User => "user",
            Self::Manifest => "manifest",
        }
    }

    /// Has a mount take its labels from here.
    pub fn of(self, mount: MountBuilder) -> MountBuilder {
        mount.args(["--labels", self.name()])
    }

    /// Moves the labels of a tree from `security.ima` here.
    ///
    /// # Errors
    /// Fails when they cannot be moved.
    pub fn take_over(self, tree: &Path, keys: &Keys) -> Result<()> {
        match self {
            Self::Xattr => return Ok(()),
            Self::User => for_each_file(tree, &mut |path| {
                let Some(label) = read(path, LABEL)? else { return Ok(()) };
                let kept = rustix::fs::lsetxattr(path, USER_LABEL, &label, rustix::fs::XattrFlags::empty());
                kept.with_context(|| format!("cannot label {}", path.display()))
            })?,
            Self::Manifest => make_manifest(tree, keys, &["--from", "xattr", "--image", "web"]).map(drop)?,
        }
        for_each_file(tree, &mut |path| match rustix::fs::lremovexattr(path, LABEL) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot strip {}", path.display())),
        })
    }
}

/// Makes the manifest of a tree, in its place in the image unless `args` say otherwise. Gives what was printed.
///
/// # Errors
/// Fails when `imafs-sign manifest` does.
pub fn make_manifest(tree: &Path, keys: &Keys, args: &[&str]) -> Result<String> {
    let mut sign = Command::new(ours("imafs-sign")?);
    sign.arg("manifest").arg("--key").arg(&keys.key).arg("--cert").arg(&keys.certificate);
    succeed(sign.args(args).arg(tree))
}

/// An attribute of a file, if it has it.
///
/// # Errors
/// Fails when it cannot be read.
pub fn read(path: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; 4096];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {name} of {}", path.display())),
    }
}

fn for_each_file(tree: &Path, each: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    let mut directories: Vec<PathBuf> = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).context("cannot list the tree")? {
            let entry = entry.context("cannot list the tree")?;
            let kind = entry.file_type().context("cannot look at the tree")?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                each(&entry.path())?;
            }
        }
    }
    Ok(())
}
