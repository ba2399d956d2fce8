//! Starting in the background: this program again, in a session of its own, which tells when its mount is ready.
//!
//! The child's standard input is the writing end of a pipe. It writes one byte when the mount is ready, and until
//! then its standard error is its parent's, so that what goes wrong is told where the command was given. A pipe that
//! ends without that byte means that the child failed; its exit code becomes the parent's.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};

use rustix::stdio;

use crate::failure::Failure;

use super::system::plain;

/// Set in the child's environment, so that it knows what its standard input is.
const CHILD: &str = "IMAFS_BACKGROUND";

/// Who waits for the mount to be ready.
#[derive(Debug)]
pub enum Readiness {
    /// A supervisor, if `NOTIFY_SOCKET` names one; standard streams stay.
    Supervisor,
    /// The command that started this process.
    Parent(OwnedFd),
}

/// The waiting parent, when this process was started by [`start_in_background`].
pub fn parent() -> Option<Readiness> {
    std::env::var_os(CHILD)?;
    let pipe = rustix::io::fcntl_dupfd_cloexec(stdio::stdin(), 3).ok()?;
    Some(Readiness::Parent(pipe))
}

/// Starts the program again with the same arguments and waits until its mount is ready.
///
/// # Errors
/// When it cannot be started. What it says itself goes to standard error, and its exit code is handed on.
pub fn start_in_background(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let cannot = |error: io::Error| Failure::cannot("start in the background", plain(&error));
    // Whoever called may have left descriptors open that somebody waits to see closed. Kernels that cannot do it
    // are too old to mount on as well, and will say so.
    if let Err(error) = sys::descriptor::keep_from_children() {
        tracing::debug!("descriptors of the caller stay open in the background: {error}");
    }
    let (mut ready, pipe) = io::pipe().map_err(cannot)?;
    let program = std::env::current_exe().map_err(cannot)?;
    let mut command = Command::new(program);
    let (name, rest) = arguments.split_first().map_or((None, arguments), |(name, rest)| (Some(name), rest));
    if let Some(name) = name {
        command.arg0(name);
    }
    command.args(rest).env(CHILD, "1").stdin(Stdio::from(pipe));
    let mut child = command.spawn().map_err(cannot)?;
    // The command owns the pipe's writing end: while it lives, the end of the child would go unnoticed.
    drop(command);
    let mut byte = [0];
    match ready.read(&mut byte) {
        Ok(1) => return Ok(ExitCode::SUCCESS),
        Ok(_) => {}
        Err(error) => return Err(cannot(error)),
    }
    let status = child.wait().map_err(cannot)?;
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(0) | None => {
            Err(Failure::cannot("mount", format!("the background process ended early ({status})")))
        }
        Some(code) => Ok(ExitCode::from(code)),
    }
}

impl Readiness {
    /// Leaves the parent's session, so that a hangup of its terminal does not end the mount.
    pub(super) fn detach(&self) {
        if let Self::Parent(_) = self {
            // It fails for a group leader alone, which a freshly started child is not.
            let _already_leader = rustix::process::setsid();
        }
    }

    /// Tells that the mount is ready. In the background standard error becomes `log`, the other streams nothing.
    ///
    /// # Errors
    /// When the streams cannot be replaced.
    pub(super) fn tell(self, log: Option<&File>) -> io::Result<()> {
        match self {
            Self::Supervisor => super::notify::send("READY=1"),
            Self::Parent(pipe) => {
                let nothing = File::options().read(true).write(true).open("/dev/null")?;
                stdio::dup2_stdin(&nothing)?;
                stdio::dup2_stdout(&nothing)?;
                stdio::dup2_stderr(log.unwrap_or(&nothing))?;
                // A parent that was killed meanwhile is no reason to unmount.
                let _parent_gone = File::from(pipe).write_all(b"R");
            }
        }
        Ok(())
    }
}
