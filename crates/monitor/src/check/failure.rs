//! What a refusal, and a check that could not be made, come to.

use std::borrow::Cow;
use std::time::Instant;

use audit::RecordType;
use measure::MeasureError;
use policy::{Actions, Class};

use super::{Check, Judged};
use crate::denial::Denial;
use crate::evidence::EvidenceError;
use crate::options::{Mode, OnMeasureFailure};
use crate::reading::Unfinished;
use crate::records::Event;

impl Check<'_> {
    /// What a refusal comes to in this mount's mode.
    pub(super) fn refused(&self, cause: &'static str) -> Result<(), Denial> {
        self.refused_as(Denial::open(cause))
    }

    pub(super) fn refused_as(&self, denial: Denial) -> Result<(), Denial> {
        match self.plan.rules.mode {
            Mode::Enforce => Err(denial),
            Mode::Log | Mode::Fix | Mode::Off => Ok(()),
        }
    }

    /// The content could not be read: what must be appraised is refused, what must be measured is not served.
    pub(super) fn collection_failed(
        &self,
        judged: &Judged<'_>,
        actions: Actions,
        error: &EvidenceError,
    ) -> Result<(), Denial> {
        if let Some(unfinished) = error.unfinished() {
            return Err(self.broken_off(unfinished));
        }
        let direct = self.plan.access.is_direct();
        let cause = if direct { "failed(directio)" } else { error.cause() };
        let class = if actions.contains(Actions::APPRAISE) {
            Class::Appraise
        } else if actions.contains(Actions::MEASURE) {
            Class::Measure
        } else {
            Class::Audit
        };
        let denial = self.uncollected(Some((judged, class)), cause, error);
        if actions.contains(Actions::APPRAISE) && self.plan.rules.mode == Mode::Enforce {
            return Err(denial);
        }
        if actions.contains(Actions::MEASURE) { self.tolerated(denial) } else { Ok(()) }
    }

    /// As [`Check::uncollected`], of evidence that is about no hook in particular.
    pub(super) fn not_gathered(&self, error: &EvidenceError) -> Denial {
        match error.unfinished() {
            Some(unfinished) => self.broken_off(unfinished),
            None => self.uncollected(None, error.cause(), error),
        }
    }

    /// The content was not read to its end, though it could be: nothing is known, and nobody is to be told.
    pub(super) fn broken_off(&self, unfinished: Unfinished) -> Denial {
        self.unfinished.set(Some(unfinished));
        Denial::unfinished()
    }

    pub(super) fn uncollected(
        &self,
        judged: Option<(&Judged<'_>, Class)>,
        cause: &'static str,
        error: &dyn std::error::Error,
    ) -> Denial {
        tracing::warn!(path = %self.name().escape_ascii(), %error, "cannot collect");
        let event = Event::new(RecordType::IntegrityData, "collect_data", cause).by_last_name();
        let event = match judged {
            Some((judged, class)) => event.of_class(judged.layer, judged.decision, class),
            None => event,
        };
        self.record(&event);
        Denial::open(cause)
    }

    pub(super) fn undecided(&self, error: &policy::Undecided) -> Denial {
        tracing::warn!(path = %self.name().escape_ascii(), %error, "cannot decide");
        let cause = match error {
            policy::Undecided::Path => "unknown-path",
            _ => "unknown-subject",
        };
        self.record(&Event::new(RecordType::IntegrityData, "collect_data", cause));
        Denial::open(cause)
    }

    /// The list did not take the entry whole; the cause is the kernel's word for it.
    pub(super) fn not_added(&self, error: &MeasureError) -> Denial {
        let cause = match error {
            MeasureError::Extend { source, .. } | MeasureError::Register { source, .. } => {
                format!("TPM_error({})", source.code()).into()
            }
            MeasureError::Journal { .. } => "journal-error".into(),
            _ => "hashing_error".into(),
        };
        self.unmeasured(error, cause)
    }

    pub(super) fn unmeasured(&self, error: &dyn std::error::Error, cause: Cow<'static, str>) -> Denial {
        // While a TPM or a disk is away each open of something new comes here.
        if let Some(others) = self.monitor.unmeasured.tell(&cause, Instant::now()) {
            tracing::warn!(path = %self.name().escape_ascii(), error = %chain(error), others, "cannot measure");
        }
        self.record(&Event::new(RecordType::IntegrityPcr, "add_template_measure", cause));
        Denial::open("measurement-failed")
    }

    /// A measurement that failed denies, unless the mount was told only to log it.
    pub(super) fn tolerated(&self, denial: Denial) -> Result<(), Denial> {
        match self.monitor.options.on_measure_failure {
            OnMeasureFailure::Deny => Err(denial),
            OnMeasureFailure::Log => Ok(()),
        }
    }
}

/// An error with its causes in one line: the outer one says what could not be written, an inner one that the disk is full.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
