//! Makes `fuzz/corpus/request` anew: what a kernel sends for system calls of known arguments.
//!
//! Between the device and the server stand two threads that keep a copy of each request. They take part in three places:
//! locks are agreed to and granted, so that they are asked for; the longer answer to a copy is declined, so that the older
//! request follows; and one attribute is never answered until its reader has been interrupted.
//!
//! Run it as root: `cargo run -p imafs --example record-requests`. It needs /dev/fuse and getfattr.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a recording that fails fails loudly")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/requests/known.rs"]
#[expect(dead_code, reason = "what a request says is for the tests")]
mod known;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use imafs::fs::{Backing, CacheMode, Filesystem, FsOptions};
use imafs::fuse;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, StatxFlags,
};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Flock, FlockType, Pid, Signal};

use known::{GID, UID};

type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

/// The next word of a message.
fn word(message: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(message[at..at + 4].try_into().unwrap())
}

/// Answers `request` itself, without the server.
fn answer(device: &OwnedFd, request: &[u8], code: i32, body: &[u8]) {
    let length = u32::try_from(16 + body.len()).unwrap();
    let message = [&length.to_ne_bytes()[..], &code.to_ne_bytes(), &request[8..16], body].concat();
    rustix::io::write(device, &message).unwrap();
}

/// From the kernel to the server.
fn relay_requests(device: &OwnedFd, server: &OwnedFd, kept: &Kept) {
    let mut buffer = vec![0; 2 << 20];
    let mut held: Option<Vec<u8>> = None;
    while let Ok(length) = rustix::io::read(device, &mut buffer) {
        let request = &buffer[..length];
        kept.lock().unwrap().push(request.to_vec());
        match word(request, 4) {
            // GETLK: nobody else has it.
            31 => answer(device, request, 0, &[&[0; 16][..], &2_u32.to_ne_bytes(), &[0; 4]].concat()),
            // SETLK and SETLKW.
            32 | 33 => answer(device, request, 0, &[]),
            // COPY_FILE_RANGE_64.
            53 => answer(device, request, -libc::ENOSYS, &[]),
            // GETXATTR.
            22 if request.ends_with(b"user.held\0") => {
                let reader = Pid::from_raw(word(request, 32).cast_signed()).unwrap();
                held = Some(request.to_vec());
                rustix::process::kill_process(reader, Signal::TERM).unwrap();
            }
            // INTERRUPT.
            36 => answer(device, &held.take().unwrap(), -libc::EINTR, &[]),
            _ => drop(rustix::io::write(server, request).unwrap()),
        }
    }
}

/// From the server to the kernel; INIT is the first.
fn relay_answers(device: &OwnedFd, server: &OwnedFd) {
    let mut buffer = vec![0; 2 << 20];
    let mut first = true;
    while let Ok(length @ 1..) = rustix::io::read(server, &mut buffer) {
        if std::mem::take(&mut first) {
            // In the flags of struct fuse_init_out: POSIX_LOCKS, and no POSIX_ACL, which would make the kernel check
            // permissions by itself.
            buffer[16 + 12] |= 1 << 1;
            buffer[16 + 14] &= !(1 << 4);
        }
        if buffer[8..16] == [0; 8] {
            // A notification may have to wait for the caller, who waits for what would be behind it here.
            continue;
        }
        // A request that was taken back has no use for an answer.
        let _written = rustix::io::write(device, &buffer[..length]);
    }
}

fn mount(target: &Path) -> OwnedFd {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    // Without default_permissions, so that ACCESS is asked.
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let data = std::ffi::CString::new(data).unwrap();
    rustix::mount::mount("recorded", target, "fuse.imafs", MountFlags::empty(), data.as_c_str()).unwrap();
    device
}

