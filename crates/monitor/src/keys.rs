//! `KEY_CHECK`: a key is measured, whole, before it can let anything through.
//!
//! `spec/ima-keys.md` section 5; `ima_post_key_create_or_update` in security/integrity/ima/ima_asymmetric_keys.c and
//! `process_buffer_measurement` in ima_main.c. The kernel measures after it has added; here a key whose measurement
//! fails is not added.

use audit::{Integrity, Process, RecordType, UNKNOWN};
use ima::template::Field;
use ima::{Digest, Event, HashAlgo, PcrIndex, Template};
use measure::MeasureError;
use policy::{Actions, Decision, Func, Subject, SubjectIds, SubjectUnknown};

use crate::check::chain;
use crate::denial::Denial;
use crate::monitor::Monitor;
use crate::options::OnMeasureFailure;
use crate::rules::Rules;
use crate::state::HOST;

/// The template of buffers, unless a rule names another.
const TEMPLATE: &str = "ima-buf";

/// Why a key could not be measured.
#[derive(Debug, thiserror::Error)]
enum KeyError {
    #[error("cannot tell who adds the key")]
    Undecided(#[source] policy::Undecided),
    #[error("cannot hash the key")]
    Hash(#[source] ima::UnavailableAlgo),
    #[error("cannot fill in the template")]
    Template(#[source] ima::template::TemplateError),
    #[error("there is no template {TEMPLATE}")]
    NoTemplate,
    #[error("cannot add the entry")]
    Measure(#[source] MeasureError),
}

impl Monitor {
    /// Measures a key that `who` is about to add to the ring called `ring`, as the rules of either layer ask.
    ///
    /// # Errors
    /// The denial, when it could not be measured; its audit record has been written.
    pub fn measure_key(&self, ring: &str, certificate: &[u8], who: &Process) -> Result<(), Denial> {
        self.measure_key_by(&self.rules(), ring, certificate, who)
    }

    /// Measures every key on every ring, as the rules in force ask: those the mount begins with, and those that came
    /// before the rules that ask for them. What is in the list already is not added again.
    ///
    /// A key of the container that cannot be measured is taken off its ring, with all that have its keyid: it would let
    /// content through without a trace. The host's stay, for it is the host who decides what a mount without them is.
    ///
    /// # Errors
    /// The first denial; the remaining keys have been tried all the same.
    pub fn measure_rings(&self, who: &Process) -> Result<(), Denial> {
        let rules = self.rules();
        let mut outcome = Ok(());
        for (index, ring) in rules.layers().map(|layer| &layer.ring).enumerate() {
            for key in ring.list() {
                let measured = self.measure_key_by(&rules, ring.name(), key.der(), who);
                if measured.is_err() && index != HOST {
                    let removed = ring.remove(key.keyid());
                    tracing::warn!(keyid = %key.keyid(), removed, "a key that cannot be measured is taken off");
                }
                outcome = outcome.and(measured);
            }
        }
        outcome
    }

    fn measure_key_by(&self, rules: &Rules, ring: &str, key: &[u8], who: &Process) -> Result<(), Denial> {
        let Err(error) = self.try_measure_key(rules, ring, key, who) else { return Ok(()) };
        tracing::warn!(ring, error = %chain(&error), "cannot measure a key");
        let cause = match &error {
            KeyError::Undecided(_) => "unknown-subject".into(),
            KeyError::Measure(
                MeasureError::Extend { source, .. } | MeasureError::Register { source, .. },
            ) => format!("TPM_error({})", source.code()).into(),
            KeyError::Measure(MeasureError::Journal { .. }) => "journal-error".into(),
            KeyError::Hash(_) | KeyError::NoTemplate | KeyError::Template(_) | KeyError::Measure(_) => {
                std::borrow::Cow::Borrowed("hashing_error")
            }
        };
        let mut record = Integrity::new(RecordType::IntegrityPcr, who.clone(), "measuring_key", cause);
        record.name = Some(ring.as_bytes().to_vec());
        self.options.audit.emit(record);
        match self.options.on_measure_failure {
            OnMeasureFailure::Deny => Err(Denial::open("measurement-failed")),
            OnMeasureFailure::Log => Ok(()),
        }
    }

    fn try_measure_key(&self, rules: &Rules, ring: &str, key: &[u8], who: &Process) -> Result<(), KeyError> {
        for layer in rules.layers() {
            let decision = layer.policy.decide_data(Func::KeyCheck, ring, &Adder(who));
            let decision = decision.map_err(KeyError::Undecided)?;
            if decision.actions.contains(Actions::MEASURE) {
                self.add_key(&decision, ring, key)?;
            }
        }
        Ok(())
    }

    fn add_key(&self, decision: &Decision, ring: &str, key: &[u8]) -> Result<(), KeyError> {
        let hash = |algo| ima::hash(algo, key).map_err(KeyError::Hash);
        let template = match &decision.template {
            Some(template) => template.clone(),
            None => Template::named(TEMPLATE).ok_or(KeyError::NoTemplate)?,
        };
        let legacy_digest: Option<Digest> =
            template.fields().contains(&Field::D).then(|| hash(HashAlgo::Sha1)).transpose()?;
        let event = Event { legacy_digest, ..Event::buffer(hash(self.options.hash)?, ring.as_bytes(), key) };
        // For buffers the kernel takes `pcr=0` for none at all.
        let none = PcrIndex::new(0);
        let pcr = decision.pcr.filter(|pcr| Some(*pcr) != none).unwrap_or(self.options.pcr);
        let entry = template.entry(pcr, &event).map_err(KeyError::Template)?;
        self.options.list.add(entry).map(drop).map_err(KeyError::Measure)
    }
}

/// Who adds a key, as rules see it. They may ask for the user id alone, so capabilities do not matter.
struct Adder<'a>(&'a Process);

impl Subject for Adder<'_> {
    fn ids(&self) -> Result<SubjectIds, SubjectUnknown> {
        let Process { tid, uid, euid, suid, gid, egid, sgid, .. } = *self.0;
        if uid == UNKNOWN {
            return Err(SubjectUnknown { tid, errno: 0 });
        }
        Ok(SubjectIds { uid, euid, suid, gid, egid, sgid, cap_setuid: false, cap_setgid: false })
    }
}
