//! RENAME, with NOREPLACE and EXCHANGE.

use std::ffi::OsStr;
use std::sync::Arc;

use rustix::fs::{RenameFlags, renameat_with};

use super::node::Node;
use super::{Errno, Filesystem, Ino};

impl Filesystem {
    /// Renames `name` in `parent` to `new_name` in `new_parent`. `flags` are those of `renameat2(2)`.
    ///
    /// # Errors
    /// [`Errno::INVAL`] for `RENAME_WHITEOUT` and unknown flags, else what `renameat2(2)` gives.
    pub fn rename(
        &self,
        parent: Ino,
        name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
        flags: u32,
    ) -> Result<(), Errno> {
        let allowed = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
        let flags = RenameFlags::from_bits(flags).filter(|f| allowed.contains(*f)).ok_or(Errno::INVAL)?;
        let (from, name) = self.writable_directory(parent, name)?;
        let (to, new_name) = self.writable_directory(new_parent, new_name)?;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let moved = self.known(&from, name);
        let met = if exchange { self.known(&to, new_name) } else { None };
        let victim = (!exchange).then(|| self.save_victim(&to, new_name));
        let renamed = renameat_with(from.path_fd()?, name, to.path_fd()?, new_name, flags);
        if let Some(victim) = victim {
            victim.settle(renamed.is_ok());
        }
        renamed?;
        if let Some(node) = moved {
            self.place(&node, &to, new_name);
        }
        if let Some(node) = met {
            self.place(&node, &from, name);
        }
        Ok(())
    }

    /// The record of the inode behind a name, if the kernel knows it.
    fn known(&self, directory: &Arc<Node>, name: &OsStr) -> Option<Arc<Node>> {
        let found = self.probe(directory, name).ok()?;
        self.table.peek(&found.key)
    }
}
