//! What a hostile container tried, and what it gets.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use imafs::fs::{
    Backing, CacheMode, Caller, Errno, Filesystem, FsOptions, Ino, Kernel, Lent, Looked, OpenReply, Opened,
};
use monitor::Grant;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, mkdirat, openat, utimensat};

use crate::common::{ALL, LENDING, Rig, SERVING, SHARED, Setting, can_mount, monitor, shell};

const SERVING_MEASURED: Setting = Setting { policy: "measure func=FILE_CHECK\n", ..SERVING };

/// A mapping of a lent file outlives its open and writes without a change of any timestamp. Pages that were read
/// through the page cache meanwhile would be taken for the content that is checked later.
#[test]
fn pages_read_while_a_mapping_wrote_are_not_served_as_what_was_checked() {
    if !can_mount() {
        return;
    }
    for setting in [LENDING, SHARED] {
        assert!((0..20).any(|_| read_while_a_mapping_writes(setting)), "the page was written back each time");
    }
}

/// Whether the second write moved no time: it does when the page was written back in between, as any `sync(2)` on the
/// machine has it done, and nothing is shown then.
fn read_while_a_mapping_writes(setting: Setting) -> bool {
    let rig = Rig::new(setting);
    fs::write(rig.at("file"), b"good").unwrap();
    let writer = File::options().read(true).write(true).open(rig.at("file")).unwrap();
    let mut mapping = sys::mapping::Shared::map(writer.as_fd(), 4).unwrap();
    drop(writer);
    mapping.write(0, b"evil").unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while rig.fs.opened().0 == 0 && Instant::now() < deadline {
        // As long as the writer's RELEASE is on its way, reads are lent as well and leave no pages.
        assert_eq!(fs::read(rig.at("file")).unwrap(), b"evil");
    }
    let before = fs::metadata(rig.under("file")).unwrap();
    mapping.write(0, b"good").unwrap();
    drop(mapping);
    let after = fs::metadata(rig.under("file")).unwrap();
    for _ in 0..3 {
        assert_eq!(fs::read(rig.at("file")).unwrap(), b"good", "{setting:?}");
    }
    (before.ctime(), before.ctime_nsec()) == (after.ctime(), after.ctime_nsec())
}

/// Each of these files makes the checks wait for whoever may just be leaving it. With two threads that held up everybody
/// else, ten times as long as one of them.
#[test]
fn files_whose_mappings_outlive_their_opens_do_not_hold_up_the_checks_of_others() {
    const FILES: usize = 20;
    if !can_mount() {
        return;
    }
    let rig = Rig::new(Setting { policy: "appraise func=FILE_CHECK\n", ..LENDING });
    fs::write(rig.at("other"), b"of somebody else").unwrap();
    let mappings: Vec<_> = (0..FILES)
        .map(|number| {
            let path = rig.at(&format!("file{number}"));
            let mut file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
            file.write_all(b"content").unwrap();
            sys::mapping::Shared::map(file.as_fd(), 7).unwrap()
        })
        .collect();
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..FILES {
            let (path, answered) = (rig.at(&format!("file{number}")), &answered);
            scope.spawn(move || {
                assert_eq!(fs::read(path).unwrap(), b"content");
                answered.fetch_add(1, Ordering::SeqCst);
            });
        }
        assert_eq!(fs::read(rig.at("other")).unwrap(), b"of somebody else");
        let before = answered.load(Ordering::SeqCst);
        assert!(before < FILES - 2, "{before} of those that wait were answered first");
    });
    assert_eq!(answered.into_inner(), FILES);
    drop(mappings);
}

/// A file of this size costs its owner nothing, and takes hours to hash.
const HUGE: u64 = 8 << 40;

/// Opens as another user; the open ends when the child is killed.
fn open_as_other(rig: &Rig, name: &str) -> Child {
    let ids = ["--reuid=1234", "--regid=1234", "--clear-groups", "head", "-c1"];
    Command::new("setpriv").args(ids).arg(rig.at(name)).stdout(Stdio::null()).spawn().unwrap()
}

