//! The bank of a list that has its registers of a TPM to itself.
//!
//! What each register holds is known here, so an extend of which nobody knows whether it happened is found out by
//! reading. The TPM may also be restarted, or extended by others, without this side noticing: commands come over
//! connections of their own. So before an extend that does not follow the last answer at once the registers are read
//! and compared, and now and then without one ([`PcrBank::check`]). Registers that are as a restart leaves them are told
//! to the list, which extends all it has again ([`BankError::Reset`]); any other difference is told as it is, and nothing
//! is extended then.
//!
//! No value is believed because it was read. A register holds what a journal has proved ([`PcrBank::expect`]), else what
//! a restart leaves there; the list of one that held anything else could never be shown to replay to it.
//!
//! One lock, `known`, held while the TPM extends; reading takes none.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use ima::{Digest, HashAlgo, PcrIndex, Pcrs};
use measure::journal::Register;
use measure::{BankError, PcrBank};
use parking_lot::Mutex;

use crate::clock::Moment;
use crate::{Tpm, TpmError};

/// A TPM cannot be restarted between two commands that follow each other this closely.
const AT_ONCE: Duration = Duration::from_millis(10);

/// How often an extend of one call, or the look before it, is tried.
const ATTEMPTS: u32 = 3;

/// See the module's text.
#[derive(Debug)]
pub struct TpmBank {
    tpm: Tpm,
    known: Mutex<Known>,
}

/// What is known of the registers that the list has extended.
#[derive(Debug, Default)]
struct Known {
    values: BTreeMap<PcrIndex, Vec<Digest>>,
    /// When the TPM last answered as expected.
    answered: Option<Moment>,
    /// An extend that was sent and not answered.
    doubt: Option<Extend>,
    /// One that was in doubt and has happened; whoever asks for it again has it.
    happened: Option<Extend>,
    /// A register that did not begin as a restart leaves it: the list cannot be extended again from there.
    unrepeatable: Option<PcrIndex>,
}

/// A register and what it holds in each bank; nothing where a bank has not got it.
type Read = (PcrIndex, Option<Vec<Digest>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Extend {
    pcr: PcrIndex,
    digests: Vec<Digest>,
}

/// What a register read says beside what it should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    AsKnown,
    Happened,
    Reset,
    Other,
}

impl TpmBank {
    /// The bank on this TPM.
    #[must_use]
    pub fn new(tpm: Tpm) -> Self {
        Self { tpm, known: Mutex::default() }
    }

    /// Makes sure that nobody has extended this register since the TPM was started: a list that begins now could
    /// never be shown to replay to it.
    ///
    /// # Errors
    /// [`TpmError::InUse`], else as [`Tpm::read`].
    pub fn begin(&self, pcr: PcrIndex) -> Result<(), TpmError> {
        let known = self.known.lock();
        if known.values.contains_key(&pcr) {
            // It is ours already, and compared before each extend.
            return Ok(());
        }
        let values = self.tpm.read(pcr)?.unwrap_or_default();
        if values == self.restarted(pcr) { Ok(()) } else { Err(TpmError::InUse(pcr)) }
    }

    /// What a restart leaves in this register.
    fn restarted(&self, pcr: PcrIndex) -> Vec<Digest> {
        self.tpm.banks().iter().map(|algo| at_restart(pcr, *algo)).collect()
    }

    /// The TPM.
    #[must_use]
    pub fn tpm(&self) -> &Tpm {
        &self.tpm
    }

    fn extend_known(&self, known: &mut Known, extend: &Extend) -> Result<(), BankError> {
        if let Entry::Vacant(first) = known.values.entry(extend.pcr) {
            if !self.tpm.has_everywhere(extend.pcr) {
                return Err(BankError::NoSuchPcr(extend.pcr));
            }
            first.insert(self.restarted(extend.pcr));
            known.answered = None;
        }
        let mut attempt = 1;
        loop {
            if known.doubt.is_some() || known.answered.is_none_or(|at| at.elapsed() > AT_ONCE) {
                self.settle(known)?;
            }
            if known.happened.take_if(|happened| happened == extend).is_some() {
                return Ok(());
            }
            match self.tpm.extend(extend.pcr, &extend.digests) {
                Ok(()) => {
                    known.apply(extend);
                    return Ok(());
                }
                Err(error) if error.is_in_doubt() => {
                    known.doubt = Some(extend.clone());
                    if attempt == ATTEMPTS {
                        return Err(error.into());
                    }
                }
                Err(error) => {
                    known.answered = None;
                    return Err(error.into());
                }
            }
            attempt += 1;
        }
    }

