//! Several processes at once: locks, edits of the host, threads that make and remove.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;

use crate::common::{ALL, LENDING, Rig, SERVING, SHARED, Setting, can_mount, shell};

/// Set for the child that tries the lock; names the file.
const ROLE: &str = "IMAFS_TEST_LOCKED_FILE";

#[test]
fn locks_hold_between_processes() {
    if let Some(path) = std::env::var_os(ROLE) {
        return try_the_locks(path.as_ref());
    }
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        let file = File::create(rig.at("locked")).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        fcntl_lock(&file, FlockOperation::LockExclusive).unwrap();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sharing::locks_hold_between_processes"])
            .env(ROLE, rig.at("locked"))
            .output()
            .unwrap();
        assert!(child.status.success(), "{setting:?}: {}", String::from_utf8_lossy(&child.stdout));
    }
}

fn try_the_locks(path: &std::path::Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    assert_eq!(flock(&file, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    let refused = fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive);
    assert!(matches!(refused, Err(Errno::ACCESS | Errno::AGAIN)), "{refused:?}");
}

#[test]
fn an_edit_of_the_host_is_seen_at_the_next_open() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(SHARED);
    for turn in 0..50_u32 {
        fs::write(rig.under("file"), format!("host {turn}")).unwrap();
        assert_eq!(fs::read_to_string(rig.at("file")).unwrap(), format!("host {turn}"));
    }
    fs::rename(rig.under("file"), rig.under("other")).unwrap();
    assert_eq!(fs::read(rig.at("file")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert_eq!(fs::read_to_string(rig.at("other")).unwrap(), "host 49");
    fs::write(rig.under("file"), b"made by the host").unwrap();
    let opened = File::options().append(true).create(true).open(rig.at("file")).unwrap();
    assert_eq!(opened.metadata().unwrap().size(), 16);
}

#[test]
fn many_threads_making_and_removing_leave_nothing_behind() {
    if !can_mount() {
        return;
    }
    for setting in [LENDING, SERVING] {
        let rig = Rig::new(setting);
        std::thread::scope(|scope| {
            for client in 0..4 {
                let root = rig.at(&format!("c{client}"));
                scope.spawn(move || {
                    for turn in 0..40 {
                        fs::create_dir(&root).unwrap();
                        for file in 0..10 {
                            let path = root.join(file.to_string());
                            fs::write(&path, vec![file; 3000]).unwrap();
                            fs::rename(&path, root.join(format!("r{file}"))).unwrap();
                            assert_eq!(fs::read(root.join(format!("r{file}"))).unwrap(), vec![file; 3000]);
                        }
                        fs::rename(&root, root.with_extension(turn.to_string())).unwrap();
                        fs::remove_dir_all(root.with_extension(turn.to_string())).unwrap();
                    }
                });
            }
        });
        assert_eq!(shell(&rig.source, "ls -A"), "");
    }
}

/// The label of a file in the mount or beneath it, in hexadecimal.
fn label(path: &Path) -> Option<String> {
    let mut value = [0; 100];
    let length = rustix::fs::getxattr(path, "security.ima", &mut value[..]).ok()?;
    value.get(..length).map(hex::encode)
}

#[test]
fn the_label_is_renewed_when_the_last_mapping_ends() {
    if !can_mount() {
        return;
    }
    for setting in [LENDING, SERVING, SHARED] {
        let rig = Rig::new(Setting { policy: "appraise func=FILE_CHECK\n", ..setting });
        let map = |name: &str| {
            let path = rig.at(name);
            let mut file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
            file.write_all(b"content").unwrap();
            sys::mapping::Shared::map(file.as_fd(), 7).unwrap()
        };
        let digest = |name: &str| {
            let sum = shell(&rig.source, &format!("sha256sum {name}"));
            Some(format!("0404{}", sum.split(' ').next().unwrap()))
        };
        let mut mappings = [map("asked"), map("left"), map("kept")];
        for mapping in &mut mappings {
            mapping.write(0, b"CHANGED").unwrap();
        }
        let [asked, left, mut kept] = mappings;
        assert_eq!(label(&rig.at("asked")), None, "{setting:?}");
        drop(asked);
        assert_eq!(label(&rig.at("asked")), digest("asked"), "{setting:?}");
        // Nobody asks, and the kernel has forgotten the file.
        drop(left);
        fs::write("/proc/sys/vm/drop_caches", b"2").unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while label(&rig.under("left")).is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(label(&rig.under("left")), digest("left"), "{setting:?}");
        kept.write(0, b"changed").unwrap();
        assert_eq!(label(&rig.under("kept")), None);
        drop(kept);
        assert_eq!(fs::read(rig.at("kept")).unwrap(), b"changed");
        assert_eq!(label(&rig.under("kept")), digest("kept"));
    }
}
