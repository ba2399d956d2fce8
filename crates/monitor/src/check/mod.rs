//! The check itself: one access through all its hooks, as the kernel's `process_measurement` does it.
//!
//! `spec/ima-hooks.md` section 4, steps 4 to 17. Runs in a worker thread. Work on one inode comes here in the
//! order its accesses arrived and one at a time, so between two looks at the inode's record only the reader
//! thread's counting can have changed it.

mod appraisal;
mod content;
mod exclusion;
mod failure;

pub(crate) use failure::chain;

use std::cell::{Cell, OnceCell};
use std::time::SystemTime;

use appraise::{ContentVersion, Status, StoredLabel};
use audit::RecordType;
use ima::{Digest, FileAttrs, LabelType};
use measure::Added;
use policy::{Actions, Decision, Func, RuleFlags};

use crate::attributes::Attributes;
use crate::denial::Denial;
use crate::digests::by_kind;
use crate::evidence::Evidence;
use crate::exec::Ticket;
use crate::kind::Kind;
use crate::monitor::{Monitor, first_appraising, is_strict, note_served, requirement};
use crate::options::Layer;
use crate::plan::{Hooks, Plan};
use crate::reading::{Reading, Unfinished};
use crate::records::{self, Event};
use crate::state::{LAYERS, RuleId};
use crate::violation;
use crate::work::Progress;
use content::Gathered;
pub(crate) use exclusion::{Left, NotYet, Waits};

/// One access being checked.
pub(crate) struct Check<'a> {
    pub monitor: &'a Monitor,
    pub plan: &'a Plan,
    pub reading: &'a Reading<'a>,
    progress: &'a Progress,
    /// Why content was not read to its end, if it was not.
    unfinished: Cell<Option<Unfinished>>,
    /// Who has the file though the counts do not show them.
    left: Left,
    /// Whether any hook wants the content itself looked at, whatever is remembered of it; until the hooks are known
    /// one may.
    strict: Cell<bool>,
    evidence: Gathered,
    /// The label that fix mode has written since the evidence was gathered; later hooks judge by it.
    fixed: OnceCell<StoredLabel>,
    name: OnceCell<Vec<u8>>,
    /// The rule that refuses what is opened with `O_DIRECT`, if one does.
    direct_refused: Cell<Option<RuleId>>,
    /// That such an open cannot be collected has been recorded: once, however many layers and hooks it passes.
    direct_told: Cell<bool>,
}

/// What one layer makes of one hook, and the layer's place in the record.
struct Judged<'a> {
    index: usize,
    layer: &'a Layer,
    decision: &'a Decision,
}

