//! Extended attributes, POSIX ACLs among them.
//!
//! `security.ima` and `security.evm` are the monitor's: it is asked before they are set and told after. A read of
//! `security.ima` waits for queued work of the inode, which may be about to renew it.
//!
//! Whatever holds the labels of the mount, they are seen and set as `security.ima`. Attributes that could become labels
//! under another mount are neither seen nor set.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use appraise::{IMA, StoredLabel};
use monitor::{Access, Change, Object};
use rustix::fs::{AtFlags, CWD, Mode, XattrFlags, chmodat, getxattr, listxattr, removexattr, setxattr, stat};

use super::data::Reply;
use super::node::Node;
use super::{Caller, Errno, Filesystem, Ino};

/// Hidden from callers that are not root, as the kernel hides it from those without `CAP_SYS_ADMIN`.
const TRUSTED: &[u8] = b"trusted.";

/// What the names of our own attributes begin with.
const OWN: &[u8] = b"user.imafs.";

/// What the names of POSIX access lists begin with.
const ACCESS_LIST: &[u8] = b"system.posix_acl_";

/// `security.ima` in a list of names.
const LISTED_IMA: &[u8] = b"security.ima\0";

/// The answer to a request for a value or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XattrAnswer {
    /// The size was asked for, in bytes.
    Size(u32),
    /// The value, or the names each ended by a zero byte.
    Data(Vec<u8>),
}

impl Filesystem {
    /// Reads an attribute; a `size` of 0 asks for its size only.
    ///
    /// Errors are `ENODATA` when there is none and `ERANGE` when it is longer than `size`.
    pub fn getxattr(self: &Arc<Self>, ino: Ino, name: &OsStr, size: u32, reply: Reply<XattrAnswer>) {
        if ino.control().is_some() {
            return reply(Err(Errno::NODATA));
        }
        if name == IMA {
            if let Ok(node) = self.table.find(ino) {
                self.queue_owed(&node);
            }
            if self.checks.is_busy(ino) {
                let (fs, name) = (Arc::clone(self), name.to_owned());
                return self.checks.submit(ino, move || reply(fs.value(ino, &name, size)));
            }
        }
        reply(self.value(ino, name, size));
    }

    /// Lists the names of attributes; a `size` of 0 asks for the size of the list only.
    ///
    /// # Errors
    /// [`Errno::RANGE`] when the list is longer than `size`.
    pub fn listxattr(&self, caller: &Caller, ino: Ino, size: u32) -> Result<XattrAnswer, Errno> {
        if ino.control().is_some() {
            return answer(Vec::new(), size);
        }
        let node = self.table.find(ino)?;
        let link = node.link()?;
        let names = whole(|buffer| listxattr(link.path(), buffer))?;
        let labels_show = self.monitor.options().labels.attribute() == Some(IMA);
        let shown = |name: &[u8]| {
            let trusted = caller.uid != 0 && name.starts_with(TRUSTED);
            !trusted && !name.starts_with(OWN) && (labels_show || name != LISTED_IMA)
        };
        let mut names: Vec<u8> =
            names.split_inclusive(|byte| *byte == 0).filter(|name| shown(name)).flatten().copied().collect();
        if !labels_show && matches!(self.label(&node), Ok(StoredLabel::Value(_))) {
            names.extend(LISTED_IMA);
        }
        answer(names, size)
    }

