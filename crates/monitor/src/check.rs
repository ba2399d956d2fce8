//! The check itself: one access through all its hooks, as the kernel's `process_measurement` does it.
//!
//! `spec/ima-hooks.md` section 4, steps 4 to 17. Runs in a worker thread. Work on one inode comes here in the
//! order its accesses arrived and one at a time, so between two looks at the inode's record only the reader
//! thread's counting can have changed it.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::time::{Duration, Instant};

use appraise::{ContentVersion, Requirement, Status, collect, judge, write_label};
use audit::RecordType;
use ima::{Digest, FileAttrs, HashAlgo, LabelType};
use measure::MeasureError;
use policy::{Actions, AppraiseClass, Decision, RuleFlags};

use crate::denial::Denial;
use crate::evidence::{Evidence, gather};
use crate::kind::Kind;
use crate::monitor::{Monitor, is_strict, wants_relabel};
use crate::options::{Layer, Mode, OnMeasureFailure};
use crate::plan::{Hooks, Plan};
use crate::records::{self, Event};
use crate::violation;

/// One access being checked.
pub(crate) struct Check<'a> {
    pub monitor: &'a Monitor,
    pub plan: &'a Plan,
    /// Writers are left that the counts do not show: a mapping outlived its open.
    mapped_writers: bool,
    evidence: OnceCell<Evidence>,
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
        let mapped_writers = mapped_writers(plan);
        Self { monitor, plan, mapped_writers, evidence: OnceCell::new(), name: OnceCell::new() }
    }

    /// Decides; gives the content version that the decision is about.
    pub fn decide(&self) -> Result<ContentVersion, Denial> {
        let kind = self.kind()?;
        let hooks = self.hooks(kind.as_ref())?;
        self.violations(&hooks)?;
        for hook in hooks.iter() {
            for (index, (layer, decision)) in self.monitor.layers().zip(&hook.decisions).enumerate() {
                if let Some(decision) = decision {
                    self.at_layer(&Judged { index, layer, decision })?;
                }
            }
        }
        self.plan.object.state().with(|inner| {
            if self.plan.access.is_write() && wants_relabel(&hooks) {
                inner.relabel = true;
            }
        });
        self.monitor.note_interpreter(self.plan, kind.as_ref());
        Ok(self.evidence.get().map_or(self.plan.facts.version, |evidence| evidence.version))
    }

    /// What kind of file it is, when that tells which hooks it passes.
    fn kind(&self) -> Result<Option<Kind>, Denial> {
        if !self.monitor.needs_kind(&self.plan.access) {
            return Ok(None);
        }
        let version = self.plan.facts.version;
        let object = &self.plan.object;
        let known = object
            .state()
            .with(|inner| inner.kind.as_ref().filter(|(at, _)| *at == version).map(|(_, kind)| kind.clone()));
        if known.is_some() {
            return Ok(known);
        }
        let found = object.read_fd().and_then(|fd| Ok(Kind::of(fd)?));
        let kind = found.map_err(|error| self.uncollected(None, &error))?;
        object.state().with(|inner| inner.kind = Some((version, kind.clone())));
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
        let state = self.plan.object.state();
        let generation = self.monitor.generation();
        state.with(|inner| inner.enter_generation(generation));
        if actions.contains(Actions::HASH) {
            self.note_hash_rule();
        }
        let left = if actions.intersects(Actions::MEASURE | Actions::APPRAISE | Actions::AUDIT) {
            let strict = state.with(|inner| is_strict(inner, decision));
            let evidence = self.evidence(strict).map_err(|error| self.collection_failed(judged, &error));
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
                if evidence.collected.is_some() {
                    state.with(|inner| inner.set_measured(pcr));
                }
                Ok(())
            }
            Err(denial) => self.tolerated(denial),
        }
    }

    fn appraise(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let decision = judged.decision;
        let class = decision.appraise_class;
        let state = self.plan.object.state();
        let (new, passed) = state
            .with(|inner| (inner.new, inner.has_passed(judged.index, class) && !is_strict(inner, decision)));
        if passed && decision.algos.is_none() {
            return Ok(());
        }
        let subject = appraise::Subject {
            label: evidence.label.as_ref(),
            digest: &evidence.digest,
            size: evidence.size,
            new,
        };
        let verdict = judge(&subject, requirement(decision), &judged.layer.ring);
        if let Some(cause) = verdict.cause {
            let event =
                Event::new(RecordType::IntegrityData, "appraise_data", cause.as_str()).res(verdict.res);
            self.record(&event.digest(evidence.digest).of(judged.layer, decision));
        }
        let fixed = !verdict.status.allows() && self.fix(evidence);
        let status = if fixed { Status::Pass } else { verdict.status };
        state.with(|inner| {
            if let Some(signed) = verdict.signed {
                inner.signed = signed;
            }
            inner.set_status(judged.index, class, status, !fixed && verdict.cause.is_none());
        });
        if !status.allows() {
            return self.refused(verdict.cause.map_or("failed", appraise::Cause::as_str));
        }
        self.no_mapped_writers(judged)?;
        self.algorithm_allowed(judged, evidence)
    }

    /// Content that passed can still be changed through a writable mapping that is left. What is to be run, mapped
    /// or signed is not served then (the kernel's `mmapped_writers`, for mappings).
    fn no_mapped_writers(&self, judged: &Judged<'_>) -> Result<(), Denial> {
        let decision = judged.decision;
        let state = self.plan.object.state();
        let matters = match decision.appraise_class {
            AppraiseClass::Mmap | AppraiseClass::Bprm | AppraiseClass::Creds => true,
            AppraiseClass::File | AppraiseClass::Read => state.with(|inner| is_strict(inner, decision)),
        };
        if !self.mapped_writers || !matters {
            return Ok(());
        }
        let cause = "mmapped_writers";
        self.record(&Event::new(RecordType::IntegrityData, "mmap_file", cause).of(judged.layer, decision));
        self.refused(cause)
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
    fn fix(&self, evidence: &Evidence) -> bool {
        if self.monitor.options.mode != Mode::Fix {
            return false;
        }
        let signed =
            evidence.label_bytes().and_then(ima::label_type).is_some_and(|kind| kind == LabelType::Signature);
        let label = ima::encode_digest(&evidence.digest);
        !signed && self.plan.object.stat_fd().is_ok_and(|fd| write_label(fd, &label).is_ok())
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
        if !self.plan.object.state().with(|inner| inner.signed && !inner.new) {
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
    fn evidence(&self, strict: bool) -> Result<&Evidence, std::io::Error> {
        if let Some(evidence) = self.evidence.get() {
            return Ok(evidence);
        }
        let options = &self.monitor.options;
        let object = self.plan.object.as_ref();
        let evidence = if self.plan.access.is_direct() {
            Evidence::of_direct_io(object, self.plan.facts.version, options.hash)?
        } else {
            let remembered = |version: &ContentVersion, algo| {
                object.state().with(|inner| {
                    let stands =
                        inner.stands(version, self.plan.writers_before, strict) && !self.mapped_writers;
                    inner.collected.filter(|collected| stands && collected.digest.algo() == algo)
                })
            };
            let mut evidence = gather(object, options.hash, remembered).map_err(std::io::Error::other)?;
            if let Some(collected) = evidence.collected.as_mut().filter(|_| self.mapped_writers) {
                collected.stable = false;
            }
            self.adopt(&evidence, strict);
            evidence
        };
        Ok(self.evidence.get_or_init(|| evidence))
    }

    /// The content's digest by the algorithm that a rule lists digests of.
    fn digest_by(&self, algo: HashAlgo) -> Result<Digest, std::io::Error> {
        let evidence = self.evidence(true)?;
        if evidence.digest.algo() == algo && evidence.collected.is_some() {
            return Ok(evidence.digest);
        }
        let collected = collect(self.plan.object.read_fd()?, algo).map_err(std::io::Error::other)?;
        Ok(collected.digest)
    }

    /// Puts newly collected evidence into the inode's record; what was remembered anyway stays as it is.
    fn adopt(&self, evidence: &Evidence, strict: bool) {
        let Some(collected) = evidence.collected else { return };
        self.plan.object.state().with(|inner| {
            let stands = inner.stands(&collected.version, self.plan.writers_before, strict)
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
        match self.monitor.options.mode {
            Mode::Enforce => Err(Denial::open(cause)),
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

/// How long a writer that has just closed may still hold the backing file. The kernel drops it in the closing task,
/// after it has sent RELEASE; a task that is not scheduled in between holds on for as long.
const LINGER: Duration = Duration::from_secs(2);

/// Whether writers are left though no open for writing stands.
///
/// Those that are just leaving are waited for. Once waiting was in vain it was a mapping, and the same writers'
/// epoch is not waited for again.
fn mapped_writers(plan: &Plan) -> bool {
    let state = plan.object.state();
    if plan.writers_before > 0 || !state.with(|inner| inner.was_written) {
        return false;
    }
    let start = Instant::now();
    let mut pause = Duration::from_micros(50);
    loop {
        if matches!(plan.object.is_written(), Ok(false)) {
            state.with(|inner| inner.was_written = inner.writers > 0);
            return false;
        }
        if start.elapsed() >= LINGER || state.with(|inner| inner.mapped_epoch == plan.writer_epoch) {
            state.with(|inner| inner.mapped_epoch = plan.writer_epoch);
            return true;
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(5));
    }
}

fn requirement(decision: &Decision) -> Requirement {
    if decision.flags.contains(RuleFlags::VERITY) {
        Requirement::VeritySignature
    } else if decision.flags.contains(RuleFlags::SIGNATURE_REQUIRED) {
        Requirement::Signature
    } else {
        Requirement::AnyLabel
    }
}
