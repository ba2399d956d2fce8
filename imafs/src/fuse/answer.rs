//! From an operation's result to the reply, for every kind of reply but that of an open.

use std::time::Duration;

use fuser::{ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, ReplyXattr};

use super::convert::errno;
use super::pending::Pending;
use super::wire::Message;
use crate::fs::{Attr, Errno, Looked, Statfs, XattrAnswer};

/// Answers a lookup, or whatever made a name.
pub(super) fn looked(pending: Pending<ReplyEntry>, result: Result<Looked, Errno>) {
    let mut message = Message::with_capacity(128);
    match result {
        Ok(Looked::Found(entry)) => message.entry_out(&entry),
        Ok(Looked::Absent(ttl)) => message.absent_out(ttl),
        Err(error) => return pending.error(error),
    }
    pending.send(&message);
}

/// Answers with attributes, to be believed for `ttl`.
pub(super) fn attr(pending: Pending<ReplyAttr>, ttl: Duration, result: Result<Attr, Errno>) {
    let mut message = Message::with_capacity(104);
    match result {
        Ok(attr) => message.attr_out(&attr, ttl),
        Err(error) => return pending.error(error),
    }
    pending.send(&message);
}

/// Answers that it is done.
pub(super) fn empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

/// The same, deferred.
pub(super) fn later(reply: ReplyEmpty) -> Box<dyn FnOnce(Result<(), Errno>) + Send> {
    Box::new(move |result| empty(reply, result))
}

/// Answers with bytes.
pub(super) fn data(reply: ReplyData, result: Result<Vec<u8>, Errno>) {
    match result {
        Ok(data) => reply.data(&data),
        Err(error) => reply.error(errno(error)),
    }
}

/// Answers with the number of bytes written.
pub(super) fn written(reply: ReplyWrite, result: Result<u32, Errno>) {
    match result {
        Ok(written) => reply.written(written),
        Err(error) => reply.error(errno(error)),
    }
}

/// Answers with an attribute, a list of names, or the size of one.
pub(super) fn xattr(reply: ReplyXattr, result: Result<XattrAnswer, Errno>) {
    match result {
        Ok(XattrAnswer::Size(size)) => reply.size(size),
        Ok(XattrAnswer::Data(data)) => reply.data(&data),
        Err(error) => reply.error(errno(error)),
    }
}

/// Answers with the figures of the filesystem.
pub(super) fn statfs(reply: ReplyStatfs, result: Result<Statfs, Errno>) {
    match result {
        Ok(s) => reply.statfs(s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.bsize, s.namelen, s.frsize),
        Err(error) => reply.error(errno(error)),
    }
}