/// Whether the child stays in `openat(2)`.
fn is_held(child: &Child) -> bool {
    let opening = format!("{} ", libc::SYS_openat);
    (0..10).all(|_| {
        std::thread::sleep(Duration::from_millis(2));
        fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap().starts_with(&opening)
    })
}

fn wait_until(what: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < deadline, "it takes for ever");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One user's huge files must not keep others' from being checked, and whoever is killed while one is hashed must go.
#[test]
fn huge_files_of_one_user_hold_up_neither_the_files_of_others_nor_the_end_of_who_opened_them() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(SERVING_MEASURED);
    for name in ["huge0", "huge1", "huge2", "huge3"] {
        File::create(rig.under(name)).unwrap().set_len(HUGE).unwrap();
    }
    fs::write(rig.under("small"), b"of somebody else").unwrap();
    fs::write(rig.under("large"), vec![7; 20 << 20]).unwrap();
    let names = ["huge0", "huge1", "huge2", "huge3"];
    let mut children: Vec<_> = names.iter().map(|name| open_as_other(&rig, name)).collect();
    wait_until(|| children.iter().all(is_held));
    let (told, served) = mpsc::channel();
    let (small, large) = (rig.at("small"), rig.at("large"));
    let reader = std::thread::spawn(move || {
        told.send(fs::read(small).unwrap().len()).unwrap();
        told.send(fs::read(large).unwrap().len()).unwrap();
    });
    let lengths = [16, 20 << 20].map(|expected| (served.recv_timeout(Duration::from_secs(60)), expected));
    if lengths.iter().any(|(got, expected)| *got != Ok(*expected)) {
        // Nothing else would let the children end.
        rustix::mount::unmount(&rig.target, rustix::mount::UnmountFlags::FORCE).ok();
        panic!("{lengths:?}");
    }
    reader.join().unwrap();
    for child in &mut children {
        child.kill().unwrap();
    }
    for child in &mut children {
        wait_until_gone(child);
    }
    let before = rig.list.count();
    assert_eq!(before, 3, "boot_aggregate and what was read to its end");
    assert_eq!(rig.fs.monitor().denials(), 0);
    rig.unmount().unwrap();
}

fn wait_until_gone(child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "whoever was killed still waits");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What is being hashed when the mount goes is wanted by nobody.
#[test]
fn a_mount_that_is_taken_away_does_not_go_on_hashing() {
    if !can_mount() {
        return;
    }
    let mut rig = Rig::new(SERVING_MEASURED);
    File::create(rig.under("huge")).unwrap().set_len(HUGE).unwrap();
    let mut child = open_as_other(&rig, "huge");
    wait_until(|| is_held(&child));
    rustix::mount::unmount(
        &rig.target,
        rustix::mount::UnmountFlags::FORCE | rustix::mount::UnmountFlags::DETACH,
    )
    .unwrap();
    let server = rig.take_server();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !server.is_finished() {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    server.join().unwrap().ok();
    assert!(!child.wait().unwrap().success());
}

/// The kernel holds a directory's lock while it waits for the answer to `fsync`, and takes it to have a name
/// looked up again after `link`.
#[test]
fn links_and_syncs_of_one_directory_do_not_wait_for_each_other() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    fs::create_dir(rig.at("dir")).unwrap();
    let (stop, (told, ended)) = (AtomicBool::new(false), mpsc::channel());
    std::thread::scope(|scope| {
        for client in 0..12 {
            let (stop, told, rig) = (&stop, told.clone(), &rig);
            scope.spawn(move || {
                let (first, second) = (rig.at(&format!("dir/{client}")), rig.at(&format!("other{client}")));
                fs::write(&first, b"x").unwrap();
                fs::create_dir(&second).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    fs::hard_link(&first, second.join("link")).unwrap();
                    fs::remove_file(second.join("link")).unwrap();
                }
                told.send(()).unwrap();
            });
        }
        for _ in 0..6 {
            let (stop, told, rig) = (&stop, told.clone(), &rig);
            scope.spawn(move || {
                let directory = File::open(rig.at("dir")).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    directory.sync_all().unwrap();
                }
                told.send(()).unwrap();
            });
        }
        std::thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        let hung = (0..18).find(|_| ended.recv_timeout(Duration::from_secs(20)).is_err());
        if hung.is_some() {
            // Nothing else would let the threads end.
            rustix::mount::unmount(&rig.target, rustix::mount::UnmountFlags::FORCE).ok();
        }
        assert_eq!(hung, None, "clients wait for each other");
    });
}

