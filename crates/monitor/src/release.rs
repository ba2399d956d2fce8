//! The last writer's close: what was known of the content goes, and its hash label is redone.
//!
//! `spec/ima-hooks.md` section 5, `spec/ima-appraisal.md` section 5; `ima_check_last_writer` in ima_main.c.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use appraise::{Collected, collect_within, facts};
use ima::DigestKind;

use crate::evidence::collect_kind;
use crate::monitor::Monitor;
use crate::object::Object;
use crate::reading::{Lane, Reading};
use crate::work::Step;

/// The work that the last writer's close leaves.
///
/// Must run, in its place among the work of the same inode, before a later request on it is answered.
#[must_use = "a close that is not worked off leaves the inode waiting"]
pub struct Closing {
    monitor: Arc<Monitor>,
    object: Arc<dyn Object>,
    /// The epoch of the writers that have closed.
    epoch: u32,
    patience: Patience,
    lane: Lane,
    /// It was worked off once already, and found a mapping.
    again: bool,
}

/// What the last writer's close came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Nothing is left to be done.
    Settled,
    /// A mapping is left that can still write, and a label is owed when it ends; see [`Monitor::owed`].
    Mapped,
}

impl Closing {
    pub(crate) fn new(monitor: Arc<Monitor>, object: Arc<dyn Object>, epoch: u32) -> Self {
        Self { monitor, object, epoch, patience: Patience::default(), lane: Lane::Small, again: false }
    }

    /// The same, for a label that is owed since.
    pub(crate) fn again(monitor: Arc<Monitor>, object: Arc<dyn Object>, epoch: u32) -> Self {
        let mut closing = Self::new(monitor, object, epoch);
        closing.again = true;
        closing
    }

    /// Forgets what no longer stands and writes the hash label, if it is to be kept up.
    ///
    /// A label that cannot be written is told in the log only: the next check then denies, as in the kernel.
    pub fn run(mut self) -> Step<Self, Closed> {
        let object = self.object.as_ref();
        if object.state().with(|inner| inner.relabel) {
            match writers_left(object, self.epoch, &mut self.patience) {
                Ok(false) => {}
                // A mapping that is left is a writer.
                Ok(true) => return Step::Done(Closed::Mapped),
                Err(at) => return Step::Later { work: self, at },
            }
        } else if self.again {
            // An open has seen to it.
            return Step::Done(Closed::Settled);
        }
        let reading = Reading::for_label(&self.monitor, self.lane);
        if object.state().with(|inner| inner.relabel) && reading.is_too_large(object) {
            self.lane = Lane::Large;
            let user = object.stat_fd().ok().and_then(|fd| facts(fd).ok()).map_or(0, |facts| facts.owner);
            return Step::Large { work: self, user };
        }
        after_writing(&self.monitor, &reading, object);
        Step::Done(Closed::Settled)
    }
}

/// What the end of writing leaves to be done. Runs in its place among the work of the inode.
pub(crate) fn after_writing(monitor: &Monitor, reading: &Reading<'_>, object: &dyn Object) {
    let state = object.state();
    let now = object.stat_fd().and_then(|fd| Ok(facts(fd)?));
    let (relabel, unchanged) = state.with(|inner| {
        let kept_up = (inner.file_status_passes() || inner.hash_ruled) && !inner.signed;
        let same = |old: &Collected| now.as_ref().is_ok_and(|now| now.version == old.version);
        let known = |kind| inner.collected.of(kind).filter(same).map(|old| (kind, old));
        let unchanged = known(DigestKind::Ima).or_else(|| known(DigestKind::Verity));
        let unchanged = unchanged.filter(|_| !inner.is_new_to_any());
        inner.age();
        inner.hash_owed = false;
        (std::mem::take(&mut inner.relabel) && kept_up, unchanged)
    });
    match unchanged {
        // Nothing shows that anything was written. A mapping need not show, so the content is looked at before it
        // is believed: here, where the label depends on it, or else at the next open.
        Some((kind, old)) if !relabel || still_is(monitor, reading, object, kind, &old) => {
            state.with(|inner| inner.doubt())
        }
        Some(_) | None => {
            state.with(|inner| inner.forget_content());
            if relabel && let Err(error) = write_hash(monitor, reading, object) {
                tracing::warn!(path = %object.path().escape_ascii(), %error, "cannot renew the hash label");
            }
        }
    }
}

/// Whether the content still has the digest it had.
fn still_is(
    monitor: &Monitor,
    reading: &Reading<'_>,
    object: &dyn Object,
    kind: DigestKind,
    old: &Collected,
) -> bool {
    let content = object.read_fd().ok();
    let verity = monitor.options.verity;
    let again =
        content.and_then(|content| collect_kind(reading, content, kind, old.digest.algo(), verity).ok());
    again.is_some_and(|again| again.digest == old.digest)
}

fn write_hash(monitor: &Monitor, reading: &Reading<'_>, object: &dyn Object) -> std::io::Result<()> {
    let (content, algo) = (object.read_fd()?, monitor.options.hash);
    let collected = reading.bounded(|bounds| collect_within(content, algo, bounds));
    let collected = collected.map_err(std::io::Error::other)?;
    let label = ima::encode_digest(&collected.digest);
    monitor.options.labels.write(object.stat_fd()?, &label).map_err(std::io::Error::other)
}

/// How long a writer that has just closed may still hold the backing file. The kernel drops it in the closing task,
/// after it has sent RELEASE; a task that is not scheduled in between holds on for as long.
const LINGER: Duration = Duration::from_secs(2);

/// The first pause before the question is put again; each further one is twice as long, up to [`PAUSE_MAX`]. So the
/// wait is seldom more than twice what was needed, and many waits together cost little.
const PAUSE: Duration = Duration::from_micros(50);

/// The longest pause. With it one wait costs about 20 questions.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// One wait for those who are just leaving. Nobody tells when they have left, so it is asked again and again.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    /// When to ask again; `None` once it was waited for long enough.
    fn again(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        self.pause = (2 * self.pause).clamp(PAUSE, PAUSE_MAX);
        (now.duration_since(since) < LINGER).then(|| now + self.pause)
    }
}

/// An answer, or the time to ask again.
pub(crate) type Asked = Result<bool, Instant>;

/// Whether anybody has the file open or mapped still, once those that are just leaving have left.
pub(crate) fn in_use(object: &dyn Object, patience: &mut Patience) -> Asked {
    if matches!(object.is_in_use(), Ok(false)) {
        return Ok(false);
    }
    patience.again().map_or(Ok(true), Err)
}

/// Whether writers of `epoch` are left though no open for writing stands.
///
/// Those that are just leaving are waited for. Once waiting was in vain it was a mapping, and the same writers'
/// epoch is not waited for again.
pub(crate) fn writers_left(object: &dyn Object, epoch: u32, patience: &mut Patience) -> Asked {
    let state = object.state();
    if matches!(object.is_written(), Ok(false)) {
        return Ok(false);
    }
    if !state.with(|inner| inner.mapped_epoch == epoch)
        && let Some(at) = patience.again()
    {
        return Err(at);
    }
    state.with(|inner| inner.mapped_epoch = epoch);
    Ok(true)
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
