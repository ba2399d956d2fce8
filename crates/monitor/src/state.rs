//! What the monitor remembers of one inode: the kernel's `ima_iint_cache`, with the content version in the place
//! of the inode's change counter.
//!
//! The filesystem owns one [`FileState`] per inode record. It is empty, and two words large, until the first
//! open. Its lock is held for a few comparisons, never across a system call.

use appraise::{Collected, ContentVersion, Status};
use ima::PcrIndex;
use parking_lot::Mutex;
use policy::AppraiseClass;

use crate::kind::Kind;

/// Host and container.
pub(crate) const LAYERS: usize = 2;

/// The classes that appraisal statuses are kept by.
const CLASSES: usize = 5;

/// What the monitor remembers of one inode; opaque to its owner.
#[derive(Debug, Default)]
pub struct FileState {
    inner: Mutex<Option<Box<Inner>>>,
}

impl FileState {
    /// Runs `f` on the record, under its lock. `f` makes no system call.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(self.inner.lock().get_or_insert_default())
    }

    /// How many opens of this inode stand: (read-only, for writing).
    #[must_use]
    pub fn opens(&self) -> (u32, u32) {
        self.inner.lock().as_ref().map_or((0, 0), |inner| (inner.readers, inner.writers))
    }
}

/// The record itself.
#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Opens that stand, read-only.
    pub readers: u32,
    /// Opens that stand, for writing.
    pub writers: u32,
    /// Work begun in the reader thread and not yet finished; while there is any, nothing is answered from here.
    pub pending: u32,
    /// The last digest collected and the version it belongs to.
    pub collected: Option<Collected>,
    /// What kind of file this was at that version.
    pub kind: Option<(ContentVersion, Kind)>,
    /// PCRs that the collected digest was measured into, one bit each.
    measured: u64,
    /// An `audit` rule has had its record for the collected digest.
    pub audited: bool,
    /// A `hash` rule has seen this file.
    pub hashed: bool,
    /// The ring and policy generation that the appraisal results belong to.
    generation: u64,
    layers: [LayerState; LAYERS],
    /// Created, and not yet closed by its last writer.
    pub new: bool,
    /// The label is a signature, so the content is immutable (the kernel's DIGSIG bit).
    pub signed: bool,
    /// The hash label is redone when the last writer closes.
    pub relabel: bool,
    /// A reader whose access was measured has opened the file; a writer now is a violation.
    pub read_is_measured: bool,
    /// Was open for writing since it was last seen to have no writers at all, mappings included.
    pub was_written: bool,
    /// Counts the times the file went from no writers to some.
    pub writer_epoch: u32,
    /// The epoch whose writers left a mapping behind; 0 for none.
    pub mapped_epoch: u32,
    /// The epoch that has had its `open_writers` violation; 0 for none.
    pub told_epoch: u32,
}

#[derive(Debug, Default, Clone, Copy)]
struct LayerState {
    status: [Option<Status>; CLASSES],
    passed: [bool; CLASSES],
}

impl Inner {
    /// Whether the remembered digest is that of the content `version`.
    ///
    /// `writers` are the writers that had the file open before this access. While there are some, a remembered
    /// digest stands until the last of them closes, as in the kernel (a violation tells of them), unless
    /// `strict`: what a signature vouches for is looked at again.
    pub fn stands(&self, version: &ContentVersion, writers: u32, strict: bool) -> bool {
        self.collected.is_some_and(|collected| {
            if writers > 0 { !strict } else { collected.stable && collected.version == *version }
        })
    }

    /// Takes over a digest that was just collected.
    ///
    /// The same digest as before (only attributes changed) keeps what was measured and audited, but no
    /// appraisal: the label may be another.
    pub fn adopt(&mut self, collected: Collected) {
        let same = self.collected.is_some_and(|old| old.digest == collected.digest);
        if !same {
            self.measured = 0;
            self.audited = false;
            self.hashed = false;
        }
        self.forget_appraisals();
        self.collected = Some(collected);
    }

    /// The content changed: nothing known of it stands.
    pub fn forget_content(&mut self) {
        self.collected = None;
        self.kind = None;
        self.measured = 0;
        self.audited = false;
        self.hashed = false;
        self.forget_appraisals();
    }

    /// The label or the keys changed: no appraisal stands.
    pub fn forget_appraisals(&mut self) {
        self.layers = [LayerState::default(); LAYERS];
    }

    /// The label was replaced: measurements carry the label, so they do not stand either.
    pub fn forget_label(&mut self) {
        self.measured = 0;
        self.forget_appraisals();
    }

    /// Forgets appraisals that were made under other keys or rules than those of `generation`.
    pub fn enter_generation(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.forget_appraisals();
        }
    }

    pub fn is_measured(&self, pcr: PcrIndex) -> bool {
        self.measured & bit(pcr) != 0
    }

    pub fn set_measured(&mut self, pcr: PcrIndex) {
        self.measured |= bit(pcr);
    }

    /// Whether an appraisal of this class passed and may be remembered.
    pub fn has_passed(&self, layer: usize, class: AppraiseClass) -> bool {
        self.layers.get(layer).and_then(|layer| layer.passed.get(index(class))).copied().unwrap_or(false)
    }

    /// Notes the outcome of an appraisal; `remember` says whether a pass holds for the next access too.
    pub fn set_status(&mut self, layer: usize, class: AppraiseClass, status: Status, remember: bool) {
        let Some(layer) = self.layers.get_mut(layer) else { return };
        if let Some(slot) = layer.status.get_mut(index(class)) {
            *slot = Some(status);
        }
        if let Some(slot) = layer.passed.get_mut(index(class)) {
            *slot = status.allows() && remember;
        }
    }

    /// Whether the last `FILE_CHECK` appraisal of every layer that made one passed, and one was made.
    pub fn file_status_passes(&self) -> bool {
        let mut statuses =
            self.layers.iter().filter_map(|layer| layer.status.first().copied().flatten()).peekable();
        statuses.peek().is_some() && statuses.all(Status::allows)
    }

    /// Takes one open off the counts.
    pub fn uncount(&mut self, write: bool) {
        let count = if write { &mut self.writers } else { &mut self.readers };
        *count = count.saturating_sub(1);
    }

    /// Adds one open to the counts.
    pub fn count(&mut self, write: bool) {
        if write && self.writers == 0 {
            self.writer_epoch = self.writer_epoch.wrapping_add(1).max(1);
        }
        self.was_written |= write;
        let count = if write { &mut self.writers } else { &mut self.readers };
        *count = count.saturating_add(1);
    }
}

fn bit(pcr: PcrIndex) -> u64 {
    1_u64.checked_shl(pcr.value()).unwrap_or(0)
}

fn index(class: AppraiseClass) -> usize {
    match class {
        AppraiseClass::File => 0,
        AppraiseClass::Mmap => 1,
        AppraiseClass::Bprm => 2,
        AppraiseClass::Creds => 3,
        AppraiseClass::Read => 4,
    }
}
