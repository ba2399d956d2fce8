//! The ways a process can get at a file's content. Each has to be shut for a file that fails appraisal.
//!
//! A door is always tried from outside the mount's process, by a system call of this test or by a program, and
//! reports what the caller saw: an errno where a system call of ours said so, the program's words where not.

use crate::process::output;
use crate::python;
use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The dynamic linker that Debian's programs ask for on this machine.
#[cfg(target_arch = "x86_64")]
pub const LINKER: &str = "/lib64/ld-linux-x86-64.so.2";
/// The dynamic linker that Debian's programs ask for on this machine.
#[cfg(target_arch = "aarch64")]
pub const LINKER: &str = "/lib/ld-linux-aarch64.so.1";

/// How to get at a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `open(O_RDONLY)` and `read` to the end.
    Open,
    /// `open(O_RDONLY|O_DIRECT)`.
    OpenDirect,
    /// `openat2` with every resolve flag that still reaches the file.
    Openat2,
    /// `open(O_RDWR)`.
    OpenReadWrite,
    /// `open(O_WRONLY|O_APPEND)`.
    OpenAppend,
    /// `open(O_RDONLY|O_CREAT)` of the existing file.
    OpenCreate,
    /// An `O_PATH` descriptor, then `open("/proc/self/fd/N", O_RDONLY)`.
    ProcSelfFd,
    /// A symbolic link outside the mount that points at the file.
    Symlink,
    /// A bind mount of the file, made outside the mount.
    BindMount,
    /// `execve`.
    Exec,
    /// `execveat` of an `O_PATH` descriptor, with `AT_EMPTY_PATH`.
    ExecByFd,
    /// `execve` from a child user namespace (`unshare --user`).
    ExecInUserNamespace,
    /// The dynamic linker as a program, with the file as its argument.
    Linker,
    /// `LD_PRELOAD` into a program from outside.
    Preload,
    /// `dlopen`.
    Dlopen,
    /// `mmap(PROT_READ)`.
    Mmap,
    /// `mmap(PROT_READ|PROT_EXEC)`.
    MmapExec,
    /// `copy_file_range` out of the file.
    CopyFileRange,
    /// `splice` into a pipe.
    Splice,
    /// `sendfile` into another file.
    Sendfile,
    /// `open_by_handle_at` of a handle taken with `name_to_handle_at`.
    Handle,
}

/// How a door was shut.
#[derive(Debug)]
pub enum Refusal {
    /// By a system call, with this error.
    Errno(Errno),
    /// By a program that failed, with these words on its standard error.
    Words(String),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Refusal::Errno(errno)
    }
}

impl Door {
    /// Doors that read content, whatever the content is.
    pub const READING: [Door; 13] = [
        Door::Open,
        Door::OpenDirect,
        Door::Openat2,
        Door::OpenReadWrite,
        Door::OpenCreate,
        Door::ProcSelfFd,
        Door::Symlink,
        Door::BindMount,
        Door::Mmap,
        Door::CopyFileRange,
        Door::Splice,
        Door::Sendfile,
        Door::Handle,
    ];

    /// Doors that run a program.
    pub const RUNNING: [Door; 4] = [Door::Exec, Door::ExecByFd, Door::ExecInUserNamespace, Door::Linker];

    /// Doors that bring a shared object into a process.
    pub const LOADING: [Door; 3] = [Door::Preload, Door::Dlopen, Door::MmapExec];

    /// Goes through. The outer error means that the door could not be tried.
    ///
    /// # Errors
    /// Fails when something besides the file gets in the way.
    pub fn enter(self, file: &Path) -> Result<Result<(), Refusal>> {
        match self {
            Door::Open => Ok(read_all(open(file, OFlags::RDONLY))),
            Door::OpenDirect => Ok(keep(open(file, OFlags::RDONLY | OFlags::DIRECT))),
            Door::Openat2 => openat2(file),
            Door::OpenReadWrite => Ok(read_all(open(file, OFlags::RDWR))),
            Door::OpenAppend => Ok(keep(open(file, OFlags::WRONLY | OFlags::APPEND))),
            Door::OpenCreate => Ok(read_all(open(file, OFlags::RDONLY | OFlags::CREATE))),
            Door::ProcSelfFd => by_proc_fd(file),
            Door::Symlink => by_symlink(file),
            Door::BindMount => by_bind_mount(file),
            Door::Exec => exec(&mut Command::new(file)),
            Door::ExecInUserNamespace => {
                words(Command::new("unshare").args(["--user", "--map-root-user"]).arg(file))
            }
            Door::Linker => words(Command::new(LINKER).arg(file)),
            Door::Preload => preload(file),
            Door::CopyFileRange | Door::Splice | Door::Sendfile => moved(self, file),
            Door::ExecByFd => python::door("execveat", file),
            Door::Dlopen => python::door("dlopen", file),
            Door::Mmap => python::door("mmap", file),
            Door::MmapExec => python::door("mmap_exec", file),
            Door::Handle => python::door("handle", file),
        }
    }

