//! Where the PCRs are: in this process, nowhere, or in a TPM, which may be one of the mount's own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use measure::{List, NoBank, PcrBank, SoftBank};
use serde_json::{Value, json};
use tpm::{HostBank, SwtpmState, Tpm, TpmBank, TpmPlace, TpmState};

use crate::config::{MountConfig, TpmChoice};
use crate::failure::{Failure, chain};

use super::reserved::{self, Reserved};
use super::run_dir::RunDir;

/// How often it is looked whether entries wait for a TPM that was away.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Every so many times a TPM that nothing waits for is looked at as well: one that was restarted while only known files
/// are opened holds nothing of the list that they are served on.
const LOOK: u32 = 3;

/// What libtss2 reads to know what to write to standard error. Its errors come to us as values.
const TSS2_LOG: (&str, &str) = ("TSS2_LOG", "all+none");

/// The banks of one mount. Dropping them ends the TPM's thread, and a swtpm of the mount's own.
pub(super) struct Banks {
    bank: Arc<dyn PcrBank>,
    /// The same, where it is a TPM that this list has to itself.
    alone: Option<Arc<TpmBank>>,
    /// The same, where mounts share it.
    shared: Option<Arc<HostBank>>,
    tpm: Option<Tpm>,
    /// That no other mount's list is in the same register.
    _reserved: Option<Reserved>,
}

impl fmt::Debug for Banks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Banks").field("tpm", &self.tpm).finish_non_exhaustive()
    }
}

impl Banks {
    /// Banks without a TPM.
    fn of(bank: Arc<dyn PcrBank>) -> Self {
        Self { bank, alone: None, shared: None, tpm: None, _reserved: None }
    }

    /// What the list extends.
    pub(super) fn bank(&self) -> Arc<dyn PcrBank> {
        Arc::clone(&self.bank)
    }

    /// The TPM, if there is one.
    pub(super) fn tpm(&self) -> Option<&Tpm> {
        self.tpm.as_ref()
    }

    /// The bank of a TPM that mounts share, if it is one.
    pub(super) fn shared(&self) -> Option<&Arc<HostBank>> {
        self.shared.as_ref()
    }

    /// Makes sure that a list may begin now: nobody has extended its PCR before.
    ///
    /// # Errors
    /// When somebody has, with what to do about it.
    pub(super) fn begin(&self, config: &MountConfig) -> Result<(), Failure> {
        let Some(bank) = &self.alone else { return Ok(()) };
        bank.begin(config.pcr).map_err(|error| unusable(config, &error, &error.advice()))
    }

    /// The last chance to extend what a TPM that was away has missed.
    pub(super) fn complete(&self, list: &List) {
        if list.due() > 0
            && let Err(error) = list.catch_up()
        {
            tracing::error!("{} measurements are not in the PCR: {}", list.due(), chain(&error));
        }
    }
}

impl Drop for Banks {
    fn drop(&mut self) {
        if let Some(tpm) = &self.tpm {
            tpm.end();
        }
    }
}

/// Keeps libtss2 quiet, unless somebody has said what it shall log. To be called before there are threads.
pub(super) fn silence_libtss2() {
    let (name, value) = TSS2_LOG;
    if std::env::var_os(name).is_none() && sys::environment::set_while_alone(name, value).is_err() {
        tracing::debug!("libtss2 may write to standard error");
    }
}

