//! OPEN: the monitor decides, then the mode is chosen and the reply built from the monitor's grant.
//!
//! The monitor is asked in the reader thread, in request order. An answer from memory is given at once, unless
//! work of the same inode is still queued: then it waits behind it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use monitor::{Access, Begun, Denial, Grant, Names, Object, Step, Work};
use rustix::fs::{FileType, OFlags};

use super::data::Reply;
use super::kernel::Lent;
use super::node::Node;
use super::opens::{OpenMode, Opens};
use super::pool::Next;
use super::vault::reopen;
use super::{Caller, ControlIno, Entry, Errno, Filesystem, Ino};

/// How a granted open is to be served.
#[derive(Clone)]
pub enum Opened {
    /// Through the kernel's page cache.
    Cached {
        /// The number of this open if the kernel must drop its pages, `None` if they are what was granted.
        renew: Option<u64>,
        /// The kernel must say when the file is closed.
        flush: bool,
    },
    /// By the kernel itself, from the lent file.
    Lent {
        /// The file, lent for as long as the record lives.
        file: Arc<dyn Lent>,
        /// The kernel must say when the file is closed.
        flush: bool,
    },
}

/// A deferred answer to OPEN. Dropping it answers with an error.
pub trait OpenReply: Send {
    /// The file is open. Nothing but the monitor's grant can say so.
    fn opened(self: Box<Self>, grant: Grant, how: Opened);
    /// The file is not open.
    fn error(self: Box<Self>, errno: Errno);
}

/// A deferred answer to CREATE.
pub trait CreateReply: Send {
    /// The file was made and is open.
    fn created(self: Box<Self>, entry: Entry, grant: Grant, how: Opened);
    /// The file is not open.
    fn error(self: Box<Self>, errno: Errno);
}

/// Either deferred answer, so that both go the same way.
pub(super) enum Answer {
    Open(Box<dyn OpenReply>),
    /// With the entry, whose lookup the kernel gets only if the open succeeds.
    Create(Box<dyn CreateReply>, Entry),
}

impl Filesystem {
    /// Opens a regular file. `flags` are as the kernel sent them.
    pub fn open(self: &Arc<Self>, caller: &Caller, ino: Ino, flags: i32, reply: Box<dyn OpenReply>) {
        match self.table.find(ino) {
            Ok(node) if node.kind() == FileType::RegularFile => {
                self.take_turn(&node, caller, flags, Answer::Open(reply));
            }
            Ok(_) => reply.error(Errno::INVAL),
            Err(errno) => reply.error(errno),
        }
    }

    /// Opens a control file; the handle is the answer. From a pool thread, for what the file says is taken now, and may
    /// have to be asked of a TPM.
    pub fn open_control(self: &Arc<Self>, caller: &Caller, ino: ControlIno, flags: i32, reply: Reply<u64>) {
        let (fs, caller) = (Arc::clone(self), *caller);
        self.controls.submit_free(move || {
            reply(fs.control().and_then(|control| control.open(ino, flags, &caller)));
        });
    }

    /// Asks the monitor, and answers now or from the pool.
    pub(super) fn decide(
        self: &Arc<Self>,
        node: &Arc<Node>,
        caller: &Caller,
        flags: i32,
        created: bool,
        answer: Answer,
    ) {
        self.decide_by(node, caller, flags, created, None, answer);
    }

    /// The same for an open that arrived earlier, when the file had these names.
    pub(super) fn decide_by(
        self: &Arc<Self>,
        node: &Arc<Node>,
        caller: &Caller,
        flags: i32,
        created: bool,
        names: Option<Names>,
        answer: Answer,
    ) {
        let access = Access { tid: caller.tid, fsuid: caller.uid, fsgid: caller.gid, flags, created };
        let object: Arc<dyn Object> = Arc::clone(node) as Arc<dyn Object>;
        self.follow(node, self.monitor.begin_held_open(object, access, names), answer);
    }

    /// The same for a file that the open itself made without a name.
    pub(super) fn decide_nameless(
        self: &Arc<Self>,
        node: &Arc<Node>,
        caller: &Caller,
        flags: i32,
        answer: Answer,
    ) {
        let access = Access { tid: caller.tid, fsuid: caller.uid, fsgid: caller.gid, flags, created: false };
        let object: Arc<dyn Object> = Arc::clone(node) as Arc<dyn Object>;
        self.follow(node, self.monitor.begin_nameless(object, access), answer);
    }

    fn follow(self: &Arc<Self>, node: &Arc<Node>, begun: Begun, answer: Answer) {
        match begun {
            Begun::Done(decision) if !self.checks.is_busy(node.ino()) => {
                self.conclude(node, decision, answer)
            }
            Begun::Done(decision) => {
                let (fs, node) = (Arc::clone(self), Arc::clone(node));
                self.checks.submit(node.ino(), move || fs.conclude(&node, decision, answer));
            }
            Begun::Work(work) => {
                let (fs, node) = (Arc::clone(self), Arc::clone(node));
                self.checks.submit_steps(node.ino(), move || fs.check(node, work, answer));
            }
        }
    }

    /// Has the monitor decide, now or when it has waited for somebody.
    fn check(self: Arc<Self>, node: Arc<Node>, work: Work, answer: Answer) -> Next {
        match self.telling_changes(&node, || work.run()) {
            Step::Done(decision) => {
                self.conclude(&node, decision, answer);
                Next::DONE
            }
            Step::Later { work, at } => Next::later(at, move || self.check(node, work, answer)),
            Step::Large { work, user } => Next::large(user, move || self.check(node, work, answer)),
        }
    }

