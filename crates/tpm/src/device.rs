//! One connection to a TPM, and the commands that the list needs of it.

use ima::{Digest, HashAlgo, PcrIndex};
use tss_esapi::Context;
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::PcrHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, DigestValues, PcrSelectionList, PcrSlot};
use tss_esapi::tcti_ldr::TctiNameConf;

use crate::TpmError;

/// A TPM has at most 16 banks (`TPM2_NUM_PCR_BANKS`).
const MOST_BANKS: u32 = 16;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Device {
    context: Context,
    banks: Vec<HashAlgo>,
    /// The registers of each bank.
    assigned: PcrSelectionList,
}

impl Device {
    /// Connects, and asks for the active banks.
    pub(crate) fn open(conf: TctiNameConf) -> Result<Self, TpmError> {
        let mut context = Context::new(conf).map_err(TpmError::from_tss)?;
        let assigned = assigned(&mut context)?;
        let banks = active_banks(&assigned)?;
        Ok(Self { context, banks, assigned })
    }

    /// Asks for the active banks again: a TPM may be restarted under a connection.
    pub(crate) fn look_again(&mut self) -> Result<(), TpmError> {
        self.assigned = assigned(&mut self.context)?;
        self.banks = active_banks(&self.assigned)?;
        Ok(())
    }

    /// The registers that every active bank has, a bit each.
    pub(crate) fn registers(&self) -> u32 {
        let active = || self.assigned.get_selections().iter().filter(|bank| !bank.is_empty());
        let everywhere =
            |bit: &u32| PcrSlot::try_from(*bit).is_ok_and(|slot| active().all(|bank| bank.is_selected(slot)));
        (0..u32::BITS).map(|number| 1 << number).filter(everywhere).sum()
    }

    /// The active banks, in the TPM's order.
    pub(crate) fn banks(&self) -> &[HashAlgo] {
        &self.banks
    }

    /// The connection, for the commands that are not of this file.
    pub(crate) fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    /// One `TPM2_PCR_Extend` with a digest for each of these banks.
    pub(crate) fn extend(&mut self, pcr: PcrIndex, digests: &[Digest]) -> Result<(), TpmError> {
        let handle = PcrHandle::try_from(pcr.value()).map_err(TpmError::from_tss)?;
        let mut values = DigestValues::new();
        for digest in digests {
            let value = digest.bytes().try_into().map_err(TpmError::from_tss)?;
            values.set(tpm_algo(digest.algo())?, value);
        }
        // A register has an empty password.
        let extend = |context: &mut Context| context.pcr_extend(handle, values);
        self.context.execute_with_session(Some(AuthSession::Password), extend).map_err(TpmError::from_tss)
    }

    /// The register's value in each bank, in the order of [`Device::banks`]. `None` where a bank lacks it.
    pub(crate) fn read(&mut self, pcr: PcrIndex) -> Result<Vec<Option<Digest>>, TpmError> {
        let mut values = vec![None; self.banks.len()];
        let Some(slot) = slot(pcr) else { return Ok(values) };
        let having = self.assigned.get_selections().iter().filter(|bank| bank.is_selected(slot));
        let mut left: Vec<HashAlgo> = having.filter_map(|bank| ima_algo(bank.hashing_algorithm())).collect();
        // A TPM answers as many as it likes, at least one while there are any.
        while !left.is_empty() {
            let (_, selected, digests) =
                self.context.pcr_read(selection(&left, &[slot])?).map_err(TpmError::from_tss)?;
            let chosen = selected.get_selections().iter().filter(|bank| bank.is_selected(slot));
            let mut found = 0;
            for (bank, value) in chosen.zip(digests.value()) {
                let Some(algo) = ima_algo(bank.hashing_algorithm()) else { continue };
                let digest = Digest::new(algo, value).map_err(|_| nonsense())?;
                for (place, _) in values.iter_mut().zip(&self.banks).filter(|(_, known)| **known == algo) {
                    *place = Some(digest);
                }
                left.retain(|other| *other != algo);
                found += 1;
            }
            if found == 0 {
                break;
            }
        }
        Ok(values)
    }
}

fn assigned(context: &mut Context) -> Result<PcrSelectionList, TpmError> {
    let (data, _) = context
        .get_capability(CapabilityType::AssignedPcr, 0, MOST_BANKS)
        // A bank that tss-esapi cannot name is an error of its own, not of the TPM.
        .map_err(|error| match error {
            tss_esapi::Error::WrapperError(_) => TpmError::UnknownBank(error),
            tss_esapi::Error::Tss2Error(_) => TpmError::from_tss(error),
        })?;
    match data {
        CapabilityData::AssignedPcr(assigned) => Ok(assigned),
        _ => Err(nonsense()),
    }
}

/// The banks that have registers.
fn active_banks(assigned: &PcrSelectionList) -> Result<Vec<HashAlgo>, TpmError> {
    let mut banks = Vec::new();
    for bank in assigned.get_selections().iter().filter(|bank| !bank.is_empty()) {
        let algo = ima_algo(bank.hashing_algorithm()).filter(|algo| algo.is_available());
        banks.push(algo.ok_or_else(|| TpmError::UnknownBank(invalid()))?);
    }
    if banks.is_empty() { Err(TpmError::NoBank) } else { Ok(banks) }
}

/// A selection of these registers in these banks.
pub(crate) fn selection(banks: &[HashAlgo], slots: &[PcrSlot]) -> Result<PcrSelectionList, TpmError> {
    let mut builder = PcrSelectionList::builder();
    for bank in banks {
        builder = builder.with_selection(tpm_algo(*bank)?, slots);
    }
    builder.build().map_err(TpmError::from_tss)
}

/// The register as a bit in a selection; a TPM has 24, the format has room for 32.
pub(crate) fn slot(pcr: PcrIndex) -> Option<PcrSlot> {
    PcrSlot::try_from(1_u32.checked_shl(pcr.value())?).ok()
}

pub(crate) fn tpm_algo(algo: HashAlgo) -> Result<HashingAlgorithm, TpmError> {
    let id = algo.tpm_id().ok_or_else(|| TpmError::UnknownBank(invalid()))?;
    HashingAlgorithm::try_from(id).map_err(TpmError::UnknownBank)
}

fn ima_algo(algo: HashingAlgorithm) -> Option<HashAlgo> {
    HashAlgo::from_tpm_id(algo.into())
}

fn invalid() -> tss_esapi::Error {
    tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::InvalidParam)
}

/// An answer that no TPM gives.
pub(crate) fn nonsense() -> TpmError {
    TpmError::Lost(tss_esapi::Error::WrapperError(tss_esapi::WrapperErrorKind::WrongValueFromTpm))
}
