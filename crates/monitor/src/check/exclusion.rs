//! Who may not have a file open together: content that must not change after its check, and those who could change it.
//!
//! The kernel keeps writers away from a program once it is started, and from nothing else. Here content that a
//! signature let through is served to nobody while somebody can write it, and given to no writer while somebody uses
//! it; what is about to be started counts as in use from its check on.

use audit::RecordType;
use policy::AppraiseClass;

use super::{Check, Judged};
use crate::denial::Denial;
use crate::evidence::Evidence;
use crate::monitor::{Monitor, asks_signature};
use crate::options::Mode;
use crate::plan::Plan;
use crate::records::Event;
use crate::release;

impl Check<'_> {
    /// Content that passed can still be changed through a writable mapping that is left. What is to be run, mapped
    /// or signed is not served then (the kernel's `mmapped_writers`, for mappings); nor under any writer, who could
    /// change it after this check.
    pub(super) fn nobody_writes_it(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let decision = judged.decision;
        let state = self.plan.object.state();
        let matters = match decision.appraise_class {
            AppraiseClass::Mmap | AppraiseClass::Bprm | AppraiseClass::Creds => true,
            AppraiseClass::File | AppraiseClass::Read => state.with(|inner| asks_signature(inner, decision)),
        };
        let started = self.plan.access.is_exec();
        let signed = state.with(|inner| asks_signature(inner, decision));
        let opened = (started || (signed && !self.plan.access.is_write())) && writers_standing(self.plan) > 0;
        if !matters || !(self.mapped_writers || opened) {
            return Ok(());
        }
        let (op, cause) = match self.mapped_writers || started {
            true => ("mmap_file", "mmapped_writers"),
            false => ("appraise_data", "open_writers"),
        };
        let event = Event::new(RecordType::IntegrityData, op, cause).digest(evidence.digest);
        self.record(&event.of(judged.layer, decision));
        self.refused_as(if started { Denial::busy(cause) } else { Denial::open(cause) })
    }

    /// What was served because of its signature is not written while somebody has it open or mapped: they would get
    /// content that nobody vouched for. The kernel leaves that to the rules for writing opens.
    pub(super) fn nobody_uses_it(&self) -> Result<(), Denial> {
        let state = self.plan.object.state();
        let (served, collected) = state.with(|inner| (inner.served_signed, inner.collected));
        let Some(rule) = served.filter(|_| self.plan.access.is_write()) else { return Ok(()) };
        if self.monitor.options.mode != Mode::Enforce {
            return Ok(());
        }
        let readers = self.plan.readers_before.min(state.with(|inner| inner.readers));
        if readers == 0 && release::unused(self.plan.object.as_ref()) {
            state.with(|inner| inner.served_signed = None);
            return Ok(());
        }
        let cause = "signed-file-immutable";
        let event = Event::new(RecordType::IntegrityData, "appraise_data", cause).by_rule(self.monitor, rule);
        self.record(&event.maybe_digest(collected.map(|collected| collected.digest)));
        Err(Denial::open(cause))
    }

    /// Between the check of a program and its start the kernel does not yet keep writers away; a moment later it
    /// does so itself, with the same answer. A mount that refuses nothing leaves it to the kernel.
    pub(super) fn nobody_starts_it(&self) -> Result<(), Denial> {
        let guarded = self.monitor.uses.appraise && self.monitor.options.mode == Mode::Enforce;
        let before = self.plan.access.is_write() && self.plan.executors_before > 0;
        // One that has been refused meanwhile is not started.
        if !guarded || !before || self.plan.object.state().with(|inner| inner.executors == 0) {
            return Ok(());
        }
        let cause = "open_for_execution";
        let collected = self.plan.object.state().with(|inner| inner.collected);
        let event = Event::new(RecordType::IntegrityData, "appraise_data", cause);
        self.record(&event.maybe_digest(collected.map(|collected| collected.digest)));
        Err(Denial::busy(cause))
    }
}

/// Opens for writing that stood when this access came and still do.
fn writers_standing(plan: &Plan) -> u32 {
    plan.writers_before.min(plan.object.state().with(|inner| inner.writers))
}

/// Whether writers are left though no open for writing stands. When there are none any more, the label is redone
/// that was not while there were.
pub(super) fn mapped_writers(monitor: &Monitor, plan: &Plan) -> bool {
    let object = plan.object.as_ref();
    let standing = if plan.access.is_exec() { writers_standing(plan) } else { plan.writers_before };
    if standing > 0 || !object.state().with(|inner| inner.was_written) {
        return false;
    }
    if release::writers_left(object, plan.writer_epoch) {
        return true;
    }
    let owed = object.state().with(|inner| {
        inner.was_written = inner.writers > 0;
        inner.relabel && plan.writers_before == 0
    });
    if owed {
        release::after_writing(monitor, object);
    }
    false
}
