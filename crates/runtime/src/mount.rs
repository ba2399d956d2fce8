//! Mounting and unmounting, by the program that does it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Error;
use crate::config::{Config, Profile};

/// The program: the one the configuration names, the one beside this one, or the one on the path.
pub(crate) fn program(config: &Config) -> PathBuf {
    let beside = || {
        let here = std::env::current_exe().ok()?;
        let path = here.parent()?.join("imafs");
        path.is_file().then_some(path)
    };
    config.imafs.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("imafs"))
}

/// The value a profile's file gives a key, as text.
pub(crate) fn profile_value(profile: &Profile, key: &str) -> Result<Option<String>, Error> {
    let fail = |reason: String| Error::Config { path: profile.file.clone(), reason };
    let text = std::fs::read_to_string(&profile.file).map_err(|error| fail(error.to_string()))?;
    let all: serde_yaml::Value = serde_yaml::from_str(&text).map_err(|error| fail(error.to_string()))?;
    Ok(all.get(key).and_then(|value| match value {
        serde_yaml::Value::String(text) => Some(text.clone()),
        // YAML 1.1 readers took a bare `off` for a boolean; ours does not, but somebody's file may say so.
        serde_yaml::Value::Bool(false) => Some("off".to_owned()),
        _ => None,
    }))
}

/// What to mount, and how.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub imafs: &'a Path,
    pub profile: &'a Profile,
    pub ns_id: &'a str,
    pub options: &'a [(&'static str, String)],
    pub source: &'a Path,
    pub target: &'a Path,
}

/// Mounts. The mount is ready when this returns, and its process holds nothing of ours.
pub(crate) fn mount(request: &Request<'_>) -> Result<(), Error> {
    let mut command = Command::new(request.imafs);
    command.arg("mount").arg("--profile").arg(&request.profile.file).args(["--ns-id", request.ns_id]);
    // Engines write beneath the mount (`cp` into a container), unless the host knows better.
    if profile_value(request.profile, "cache")?.is_none() {
        command.args(["--cache", "shared"]);
    }
    for (name, value) in request.options {
        command.arg(format!("{name}={value}"));
    }
    command.arg("--").arg(request.source).arg(request.target);
    let fail = |reason| Error::Mount { rootfs: request.source.to_owned(), reason };
    match run(&mut command) {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(fail(said(&output))),
        Err(error) => Err(fail(format!("cannot run {}: {error}", request.imafs.display()))),
    }
}

/// Takes a mount away, also one that is in use or whose process is gone. Nothing mounted there is fine.
pub(crate) fn unmount(imafs: &Path, target: &Path) -> Result<(), Error> {
    if !is_mounted(target) {
        return Ok(());
    }
    let mut reason = String::new();
    for how in [&["umount"][..], &["umount", "--lazy"]] {
        reason = match run(Command::new(imafs).args(how).arg("--").arg(target)) {
            Ok(output) => said(&output),
            Err(error) => format!("cannot run {}: {error}", imafs.display()),
        };
        if !is_mounted(target) {
            return Ok(());
        }
    }
    // The program may be gone or hang; the mount need not stay for that.
    match rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH) {
        Ok(()) => Ok(()),
        Err(_) => Err(Error::Unmount { target: target.to_owned(), reason }),
    }
}

/// Whether something is mounted on this very directory.
fn is_mounted(target: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(table) = std::fs::read("/proc/self/mountinfo") else { return true };
    let wanted = target.as_os_str().as_bytes();
    // The fifth field. Our own paths hold nothing that is escaped there.
    table.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(wanted))
}

fn run(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output()
}

/// What a program said, in one line, its own name left out.
fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return format!("it ended with {}", output.status);
    }
    let text = lines.join("; ");
    text.strip_prefix("imafs: ").map_or(text.clone(), str::to_owned)
}
