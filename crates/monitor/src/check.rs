//! The check itself: one access through all its hooks, as the kernel's `process_measurement` does it.
//!
//! `spec/ima-hooks.md` section 4, steps 4 to 17. Runs in a worker thread. Work on one inode comes here in the
//! order its accesses arrived and one at a time, so between two looks at the inode's record only the reader
//! thread's counting can have changed it.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::time::SystemTime;

use appraise::{ContentVersion, Status, StoredLabel, collect, judge, write_label};
use audit::RecordType;
use ima::{Digest, FileAttrs, HashAlgo, LabelType};
use measure::MeasureError;
use policy::{Actions, AppraiseClass, Decision, Func, RuleFlags};

use crate::denial::Denial;
use crate::evidence::{Evidence, gather};
use crate::kind::Kind;
use crate::monitor::{Monitor, asks_signature, is_strict, note_served, requirement};
use crate::options::{Layer, Mode, OnMeasureFailure};
use crate::plan::{Hooks, Plan};
use crate::records::{self, Event};
use crate::release;
use crate::state::Inner;
use crate::violation;

/// One access being checked.
pub(crate) struct Check<'a> {
    pub monitor: &'a Monitor,
    pub plan: &'a Plan,
    /// Writers are left that the counts do not show: a mapping outlived its open.
    mapped_writers: bool,
    /// Whether any hook wants the content itself looked at, whatever is remembered of it; until the hooks are known
    /// one may.
    strict: Cell<bool>,
    evidence: OnceCell<Evidence>,
    /// The label that fix mode has written since the evidence was gathered; later hooks judge by it.
    fixed: OnceCell<StoredLabel>,
    name: OnceCell<Vec<u8>>,
}

/// What one layer makes of one hook, and the layer's place in the record.
struct Judged<'a> {
    index: usize,
    layer: &'a Layer,
    decision: &'a Decision,
}

impl<'a> Check<'a> {
    pub fn new(monitor: &'a Monitor, plan: &'a Plan) -> Self {
        let mapped_writers = mapped_writers(monitor, plan);
        let (strict, evidence, fixed) = (Cell::new(true), OnceCell::new(), OnceCell::new());
        Self { monitor, plan, mapped_writers, strict, evidence, fixed, name: OnceCell::new() }
    }

    /// Decides; gives the content version that the decision is about.
    pub fn decide(&self) -> Result<ContentVersion, Denial> {
        self.nobody_starts_it()?;
        self.nobody_uses_it()?;
        let kind = self.kind()?;
        let hooks = self.hooks(kind.as_ref())?;
        self.prepare(&hooks);
        self.violations(&hooks)?;
        for hook in hooks.iter() {
            for (index, (layer, decision)) in self.monitor.layers().zip(&hook.decisions).enumerate() {
                if let Some(decision) = decision {
                    self.at_layer(&Judged { index, layer, decision })?;
                }
            }
        }
        self.plan.object.state().with(|inner| {
            note_served(inner, self.plan, &hooks);
            if self.plan.access.is_write() && self.monitor.wants_relabel(&hooks) {
                inner.relabel = true;
            }
        });
        self.monitor.note_interpreter(self.plan, kind.as_ref());
        Ok(self.evidence.get().map_or(self.plan.facts.version, |evidence| evidence.version))
    }

    /// Notes what the hooks say of the whole access, before the first of them acts.
    fn prepare(&self, hooks: &Hooks) {
        // Read before any key is used: what passes under older keys is then not taken for newer.
        let generation = self.monitor.generation();
        let decisions = || hooks.iter().flat_map(|hook| hook.decisions.iter().flatten());
        self.plan.object.state().with(|inner| {
            inner.enter_generation(generation);
            // One look at the content serves all hooks, so it is the one that the strictest of them wants.
            self.strict.set(decisions().any(|decision| is_strict(inner, decision)));
            if !self.plan.access.created {
                return;
            }
            for hook in hooks.iter().filter(|hook| hook.func == Func::FileCheck) {
                for (layer, decision) in hook.decisions.iter().enumerate() {
                    let appraises = |decision: &Decision| decision.actions.contains(Actions::APPRAISE);
                    inner.set_new(layer, decision.as_ref().is_some_and(appraises));
                }
            }
        });
    }

