//! The opener's ids, read from `/proc` only when a rule asks for them.

use std::cell::OnceCell;
use std::fs;

use policy::{Subject, SubjectIds, SubjectUnknown};

const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

/// A thread that waits in the open being decided.
///
/// It cannot leave that system call before it is answered, so what `/proc` says of it is what it is; only
/// `SIGKILL` ends it, and then the decision no longer matters to anyone.
#[derive(Debug)]
pub(crate) struct ProcSubject {
    tid: u32,
    ids: OnceCell<Result<SubjectIds, SubjectUnknown>>,
}

impl ProcSubject {
    pub fn new(tid: u32) -> Self {
        Self { tid, ids: OnceCell::new() }
    }
}

impl Subject for ProcSubject {
    fn ids(&self) -> Result<SubjectIds, SubjectUnknown> {
        *self.ids.get_or_init(|| {
            let unknown = |errno| SubjectUnknown { tid: self.tid, errno };
            let status = fs::read_to_string(format!("/proc/{}/status", self.tid))
                .map_err(|error| unknown(error.raw_os_error().unwrap_or(0)))?;
            parse(&status).ok_or_else(|| unknown(0))
        })
    }
}

/// A subject that cannot be asked.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Subject for Nobody {
    fn ids(&self) -> Result<SubjectIds, SubjectUnknown> {
        Err(SubjectUnknown { tid: 0, errno: 0 })
    }
}

/// Takes the ids out of a `/proc/PID/status` text; `None` when a line is missing or malformed.
fn parse(status: &str) -> Option<SubjectIds> {
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    let mut uids = line("Uid:")?.split_whitespace().map(str::parse::<u32>);
    let mut gids = line("Gid:")?.split_whitespace().map(str::parse::<u32>);
    let caps = u64::from_str_radix(line("CapEff:")?.trim(), 16).ok()?;
    Some(SubjectIds {
        uid: uids.next()?.ok()?,
        euid: uids.next()?.ok()?,
        suid: uids.next()?.ok()?,
        gid: gids.next()?.ok()?,
        egid: gids.next()?.ok()?,
        sgid: gids.next()?.ok()?,
        cap_setuid: caps & (1 << CAP_SETUID) != 0,
        cap_setgid: caps & (1 << CAP_SETGID) != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_ids_and_the_two_capabilities_are_read() {
        let text = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nCapEff:\t0000000000000080\n";
        let ids = parse(text).unwrap();
        assert_eq!((ids.uid, ids.euid, ids.suid), (1, 2, 3));
        assert_eq!((ids.gid, ids.egid, ids.sgid), (5, 6, 7));
        assert!(ids.cap_setuid && !ids.cap_setgid);
    }

    #[test]
    fn a_missing_or_malformed_line_is_unknown_not_zero() {
        for text in ["", "Uid:\t1\t2\t3\t4\n", "Uid:\tx\nGid:\t1 2 3 4\nCapEff:\t0\n"] {
            assert!(parse(text).is_none(), "{text:?}");
        }
        assert!(ProcSubject::new(0).ids().is_err());
    }

    #[test]
    fn this_thread_is_found() {
        let tid = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        assert_eq!(ProcSubject::new(tid).ids().unwrap().uid, rustix::process::getuid().as_raw());
    }
}