    /// Whether a program's words mean that this very door was shut for lack of permission.
    ///
    /// The dynamic linker names no reason for a preloaded object it could not open; the record has to.
    pub fn says_so(self, words: &str) -> bool {
        match self {
            Door::Preload => words.contains("cannot be preloaded"),
            Door::ExecInUserNamespace | Door::Linker | Door::Dlopen => words.contains("Permission denied"),
            _ => false,
        }
    }
}

fn open(file: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(file, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
}

fn keep(opened: Result<OwnedFd, Errno>) -> Result<(), Refusal> {
    opened.map(drop).map_err(Refusal::from)
}

/// Reads what was opened to its end.
fn read_all(opened: Result<OwnedFd, Errno>) -> Result<(), Refusal> {
    let mut content = Vec::new();
    match File::from(opened?).read_to_end(&mut content) {
        Ok(_) => Ok(()),
        Err(e) => Err(Refusal::Errno(Errno::from_io_error(&e).unwrap_or(Errno::IO))),
    }
}

fn openat2(file: &Path) -> Result<Result<(), Refusal>> {
    let parent = file.parent().context("a file in no directory")?;
    let name = file.file_name().context("a file without a name")?;
    let dir = rustix::fs::open(parent, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    Ok(read_all(rustix::fs::openat2(&dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), resolve)))
}

fn by_proc_fd(file: &Path) -> Result<Result<(), Refusal>> {
    let path_fd = open(file, OFlags::PATH).context("cannot open an O_PATH descriptor")?;
    let again = PathBuf::from(format!("/proc/self/fd/{}", path_fd.as_raw_fd()));
    Ok(read_all(open(&again, OFlags::RDONLY)))
}

fn by_symlink(file: &Path) -> Result<Result<(), Refusal>> {
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(file, &link).context("cannot make a symbolic link")?;
    Ok(read_all(open(&link, OFlags::RDONLY)))
}

fn by_bind_mount(file: &Path) -> Result<Result<(), Refusal>> {
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    let spot = dir.path().join("spot");
    File::create(&spot).context("cannot make a mount point")?;
    rustix::mount::mount_bind(file, &spot).context("cannot bind-mount the file")?;
    let seen = read_all(open(&spot, OFlags::RDONLY));
    // A child that another thread has forked has the file open until it runs its program.
    rustix::mount::unmount(&spot, rustix::mount::UnmountFlags::DETACH)
        .context("cannot undo the bind mount")?;
    Ok(seen)
}

/// Runs a program directly; the errno is the one `execve` gave.
fn exec(command: &mut Command) -> Result<Result<(), Refusal>> {
    match command.output() {
        Ok(out) if out.status.success() => Ok(Ok(())),
        Ok(out) => Ok(Err(Refusal::Words(String::from_utf8_lossy(&out.stderr).into_owned()))),
        Err(e) => match Errno::from_io_error(&e) {
            Some(errno) => Ok(Err(errno.into())),
            None => Err(e).context("cannot run the program"),
        },
    }
}

/// Runs a program that tries the door on our behalf.
fn words(command: &mut Command) -> Result<Result<(), Refusal>> {
    let out = output(command.env("LC_ALL", "C"))?;
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    Ok(if out.status.success() { Ok(()) } else { Err(Refusal::Words(stderr)) })
}

/// The linker goes on without an object that it cannot preload, so the proof is in the process's own map.
fn preload(file: &Path) -> Result<Result<(), Refusal>> {
    let out =
        output(Command::new("/bin/cat").arg("/proc/self/maps").env("LD_PRELOAD", file).env("LC_ALL", "C"))?;
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    let mapped = out.stdout.windows(file.as_os_str().len()).any(|w| w == file.as_os_str().as_bytes());
    match (mapped, stderr.is_empty()) {
        (true, true) => Ok(Ok(())),
        (false, false) => Ok(Err(Refusal::Words(stderr))),
        (mapped, _) => bail!("mapped: {mapped}, yet the linker says: {stderr:?}"),
    }
}

/// Moves content without a read of ours: `copy_file_range`, `splice`, `sendfile`.
fn moved(door: Door, file: &Path) -> Result<Result<(), Refusal>> {
    let from = match open(file, OFlags::RDONLY) {
        Ok(from) => from,
        Err(errno) => return Ok(Err(errno.into())),
    };
    let into = tempfile::tempfile_in("/var/tmp").context("cannot make a file to copy into")?;
    let amount = 4096;
    let done = match door {
        Door::CopyFileRange => rustix::fs::copy_file_range(&from, None, &into, None, amount).or_else(|e| {
            // Between two filesystems the kernel may say EXDEV; the door still stood open.
            if e == Errno::XDEV { Ok(0) } else { Err(e) }
        }),
        Door::Sendfile => rustix::fs::sendfile(&into, &from, None, amount),
        Door::Splice => {
            let (_reader, writer) = rustix::pipe::pipe().context("cannot make a pipe")?;
            let flags = rustix::pipe::SpliceFlags::empty();
            rustix::pipe::splice(&from, None, &writer, None, amount, flags)
        }
        other => bail!("{other:?} moves nothing"),
    };
    Ok(done.map(drop).map_err(Refusal::from))
}
