//! `TPMS_ATTEST` of a quote.

use ima::{HashAlgo, PcrIndex};

use super::{FormatError, Reader};

/// `TPM_GENERATED_VALUE`: what no restricted key signs unless the TPM itself has made it.
const GENERATED: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const QUOTE: u16 = 0x8018;
/// `sizeof(TPMU_NAME)`: the longest name.
const MAX_NAME: usize = 66;
/// `sizeof(TPMT_HA)`: the longest qualifying data.
const MAX_DATA: usize = 66;
/// The longest digest.
const MAX_DIGEST: usize = 64;
/// `HASH_COUNT` of any TPM there is, and then some.
const MAX_BANKS: u32 = 16;
/// Octets of a register bitmap: up to 64 registers.
const MAX_SELECT: u8 = 8;

/// What a quote says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attest<'a> {
    /// Whether it begins as only a TPM begins what it signs.
    pub is_generated: bool,
    /// Whether it is a quote, and not another kind of attestation; the rest is empty where it is not.
    pub is_quote: bool,
    /// The qualified name of the key.
    pub qualified_signer: &'a [u8],
    /// The nonce.
    pub extra_data: &'a [u8],
    /// Clock and counters.
    pub clock: ClockInfo,
    /// The firmware's version.
    pub firmware: u64,
    /// The registers, by bank.
    pub selection: Vec<PcrSelection>,
    /// The digest over their values.
    pub pcr_digest: &'a [u8],
}

/// `TPMS_CLOCK_INFO`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds for which the TPM has been powered.
    pub clock: u64,
    /// Resets: starts that begin with new registers.
    pub resets: u32,
    /// Restarts and resumes since the last reset.
    pub restarts: u32,
    /// Whether the clock is sure never to have shown a later time.
    pub safe: bool,
}

/// `TPMS_PCR_SELECTION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrSelection {
    /// The bank.
    pub bank: HashAlgo,
    /// The registers, ascending.
    pub registers: Vec<PcrIndex>,
}

impl<'a> Attest<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let is_generated = reader.u32()? == GENERATED;
        let is_quote = reader.u16()? == QUOTE;
        let qualified_signer = reader.sized("the signer's name", MAX_NAME)?;
        let extra_data = reader.sized("the nonce", MAX_DATA)?;
        let clock = clock(&mut reader)?;
        let firmware = reader.u64()?;
        let mut attest = Self {
            is_generated,
            is_quote,
            qualified_signer,
            extra_data,
            clock,
            firmware,
            selection: Vec::new(),
            pcr_digest: &[],
        };
        if is_quote {
            attest.selection = selection(&mut reader)?;
            attest.pcr_digest = reader.sized("the digest", MAX_DIGEST)?;
            reader.end()?;
        }
        Ok(attest)
    }
}

fn clock(reader: &mut Reader<'_>) -> Result<ClockInfo, FormatError> {
    let (clock, resets, restarts) = (reader.u64()?, reader.u32()?, reader.u32()?);
    let safe = match reader.u8()? {
        0 => false,
        1 => true,
        other => return Err(FormatError::Unknown { what: "truth value", value: other.into() }),
    };
    Ok(ClockInfo { clock, resets, restarts, safe })
}

/// `TPML_PCR_SELECTION`.
fn selection(reader: &mut Reader<'_>) -> Result<Vec<PcrSelection>, FormatError> {
    let count = reader.u32()?;
    if count > MAX_BANKS {
        return Err(FormatError::TooLong("the selection of registers"));
    }
    let mut selection = Vec::new();
    for _ in 0..count {
        let id = reader.u16()?;
        let octets = reader.u8()?;
        if octets > MAX_SELECT {
            return Err(FormatError::TooLong("the selection of registers"));
        }
        let map = reader.take(octets.into())?;
        let set = |number: &u32| {
            let octet = usize::try_from(number / 8).ok().and_then(|octet| map.get(octet));
            octet.is_some_and(|octet| octet >> (number % 8) & 1 == 1)
        };
        let registers: Vec<_> = (0..u32::from(octets) * 8).filter(set).filter_map(PcrIndex::new).collect();
        let bank = HashAlgo::from_tpm_id(id);
        match bank {
            Some(bank) => selection.push(PcrSelection { bank, registers }),
            // A bank of which nothing was quoted does not matter.
            None if registers.is_empty() => {}
            None => return Err(FormatError::Unknown { what: "PCR bank", value: id.into() }),
        }
    }
    Ok(selection)
}
