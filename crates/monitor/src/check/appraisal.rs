//! Appraising at one hook: the label against the content, and what follows from it.
//!
//! `spec/ima-appraisal.md`; `ima_appraise_measurement` in security/integrity/ima/ima_appraise.c.

use appraise::{Cause, Status, StoredLabel, judge};
use audit::RecordType;
use ima::{Digest, LabelType};
use policy::{Actions, Decision, RuleFlags};

use super::{Check, Judged};
use crate::denial::Denial;
use crate::evidence::Evidence;
use crate::monitor::requirement;
use crate::options::Mode;
use crate::records::Event;

impl Check<'_> {
    pub(super) fn appraise(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let decision = judged.decision;
        if self.is_blacklisted(judged, evidence) {
            return self.blacklisted(judged, evidence);
        }
        let (class, required) = (decision.appraise_class, requirement(decision));
        let state = self.plan.object.state();
        let new = state.with(|inner| inner.is_new(judged.index));
        let subject = appraise::Subject {
            label: self.fixed.get().map_or(evidence.label.as_ref(), Ok),
            digest: &evidence.digest,
            size: evidence.size,
            new,
            unverifiable: decision.flags.contains(RuleFlags::FAIL_UNVERIFIABLE)
                && self.monitor.options.backing.is_unverifiable(),
        };
        let verdict = judge(&subject, required, &judged.layer.ring);
        if let Some(cause) = verdict.cause {
            let event =
                Event::new(RecordType::IntegrityData, "appraise_data", cause.as_str()).res(verdict.res);
            self.record(&event.digest(evidence.digest).of(judged.layer, decision));
        }
        let fixable = verdict.cause.is_some_and(|cause| cause != Cause::UnverifiableSignature);
        let fixed = fixable && self.fix(judged, evidence);
        let status = if fixed { Status::Pass } else { verdict.status };
        state.with(|inner| {
            let current = evidence.moment == inner.moment();
            if let Some(signed) = verdict.signed.filter(|_| current) {
                inner.signed = signed;
            }
            let remember = current && !fixed && verdict.cause.is_none();
            inner.set_status(judged.index, class, required, status, remember);
        });
        if !status.allows() && !self.direct_io_permitted(judged) {
            return self.refused(verdict.cause.map_or("failed", Cause::as_str));
        }
        self.nobody_writes_it(judged, evidence)?;
        self.algorithm_allowed(judged, evidence)
    }

    /// Whether the rule asks for the blacklist, and the host's names the content. The container's ring has none of its
    /// own: what the host revoked stays so in both layers.
    fn is_blacklisted(&self, judged: &Judged<'_>, evidence: &Evidence) -> bool {
        let asked = judged.decision.flags.contains(RuleFlags::CHECK_BLACKLIST);
        asked && self.monitor.options.host.ring.blacklist().has_content(&evidence.digest)
    }

    /// Content that is revoked is not appraised at all. Where it is also measured the list says what was refused
    /// (`ima_check_blacklist` in ima_appraise.c).
    fn blacklisted(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let (decision, cause) = (judged.decision, "blacklisted-hash");
        if decision.actions.contains(Actions::MEASURE) {
            self.measure_blacklisted(decision, &evidence.digest)?;
        }
        let event = Event::new(RecordType::IntegrityData, "appraise_data", cause).digest(evidence.digest);
        self.record(&event.of(judged.layer, decision));
        self.refused(cause)
    }

    fn measure_blacklisted(&self, decision: &Decision, revoked: &Digest) -> Result<(), Denial> {
        let pcr = decision.pcr.unwrap_or(self.monitor.options.pcr);
        let list = &self.monitor.options.list;
        let added = list.add_buffer(pcr, b"blacklisted-hash", revoked.bytes());
        added.map_err(|error| self.not_added(&error)).or_else(|denial| self.tolerated(denial))
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

    /// Fix mode: writes the hash label that is missing or wrong. A signature of the content is never replaced; one of
    /// its fs-verity digest is, by that digest, which no rule will take: so does the kernel.
    fn fix(&self, judged: &Judged<'_>, evidence: &Evidence) -> bool {
        if self.plan.rules.mode != Mode::Fix || !self.plan.rules.uses.keeps_labels(judged.index) {
            return false;
        }
        let signed =
            evidence.label_bytes().and_then(ima::label_type).is_some_and(|kind| kind == LabelType::Signature);
        let label = ima::encode_digest(&evidence.digest);
        let labels = &self.monitor.options.labels;
        let written = !signed && self.plan.object.stat_fd().is_ok_and(|fd| labels.write(fd, &label).is_ok());
        if written {
            self.fixed.get_or_init(|| StoredLabel::Value(label));
        }
        written
    }

    /// `O_DIRECT` leaves nothing to appraise: denied unless the rule permits it.
    pub(super) fn direct_io(&self, judged: &Judged<'_>) -> Result<(), Denial> {
        if self.direct_io_permitted(judged) {
            return Ok(());
        }
        self.refused("failed(directio)")
    }

    /// Whether the rule lets this open through whatever the label says, since it is made with `O_DIRECT`.
    fn direct_io_permitted(&self, judged: &Judged<'_>) -> bool {
        self.plan.access.is_direct() && judged.decision.flags.contains(RuleFlags::PERMIT_DIRECTIO)
    }

    /// `appraise_type=deny`: the rule itself refuses, whatever the label says.
    pub(super) fn denied_by_rule(&self, judged: &Judged<'_>, evidence: &Evidence) -> Result<(), Denial> {
        let cause = "denied-by-policy";
        let event = Event::new(RecordType::IntegrityData, "appraise_data", cause).digest(evidence.digest);
        self.record(&event.of(judged.layer, judged.decision));
        self.refused(cause)
    }

    /// A signed file may not be written where a rule appraises the open.
    pub(super) fn immutable(&self, judged: &Judged<'_>) -> Result<(), Denial> {
        let access = &self.plan.access;
        if !judged.decision.actions.contains(Actions::APPRAISE) || !access.is_write() {
            return Ok(());
        }
        if !self.plan.object.state().with(|inner| inner.signed && !inner.is_new(judged.index)) {
            return Ok(());
        }
        let cause = "signed-file-immutable";
        let digest = self.evidence.digest();
        let event = Event::new(RecordType::IntegrityData, "appraise_data", cause).maybe_digest(digest);
        self.record(&event.of(judged.layer, judged.decision));
        self.refused(cause)
    }
}
