//! What would make a mount fail, looked for before anything is started, each with what to do about it.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use crate::config::{MountConfig, Source};
use crate::failure::Failure;

use super::journal;
use super::mounts;
use super::run_dir::{Claimed, RegisterError, RunDir};
use super::system::plain;

/// Checks what the mount needs, makes the target's path the one `mountinfo` will show, and takes the mount's id.
///
/// # Errors
/// The first thing that is missing.
pub(super) fn check(config: &mut MountConfig, run_dir: &RunDir) -> Result<Claimed, Failure> {
    root(&config.target)?;
    match &config.source {
        Source::Directory(source) => directory(source, "the source")?,
        Source::Overlay { lower, upper, work } => {
            lower.iter().try_for_each(|layer| directory(layer, "the layer"))?;
            directory(upper, "the writable layer")?;
            directory(work, "the work directory")?;
        }
        Source::Stack(layers) => layers.iter().try_for_each(|layer| directory(layer, "the layer"))?,
    }
    directory(&config.target, "the target")?;
    config.target =
        fs::canonicalize(&config.target).map_err(|error| cannot(&config.target, plain(&error)))?;
    not_mounted(&config.target, run_dir)?;
    if let Some(directory) = &config.journal {
        journal::out_of_reach(directory, config)?;
    }
    device(&config.target)?;
    run_dir.claim(config.ns_id.as_str()).map_err(register_failure)
}

fn cannot(target: &Path, reason: impl std::fmt::Display) -> Failure {
    Failure::cannot(format!("mount on {}", target.display()), reason)
}

fn root(target: &Path) -> Result<(), Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(cannot(target, "not root").advise("imafs serves all users with their own rights: run it with sudo"))
}

fn directory(path: &Path, what: &str) -> Result<(), Failure> {
    let failure = |reason: &str| Failure::cannot(format!("mount {}", path.display()), reason);
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(failure("not a directory").advise(format!("{what} must be a directory"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let advice = if what == "the target" { "make the target" } else { "check the path, or make" };
            Err(failure("no such directory").advise(format!("{advice}: mkdir -p {}", path.display())))
        }
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOTCONN.raw_os_error()) => {
            Err(failure("a dead mount is in the way")
                .advise(format!("remove it: umount -l {}", path.display())))
        }
        Err(error) => Err(failure(&plain(&error)).advise(format!("{what} must be readable by root"))),
    }
}

fn not_mounted(target: &Path, run_dir: &RunDir) -> Result<(), Failure> {
    if mounts::at(target).is_none_or(|mount| mount.kind != "fuse.imafs") {
        return Ok(());
    }
    let at = target.display();
    Err(match run_dir.find(target) {
        Some(state) if !state.is_running() => {
            cannot(target, "a dead mount is in the way, its process is gone")
                .advise(format!("clear it away: imafs umount {at}"))
        }
        Some(_) | None => cannot(target, "imafs is mounted there already")
            .advise(format!("look: imafs status {at}; or unmount: imafs umount {at}")),
    })
}

fn device(target: &Path) -> Result<(), Failure> {
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(cannot(target, "there is no /dev/fuse")
            .advise("load the module: modprobe fuse; in a container pass the device: --device /dev/fuse")),
        Err(error) => Err(cannot(target, format!("cannot open /dev/fuse: {}", plain(&error)))
            .advise("allow it: --device /dev/fuse for a container, DeviceAllow=/dev/fuse for a unit")),
    }
}

/// Says what to do when a mount cannot be registered.
pub(super) fn register_failure(error: RegisterError) -> Failure {
    let failure = Failure::caused(&error);
    match error {
        RegisterError::Taken(state) => failure
            .advise(format!("give this one another with --ns-id, or unmount: imafs umount {}", state.target)),
        RegisterError::Held(_) => failure.advise("give this one another with --ns-id, or try again"),
        RegisterError::Open { path, .. } => {
            let at = path.display();
            failure.advise(format!(
                "close it: chown root: {at}; chmod go-w {at}; or name another in IMAFS_RUN_DIR"
            ))
        }
        RegisterError::Write { .. } => failure.advise("name a writable directory in IMAFS_RUN_DIR"),
    }
}
