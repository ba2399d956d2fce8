//! Set-id bits: dropping them when content changes, and not letting the kernel believe that they stand.
//!
//! The kernel leaves this to the server (`FUSE_HANDLE_KILLPRIV_V2`), because otherwise it asks for the file's
//! capabilities before each write to a lent file, and that is a request. In return:
//!
//! - What the server writes, truncates, allocates or copies, it does without `CAP_FSETID` where the request says that the
//!   caller has none, and where the request does not say. The backing filesystem then drops the bits, as it would for the
//!   caller itself.
//! - A file with set-id bits is not lent to a writer, so that each write comes here and says who writes. Where it is lent
//!   already, or gets the bits while it is, the kernel's own writes drop them, whoever writes: it opens lent files with
//!   the credentials under which they were lent, and those have no `CAP_FSETID`.
//! - The kernel does not notice that bits are gone. It is told, and while it writes such a file itself it may believe what
//!   it is told of the mode for no time at all.
//!
//! File capabilities need none of this: each write drops them, whoever writes, and the kernel does not keep them.

use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::attr::stat;
use super::node::Node;
use super::{Attr, Errno, Filesystem, Ino};

/// This thread without `CAP_FSETID`, until dropped.
#[must_use]
#[derive(Debug)]
pub(super) struct Unprivileged {
    own: CapabilitySets,
    /// Capabilities belong to a thread, so the guard must not leave it.
    _here: PhantomData<*const ()>,
}

impl Unprivileged {
    /// Takes the capability off.
    ///
    /// # Errors
    /// What `capget(2)` and `capset(2)` give.
    pub(super) fn begin() -> Result<Self, Errno> {
        let own = capabilities(None)?;
        let effective = own.effective - CapabilitySet::FSETID;
        set_capabilities(None, CapabilitySets { effective, ..own })?;
        Ok(Self { own, _here: PhantomData })
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        if let Err(errno) = set_capabilities(None, self.own) {
            // It is raised again within what is permitted, which needs no privilege.
            tracing::error!(%errno, "cannot take CAP_FSETID back");
        }
    }
}

/// Whether a mode has set-id bits.
pub(super) fn is_set_id(mode: u32) -> bool {
    mode & (libc::S_ISUID | libc::S_ISGID) != 0
}

/// Whether a write by somebody without privileges drops some of them. A set-group-ID bit without the group's right to
/// execute stays, for it gives nobody anything.
fn drops(mode: u32) -> bool {
    let group = libc::S_ISGID | libc::S_IXGRP;
    mode & libc::S_ISUID != 0 || mode & group == group
}

impl Filesystem {
    /// Changes the content of the file behind `fd`, whose node is `ino`, so that set-id bits go.
    ///
    /// # Errors
    /// Those of `change`.
    pub(super) fn dropping_set_id<R>(
        &self,
        ino: Ino,
        fd: impl AsFd,
        change: impl FnOnce() -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        if !drops(u32::from(stat(fd)?.stx_mode)) {
            return change();
        }
        let acting = Unprivileged::begin()?;
        let changed = change();
        drop(acting);
        self.mode_changed(ino);
        changed
    }

    /// Has the kernel ask for the mode again. Somebody in the kernel holds the inode meanwhile, or it would have to let go
    /// of it here.
    pub(super) fn mode_changed(&self, ino: Ino) {
        if let Some(kernel) = self.kernel.get() {
            kernel.attributes_changed(ino);
        }
    }

    /// How long the kernel may believe these attributes.
    #[must_use]
    pub fn attr_ttl(&self, ino: Ino, attr: &Attr) -> Duration {
        if ino.control().is_some() {
            return Duration::ZERO;
        }
        if !is_set_id(attr.mode) {
            return self.ttl();
        }
        self.table.find(ino).map_or(Duration::ZERO, |node| self.attr_ttl_of(&node, attr))
    }

    /// The same for an inode whose record is at hand.
    pub(super) fn attr_ttl_of(&self, node: &Node, attr: &Attr) -> Duration {
        let fleeting = is_set_id(attr.mode) && node.opens.lock().is_lent_to_writers();
        if fleeting { Duration::ZERO } else { self.ttl() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

    #[test]
    fn bits_drop_for_the_thread_that_has_put_its_privilege_off_and_stay_for_others() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
            eprintln!("skipped: needs root");
            return;
        }
        let file = tempfile::tempfile().unwrap();
        let mode = |file: &std::fs::File| file.metadata().unwrap().mode() & 0o7777;
        let mark = |mode| file.set_permissions(PermissionsExt::from_mode(mode)).unwrap();
        mark(0o6755);
        file.write_all_at(b"x", 0).unwrap();
        assert_eq!(mode(&file), 0o6755);
        let acting = Unprivileged::begin().unwrap();
        file.write_all_at(b"x", 0).unwrap();
        assert_eq!(mode(&file), 0o755);
        drop(acting);
        mark(0o4755);
        file.write_all_at(b"x", 0).unwrap();
        assert_eq!(mode(&file), 0o4755);
    }

    #[test]
    fn bits_that_give_nobody_anything_are_left() {
        for (mode, set_id, gone) in [
            (0o100_755, false, false),
            (0o104_755, true, true),
            (0o104_644, true, true),
            (0o102_755, true, true),
            (0o102_745, true, false),
            (0o101_777, false, false),
        ] {
            assert_eq!((is_set_id(mode), drops(mode)), (set_id, gone), "{mode:o}");
        }
    }
}
