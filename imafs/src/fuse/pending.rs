//! Replies that are sent past fuser, and the one place where an OPEN or CREATE is answered with success.
//!
//! fuser's own reply object is kept until then: if ours is dropped unanswered, fuser's drop answers with an error.

use std::sync::Arc;

use fuser::{FopenFlags, ReplyAttr, ReplyCreate, ReplyDirectoryPlus, ReplyEntry, ReplyOpen, Request};
use monitor::Grant;

use super::convert::errno;
use super::device::Device;
use super::wire::Message;
use crate::fs::{CreateReply, Entry, Errno, Handle, OpenReply, Opened};

/// fuser's reply objects that can be answered with an error.
pub trait Refuse {
    /// Answers with an error.
    fn refuse(self, errno: fuser::Errno);
}

macro_rules! refuse {
    ($($reply:ty),*) => {
        $(impl Refuse for $reply {
            fn refuse(self, errno: fuser::Errno) {
                self.error(errno);
            }
        })*
    };
}

refuse!(ReplyEntry, ReplyAttr, ReplyOpen, ReplyCreate, ReplyDirectoryPlus);

/// A request that has not been answered.
#[derive(Debug)]
pub struct Pending<R> {
    device: Arc<Device>,
    unique: u64,
    reply: R,
}

impl<R: Refuse> Pending<R> {
    /// Takes over the answer to `request`.
    pub fn new(device: &Arc<Device>, request: &Request, reply: R) -> Self {
        Self { device: Arc::clone(device), unique: request.unique().0, reply }
    }

    /// Answers with success.
    pub fn send(self, message: &Message) {
        match self.device.reply(self.unique, message) {
            Ok(()) => {
                // Its drop would answer a second time. What is left behind is one count on fuser's device
                // reference, no memory; the descriptor then closes with the process.
                std::mem::forget(self.reply);
            }
            Err(Errno::NOENT | Errno::NODEV) => std::mem::forget(self.reply),
            Err(error) => {
                tracing::error!(%error, "the kernel refused a reply");
                self.reply.refuse(fuser::Errno::EIO);
            }
        }
    }

    /// Answers with an error.
    pub fn error(self, error: Errno) {
        self.reply.refuse(errno(error));
    }
}

impl Pending<ReplyOpen> {
    /// Answers the open of a control file: no grant, and no way to carry a backing file. Its content is made at
    /// the open, so the kernel must not keep pages of it.
    pub fn opened_control(self, fh: u64) {
        let mut message = Message::default();
        message.open_out(fh, FopenFlags::FOPEN_DIRECT_IO.bits(), 0);
        self.send(&message);
    }

    /// Answers OPENDIR.
    pub fn opened_directory(self, fh: u64, cache: bool) {
        let flags = if cache {
            FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
        } else {
            FopenFlags::empty()
        };
        let mut message = Message::default();
        message.open_out(fh, flags.bits(), 0);
        self.send(&message);
    }
}

impl OpenReply for Pending<ReplyOpen> {
    fn opened(self: Box<Self>, grant: Grant, how: Opened) {
        let mut message = Message::default();
        open_out(&mut message, grant, &how);
        self.send(&message);
    }

    fn error(self: Box<Self>, errno: Errno) {
        Self::error(*self, errno);
    }
}

impl CreateReply for Pending<ReplyCreate> {
    fn created(self: Box<Self>, entry: Entry, grant: Grant, how: Opened) {
        let mut message = Message::default();
        message.entry_out(&entry);
        open_out(&mut message, grant, &how);
        self.send(&message);
    }

    fn error(self: Box<Self>, errno: Errno) {
        Self::error(*self, errno);
    }
}

/// Turns the monitor's grant into the words that open a file. Nothing else does; the grant is used up.
fn open_out(message: &mut Message, grant: Grant, how: &Opened) {
    let (renewal, mut flags, flush, backing_id) = match how {
        Opened::Cached { renew: None, flush } => (0, FopenFlags::FOPEN_KEEP_CACHE, *flush, 0),
        Opened::Cached { renew: Some(number), flush } => (*number, FopenFlags::empty(), *flush, 0),
        Opened::Lent { file, flush } => (0, FopenFlags::FOPEN_PASSTHROUGH, *flush, file.id()),
    };
    if !flush {
        flags |= FopenFlags::FOPEN_NOFLUSH;
    }
    message.open_out(Handle::new(renewal, grant.ticket()).0, flags.bits(), backing_id);
    drop(grant);
}
