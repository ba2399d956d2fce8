//! From an operation's result to the answer, for every kind of answer but that to an open.

use std::time::Duration;

use super::pending::Pending;
use super::wire::Message;
use crate::fs::{Attr, Errno, Extended, Looked, Statfs, XattrAnswer};

/// A deferred answer.
pub(super) type Later<T> = Box<dyn FnOnce(Result<T, Errno>) + Send>;

impl Pending {
    /// Answers a lookup, or whatever made a name.
    pub(super) fn looked(self, result: Result<Looked, Errno>) {
        self.with(result, |message, looked| match looked {
            Looked::Found(entry) => message.entry_out(&entry),
            Looked::Absent(ttl) => message.absent_out(ttl),
        });
    }

    /// Answers with attributes, to be believed for `ttl`.
    pub(super) fn attr(self, ttl: Duration, result: Result<Attr, Errno>) {
        self.with(result, |message, attr| message.attr_out(&attr, ttl));
    }

    /// The same with what `statx(2)` shows beyond them.
    pub(super) fn extended(self, ttl: Duration, result: Result<Extended, Errno>) {
        self.with(result, |message, found| message.statx_out(&found, ttl));
    }

    /// Answers with the figures of the filesystem.
    pub(super) fn statfs(self, result: Result<Statfs, Errno>) {
        self.with(result, |message, figures| message.statfs_out(&figures));
    }

    /// Answers with the number of bytes written or copied.
    pub(super) fn written(self, result: Result<u32, Errno>) {
        self.with(result, |message, size| message.size_out(size));
    }

    /// Answers with a number of 64 bits: an offset, or how many bytes were copied.
    pub(super) fn number(self, result: Result<u64, Errno>) {
        self.with(result, |message, number| message.number_out(number));
    }

    /// Answers that it is done.
    pub(super) fn empty(self, result: Result<(), Errno>) {
        self.with(result, |_, ()| ());
    }

    /// Answers with bytes.
    pub(super) fn data(self, result: Result<Vec<u8>, Errno>) {
        match result {
            Ok(data) => self.send(&data),
            Err(error) => self.error(error),
        }
    }

    /// Answers with an attribute, a list of names, or the size of one.
    pub(super) fn xattr(self, result: Result<XattrAnswer, Errno>) {
        match result {
            Ok(XattrAnswer::Size(size)) => self.written(Ok(size)),
            Ok(XattrAnswer::Data(data)) => self.send(&data),
            Err(error) => self.error(error),
        }
    }

    /// Answers an ioctl with what it returns by pointer.
    pub(super) fn ioctl(self, result: Result<Vec<u8>, Errno>) {
        match result {
            Ok(output) => {
                let mut message = Message::default();
                message.ioctl_out();
                self.send_both(message.bytes(), &output);
            }
            Err(error) => self.error(error),
        }
    }

    /// Answers later, in one of these ways.
    pub(super) fn later<T: 'static>(self, answer: fn(Self, Result<T, Errno>)) -> Later<T> {
        Box::new(move |result| answer(self, result))
    }

    fn with<T>(self, result: Result<T, Errno>, encode: impl FnOnce(&mut Message, T)) {
        match result {
            Ok(value) => {
                let mut message = Message::default();
                encode(&mut message, value);
                self.send(message.bytes());
            }
            Err(error) => self.error(error),
        }
    }
}
