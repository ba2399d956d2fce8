//! FLUSH and RELEASE: the end of an open.

use std::sync::Arc;

use monitor::{Object, Ticket};

use super::attr::stat;
use super::node::Node;
use super::{Errno, Filesystem, Handle, Ino};

impl Filesystem {
    /// One descriptor of an open file is being closed.
    ///
    /// Nothing is held back that would have to be written now: writes went to the backing file.
    ///
    /// # Errors
    /// For control files, what they say: the answer of `close(2)`.
    pub fn flush(&self, ino: Ino, fh: u64) -> Result<(), Errno> {
        match ino.control() {
            Some(_) => self.control()?.flush(fh),
            None => Ok(()),
        }
    }

    /// Ends the open that was made with `flags`. Called in the reader thread, in request order.
    pub fn release(self: &Arc<Self>, ino: Ino, fh: u64, flags: i32) {
        if ino.control().is_some() {
            if let Ok(control) = self.control()
                && let Some(work) = control.release(fh)
            {
                self.checks.submit(ino, work);
            }
            return;
        }
        let Ok(node) = self.table.find(ino) else { return };
        node.opens.lock().uncount(flags & libc::O_ACCMODE != libc::O_RDONLY);
        self.end_open(&node, flags, Handle(fh).ticket());
    }

    /// Tells the monitor that an open has ended, and queues what the last writer's close leaves to be done.
    pub(super) fn end_open(self: &Arc<Self>, node: &Arc<Node>, flags: i32, ticket: Ticket) {
        let object: Arc<dyn Object> = Arc::clone(node) as Arc<dyn Object>;
        if let Some(closing) = self.monitor.release(object, flags, ticket) {
            self.queue_closing(node, closing);
        }
    }

    /// Runs work of the monitor, and tells the kernel if it changed the inode's attributes: a label that is written
    /// changes the change time.
    pub(super) fn telling_changes<R>(&self, node: &Node, work: impl FnOnce() -> R) -> R {
        let change_time = || {
            let time = stat(node.path_fd().ok()?).ok()?.stx_ctime;
            Some((time.tv_sec, time.tv_nsec))
        };
        let before = change_time();
        let result = work();
        let after = change_time();
        if before != after
            && let Some(kernel) = self.kernel.get()
        {
            kernel.attributes_changed(node.ino());
        }
        result
    }
}
