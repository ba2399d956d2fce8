//! System calls that safe Rust does not offer, made by Debian's own Python: memory maps, `execveat`, handles.
//!
//! `/usr/bin/python3` is named in full, so that a version manager's shim cannot come between.

use crate::door::Refusal;
use crate::process::output;
use anyhow::{Result, bail};
use rustix::io::Errno;
use std::path::Path;
use std::process::Command;

/// Debian's Python.
pub const PYTHON: &str = "/usr/bin/python3";

/// Each function gets at a file one way; its errno, if it fails, is printed and the status is 3.
const DOORS: &str = r#"
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)

def check(value):
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value

def with_map(path, prot):
    fd = os.open(path, os.O_RDONLY)
    try:
        with mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=prot) as m:
            m[0:1]
    finally:
        os.close(fd)

def door_mmap(path):
    with_map(path, mmap.PROT_READ)

def door_mmap_exec(path):
    with_map(path, mmap.PROT_READ | mmap.PROT_EXEC)

def door_dlopen(path):
    ctypes.CDLL(path)

def door_execveat(path):
    fd = os.open(path, os.O_PATH)
    pid = os.fork()
    if pid == 0:
        argv = (ctypes.c_char_p * 2)(os.fsencode(path), None)
        envp = (ctypes.c_char_p * 1)(None)
        libc.execveat(fd, b"", argv, envp, 0x1000)
        os._exit(200 if ctypes.get_errno() == 13 else 201)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 200:
        raise PermissionError(13, "execveat")
    if code != 0:
        raise RuntimeError("execveat: %d" % code)

def door_handle(path):
    buf = ctypes.create_string_buffer(136)
    ctypes.memmove(buf, (128).to_bytes(4, "little"), 4)
    mount_id = ctypes.c_int()
    check(libc.name_to_handle_at(-100, os.fsencode(path), buf, ctypes.byref(mount_id), 0))
    mount = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    fd = check(libc.open_by_handle_at(mount, buf, os.O_RDONLY))
    os.read(fd, 1)

try:
    globals()["door_" + sys.argv[1]](sys.argv[2])
except OSError as e:
    if e.errno is None:
        sys.exit(str(e))
    print(e.errno)
    sys.exit(3)
"#;

/// Tries one of the doors above.
///
/// # Errors
/// Fails when Python cannot be run or fails in a way that is no errno and no linker's message.
pub fn door(name: &str, file: &Path) -> Result<Result<(), Refusal>> {
    let out = output(Command::new(PYTHON).args(["-I", "-c", DOORS, name]).arg(file).env("LC_ALL", "C"))?;
    let words = String::from_utf8_lossy(&out.stderr).into_owned();
    match out.status.code() {
        Some(0) => Ok(Ok(())),
        Some(3) => {
            let number = String::from_utf8_lossy(&out.stdout).trim().parse()?;
            Ok(Err(Refusal::Errno(Errno::from_raw_os_error(number))))
        }
        Some(1) if !words.contains("Traceback") => Ok(Err(Refusal::Words(words))),
        _ => bail!("python: {} {words}", out.status),
    }
}

/// Runs a script with arguments in `dir`; it has to succeed. Returns its standard output.
///
/// # Errors
/// As [`crate::process::succeed`].
pub fn script(dir: &Path, text: &str, args: &[&str]) -> Result<String> {
    crate::process::succeed(Command::new(PYTHON).args(["-I", "-c", text]).args(args).current_dir(dir))
}
