//! Writing to the control directory as a container does, one `write(2)` at a time.

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What became of a policy that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// Every line was taken.
    Whole,
    /// This line, counted from 1, was refused with this errno; nothing was written after it.
    RefusedAt(usize, Errno),
    /// The file could not be opened.
    NotOpened(Errno),
}

static ALONE: Mutex<()> = Mutex::new(());

/// Keeps other tests of this process away. A child that one of them starts holds copies of this test's descriptors between
/// its fork and its exec, and a load ends only when the last copy is closed.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a control file for writing.
///
/// # Errors
/// The errno of `open(2)`.
pub fn open_to_write(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Writes a policy as `cat POLICY > FILE` does: all that is left, again and again, for each call takes one line.
///
/// # Errors
/// Fails when a call takes nothing.
pub fn load(file: &Path, policy: &[u8]) -> Result<Loaded> {
    let opened = match open_to_write(file) {
        Ok(opened) => opened,
        Err(errno) => return Ok(Loaded::NotOpened(errno)),
    };
    let (mut rest, mut line) = (policy, 0);
    while !rest.is_empty() {
        line += 1;
        match rustix::io::write(&opened, rest) {
            Ok(taken) => {
                anyhow::ensure!(taken > 0, "a write took nothing");
                rest = rest.get(taken..).context("more was taken than there was")?;
            }
            Err(errno) => return Ok(Loaded::RefusedAt(line, errno)),
        }
    }
    Ok(Loaded::Whole)
}

/// Writes once, and gives the answer.
///
/// # Errors
/// The errno of `open(2)` or `write(2)`.
pub fn write_once(path: &Path, data: &[u8]) -> Result<usize, Errno> {
    rustix::io::write(open_to_write(path)?, data)
}