    /// What kind of file it is, when that tells which hooks it passes.
    fn kind(&self) -> Result<Option<Kind>, Denial> {
        if !self.monitor.needs_kind(&self.plan.access) {
            return Ok(None);
        }
        let version = self.plan.facts.version;
        let object = &self.plan.object;
        let writers = self.plan.writers_before.max(u32::from(self.mapped_writers));
        let known = object.state().with(|inner| inner.kind_at(&version, writers).cloned());
        if known.is_some() {
            return Ok(known);
        }
        let started = SystemTime::now();
        let found = object.read_fd().and_then(|fd| Ok(Kind::of(fd)?));
        let kind = found.map_err(|error| self.uncollected(None, &error))?;
        // As with digests: remembered only where another change is sure to give another version.
        if writers == 0 && version.is_settled_at(started) {
            object.state().with(|inner| inner.kind = Some((version, kind.clone())));
        }
        Ok(Some(kind))
    }

    fn hooks(&self, kind: Option<&Kind>) -> Result<Hooks, Denial> {
        let mapped = self.monitor.mapped(&self.plan.access, kind);
        match self.monitor.hooks(self.plan, mapped, None) {
            Ok(hooks) => Ok(hooks),
            Err(policy::Undecided::Digest(algo)) => {
                let digest = self.digest_by(algo).map_err(|error| self.uncollected(None, &error))?;
                self.monitor.hooks(self.plan, mapped, Some(&digest)).map_err(|error| self.undecided(&error))
            }
            Err(error) => Err(self.undecided(&error)),
        }
    }

    fn violations(&self, hooks: &Hooks) -> Result<(), Denial> {
        let state = self.plan.object.state();
        let due = state.with(|inner| {
            let due = violation::due(self.monitor, inner, self.plan, hooks, self.mapped_writers);
            violation::arm(inner, self.plan, hooks);
            due
        });
        let Some(violation) = due else { return Ok(()) };
        let added = self.monitor.options.list.add_violation(self.name(), self.attrs(), None);
        let cause = violation.cause();
        self.record(&Event::new(RecordType::IntegrityPcr, "invalid_pcr", cause).res(added.is_ok()));
        state.with(|inner| violation::told(self.monitor, inner, self.plan, violation));
        added.map_err(|error| self.not_added(&error)).or_else(|denial| self.tolerated(denial))
    }

    /// One hook of one layer.
    fn at_layer(&self, judged: &Judged<'_>) -> Result<(), Denial> {
        let decision = judged.decision;
        let actions = decision.actions;
        if actions.contains(Actions::HASH) && self.monitor.keeps_labels(judged.index) {
            self.note_hash_rule();
        }
        let left = if actions.intersects(Actions::MEASURE | Actions::APPRAISE | Actions::AUDIT) {
            let evidence = self.evidence().map_err(|error| self.collection_failed(judged, &error));
            match evidence {
                Ok(evidence) => self.act(judged, evidence),
                Err(outcome) => outcome,
            }
        } else {
            Ok(())
        };
        left?;
        self.immutable(judged)
    }

    /// Measures, appraises and audits, in the kernel's order; the answer comes last.
    fn act(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let actions = judged.decision.actions;
        let direct = evidence.collected.is_none();
        if direct {
            let event =
                Event::new(RecordType::IntegrityData, "collect_data", "failed(directio)").by_last_name();
            self.record(&event.of(judged.layer, judged.decision));
        }
        if actions.contains(Actions::MEASURE) {
            self.measure(judged, evidence)?;
        }
        let mut outcome = Ok(());
        if judged.decision.flags.contains(RuleFlags::DENY) {
            outcome = self.denied_by_rule(judged, evidence);
        } else if actions.contains(Actions::APPRAISE) {
            outcome = if direct { self.direct_io(judged) } else { self.appraise(judged, evidence) };
        }
        if actions.contains(Actions::AUDIT) && !direct {
            self.audit_rule(judged, evidence);
        }
        outcome
    }

