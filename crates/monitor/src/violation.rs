//! Violations: a file read under measurement while it is written, or the other way round.
//!
//! `spec/ima-measurement.md` section 7; `ima_rdwr_violation_check` in security/integrity/ima/ima_main.c. Judged by
//! the counts as they stood when the access arrived, so the number of worker threads cannot change the answer.

use policy::{Actions, Func};

use crate::monitor::Monitor;
use crate::options::ViolationRule;
use crate::plan::{Hooks, Plan};
use crate::state::Inner;

/// The two kinds, by the kernel's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Time of measure, time of use: opened for writing while a measured reader has it open.
    ToMToU,
    /// A measured open for reading while writers have it open.
    OpenWriters,
}

impl Violation {
    /// The text of the record's `cause` field.
    pub fn cause(self) -> &'static str {
        match self {
            Self::ToMToU => "ToMToU",
            Self::OpenWriters => "open_writers",
        }
    }
}

/// Whether this access is to be measured at a hook where violations are looked for.
fn is_measured(hooks: &Hooks) -> bool {
    hooks.iter().any(|hook| match hook.func {
        Func::FileCheck | Func::MmapCheck => hook.actions().contains(Actions::MEASURE),
        _ => false,
    })
}

/// The violation that this access is, if it is one and has not been told yet.
///
/// `mapped` says that writers are left which only a mapping betrays.
pub(crate) fn due(
    monitor: &Monitor,
    inner: &Inner,
    plan: &Plan,
    hooks: &Hooks,
    mapped: bool,
) -> Option<Violation> {
    if !plan.rules.uses.measure {
        return None;
    }
    if plan.access.is_write() {
        return (plan.readers_before > 0 && inner.read_is_measured).then_some(Violation::ToMToU);
    }
    if (plan.writers_before == 0 && !mapped) || !is_measured(hooks) {
        return None;
    }
    let told = inner.told_epoch == plan.writer_epoch;
    match monitor.options.violations {
        ViolationRule::Once => (!told).then_some(Violation::OpenWriters),
        ViolationRule::Each => Some(Violation::OpenWriters),
    }
}

/// Notes what later accesses need to know of this one.
pub(crate) fn arm(inner: &mut Inner, plan: &Plan, hooks: &Hooks) {
    if !plan.access.is_write() && is_measured(hooks) {
        inner.read_is_measured = true;
    }
}

/// Notes that `violation` has been recorded.
pub(crate) fn told(monitor: &Monitor, inner: &mut Inner, plan: &Plan, violation: Violation) {
    match (violation, monitor.options.violations) {
        (Violation::ToMToU, ViolationRule::Once) => inner.read_is_measured = false,
        (Violation::ToMToU, ViolationRule::Each) => {}
        (Violation::OpenWriters, _) => inner.told_epoch = plan.writer_epoch,
    }
}
