//! Answers that are owed, and the one place where a request that opens a file is answered with success.
//!
//! Which of the two kinds an answer is of goes by the request's opcode, when it is taken over: an [`Opening`] has no way to
//! say yes but with the monitor's grant, and what a [`Pending`] sends never reaches a request that opens a file.

use std::sync::Arc;

use monitor::Grant;

use super::abi::{
    FOPEN_CACHE_DIR, FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, FOPEN_PASSTHROUGH, opcode,
};
use super::device::Device;
use super::request::Header;
use super::wire::Message;
use crate::fs::{CreateReply, Entry, Errno, Handle, OpenReply, Opened};

/// The answer to a request, by what the request may be answered with.
#[derive(Debug)]
pub enum Owed {
    /// It opens a file.
    Opening(Opening),
    /// It does not.
    Plain(Pending),
}

impl Owed {
    /// Takes over the answer to the request with this header.
    pub fn to(header: &Header, device: &Arc<Device>) -> Self {
        let pending = Pending { device: Arc::clone(device), unique: header.unique };
        match header.opcode {
            opcode::OPEN | opcode::CREATE | opcode::TMPFILE => Self::Opening(Opening(pending)),
            _ => Self::Plain(pending),
        }
    }

    /// Answers with an error.
    pub fn error(self, error: Errno) {
        match self {
            Self::Opening(Opening(pending)) | Self::Plain(pending) => pending.error(error),
        }
    }
}

/// A request that has not been answered and opens no file. Dropping it answers with an I/O error, so that nobody waits
/// for ever.
#[derive(Debug)]
pub struct Pending {
    device: Arc<Device>,
    /// The request's number; 0, which the kernel gives none, once it is answered.
    unique: u64,
}

/// A request that has not been answered and opens a file. Dropping it is as with [`Pending`].
#[derive(Debug)]
pub struct Opening(Pending);

impl Pending {
    /// Answers that it is done.
    pub fn done(self) {
        self.send(&[]);
    }

    /// Answers with success.
    pub fn send(self, body: &[u8]) {
        self.send_both(body, &[]);
    }

    /// Answers with success and two pieces, which the kernel gets as one.
    pub fn send_both(mut self, first: &[u8], second: &[u8]) {
        self.answer(0, [first, second]);
    }

    /// Answers with an error.
    ///
    /// ENOSYS is a word of the protocol: "never ask this again". Answered to OPEN it would end all checks. What the
    /// backing filesystem calls so is an I/O error to us.
    pub fn error(mut self, error: Errno) {
        let error = if error == Errno::NOSYS { Errno::IO } else { error };
        self.answer(-error.raw_os_error(), [&[], &[]]);
    }

    /// Answers that the server has nothing to say to requests of this kind: the kernel then does what it does without
    /// one, and for most kinds asks no more.
    pub fn unsupported(mut self) {
        self.answer(-Errno::NOSYS.raw_os_error(), [&[], &[]]);
    }

    fn answer(&mut self, code: i32, body: [&[u8]; 2]) {
        match self.device.reply(self.unique, code, body) {
            // The request was abandoned, or the mount is gone.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => self.unique = 0,
            Err(error) => tracing::error!(%error, "the kernel refused an answer"),
        }
    }

    /// Answers OPENDIR.
    pub fn opened_directory(self, fh: u64, cache: bool) {
        let flags = if cache { FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE } else { 0 };
        let mut message = Message::default();
        message.open_out(fh, flags, 0);
        self.send(message.bytes());
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.unique != 0 {
            // An answer that was refused is tried as an error, once; there is nobody to tell if that fails too.
            let _told = self.device.reply(self.unique, -Errno::IO.raw_os_error(), [&[], &[]]);
        }
    }
}

impl Opening {
    /// Answers the open of a control file: no grant, and no way to carry a backing file. Its content is made at
    /// the open, so the kernel must not keep pages of it.
    pub fn opened_control(self, fh: u64) {
        let mut message = Message::default();
        message.open_out(fh, FOPEN_DIRECT_IO, 0);
        self.0.send(message.bytes());
    }

    /// Answers with an error.
    pub fn error(self, error: Errno) {
        self.0.error(error);
    }
}

impl OpenReply for Opening {
    fn opened(self: Box<Self>, grant: Grant, how: Opened) {
        let mut message = Message::default();
        open_out(&mut message, grant, &how);
        self.0.send(message.bytes());
    }

    fn error(self: Box<Self>, errno: Errno) {
        (*self).error(errno);
    }
}

impl CreateReply for Opening {
    fn created(self: Box<Self>, entry: Entry, grant: Grant, how: Opened) {
        let mut message = Message::default();
        message.entry_out(&entry);
        open_out(&mut message, grant, &how);
        self.0.send(message.bytes());
    }

    fn error(self: Box<Self>, errno: Errno) {
        (*self).error(errno);
    }
}

/// Turns the monitor's grant into the words that open a file. Nothing else does; the grant is used up.
fn open_out(message: &mut Message, grant: Grant, how: &Opened) {
    let (renewal, mut flags, flush, backing_id) = match how {
        Opened::Cached { renew: None, flush } => (0, FOPEN_KEEP_CACHE, *flush, 0),
        Opened::Cached { renew: Some(number), flush } => (*number, 0, *flush, 0),
        Opened::Lent { file, flush } => (0, FOPEN_PASSTHROUGH, *flush, file.id()),
    };
    if !flush {
        flags |= FOPEN_NOFLUSH;
    }
    message.open_out(Handle::new(renewal, grant.ticket()).0, flags, backing_id);
    drop(grant);
}