#[test]
fn the_earliest_time_there_is_can_be_set() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::new(setting);
        fs::write(rig.at("file"), b"x").unwrap();
        for seconds in [i64::MIN, i64::MIN + 1, -1, i64::MAX] {
            let time = Timespec { tv_sec: seconds, tv_nsec: 999_999_999 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, rig.at("file"), &times, AtFlags::empty()).unwrap();
            let (seen, stored) =
                (fs::metadata(rig.at("file")).unwrap(), fs::metadata(rig.under("file")).unwrap());
            assert_eq!(seen.mtime(), stored.mtime(), "{seconds} {setting:?}");
        }
    }
}

/// A directory so deep that its path is not known is no way around rules about paths.
#[test]
fn what_lies_too_deep_to_have_a_path_is_refused_where_rules_ask_for_paths() {
    if !can_mount() {
        return;
    }
    let by_path = Setting { policy: "measure func=FILE_CHECK path=/deep/**\n", ..LENDING };
    for (setting, served) in [(by_path, false), (LENDING, true)] {
        let rig = Rig::new(setting);
        let (here, mode) = (OFlags::PATH | OFlags::DIRECTORY, Mode::from_raw_mode(0o755));
        let mut directory = openat(CWD, rig.at("."), here, Mode::empty()).unwrap();
        for depth in 0..4200 {
            let name = if depth == 0 { "deep" } else { "d" };
            mkdirat(&directory, name, mode).unwrap();
            directory = openat(&directory, name, here, Mode::empty()).unwrap();
        }
        let made = openat(&directory, "file", OFlags::CREATE | OFlags::RDWR, mode);
        let made = made.map(drop);
        // The file is there nevertheless; that it is becomes known a moment later.
        let deadline = Instant::now() + Duration::from_secs(10);
        let opened = loop {
            let opened = openat(&directory, "file", OFlags::RDONLY, Mode::empty()).map(drop);
            if opened != Err(rustix::io::Errno::NOENT) || Instant::now() >= deadline {
                break opened;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let expected = if served { Ok(()) } else { Err(rustix::io::Errno::ACCESS) };
        assert_eq!((made, opened), (expected, expected));
    }
}

/// Tells whether the kernel may keep its pages, or else the number of the open.
struct Told(mpsc::Sender<Result<Option<u64>, Errno>>);

impl OpenReply for Told {
    fn opened(self: Box<Self>, _grant: Grant, how: Opened) {
        let told = match how {
            Opened::Cached { renew, .. } => Ok(renew),
            Opened::Lent { .. } => Err(Errno::NOTSUP),
        };
        self.0.send(told).unwrap();
    }

    fn error(self: Box<Self>, errno: Errno) {
        self.0.send(Err(errno)).unwrap();
    }
}

/// An opener who is kept from running, by a busy processor, has not yet dropped the pages of other content that it was
/// told to drop. Whoever opens next must drop them too.
#[test]
fn pages_are_believed_only_when_whoever_was_to_drop_the_old_ones_has_gone_on() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    fs::write(rig.under("file"), b"content").unwrap();
    let Looked::Found(entry) = rig.fs.lookup(Ino::ROOT, "file".as_ref()).unwrap() else { unreachable!() };
    let caller = Caller { tid: 0, uid: 0, gid: 0 };
    let (sender, told) = mpsc::channel();
    let open = || {
        rig.fs.open(&caller, entry.ino, libc::O_RDONLY, Box::new(Told(sender.clone())));
        told.recv_timeout(Duration::from_secs(10)).unwrap().unwrap()
    };
    let first = open().unwrap();
    let second = open().unwrap();
    assert_ne!(first, second);
    let read = |number| {
        let (sender, answer) = mpsc::channel();
        rig.fs.read(entry.ino, number, 0, 100, Box::new(move |data| sender.send(data).unwrap()));
        assert_eq!(answer.recv_timeout(Duration::from_secs(10)).unwrap().unwrap(), b"content");
    };
    // A read of an open that dropped nothing proves nothing.
    read(0);
    let third = open();
    assert!(third.is_some());
    read(first);
    assert_eq!(open(), None);
    for _ in 0..4 {
        rig.fs.release(entry.ino, 0, libc::O_RDONLY);
    }
    rig.fs.forget(entry.ino, 1);
}

/// An open that meets a writer waits, and is decided later than it came. What the file is called by then is not what it
/// was opened by.
#[test]
fn an_open_that_waits_is_decided_by_the_name_it_was_made_by() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(Setting { policy: "appraise func=FILE_CHECK path=/guarded/**\n", ..SERVING });
    shell(&rig.source, "mkdir guarded free; echo x > free/first; echo y > free/second");
    let look = |directory, name: &str| match rig.fs.lookup(directory, name.as_ref()).unwrap() {
        Looked::Found(entry) => entry.ino,
        Looked::Absent(_) => unreachable!(),
    };
    let (free, guarded) = (look(Ino::ROOT, "free"), look(Ino::ROOT, "guarded"));
    let caller = Caller { tid: 0, uid: 0, gid: 0 };
    let (sender, told) = mpsc::channel();
    let open = |ino, flags| rig.fs.open(&caller, ino, flags, Box::new(Told(sender.clone())));
    let answer = || told.recv_timeout(Duration::from_secs(20)).unwrap();
    for (name, moved_before, expected) in [("first", false, Ok(())), ("second", true, Err(Errno::ACCESS))] {
        let ino = look(free, name);
        open(ino, libc::O_WRONLY);
        answer().unwrap();
        let away = || rig.fs.rename(free, name.as_ref(), guarded, name.as_ref(), 0).unwrap();
        let back = || rig.fs.rename(guarded, name.as_ref(), free, name.as_ref(), 0).unwrap();
        if moved_before {
            away();
        }
        open(ino, libc::O_RDONLY);
        assert!(told.try_recv().is_err(), "it waits for what is at the device");
        if moved_before {
            back()
        } else {
            away()
        }
        rig.fs.request_handled();
        let answered = answer().map(drop);
        assert_eq!(answered, expected, "{name}");
        if answered.is_ok() {
            rig.fs.release(ino, 0, libc::O_RDONLY);
        }
        rig.fs.release(ino, 0, libc::O_WRONLY);
        rig.fs.forget(ino, 1);
    }
    rig.fs.forget(free, 1);
    rig.fs.forget(guarded, 1);
}

