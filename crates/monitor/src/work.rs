//! The slow part of an open, to be run in a worker thread.

use std::fmt;
use std::sync::Arc;

use crate::check::Check;
use crate::denial::Denial;
use crate::grant::Grant;
use crate::monitor::Monitor;
use crate::plan::Plan;

/// An open that takes longer than a look at what is remembered.
///
/// Work on one inode is run in the order it was begun, one at a time. Dropping it without running it, as a pool
/// that is shutting down does, takes the open off the counts; the filesystem then answers with an error.
#[must_use = "an open whose work is not run is never answered"]
pub struct Work {
    monitor: Arc<Monitor>,
    plan: Plan,
    granted: bool,
}

impl Work {
    pub(crate) fn new(monitor: Arc<Monitor>, plan: Plan) -> Self {
        Self { monitor, plan, granted: false }
    }

    /// Collects, appraises, measures and audits as policy asks, and decides.
    ///
    /// # Errors
    /// The denial; its audit record has been written.
    pub fn run(mut self) -> Result<Grant, Denial> {
        let version =
            Check::new(&self.monitor, &self.plan).decide().inspect_err(|_| self.monitor.count_denial())?;
        self.granted = true;
        Ok(Grant::mint(Arc::clone(&self.plan.object), version, self.plan.access.flags))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.plan.object.state().with(|inner| {
            inner.pending = inner.pending.saturating_sub(1);
            if !self.granted {
                inner.uncount(self.plan.access.flags);
            }
        });
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("access", &self.plan.access).finish_non_exhaustive()
    }
}
