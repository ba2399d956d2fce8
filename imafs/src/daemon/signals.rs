//! Signals as events. SIGTERM, SIGINT and SIGQUIT end the mount, SIGHUP reopens files.
//!
//! SIGPIPE is ignored already by Rust's runtime. SIGIO and SIGALRM would kill a process that did not ask for them;
//! an empty handler keeps it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGIO, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Unmount and end.
    Stop,
    /// Open audit files anew, after a rotation.
    Reopen,
}

/// Calls `tell` for each signal, from a thread of its own.
///
/// # Errors
/// When the handlers cannot be installed.
pub(super) fn watch(tell: impl Fn(Wish) + Send + 'static) -> io::Result<()> {
    let unread = Arc::new(AtomicBool::new(false));
    for ignored in [SIGIO, SIGALRM, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(ignored, Arc::clone(&unread))?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP])?;
    let forward = move || {
        for signal in signals.forever() {
            tell(if signal == SIGHUP { Wish::Reopen } else { Wish::Stop });
        }
    };
    std::thread::Builder::new().name("imafs-signals".to_owned()).spawn(forward).map(drop)
}
