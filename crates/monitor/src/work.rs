//! The slow part of an open, to be run in a worker thread.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use appraise::ContentVersion;

use crate::check::{Check, Left, NotYet, Waits};
use crate::denial::Denial;
use crate::exec::Ticket;
use crate::grant::Grant;
use crate::monitor::Monitor;
use crate::plan::Plan;
use crate::reading::{Lane, Reading, Unfinished};
use crate::records;

/// What running some work came to.
#[derive(Debug)]
#[must_use = "work that is to go on later is not done"]
pub enum Step<W, T> {
    /// It is done.
    Done(T),
    /// It waits for somebody else, who will not tell: to be run again at this time. It still comes before all later
    /// work of the same inode.
    Later {
        /// The rest of the work.
        work: W,
        /// When to run it.
        at: Instant,
    },
    /// It has a large file to read: to be run again where that holds up nobody else. It still comes before all later
    /// work of the same inode.
    Large {
        /// The work.
        work: W,
        /// Whom it is done for.
        user: u32,
    },
}

/// What of an access lasts from one run of its work to the next.
#[derive(Debug)]
pub(crate) struct Progress {
    pub waits: Waits,
    pub lane: Lane,
    /// The violation that it is has been told of.
    pub violation_told: Cell<bool>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { waits: Waits::default(), lane: Lane::Small, violation_told: Cell::new(false) }
    }
}

/// An open that takes longer than a look at what is remembered.
///
/// Work on one inode is run in the order it was begun, one at a time. Dropping it without running it, as a pool
/// that is shutting down does, takes the open off the counts; the filesystem then answers with an error.
#[must_use = "an open whose work is not run is never answered"]
pub struct Work {
    monitor: Arc<Monitor>,
    plan: Plan,
    progress: Progress,
    granted: bool,
}

impl Work {
    pub(crate) fn new(monitor: Arc<Monitor>, plan: Plan) -> Self {
        Self { monitor, plan, progress: Progress::default(), granted: false }
    }

    /// Collects, appraises, measures and audits as policy asks, and decides. Of a denial the audit record has been
    /// written; `EINTR` is none, it says that nobody waits for the answer. A check that panics denies as well.
    pub fn run(mut self) -> Step<Self, Result<Grant, Denial>> {
        let checked = catch_unwind(AssertUnwindSafe(|| {
            let (monitor, lane) = (&self.monitor, self.progress.lane);
            let left = Left::find(monitor, &self.plan, lane, &mut self.progress.waits)?;
            let reading = Reading::for_task(monitor, lane, self.plan.access.tid);
            let check = Check::new(monitor, &self.plan, left, &reading, &self.progress);
            let decided = check.decide();
            if check.unfinished() == Some(Unfinished::TooLarge) { Err(NotYet::TooLarge) } else { Ok(decided) }
        }));
        match checked {
            Ok(Ok(decided)) => Step::Done(self.conclude(decided)),
            Ok(Err(NotYet::Until(at))) => Step::Later { work: self, at },
            Ok(Err(NotYet::TooLarge)) => {
                self.progress.lane = Lane::Large;
                let user = self.plan.access.fsuid;
                Step::Large { work: self, user }
            }
            Err(_) => {
                let denial = records::unchecked(&self.monitor, &self.plan);
                Step::Done(self.conclude(Err(denial)))
            }
        }
    }

    fn conclude(mut self, decided: Result<(ContentVersion, Ticket), Denial>) -> Result<Grant, Denial> {
        let (version, ticket) = decided.inspect_err(|denial| self.monitor.count_denial_if(denial))?;
        self.granted = true;
        Ok(Grant::mint(Arc::clone(&self.plan.object), version, self.plan.access.flags, ticket))
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
