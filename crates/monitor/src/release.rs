//! The last writer's close: what was known of the content goes, and its hash label is redone.
//!
//! `spec/ima-hooks.md` section 5, `spec/ima-appraisal.md` section 5; `ima_check_last_writer` in ima_main.c.

use std::fmt;
use std::sync::Arc;

use appraise::{collect, facts, write_label};

use crate::monitor::Monitor;
use crate::object::Object;

/// The work that the last writer's close leaves.
///
/// Must run, in its place among the work of the same inode, before a later request on it is answered.
#[must_use = "a close that is not worked off leaves the inode waiting"]
pub struct Closing {
    monitor: Arc<Monitor>,
    object: Arc<dyn Object>,
}

impl Closing {
    pub(crate) fn new(monitor: Arc<Monitor>, object: Arc<dyn Object>) -> Self {
        Self { monitor, object }
    }

    /// Forgets what no longer stands and writes the hash label, if it is to be kept up.
    ///
    /// A label that cannot be written is told in the log only: the next check then denies, as in the kernel.
    pub fn run(self) {
        let Ok(now) = self.object.stat_fd().and_then(|fd| Ok(facts(fd)?)) else {
            self.object.state().with(|inner| inner.forget_content());
            return;
        };
        let relabel = self.object.state().with(|inner| {
            let relabel = std::mem::take(&mut inner.relabel);
            let unchanged =
                inner.collected.is_some_and(|old| old.stable && old.version == now.version) && !inner.new;
            if unchanged {
                return false;
            }
            let kept_up = (inner.file_status_passes() || inner.hashed) && !inner.signed;
            inner.new = false;
            inner.forget_content();
            relabel && kept_up
        });
        if relabel && let Err(error) = self.write_label() {
            tracing::warn!(path = %self.object.path().escape_ascii(), %error, "cannot renew the hash label");
        }
    }

    fn write_label(&self) -> std::io::Result<()> {
        let content = self.object.read_fd()?;
        let collected = collect(content, self.monitor.options.hash).map_err(std::io::Error::other)?;
        let label = ima::encode_digest(&collected.digest);
        write_label(self.object.stat_fd()?, &label).map_err(std::io::Error::other)
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.object.state().with(|inner| inner.pending = inner.pending.saturating_sub(1));
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").finish_non_exhaustive()
    }
}
