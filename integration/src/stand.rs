//! What most tests stand on: a scratch directory, a trusted key, a stranger's key, and a source tree.

use crate::keys::{Keys, Kind, label_with_hash};
use crate::mount::MountBuilder;
use crate::process::succeed;
use crate::scratch::Scratch;
use anyhow::{Context, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the attribute that holds the label.
pub const LABEL: &str = "security.ima";

/// The stand.
#[derive(Debug)]
pub struct Stand {
    /// The directory all is in.
    pub scratch: Scratch,
    /// The key that mounts of this stand trust.
    pub keys: Keys,
    tree: PathBuf,
}

impl Stand {
    /// With an empty source tree.
    ///
    /// # Errors
    /// Fails when the keys or the directories cannot be made.
    pub fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let keys = Keys::make(&scratch.dir("keys")?, "trusted", Kind::P256)?;
        let tree = scratch.dir("source")?;
        Ok(Self { scratch, keys, tree })
    }

    /// Root of the source tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// A path in the source tree.
    pub fn source(&self, inside: impl AsRef<Path>) -> PathBuf {
        self.tree.join(inside)
    }

    /// Writes a file into the source tree, with its directories, unlabelled.
    ///
    /// # Errors
    /// Fails when it cannot be written.
    pub fn file(&self, inside: &str, content: impl AsRef<[u8]>, mode: u32) -> Result<PathBuf> {
        let path = self.source(inside);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
            .context("cannot set the mode")?;
        Ok(path)
    }

    /// Copies a file of the host into the source tree, executable, unlabelled.
    ///
    /// # Errors
    /// Fails when it cannot be copied.
    pub fn host_file(&self, inside: &str, host: &str) -> Result<PathBuf> {
        self.file(inside, std::fs::read(host).with_context(|| format!("cannot read {host}"))?, 0o755)
    }

    /// Copies a program of the host and every shared object it needs to the same places in the source tree, so
    /// that it runs there under chroot. Unlabelled.
    ///
    /// # Errors
    /// Fails when `ldd` does or something cannot be copied.
    pub fn host_program(&self, host: &str) -> Result<()> {
        self.host_file(host.trim_start_matches('/'), host)?;
        let needs = succeed(Command::new("ldd").arg(host))?;
        for object in needs.split_whitespace().filter(|word| word.starts_with('/')) {
            let inside = object.trim_start_matches('/');
            if !self.source(inside).exists() {
                self.host_file(inside, object)?;
            }
        }
        Ok(())
    }

    /// Signs a file or directory of the source tree with the trusted key.
    ///
    /// # Errors
    /// Fails when `imafs-sign` does.
    pub fn sign(&self, inside: &str) -> Result<()> {
        self.keys.sign(&self.source(inside))
    }

    /// Gives a file or directory of the source tree hash labels.
    ///
    /// # Errors
    /// Fails when `imafs-sign` does.
    pub fn hash(&self, inside: &str) -> Result<()> {
        label_with_hash(&self.source(inside))
    }

    /// Makes a stranger's key: good signatures, but nobody trusts it here.
    ///
    /// # Errors
    /// Fails when `imafs-sign keygen` does.
    pub fn stranger(&self) -> Result<Keys> {
        Keys::make(&self.scratch.dir("keys")?, "stranger", Kind::P256)
    }

    /// A mount of the source tree that trusts the trusted key.
    ///
    /// # Errors
    /// Fails when the directories cannot be made.
    pub fn mount(&self) -> Result<MountBuilder> {
        Ok(MountBuilder::new(&self.scratch, &self.tree)?.trust(&self.keys.certificate))
    }
}

/// Flips the lowest bit of the byte at `offset`, in place.
///
/// # Errors
/// Fails when the file cannot be read or written, or is shorter.
pub fn flip(path: &Path, offset: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let mut byte = [0_u8];
    file.read_exact_at(&mut byte, offset).context("cannot read the byte")?;
    file.write_all_at(&byte.map(|b| b ^ 1), offset).context("cannot write the byte")
}

/// The `security.ima` label of a file.
///
/// # Errors
/// Fails when it has none.
pub fn label(path: &Path) -> Result<Vec<u8>> {
    let mut value = vec![0_u8; 4096];
    let length = rustix::fs::lgetxattr(path, LABEL, &mut value[..])
        .with_context(|| format!("cannot read the label of {}", path.display()))?;
    value.truncate(length);
    Ok(value)
}

/// Gives a file this label.
///
/// # Errors
/// Fails when the system call does.
pub fn set_label(path: &Path, value: &[u8]) -> Result<()> {
    rustix::fs::lsetxattr(path, LABEL, value, rustix::fs::XattrFlags::empty())
        .with_context(|| format!("cannot label {}", path.display()))
}

/// Takes a file's label away.
///
/// # Errors
/// Fails when the system call does.
pub fn remove_label(path: &Path) -> Result<()> {
    rustix::fs::lremovexattr(path, LABEL)
        .with_context(|| format!("cannot remove the label of {}", path.display()))
}
