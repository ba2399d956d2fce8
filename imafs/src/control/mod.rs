//! The control directory `/.imafs`: kernel names, kernel contents, so that tools which read
//! `/sys/kernel/security` read this too.
//!
//! ```text
//! measurements                     the ASCII list
//! ima -> integrity/ima
//! integrity/ima/policy             the rules, as a kernel reads them back; takes the container's own
//!     ascii_runtime_measurements, binary_runtime_measurements, each also with _<alg> per bank
//!     runtime_measurements_count, violations, active, hash, template_name
//! keys/<ring>                      keyid, fingerprint and subject of each certificate; the container's takes more
//! mode                             the appraisal mode, which can be tightened
//! audit                            the last records, JSON lines, growing
//! pcrs   ns_id   status
//! ```
//!
//! The tree is fixed when the mount begins. A file's content is taken at its open and read at any offset; the audit
//! trail alone grows under its reader. The container reads this, so nothing of the host is shown that the container
//! does not know: no host paths, no process ids. Nothing here can weaken what the host set.
//!
//! `tree` is the shape, `content` what the files say, `open` reading and writing them, `loading` the policy being
//! written and `writer` who writes it, `new_key` a certificate being added, `switches` the files that set one thing.
//! Lock order: the table of open files, held for a lookup only; the lock of one load, with nothing else.

mod content;
mod loading;
mod new_key;
mod open;
mod switches;
mod tree;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FileType;

use ima::HashAlgo;
use monitor::Monitor;
use serde_json::Value;

use crate::config::Owner;
use crate::fs::{Attr, Caller, ControlIno, ControlTree, Deferred, Errno, Written};

use content::{Content, Reader, Texts};
use loading::Loading;
use open::{Open, Opens};
pub(crate) use switches::{mode_name, mode_of};
use tree::{File, Kind, Node, Ring, Tree};

/// Whether the container may write where the kernel's files are writable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It may.
    ReadWrite,
    /// It may only read.
    ReadOnly,
}

/// How often the container may load rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loads {
    /// Once, as with a kernel without `CONFIG_IMA_WRITE_POLICY`.
    Once,
    /// Again and again, each load behind the rules of those before.
    Many,
}

/// What the container may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permits {
    /// Whether it may write at all.
    pub access: Access,
    /// How often it may load rules, where it has a layer of its own.
    pub loads: Loads,
    /// How many rules it may have.
    pub rules: usize,
    /// Its root, as the host sees it: the files are his.
    pub owner: Owner,
}

/// Gives the facts for `status`.
pub type StatusFacts = Box<dyn Fn() -> Value + Send + Sync>;

/// The control directory of one mount.
pub struct Control {
    monitor: Arc<Monitor>,
    ns_id: String,
    status: StatusFacts,
    permits: Permits,
    tree: Tree,
    opens: Opens,
    texts: Texts,
    /// Somebody has the policy open for writing, or has loaded it and nobody may again.
    policy_taken: AtomicBool,
    /// Rules have been loaded.
    policy_loaded: AtomicBool,
    /// When the mount began, seconds since the epoch; the time of everything here.
    since: i64,
}

impl Control {
    /// The control directory of a monitor's mount.
    pub fn new(monitor: Arc<Monitor>, ns_id: &str, permits: Permits, status: StatusFacts) -> Self {
        let rules = monitor.rules();
        let container = rules.container().map(|layer| (Ring::Container, layer.ring.name()));
        let rings: Vec<_> =
            std::iter::once((Ring::Host, rules.host().ring.name())).chain(container).collect();
        let tree = Tree::new(&rings, &list_algos(&monitor));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let since = since.try_into().unwrap_or(0);
        Self {
            ns_id: ns_id.to_owned(),
            status,
            permits,
            tree,
            opens: Opens::of(permits.owner.uid),
            texts: Texts::default(),
            policy_taken: AtomicBool::new(false),
            policy_loaded: AtomicBool::new(false),
            since,
            monitor,
        }
    }

    /// The whole content of the file at this path in the tree, symbolic links in its middle followed.
    ///
    /// For the host, who reads it without the mount, however many files the container has open.
    ///
    /// # Errors
    /// [`Errno::NOENT`], [`Errno::ISDIR`], or what reading gives.
    pub fn read_path(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let file = self.file(self.tree.resolve(path).ok_or(Errno::NOENT)?)?;
        let open = Open::reading(file, self.content(file, Reader::Host)?, 0);
        let mut all = Vec::new();
        loop {
            let part = open.read(&self.monitor, all.len() as u64, 1 << 20)?;
            if part.is_empty() {
                return Ok(all);
            }
            all.extend(part);
        }
    }

