//! The control directory `/.imafs`: kernel names, kernel contents, so that tools which read
//! `/sys/kernel/security` read this too.
//!
//! ```text
//! measurements                     the ASCII list
//! ima -> integrity/ima
//! integrity/ima/policy             the rules, as a kernel reads them back
//!     ascii_runtime_measurements, binary_runtime_measurements, each also with _<alg> per bank
//!     runtime_measurements_count, violations, active, hash, template_name
//! keys/<ring>                      keyid, subject and fingerprint of each certificate
//! audit                            the last records, JSON lines, growing
//! pcrs   ns_id   status
//! ```
//!
//! The tree is fixed when the mount begins. A file's content is taken at its open and read at any offset; the audit
//! trail alone grows under its reader. The container reads this, so nothing of the host is shown that the container
//! does not know: no host paths, no process ids. Nothing here can weaken what the host set.
//!
//! `tree` is the shape, `content` what the files say, `open` reading and writing them. Lock order: one lock, the
//! table of open files, held for a lookup only.

mod content;
mod open;
mod tree;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FileType;

use ima::HashAlgo;
use monitor::Monitor;
use serde_json::Value;

use crate::fs::{Attr, Caller, ControlIno, ControlTree, Errno};

use open::Opens;
use tree::{Kind, Node, Tree};

/// Whether the container may write where the kernel's files are writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may.
    ReadWrite,
    /// It may only read.
    ReadOnly,
}

/// Gives the facts for `status`.
pub type StatusFacts = Box<dyn Fn() -> Value + Send + Sync>;

/// The control directory of one mount.
pub struct Control {
    monitor: Arc<Monitor>,
    ns_id: String,
    status: StatusFacts,
    access: Access,
    tree: Tree,
    opens: Opens,
    /// When the mount began, seconds since the epoch; the time of everything here.
    since: i64,
}

impl Control {
    /// The control directory of a monitor's mount.
    pub fn new(monitor: Arc<Monitor>, ns_id: &str, access: Access, status: StatusFacts) -> Self {
        let options = monitor.options();
        let tree = Tree::new(options.host.ring.name(), &list_algos(&monitor), access);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let since = since.try_into().unwrap_or(0);
        Self { ns_id: ns_id.to_owned(), status, access, tree, opens: Opens::default(), since, monitor }
    }

    /// The whole content of the file at this path in the tree, symbolic links in its middle followed.
    ///
    /// For the host, who reads it without the mount.
    ///
    /// # Errors
    /// [`Errno::NOENT`], [`Errno::ISDIR`], or what reading gives.
    pub fn read_path(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let ino = self.tree.resolve(path).ok_or(Errno::NOENT)?;
        let fh = self.open_file(ino, 0)?;
        let mut all = Vec::new();
        let outcome = loop {
            match self.opens.read(&self.monitor, fh, all.len() as u64, 1 << 20) {
                Ok(part) if part.is_empty() => break Ok(all),
                Ok(part) => all.extend(part),
                Err(error) => break Err(error),
            }
        };
        self.opens.close(fh);
        outcome
    }

    fn node(&self, ino: ControlIno) -> Result<&Node, Errno> {
        self.tree.node(ino).ok_or(Errno::STALE)
    }

    fn open_file(&self, ino: ControlIno, flags: i32) -> Result<u64, Errno> {
        match self.node(ino)?.kind {
            Kind::Directory => Err(Errno::ISDIR),
            Kind::Link(_) => Err(Errno::LOOP),
            Kind::File(file) => {
                let writing = flags & libc::O_ACCMODE != libc::O_RDONLY;
                if writing && !(self.access == Access::ReadWrite && file.is_writable()) {
                    return Err(Errno::ACCESS);
                }
                self.opens.add(self.content(file), file)
            }
        }
    }
}

/// The algorithms with lists of their own: those of the banks, SHA-1 always among them as in the kernel.
fn list_algos(monitor: &Monitor) -> Vec<HashAlgo> {
    let mut algos = vec![HashAlgo::Sha1];
    for &algo in monitor.options().list.algos() {
        if !algos.contains(&algo) {
            algos.push(algo);
        }
    }
    algos
}

impl ControlTree for Control {
    fn lookup(&self, parent: ControlIno, name: &[u8]) -> Option<ControlIno> {
        self.tree.child(parent, name)
    }

    fn attr(&self, ino: ControlIno) -> Result<Attr, Errno> {
        let node = self.node(ino)?;
        let time = (self.since, 0);
        let size = match &node.kind {
            Kind::Directory => 0,
            Kind::Link(target) => target.len() as u64,
            Kind::File(file) => self.size(*file),
        };
        Ok(Attr {
            ino: crate::fs::Ino::from(ino).0,
            size,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            mode: node.mode(),
            nlink: self.tree.links(ino),
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
        })
    }

    fn readdir(&self, ino: ControlIno) -> Vec<(ControlIno, FileType, Vec<u8>)> {
        let children = self.tree.children(ino);
        children.map(|(ino, node)| (ino, node.kind.file_type(), node.name.clone().into_bytes())).collect()
    }

    fn readlink(&self, ino: ControlIno) -> Result<Vec<u8>, Errno> {
        match &self.node(ino)?.kind {
            Kind::Link(target) => Ok(target.as_bytes().to_vec()),
            Kind::Directory | Kind::File(_) => Err(Errno::INVAL),
        }
    }

    fn open(&self, ino: ControlIno, flags: i32, _: &Caller) -> Result<u64, Errno> {
        self.open_file(ino, flags)
    }

    fn read(&self, fh: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        self.opens.read(&self.monitor, fh, offset, size as usize)
    }

    fn write(&self, fh: u64, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        self.opens.write(fh, offset, data)
    }

    fn flush(&self, _: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn release(&self, fh: u64) {
        self.opens.close(fh);
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("ns_id", &self.ns_id)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
