//! One TPM, as the rest of the program holds it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ima::{Digest, HashAlgo, PcrIndex};
use measure::BankError;
use parking_lot::Mutex;

use crate::clock::Moment;
use crate::device::Device;
use crate::link::End;
use crate::service::{LIMIT, Service};
use crate::swtpm::{Swtpm, SwtpmState};
use crate::{Tcti, TpmError};

/// How long a value that was read may be shown again.
const SHOWN: Duration = Duration::from_millis(200);

/// Registers of a dynamic launch, which are not for the locality that software has.
///
/// Source: TCG PC Client Platform TPM Profile 1.05, section 4.6.1, table 6.
const DYNAMIC_LAUNCH: RangeInclusive<u32> = 17..=22;

/// Which TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TpmPlace {
    /// One that is there.
    Tcti(Tcti),
    /// A swtpm that is started for us and ends with us.
    Own {
        /// Its state.
        state: SwtpmState,
        /// Where it is to listen.
        socket: PathBuf,
    },
}

/// How the TPM does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TpmState {
    /// It answered.
    Ready,
    /// It did not do what it was asked.
    Failing {
        /// The number in `TPM_error(n)`.
        code: i32,
        /// In words.
        reason: String,
    },
}

/// A TPM in a thread of its own. Clones are the same TPM.
#[derive(Debug, Clone)]
pub struct Tpm {
    service: Service,
    banks: Arc<[HashAlgo]>,
    /// The registers that every bank has, a bit each.
    registers: u32,
    health: Arc<Mutex<Health>>,
    lately: Arc<Mutex<Lately>>,
    place: Arc<str>,
}

/// What was read a moment ago.
#[derive(Debug, Default)]
struct Lately {
    /// Counts extends: what was asked for before one is not noted after it.
    extends: u64,
    registers: BTreeMap<PcrIndex, Seen>,
}

/// A register as it was read.
#[derive(Debug, Clone)]
struct Seen {
    asked: Moment,
    values: Option<Vec<Digest>>,
}

/// How commands went, and how extends did: a TPM that answers reads may still be of no use to its list.
#[derive(Debug)]
struct Health {
    command: TpmState,
    extend: TpmState,
}

impl Tpm {
    /// Starts the thread and connects.
    ///
    /// # Errors
    /// [`TpmError`]; [`TpmError::advice`] says what to do about it.
    pub fn open(place: TpmPlace) -> Result<Self, TpmError> {
        Self::open_within(place, LIMIT)
    }

    /// As [`Tpm::open`], with another limit after which a TPM that does not answer counts as hung.
    ///
    /// # Errors
    /// As [`Tpm::open`].
    pub fn open_within(place: TpmPlace, limit: Duration) -> Result<Self, TpmError> {
        let (end, text) = match place {
            TpmPlace::Tcti(tcti) => {
                let text = tcti.to_string();
                (End::Tcti(tcti), text)
            }
            TpmPlace::Own { state, socket } => {
                let text = Tcti::SwtpmPath(socket.clone()).to_string();
                (End::Own(Swtpm::new(state, socket)), text)
            }
        };
        let service = Service::start(end, limit)?;
        let (banks, registers) = service.call(|device| Ok((device.banks().to_vec(), device.registers())))?;
        let health = Arc::new(Mutex::new(Health { command: TpmState::Ready, extend: TpmState::Ready }));
        let (banks, place) = (banks.into(), text.into());
        Ok(Self { service, banks, registers, health, lately: Arc::default(), place })
    }

    /// The active banks, in the TPM's order.
    #[must_use]
    pub fn banks(&self) -> &[HashAlgo] {
        &self.banks
    }

    /// Whether every active bank has this register.
    #[must_use]
    pub fn has_everywhere(&self, pcr: PcrIndex) -> bool {
        1_u32.checked_shl(pcr.value()).is_some_and(|bit| self.registers & bit != 0)
    }

    /// Whether software can extend this register in every active bank.
    #[must_use]
    pub fn is_extensible(&self, pcr: PcrIndex) -> bool {
        self.has_everywhere(pcr) && !DYNAMIC_LAUNCH.contains(&pcr.value())
    }

    /// Where it is, as tss2 spells it; the tools take it after `--tcti`.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// How it did at the last extend, and at the last command.
    #[must_use]
    pub fn state(&self) -> TpmState {
        let health = self.health.lock();
        let failing = [&health.extend, &health.command].into_iter().find(|state| **state != TpmState::Ready);
        failing.cloned().unwrap_or(TpmState::Ready)
    }