/// Opens what the configuration names.
///
/// # Errors
/// A TPM that cannot be used, with what to do about it.
pub(super) fn open(config: &MountConfig) -> Result<Banks, Failure> {
    let soft = || {
        SoftBank::new(&config.banks).map_err(|error| Failure::cannot("start the PCR banks", chain(&error)))
    };
    let place = match &config.tpm {
        TpmChoice::Soft => return Ok(Banks::of(Arc::new(soft()?))),
        TpmChoice::None => return Ok(Banks::of(Arc::new(NoBank))),
        TpmChoice::Tcti(tcti) => TpmPlace::Tcti(tcti.clone()),
        TpmChoice::Own(directory) => own(config, directory.clone().map(SwtpmState::Kept)),
    };
    let reserved = match &place {
        TpmPlace::Tcti(tcti) => Some(reserved::reserve(tcti, config.pcr, config.host_list.is_some())?),
        // Nobody else knows of it.
        TpmPlace::Own { .. } => None,
    };
    let tpm = Tpm::open(place).map_err(|error| unusable(config, &error, &error.advice()))?;
    // From here on it is ended also when the mount does not come about.
    let mut banks = Banks {
        bank: Arc::new(NoBank),
        alone: None,
        shared: None,
        tpm: Some(tpm.clone()),
        _reserved: reserved,
    };
    if !tpm.is_extensible(config.pcr) {
        return Err(Failure::cannot(
            format!("use the TPM {}", config.tpm),
            format!("software cannot extend its PCR {}", config.pcr),
        )
        .advise("name one of 0 to 16 or 23 with --pcr"));
    }
    if let Some(name) = &config.host_list {
        let directory = RunDir::from_environment().host_list(name.as_str());
        let bank = HostBank::open(&directory, tpm, config.pcr, config.ns_id.as_str(), soft()?);
        let bank = Arc::new(bank.map_err(|error| unusable(config, &error, &error.advice()))?);
        banks.bank = Arc::<HostBank>::clone(&bank);
        banks.shared = Some(bank);
    } else {
        let bank = Arc::new(TpmBank::new(tpm));
        banks.bank = Arc::<TpmBank>::clone(&bank);
        banks.alone = Some(bank);
    }
    Ok(banks)
}

fn unusable(config: &MountConfig, error: &dyn std::error::Error, advice: &str) -> Failure {
    Failure::cannot(format!("use the TPM {}", config.tpm), chain(error))
        .advise(advice.replace("TCTI", &config.tpm.to_string()))
}

fn own(config: &MountConfig, kept: Option<SwtpmState>) -> TpmPlace {
    let run_dir = RunDir::from_environment();
    let id = config.ns_id.as_str();
    TpmPlace::Own {
        state: kept.unwrap_or_else(|| SwtpmState::Passing(run_dir.tpm_state(id))),
        socket: run_dir.tpm_socket(id),
    }
}

/// Extends what a TPM that was away has missed as soon as it is back, and looks at one that nothing waits for, also when
/// nobody opens anything. The thread ends with the list.
pub(super) fn catch_up(list: &Arc<List>, tpm: &Tpm) -> std::io::Result<()> {
    let (list, tpm) = (Arc::downgrade(list), tpm.clone());
    let look = move || {
        let mut told = String::new();
        for turn in 1_u32.. {
            std::thread::sleep(CATCH_UP);
            let Some(list) = list.upgrade() else { return };
            let due = list.due();
            // One that is on its way is due as well.
            if due > 0 && tpm.state() != TpmState::Ready {
                match list.catch_up() {
                    Ok(()) => tracing::info!(target: "imafs", "the TPM is back: {due} measurements extended"),
                    Err(error) => tracing::debug!("{due} measurements wait for the TPM: {}", chain(&error)),
                }
            } else if due == 0 && turn.is_multiple_of(LOOK) {
                let found = list.check().map_or_else(|error| chain(&error), |()| String::new());
                if !found.is_empty() && found != told {
                    tracing::warn!("the PCRs are not what they should be: {found}");
                }
                told = found;
            }
        }
    };
    std::thread::Builder::new().name("imafs-catch-up".to_owned()).spawn(look).map(drop)
}

/// What the status tells of a TPM.
pub(super) fn facts(tpm: &Tpm) -> Value {
    let banks: Vec<_> = tpm.banks().iter().map(|algo| algo.name()).collect();
    let mut facts = json!({ "tpm-at": tpm.place(), "tpm-banks": banks });
    let (state, reason) = match tpm.state() {
        TpmState::Ready => ("ready".to_owned(), None),
        TpmState::Failing { code, reason } => (format!("TPM_error({code})"), Some(reason)),
    };
    if let Some(facts) = facts.as_object_mut() {
        facts.insert("tpm-state".to_owned(), Value::String(state));
        facts.extend(reason.map(|reason| ("tpm-reason".to_owned(), Value::String(reason))));
    }
    facts
}