/// An exec fails after its program was opened: too long an argument. The same thread then starts the interpreter, which
/// the kernel would have opened next.
#[test]
fn an_exec_that_failed_does_not_make_the_next_program_an_interpreter() {
    if !can_mount() {
        return;
    }
    for setting in [LENDING, SERVING] {
        let rig = Rig::new(Setting { policy: "measure func=BPRM_CHECK\n", ..setting });
        let readelf = shell(&rig.source, "readelf -lW /bin/true");
        let loader = readelf.split("interpreter: ").nth(1).unwrap().split(']').next().unwrap();
        let parent = std::path::Path::new(loader).parent().unwrap().to_str().unwrap();
        shell(&rig.source, &format!("cp /bin/true true; mkdir -p .{parent}; cp -L {loader} .{loader}"));
        let script = format!(
            "import os\ntry: os.execv('./true', ['true', 'x' * 200000])\nexcept OSError as e: print(e.errno, flush=True)\n\
             os.execv('.{loader}', ['ld.so', '--help'])"
        );
        let said = shell(&rig.target, &format!("python3 -c \"{script}\""));
        assert!(said.starts_with("7\n"), "E2BIG, then the help: {said}");
        assert_eq!(
            rig.list.count(),
            3,
            "boot_aggregate, the program, and the interpreter as one: {setting:?}"
        );
        let run = std::process::Command::new("chroot").arg(&rig.target).arg("/true").status();
        assert!(!run.unwrap().success(), "there is no libc in there");
        assert_eq!(rig.list.count(), 3);
    }
}

