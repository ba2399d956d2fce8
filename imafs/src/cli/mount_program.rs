//! Called as `imafs-mount-program`: what containers-storage (podman, buildah) calls its `overlay.mount_program`.
//!
//! It is called as fuse-overlayfs is, `-o lowerdir=..,upperdir=..,workdir=.. TARGET`, and knows of no profile. Which one
//! the mount gets is the host's to say, in `/etc/imafs/mount_program.yaml` (or the file that
//! `$IMAFS_MOUNT_PROGRAM_CONFIG` names), or by `profile=FILE` among the options (`mountopt` in `storage.conf`). Without a
//! profile nothing is mounted: an engine told to use this program wants its mounts checked.
//!
//! Options of fuse-overlayfs that only tune it are dropped. Those that change what is served (other owners, other
//! modes) are refused by name: imafs serves files as they are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Failure, option_list};

/// Where the host says which profile.
const CONFIG: &str = "/etc/imafs/mount_program.yaml";

/// Options that tune fuse-overlayfs or overlayfs and ask for nothing imafs would do otherwise.
///
/// Source: fuse-overlayfs(1), 1.10; `mountopt` of containers-storage.conf(5).
const TUNING: [&str; 17] = [
    "allow_root",
    "clone_fd",
    "fast_ino",
    "fsync",
    "index",
    "max_idle_threads",
    "max_threads",
    "noacl",
    "noatime",
    "noxattrs",
    "redirect_dir",
    "static_nlink",
    "threaded",
    "timeout",
    "volatile",
    "writeback",
    "xino",
];

/// Options that would change what is served, and why they are refused.
const REFUSED: [(&str, &str); 7] = [
    ("squash_to_root", OWNERS),
    ("squash_to_uid", OWNERS),
    ("squash_to_gid", OWNERS),
    ("uidmapping", OWNERS),
    ("gidmapping", OWNERS),
    ("xattr_permissions", "imafs serves files with the modes they have"),
    ("metacopy", "files whose content lies in another layer than their label cannot be checked"),
];

const OWNERS: &str = "imafs serves files with the owners they have, and its rules are about those";

/// The host's word.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The profile, as `imafs mount --profile` takes it; from this file's directory.
    profile: PathBuf,
}

/// Turns a call of the mount program into `imafs mount ...`; leaves all else alone.
///
/// # Errors
/// An option that cannot be followed, or no profile.
pub fn rewritten(arguments: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let called = arguments.first().and_then(|name| Path::new(name).file_name());
    if called.is_none_or(|name| name != "imafs-mount-program") {
        return Ok(arguments);
    }
    let named = std::env::var_os("IMAFS_MOUNT_PROGRAM_CONFIG").filter(|path| !path.is_empty());
    let config = named.map_or_else(|| PathBuf::from(CONFIG), PathBuf::from);
    translate(arguments, &config)
}

fn translate(arguments: Vec<OsString>, config: &Path) -> Result<Vec<OsString>, Failure> {
    let mut options = Vec::new();
    let mut rest: Vec<OsString> = Vec::new();
    let mut words = arguments.into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-o") => options.push(text(words.next().unwrap_or_default())?),
            Some(list) if list.starts_with("-o") => options.push(list.trim_start_matches("-o").to_owned()),
            // As fuse-overlayfs answers; `podman info` shows it.
            Some("--version" | "-V") => return Ok(vec!["imafs".into(), "--version".into()]),
            Some("--help" | "-h") => return Ok(["imafs", "mount", "--help"].map(OsString::from).to_vec()),
            Some("-f") => rest.push("--foreground".into()),
            Some(_) | None => rest.push(word),
        }
    }
    let mut kept = Vec::new();
    let mut profiled = false;
    for item in options.iter().flat_map(|list| option_list::split(list)) {
        let name = item.split('=').next().unwrap_or_default();
        match item.split_once('=') {
            // Off is what imafs does.
            Some(("metacopy" | "index" | "redirect_dir", "off") | ("xattr_permissions", "0")) => continue,
            _ if TUNING.contains(&name) => continue,
            _ => {}
        }
        if let Some((name, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(Failure::cannot(format!("follow the option {name}"), reason));
        }
        profiled |= name == "profile";
        kept.push(item.replace(',', "\\,"));
    }
    let mut rewritten: Vec<OsString> =
        vec!["imafs".into(), "mount".into(), "-o".into(), kept.join(",").into()];
    if !profiled {
        rewritten.extend(["--profile".into(), profile(config)?.into_os_string()]);
    }
    rewritten.extend(rest);
    Ok(rewritten)
}