    /// Reads the registers and settles what was in doubt. A TPM that was restarted shows at first as a connection that
    /// breaks, and answers over the next.
    fn settle(&self, known: &mut Known) -> Result<(), BankError> {
        known.answered = None;
        let mut attempt = 1;
        let read = loop {
            match self.read_known(known) {
                Ok(read) => break read,
                Err(TpmError::Lost(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        };
        self.compare(known, &read)
    }

    /// What the known registers hold. Where a restart would not show in them the TPM is asked whether its banks are still
    /// the same: one that came back with another would not have it extended.
    fn read_known(&self, known: &Known) -> Result<Vec<Read>, TpmError> {
        let read = |(pcr, values): (&PcrIndex, &Vec<Digest>)| {
            let read = self.tpm.read(*pcr)?;
            if read.as_ref().is_none_or(|read| *read == self.restarted(*pcr) && read == values) {
                self.tpm.confirm_banks()?;
            }
            Ok((*pcr, read))
        };
        known.values.iter().map(read).collect()
    }

    /// Holds what was read against what is known.
    fn compare(&self, known: &mut Known, read: &[Read]) -> Result<(), BankError> {
        let mut found = Vec::with_capacity(read.len());
        for ((pcr, read), values) in read.iter().zip(known.values.values()) {
            let read = read.as_ref().ok_or(BankError::NoSuchPcr(*pcr))?;
            found.push((*pcr, known.judge(*pcr, values, read)));
        }
        if let Some((pcr, _)) = found.iter().find(|(_, found)| *found == Found::Other) {
            return Err(BankError::Foreign(*pcr));
        }
        if let Some((pcr, _)) = found.iter().find(|(_, found)| *found == Found::Reset) {
            // A restart resets them all; one that is not as it leaves them was reset, or extended, by somebody.
            let survived = |pcr: &PcrIndex| {
                let values = known.values.get(pcr).into_iter().flatten();
                values.clone().any(|value| *value != at_restart(*pcr, value.algo()))
            };
            if found.iter().any(|(pcr, found)| *found == Found::AsKnown && survived(pcr)) {
                return Err(BankError::Foreign(*pcr));
            }
            if let Some(pcr) = known.unrepeatable {
                return Err(BankError::Unrepeatable(pcr));
            }
            tracing::warn!("the TPM at {} was restarted: extending the whole list again", self.tpm.place());
            *known = Known::default();
            return Err(BankError::Reset);
        }
        if let Some(doubt) = known.doubt.take()
            && found.contains(&(doubt.pcr, Found::Happened))
        {
            known.apply(&doubt);
            known.happened = Some(doubt);
        }
        known.answered = Some(Moment::now());
        Ok(())
    }
}

impl Known {
    fn apply(&mut self, extend: &Extend) {
        if let Some(values) = self.values.get_mut(&extend.pcr) {
            *values = after(values, &extend.digests);
        }
        self.doubt = None;
        self.answered = Some(Moment::now());
    }

    fn judge(&self, pcr: PcrIndex, values: &[Digest], read: &[Digest]) -> Found {
        let doubt = self.doubt.as_ref().filter(|doubt| doubt.pcr == pcr);
        if read == values {
            Found::AsKnown
        } else if doubt.is_some_and(|doubt| read == after(values, &doubt.digests)) {
            Found::Happened
        } else if read.iter().all(|value| *value == at_restart(pcr, value.algo())) {
            Found::Reset
        } else {
            Found::Other
        }
    }
}

/// What registers hold after an extend.
pub(crate) fn after(values: &[Digest], digests: &[Digest]) -> Vec<Digest> {
    let pairs = values.iter().zip(digests);
    pairs.filter_map(|(value, digest)| extended(value, digest)).collect()
}

/// `None` cannot happen: banks are computable, and each is extended by a digest of its own algorithm.
fn extended(value: &Digest, digest: &Digest) -> Option<Digest> {
    let mut bank = Pcrs::new(value.algo()).ok()?;
    bank.set(PcrIndex::DEFAULT, *value).ok()?;
    bank.extend(PcrIndex::DEFAULT, digest).ok()
}

/// What a register holds after `TPM2_Startup(CLEAR)`: ones for 17 to 22, which only a dynamic launch sets to zero.
///
/// Source: TCG PC Client Platform TPM Profile 1.05, section 4.6.1, table 6.
pub(crate) fn at_restart(pcr: PcrIndex, algo: HashAlgo) -> Digest {
    if (17..=22).contains(&pcr.value()) { Digest::ones(algo) } else { Digest::zero(algo) }
}

impl PcrBank for TpmBank {
    fn algos(&self) -> Vec<HashAlgo> {
        self.tpm.banks().to_vec()
    }

    fn extend(&self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), BankError> {
        if !self.tpm.banks().iter().copied().eq(digests.iter().map(Digest::algo)) {
            return Err(BankError::WrongDigests);
        }
        let extend = Extend { pcr, digests: digests.to_vec() };
        let done = self.extend_known(&mut self.known.lock(), &extend);
        self.tpm.forget(pcr);
        self.tpm.note_extend(&done);
        done
    }

    fn read(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        let Some(bank) = self.tpm.banks().iter().position(|bank| *bank == algo) else { return Ok(None) };
        Ok(self.tpm.read_lately(pcr)?.and_then(|values| values.get(bank).copied()))
    }

    fn has(&self, pcr: PcrIndex) -> bool {
        self.tpm.is_extensible(pcr)
    }

    fn first(&self, pcr: PcrIndex, algo: HashAlgo) -> Result<Option<Digest>, BankError> {
        let there = self.tpm.has_everywhere(pcr) && self.tpm.banks().contains(&algo);
        Ok(there.then(|| at_restart(pcr, algo)))
    }

    fn admit(&self, pcr: PcrIndex) -> Result<(), BankError> {
        if !self.has(pcr) {
            return Err(BankError::NoSuchPcr(pcr));
        }
        self.begin(pcr).map_err(|error| match error {
            TpmError::InUse(pcr) => BankError::Foreign(pcr),
            other => other.into(),
        })
    }

    fn expect(&self, registers: &[Register]) {
        let mut known = self.known.lock();
        for register in registers {
            known.values.entry(register.pcr).or_default().push(register.value);
            if register.base != at_restart(register.pcr, register.base.algo()) {
                known.unrepeatable = Some(register.pcr);
            }
        }
    }

    fn check(&self) -> Result<(), BankError> {
        let mut known = self.known.lock();
        if known.values.is_empty() {
            return Ok(());
        }
        let done = self.settle(&mut known);
        // One that does not answer shows as that by itself.
        if !matches!(done, Ok(()) | Err(BankError::Device { .. })) {
            self.tpm.note_extend(&done);
        }
        done
    }

    fn has_boot_measurements(&self) -> bool {
        true
    }

    fn outlives_process(&self) -> bool {
        true
    }
}