/// A kernel that takes its time to look a name up again, as it does while somebody holds the directory's lock.
struct Busy {
    free: Mutex<mpsc::Receiver<()>>,
    asked: Mutex<Vec<OsString>>,
}

impl Busy {
    /// A filesystem with one file, whose kernel is busy until the sender is dropped.
    fn mount(source: &Path) -> (Arc<Filesystem>, Arc<Self>, mpsc::Sender<()>) {
        fs::write(source.join("file"), b"x").unwrap();
        let options = FsOptions {
            cache: CacheMode::Exclusive,
            passthrough: false,
            page_cache_limit: 0,
            hash_threads: 1,
            read_only: false,
        };
        let backing = Backing::directory(source, false).unwrap();
        let filesystem = Filesystem::new(backing, monitor("").0, None, options).unwrap();
        let (free, wait) = mpsc::channel();
        let busy = Arc::new(Self { free: Mutex::new(wait), asked: Mutex::default() });
        filesystem.attach(Arc::clone(&busy) as Arc<dyn Kernel>);
        (filesystem, busy, free)
    }
}

impl Kernel for Busy {
    fn lend(&self, _file: BorrowedFd<'_>) -> Result<Arc<dyn Lent>, Errno> {
        Err(Errno::LOOP)
    }

    fn has_requests(&self) -> bool {
        false
    }

    fn expire_name(&self, _parent: Ino, name: &OsStr) {
        self.asked.lock().unwrap().push(name.to_owned());
        // The end of the test frees it as well.
        self.free.lock().unwrap().recv().ok();
    }

    fn attributes_changed(&self, _ino: Ino) {}
}

#[test]
fn names_to_be_looked_up_again_do_not_pile_up_while_the_kernel_is_busy() {
    if !can_mount() {
        return;
    }
    let source = tempfile::tempdir_in("/var/tmp").unwrap();
    let (filesystem, busy, free) = Busy::mount(source.path());
    let Looked::Found(entry) = filesystem.lookup(Ino::ROOT, "file".as_ref()).unwrap() else { unreachable!() };
    for number in 0..500 {
        filesystem.link(entry.ino, Ino::ROOT, format!("link{number}").as_ref()).unwrap();
    }
    drop(free);
    filesystem.shut_down();
    let asked = busy.asked.lock().unwrap().len();
    // 17 names of a record are kept, and one of them may be asked for twice.
    assert!((1..=2 * 18).contains(&asked), "one request under way and one to come, not {asked} names");
}

#[test]
fn a_name_that_was_to_be_looked_up_again_is_so_after_it_was_renamed() {
    if !can_mount() {
        return;
    }
    let source = tempfile::tempdir_in("/var/tmp").unwrap();
    let (filesystem, busy, free) = Busy::mount(source.path());
    let Looked::Found(entry) = filesystem.lookup(Ino::ROOT, "file".as_ref()).unwrap() else { unreachable!() };
    filesystem.link(entry.ino, Ino::ROOT, "second".as_ref()).unwrap();
    filesystem.rename(Ino::ROOT, "file".as_ref(), Ino::ROOT, "third".as_ref(), 0).unwrap();
    filesystem.unlink(Ino::ROOT, "second".as_ref()).unwrap();
    drop(free);
    filesystem.shut_down();
    let asked = busy.asked.lock().unwrap();
    assert!(asked.iter().any(|name| name == "third"), "the kernel still believes the new name: {asked:?}");
}
