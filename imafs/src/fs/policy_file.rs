//! Reading a file of the mount to load it as a policy: by a path inside the mount, through the monitor.
//!
//! The path is resolved as the kernel would for the writer, whose root the mount is: name by name, symbolic links
//! followed inside the tree, so that the file has the name it is recorded under.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use monitor::{Access, Object, PolicyRead, Step};
use rustix::fs::{FileType, readlinkat};

use super::data::Reply;
use super::lookup::is_control_name;
use super::node::Node;
use super::pool::Next;
use super::{Caller, Errno, Filesystem, Ino};

/// The largest policy file that is read; little enough to keep in memory.
const POLICY_LIMIT: u64 = 1 << 20;

/// Symbolic links followed in one path (`MAXSYMLINKS`, include/linux/namei.h).
const MOST_LINKS: usize = 40;

impl Filesystem {
    /// Gives the content of the regular file at `path`, checked as a policy. Called in a pool thread.
    ///
    /// Errors are those of `open(2)`; `EINVAL` for what is no regular file, `EFBIG` for one that is too large,
    /// `EACCES` for one that does not pass.
    pub(super) fn read_policy(self: &Arc<Self>, caller: &Caller, path: &[u8], reply: Reply<Vec<u8>>) {
        let node = match self.walk(path) {
            Ok(node) => node,
            Err(errno) => return reply(Err(errno)),
        };
        let access = Access {
            tid: caller.tid,
            fsuid: caller.uid,
            fsgid: caller.gid,
            flags: libc::O_RDONLY,
            created: false,
        };
        let object: Arc<dyn Object> = Arc::clone(&node) as Arc<dyn Object>;
        let fs = Arc::clone(self);
        match self.monitor.begin_policy_read(object, access) {
            Ok(read) => self.checks.submit_steps(node.ino(), move || fs.check_policy(node, read, reply)),
            Err(denial) => {
                self.forget(node.ino(), 1);
                reply(Err(denial.errno()));
            }
        }
    }

    fn check_policy(self: Arc<Self>, node: Arc<Node>, read: PolicyRead, reply: Reply<Vec<u8>>) -> Next {
        match self.telling_changes(&node, || read.run(POLICY_LIMIT)) {
            Step::Done(content) => {
                self.forget(node.ino(), 1);
                reply(match content {
                    Ok(content) => content.ok_or(Errno::FBIG),
                    Err(denial) => Err(denial.errno()),
                });
                Next::DONE
            }
            Step::Later { work, at } => Next::later(at, move || self.check_policy(node, work, reply)),
        }
    }

    /// The regular file that an absolute path names, with one lookup more than it had.
    fn walk(&self, path: &[u8]) -> Result<Arc<Node>, Errno> {
        let mut passed = Vec::new();
        let found = self.walk_from(self.table.find(Ino::ROOT)?, path, &mut passed);
        for directory in passed {
            self.forget(directory, 1);
        }
        found
    }

    /// As [`Filesystem::walk`]; `passed` gets each directory that was given a lookup on the way.
    fn walk_from(&self, root: Arc<Node>, path: &[u8], passed: &mut Vec<Ino>) -> Result<Arc<Node>, Errno> {
        let mut names = components(path);
        let mut above = vec![root];
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            let directory = Arc::clone(above.last().ok_or(Errno::NOENT)?);
            match name.as_slice() {
                b"." => continue,
                b".." => {
                    if above.len() > 1 {
                        above.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let name = OsStr::from_bytes(&name);
            if self.control.is_some() && is_control_name(directory.ino(), name) {
                return Err(Errno::INVAL);
            }
            let found = self.probe(&directory, name)?;
            match found.kind() {
                FileType::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = readlinkat(&found.fd, c"", Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        above.truncate(1);
                    }
                    let rest = std::mem::take(&mut names);
                    names = components(&target);
                    names.extend(rest);
                }
                FileType::Directory => {
                    let entered = self.enter(&directory, name, found).ino;
                    passed.push(entered);
                    above.push(self.table.find(entered)?);
                }
                FileType::RegularFile if names.is_empty() => {
                    return self.table.find(self.enter(&directory, name, found).ino);
                }
                _ if names.is_empty() => return Err(Errno::INVAL),
                _ => return Err(Errno::NOTDIR),
            }
        }
        Err(Errno::INVAL)
    }
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}
