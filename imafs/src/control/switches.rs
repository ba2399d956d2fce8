//! The small files that set one thing: `active`, `hash`, `template_name`, `mode`.
//!
//! A mount is active before its first request, so what may be set until then is set by its options. What can still be
//! changed is the mode, and by the container only to a stricter one.

use audit::{Integrity, Process, RecordType};
use monitor::{Mode, Monitor, WouldWeaken};

use crate::fs::{Caller, Errno};

use super::tree::File;

/// The mode's name, as the option has it.
pub(crate) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Log => "log",
        Mode::Fix => "fix",
        Mode::Off => "off",
    }
}

/// The mode of this name.
pub(crate) fn mode_of(name: &[u8]) -> Option<Mode> {
    let modes = [Mode::Enforce, Mode::Log, Mode::Fix, Mode::Off];
    modes.into_iter().find(|mode| mode_name(*mode).as_bytes() == name)
}

/// Sets what the file sets, to what is written.
///
/// # Errors
/// `EINVAL` for what makes no sense there, `EPERM` for what would weaken the mount or change what is settled.
pub(super) fn set(monitor: &Monitor, file: File, data: &[u8], caller: &Caller) -> Result<(), Errno> {
    match (file, data.trim_ascii()) {
        (File::Active, b"1") => Ok(()),
        (File::Active, b"0") => Err(Errno::PERM),
        (File::Mode, name) => tighten(monitor, name, caller),
        _ => Err(Errno::INVAL),
    }
}

/// Sets the mode, and records what came of it unless it is as it was.
fn tighten(monitor: &Monitor, name: &[u8], caller: &Caller) -> Result<(), Errno> {
    let before = monitor.rules().mode();
    let (cause, outcome) = match mode_of(name) {
        None => ("unknown-mode", Err(Errno::INVAL)),
        Some(mode) if mode == before => return Ok(()),
        Some(mode) => match monitor.tighten_mode(mode) {
            Ok(()) => (mode_name(mode), Ok(())),
            Err(WouldWeaken) => ("would-weaken", Err(Errno::PERM)),
        },
    };
    let process = Process::read(caller.tid);
    let mut record = Integrity::new(RecordType::IntegrityStatus, process, "set_mode", cause);
    record.res = outcome.is_ok();
    monitor.options().audit.emit(record);
    if outcome.is_ok() {
        let before = mode_name(before);
        tracing::info!(target: "imafs", "the container has changed the mode from {before} to {cause}");
    }
    outcome
}