    fn node(&self, ino: ControlIno) -> Result<&Node, Errno> {
        self.tree.node(ino).ok_or(Errno::STALE)
    }

    fn file(&self, ino: ControlIno) -> Result<File, Errno> {
        match self.node(ino)?.kind {
            Kind::Directory => Err(Errno::ISDIR),
            Kind::Link(_) => Err(Errno::LOOP),
            Kind::File(file) => Ok(file),
        }
    }

    /// Whether the host allows this file to be written.
    fn is_writable(&self, file: File) -> bool {
        let own_layer = || self.monitor.rules().container().is_some();
        self.permits.access == Access::ReadWrite
            && match file {
                File::Active | File::Mode => true,
                File::Policy | File::Keys(Ring::Container) => own_layer(),
                File::List(..)
                | File::Count
                | File::Violations
                | File::Hash
                | File::TemplateName
                | File::Keys(Ring::Host)
                | File::Audit
                | File::Pcrs
                | File::NsId
                | File::Status => false,
            }
    }

    /// Whether the policy has been loaded as often as it may be: it then reads as a kernel's that can be read and
    /// not written.
    fn is_settled(&self) -> bool {
        self.permits.loads == Loads::Once && self.policy_loaded.load(Ordering::Acquire)
    }

    fn open_file(&self, ino: ControlIno, flags: i32, caller: &Caller) -> Result<u64, Errno> {
        let file = self.file(ino)?;
        let mode = flags & libc::O_ACCMODE;
        if mode == libc::O_RDONLY {
            let content = self.content(file, Reader::Container)?;
            return self.opens.add(Open::reading(file, content, caller.uid));
        }
        let exclusive = matches!(file, File::Policy | File::Keys(_));
        if !self.is_writable(file) || (exclusive && mode == libc::O_RDWR) {
            return Err(Errno::ACCESS);
        }
        if file == File::Policy {
            return self.open_policy(flags, caller);
        }
        let content = self.content(file, Reader::Container)?;
        self.opens.add(Open::reading(file, content, caller.uid).writing(None))
    }

    /// Opens the policy for writing, if nobody else has it.
    fn open_policy(&self, flags: i32, caller: &Caller) -> Result<u64, Errno> {
        if self.policy_taken.swap(true, Ordering::AcqRel) {
            return Err(Errno::BUSY);
        }
        let loading = Loading::begin(&self.monitor, self.permits.rules, flags, caller).ok_or(Errno::ACCESS);
        let opened = loading.and_then(|loading| {
            let open = Open::reading(File::Policy, Content::Bytes(Arc::from([])), caller.uid);
            self.opens.add(open.writing(Some(Arc::new(loading))))
        });
        if opened.is_err() {
            self.policy_taken.store(false, Ordering::Release);
        }
        opened
    }

    /// Ends a load. With the first rules of the container, keys that came before them are measured as they ask; those
    /// that cannot be are its keys no longer.
    fn loaded(&self, loading: &Loading) -> Option<Deferred> {
        let by = loading.end();
        let first = by.is_some() && !self.policy_loaded.swap(true, Ordering::AcqRel);
        if !self.is_settled() {
            self.policy_taken.store(false, Ordering::Release);
        }
        let (monitor, by) = (Arc::clone(&self.monitor), by.filter(|_| first)?);
        Some(Box::new(move || {
            if let Err(denial) = monitor.measure_rings(&by) {
                tracing::warn!("cannot measure all keys: {denial}");
            }
        }))
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
        let writes = match node.kind {
            Kind::File(File::Policy) if self.is_settled() => 0,
            Kind::File(file) if self.is_writable(file) => 0o200,
            Kind::File(_) | Kind::Link(_) | Kind::Directory => 0,
        };
        Ok(Attr {
            ino: crate::fs::Ino::from(ino).0,
            size,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            mode: node.mode() | writes,
            nlink: self.tree.links(ino),
            uid: self.permits.owner.uid,
            gid: self.permits.owner.gid,
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

    fn open(&self, ino: ControlIno, flags: i32, caller: &Caller) -> Result<u64, Errno> {
        self.open_file(ino, flags, caller)
    }

    fn read(&self, fh: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        self.opens.find(fh)?.read(&self.monitor, offset, size as usize)
    }

    fn write(&self, fh: u64, offset: u64, data: &[u8], caller: &Caller) -> Written {
        match self.opens.find(fh) {
            Ok(open) => open.write(&self.monitor, offset, data, caller),
            Err(errno) => Written::Done(Err(errno)),
        }
    }

    fn flush(&self, _: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn release(&self, fh: u64) -> Option<Deferred> {
        self.loaded(self.opens.close(fh)?.loading()?)
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("ns_id", &self.ns_id)
            .field("permits", &self.permits)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
