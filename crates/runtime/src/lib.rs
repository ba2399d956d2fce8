//! `imafs-runtime`: stands where an engine expects runc, and mounts imafs under the container's root filesystem.
//!
//! It reads the engine's command line, and of it only what it needs: which command, which container, which bundle.
//! `create` and `run` mount imafs over the bundle's root filesystem and hand the real runtime the mount;
//! `delete` takes the mount away again; everything else becomes the real runtime at once.
//!
//! It decides nothing about files, speaks no FUSE and verifies no signature: `imafs mount` does. It knows no engine:
//! an engine is whoever calls it. It never lets a container start unchecked that was to be checked.
//!
//! What is on disk, all of it under the run directory (`/run/imafs`, gone with the next boot):
//!
//! ```text
//! runtime/<root>-<id>/lock     held by whoever changes the container's mount
//! runtime/<root>-<id>/state    what was done so far, written before it is done
//! runtime/<root>-<id>/rootfs   where imafs is mounted
//! ```

pub mod annotations;
pub mod bundle;
pub mod command_line;
pub mod config;
mod error;
mod help;
mod lifecycle;
mod mount;
mod plan;
mod real;
mod report;
mod slot;

pub use error::Error;
pub use plan::{Plan, plan};

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with these arguments, its own name left out.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let invocation = command_line::parse(arguments);
    match invocation.check().and_then(|()| lifecycle::run(&invocation)) {
        Ok(code) => code,
        Err(error) => report::failure(&invocation, &error),
    }
}
