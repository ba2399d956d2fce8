//! Set-id bits go when somebody without privileges changes the content, however the file is served at the time, and
//! the mount never shows bits that are gone.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use rustix::fs::{FallocateFlags, copy_file_range, fallocate};

use crate::common::{ALL, LENDING, Rig, Setting, can_mount, shell_as};

const WHO: [&str; 3] = ["--reuid=1234", "--regid=1234", "--clear-groups"];

/// Lends files to readers too, however small.
const LENDING_ALL: Setting = Setting { page_cache_limit: 0, ..LENDING };

fn settings() -> impl Iterator<Item = Setting> {
    ALL.into_iter().chain([LENDING_ALL])
}

fn marked(rig: &Rig, name: &str) {
    fs::write(rig.at(name), b"content").unwrap();
    fs::set_permissions(rig.at(name), Permissions::from_mode(0o6777)).unwrap();
    // What the kernel is told here it believes for long.
    assert_eq!(mode(rig, name), (0o6777, 0o6777));
}

/// The mode as the mount shows it, and as it is.
fn mode(rig: &Rig, name: &str) -> (u32, u32) {
    let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
    (mode(rig.at(name)), mode(rig.under(name)))
}

/// Has somebody without privileges write to a file that is open already.
fn write_as_somebody(file: &File) {
    let status =
        Command::new("setpriv").args(WHO).args(["echo", "x"]).stdout(file.try_clone().unwrap()).status();
    assert!(status.unwrap().success());
}

#[test]
fn they_go_although_the_file_is_lent_to_a_reader() {
    if !can_mount() {
        return;
    }
    for setting in settings() {
        let rig = Rig::new(setting);
        for (name, act) in [("write", "echo x >> write"), ("truncate", ": > truncate")] {
            marked(&rig, name);
            let reader = File::open(rig.at(name)).unwrap();
            shell_as(&rig.target, &WHO, act);
            assert_eq!(mode(&rig, name), (0o777, 0o777), "{name} {setting:?}");
            drop(reader);
            assert_eq!(mode(&rig, name), (0o777, 0o777), "{name} {setting:?}");
        }
    }
}

#[test]
fn they_go_although_the_writer_was_there_first() {
    if !can_mount() {
        return;
    }
    for setting in settings() {
        let rig = Rig::new(setting);
        fs::write(rig.at("file"), b"content").unwrap();
        let writer = OpenOptions::new().append(true).open(rig.at("file")).unwrap();
        write_as_somebody(&writer);
        for _ in 0..3 {
            fs::set_permissions(rig.at("file"), Permissions::from_mode(0o6777)).unwrap();
            assert_eq!(mode(&rig, "file"), (0o6777, 0o6777));
            write_as_somebody(&writer);
            assert_eq!(mode(&rig, "file"), (0o777, 0o777), "{setting:?}");
        }
    }
}

#[test]
fn they_go_when_space_is_allocated_or_content_copied() {
    if !can_mount() {
        return;
    }
    for setting in settings() {
        let rig = Rig::new(setting);
        fs::write(rig.at("source"), b"content").unwrap();
        let from = File::open(rig.at("source")).unwrap();
        marked(&rig, "allocated");
        let file = OpenOptions::new().write(true).open(rig.at("allocated")).unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, 4096).unwrap();
        assert_eq!(mode(&rig, "allocated"), (0o777, 0o777), "{setting:?}");
        marked(&rig, "copied");
        let file = OpenOptions::new().write(true).open(rig.at("copied")).unwrap();
        assert_eq!(copy_file_range(&from, None, &file, None, 7), Ok(7));
        assert_eq!(mode(&rig, "copied"), (0o777, 0o777), "{setting:?}");
    }
}

#[test]
fn they_stay_when_root_writes() {
    if !can_mount() {
        return;
    }
    for setting in settings() {
        let rig = Rig::new(setting);
        marked(&rig, "file");
        OpenOptions::new().append(true).open(rig.at("file")).unwrap().write_all(b"more").unwrap();
        File::options().write(true).truncate(true).open(rig.at("file")).unwrap().write_all(b"less").unwrap();
        assert_eq!(mode(&rig, "file"), (0o6777, 0o6777), "{setting:?}");
    }
}

#[test]
fn a_program_that_was_written_gives_nobody_more_rights() {
    if !can_mount() {
        return;
    }
    for setting in settings() {
        let rig = Rig::new(setting);
        fs::copy("/usr/bin/id", rig.at("id")).unwrap();
        fs::set_permissions(rig.at("id"), Permissions::from_mode(0o4777)).unwrap();
        let id = || shell_as(&rig.target, &WHO, "./id -u").trim().to_owned();
        assert_eq!(id(), "0", "set-id programs work");
        let reader = File::open(rig.at("id")).unwrap();
        shell_as(&rig.target, &WHO, "echo >> id");
        assert_eq!(id(), "1234", "{setting:?}");
        drop(reader);
        assert_eq!(id(), "1234", "{setting:?}");
    }
}
