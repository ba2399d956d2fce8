//! What the monitor remembers of one inode: the kernel's `ima_iint_cache`, with the content version in the place
//! of the inode's change counter.
//!
//! The filesystem owns one [`FileState`] per inode record. It is empty, and two words large, until the first
//! open. Its lock is held for a few comparisons, never across a system call.

use appraise::{Collected, ContentVersion, LabelPlace, Requirement, Status};
use ima::{DigestKind, PcrIndex};
use parking_lot::Mutex;
use policy::AppraiseClass;

use crate::access::{FMODE_EXEC, is_write};
use crate::digests::Digests;
use crate::kind::Kind;

/// Host and container.
pub(crate) const LAYERS: usize = 2;

/// The host's place among them.
pub(crate) const HOST: usize = 0;

/// The classes that passed appraisals are kept by.
const CLASSES: usize = 5;

/// The requirements they are kept by: a pass under one is none under another.
const REQUIREMENTS: usize = 3;

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
    /// Of the read-only opens, those for execution.
    pub executors: u32,
    /// Work begun in the reader thread and not yet finished; while there is any, nothing is answered from here.
    pub pending: u32,
    /// The last digests collected and the versions they belong to.
    pub collected: Digests,
    /// What kind of file this was at that version; see [`Inner::kind_at`].
    pub kind: Option<(ContentVersion, Kind)>,
    /// PCRs that the collected digest was measured into at each layer's word, one bit each. What one layer measured, in
    /// whatever template, is no reason not to do what another asks.
    measured: [u64; LAYERS],
    /// An `audit` rule has had its record for the collected digest.
    pub audited: bool,
    /// A `hash` rule has seen this content.
    pub hashed: bool,
    /// A `hash` rule has seen this file once: its label is kept up whatever appraisals say (the kernel's `IMA_HASH`
    /// flag, which nothing takes back).
    pub hash_ruled: bool,
    /// A `hash` rule has seen this content, so the next writer's close renews the label.
    pub hash_owed: bool,
    /// The ring and policy generation that the appraisal results belong to.
    generation: Generation,
    /// Counts the changes told from outside; what was seen before one is not remembered after it.
    pub changes: u64,
    /// Where the label was by which all this is known. Stores that go by path may have another for each name.
    label: Option<LabelPlace>,
    layers: [LayerState; LAYERS],
    /// The label is a signature, so the content is immutable (the kernel's DIGSIG bit).
    pub signed: bool,
    /// The hash label is redone when the last writer closes. Until then what was remembered stands, as in the
    /// kernel: to have the label redone its writer need only close.
    pub relabel: bool,
    /// The content was served because of its signature, by this rule, and may still be in use: see
    /// [`crate::check::Check`], `nobody_uses_it`.
    pub served_signed: Option<RuleId>,
    /// The rule by which it was last let through to be started, if one appraised it.
    pub started_by: Option<RuleId>,
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

/// A rule: the layer it stands in, and its index there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RuleId {
    pub layer: usize,
    pub index: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct LayerState {
    /// Created in sight of this layer's rules for opens, and not yet closed by its last writer.
    new: bool,
    /// The outcome of the last `FILE_CHECK` appraisal. Stays when the appraisal no longer stands: it decides, as
    /// the kernel's `ima_file_status`, whether the label of what was written meanwhile is redone.
    file_status: Option<Status>,
    passed: [[bool; REQUIREMENTS]; CLASSES],
}

impl Inner {
    /// Whether the remembered digest of this kind is that of the content `version`.
    ///
    /// `writers` are the writers that had the file open before this access. While there are some, a remembered
    /// digest stands until the last of them closes, as in the kernel (a violation tells of them), unless
    /// `strict`: what nobody will label anew is looked at again, for no timestamp shows what a mapping writes.
    pub fn stands(&self, kind: DigestKind, version: &ContentVersion, writers: u32, strict: bool) -> bool {
        self.collected.of(kind).is_some_and(|collected| {
            if writers > 0 { !strict } else { collected.stable && collected.version == *version }
        })
    }

