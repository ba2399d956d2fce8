//! FLUSH and RELEASE: the end of an open.

use std::sync::Arc;

use monitor::Object;

use super::{Errno, Filesystem, Ino};

impl Filesystem {
    /// One descriptor of an open file is being closed.
    ///
    /// Nothing is held back that would have to be written now: writes went to the backing file.
    ///
    /// # Errors
    /// For control files, what committing them gives: the answer of `close(2)`.
    pub fn flush(&self, ino: Ino, fh: u64) -> Result<(), Errno> {
        match ino.control() {
            Some(_) => self.control()?.flush(fh),
            None => Ok(()),
        }
    }

    /// Ends the open that was made with `flags`. Called in the reader thread, in request order.
    pub fn release(self: &Arc<Self>, ino: Ino, fh: u64, flags: i32) {
        if ino.control().is_some() {
            if let Ok(control) = self.control() {
                control.release(fh);
            }
            return;
        }
        let Ok(node) = self.table.find(ino) else { return };
        node.opens.lock().uncount(flags & libc::O_ACCMODE != libc::O_RDONLY);
        let object: Arc<dyn Object> = Arc::clone(&node) as Arc<dyn Object>;
        if let Some(closing) = self.monitor.release(object, flags) {
            let fs = Arc::clone(self);
            self.checks.submit(ino, move || {
                closing.run();
                // A label that was redone changed the change time.
                if let Some(kernel) = fs.kernel.get() {
                    kernel.attributes_changed(ino);
                }
            });
        }
    }
}
