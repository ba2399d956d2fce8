//! The real runtime: becoming it, or running it as a child when there is something to do afterwards.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Sent};

use crate::Error;

/// Becomes the real runtime. Returns only when that fails.
pub(crate) fn become_it(program: &Path, arguments: &[OsString]) -> Error {
    let source = Command::new(program).args(arguments).exec();
    Error::RealRuntime { program: program.to_owned(), source }
}

/// Runs the real runtime as a child with all we were given, and waits for it. Signals sent to us reach it.
pub(crate) fn run(program: &Path, arguments: &[OsString]) -> Result<ExitStatus, Error> {
    let fail = |source| Error::RealRuntime { program: program.to_owned(), source };
    let watched = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
    // Before the child is there, so that no signal ends us and leaves it alone.
    let mut signals = SignalsInfo::<WithOrigin>::new(watched).map_err(fail)?;
    let handle = signals.handle();
    let mut child = Command::new(program).args(arguments).spawn().map_err(fail)?;
    let pid = rustix::process::Pid::from_child(&child);
    let forwarding = std::thread::spawn(move || {
        for origin in signals.forever() {
            // What a terminal sends it sends to the child as well.
            let sent = matches!(origin.cause, Cause::Sent(Sent::User | Sent::TKill | Sent::Queue));
            if let (true, Some(signal)) = (sent, rustix::process::Signal::from_named_raw(origin.signal)) {
                // The child may just have ended; it is not reaped before this thread has.
                let _gone = rustix::process::kill_process(pid, signal);
            }
        }
    });
    // Waits without reaping, so that the pid stays the child's while the thread may still use it.
    let exited = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) =
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), exited)
    {}
    handle.close();
    // A thread that panicked forwards nothing more, and that is all it was for.
    let _ended = forwarding.join();
    child.wait().map_err(fail)
}

/// Runs the real runtime for ourselves: nobody reads what it says.
pub(crate) fn quietly(program: &Path, arguments: &[OsString]) -> Result<ExitStatus, Error> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map_err(|source| Error::RealRuntime { program: program.to_owned(), source })
}

/// Our exit code for the child's end: its own, or 128 and the signal, as a shell has it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