    /// What kind of file this is. Nobody knows while there are writers: a mapping's writes need not show.
    pub fn kind_at(&self, version: &ContentVersion, writers: u32) -> Option<&Kind> {
        self.kind.as_ref().filter(|(at, _)| writers == 0 && at == version).map(|(_, kind)| kind)
    }

    /// Takes over a digest that was just collected.
    ///
    /// The same digest as before (only attributes changed) keeps what was measured and audited, but no
    /// appraisal: the label may be another.
    pub fn adopt(&mut self, kind: DigestKind, collected: Collected) {
        if !self.collected.put(kind, collected) {
            self.measured = [0; LAYERS];
            self.audited = false;
        }
        self.forget_appraisals();
    }

    /// The content changed, or its label, which measurements carry and which says how it is hashed: nothing known of
    /// it stands.
    pub fn forget_content(&mut self) {
        self.collected = Digests::default();
        self.kind = None;
        self.measured = [0; LAYERS];
        self.audited = false;
        self.hashed = false;
        self.forget_appraisals();
    }

    /// Notes where the label is for the access that arrives, and gives whether that is another place than for the one
    /// before: then nothing known by that label stands, as if it had been set.
    pub fn label_is_at(&mut self, place: LabelPlace) -> bool {
        let other = self.label.replace(place).is_some_and(|before| before != place);
        if other {
            self.changes = self.changes.wrapping_add(1);
            self.forget_content();
        }
        other
    }

    /// Whether what is known is known by the label at `place`.
    pub fn knows_by(&self, place: LabelPlace) -> bool {
        self.label == Some(place)
    }

    /// Writers are gone that may have written through a mapping, which timestamps need not show: the content is
    /// looked at again before anything known of it is believed.
    pub fn doubt(&mut self) {
        self.kind = None;
        self.collected.doubt();
    }

    /// The label or the keys changed: no appraisal stands.
    pub fn forget_appraisals(&mut self) {
        for layer in &mut self.layers {
            layer.passed = Default::default();
        }
    }

    /// Forgets appraisals that were made under other keys or rules than those of `generation`.
    pub fn enter_generation(&mut self, generation: Generation) {
        if self.generation != generation {
            self.generation = generation;
            self.forget_appraisals();
        }
    }

    pub fn is_measured(&self, layer: usize, pcr: PcrIndex) -> bool {
        self.measured.get(layer).is_some_and(|measured| measured & bit(pcr) != 0)
    }

    pub fn set_measured(&mut self, layer: usize, pcr: PcrIndex) {
        if let Some(measured) = self.measured.get_mut(layer) {
            *measured |= bit(pcr);
        }
    }

    /// What was seen when this equals its value then may be remembered.
    pub fn moment(&self) -> Moment {
        Moment { generation: self.generation, changes: self.changes, label: self.label }
    }

    /// Whether an appraisal of this class under this requirement passed and may be remembered.
    pub fn has_passed(&self, layer: usize, class: AppraiseClass, required: Requirement) -> bool {
        let passed = self.layers.get(layer).and_then(|layer| layer.passed.get(index(class)));
        passed.and_then(|passed| passed.get(place(required))).copied().unwrap_or(false)
    }

    /// Notes the outcome of an appraisal; `remember` says whether a pass holds for the next access too.
    pub fn set_status(
        &mut self,
        layer: usize,
        class: AppraiseClass,
        required: Requirement,
        status: Status,
        remember: bool,
    ) {
        let Some(layer) = self.layers.get_mut(layer) else { return };
        if class == AppraiseClass::File {
            layer.file_status = Some(status);
        }
        if let Some(slot) =
            layer.passed.get_mut(index(class)).and_then(|passed| passed.get_mut(place(required)))
        {
            *slot = status.allows() && remember;
        }
    }

    /// Whether the last `FILE_CHECK` appraisal of every layer that made one passed, and one was made.
    pub fn file_status_passes(&self) -> bool {
        let mut statuses = self.layers.iter().filter_map(|layer| layer.file_status).peekable();
        statuses.peek().is_some() && statuses.all(Status::allows)
    }

