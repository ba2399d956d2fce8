//! Modes, owners, sizes, times, extended attributes, flags.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};

use rustix::fs::{
    AtFlags, CWD, StatxFlags, Timespec, Timestamps, XattrFlags, getxattr, lgetxattr, lsetxattr, setxattr,
    statx, utimensat,
};
use rustix::io::Errno;

use imafs::fs::{Ino, Looked};
use sys::inode_flags::{FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS};

use crate::common::{ALL, LENDING, Rig, can_mount, shell};

/// Everything `stat(2)` shows that must be the source's.
fn shown(path: &std::path::Path) -> [i64; 12] {
    let meta = fs::symlink_metadata(path).unwrap();
    [
        meta.ino() as i64,
        meta.mode().into(),
        meta.nlink() as i64,
        meta.uid().into(),
        meta.gid().into(),
        meta.size() as i64,
        meta.atime(),
        meta.atime_nsec(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
    ]
}

#[test]
fn attributes_set_through_the_mount_are_those_of_the_source() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        let (file, under) = (rig.at("file"), rig.under("file"));
        fs::write(&file, b"hello").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o6751)).unwrap();
        assert_eq!(shown(&file), shown(&under), "{setting:?}");
        assert_eq!(fs::metadata(&under).unwrap().mode() & 0o7777, 0o6751);
        chown(&file, Some(12), Some(34)).unwrap();
        assert_eq!(shown(&file), shown(&under));
        // The kernel drops the set-id bits when the owner changes.
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o751);
        for seconds in [0, 1, -1, -1_000_000_000, 4_000_000_000] {
            let time = Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, &file, &times, AtFlags::empty()).unwrap();
            assert_eq!(shown(&file), shown(&under), "{seconds}");
            let meta = fs::metadata(&under).unwrap();
            assert_eq!((meta.mtime(), meta.mtime_nsec()), (seconds, 123_456_789));
        }
        File::options().write(true).open(&file).unwrap().set_len(3).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"hel");
        assert_eq!(shown(&file), shown(&under));
        symlink("nowhere", rig.at("link")).unwrap();
        lchown(rig.at("link"), Some(5), Some(6)).unwrap();
        let times = Timestamps {
            last_access: Timespec { tv_sec: 1, tv_nsec: 0 },
            last_modification: Timespec { tv_sec: 2, tv_nsec: 0 },
        };
        utimensat(CWD, rig.at("link"), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(shown(&rig.at("link")), shown(&rig.under("link")));
    }
}

#[test]
fn extended_attributes_go_through_on_every_kind_of_file() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::write(rig.at("file"), b"").unwrap();
        fs::create_dir(rig.at("dir")).unwrap();
        symlink("nowhere", rig.at("link")).unwrap();
        for name in ["file", "dir"] {
            let path = rig.at(name);
            let long = vec![b'x'; 3000];
            setxattr(&path, "user.a", b"value", XattrFlags::CREATE).unwrap();
            setxattr(&path, "user.long", &long, XattrFlags::empty()).unwrap();
            assert_eq!(setxattr(&path, "user.a", b"", XattrFlags::CREATE), Err(Errno::EXIST));
            assert_eq!(setxattr(&path, "user.b", b"", XattrFlags::REPLACE), Err(Errno::NODATA));
            let mut buffer = vec![0; 4096];
            assert_eq!(getxattr(rig.under(name), "user.a", &mut buffer[..]), Ok(5));
            assert_eq!(getxattr(&path, "user.long", &mut buffer[..]), Ok(3000));
            assert_eq!(getxattr(&path, "user.long", &mut buffer[..100]), Err(Errno::RANGE));
            assert_eq!(getxattr(&path, "user.none", &mut buffer[..]), Err(Errno::NODATA));
            let length = rustix::fs::listxattr(&path, &mut buffer[..]).unwrap();
            assert_eq!(&buffer[..length], b"user.a\0user.long\0");
            rustix::fs::removexattr(&path, "user.a").unwrap();
            assert_eq!(rustix::fs::removexattr(&path, "user.a"), Err(Errno::NODATA));
        }
        lsetxattr(rig.at("link"), "trusted.t", b"on the link", XattrFlags::empty()).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(lgetxattr(rig.under("link"), "trusted.t", &mut buffer[..]), Ok(11));
        setxattr(rig.at("file"), "security.ima", b"\x01aaaaaaaaaaaaaaaaaaaa", XattrFlags::empty()).unwrap();
        assert_eq!(getxattr(rig.under("file"), "security.ima", &mut buffer[..]), Ok(21));
        assert_eq!(setxattr(rig.at("file"), "security.evm", b"\x02", XattrFlags::empty()), Err(Errno::PERM));
    }
}