/// The system calls, some of them at ends of their ranges. `at` is a directory of the mount.
fn call(at: &Path) {
    let path = |name: &str| at.join(name);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o604).open(path("file")).unwrap();
    file.write_all_at(b"recorded", 12_345).unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 65_536, 8192).unwrap();
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(100)).unwrap();
    rustix::fs::ioctl_getflags(&file).unwrap();
    let mut ready = [rustix::event::PollFd::new(&file, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut ready, None).unwrap();
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    rustix::fs::fcntl_lock(&file, FlockOperation::LockShared).unwrap();
    let asked = Flock { typ: FlockType::WriteLock, start: 5, length: 7, ..Flock::from(FlockType::WriteLock) };
    rustix::process::fcntl_getlk(&file, &asked).unwrap();
    let copy = File::create(path("copy")).unwrap();
    let (mut from, mut to) = (12_345, 77);
    rustix::fs::copy_file_range(&file, Some(&mut from), &copy, Some(&mut to), 3).unwrap();
    drop((file, copy));
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path("file")).unwrap();
    let mut block = vec![0; 8192];
    let aligned = block.as_ptr().align_offset(4096);
    direct.read_at(&mut block[aligned..aligned + 512], 4096).unwrap();
    drop(direct);

    let change = |name: &str| rustix::fs::open(path(name), OFlags::PATH, Mode::empty()).unwrap();
    fs::set_permissions(path("file"), PermissionsExt::from_mode(0o640)).unwrap();
    sys::truncate::truncate(&std::ffi::CString::new(path("file").to_str().unwrap()).unwrap(), 5).unwrap();
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        last_modification: rustix::fs::Timespec { tv_sec: -2, tv_nsec: 800_000_000 },
    };
    rustix::fs::utimensat(change("file"), "", &times, AtFlags::EMPTY_PATH).unwrap();
    for mask in [StatxFlags::BASIC_STATS, StatxFlags::BASIC_STATS | StatxFlags::BTIME] {
        let flags = AtFlags::from_bits_retain(0x2000); // AT_STATX_FORCE_SYNC
        rustix::fs::statx(CWD, path("file"), flags, mask).unwrap();
    }

    let flags = rustix::fs::XattrFlags::CREATE;
    rustix::fs::setxattr(path("file"), "user.name", b"value", flags).unwrap();
    rustix::fs::getxattr(path("file"), "user.name", &mut [0_u8; 99]).unwrap();
    rustix::fs::listxattr(path("file"), &mut [0_u8; 98]).unwrap();
    rustix::fs::removexattr(path("file"), "user.name").unwrap();

    rustix::fs::mkdirat(CWD, path("directory"), Mode::from_raw_mode(0o751)).unwrap();
    rustix::fs::mknodat(CWD, path("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    rustix::fs::symlinkat("target/of/the link", CWD, path("link")).unwrap();
    fs::read_link(path("link")).unwrap();
    rustix::fs::accessat(
        CWD,
        path("file"),
        rustix::fs::Access::READ_OK | rustix::fs::Access::EXEC_OK,
        AtFlags::empty(),
    )
    .ok();
    rustix::fs::renameat(CWD, path("fifo"), CWD, path("directory/pipe")).unwrap();
    rustix::fs::renameat_with(CWD, path("copy"), CWD, path("moved"), RenameFlags::NOREPLACE).unwrap();
    fs::hard_link(path("moved"), path("directory/second")).unwrap();
    for name in ["directory/second", "directory/pipe", "moved"] {
        fs::remove_file(path(name)).unwrap();
    }
    rustix::fs::statfs(path("directory")).unwrap();
    let directory = File::open(path("directory")).unwrap();
    directory.sync_all().unwrap();
    drop(directory);
    fs::remove_dir(path("directory")).unwrap();
    drop(rustix::fs::open(at, OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o600)));
    // The rest of a long listing is asked for without attributes.
    assert!(fs::read_dir(at.join("../many")).unwrap().count() > 1000);
    fs::metadata(path("näme")).unwrap_err();
}

fn main() {
    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
    fs::create_dir_all(source.join("here")).unwrap();
    fs::create_dir_all(source.join("many")).unwrap();
    fs::create_dir(&target).unwrap();
    for number in 0..2000 {
        File::create(source.join("many").join(format!("file number {number}"))).unwrap();
    }
    std::os::unix::fs::chown(source.join("here"), Some(UID), Some(GID)).unwrap();
    let options = FsOptions {
        cache: CacheMode::Shared,
        passthrough: false,
        page_cache_limit: 0,
        hash_threads: 1,
        read_only: false,
    };
    let (monitor, _) = common::monitor("");
    let backing = Backing::directory(&source, false).unwrap();
    let filesystem = Filesystem::new(backing, monitor, None, options).unwrap();
    let device = Arc::new(mount(&target));
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let (ours, kept) = (Arc::new(ours), Kept::default());
    std::thread::spawn(move || fuse::serve(theirs, &filesystem, |_| ()));
    let (to, from, copies) = (Arc::clone(&device), Arc::clone(&ours), Arc::clone(&kept));
    std::thread::spawn(move || relay_answers(&to, &from));
    let relay = std::thread::spawn(move || relay_requests(&device, &ours, &copies));

    let at = target.join("here");
    fs::metadata(&at).unwrap();
    let caller = at.clone();
    std::thread::spawn(move || {
        rustix::process::umask(Mode::from_raw_mode(0o027));
        sys::credentials::set_fsgid(GID).unwrap();
        sys::credentials::set_fsuid(UID).unwrap();
        call(&caller);
    })
    .join()
    .unwrap();
    std::os::unix::fs::chown(at.join("file"), Some(1000), Some(1001)).unwrap();
    Command::new("getfattr").args(["-n", "user.held"]).arg(at.join("file")).output().unwrap();
    // All names that nobody uses are forgotten at once.
    let nothing = c"";
    rustix::mount::mount_remount(&target, MountFlags::empty(), nothing).unwrap();
    rustix::mount::unmount(&target, UnmountFlags::empty()).unwrap();
    relay.join().unwrap();
    write(&kept.lock().unwrap());
}

/// One or two of each kind, by the names of `known.rs`.
fn write(kept: &[Vec<u8>]) {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/request");
    fs::create_dir_all(&corpus).unwrap();
    let mut found: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for request in kept {
        if let Some(known) = known::ALL.iter().find(|known| known.is(request)) {
            found.entry(known.name).or_insert(request);
        }
    }
    let missing: Vec<_> =
        known::ALL.iter().map(|known| known.name).filter(|name| !found.contains_key(name)).collect();
    assert!(missing.is_empty(), "the kernel sent none of {missing:?}");
    for (name, request) in found {
        fs::write(corpus.join(name), request).unwrap();
    }
}
