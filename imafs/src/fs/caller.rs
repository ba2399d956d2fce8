//! Creating as the caller: owner, group, umask and default ACLs come out exactly as on the backing filesystem.
//!
//! The kernel has checked the caller's permissions on the mount (`default_permissions`), with supplementary groups
//! that no request tells of, and has stripped the set-group-ID bit where the caller may not set it. So only the
//! identity is the caller's here: the capabilities that the identity change drops are raised again.

use std::cell::Cell;
use std::marker::PhantomData;

use rustix::fs::Mode;
use rustix::process::umask;
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};
use sys::credentials::{set_fsgid, set_fsuid, unshare_fs_attributes};

use super::Errno;

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Thread id in our pid namespace, 0 when it is not visible from there.
    pub tid: u32,
    /// Filesystem uid.
    pub uid: u32,
    /// Filesystem gid.
    pub gid: u32,
}

thread_local! {
    /// Capabilities of this thread before it ever acted for anyone; set with the first act.
    static OWN: Cell<Option<CapabilitySets>> = const { Cell::new(None) };
}

/// Acting for a caller on this thread until dropped.
#[must_use]
#[derive(Debug)]
pub(super) struct CallerGuard {
    own: CapabilitySets,
    changed: bool,
    umask: Mode,
    /// Credentials belong to a thread, so the guard must not leave it.
    _here: PhantomData<*const ()>,
}

impl CallerGuard {
    /// Takes on the caller's filesystem ids and the request's umask.
    ///
    /// # Errors
    /// [`Errno::PERM`] when the ids cannot be taken on; nothing has changed then.
    pub(super) fn act_as(caller: &Caller, mask: u32) -> Result<Self, Errno> {
        let own = own_capabilities()?;
        let changed = caller.uid != 0 || caller.gid != 0;
        let guard =
            Self { own, changed, umask: umask(Mode::from_raw_mode(mask & 0o777)), _here: PhantomData };
        if changed {
            // On a failure the guard is dropped and puts everything back.
            set_fsgid(caller.gid)?;
            set_fsuid(caller.uid)?;
            set_capabilities(None, own)?;
        }
        Ok(guard)
    }
}

impl Drop for CallerGuard {
    fn drop(&mut self) {
        umask(self.umask);
        if !self.changed {
            return;
        }
        let restored = set_fsuid(0).and(set_fsgid(0)).and_then(|()| set_capabilities(None, self.own));
        if let Err(errno) = restored {
            // Going back to root needs no privilege beyond CAP_SETUID and CAP_SETGID, which are never given up.
            tracing::error!(%errno, "cannot put back the reader's own credentials");
        }
    }
}

/// The thread's own capabilities; the first call also gives it a umask of its own.
fn own_capabilities() -> Result<CapabilitySets, Errno> {
    if let Some(own) = OWN.get() {
        return Ok(own);
    }
    unshare_fs_attributes()?;
    let own = capabilities(None)?;
    OWN.set(Some(own));
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn what_is_created_belongs_to_the_caller_although_the_directory_is_closed_to_it() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI");
            eprintln!("skipped: needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let path = directory.path().join("file");
        std::thread::spawn(move || {
            let guard = CallerGuard::act_as(&Caller { tid: 0, uid: 1234, gid: 4321 }, 0o027).unwrap();
            std::fs::write(&path, b"").unwrap();
            drop(guard);
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1234, 4321, 0o640));
            std::fs::write(path.with_extension("own"), b"").unwrap();
            let own = std::fs::metadata(path.with_extension("own")).unwrap();
            assert_eq!((own.uid(), own.gid()), (0, 0));
        })
        .join()
        .unwrap();
    }
}
