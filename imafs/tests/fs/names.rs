//! Links, renames, special files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use rustix::io::Errno;

use crate::common::{ALL, Rig, can_mount, shell};

#[test]
fn hard_links_are_one_file() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::write(rig.at("a"), b"one").unwrap();
        fs::hard_link(rig.at("a"), rig.at("b")).unwrap();
        let (a, b) = (fs::metadata(rig.at("a")).unwrap(), fs::metadata(rig.at("b")).unwrap());
        assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
        fs::write(rig.at("b"), b"two").unwrap();
        assert_eq!(fs::read(rig.at("a")).unwrap(), b"two");
        fs::remove_file(rig.at("a")).unwrap();
        assert_eq!(fs::metadata(rig.at("b")).unwrap().nlink(), 1);
        assert_eq!(fs::read(rig.at("b")).unwrap(), b"two");
        symlink("b", rig.at("s")).unwrap();
        fs::hard_link(rig.at("s"), rig.at("t")).unwrap();
        assert_eq!(fs::read_link(rig.at("t")).unwrap(), std::path::Path::new("b"));
        assert_eq!(fs::symlink_metadata(rig.under("t")).unwrap().nlink(), 2);
    }
}

#[test]
fn rename_moves_replaces_refuses_and_exchanges() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::create_dir(rig.at("d")).unwrap();
        fs::write(rig.at("a"), b"a").unwrap();
        fs::write(rig.at("b"), b"b").unwrap();
        let no_replace = RenameFlags::NOREPLACE;
        assert_eq!(renameat_with(CWD, rig.at("a"), CWD, rig.at("b"), no_replace), Err(Errno::EXIST));
        renameat_with(CWD, rig.at("a"), CWD, rig.at("d/a"), no_replace).unwrap();
        assert_eq!(fs::metadata(rig.at("a")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        renameat_with(CWD, rig.at("b"), CWD, rig.at("d/a"), RenameFlags::EXCHANGE).unwrap();
        assert_eq!(
            (fs::read(rig.at("b")).unwrap(), fs::read(rig.at("d/a")).unwrap()),
            (vec![b'a'], vec![b'b'])
        );
        assert_eq!(fs::read(rig.under("d/a")).unwrap(), b"b");
        let whiteout = renameat_with(CWD, rig.at("b"), CWD, rig.at("w"), RenameFlags::WHITEOUT);
        assert_eq!(whiteout, Err(Errno::INVAL));
        let mut open = File::open(rig.at("d/a")).unwrap();
        fs::rename(rig.at("b"), rig.at("d/a")).unwrap();
        assert_eq!(fs::read(rig.at("d/a")).unwrap(), b"a");
        let mut old = String::new();
        open.read_to_string(&mut old).unwrap();
        assert_eq!(old, "b", "{setting:?}");
        fs::rename(rig.at("d"), rig.at("e")).unwrap();
        assert_eq!(fs::read(rig.at("e/a")).unwrap(), b"a");
        fs::create_dir(rig.at("full")).unwrap();
        let error = fs::rename(rig.at("full"), rig.at("e")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTEMPTY));
    }
}

#[test]
fn special_files_are_made_as_asked_and_work() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, rig.at("fifo"), FileType::Fifo, mode, 0).unwrap();
        mknodat(CWD, rig.at("zero"), FileType::CharacterDevice, mode, makedev(1, 5)).unwrap();
        mknodat(CWD, rig.at("disk"), FileType::BlockDevice, mode, makedev(259, 70_000)).unwrap();
        mknodat(CWD, rig.at("plain"), FileType::RegularFile, mode, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(rig.at("socket")).unwrap();
        assert!(fs::metadata(rig.under("fifo")).unwrap().file_type().is_fifo());
        assert!(fs::metadata(rig.under("socket")).unwrap().file_type().is_socket());
        for name in ["zero", "disk"] {
            assert_eq!(
                fs::metadata(rig.at(name)).unwrap().rdev(),
                fs::metadata(rig.under(name)).unwrap().rdev()
            );
        }
        let mut four = [1; 4];
        File::open(rig.at("zero")).unwrap().read_exact(&mut four).unwrap();
        assert_eq!(four, [0; 4]);
        let writer = rig.at("fifo");
        let thread = std::thread::spawn(move || {
            File::options().write(true).open(writer).unwrap().write_all(b"through").unwrap();
        });
        assert_eq!(fs::read(rig.at("fifo")).unwrap(), b"through");
        thread.join().unwrap();
        assert_eq!(fs::read(rig.at("plain")).unwrap(), b"");
    }
}

#[test]
fn symbolic_links_keep_their_targets() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        let long = "t".repeat(4095);
        for (name, target) in [("s", "short"), ("l", long.as_str()), ("a", "/absolute/../x")] {
            symlink(target, rig.at(name)).unwrap();
            assert_eq!(fs::read_link(rig.at(name)).unwrap().to_str(), Some(target));
            assert_eq!(fs::read_link(rig.under(name)).unwrap().to_str(), Some(target));
        }
    }
}

#[test]
fn a_name_that_was_absent_is_seen_when_it_is_made() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        assert_eq!(fs::read(rig.at("later")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        shell(
            &rig.target,
            "test ! -e later; echo now > later; cat later; rm later; test ! -e later; mkdir later",
        );
        assert!(fs::metadata(rig.at("later")).unwrap().is_dir());
        let exclusive = File::options().write(true).create_new(true).open(rig.at("later"));
        assert_eq!(exclusive.unwrap_err().raw_os_error(), Some(libc::EEXIST));
    }
}