    /// Whether this layer has seen the file made, and its last writer has not closed it since.
    pub fn is_new(&self, layer: usize) -> bool {
        self.layers.get(layer).is_some_and(|layer| layer.new)
    }

    /// Whether any layer has.
    pub fn is_new_to_any(&self) -> bool {
        self.layers.iter().any(|layer| layer.new)
    }

    /// Notes whether this layer has seen the file made.
    pub fn set_new(&mut self, layer: usize, new: bool) {
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.new = new;
        }
    }

    /// The file is no longer new to any layer.
    pub fn age(&mut self) {
        for layer in &mut self.layers {
            layer.new = false;
        }
    }

    /// Takes one open off the counts.
    pub fn uncount(&mut self, flags: i32) {
        let count = if is_write(flags) { &mut self.writers } else { &mut self.readers };
        *count = count.saturating_sub(1);
        if flags & FMODE_EXEC != 0 {
            self.executors = self.executors.saturating_sub(1);
        }
    }

    /// Adds one open to the counts.
    pub fn count(&mut self, flags: i32) {
        let write = is_write(flags);
        if write && self.writers == 0 {
            self.writer_epoch = self.writer_epoch.wrapping_add(1).max(1);
        }
        self.was_written |= write;
        let count = if write { &mut self.writers } else { &mut self.readers };
        *count = count.saturating_add(1);
        if flags & FMODE_EXEC != 0 {
            self.executors = self.executors.saturating_add(1);
        }
    }
}

/// The keys and rules that a result belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Generation {
    /// Which rules.
    pub rules: u64,
    /// Which keys.
    pub rings: u64,
}

/// A moment in a record's life between two changes that are not seen in the content version: other keys, another label
/// by another name, and what the filesystem told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    generation: Generation,
    changes: u64,
    label: Option<LabelPlace>,
}

impl Moment {
    /// The same for an access that goes by the label at `place`, which need not be the one by which the latest does.
    pub fn by(self, place: LabelPlace) -> Self {
        Self { label: Some(place), ..self }
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

fn place(required: Requirement) -> usize {
    match required {
        Requirement::AnyLabel => 0,
        Requirement::Signature => 1,
        Requirement::VeritySignature => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key is revoked between a verification and the note of its outcome, and an open in the reader thread sees
    /// the new ring first.
    #[test]
    fn a_moment_ends_with_the_keys_and_with_each_change_told_of() {
        let mut inner = Inner::default();
        let keys = |rings| Generation { rules: 1, rings };
        inner.enter_generation(keys(1));
        let before = inner.moment();
        inner.enter_generation(keys(1));
        assert_eq!(inner.moment(), before);
        inner.enter_generation(keys(2));
        assert_ne!(inner.moment(), before);
        let before = inner.moment();
        inner.changes += 1;
        assert_ne!(inner.moment(), before);
    }

    #[test]
    fn a_pass_is_kept_by_layer_class_and_requirement() {
        let mut inner = Inner::default();
        let (class, required) = (AppraiseClass::Mmap, Requirement::Signature);
        inner.set_status(1, class, required, Status::Pass, true);
        assert!(inner.has_passed(1, class, required));
        assert!(!inner.has_passed(0, class, required));
        assert!(!inner.has_passed(1, AppraiseClass::Bprm, required));
        assert!(!inner.has_passed(1, class, Requirement::AnyLabel));
        assert!(!inner.has_passed(1, class, Requirement::VeritySignature));
        inner.forget_appraisals();
        assert!(!inner.has_passed(1, class, required));
    }

    #[test]
    fn the_status_of_opens_outlives_the_passes_and_a_failure_in_any_layer_counts() {
        let mut inner = Inner::default();
        assert!(!inner.file_status_passes());
        inner.set_status(0, AppraiseClass::File, Requirement::AnyLabel, Status::Pass, true);
        inner.forget_content();
        assert!(inner.file_status_passes());
        inner.set_status(1, AppraiseClass::Mmap, Requirement::AnyLabel, Status::Fail, true);
        assert!(inner.file_status_passes());
        inner.set_status(1, AppraiseClass::File, Requirement::AnyLabel, Status::Fail, true);
        assert!(!inner.file_status_passes());
    }
}
