//! RENAME, with NOREPLACE and EXCHANGE.

use std::ffi::OsStr;
use std::sync::Arc;

use rustix::fs::{RenameFlags, renameat_with};

use super::forget::Seen;
use super::names::has_several;
use super::node::{Node, Place};
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
            self.name_removed(victim, renamed.is_ok());
        }
        renamed?;
        if let Some((node, links)) = moved {
            self.moved(&node, links, (&from, name), (&to, new_name));
        }
        if let Some((node, links)) = met {
            self.moved(&node, links, (&to, new_name), (&from, name));
        }
        Ok(())
    }

    /// The record of the inode behind a name, if the kernel knows it, and how many names the inode has.
    fn known(&self, directory: &Arc<Node>, name: &OsStr) -> Option<(Seen<'_>, u32)> {
        let found = self.probe(directory, name).ok()?;
        Some((self.see(&found.key)?, found.stat.stx_nlink))
    }

    fn moved(&self, node: &Arc<Node>, links: u32, from: (&Arc<Node>, &OsStr), to: (&Arc<Node>, &OsStr)) {
        self.place(node, to.0, to.1, links);
        let from = Place::new(from.0, from.1);
        // Renaming one name of an inode to another of its names does nothing, and succeeds.
        if has_several(node.kind(), links) {
            if !self.vault.leads_to(&from, node) {
                self.name_gone(node, &from, links);
            }
            // What was to expire the name when the inode got its second one may have come too late for the old name.
            self.look_up_again(node);
        }
    }
}
