//! Turning what the monitor found into audit records and list entries.

use std::borrow::Cow;

use appraise::{CollectError, StoredLabel, collect_within};
use audit::{FileRule, Integrity, Process, RecordType};
use ima::template::{Field, TemplateError};
use ima::{Digest, Entry, HashAlgo, PcrIndex, Template};
use policy::{Class, Decision};

use crate::access::Access;
use crate::attributes::Attributes;
use crate::check::Check;
use crate::denial::Denial;
use crate::evidence::Evidence;
use crate::monitor::Monitor;
use crate::name::last_component;
use crate::object::Object;
use crate::options::Layer;
use crate::plan::Plan;
use crate::reading::Unfinished;
use crate::rules::Rules;
use crate::state::RuleId;

/// Which form of the file's name a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameForm {
    /// The path from the mount's root.
    Path,
    /// The last component, as the kernel does for collection failures.
    Last,
}

/// One record about one file, before the file and the task are filled in.
#[derive(Debug)]
pub(crate) struct Event {
    kind: RecordType,
    op: &'static str,
    cause: Cow<'static, str>,
    name: NameForm,
    rule: Option<String>,
    res: bool,
    digest: Option<Digest>,
}

impl Event {
    pub fn new(kind: RecordType, op: &'static str, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, op, cause: cause.into(), name: NameForm::Path, rule: None, res: false, digest: None }
    }

    /// Names the rule of `layer` that decided the appraisal.
    pub fn of(self, layer: &Layer, decision: &Decision) -> Self {
        self.of_class(layer, decision, Class::Appraise)
    }

    /// Names the rule of `layer` that decided this class.
    pub fn of_class(self, layer: &Layer, decision: &Decision, class: Class) -> Self {
        Self { rule: rule_text(layer, decision, class), ..self }
    }

    /// Sets the record's `res`, which is false otherwise.
    pub fn res(self, res: bool) -> Self {
        Self { res, ..self }
    }

    /// Carries the collected digest.
    pub fn digest(self, digest: Digest) -> Self {
        self.maybe_digest(Some(digest))
    }

    /// Carries the digest that was collected last, if there is one.
    pub fn maybe_digest(self, digest: Option<Digest>) -> Self {
        Self { digest, ..self }
    }

    /// Names a rule that decided an earlier access.
    pub fn by_rule(self, rules: &Rules, rule: RuleId) -> Self {
        let layer = rules.layers().nth(rule.layer);
        Self { rule: layer.and_then(|layer| text_of(layer, rule.index)), ..self }
    }

    /// Carries the last component of the path only.
    pub fn by_last_name(self) -> Self {
        Self { name: NameForm::Last, ..self }
    }
}

fn rule_text(layer: &Layer, decision: &Decision, class: Class) -> Option<String> {
    text_of(layer, decision.deciding(class)?)
}

fn text_of(layer: &Layer, index: usize) -> Option<String> {
    layer.policy.rules().get(index).map(|rule| rule.to_string().trim_end().to_owned())
}

/// Writes the record.
pub(crate) fn emit(check: &Check<'_>, event: &Event) {
    let path = check.name();
    let name = match event.name {
        NameForm::Path => path,
        NameForm::Last => last_component(path),
    };
    write(check.monitor, &check.plan.access, name, check.plan.facts.version.ino(), event);
}

fn write(monitor: &Monitor, access: &Access, name: &[u8], ino: u64, event: &Event) {
    let record = Integrity::new(event.kind, Process::read(access.tid), event.op, event.cause.clone());
    let mut record = record.file(name, monitor.options.backing.device.clone(), ino);
    record.res = event.res;
    record.rule.clone_from(&event.rule);
    record.digest = event.digest;
    monitor.options.audit.emit(record);
}

/// Writes the record of an `audit` rule.
pub(crate) fn file_rule(check: &Check<'_>, layer: &Layer, decision: &Decision, evidence: &Evidence) {
    let record = FileRule {
        process: Process::read(check.plan.access.tid),
        file: check.name().to_vec(),
        digest: evidence.digest,
        rule: rule_text(layer, decision, Class::Audit),
    };
    check.monitor.options.audit.emit(record);
}

