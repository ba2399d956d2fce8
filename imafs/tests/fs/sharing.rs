//! Several processes at once: locks, edits of the host, threads that make and remove.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::io::Errno;

use crate::common::{ALL, LENDING, Rig, SERVING, SHARED, can_mount, shell};

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
