//! Who asked: what `/proc` says of one task, read once per record.
//!
//! Nothing here fails. A task that is gone, or a `/proc` that does not show it, gives the kernel's words for
//! what is not known: 4294967295 for ids, `(null)` for names. The task of a FUSE request waits for its
//! answer, so it is there unless it was killed meanwhile. Files that take the task's mm lock (`cmdline`,
//! `maps`) are never read: a task that faults on the mount holds that lock while it waits for us.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The value of an id that is not set or not known: `(uid_t)-1`.
pub const UNKNOWN: u32 = u32::MAX;

/// One task, as records name it. Ids are those of this process's user and pid namespaces, which are the
/// initial ones where imafs runs on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Thread id; what types 1800 to 1804 call `pid`.
    pub tid: u32,
    /// Process id (thread group); the thread id where it is not known.
    pub pid: u32,
    /// Parent's process id, 0 when there is none or it is not known.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Saved user id.
    pub suid: u32,
    /// File system user id.
    pub fsuid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// File system group id.
    pub fsgid: u32,
    /// Login uid, [`UNKNOWN`] when unset.
    pub auid: u32,
    /// Audit session, [`UNKNOWN`] when unset.
    pub ses: u32,
    /// Thread name, at most 15 bytes.
    pub comm: Option<Vec<u8>>,
    /// The program's path; absent for kernel threads.
    pub exe: Option<Vec<u8>>,
    /// Controlling terminal as the kernel names it (`pts0`, `tty1`).
    pub tty: Option<String>,
    /// Security context, absent without a security module.
    pub subj: Option<Vec<u8>>,
}

impl Process {
    /// A task of which nothing but its number is known.
    #[must_use]
    pub fn unknown(tid: u32) -> Self {
        Self {
            tid,
            pid: tid,
            ppid: 0,
            uid: UNKNOWN,
            euid: UNKNOWN,
            suid: UNKNOWN,
            fsuid: UNKNOWN,
            gid: UNKNOWN,
            egid: UNKNOWN,
            sgid: UNKNOWN,
            fsgid: UNKNOWN,
            auid: UNKNOWN,
            ses: UNKNOWN,
            comm: None,
            exe: None,
            tty: None,
            subj: None,
        }
    }

    /// Reads what `/proc` shows of thread `tid`. About seven small reads; never fails, see the module's text.
    #[must_use]
    pub fn read(tid: u32) -> Self {
        let mut process = Self::unknown(tid);
        if tid == 0 {
            // A caller outside our pid namespace.
            return process;
        }
        let dir = PathBuf::from(format!("/proc/{tid}"));
        if let Ok(status) = fs::read(dir.join("status")) {
            process.status(&status);
        }
        process.auid = number(&dir.join("loginuid")).unwrap_or(UNKNOWN);
        process.ses = number(&dir.join("sessionid")).unwrap_or(UNKNOWN);
        process.comm = text(&dir.join("comm"));
        process.subj = text(&dir.join("attr/current"));
        process.exe = fs::read_link(dir.join("exe")).ok().map(|path| path.into_os_string().into_vec());
        process.tty = fs::read(dir.join("stat")).ok().and_then(|stat| terminal(&stat));
        process
    }

    /// Takes the ids from the text of `/proc/TID/status`, proc_pid_status(5).
    fn status(&mut self, status: &[u8]) {
        for line in String::from_utf8_lossy(status).lines() {
            let mut words = line.split_ascii_whitespace();
            let Some(key) = words.next() else { continue };
            let mut next = || words.next().and_then(|word| word.parse().ok()).unwrap_or(UNKNOWN);
            match key {
                "Tgid:" => self.pid = next(),
                "PPid:" => self.ppid = next(),
                "Uid:" => (self.uid, self.euid, self.suid, self.fsuid) = (next(), next(), next(), next()),
                "Gid:" => (self.gid, self.egid, self.sgid, self.fsgid) = (next(), next(), next(), next()),
                _ => {}
            }
        }
    }
}

fn number(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A one-line file without its newline or NUL; none when unreadable or empty.
fn text(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    while matches!(bytes.last(), Some(b'\n' | 0)) {
        bytes.pop();
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// The controlling terminal from `/proc/TID/stat` (field 7, tty_nr), named as `tty_name()` does.
fn terminal(stat: &[u8]) -> Option<String> {
    // The second field is the thread name in parentheses and may itself hold anything.
    let after = stat.iter().rposition(|b| *b == b')')?;
    let rest = String::from_utf8_lossy(stat.get(after + 1..)?);
    let number: u32 = rest.split_ascii_whitespace().nth(4)?.parse().ok()?;
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    match (major, minor) {
        (0, 0) => None,
        (136..=143, _) => Some(format!("pts{}", (major - 136) * 256 + minor)),
        (4, 0..=63) => Some(format!("tty{minor}")),
        (4, _) => Some(format!("ttyS{}", minor - 64)),
        _ => device_name(major, minor),
    }
}

/// The name sysfs gives a character device.
fn device_name(major: u32, minor: u32) -> Option<String> {
    let uevent = fs::read_to_string(format!("/sys/dev/char/{major}:{minor}/uevent")).ok()?;
    uevent.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_the_status_text() {
        let mut process = Process::unknown(7);
        process
            .status(b"Name:\tevil Uid: 9\nTgid:\t5\nPid:\t7\nPPid:\t1\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n");
        assert_eq!((process.tid, process.pid, process.ppid), (7, 5, 1));
        assert_eq!((process.uid, process.euid, process.suid, process.fsuid), (1, 2, 3, 4));
        assert_eq!((process.gid, process.egid, process.sgid, process.fsgid), (5, 6, 7, 8));
    }

    #[test]
    fn terminals_have_the_kernels_names() {
        for (tty_nr, expected) in [
            (0, None),
            (0x8803, Some("pts3")),
            (0x8901, Some("pts257")),
            (0x0401, Some("tty1")),
            (0x0440, Some("ttyS0")),
            // Minor 256 of the first pts major: its upper bits stand above the major.
            (0x0010_8800, Some("pts256")),
        ] {
            let stat = format!("12 (a) b (c)) S 1 12 12 {tty_nr} -1 4194304");
            assert_eq!(terminal(stat.as_bytes()).as_deref(), expected, "{tty_nr:#x}");
        }
    }

    #[test]
    fn this_process_knows_itself() {
        let me = Process::read(std::process::id());
        assert_eq!(me.pid, std::process::id());
        assert_eq!(me.exe, std::env::current_exe().ok().map(|path| path.into_os_string().into_vec()));
        assert!(me.comm.is_some());
        assert_eq!(me.uid, rustix::process::getuid().as_raw());
    }

    #[test]
    fn a_task_that_is_gone_is_unknown() {
        assert_eq!(Process::read(u32::MAX), Process::unknown(u32::MAX));
        assert_eq!(Process::read(0), Process::unknown(0));
    }
}
