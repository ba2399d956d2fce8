//! Mounting and unmounting, by the program that does it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
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
    pub owner: Option<(u32, u32)>,
    pub source: &'a Path,
    pub target: &'a Path,
}

/// Mounts. The mount is ready when this returns, and its process holds nothing of ours.
pub(crate) fn mount(request: &Request<'_>) -> Result<(), Error> {
    let mut command = Command::new(request.imafs);
    // Names and values in one word: what a container's annotations say must not be taken for an option.
    let option = |name: &str, value: &OsStr| {
        let mut word = OsString::from(format!("{name}="));
        word.push(value);
        word
    };
    command.arg("mount").arg(option("--profile", request.profile.file.as_os_str()));
    command.arg(option("--ns-id", request.ns_id.as_ref()));
    // Engines write beneath the mount (`cp` into a container), unless the host knows better.
    if profile_value(request.profile, "cache")?.is_none() {
        command.arg("--cache=shared");
    }
    // The container's root reads its own list, unless the host has given it to somebody else.
    if let Some((uid, gid)) = request.owner
        && profile_value(request.profile, "control-owner")?.is_none()
    {
        command.arg(format!("--control-owner={uid}:{gid}"));
    }
    for (name, value) in request.options {
        command.arg(option(name, value.as_ref()));
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
    let mut reason = String::new();
    // Asked also where nothing is mounted any more: a killed process has left more than its mount.
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
    let Ok(table) = std::fs::read("/proc/self/mountinfo") else { return true };
    device_at(&table, target).is_some()
}

/// The device number of what is mounted on a directory, by a mount table.
///
/// Source: proc_pid_mountinfo(5): `major:minor` is the third field, the mount point the fifth. Our own paths hold
/// nothing that is escaped there.
fn device_at<'a>(table: &'a [u8], target: &Path) -> Option<&'a [u8]> {
    let wanted = target.as_os_str().as_bytes();
    // The last one is on top.
    table.split(|byte| *byte == b'\n').rev().find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let device = fields.next()?;
        (fields.nth(1)? == wanted).then_some(device)
    })
}

/// Whether a process has what is mounted on `target` as its root. Looked up in the processes' mount tables, because a
/// look at the mount itself may wait for a process that hangs.
pub(crate) fn is_somebodys_root(target: &Path) -> bool {
    let Ok(table) = std::fs::read("/proc/self/mountinfo") else { return true };
    let Some(device) = device_at(&table, target) else { return false };
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    let numbered = |entry: &std::fs::DirEntry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit);
    processes.flatten().filter(numbered).any(|process| {
        // It may end while we look.
        let table = std::fs::read(process.path().join("mountinfo")).unwrap_or_default();
        device_at(&table, Path::new("/")) == Some(device)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"24 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        90 24 0:51 / /run/imafs/runtime/a-c/rootfs rw - fuse.imafs /src rw\n\
        91 90 0:52 / /run/imafs/runtime/a-c/rootfs rw - fuse.imafs /src rw\n";

    #[test]
    fn the_topmost_mount_of_a_directory_is_found_by_its_whole_path() {
        let at = |path: &str| device_at(TABLE, Path::new(path));
        assert_eq!(at("/"), Some(&b"254:0"[..]));
        assert_eq!(at("/run/imafs/runtime/a-c/rootfs"), Some(&b"0:52"[..]));
        assert_eq!(at("/run/imafs/runtime/a-c"), None);
        assert_eq!(device_at(b"24 1\n\n", Path::new("/")), None);
    }

    #[test]
    fn nothing_mounted_is_nobodys_root_and_the_root_is_somebodys() {
        assert!(!is_somebodys_root(Path::new("/nonexistent")));
        assert!(is_somebodys_root(Path::new("/")));
    }
}