/// A file that could not even be looked at: recorded and denied.
pub(crate) fn unreadable(
    monitor: &Monitor,
    object: &dyn Object,
    access: &Access,
    error: &std::io::Error,
) -> Denial {
    let path = monitor.name_of(object);
    tracing::warn!(path = %path.escape_ascii(), %error, "cannot stat the backing file");
    let event = Event::new(RecordType::IntegrityData, "collect_data", "failed");
    write(monitor, access, &path, 0, &event);
    Denial::open("failed")
}

/// A check that broke off in the middle, by a fault of ours: recorded and denied.
pub(crate) fn unchecked(monitor: &Monitor, plan: &Plan) -> Denial {
    let path = monitor.name_of(plan.object.as_ref());
    tracing::error!(path = %path.escape_ascii(), "a check panicked");
    let event = Event::new(RecordType::IntegrityData, "collect_data", "internal-error");
    write(monitor, &plan.access, &path, plan.facts.version.ino(), &event);
    Denial::open("internal-error")
}

/// A refused label: op `set_data`.
pub(crate) fn label_refused(monitor: &Monitor, object: &dyn Object, access: &Access, cause: &'static str) {
    let ino =
        object.stat_fd().ok().and_then(|fd| appraise::facts(fd).ok()).map_or(0, |facts| facts.version.ino());
    write(monitor, access, &object.path(), ino, &Event::new(RecordType::IntegrityData, "set_data", cause));
}

/// The list entry of a measured file.
///
/// # Errors
/// [`EntryError`] when the template asks for what cannot be had.
pub(crate) fn entry(
    check: &Check<'_>,
    template: &Template,
    pcr: PcrIndex,
    evidence: &Evidence,
) -> Result<Entry, EntryError> {
    let mut event = ima::Event::file(evidence.digest, check.name(), check.attrs());
    event.kind = evidence.kind;
    event.legacy_digest = legacy_digest(check, template, evidence)?;
    event.label = evidence.label.as_ref().ok().and_then(StoredLabel::value);
    let (plan, labels) = (check.plan, &check.monitor.options.labels);
    let attributes = Attributes::of(plan.object.as_ref(), template, labels, plan.label);
    let xattrs = attributes.xattrs();
    (event.evm, event.xattrs) = (attributes.evm.as_deref(), &xattrs);
    template.entry(pcr, &event).map_err(EntryError::Template)
}

/// An entry could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("cannot reach the file for a second digest")]
    Unreachable(#[source] std::io::Error),
    #[error("cannot collect the digest that the template asks for")]
    Collect(#[source] CollectError),
    #[error("cannot fill in the template")]
    Template(#[source] TemplateError),
}

impl EntryError {
    /// Whether the content was not read to its end, and nothing else is wrong.
    pub fn unfinished(&self) -> Option<Unfinished> {
        match self {
            Self::Collect(error) => Unfinished::of(error),
            Self::Unreachable(_) | Self::Template(_) => None,
        }
    }
}

/// The `d` field holds SHA-1 or MD5 alone; content hashed otherwise is read once more for it, by the default algorithm
/// where that is one of them.
fn legacy_digest(
    check: &Check<'_>,
    template: &Template,
    evidence: &Evidence,
) -> Result<Option<Digest>, EntryError> {
    if !template.fields().contains(&Field::D) {
        return Ok(None);
    }
    let algo = match check.monitor.options.hash {
        HashAlgo::Md5 => HashAlgo::Md5,
        _ => HashAlgo::Sha1,
    };
    match evidence.digest.algo() {
        HashAlgo::Sha1 | HashAlgo::Md5 => Ok(None),
        _ if evidence.collected.is_none() => Ok(Some(Digest::zero(algo))),
        _ => {
            let content = check.plan.object.read_fd().map_err(EntryError::Unreachable)?;
            let collected = check.reading.bounded(|bounds| collect_within(content, algo, bounds));
            Ok(Some(collected.map_err(EntryError::Collect)?.digest))
        }
    }
}