    fn measure(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let pcr = judged.decision.pcr.unwrap_or(self.monitor.options.pcr);
        let state = self.plan.object.state();
        if state.with(|inner| inner.is_measured(pcr)) {
            return Ok(());
        }
        let template = judged.decision.template.as_ref().unwrap_or(&self.monitor.options.template);
        let added = match records::entry(self, template, pcr, evidence) {
            Ok(entry) => self.monitor.options.list.add(entry).map_err(|error| self.not_added(&error)),
            Err(error) => Err(self.unmeasured(&error, "hashing_error".into())),
        };
        match added {
            Ok(_) => {
                state.with(|inner| {
                    if evidence.collected.is_some() && evidence.moment == inner.moment() {
                        inner.set_measured(pcr);
                    }
                });
                Ok(())
            }
            Err(denial) => self.tolerated(denial),
        }
    }

    fn appraise(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let decision = judged.decision;
        let (class, required) = (decision.appraise_class, requirement(decision));
        let state = self.plan.object.state();
        let new = state.with(|inner| inner.is_new(judged.index));
        let subject = appraise::Subject {
            label: self.fixed.get().map_or(evidence.label.as_ref(), Ok),
            digest: &evidence.digest,
            size: evidence.size,
            new,
        };
        let verdict = judge(&subject, required, &judged.layer.ring);
        if let Some(cause) = verdict.cause {
            let event =
                Event::new(RecordType::IntegrityData, "appraise_data", cause.as_str()).res(verdict.res);
            self.record(&event.digest(evidence.digest).of(judged.layer, decision));
        }
        let fixed = !verdict.status.allows() && self.fix(judged, evidence);
        let status = if fixed { Status::Pass } else { verdict.status };
        state.with(|inner| {
            let current = evidence.moment == inner.moment();
            if let Some(signed) = verdict.signed.filter(|_| current) {
                inner.signed = signed;
            }
            let remember = current && !fixed && verdict.cause.is_none();
            inner.set_status(judged.index, class, required, status, remember);
        });
        if !status.allows() {
            return self.refused(verdict.cause.map_or("failed", appraise::Cause::as_str));
        }
        self.nobody_writes_it(judged, evidence)?;
        self.algorithm_allowed(judged, evidence)
    }

