//! Sources that are stacks of layers: made by imafs, or by somebody else without file handles.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use imafs::fs::{Backing, BackingError};

use crate::common::{LENDING, Rig, SHARED, can_mount, shell};

/// Exercises what depends on how inodes are found again.
fn exercise(rig: &Rig) {
    let at = |name: &str| rig.at(name);
    assert_eq!(fs::read_to_string(at("below")).unwrap(), "from below\n");
    let before = fs::metadata(at("below")).unwrap();
    fs::write(at("below"), b"changed").unwrap();
    assert_eq!(fs::read(at("below")).unwrap(), b"changed");
    assert_eq!(fs::metadata(at("below")).unwrap().mode(), before.mode());
    fs::create_dir(at("made")).unwrap();
    fs::write(at("made/file"), b"new").unwrap();
    fs::rename(at("made/file"), at("made/moved")).unwrap();
    let open = File::open(at("made/moved")).unwrap();
    fs::remove_file(at("made/moved")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    assert_eq!(std::io::read_to_string(open).unwrap(), "new");
    fs::remove_file(at("dir/gone")).unwrap();
    assert!(!at("dir/gone").exists());
    shell(&rig.target, "seq 300 | sed s/^/many-/ | xargs touch; ls | wc -l");
    fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
    shell(&rig.target, "rm many-*; test -z \"$(ls | grep many)\"; ./run");
    assert_eq!(fs::read(at("below")).unwrap(), b"changed");
    fs::remove_dir(at("made")).unwrap();
}

fn fill(lower: &Path) {
    shell(
        lower,
        "echo 'from below' > below; mkdir dir; touch dir/gone dir/kept; printf '#!/bin/sh\\ntrue\\n' > run; chmod +x run",
    );
}

#[test]
fn layers_are_stacked_without_a_mount_of_their_own_being_seen() {
    if !can_mount() {
        return;
    }
    for setting in [LENDING, SHARED] {
        let dirs = tempfile::tempdir_in("/var/tmp").unwrap();
        let [lower, colon, upper, work] =
            ["lower", "low:er", "upper", "work"].map(|name| dirs.path().join(name));
        for directory in [&lower, &colon, &upper, &work] {
            fs::create_dir(directory).unwrap();
        }
        fill(&lower);
        fs::write(colon.join("under-colon"), b"seen").unwrap();
        let backing = Backing::overlay(&[colon.clone(), lower.clone()], &upper, &work, false).unwrap();
        assert!(backing.has_handles());
        let rig = Rig::over(setting, backing);
        assert_eq!(fs::read(rig.at("under-colon")).unwrap(), b"seen");
        exercise(&rig);
        assert_eq!(fs::read(upper.join("below")).unwrap(), b"changed");
        assert_eq!(fs::read_to_string(lower.join("below")).unwrap(), "from below\n");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&*upper.to_string_lossy()), "the stack is attached somewhere");
    }
}

#[test]
fn layers_without_a_writable_one_are_read_and_never_written() {
    if !can_mount() {
        return;
    }
    let dirs = tempfile::tempdir_in("/var/tmp").unwrap();
    let layers = ["top", "bottom"].map(|name| dirs.path().join(name));
    for layer in &layers {
        fs::create_dir(layer).unwrap();
        fs::write(layer.join("which"), layer.file_name().unwrap().as_encoded_bytes()).unwrap();
    }
    fs::write(layers[1].join("below"), b"seen").unwrap();
    let rig = Rig::over(LENDING, Backing::stack(&layers).unwrap());
    assert_eq!(fs::read(rig.at("which")).unwrap(), b"top");
    assert_eq!(fs::read(rig.at("below")).unwrap(), b"seen");
    let refused = fs::write(rig.at("below"), b"changed").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::read(layers[1].join("below")).unwrap(), b"seen");
}

#[test]
fn a_source_without_file_handles_works_by_descriptors() {
    if !can_mount() {
        return;
    }
    let dirs = tempfile::tempdir_in("/var/tmp").unwrap();
    shell(dirs.path(), "mkdir lower upper work stack");
    fill(&dirs.path().join("lower"));
    shell(dirs.path(), "mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work scratch stack");
    let stack = dirs.path().join("stack");
    let backing = Backing::directory(&stack, false);
    shell(dirs.path(), "umount -l stack");
    let backing = backing.unwrap();
    assert!(!backing.has_handles());
    let rig = Rig::over(LENDING, backing);
    exercise(&rig);
    assert!(!rig.fs.lends(), "files of a stack cannot be lent");
}

#[test]
fn what_is_mounted_over_the_source_later_is_not_seen() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(SHARED);
    fs::create_dir(rig.under("dir")).unwrap();
    fs::write(rig.under("dir/file"), b"beneath").unwrap();
    shell(&rig.source, "mount -t tmpfs scratch dir");
    let seen = fs::read(rig.at("dir/file"));
    shell(&rig.source, "umount dir");
    assert_eq!(seen.unwrap(), b"beneath");
}

#[test]
fn a_read_only_backing_refuses_every_change() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    fill(dir.path());
    let rig = Rig::over(LENDING, Backing::directory(dir.path(), true).unwrap());
    for script in
        ["touch new", "echo x > below", "rm below", "mkdir d", "mv below b", "chmod 700 below", "ln below l"]
    {
        shell(&rig.target, &format!("! {{ {script}; }} 2>/dev/null"));
    }
    let error = fs::write(rig.at("below"), b"x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    assert_eq!(fs::read_to_string(rig.at("below")).unwrap(), "from below\n");
}

#[test]
fn sources_that_are_no_directories_are_named() {
    let missing = Backing::directory(Path::new("/nonexistent/x"), false);
    assert_eq!(missing.unwrap_err().to_string(), "cannot open /nonexistent/x");
    let file = Backing::directory(Path::new("/dev/null"), false);
    assert!(matches!(file, Err(BackingError::NotDirectory { .. })), "{file:?}");
}
