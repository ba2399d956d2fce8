//! Who may not have a file open together: content that must not change after its check, and those who could change it.
//!
//! The kernel keeps writers away from a program once it is started, and from nothing else. Here content that a
//! signature let through is served to nobody while somebody can write it, and given to no writer while somebody uses
//! it; what is about to be started counts as in use from its check on.

use std::time::Instant;

use audit::RecordType;
use policy::AppraiseClass;

use super::{Check, Judged};
use crate::denial::Denial;
use crate::evidence::Evidence;
use crate::monitor::{Monitor, asks_signature};
use crate::options::Mode;
use crate::plan::Plan;
use crate::reading::{Lane, Reading};
use crate::records::Event;
use crate::release::{self, Patience};
use crate::state::RuleId;

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
        if !matters || !(self.left.writers || opened) {
            return Ok(());
        }
        let (op, cause) = match self.left.writers || started {
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
        let Some(rule) = written_after_serving(self.plan) else { return Ok(()) };
        if !self.left.users {
            state.with(|inner| inner.served_signed = None);
            return Ok(());
        }
        let collected = state.with(|inner| inner.collected.any());
        let cause = "signed-file-immutable";
        let event =
            Event::new(RecordType::IntegrityData, "appraise_data", cause).by_rule(&self.plan.rules, rule);
        self.record(&event.maybe_digest(collected.map(|collected| collected.digest)));
        Err(Denial::open(cause))
    }

    /// Between the check of a program and its start the kernel does not yet keep writers away; a moment later it
    /// does so itself, with the same answer. A mount that refuses nothing leaves it to the kernel.
    pub(super) fn nobody_starts_it(&self) -> Result<(), Denial> {
        if !written_while_started(self.plan) {
            return Ok(());
        }
        let cause = "open_for_execution";
        let state = self.plan.object.state();
        let (collected, rule) = state.with(|inner| (inner.collected.any(), inner.started_by));
        let event = Event::new(RecordType::IntegrityData, "appraise_data", cause);
        let event = match rule {
            Some(rule) => event.by_rule(&self.plan.rules, rule),
            None => event,
        };
        self.record(&event.maybe_digest(collected.map(|collected| collected.digest)));
        Err(Denial::busy(cause))
    }
}

/// Opens for writing that stood when this access came and still do.
fn writers_standing(plan: &Plan) -> u32 {
    plan.writers_before.min(plan.object.state().with(|inner| inner.writers))
}

/// Whether this is an open for writing of what somebody is about to run.
fn written_while_started(plan: &Plan) -> bool {
    let guarded = plan.rules.uses.appraise && plan.rules.mode == Mode::Enforce;
    let before = plan.access.is_write() && plan.executors_before > 0;
    // One that has been refused meanwhile is not started.
    guarded && before && plan.object.state().with(|inner| inner.executors > 0)
}

/// The rule by which content was served for its signature, if this is an open for writing that must not meet those who
/// use it.
fn written_after_serving(plan: &Plan) -> Option<RuleId> {
    let matters = plan.access.is_write() && plan.rules.mode == Mode::Enforce;
    plan.object.state().with(|inner| inner.served_signed).filter(|_| matters)
}

/// The waits of one access, one for each question.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    writers: Patience,
    users: Patience,
}

/// It cannot be told yet.
#[derive(Debug)]
pub(crate) enum NotYet {
    /// It is to be asked again at this time.
    Until(Instant),
    /// The file is to be read for it, which is too large here.
    TooLarge,
}

/// Who has the file though no open stands that matters here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left {
    /// Writers: a mapping outlived its open.
    pub writers: bool,
    /// Somebody, while this access wants to write what was served for its signature.
    pub users: bool,
}

impl Left {
    /// Finds out; where those who are just leaving cannot be told from those who stay, it is to be asked again.
    pub fn find(monitor: &Monitor, plan: &Plan, lane: Lane, waits: &mut Waits) -> Result<Self, NotYet> {
        let reading = Reading::for_label(monitor, lane);
        let writers = mapped_writers(monitor, plan, &reading, &mut waits.writers)?;
        Ok(Self { writers, users: users(plan, &mut waits.users).map_err(NotYet::Until)? })
    }
}

fn users(plan: &Plan, patience: &mut Patience) -> Result<bool, Instant> {
    if written_while_started(plan) || written_after_serving(plan).is_none() {
        return Ok(false);
    }
    let object = plan.object.as_ref();
    let readers = plan.readers_before.min(object.state().with(|inner| inner.readers));
    if readers > 0 { Ok(true) } else { release::in_use(object, patience) }
}

/// Whether writers are left though no open for writing stands. When there are none any more, the label is redone
/// that was not while there were.
fn mapped_writers(
    monitor: &Monitor,
    plan: &Plan,
    reading: &Reading<'_>,
    patience: &mut Patience,
) -> Result<bool, NotYet> {
    let object = plan.object.as_ref();
    let standing = if plan.access.is_exec() { writers_standing(plan) } else { plan.writers_before };
    if standing > 0 || !object.state().with(|inner| inner.was_written) {
        return Ok(false);
    }
    if release::writers_left(object, plan.writer_epoch, patience).map_err(NotYet::Until)? {
        return Ok(true);
    }
    let owed = object.state().with(|inner| inner.relabel && plan.writers_before == 0);
    if owed && reading.is_too_large(object) {
        return Err(NotYet::TooLarge);
    }
    object.state().with(|inner| inner.was_written = inner.writers > 0);
    if owed {
        release::after_writing(monitor, reading, object);
    }
    Ok(false)
}