    /// Content that passed can still be changed through a writable mapping that is left. What is to be run, mapped
    /// or signed is not served then (the kernel's `mmapped_writers`, for mappings); nor under any writer, who could
    /// change it after this check.
    fn nobody_writes_it(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
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
    fn nobody_uses_it(&self) -> Result<(), Denial> {
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
    fn nobody_starts_it(&self) -> Result<(), Denial> {
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

    /// `appraise_algos`: looked at after a pass, and each time, not only the first.
    fn algorithm_allowed(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let Some(algos) = &judged.decision.algos else { return Ok(()) };
        if algos.contains(evidence.digest.algo()) {
            return Ok(());
        }
        let event = Event::new(RecordType::IntegrityData, "collect_data", "denied-hash-algorithm");
        self.record(&event.digest(evidence.digest).of(judged.layer, judged.decision));
        self.refused("denied-hash-algorithm")
    }

    /// Fix mode: writes the hash label that is missing or wrong. A signature is never replaced.
    fn fix(&self, judged: &Judged<'_>, evidence: &Evidence) -> bool {
        if self.monitor.options.mode != Mode::Fix || !self.monitor.keeps_labels(judged.index) {
            return false;
        }
        let signed =
            evidence.label_bytes().and_then(ima::label_type).is_some_and(|kind| kind == LabelType::Signature);
        let label = ima::encode_digest(&evidence.digest);
        let written = !signed && self.plan.object.stat_fd().is_ok_and(|fd| write_label(fd, &label).is_ok());
        if written {
            self.fixed.get_or_init(|| StoredLabel::Value(label));
        }
        written
    }

    /// `O_DIRECT` leaves nothing to appraise: denied unless the rule permits it.
    fn direct_io(&self, judged: &Judged<'_>) -> Result<(), Denial> {
        if judged.decision.flags.contains(RuleFlags::PERMIT_DIRECTIO) {
            return Ok(());
        }
        self.refused("failed(directio)")
    }

    /// `appraise_type=deny`: the rule itself refuses, whatever the label says.
    fn denied_by_rule(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let cause = "denied-by-policy";
        let event = Event::new(RecordType::IntegrityData, "appraise_data", cause).digest(evidence.digest);
        self.record(&event.of(judged.layer, judged.decision));
        self.refused(cause)
    }

    fn audit_rule(&self, judged: &Judged<'_>, evidence: &Evidence) {
        let first = self.plan.object.state().with(|inner| !std::mem::replace(&mut inner.audited, true));
        if first {
            records::file_rule(self, judged.layer, judged.decision, evidence);
        }
    }

    /// A signed file may not be written where a rule appraises the open.
    fn immutable(&self, judged: &Judged<'_>) -> Result<(), Denial> {
        let access = &self.plan.access;
        if !judged.decision.actions.contains(Actions::APPRAISE) || !access.is_write() {
            return Ok(());
        }
        if !self.plan.object.state().with(|inner| inner.signed && !inner.is_new(judged.index)) {
            return Ok(());
        }
        let cause = "signed-file-immutable";
        self.record(
            &Event::new(RecordType::IntegrityData, "appraise_data", cause).of(judged.layer, judged.decision),
        );
        self.refused(cause)
    }

    /// A `hash` rule: the file's label is renewed at the last close, unless it is a signature.
    fn note_hash_rule(&self) {
        let state = self.plan.object.state();
        if state.with(|inner| inner.hashed || inner.signed) {
            return;
        }
        let label = self.plan.object.stat_fd().ok().and_then(|fd| appraise::read_label(fd).ok());
        let kind = label.as_ref().and_then(|label| label.value()).and_then(ima::label_type);
        state.with(|inner| {
            inner.hashed = true;
            inner.signed |= kind == Some(LabelType::Signature);
        });
    }

    /// Label and digest of this access, gathered once.
    fn evidence(&self) -> Result<&Evidence, std::io::Error> {
        if let Some(evidence) = self.evidence.get() {
            return Ok(evidence);
        }
        let options = &self.monitor.options;
        let object = self.plan.object.as_ref();
        let evidence = if self.plan.access.is_direct() {
            Evidence::of_direct_io(object, self.plan.facts.version, options.hash)?
        } else {
            let remembered = |version: &ContentVersion, label: Option<&[u8]>, algo| {
                object.state().with(|inner| {
                    let stands = self.stands(inner, version, label);
                    inner.collected.filter(|collected| stands && collected.digest.algo() == algo)
                })
            };
            let mut evidence = gather(object, options.hash, remembered).map_err(std::io::Error::other)?;
            if let Some(collected) = evidence.collected.as_mut().filter(|_| self.mapped_writers) {
                collected.stable = false;
            }
            self.adopt(&evidence);
            evidence
        };
        Ok(self.evidence.get_or_init(|| evidence))
    }

    /// Whether the remembered digest may stand for this version of the content under this label.
    fn stands(&self, inner: &Inner, version: &ContentVersion, label: Option<&[u8]>) -> bool {
        let signed = label.and_then(ima::label_type).is_some_and(is_signature);
        let strict = self.strict.get() || signed;
        if !self.mapped_writers {
            return inner.stands(version, self.plan.writers_before, strict);
        }
        // A mapping is a writer; one whose file will be labelled anew is treated as such.
        inner.relabel && inner.stands(version, 1, strict)
    }

    /// The content's digest by the algorithm that a rule lists digests of.
    fn digest_by(&self, algo: HashAlgo) -> Result<Digest, std::io::Error> {
        let evidence = self.evidence()?;
        if evidence.digest.algo() == algo && evidence.collected.is_some() {
            return Ok(evidence.digest);
        }
        let collected = collect(self.plan.object.read_fd()?, algo).map_err(std::io::Error::other)?;
        Ok(collected.digest)
    }

    /// Puts newly collected evidence into the inode's record; what was remembered anyway stays as it is.
    fn adopt(&self, evidence: &Evidence) {
        let Some(collected) = evidence.collected else { return };
        self.plan.object.state().with(|inner| {
            let stands = self.stands(inner, &collected.version, evidence.label_bytes())
                && inner.collected.is_some_and(|old| old.digest == collected.digest);
            if !stands {
                inner.adopt(collected);
            }
        });
    }

    /// The path in records and entries, prefix included.
    pub fn name(&self) -> &[u8] {
        self.name.get_or_init(|| {
            let mut name = self.monitor.options.path_prefix.clone();
            name.extend_from_slice(&self.plan.object.path());
            name
        })
    }

    /// What templates tell of the inode.
    pub fn attrs(&self) -> FileAttrs {
        let facts = &self.plan.facts;
        FileAttrs { uid: facts.owner, gid: facts.group, mode: facts.mode }
    }

    fn record(&self, event: &Event) {
        records::emit(self, event);
    }

    /// What a refusal comes to in this mount's mode.
    fn refused(&self, cause: &'static str) -> Result<(), Denial> {
        self.refused_as(Denial::open(cause))
    }

    fn refused_as(&self, denial: Denial) -> Result<(), Denial> {
        match self.monitor.options.mode {
            Mode::Enforce => Err(denial),
            Mode::Log | Mode::Fix | Mode::Off => Ok(()),
        }
    }

    /// The content could not be read: what must be appraised is refused, what must be measured is not served.
    fn collection_failed(&self, judged: &Judged<'_>, error: &std::io::Error) -> Result<(), Denial> {
        let denial = self.uncollected(Some(judged), error);
        let actions = judged.decision.actions;
        if actions.contains(Actions::APPRAISE) && self.monitor.options.mode == Mode::Enforce {
            return Err(denial);
        }
        if actions.contains(Actions::MEASURE) { self.tolerated(denial) } else { Ok(()) }
    }

    fn uncollected(&self, judged: Option<&Judged<'_>>, error: &std::io::Error) -> Denial {
        tracing::warn!(path = %self.name().escape_ascii(), %error, "cannot collect");
        let event = Event::new(RecordType::IntegrityData, "collect_data", "failed").by_last_name();
        let event = match judged {
            Some(judged) => event.of(judged.layer, judged.decision),
            None => event,
        };
        self.record(&event);
        Denial::open("failed")
    }

    fn undecided(&self, error: &policy::Undecided) -> Denial {
        tracing::warn!(path = %self.name().escape_ascii(), %error, "cannot decide");
        self.record(&Event::new(RecordType::IntegrityData, "collect_data", "unknown-subject"));
        Denial::open("unknown-subject")
    }

    /// The list did not take the entry whole; the cause is the kernel's word for it.
    fn not_added(&self, error: &MeasureError) -> Denial {
        let cause = match error {
            MeasureError::Extend { source, .. } => format!("TPM_error({})", source.code()).into(),
            MeasureError::Journal { .. } => "journal-error".into(),
            _ => "hashing_error".into(),
        };
        self.unmeasured(error, cause)
    }

    fn unmeasured(&self, error: &dyn std::error::Error, cause: Cow<'static, str>) -> Denial {
        tracing::warn!(path = %self.name().escape_ascii(), %error, "cannot measure");
        self.record(&Event::new(RecordType::IntegrityPcr, "add_template_measure", cause));
        Denial::open("measurement-failed")
    }

    /// A measurement that failed denies, unless the mount was told only to log it.
    fn tolerated(&self, denial: Denial) -> Result<(), Denial> {
        match self.monitor.options.on_measure_failure {
            OnMeasureFailure::Deny => Err(denial),
            OnMeasureFailure::Log => Ok(()),
        }
    }
}

/// Opens for writing that stood when this access came and still do.
fn writers_standing(plan: &Plan) -> u32 {
    plan.writers_before.min(plan.object.state().with(|inner| inner.writers))
}

/// Whether writers are left though no open for writing stands. When there are none any more, the label is redone
/// that was not while there were.
fn mapped_writers(monitor: &Monitor, plan: &Plan) -> bool {
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

fn is_signature(kind: LabelType) -> bool {
    match kind {
        LabelType::Signature | LabelType::VeritySignature => true,
        LabelType::Digest
        | LabelType::DigestNg
        | LabelType::Hmac
        | LabelType::PortableSignature
        | LabelType::Other(_) => false,
    }
}