impl<'a> Check<'a> {
    pub fn new(
        monitor: &'a Monitor,
        plan: &'a Plan,
        left: Left,
        reading: &'a Reading<'a>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            monitor,
            plan,
            reading,
            progress,
            unfinished: Cell::new(None),
            left,
            strict: Cell::new(true),
            evidence: Gathered::default(),
            fixed: OnceCell::new(),
            name: OnceCell::new(),
            direct_refused: Cell::new(None),
            direct_told: Cell::new(false),
        }
    }

    /// Why content was not read to its end, if that is why there is no decision.
    pub fn unfinished(&self) -> Option<Unfinished> {
        self.unfinished.get()
    }

    /// Decides; gives the content version that the decision is about, and the ticket of an open for execution.
    pub fn decide(&self) -> Result<(ContentVersion, Ticket), Denial> {
        self.nobody_starts_it()?;
        self.nobody_uses_it()?;
        let kind = self.kind()?;
        let hooks = self.hooks(kind.as_ref())?;
        self.prepare(&hooks);
        if self.plan.nameless {
            self.nameless(&hooks)?;
            return Ok((self.plan.facts.version, Ticket::NONE));
        }
        self.violations(&hooks)?;
        for hook in hooks.iter() {
            for (index, (layer, decision)) in self.plan.rules.layers().zip(&hook.decisions).enumerate() {
                if let Some(decision) = decision {
                    self.at_layer(&Judged { index, layer, decision })?;
                }
            }
        }
        self.plan.object.state().with(|inner| {
            note_served(inner, self.plan, &hooks);
            if self.plan.access.is_write() {
                inner.relabel |= inner.hash_owed || self.plan.rules.uses.wants_relabel(&hooks);
            }
        });
        let ticket = self.monitor.note_interpreter(self.plan, kind.as_ref());
        Ok((self.evidence.version.get().copied().unwrap_or(self.plan.facts.version), ticket))
    }

    /// The open that made the file without a name: see [`Monitor::begin_nameless`].
    fn nameless(&self, hooks: &Hooks) -> Result<(), Denial> {
        let state = self.plan.object.state();
        for hook in hooks.iter() {
            for (index, (layer, decision)) in self.plan.rules.layers().zip(&hook.decisions).enumerate() {
                let appraises = |decision: &&Decision| decision.actions.contains(Actions::APPRAISE);
                let Some(decision) = decision.as_ref().filter(appraises) else { continue };
                if decision.flags.contains(RuleFlags::DENY) {
                    self.at_layer(&Judged { index, layer, decision })?;
                }
                let (class, required) = (decision.appraise_class, requirement(decision));
                state.with(|inner| inner.set_status(index, class, required, Status::Pass, false));
            }
        }
        state.with(|inner| inner.relabel |= self.plan.rules.uses.wants_relabel(hooks));
        Ok(())
    }

    /// Notes what the hooks say of the whole access, before the first of them acts.
    fn prepare(&self, hooks: &Hooks) {
        let refuses = |decision: &Decision| !decision.flags.contains(RuleFlags::PERMIT_DIRECTIO);
        self.direct_refused.set(first_appraising(hooks, refuses));
        // Read before any key is used: what passes under older keys is then not taken for newer.
        let generation = self.plan.rules.generation();
        let decisions = || hooks.iter().flat_map(|hook| hook.decisions.iter().flatten());
        self.plan.object.state().with(|inner| {
            inner.enter_generation(generation);
            // One look at the content serves all hooks, so it is the one that the strictest of them wants.
            self.strict.set(decisions().any(|decision| is_strict(inner, decision)));
            if !self.plan.access.created {
                return;
            }
            for layer in 0..LAYERS {
                let mut decisions = hooks
                    .iter()
                    .filter(|hook| hook.func == Func::FileCheck)
                    .filter_map(|hook| hook.decisions.get(layer)?.as_ref());
                inner.set_new(layer, decisions.any(|decision| decision.actions.contains(Actions::APPRAISE)));
            }
        });
    }

    /// What kind of file it is, when that tells which hooks it passes.
    fn kind(&self) -> Result<Option<Kind>, Denial> {
        if !self.monitor.needs_kind(&self.plan.rules.uses, &self.plan.access) {
            return Ok(None);
        }
        let version = self.plan.facts.version;
        let object = &self.plan.object;
        let writers = self.plan.writers_before.max(u32::from(self.left.writers));
        let known = object.state().with(|inner| inner.kind_at(&version, writers).cloned());
        if known.is_some() {
            return Ok(known);
        }
        let started = SystemTime::now();
        let found = object.read_fd().and_then(|fd| Ok(Kind::of(fd)?));
        let kind = found.map_err(|error| self.uncollected(None, "failed", &error))?;
        // As with digests: remembered only where another change is sure to give another version.
        if writers == 0 && version.is_settled_at(started) {
            object.state().with(|inner| inner.kind = Some((version, kind.clone())));
        }
        Ok(Some(kind))
    }

    fn hooks(&self, kind: Option<&Kind>) -> Result<Hooks, Denial> {
        let mapped = self.monitor.mapped(&self.plan.access, kind);
        // Each layer may ask for a digest of an algorithm of its own.
        let mut digests = Vec::new();
        loop {
            match self.monitor.hooks(self.plan, mapped, &digests) {
                Ok(hooks) => return Ok(hooks),
                Err(policy::Undecided::Digest(algo)) if digests.len() < LAYERS => {
                    digests.push(self.digest_by(algo).map_err(|error| self.not_gathered(&error))?);
                }
                Err(error) => return Err(self.undecided(&error)),
            }
        }
    }

    fn violations(&self, hooks: &Hooks) -> Result<(), Denial> {
        let state = self.plan.object.state();
        let due = state.with(|inner| {
            let due = violation::due(self.monitor, inner, self.plan, hooks, self.left.writers);
            violation::arm(inner, self.plan, hooks);
            due
        });
        let Some(violation) = due.filter(|_| !self.progress.violation_told.replace(true)) else {
            return Ok(());
        };
        let list = &self.monitor.options.list;
        let labels = &self.monitor.options.labels;
        let attributes = Attributes::of(self.plan.object.as_ref(), list.template(), labels, self.plan.label);
        let evm = attributes.evm.as_deref();
        let added = list.add_violation(self.name(), self.attrs(), evm, &attributes.xattrs());
        let cause = violation.cause();
        self.record(&Event::new(RecordType::IntegrityPcr, "invalid_pcr", cause).res(added.is_ok()));
        state.with(|inner| violation::told(self.monitor, inner, self.plan, violation));
        added.map_err(|error| self.not_added(&error)).or_else(|denial| self.tolerated(denial))
    }

    /// One hook of one layer.
    fn at_layer(&self, judged: &Judged<'_>) -> Result<(), Denial> {
        let decision = judged.decision;
        let actions = decision.actions;
        if actions.contains(Actions::HASH) && self.plan.rules.uses.keeps_labels(judged.index) {
            self.note_hash_rule();
        }
        let mut outcome = Ok(());
        for (kind, mut actions) in by_kind(decision) {
            if outcome.is_err() {
                // It is denied already; what is left is to tell of it.
                actions &= Actions::AUDIT;
            }
            if !actions.is_empty() {
                let acted = match self.evidence(kind) {
                    Ok(evidence) => self.act(judged, actions, evidence),
                    Err(error) => self.collection_failed(judged, actions, &error),
                };
                outcome = outcome.and(acted);
                if self.unfinished.get().is_some() {
                    break;
                }
            }
        }
        outcome?;
        self.immutable(judged)
    }

    /// Measures, appraises and audits by one kind of digest, in the kernel's order; the answer comes last.
    fn act(&self, judged: &Judged<'_>, actions: Actions, evidence: &Evidence) -> Result<(), Denial> {
        let direct = evidence.collected.is_none();
        // A rule that denies whatever the label says has a record of its own.
        let refused_anyway = judged.decision.flags.contains(RuleFlags::DENY);
        if direct && !refused_anyway && !self.direct_told.replace(true) {
            let event =
                Event::new(RecordType::IntegrityData, "collect_data", "failed(directio)").by_last_name();
            self.record(&match self.direct_refused.get() {
                Some(rule) => event.by_rule(&self.plan.rules, rule),
                None => event.of(judged.layer, judged.decision),
            });
        }
        if actions.contains(Actions::MEASURE) {
            self.measure(judged, evidence)?;
        }
        let outcome = if !actions.contains(Actions::APPRAISE) {
            Ok(())
        } else if judged.decision.flags.contains(RuleFlags::DENY) {
            self.denied_by_rule(judged, evidence)
        } else if direct {
            self.direct_io(judged)
        } else {
            self.appraise(judged, evidence)
        };
        if actions.contains(Actions::AUDIT) && !direct {
            self.audit_rule(judged, evidence);
        }
        outcome
    }

    fn measure(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let pcr = judged.decision.pcr.unwrap_or(self.monitor.options.pcr);
        let state = self.plan.object.state();
        if state.with(|inner| inner.is_measured(judged.index, pcr)) {
            return Ok(());
        }
        let template = judged.decision.template.as_ref().unwrap_or(&self.monitor.options.template);
        let added = match records::entry(self, template, pcr, evidence) {
            Ok(entry) => self.monitor.options.list.add(entry).map_err(|error| self.not_added(&error)),
            Err(error) => match error.unfinished() {
                Some(unfinished) => return Err(self.broken_off(unfinished)),
                None => Err(self.unmeasured(&error, "hashing_error".into())),
            },
        };
        match added {
            Ok(added) => {
                self.tell_added(added);
                state.with(|inner| {
                    if evidence.collected.is_some() && evidence.moment == inner.moment() {
                        inner.set_measured(judged.index, pcr);
                    }
                });
                Ok(())
            }
            Err(denial) => self.tolerated(denial),
        }
    }

    /// What `integrity_audit=1` makes the kernel tell of each addition to the list.
    fn tell_added(&self, added: Added) {
        if !self.monitor.options.audit_info {
            return;
        }
        let (cause, new) = match added {
            Added::New => ("hash_added", true),
            Added::Duplicate => ("hash_exists", false),
        };
        self.record(&Event::new(RecordType::IntegrityPcr, "add_template_measure", cause).res(new));
    }

    fn audit_rule(&self, judged: &Judged<'_>, evidence: &Evidence) {
        let first = self.plan.object.state().with(|inner| !std::mem::replace(&mut inner.audited, true));
        if first {
            records::file_rule(self, judged.layer, judged.decision, evidence);
        }
    }

    /// A `hash` rule: the file's label is renewed when the last writer closes, unless it is a signature. Any access
    /// that the rule is about says so for this content, also one for reading.
    fn note_hash_rule(&self) {
        let state = self.plan.object.state();
        if state.with(|inner| inner.hashed || inner.signed) {
            return;
        }
        let labels = &self.monitor.options.labels;
        let label = self.plan.object.stat_fd().ok().and_then(|fd| labels.read(self.plan.label, fd).ok());
        let kind = label.as_ref().and_then(|label| label.value()).and_then(ima::label_type);
        state.with(|inner| {
            inner.hashed = true;
            inner.hash_ruled = true;
            inner.hash_owed = true;
            inner.relabel |= inner.writers > 0;
            inner.signed |= kind == Some(LabelType::Signature);
        });
    }

    /// The digest of the content that the decision is about, where that was looked at.
    pub fn content_digest(&self) -> Option<Digest> {
        self.evidence.of_content()
    }

    /// The path in records and entries, prefix included.
    pub fn name(&self) -> &[u8] {
        self.name.get_or_init(|| self.monitor.name_of(self.plan.object.as_ref()))
    }

    /// What templates tell of the inode.
    pub fn attrs(&self) -> FileAttrs {
        let facts = &self.plan.facts;
        FileAttrs { uid: facts.owner, gid: facts.group, mode: facts.mode }
    }

    fn record(&self, event: &Event) {
        records::emit(self, event);
    }
}
