//! Ending early: on ctrl-C every loop that waits gives up, and everything started is taken away on the way out.

use anyhow::{Context, Result, bail};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

static STOPPED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Listens to the signals that end programs.
///
/// # Errors
/// Fails when they cannot be listened to.
pub fn on_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&STOPPED)).context("cannot listen to signals")?;
    }
    Ok(())
}

/// Whether such a signal has come.
pub fn stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

/// Fails once such a signal has come.
///
/// # Errors
/// Then.
pub fn check() -> Result<()> {
    if stopped() {
        bail!("interrupted");
    }
    Ok(())
}
