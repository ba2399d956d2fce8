//! Files and directories without names, records the kernel forgets, and the end of a mount.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use crate::common::{ALL, LENDING, Rig, SERVING, can_mount, shell};

#[test]
fn an_open_file_without_a_name_is_read_and_written() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        let mut file = File::options().read(true).write(true).create_new(true).open(rig.at("gone")).unwrap();
        file.write_all(b"before").unwrap();
        let reader = File::open(rig.at("gone")).unwrap();
        fs::remove_file(rig.at("gone")).unwrap();
        file.write_all(b" and after").unwrap();
        let mut read = [0; 16];
        reader.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(&read, b"before and after", "{setting:?}");
        let meta = file.metadata().unwrap();
        assert_eq!((meta.nlink(), meta.size()), (0, 16));
        file.set_len(3).unwrap();
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(file.metadata().unwrap().size(), 3);
        let again = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
        let mut three = [0; 3];
        again.read_exact_at(&mut three, 0).unwrap();
        assert_eq!(&three, b"bef");
        fs::write(rig.at("gone"), b"another").unwrap();
        assert_eq!(fs::read(rig.at("gone")).unwrap(), b"another");
    }
}

#[test]
fn a_working_directory_that_was_removed_stays_one() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::create_dir(rig.at("dir")).unwrap();
        let script =
            "rmdir \"$PWD\"; ls -a >/dev/null; stat -c %h . ; ! touch x 2>/dev/null; ! cat x 2>/dev/null";
        assert_eq!(shell(&rig.at("dir"), script).trim(), "0", "{setting:?}");
    }
}

#[test]
fn records_are_dropped_when_the_kernel_forgets() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    shell(
        &rig.source,
        "i=0; while [ $i -lt 40 ]; do mkdir d$i; (cd d$i; seq 100 | xargs touch); i=$((i+1)); done",
    );
    shell(&rig.target, "find . -type f | wc -l; ls -lR . > /dev/null");
    assert!(rig.fs.records() > 4000, "{}", rig.fs.records());
    let before = fs::metadata(rig.at("d7/50")).unwrap().ino();
    fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while rig.fs.records() > 50 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
    }
    assert!(rig.fs.records() <= 50, "{} records left", rig.fs.records());
    assert!(rig.fs.cached_descriptors() <= 50, "{} descriptors left", rig.fs.cached_descriptors());
    // In the detached mount directories are shown by their path from its root.
    let script = format!("ls -l /proc/{}/fd | grep -cE -- '-> /d[0-9]+$' || true", std::process::id());
    let held = shell(&rig.source, &script);
    assert!(held.trim().parse::<u32>().unwrap() < 50, "{held} descriptors of directories left");
    assert_eq!(fs::metadata(rig.at("d7/50")).unwrap().ino(), before, "inode numbers must outlive the caches");
}

#[test]
fn records_of_removed_files_do_not_pile_up() {
    if !can_mount() {
        return;
    }
    for setting in [LENDING, SERVING] {
        let rig = Rig::new(setting);
        for turn in 0..500 {
            let path = rig.at(&format!("f{turn}"));
            fs::write(&path, b"x").unwrap();
            fs::remove_file(&path).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while rig.fs.records() > 10 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(rig.fs.records() <= 10, "{} records left {setting:?}", rig.fs.records());
    }
}

#[test]
fn a_mount_ends_cleanly_when_it_is_unmounted() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::write(rig.at("file"), b"last words").unwrap();
        let under = rig.under("file");
        let scratch = rig.target.clone();
        rig.unmount().unwrap();
        assert!(!scratch.join("file").exists());
        drop(under);
    }
}

#[test]
fn a_busy_mount_is_not_unmounted_at_once() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    let file = File::create(rig.at("file")).unwrap();
    let refused = imafs::fuse::unmount(&rig.target, imafs::fuse::Unmount::Now);
    assert!(matches!(refused, Err(imafs::fuse::MountError::Unmount { source: rustix::io::Errno::BUSY, .. })));
    drop(file);
    rig.unmount().unwrap();
}
