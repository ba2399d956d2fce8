//! Where the control directory appears, and that the container cannot touch it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ima::HashAlgo;
use imafs::fs::{
    Attr, Caller, ControlIno, ControlTree, Deferred, Errno, Ino, Looked, OpenReply, Opened, Written,
};
use monitor::Grant;
use rustix::fs::FileType;

use crate::common::{ALL, LENDING, Rig, SERVING, Setting, can_mount, shell};

/// A tree of one file, `word`, and one link to it; what is written is taken over at the last close.
#[derive(Default)]
pub struct Words {
    committed: Mutex<Vec<u8>>,
    staged: Mutex<Vec<u8>>,
    /// What opens and reads of `word` wait for, as they would for a TPM.
    held: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Words {
    /// A tree whose word is shown only when the sender is gone.
    fn held() -> (Arc<Self>, mpsc::Sender<()>) {
        let (release, wait) = mpsc::channel();
        (Arc::new(Self { held: Mutex::new(Some(wait)), ..Self::default() }), release)
    }

    fn wait(&self) {
        if let Some(wait) = self.held.lock().unwrap().as_ref() {
            assert!(wait.recv().is_err(), "nothing is ever sent");
        }
    }
}

const WORD: ControlIno = ControlIno(1);
const LINK: ControlIno = ControlIno(2);

impl ControlTree for Words {
    fn lookup(&self, parent: ControlIno, name: &[u8]) -> Option<ControlIno> {
        match (parent, name) {
            (ControlIno::ROOT, b"word") => Some(WORD),
            (ControlIno::ROOT, b"link") => Some(LINK),
            _ => None,
        }
    }

    fn attr(&self, ino: ControlIno) -> Result<Attr, Errno> {
        let mode = match ino {
            ControlIno::ROOT => 0o040_555,
            WORD => 0o100_600,
            LINK => 0o120_777,
            _ => return Err(Errno::NOENT),
        };
        let zero = (0, 0);
        Ok(Attr {
            ino: 1000 + ino.0,
            size: 0,
            blocks: 0,
            atime: zero,
            mtime: zero,
            ctime: zero,
            mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
        })
    }

    fn readdir(&self, _ino: ControlIno) -> Vec<(ControlIno, FileType, Vec<u8>)> {
        vec![(WORD, FileType::RegularFile, b"word".to_vec()), (LINK, FileType::Symlink, b"link".to_vec())]
    }

    fn readlink(&self, _ino: ControlIno) -> Result<Vec<u8>, Errno> {
        Ok(b"word".to_vec())
    }

    fn open(&self, _ino: ControlIno, _flags: i32, caller: &Caller) -> Result<u64, Errno> {
        assert_eq!(caller.uid, 0);
        self.wait();
        self.staged.lock().unwrap().clear();
        Ok(7)
    }

    fn read(&self, fh: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        assert_eq!(fh, 7);
        let word = self.committed.lock().unwrap();
        Ok(word.iter().copied().skip(offset as usize).take(size as usize).collect())
    }

    fn write(&self, _fh: u64, _offset: u64, data: &[u8], _caller: &Caller) -> Written {
        if data.starts_with(b"bad") {
            return Written::Done(Err(Errno::INVAL));
        }
        if data.starts_with(b"/") {
            let then = Box::new(|content: Result<Vec<u8>, Errno>| Ok(content?.len() as u32));
            return Written::Reads { path: data.to_vec(), then };
        }
        self.staged.lock().unwrap().extend_from_slice(data);
        Written::Done(Ok(data.len() as u32))
    }