    /// What a command would fail with at once, while one hangs.
    pub(crate) fn silence(&self) -> Result<(), TpmError> {
        self.service.silence()
    }

    /// Extends a register in all banks, in one command.
    ///
    /// # Errors
    /// [`TpmError`]; where [`TpmError::is_in_doubt`], the register may have been extended.
    pub fn extend(&self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), TpmError> {
        self.extend_holding(pcr, digests, ())
    }

    /// As [`Tpm::extend`]; `guard` is kept until the command has ended, also when it is not waited for any longer.
    pub(crate) fn extend_holding<G: Send + 'static>(
        &self,
        pcr: PcrIndex,
        digests: &[Digest],
        guard: G,
    ) -> Result<(), TpmError> {
        let digests = digests.to_vec();
        let banks = Arc::clone(&self.banks);
        self.note(self.service.call(move |device| {
            let _guard = guard;
            // One that came back with other banks would leave some unextended.
            if *device.banks() != *banks {
                return Err(TpmError::OtherBanks);
            }
            device.extend(pcr, &digests)
        }))
    }

    /// Asks which banks are active now.
    ///
    /// # Errors
    /// [`TpmError::OtherBanks`] unless they are those it had when it was opened.
    pub(crate) fn confirm_banks(&self) -> Result<(), TpmError> {
        let banks = Arc::clone(&self.banks);
        self.note(self.service.call(move |device| {
            device.look_again()?;
            if *device.banks() == *banks { Ok(()) } else { Err(TpmError::OtherBanks) }
        }))
    }

    /// The register's value in each bank, in the order of [`Tpm::banks`]; `None` where there is no such register.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn read(&self, pcr: PcrIndex) -> Result<Option<Vec<Digest>>, TpmError> {
        let banks = Arc::clone(&self.banks);
        let values = self.note(self.service.call(move |device| {
            if *device.banks() == *banks { device.read(pcr) } else { Err(TpmError::OtherBanks) }
        }))?;
        Ok(values.into_iter().collect())
    }

    /// As [`Tpm::read`], or what was read a moment ago: whoever may look at registers cannot keep the TPM busy with it.
    pub(crate) fn read_lately(&self, pcr: PcrIndex) -> Result<Option<Vec<Digest>>, TpmError> {
        let (extends, seen) = {
            let lately = self.lately.lock();
            (lately.extends, lately.registers.get(&pcr).cloned())
        };
        if let Some(seen) = seen.filter(|seen| seen.asked.elapsed() < SHOWN) {
            return Ok(seen.values);
        }
        let asked = Moment::now();
        let values = self.read(pcr)?;
        let mut lately = self.lately.lock();
        if lately.extends == extends {
            lately.registers.insert(pcr, Seen { asked, values: values.clone() });
        }
        Ok(values)
    }

    /// A register was extended: what was read of it is not shown any more.
    pub(crate) fn forget(&self, pcr: PcrIndex) {
        let mut lately = self.lately.lock();
        lately.extends += 1;
        lately.registers.remove(&pcr);
    }

    /// Ends the thread, and a swtpm of our own with it; waits for that unless the TPM hangs.
    pub fn end(&self) {
        self.service.end(LIMIT);
    }

    /// Runs `what` in the TPM's thread.
    pub(crate) fn call_within<T: Send + 'static>(
        &self,
        limit: Duration,
        what: impl FnOnce(&mut Device) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        self.note(self.service.call_within(limit, what))
    }

    /// Remembers how a command went.
    pub(crate) fn note<T>(&self, answer: Result<T, TpmError>) -> Result<T, TpmError> {
        self.health.lock().command = match &answer {
            Ok(_) => TpmState::Ready,
            Err(error) => TpmState::Failing { code: error.code(), reason: reason(error) },
        };
        answer
    }

    /// Remembers how an extend went for the list.
    pub(crate) fn note_extend(&self, done: &Result<(), BankError>) {
        self.health.lock().extend = match done {
            Ok(()) => TpmState::Ready,
            Err(error) => TpmState::Failing { code: error.code(), reason: reason(error) },
        };
    }
}

/// An error and its causes in one line.
pub(crate) fn reason(error: &dyn std::error::Error) -> String {
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
