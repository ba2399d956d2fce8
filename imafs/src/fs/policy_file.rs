//! Reading a file of the mount to load it as a policy: by a path inside the mount, through the monitor.
//!
//! The path is resolved as the kernel would for the writer, whose root the mount is: name by name, symbolic links
//! followed inside the tree, so that the file has the name it is recorded under. This runs in a pool thread, beside the
//! reader, which alone tells what files are called: a rename handled between two steps of the walk would be undone by
//! noting where the walk found something. So the walk notes nothing. It goes by descriptors of its own, and the name it
//! found the file under is for this one access.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use monitor::{Access, FileState, Names, Object, PolicyRead, Step};
use rustix::fs::{FileType, readlinkat};

use super::data::Reply;
use super::lookup::{is_control_name, is_manifest_name};
use super::node::{Node, Place, open_content};
use super::pool::Next;
use super::{Caller, Errno, Filesystem, Ino, path};

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
        let walked = match self.walk(path) {
            Ok(walked) => walked,
            Err(errno) => return reply(Err(errno)),
        };
        let access = Access {
            tid: caller.tid,
            fsuid: caller.uid,
            fsgid: caller.gid,
            flags: libc::O_RDONLY,
            created: false,
        };
        let node = Arc::clone(&walked.node);
        let fs = Arc::clone(self);
        match self.monitor.begin_policy_read(Arc::new(walked), access) {
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
            Step::Large { work, user } => Next::large(user, move || self.check_policy(node, work, reply)),
        }
    }

    /// The regular file that an absolute path names, with one lookup more than it had.
    fn walk(&self, path: &[u8]) -> Result<Walked, Errno> {
        let mut names = components(path);
        let root = rustix::io::fcntl_dupfd_cloexec(self.backing().root(), 0)?;
        let mut above = vec![Passed { fd: Arc::new(root), name: Vec::new() }];
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            let directory = above.last().ok_or(Errno::NOENT)?;
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
            let in_root = above.len() == 1;
            if self.control.is_some() && in_root && is_control_name(Ino::ROOT, OsStr::from_bytes(&name)) {
                return Err(Errno::INVAL);
            }
            if in_root && is_manifest_name(Ino::ROOT, OsStr::from_bytes(&name)) {
                return Err(Errno::NOENT);
            }
            let found = self.probe_at(directory.fd.as_fd(), OsStr::from_bytes(&name))?;
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
                FileType::Directory => above.push(Passed { fd: found.fd, name }),
                FileType::RegularFile if names.is_empty() => {
                    let (directory, fd) = (Arc::clone(&directory.fd), Arc::clone(&found.fd));
                    let passed = above.iter().skip(1).map(|passed| passed.name.as_slice());
                    let path = path::of_names(passed.chain(std::iter::once(name.as_slice())));
                    return Ok(Walked { node: self.adopt(found), fd, directory, name, path });
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

/// A directory on the way.
struct Passed {
    fd: Arc<OwnedFd>,
    name: Vec<u8>,
}

/// A file as one walk found it: the record everybody shares, under the name it was found by.
struct Walked {
    node: Arc<Node>,
    fd: Arc<OwnedFd>,
    directory: Arc<OwnedFd>,
    name: Vec<u8>,
    path: Vec<u8>,
}

impl Walked {
    /// Whether the walk came by this place.
    fn is_at(&self, place: &Place) -> bool {
        *place.name == *self.name && self.node.vault().is_of(self.directory.as_fd(), &place.parent)
    }
}

impl Object for Walked {
    fn state(&self) -> &FileState {
        self.node.state()
    }

    fn stat_fd(&self) -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::clone(&self.fd))
    }

    fn read_fd(&self) -> io::Result<Arc<OwnedFd>> {
        Ok(Arc::new(open_content(&self.fd)?))
    }

    fn is_written(&self) -> io::Result<bool> {
        self.node.is_written()
    }

    fn is_in_use(&self) -> io::Result<bool> {
        self.node.is_in_use()
    }

    fn path(&self) -> Vec<u8> {
        self.path.clone()
    }

    fn names(&self, links: u32) -> Names {
        let vault = self.node.vault();
        let mut paths = vec![self.path.clone()];
        let mut found = u32::from(vault.name_leads_to(self.directory.as_fd(), &self.name, &self.node));
        if found < links {
            let places = self.node.place().into_iter().chain(self.node.other_places());
            for place in places.filter(|place| !self.is_at(place) && vault.leads_to(place, &self.node)) {
                found += 1;
                paths.push(path::through(&place));
            }
        }
        Names { paths, more: found < links }
    }

    fn resolve(&self, path: &[u8]) -> Option<(u64, u64)> {
        self.node.resolve(path)
    }
}
