//! Listing directories, while they change.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};

use crate::common::{ALL, Rig, can_mount, shell};

#[test]
fn ten_thousand_entries_are_listed_while_some_are_removed() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::create_dir(rig.under("big")).unwrap();
        shell(&rig.under("big"), "seq 10000 | sed s/^/name-/ | xargs touch");
        let target = rig.at("big");
        let remover = std::thread::spawn(move || {
            for number in (1..=10_000).step_by(2) {
                fs::remove_file(target.join(format!("name-{number}"))).unwrap();
            }
        });
        let mut seen = Vec::new();
        for entry in fs::read_dir(rig.at("big")).unwrap() {
            seen.push(entry.unwrap().file_name().into_string().unwrap());
        }
        remover.join().unwrap();
        let unique: BTreeSet<_> = seen.iter().cloned().collect();
        assert_eq!(unique.len(), seen.len(), "a name was listed twice {setting:?}");
        for number in (2..=10_000).step_by(2) {
            assert!(unique.contains(&format!("name-{number}")), "{number} was skipped {setting:?}");
        }
        assert_eq!(fs::read_dir(rig.at("big")).unwrap().count(), 5000);
        shell(&rig.target, "rm -r big; test ! -e big");
        assert!(!rig.under("big").exists());
    }
}

#[test]
fn listings_agree_with_stat_and_with_the_source() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        shell(&rig.source, "mkdir a b; touch c; ln -s c d; mkfifo e; mkdir a/sub; ln c a/c2; mknod f c 1 3");
        for directory in [rig.target.clone(), rig.at("a")] {
            for entry in fs::read_dir(&directory).unwrap() {
                let entry = entry.unwrap();
                let meta = fs::symlink_metadata(entry.path()).unwrap();
                assert_eq!(entry.ino(), meta.ino(), "{:?} {setting:?}", entry.path());
                assert_eq!(entry.file_type().unwrap(), meta.file_type());
            }
        }
        let find = "find . -printf '%p %y %i %m %n %s %T@ %l\\n' | sort";
        assert_eq!(shell(&rig.target, find), shell(&rig.source, find));
        // Above the root there is nothing: both dots are the root.
        let root = fs::metadata(&rig.target).unwrap().ino();
        let dots = rustix::fs::Dir::read_from(fs::File::open(&rig.target).unwrap()).unwrap();
        let dots: Vec<u64> = dots
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_bytes().starts_with(b"."))
            .map(|entry| entry.ino())
            .collect();
        assert_eq!(dots, [root, root]);
    }
}

#[test]
fn a_listing_sees_what_was_made_since_the_last_one() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        for turn in 0..50 {
            assert_eq!(fs::read_dir(&rig.target).unwrap().count(), turn);
            fs::write(rig.at(&turn.to_string()), b"").unwrap();
        }
        fs::rename(rig.at("1"), rig.at("renamed")).unwrap();
        let names: BTreeSet<_> =
            fs::read_dir(&rig.target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.contains("renamed".as_ref() as &std::ffi::OsStr));
        assert!(!names.contains("1".as_ref() as &std::ffi::OsStr));
    }
}