    fn flush(&self, _fh: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn release(&self, _fh: u64) -> Option<Deferred> {
        let staged = std::mem::take(&mut *self.staged.lock().unwrap());
        if !staged.is_empty() {
            *self.committed.lock().unwrap() = staged;
        }
        None
    }
}

#[test]
fn the_control_directory_is_found_by_name_but_not_listed() {
    if !can_mount() {
        return;
    }
    for setting in ALL {
        let rig = Rig::with_control(setting, Arc::new(Words::default()));
        fs::write(rig.under(".imafs"), b"a file of that name beneath").unwrap();
        assert_eq!(fs::read_dir(&rig.target).unwrap().count(), 0, "{setting:?}");
        assert_eq!(shell(&rig.at(".imafs"), "ls -A"), "link\nword\n");
        assert_eq!(shell(&rig.at(".imafs"), "ls -A; ls -i word").lines().last().unwrap(), "1001 word");
        shell(&rig.target, "echo hello > .imafs/word; test \"$(cat .imafs/link)\" = hello");
        shell(&rig.target, "echo changed > .imafs/word; test \"$(cat .imafs/word)\" = changed");
        let mut file = File::options().write(true).open(rig.at(".imafs/word")).unwrap();
        assert_eq!(file.write_all(b"bad").unwrap_err().raw_os_error(), Some(libc::EINVAL));
        drop(file);
        assert_eq!(fs::read_to_string(rig.at(".imafs/word")).unwrap(), "changed\n");
        assert_eq!(fs::read(rig.at(".imafs/none")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(fs::metadata(rig.at(".imafs/word")).unwrap().ino(), 1001);
        fs::copy(rig.at(".imafs/word"), rig.at("copy")).unwrap();
        shell(&rig.target, "cp .imafs/word another; rm copy another");
    }
}

#[test]
fn nothing_in_the_container_removes_renames_or_replaces_it() {
    if !can_mount() {
        return;
    }
    let rig = Rig::with_control(LENDING, Arc::new(Words::default()));
    fs::write(rig.at("file"), b"x").unwrap();
    let denied = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
    };
    denied(fs::remove_dir(rig.at(".imafs")));
    denied(fs::remove_file(rig.at(".imafs/word")));
    denied(fs::rename(rig.at(".imafs"), rig.at("elsewhere")));
    denied(fs::rename(rig.at(".imafs/word"), rig.at(".imafs/other")));
    denied(fs::create_dir(rig.at(".imafs/new")));
    denied(fs::hard_link(rig.at(".imafs/word"), rig.at("linked")));
    denied(fs::hard_link(rig.at("file"), rig.at(".imafs/linked")));
    denied(fs::rename(rig.at("file"), rig.at(".imafs/file")));
    denied(fs::set_permissions(rig.at(".imafs/word"), fs::Permissions::from_mode(0o666)));
    denied(File::create(rig.at(".imafs/new")).map(drop));
    // In a directory other than the root the name means nothing.
    fs::create_dir(rig.at("dir")).unwrap();
    fs::write(rig.at("dir/.imafs"), b"plain").unwrap();
    fs::remove_file(rig.at("dir/.imafs")).unwrap();
}

#[test]
fn without_a_control_directory_the_name_is_like_any_other() {
    if !can_mount() {
        return;
    }
    let rig = Rig::new(LENDING);
    fs::write(rig.at(".imafs"), b"mine").unwrap();
    assert_eq!(fs::read(rig.under(".imafs")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(&rig.target).unwrap().count(), 1);
    fs::remove_file(rig.at(".imafs")).unwrap();
}

const ROOT: Caller = Caller { tid: 0, uid: 0, gid: 0 };

/// What reading this file of the mount as a policy comes to: its length.
fn read_policy(rig: &Rig, path: &str) -> Result<u32, Errno> {
    let (sender, answer) = mpsc::channel();
    let reply = Box::new(move |result| sender.send(result).unwrap());
    rig.fs.write_control(&ROOT, WORD.into(), 7, 0, path.as_bytes(), reply);
    answer.recv_timeout(Duration::from_secs(20)).unwrap()
}

fn measured(rig: &Rig) -> Vec<String> {
    let list = rig.list.snapshot().read_at(measure::Form::Ascii, HashAlgo::Sha1, 0, 1 << 20).unwrap();
    let name = |line: &str| line.split(' ').nth(4).unwrap().to_owned();
    String::from_utf8(list).unwrap().lines().skip(1).map(name).collect()
}

struct Told(mpsc::Sender<Option<Errno>>);

impl OpenReply for Told {
    fn opened(self: Box<Self>, _grant: Grant, _how: Opened) {
        self.0.send(None).unwrap();
    }

    fn error(self: Box<Self>, errno: Errno) {
        self.0.send(Some(errno)).unwrap();
    }
}

/// A policy is read beside the reader thread, which alone knows what a file is called now.
#[test]
fn reading_a_policy_does_not_change_what_the_file_is_called() {
    if !can_mount() {
        return;
    }
    let policy = "measure func=FILE_CHECK mask=MAY_WRITE\nmeasure func=POLICY_CHECK\n";
    let rig = Rig::with_control(Setting { policy, ..SERVING }, Arc::new(Words::default()));
    shell(&rig.source, "mkdir dir; printf 1234 > a; ln a dir/b; ln -s dir/sub/../b link; mkdir dir/sub");
    let Looked::Found(entry) = rig.fs.lookup(Ino::ROOT, "a".as_ref()).unwrap() else { unreachable!() };
    let records = rig.fs.records();
    assert_eq!(read_policy(&rig, "/./link"), Ok(4));
    assert_eq!(measured(&rig), ["/dir/b"], "the name it was read by");
    assert_eq!(rig.fs.records(), records);
    let other = rig.under("a");
    fs::write(other, b"56789").unwrap();
    let (sender, told) = mpsc::channel();
    rig.fs.open(&ROOT, entry.ino, libc::O_WRONLY, Box::new(Told(sender)));
    assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(None));
    rig.fs.release(entry.ino, 0, libc::O_WRONLY);
    assert_eq!(measured(&rig), ["/dir/b", "/a"]);
    assert_eq!(read_policy(&rig, "/dir"), Err(Errno::INVAL));
    assert_eq!(read_policy(&rig, "/a/b"), Err(Errno::NOTDIR));
    assert_eq!(read_policy(&rig, "/.imafs/word"), Err(Errno::INVAL));
    rig.fs.forget(entry.ino, 1);
}

#[test]
fn a_policy_is_read_by_the_rules_about_each_of_its_names() {
    if !can_mount() {
        return;
    }
    let policy = "appraise func=POLICY_CHECK path=/guarded/**\n";
    let rig = Rig::with_control(Setting { policy, ..SERVING }, Arc::new(Words::default()));
    shell(&rig.source, "mkdir guarded free; echo x > guarded/a; echo x > free/a; echo x > free/b");
    shell(&rig.source, "ln guarded/a free/c; ln free/b free/d");
    assert_eq!(read_policy(&rig, "/guarded/a"), Err(Errno::ACCESS));
    assert_eq!(read_policy(&rig, "/free/a"), Ok(2));
    assert_eq!(read_policy(&rig, "/free/c"), Err(Errno::ACCESS));
    assert_eq!(read_policy(&rig, "/free/b"), Err(Errno::ACCESS), "its second name may be anywhere");
    fs::metadata(rig.at("free/d")).unwrap();
    assert_eq!(read_policy(&rig, "/free/b"), Ok(2));
    assert_eq!(read_policy(&rig, "/free/d"), Err(Errno::ACCESS), "the one it was read by is one of the two");
}

/// What a control file says may have to be asked of a device that does not answer.
#[test]
fn a_control_file_that_takes_its_time_holds_up_no_other_file() {
    if !can_mount() {
        return;
    }
    let (words, release) = Words::held();
    let rig = Rig::with_control(LENDING, words);
    fs::write(rig.under("file"), b"content").unwrap();
    let word = rig.at(".imafs/word");
    let reader = std::thread::spawn(move || fs::read(word).unwrap());
    let (told, served) = mpsc::channel();
    let file = rig.at("file");
    std::thread::spawn(move || {
        // By then the other open has most likely come.
        std::thread::sleep(Duration::from_millis(300));
        told.send(fs::read(file).unwrap()).unwrap();
    });
    assert_eq!(served.recv_timeout(Duration::from_secs(60)).as_deref(), Ok(&b"content"[..]));
    assert!(!reader.is_finished());
    drop(release);
    assert_eq!(reader.join().unwrap(), b"");
}