#[test]
fn set_id_bits_and_capabilities_drop_when_an_unprivileged_user_writes() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        let who = ["--reuid=1234", "--regid=1234", "--clear-groups"];
        for (name, act) in
            [("write", "echo x >> write"), ("truncate", ": > truncate"), ("shrink", "truncate -s 1 shrink")]
        {
            fs::write(rig.at(name), b"content").unwrap();
            fs::set_permissions(rig.at(name), fs::Permissions::from_mode(0o6777)).unwrap();
            crate::common::shell_as(&rig.target, &who, act);
            assert_eq!(fs::metadata(rig.under(name)).unwrap().mode() & 0o7777, 0o777, "{name} {setting:?}");
            assert_eq!(fs::metadata(rig.at(name)).unwrap().mode() & 0o7777, 0o777, "{name}");
        }
    }
}

#[test]
fn statfs_is_that_of_the_source() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    let (shown, real) =
        (rustix::fs::statvfs(&rig.target).unwrap(), rustix::fs::statvfs(&rig.source).unwrap());
    assert_eq!((shown.f_blocks, shown.f_files, shown.f_bsize), (real.f_blocks, real.f_files, real.f_bsize));
    assert_eq!((shown.f_namemax, shown.f_frsize), (real.f_namemax, real.f_frsize));
}

#[test]
fn inode_flags_go_through_and_other_ioctls_do_not() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    fs::write(rig.at("file"), b"x").unwrap();
    fs::create_dir(rig.at("dir")).unwrap();
    shell(&rig.target, "chattr +d file && lsattr -d file dir");
    let shown = shell(&rig.target, "lsattr -d file dir");
    assert_eq!(shown, shell(&rig.source, "lsattr -d file dir"));
    assert!(shown.lines().next().unwrap().split(' ').next().unwrap().contains('d'), "{shown}");
    shell(&rig.target, "chattr +i file");
    assert_eq!(fs::write(rig.at("file"), b"y").unwrap_err().raw_os_error(), Some(libc::EPERM));
    shell(&rig.target, "chattr -i file");
    fs::write(rig.at("file"), b"y").unwrap();
}

/// A file would have names then that no rule about paths is about.
#[test]
fn the_container_does_not_make_names_the_same_whatever_their_case() {
    const CASEFOLD: u32 = 0x4000_0000;
    const NODUMP: u32 = 0x40;
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    fs::create_dir(rig.at("dir")).unwrap();
    let Looked::Found(entry) = rig.fs.lookup(Ino::ROOT, "dir".as_ref()).unwrap() else { unreachable!() };
    let set = |command, value: &[u8]| rig.fs.ioctl(entry.ino, command, value).map(drop);
    let flags = rig.fs.ioctl(entry.ino, FS_IOC_GETFLAGS, &[]).unwrap();
    let flags = u32::from_ne_bytes(*flags.first_chunk().unwrap());
    // A filesystem without such directories says EOPNOTSUPP, were it asked.
    assert_eq!(set(FS_IOC_SETFLAGS, &(flags | CASEFOLD).to_ne_bytes()), Err(Errno::PERM));
    assert_eq!(set(FS_IOC_SETFLAGS, &(flags | NODUMP).to_ne_bytes()), Ok(()));
    let mut extended = rig.fs.ioctl(entry.ino, FS_IOC_FSGETXATTR, &[]).unwrap();
    assert_eq!(set(FS_IOC_FSSETXATTR, &extended), Ok(()));
    // The first one that is not known yet.
    extended[2] |= 0x04;
    assert_eq!(set(FS_IOC_FSSETXATTR, &extended), Err(Errno::PERM));
    rig.fs.forget(entry.ino, 1);
}

