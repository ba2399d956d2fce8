//! The small files that set one thing: `active`, `hash`, `template_name`, `mode`.
//!
//! A mount is active before its first request, so what may be set until then is set by its options. What can still be
//! changed is the mode, and by the container only to a stricter one.

use monitor::{Mode, Monitor};

use crate::fs::Errno;

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
pub(super) fn set(monitor: &Monitor, file: File, data: &[u8]) -> Result<(), Errno> {
    match (file, data.trim_ascii()) {
        (File::Active, b"1") => Ok(()),
        (File::Active, b"0") => Err(Errno::PERM),
        (File::Mode, name) => {
            let mode = mode_of(name).ok_or(Errno::INVAL)?;
            let before = monitor.rules().mode();
            monitor.tighten_mode(mode).map_err(|_| Errno::PERM)?;
            let (before, mode) = (mode_name(before), mode_name(mode));
            tracing::info!(target: "imafs", "the container has changed the mode from {before} to {mode}");
            Ok(())
        }
        _ => Err(Errno::INVAL),
    }
}
