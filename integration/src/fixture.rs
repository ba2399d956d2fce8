//! A whole Debian root filesystem, made once by `scripts/make-rootfs.sh` and unpacked for each test.
//!
//! The tar lies in `$IMAFS_FIXTURES` (default `target/fixtures`); the script holds a lock while it makes it, so tests
//! that run side by side wait for one another instead of making two.

use crate::need::skipping_is_forbidden;
use crate::process::{output, repository, succeed};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Directory of what is made once and kept.
pub fn directory() -> PathBuf {
    match std::env::var_os("IMAFS_FIXTURES") {
        Some(dir) => PathBuf::from(dir),
        None => repository().join("target/fixtures"),
    }
}

/// The root filesystem as a tar with attributes, made now if it was not there yet.
///
/// `None`, with the reason printed, when it cannot be made here and skipping is allowed.
///
/// # Errors
/// Fails with the script's words when it cannot be made and skipping is forbidden.
pub fn debian_tar() -> Result<Option<PathBuf>> {
    let tar = directory().join("debian.tar");
    let out = output(Command::new(repository().join("scripts/make-rootfs.sh")).arg(&tar))?;
    if out.status.success() {
        return Ok(Some(tar));
    }
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    ensure!(!skipping_is_forbidden(), "this run may not skip, yet there is no root filesystem:\n{words}");
    eprintln!("skipped: no root filesystem: {words}");
    Ok(None)
}

/// Unpacks a tar, with owners, modes and every attribute, into `dir`.
///
/// # Errors
/// Fails when `tar` does.
pub fn unpack(tar: &Path, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut command = Command::new("tar");
    command.args(["--extract", "--preserve-permissions", "--same-owner", "--numeric-owner", "--acls"]);
    command.args(["--xattrs", "--xattrs-include=*", "--file"]).arg(tar).arg("--directory").arg(dir);
    succeed(&mut command).map(drop)
}

/// A real Debian package, downloaded once: its `.deb` file. It needs nothing that the root filesystem lacks.
///
/// # Errors
/// Fails when `apt-get download` does.
pub fn package() -> Result<PathBuf> {
    let dir = directory().join("packages");
    std::fs::create_dir_all(&dir).context("cannot make the package directory")?;
    let kept = || -> Result<Option<PathBuf>> {
        let mut entries = std::fs::read_dir(&dir).context("cannot list the package directory")?;
        Ok(entries
            .find_map(|e| e.ok().map(|e| e.path()).filter(|p| p.extension().is_some_and(|x| x == "deb"))))
    };
    if kept()?.is_none() {
        succeed(Command::new("apt-get").args(["download", "hello"]).current_dir(&dir))?;
    }
    kept()?.context("apt-get download left no package")
}