#[test]
fn names_need_not_be_text() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    for name in [&b"\xff\xfe\x80"[..], b"new\nline", &[b'n'; 255], b" ", b"\\x", b"-"] {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::write(rig.target.join(name), b"x").unwrap();
        assert_eq!(fs::read(rig.source.join(name)).unwrap(), b"x");
        let listed: Vec<_> =
            fs::read_dir(&rig.target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(listed.iter().any(|found| found == name), "{name:?}");
        fs::remove_file(rig.target.join(name)).unwrap();
    }
    let long = std::ffi::OsString::from("n".repeat(256));
    let error = fs::write(rig.target.join(&long), b"x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
}

#[test]
fn the_time_of_birth_is_that_of_the_source_and_of_nothing_where_there_is_none() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::write(rig.at("file"), b"hello").unwrap();
        fs::create_dir(rig.at("directory")).unwrap();
        symlink("file", rig.at("link")).unwrap();
        for name in ["file", "directory", "link"] {
            let asked = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
            let born = |path: std::path::PathBuf| {
                let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, asked).unwrap();
                (found.stx_mask & StatxFlags::BTIME.bits(), found.stx_btime.tv_sec, found.stx_btime.tv_nsec)
            };
            let under = born(rig.under(name));
            assert_ne!(under.0, 0, "the disk's filesystem keeps times of birth");
            assert_eq!(born(rig.at(name)), under, "{name} {setting:?}");
        }
        // The usual attributes come the same way, and go on being right.
        fs::write(rig.at("file"), b"longer than before").unwrap();
        let found = statx(CWD, rig.at("file"), AtFlags::empty(), StatxFlags::ALL).unwrap();
        assert_eq!((found.stx_size, shown(&rig.at("file"))), (18, shown(&rig.under("file"))));
    }
    let rig = Rig::with_control(LENDING, std::sync::Arc::new(crate::control::Words::default()));
    let found = statx(CWD, rig.at(".imafs"), AtFlags::empty(), StatxFlags::ALL).unwrap();
    assert_eq!(found.stx_mask & StatxFlags::BTIME.bits(), 0);
}

/// The mode of a file with S_ISGID and another's group after its owner gave it an ACL with group exec.
fn set_by_acl(directory: &std::path::Path) -> u32 {
    let file = directory.join("file");
    let by_owner = file.clone();
    std::thread::spawn(move || {
        sys::credentials::set_fsgid(65_534).unwrap();
        sys::credentials::set_fsuid(65_534).unwrap();
        // What the mode 0755 says.
        let entries = [(1_u16, 7_u16), (4, 5), (32, 5)];
        let mut acl = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions) in entries {
            acl.extend(tag.to_le_bytes());
            acl.extend(permissions.to_le_bytes());
            acl.extend(u32::MAX.to_le_bytes());
        }
        setxattr(&by_owner, "system.posix_acl_access", &acl, XattrFlags::empty()).unwrap();
    })
    .join()
    .unwrap();
    fs::metadata(&file).unwrap().mode() & 0o7777
}

#[test]
fn an_acl_by_who_is_not_of_the_group_drops_its_bit() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        for (group, wanted) in [(1234, 0o755), (0, 0o755), (65_534, 0o2755)] {
            let mut modes = Vec::new();
            for (at, under) in [(rig.at("under"), true), (rig.at("mount"), false)] {
                let directory = at.with_file_name(format!("{}-{group}", at.file_name().unwrap().display()));
                fs::create_dir(&directory).unwrap();
                fs::write(directory.join("file"), "x").unwrap();
                chown(directory.join("file"), Some(65_534), Some(group)).unwrap();
                fs::set_permissions(directory.join("file"), fs::Permissions::from_mode(0o2644)).unwrap();
                let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
                modes.push(set_by_acl(&if under { rig.under(&name) } else { directory }));
            }
            assert_eq!(modes, [wanted, wanted], "{setting:?}, group {group}");
        }
    }
}