fn text(word: OsString) -> Result<String, Failure> {
    word.into_string().map_err(|word| Failure::cannot("read the options", format!("{word:?} is not text")))
}

fn profile(path: &Path) -> Result<PathBuf, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::cannot(format!("read {}", path.display()), crate::daemon::plain(&error)).advise(
            "write it: it says which profile the mounts of podman and buildah get, as 'profile: FILE'",
        )
    })?;
    let config: Config = serde_yaml::from_str(&text)
        .map_err(|error| Failure::cannot(format!("use {}", path.display()), error))?;
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(whole.parent().unwrap_or(Path::new("/")).join(config.profile))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(line: &str, config: &str) -> Result<String, String> {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("mount_program.yaml");
        std::fs::write(&path, config).unwrap();
        let words = line.split(' ').map(OsString::from).collect();
        let there = format!("{}/", here.path().display());
        let words = translate(words, &path).map_err(|failure| failure.to_string())?;
        Ok(words.join(std::ffi::OsStr::new(" ")).into_string().unwrap().replace(&there, ""))
    }

    const PROFILE: &str = "profile: exec.yaml\n";

    #[test]
    fn a_call_of_containers_storage_becomes_a_mount_with_the_hosts_profile() {
        let line = "/usr/bin/imafs-mount-program -o nodev,lowerdir=l/A:l/B,upperdir=/s/diff,workdir=/s/work,volatile /s/merged";
        let expected = "imafs mount -o nodev,lowerdir=l/A:l/B,upperdir=/s/diff,workdir=/s/work --profile exec.yaml /s/merged";
        assert_eq!(called(line, PROFILE).unwrap(), expected);
        let named = called("imafs-mount-program -oprofile=/p.yaml,lowerdir=/a /m", "").unwrap();
        assert_eq!(named, "imafs mount -o profile=/p.yaml,lowerdir=/a /m");
        assert_eq!(called("imafs-mount-program --version", "").unwrap(), "imafs --version");
    }

    #[test]
    fn what_only_tunes_is_dropped_and_what_is_off_is_off() {
        let line = "imafs-mount-program -o lowerdir=/a,fsync=0,threaded=1,metacopy=off,xattr_permissions=0,redirect_dir=on /m";
        assert_eq!(called(line, PROFILE).unwrap(), "imafs mount -o lowerdir=/a --profile exec.yaml /m");
    }

    #[test]
    fn what_would_change_owners_or_modes_is_refused_by_name() {
        for option in [
            "squash_to_root",
            "squash_to_uid=1",
            "uidmapping=0:1:2",
            "xattr_permissions=2",
            "metacopy=on",
            "gidmapping=0:1:2",
        ] {
            let line = format!("imafs-mount-program -o lowerdir=/a,{option} /m");
            let refusal = called(&line, PROFILE).unwrap_err();
            assert!(refusal.contains(option.split('=').next().unwrap()), "{refusal}");
        }
    }

    #[test]
    fn without_a_profile_nothing_is_mounted() {
        let line = "imafs-mount-program -o lowerdir=/a /m";
        for config in ["", "profil: x\n", "profile: x\nother: y\n"] {
            assert!(called(line, config).unwrap_err().contains("mount_program.yaml"), "{config}");
        }
        let words = line.split(' ').map(OsString::from).collect();
        let missing = translate(words, Path::new("/nonexistent/m.yaml")).unwrap_err().to_string();
        assert!(missing.contains("write it"), "{missing}");
    }

    #[test]
    fn another_name_is_another_program() {
        let words: Vec<OsString> = ["imafs", "ps"].map(OsString::from).to_vec();
        assert_eq!(rewritten(words.clone()).unwrap(), words);
    }
}