    /// Turns a decision into an answer.
    fn conclude(self: &Arc<Self>, node: &Arc<Node>, decision: Result<Grant, Denial>, answer: Answer) {
        let grant = match decision {
            Ok(grant) => grant,
            Err(denial) => return self.refuse(answer, denial.errno()),
        };
        match self.admit(node, &grant) {
            Ok(how) => match answer {
                Answer::Open(reply) => reply.opened(grant, how),
                Answer::Create(reply, entry) => reply.created(entry, grant, how),
            },
            Err(errno) => {
                // The monitor counts this open since it began, and the kernel will not release it.
                self.end_open(node, grant.flags(), grant.ticket());
                self.refuse(answer, errno);
            }
        }
    }

    pub(super) fn refuse(&self, answer: Answer, errno: Errno) {
        match answer {
            Answer::Open(reply) => reply.error(errno),
            Answer::Create(reply, entry) => {
                // The file is there, and the kernel goes on believing that it is not.
                if let Ok(node) = self.table.find(entry.ino) {
                    self.look_up_again(&node);
                }
                self.forget(entry.ino, 1);
                reply.error(errno);
            }
        }
    }

    /// Chooses the mode of a granted open and counts it.
    fn admit(&self, node: &Arc<Node>, grant: &Grant) -> Result<Opened, Errno> {
        // The grant is for one object, and this is the one that will be served.
        let granted = Arc::as_ptr(grant.object()).cast::<()>();
        if granted != Arc::as_ptr(node).cast::<()>() {
            return Err(Errno::ACCESS);
        }
        let path_fd = node.path_fd()?;
        let writable = grant.writable();
        let flush = writable;
        let mut opens = node.opens.lock();
        let mode = opens.mode.unwrap_or_else(|| self.choose(&mut opens, grant, &path_fd));
        if writable {
            opens.content_changes();
        }
        let how = match mode {
            OpenMode::Lent => {
                rehearse(&path_fd, grant.flags())?;
                Opened::Lent { file: opens.lent.clone().ok_or(Errno::IO)?, flush }
            }
            OpenMode::Cached => {
                if writable {
                    opens.prepare_writer(&path_fd, grant.flags())?;
                }
                Opened::Cached { renew: opens.renews_pages(grant, &path_fd), flush }
            }
        };
        opens.count(writable, mode);
        drop(opens);
        if let Some(counter) = self.opened.get(usize::from(mode == OpenMode::Lent)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(how)
    }

    /// The mode for an inode that is not open: small files are read through the page cache, where the pages stay
    /// and no request follows to refresh the access time; writers and large files are left to the kernel.
    fn choose(&self, opens: &mut Opens, grant: &Grant, path_fd: &impl AsFd) -> OpenMode {
        let small = grant.content().size() <= self.options.page_cache_limit;
        if !self.lends() || opens.unlendable || (small && !grant.writable()) {
            return OpenMode::Cached;
        }
        if opens.lent.is_some() {
            return OpenMode::Lent;
        }
        if !self.leases.get_or_init(|| has_leases(path_fd)) {
            tracing::info!("the source has no leases: its files are not lent to the kernel");
            self.lending.store(false, Ordering::Relaxed);
            return OpenMode::Cached;
        }
        match self.kernel.get().map(|kernel| kernel.lend(path_fd.as_fd())) {
            Some(Ok(file)) => {
                opens.lent = Some(file);
                OpenMode::Lent
            }
            Some(Err(Errno::LOOP)) => {
                tracing::info!(
                    "the source is a stack of filesystems: its files cannot be lent to the kernel"
                );
                self.lending.store(false, Ordering::Relaxed);
                OpenMode::Cached
            }
            Some(Err(errno)) => {
                tracing::debug!(%errno, "a file cannot be lent to the kernel");
                opens.unlendable = true;
                OpenMode::Cached
            }
            None => OpenMode::Cached,
        }
    }
}

/// Whether the backing filesystem grants leases. A mapping of a lent file outlives its open, and nothing but a lease
/// tells of it.
fn has_leases(path_fd: &impl AsFd) -> bool {
    let file = reopen(path_fd, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
    file.and_then(|file| sys::lease::is_open_for_writing(file.as_fd())).is_ok()
}

/// Opens the backing file as the kernel is about to, where that can be refused: the kernel would report every
/// refusal as EIO, and does not look at the immutable and append-only flags of what it was lent.
fn rehearse(path_fd: &impl AsFd, flags: i32) -> Result<(), Errno> {
    if flags & (libc::O_ACCMODE | libc::O_DIRECT) == libc::O_RDONLY {
        return Ok(());
    }
    let asked = flags & (libc::O_ACCMODE | libc::O_APPEND | libc::O_DIRECT);
    let asked = OFlags::from_bits_retain(asked.cast_unsigned()) | OFlags::NONBLOCK | OFlags::NOCTTY;
    match reopen(path_fd, asked) {
        // Somebody holds a lease: the kernel's open will wait for it, in the caller's time.
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(errno) => Err(errno),
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cached { renew, flush } => {
                f.debug_struct("Cached").field("renew", renew).field("flush", flush).finish()
            }
            Self::Lent { file, flush } => {
                f.debug_struct("Lent").field("id", &file.id()).field("flush", flush).finish()
            }
        }
    }
}