    /// Sets an attribute. `flags` are those of `setxattr(2)`. An access list by a caller who is neither of the file's
    /// group nor privileged `kills_sgid`; the backing sees this process as the caller, and would keep the bit.
    ///
    /// # Errors
    /// The monitor's refusal, or what the backing filesystem gives.
    pub fn setxattr(
        &self,
        caller: &Caller,
        ino: Ino,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        kills_sgid: bool,
    ) -> Result<(), Errno> {
        let node = self.node_for_label(caller, ino, name, Some(value))?;
        let flags = XattrFlags::from_bits(flags.cast_unsigned()).ok_or(Errno::INVAL)?;
        if kills_sgid {
            // Before the list, which may let the group execute the file.
            drop_sgid(&node)?;
        }
        setxattr(node.link()?.path(), self.stored_as(name)?, value, flags)?;
        if name == IMA {
            self.monitor.changed(node.as_ref(), Change::Label(value.first().copied()));
        }
        Ok(())
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// The monitor's refusal, or what the backing filesystem gives.
    pub fn removexattr(&self, caller: &Caller, ino: Ino, name: &OsStr) -> Result<(), Errno> {
        let node = self.node_for_label(caller, ino, name, None)?;
        removexattr(node.link()?.path(), self.stored_as(name)?)?;
        if name == IMA {
            self.monitor.changed(node.as_ref(), Change::Label(None));
        }
        Ok(())
    }

    /// The record whose attribute is to change, if the monitor lets it.
    fn node_for_label(
        &self,
        caller: &Caller,
        ino: Ino,
        name: &OsStr,
        value: Option<&[u8]>,
    ) -> Result<Arc<Node>, Errno> {
        if ino.control().is_some() {
            return Err(Errno::PERM);
        }
        self.refuse_if_read_only()?;
        if name.as_bytes().starts_with(OWN) {
            return Err(Errno::PERM);
        }
        let node = self.table.find(ino)?;
        if name.as_bytes().starts_with(b"security.") {
            let access =
                Access { tid: caller.tid, fsuid: caller.uid, fsgid: caller.gid, flags: 0, created: false };
            self.monitor.check_label(node.as_ref(), &access, name, value).map_err(|denial| denial.errno())?;
        }
        Ok(node)
    }

    /// The attribute of the backing file that stands for `name`: `EOPNOTSUPP` for a label where no attribute holds any.
    fn stored_as<'a>(&self, name: &'a OsStr) -> Result<&'a OsStr, Errno> {
        if name != IMA {
            return Ok(name);
        }
        self.monitor.options().labels.attribute().map(OsStr::new).ok_or(Errno::OPNOTSUPP)
    }

    /// The label by the name under which the file was last looked up.
    fn label(&self, node: &Node) -> Result<StoredLabel, Errno> {
        let labels = &self.monitor.options().labels;
        let place = labels.place_of(|| node.path());
        labels.read(place, node.path_fd()?).map_err(|error| error.errno())
    }

    fn value(&self, ino: Ino, name: &OsStr, size: u32) -> Result<XattrAnswer, Errno> {
        let node = self.table.find(ino)?;
        if name == IMA {
            return match self.label(&node)? {
                StoredLabel::Value(value) => answer(value, size),
                StoredLabel::Missing => Err(Errno::NODATA),
                StoredLabel::Unsupported => Err(Errno::OPNOTSUPP),
            };
        }
        if name.as_bytes().starts_with(OWN) {
            return Err(Errno::NODATA);
        }
        let link = node.link()?;
        match whole(|buffer| getxattr(link.path(), name, buffer)) {
            // The kernel asks for access lists to check permissions, and would pass on "not supported" as the outcome.
            Err(Errno::OPNOTSUPP) if name.as_bytes().starts_with(ACCESS_LIST) => Err(Errno::NODATA),
            value => answer(value?, size),
        }
    }
}

/// Takes S_ISGID off a file.
fn drop_sgid(node: &Node) -> Result<(), Errno> {
    let link = node.link()?;
    let mode = Mode::from_raw_mode(stat(link.path())?.st_mode & 0o7777);
    if mode.contains(Mode::SGID) {
        chmodat(CWD, link.path(), mode.difference(Mode::SGID), AtFlags::empty())?;
    }
    Ok(())
}

/// Reads a value or list of unknown length.
fn whole(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    /// Most values and lists fit.
    const FIRST: usize = 1024;
    /// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`, include/uapi/linux/limits.h.
    const LONGEST: usize = 65_536;
    let mut buffer = vec![0; FIRST];
    let length = match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer = vec![0; LONGEST];
            read(&mut buffer)
        }
        other => other,
    }?;
    buffer.truncate(length);
    Ok(buffer)
}

/// The answer in the form that `size` asks for.
fn answer(value: Vec<u8>, size: u32) -> Result<XattrAnswer, Errno> {
    let length = u32::try_from(value.len()).map_err(|_| Errno::RANGE)?;
    match size {
        0 => Ok(XattrAnswer::Size(length)),
        room if length <= room => Ok(XattrAnswer::Data(value)),
        _ => Err(Errno::RANGE),
    }
}
